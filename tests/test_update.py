"""`modelctl pull --update` and `modelctl list --outdated` against a Hub on loopback."""

import asyncio
import json
import re
import signal
import threading
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from modelctl.cli import output as show
from modelctl.hub import client, following, updates
from modelctl.store import naming, scan
from modelctl.store.model import Model
from modelctl.store.removal import Target
from tests.checkpoints import generator, sharded
from tests.command import NOWHERE, Command
from tests.hub.faults import status
from tests.hub.loopback import Hub
from tests.hub.wire import Call
from tests.stores import Files, StoreBuilder

NAME, OTHER = "acme/tiny", "acme/other"
OLD = generator()
NEW = {**OLD, "README.md": "# anew\n", "generation_config.json": '{"a": 1}'}
KEPT = sum(len(content) for name, content in OLD.items() if name != "README.md")
ADDED = len("# anew\n") + len('{"a": 1}')


def put(store: StoreBuilder, hub: Hub, name: str = NAME, *, moved: bool = True) -> tuple[str, str]:
    """A model that is here, of which the Hub has a newer commit or the same: the commit here and the Hub's."""
    return store.add(name, files=OLD), hub.add(name, files=NEW if moved else OLD)


def masked(text: str) -> str:
    """Output without what differs from run to run."""
    text = re.sub(r"in \d+\.\d s, \S+ \S+/s", "in TIME", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HUB", text)
    return re.sub(r", \d+\.\d kB of its own|(?<=revisions), \d+\.\d kB", ", SIZE", text)


def test_what_moved_is_brought_and_said_and_then_it_is_up_to_date(run: Command, hub: Hub, store: StoreBuilder) -> None:
    old, new = put(store, hub)
    done = run("pull", "tiny", "--update", env=hub.environ)
    assert done.code == 0
    assert masked(done.stdout) == (
        f"updated {NAME}@main from {old[:12]} to {new[:12]} (1 added, 1 changed; fetched {ADDED} B in TIME)\n"
    )
    size = sum(len(content) for content in NEW.values())
    assert masked(done.stderr) == (
        f"{NAME} at main ({new[:12]})\n"
        f"  5 files, {size} B\n"
        f"  to fetch: 2 files, {ADDED} B\n"
        f"  to reuse: 3 files, {KEPT} B that the disk has already, once proven\n"
        f"  changes since {old[:12]}: 1 added, 1 changed\n"
        "    added: `generation_config.json`\n"
        "    changed: `README.md`\n"
        f"pulling {NAME} {size} B\n"
        f"  kept: {old[:12]}, SIZE; `modelctl rm {NAME}@{old[:12]}` frees it\n"
    )
    assert store.paths(NAME).ref("main").read_text() == new
    assert {path.name for path in store.paths(NAME).snapshots.iterdir()} == {old, new}
    assert not (run.project / ".env").exists()
    hub.asked.clear()
    again = run("pull", "--update", "--all", env=hub.environ)
    assert (again.code, again.stdout, again.stderr) == (0, f"{NAME}@main is up to date ({new[:12]})\n", "")
    assert [asked.path for asked in hub.asked] == [f"/api/models/{NAME}/revision/main"]


def test_one_that_fails_does_not_stop_the_others(run: Command, hub: Hub, store: StoreBuilder) -> None:
    old, new = put(store, hub)
    put(store, hub, OTHER, moved=False)
    store.add("acme/gone", files=OLD)
    pinned = store.add("acme/pinned", files=OLD, revision=None)
    done = run("pull", "--update", "--all", env=hub.environ)
    assert done.code == 1
    assert [line.partition(" (")[0] for line in done.stdout.splitlines()] == [
        f"{OTHER}@main is up to date",
        f"updated {NAME}@main from {old[:12]} to {new[:12]}",
    ]
    said = done.stderr.splitlines()
    assert f"`acme/pinned` is left alone: no branch or tag names {pinned[:12]}" in said
    assert said[said.index(f"`acme/pinned` is left alone: no branch or tag names {pinned[:12]}") + 1] == (
        "hint: `modelctl pull acme/pinned`"
    )
    here = hub.url
    assert said[-3:] == [
        f"`acme/gone` is not updated: there is no model `acme/gone` at {here}, or it is private",
        "error: 1 of 4 models could not be updated",
        f"hint: look for its name at {here}/models; for a private one log in first: `hf auth login`",
    ]
    assert not [asked.path for asked in hub.asked if "pinned" in asked.path]


@pytest.mark.sweep
def test_the_same_for_programs(run: Command, hub: Hub, store: StoreBuilder) -> None:
    old, new = put(store, hub)
    put(store, hub, OTHER, moved=False)
    store.add("acme/gone", files=OLD)
    planned = run("pull", "--update", "--all", "--dry-run", "--json", env=hub.environ)
    assert planned.code == 1
    done = run("pull", "--update", "--all", "--json", env=hub.environ)
    assert (done.code, done.stderr) == (1, "")
    plan, *_, error = done.events
    assert plan.pop("event") == "plan"
    free = [value["updates"][0].pop("free") for value in (plan, planned.json)]
    assert len(free) == 2
    shown = planned.json
    del shown["updates"][0]["free"]
    assert plan == shown
    update = plan["updates"][0]
    assert (update["id"], update["ref"], update["old_commit"], update["commit"]) == (NAME, "main", old, new)
    assert (update["added"], update["changed"], update["removed"]) == (["generation_config.json"], ["README.md"], [])
    assert plan["current"][0]["id"] == OTHER
    assert plan["failed"][0]["error"]["kind"] == "not_found"
    assert error["error"]["kind"] == "failed"
    (updated,) = error["error"]["updated"]
    assert updated["fetched"] == ADDED
    assert updated["old_frees"] > 0
    assert updated["fix"] == f"modelctl rm {NAME}@{old[:12]}"


@pytest.mark.sweep
def test_what_is_left_behind_goes_by_the_command_that_is_named(run: Command, hub: Hub, store: StoreBuilder) -> None:
    commits = {name: put(store, hub, name) for name in (NAME, OTHER)}
    done = run("pull", "--update", "--all", "-q", env=hub.environ)
    assert (done.code, done.stdout, done.stderr) == (0, f"{OTHER}\n{NAME}\n", "")
    for name, (old, new) in commits.items():
        assert {path.name for path in store.paths(name).snapshots.iterdir()} == {old, new}
    for name in commits:
        hub.add(name, files={**NEW, "README.md": "# once more\n"})
    done = run("pull", "--update", "--all", env=hub.environ)
    assert masked(done.stderr).splitlines()[-1] == "hint: `modelctl prune --revisions` frees 2 old revisions, SIZE"
    assert run("prune", "--revisions", "--yes", env=hub.environ).code == 0
    for name, (old, new) in commits.items():
        (left,) = store.paths(name).snapshots.iterdir()
        assert left.name not in {old, new}


@pytest.mark.sweep
def test_an_interrupted_update_leaves_the_old_revision_and_goes_on(run: Command, hub: Hub, store: StoreBuilder) -> None:
    old, new = put(store, hub)
    fault = hub.fault(status(503), path="*/generation_config.json", times=None)
    done = run("pull", NAME, "--update", "--retry-for", "0", env=hub.environ)
    assert (done.code, done.stdout) == (7, "")
    assert store.paths(NAME).ref("main").read_text() == old
    assert run("list", "--json").json["models"][0]["state"] == "ready"
    hub.faults.remove(fault)
    assert run("pull", NAME, "--update", env=hub.environ).code == 0
    assert store.paths(NAME).ref("main").read_text() == new


@pytest.mark.sweep
def test_a_dry_run_shows_every_file_and_writes_nothing(run: Command, hub: Hub, store: StoreBuilder) -> None:
    put(store, hub)
    before = sorted(run.project.rglob("*"))
    done = run("pull", "--update", NAME, "--dry-run", env=hub.environ)
    assert done.code == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["FILE", "SIZE", "SOURCE", "CHANGE"],
        ["README.md", "7", "B", "fetch", "changed"],
        *(["config.json", *show.size(len(OLD["config.json"])).split(), "reuse", "-"],),
        ["generation_config.json", "8", "B", "fetch", "added"],
        *([name, *show.size(len(OLD[name])).split(), "reuse", "-"] for name in sorted(OLD) if name[0] in "mt"),
    ]
    assert sorted(run.project.rglob("*")) == before


UNCLEAR = {
    "nothing named": (
        ["--update"],
        2,
        "`--update` needs the names of models, or `--all` for every model of the project",
        "`modelctl list --outdated` shows which have something newer",
    ),
    "all and some": (
        ["--update", "--all", NAME],
        2,
        "`--all` means every model, and some are named too",
        "give names or `--all`",
    ),
    "all alone": (
        ["--all"],
        2,
        "`--all` is about models that are here",
        "`modelctl pull --update --all` updates them",
    ),
    "no name at all": ([], 2, "missing argument `REPO[@REV]...`", "see `modelctl pull --help`"),
    "a revision": (
        ["--update", NAME, "--revision", "v1"],
        2,
        "`--update` and `--revision` contradict each other",
        "`REPO@REV` names one branch or tag",
    ),
    **{
        option: (
            ["--update", NAME, option, *value],
            2,
            f"`--update` and `{option}` contradict each other",
            f"leave out `{option}`",
        )
        for option, value in {"--include": ["*"], "--exclude": ["*"], "--all-files": [], "--force": []}.items()
    },
    "not here": (
        ["--update", "none"],
        3,
        "no model `none` here",
        "`modelctl list` shows what is here, `modelctl pull ORG/NAME` fetches a model",
    ),
    "a quantisation": (
        ["--update", f"{NAME}:Q4_K_M"],
        2,
        f"`{NAME}:Q4_K_M` names a variant, and only whole revisions can be meant here",
        "leave out `:Q4_K_M`",
    ),
    "no network": (
        ["--update", NAME],
        7,
        f"the Hub at `{NOWHERE}` cannot be reached: [Errno 111] Connection refused",
        "run the same command again: it goes on where it stopped",
    ),
}


@pytest.mark.matrix(2)
@pytest.mark.parametrize("case", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_what_cannot_be_updated_has_its_code_message_and_hint(
    run: Command, store: StoreBuilder, case: tuple[list[str], int, str, str]
) -> None:
    argv, code, message, hint = case
    store.add(NAME, files=OLD)
    done = run("pull", *argv)
    assert (done.code, done.stdout, done.stderr) == (code, "", f"error: {message}\nhint: {hint}\n")
    as_json = run("pull", *argv, "--json")
    assert (as_json.code, as_json.events[-1]["error"]["message"]) == (code, message)


@pytest.mark.sweep
@pytest.mark.parametrize("argv", [("pull", "--update", "--all"), ("list", "--outdated")], ids=" ".join)
def test_offline_nothing_is_asked(run: Command, hub: Hub, store: StoreBuilder, argv: tuple[str, ...]) -> None:
    put(store, hub)
    done = run(*argv, env={**hub.environ, "HF_HUB_OFFLINE": "1"})
    assert (done.code, done.stdout) == (7, "")
    assert done.stderr == (
        "error: the Hub cannot be asked for newer commits: `HF_HUB_OFFLINE` forbids the network\n"
        "hint: unset `HF_HUB_OFFLINE` to ask it\n"
    )
    assert hub.asked == []


@pytest.mark.sweep
def test_a_project_without_models(run: Command, hub: Hub) -> None:
    done = run("pull", "--update", "--all", env=hub.environ)
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr == f"no models in `{run.project}/models` yet\n"
    done = run("list", "--outdated", env=hub.environ)
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr == "no model here follows a branch or tag of the Hub\n"


def test_the_list_shows_what_has_moved_and_what_is_unknown(
    run: Command, hub: Hub, store: StoreBuilder, cache: StoreBuilder
) -> None:
    old, new = put(store, hub)
    put(store, hub, OTHER, moved=False)
    put(cache, hub, "acme/cached")
    store.add("acme/gone", files=OLD)
    store.add("acme/pinned", files=OLD, revision=None)
    done = run("list", "--outdated", env=hub.environ)
    assert done.code == 0
    assert done.stdout == (
        "NAME         REF   COMMIT        NEWEST        STATE  WHERE\n"
        f"acme/cached  main  {old[:12]}  {new[:12]}  ready  cache\n"
        f"acme/tiny    main  {old[:12]}  {new[:12]}  ready  project\n"
        "2 of 4 models outdated, 1 unknown\n"
    )
    assert done.stderr == (
        "hint: `modelctl pull --update --all` brings the newest\n"
        "hint: `modelctl pull acme/cached` brings the newest into the project\n"
        "whether `acme/gone` is up to date is unknown: "
        f"there is no model `acme/gone` at {hub.url}, or it is private\n"
    )
    assert sorted(asked.path for asked in hub.asked if asked.path != "/api/models") == [
        f"/api/models/acme/{name}/revision/main" for name in ("cached", "gone", "other", "tiny")
    ]


@pytest.mark.sweep
def test_the_list_for_programs(run: Command, hub: Hub, store: StoreBuilder) -> None:
    old, new = put(store, hub)
    put(store, hub, OTHER, moved=False)
    store.add("acme/gone", files=OLD)
    done = run("list", "--outdated", "--json", env=hub.environ)
    assert (done.code, done.stderr) == (0, "")
    (model,) = done.json["models"]
    assert model.pop("outdated") == [{"ref": "main", "commit": old, "newest": new}]
    assert model == run("list", NAME, "--json").json["models"][0]
    (unknown,) = done.json["unknown"]
    assert (unknown["id"], unknown["error"]["kind"]) == ("acme/gone", "not_found")
    done = run("list", "--outdated", "-q", "acme", env=hub.environ)
    assert (done.code, done.stdout) == (0, f"{NAME}\n")
    assert run("list", "--outdated", "-q", "other", env=hub.environ).stdout == ""


@pytest.mark.sweep
def test_a_hub_that_answers_for_nobody(run: Command, hub: Hub, store: StoreBuilder) -> None:
    put(store, hub)
    put(store, hub, OTHER)
    done = run("list", "--outdated")
    assert (done.code, done.stdout) == (7, "")
    assert done.stderr == (
        f"error: the Hub at `{NOWHERE}` cannot be reached: [Errno 111] Connection refused\n"
        "hint: `modelctl list` shows what is here without asking the Hub\n"
    )
    done = run("pull", "--update", "--all")
    assert (done.code, done.stdout) == (7, "")
    assert "error: 2 of 2 models could not be updated\n" in done.stderr


class Shape(NamedTuple):
    """A repository before and after, what is here of it, and what an update is to bring."""

    before: Files
    here: set[str]
    after: Files
    brought: set[str]


RULE = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
BESIDE: Mapping[str, bytes | str] = {"pytorch_model.bin": b"x", "onnx/model.onnx": b"x"}
QUANTISED: Mapping[str, bytes | str] = {
    **{f"m-{label}.gguf": label for label in ("Q2_K", "Q4_K_M", "Q8_0")},
    "config.json": "{}",
}
PARTS = {f"m-Q4_K_M-{at:05}-of-00002.gguf": "x" for at in (1, 2)}
SHAPES = {
    "by the rule": Shape({**OLD, **BESIDE}, RULE, {**NEW, **BESIDE}, {*RULE, "generation_config.json"}),
    "all of it": Shape(
        {**OLD, **BESIDE}, {*OLD, *BESIDE}, {**NEW, **BESIDE, "new.onnx": b"x"}, {*NEW, *BESIDE, "new.onnx"}
    ),
    "all of it, which is the rule": Shape(OLD, RULE, {**NEW, "new.onnx": b"x"}, {*NEW}),
    "the rule and one more": Shape(
        {**OLD, **BESIDE}, {*RULE, "onnx/model.onnx"}, {**NEW, **BESIDE}, {*NEW, "onnx/model.onnx"}
    ),
    "one more that is there no longer": Shape({**OLD, **BESIDE}, {*RULE, "onnx/model.onnx"}, NEW, {*NEW}),
    "other shards": Shape({**OLD, **BESIDE}, RULE, {**sharded(), **BESIDE}, {*sharded()}),
    "without its weights": Shape(OLD, {"config.json", "README.md"}, NEW, {"config.json", "README.md"}),
    "only what vLLM does not load": Shape(
        {"config.json": "{}", **BESIDE}, {"onnx/model.onnx"}, {"config.json": "{ }", **BESIDE}, {"onnx/model.onnx"}
    ),
    "a name with brackets": Shape(
        {**OLD, "a[1].onnx": b"x", "a1.onnx": b"x"},
        {"a[1].onnx"},
        {**NEW, "a[1].onnx": b"y", "a1.onnx": b"x"},
        {"a[1].onnx"},
    ),
    "one quantisation": Shape(
        QUANTISED,
        {"m-Q4_K_M.gguf", "config.json"},
        {**QUANTISED, "m-Q4_K_M.gguf": b"x"},
        {"m-Q4_K_M.gguf", "config.json"},
    ),
    "two quantisations": Shape(
        QUANTISED,
        {"m-Q4_K_M.gguf", "m-Q8_0.gguf", "config.json"},
        {**QUANTISED, "m-Q4_K_M.gguf": b"x"},
        {"m-Q4_K_M.gguf", "m-Q8_0.gguf", "config.json"},
    ),
    "a quantisation that comes in parts now": Shape(
        QUANTISED,
        {"m-Q4_K_M.gguf", "m-Q2_K.gguf", "config.json"},
        {"m-Q2_K.gguf": b"x", "m-Q8_0.gguf": b"x", "config.json": "{}", **PARTS},
        {"m-Q2_K.gguf", "config.json", *PARTS},
    ),
}


def keep(store: StoreBuilder, name: str, names: set[str]) -> None:
    """Leave of a model what a pull of these names would have brought."""
    paths = store.paths(name)
    commit = paths.ref("main").read_text()
    for entry in [path for path in paths.snapshot(commit).rglob("*") if path.is_symlink()]:
        if entry.relative_to(paths.snapshot(commit)).as_posix() not in names:
            entry.unlink()
    used = {entry.resolve() for entry in paths.snapshot(commit).rglob("*") if entry.is_symlink()}
    for blob in paths.blobs.iterdir():
        if blob not in used:
            blob.unlink()


def planned(hub: Hub, store: StoreBuilder, *words: str) -> updates.UpdatePlan:
    """What an update of these models would do."""
    return updates.plan(client.Hub(hub.url), naming.targets(store.hub, words, parts=True))


@pytest.mark.matrix(6)
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_an_update_brings_what_the_revision_has(hub: Hub, store: StoreBuilder, shape: Shape, *, listed: bool) -> None:
    old = store.add(NAME, files=shape.before)
    keep(store, NAME, shape.here)
    if not listed:
        store.paths(NAME).tree(old).unlink()
    new = hub.add(NAME, files=shape.after)
    (update,) = planned(hub, store, NAME).updates
    unknown = {"new.onnx"} if not listed else set()
    assert {file.name for file in update.pull.files} == shape.brought - unknown
    assert (update.old, update.pull.commit, update.ref) == (old, new, "main")
    assert set(update.added) == shape.brought - unknown - shape.here
    assert set(update.removed) == shape.here - shape.brought
    both = shape.brought & shape.here
    assert set(update.changed) == {name for name in both if shape.before[name] != shape.after[name]}


def test_a_quantisation_that_is_gone_is_a_failure_that_names_the_others(hub: Hub, store: StoreBuilder) -> None:
    store.add(NAME, files=QUANTISED)
    keep(store, NAME, {"m-Q4_K_M.gguf", "config.json"})
    hub.add(NAME, files={name: content for name, content in QUANTISED.items() if "Q4" not in name})
    (failure,) = planned(hub, store, NAME).failures
    assert failure.error.message == f"`{NAME}` has 2 quantisations to choose from: `Q2_K`, `Q8_0`"


def test_a_model_that_is_gated_by_now_is_a_failure(hub: Hub, store: StoreBuilder) -> None:
    store.add(NAME, files=OLD)
    hub.add(NAME, files=NEW, gated=True)
    (failure,) = planned(hub, store, NAME).failures
    assert failure.error.kind == "not_allowed"
    assert planned(hub, store, NAME).updates == ()


def test_without_links_sizes_tell_what_has_changed(hub: Hub, store: StoreBuilder) -> None:
    store.add(NAME, files=OLD, kind="copies", tree=False)
    hub.add(NAME, files=NEW)
    (update,) = planned(hub, store, NAME).updates
    assert (update.added, update.changed) == (("generation_config.json",), ("README.md",))


def test_several_refs_cost_one_request_and_one_more_for_each_that_has_moved(hub: Hub, store: StoreBuilder) -> None:
    old = store.add(NAME, files=OLD)
    for name in ("v1", "refs/pr/7"):
        store.add(NAME, files=OLD, revision=name)
        hub.add(NAME, files=OLD, revision=name)
    hub.add(NAME, files=OLD)
    plan = planned(hub, store, NAME)
    assert [(one.ref, one.commit) for one in plan.current] == [("main", old), ("refs/pr/7", old), ("v1", old)]
    assert [(asked.path, asked.query) for asked in hub.asked] == [(f"/api/models/{NAME}/refs", "include_prs=1")]
    hub.asked.clear()
    new = hub.add(NAME, files=NEW)
    plan = planned(hub, store, NAME)
    assert [(update.ref, update.pull.commit) for update in plan.updates] == [("main", new)]
    assert [asked.path.rpartition("/")[2] for asked in hub.asked][:2] == ["refs", "main"]
    hub.asked.clear()
    (one,) = planned(hub, store, f"{NAME}@v1").current
    assert (one.ref, [asked.path for asked in hub.asked]) == ("v1", [f"/api/models/{NAME}/revision/v1"])


@pytest.mark.parametrize("answer", ["tag", "none"])
def test_a_list_of_refs_is_believed_only_where_it_agrees(hub: Hub, store: StoreBuilder, answer: str) -> None:
    commit = store.add(NAME, files=OLD)
    for revision in ("main", "v1"):
        store.add(NAME, files=OLD, revision=revision)
        hub.add(NAME, files=OLD, revision=revision)
    # An annotated tag is an object of its own, and a mirror may know nothing of the question.
    tag = {"name": "v1", "ref": "refs/tags/v1", "targetCommit": "1" * 40}
    body = json.dumps({"branches": [], "converts": [], "tags": [tag]}).encode()
    hub.fault(status(200, body=body) if answer == "tag" else status(404), path="*/refs")
    assert [(one.ref, one.commit) for one in planned(hub, store, NAME).current] == [("main", commit), ("v1", commit)]


def test_a_branch_that_is_gone_is_a_failure_beside_the_others(hub: Hub, store: StoreBuilder) -> None:
    store.add(NAME, files=OLD)
    store.add(NAME, files=OLD, revision="dev")
    new = hub.add(NAME, files=NEW)
    plan = planned(hub, store, NAME)
    assert [update.pull.commit for update in plan.updates] == [new]
    assert [failure.error.message for failure in plan.failures] == [f"`{NAME}` has no revision `dev`"]


def test_a_ref_whose_commit_is_not_here_is_followed_in_the_shape_that_is(hub: Hub, store: StoreBuilder) -> None:
    old = store.add(NAME, files=OLD)
    new = hub.add(NAME, files=NEW)
    # As a dry run of another tool leaves it.
    store.paths(NAME).ref("main").write_text(new, encoding="ascii")
    (tracked,) = following.ask(client.Hub(hub.url), [following.track(the_model(store))])
    assert [(one.commit, one.newest) for one in tracked.moved] == [(None, new)]
    (update,) = planned(hub, store, NAME).updates
    assert (update.old, {file.name for file in update.pull.files}) == (old, set(NEW))


def the_model(store: StoreBuilder) -> Model:
    (model,) = scan.scan_hub(store.hub, "project")
    return model


def test_what_never_moves_is_left_alone_and_said_so(hub: Hub, store: StoreBuilder) -> None:
    commit = store.add(NAME, files=OLD)
    hub.add(NAME, files=NEW)
    paths = store.paths(NAME)
    assert [left.why for left in planned(hub, store, f"{NAME}@{commit[:8]}").left] == [
        f"{commit[:12]} is a commit, which never moves"
    ]
    # As other tools keep the short form of a commit.
    paths.ref("main").rename(paths.ref(commit[:7]))
    (left,) = planned(hub, store, NAME).left
    assert (left.why, left.fix) == (f"no branch or tag names {commit[:12]}", f"modelctl pull {NAME}")
    paths.ref(commit[:7]).rename(paths.ref("main"))
    paths.ref("main").write_text("nonsense")
    (left,) = planned(hub, store, NAME).left
    assert (left.why, left.fix) == ("`refs/main` names no commit", f"modelctl pull {NAME}")
    assert hub.asked == []


def test_a_first_pull_that_never_ended_is_not_an_update(hub: Hub, store: StoreBuilder) -> None:
    (store.paths(NAME).blobs).mkdir(parents=True)
    (store.paths(NAME).blobs / f"{'1' * 64}.incomplete").write_bytes(b"x")
    (left,) = planned(hub, store, NAME).left
    assert left.why.startswith("its download was interrupted")
    assert left.fix == f"modelctl pull {NAME}"


def test_a_model_that_went_meanwhile_is_a_failure(hub: Hub, store: StoreBuilder) -> None:
    (failure,) = updates.plan(client.Hub(hub.url), [Target(store.paths(NAME))]).failures
    assert failure.error.kind == "not_found"


def test_several_models_are_asked_about_side_by_side(hub: Hub, store: StoreBuilder) -> None:
    for name in (NAME, OTHER):
        put(store, hub, name)
    meeting = asyncio.Barrier(2)

    async def wait_for_the_other(call: Call) -> None:
        async with asyncio.timeout(20):
            await meeting.wait()
        await call.app(call.scope, call.receive, call.send)

    hub.fault(wait_for_the_other, path="*/revision/main", times=2)
    tracked = [following.track(model) for model in scan.scan_hub(store.hub, "project")]
    assert [len(one.moved) for one in following.ask(client.Hub(hub.url), tracked)] == [1, 1]


@pytest.mark.sweep
def test_ctrl_c_does_not_wait_for_the_hub(run: Command, hub: Hub, store: StoreBuilder) -> None:
    put(store, hub)
    is_asked = threading.Event()

    async def keep_waiting(call: Call) -> None:
        is_asked.set()
        await call.gone()
        await call.hang_up()

    hub.fault(keep_waiting, path="*/revision/main", times=None)
    listing = run.start("list", "--outdated", env=hub.environ)
    assert is_asked.wait(timeout=20)
    listing.send_signal(signal.SIGINT)
    # The Hub itself would be given half a minute.
    stdout, stderr = listing.communicate(timeout=15)
    assert (listing.returncode, stdout, stderr) == (130, "", "")
