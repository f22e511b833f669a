"""What a scan makes of a hub folder, whole or damaged in every way that tools and people leave behind."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelctl import process
from modelctl.errors import ModelctlError, NotFoundError, NotWholeError, UsageError
from modelctl.project import Project, locate
from modelctl.store import ids, layout, scan
from modelctl.store.model import Model
from tests.checkpoints import generator, gguf, sharded, weights
from tests.command import NOBODY, Command
from tests.stores import Layout, StoreBuilder

NAME = "acme/tiny"


@pytest.fixture
def located(project: Path, home: Path) -> Project:
    return locate(project / "models", environ={"HF_HOME": str(home / ".cache" / "huggingface")}, cwd=project)


def the_model(store: StoreBuilder) -> Model:
    (model,) = scan.scan_hub(store.hub, "project")
    return model


def told(model: Model) -> list[tuple[str, str, str | None]]:
    return [(problem.kind, problem.message, problem.fix) for problem in model.problems]


def tree_of(store: StoreBuilder, name: str = NAME) -> Path:
    paths = store.paths(name)
    return paths.tree(paths.ref("main").read_text())


def test_a_whole_model(store: StoreBuilder) -> None:
    commit = store.add(NAME, files=generator())
    model = the_model(store)
    size = sum(len(content) for content in generator().values())
    assert (model.id, model.location, model.state, model.servable) == (NAME, "project", "ready", True)
    assert (model.size, model.done, model.total, model.problems) == (size, size, size, ())
    assert model.allocated >= 4 * 512
    (revision,) = model.revisions
    assert (revision.commit, revision.refs, revision.size) == (commit, ("main",), size)
    assert [file.name for file in revision.files] == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    weight = revision.files[2]
    assert weight.path == store.paths(NAME).entry(commit, "model.safetensors")
    assert weight.blob == store.blob(NAME, "model.safetensors")
    assert model.modified is not None
    assert datetime.now(UTC) - model.modified < timedelta(minutes=5)


@pytest.mark.parametrize("kind", ["shared", "copies"])
@pytest.mark.parametrize("tree", [True, False])
def test_other_layouts_of_blobs_are_whole_models_too(store: StoreBuilder, kind: Layout, *, tree: bool) -> None:
    files = generator(model__safetensors=None)
    store.add(NAME, files=files, lfs={"model.safetensors": weights({"a": (4, 8)})}, kind=kind, tree=tree)
    model = the_model(store)
    assert (model.state, model.problems) == ("ready", ())
    assert model.size == sum(len(content) for content in files.values()) + len(weights({"a": (4, 8)}))
    assert model.total == (model.size if tree else None)


def test_a_payload_that_two_models_share_counts_once_in_the_total(store: StoreBuilder) -> None:
    lfs = {"model.safetensors": weights({"a": (4, 8)})}
    for name in ("acme/one", "acme/two"):
        store.add(name, files=generator(model__safetensors=None), lfs=lfs, kind="shared")
    models = scan.scan_hub(store.hub, "project")
    assert sum(model.size for model in models) - scan.total(models).size == len(lfs["model.safetensors"])


def test_a_content_of_two_names_counts_once_in_the_total(store: StoreBuilder) -> None:
    for name in ("acme/one", "acme/two"):
        store.add(name, files=generator())
    one, two = (store.blob(name, "model.safetensors") for name in ("acme/one", "acme/two"))
    two.unlink()
    two.hardlink_to(one)
    models = scan.scan_hub(store.hub, "project")
    total = scan.total(models)
    assert sum(model.size for model in models) - total.size == one.stat().st_size
    assert sum(model.allocated for model in models) - total.allocated == one.stat().st_blocks * 512


def test_only_models_are_listed(store: StoreBuilder) -> None:
    store.add(NAME, files=generator())
    store.add("gpt2", files=generator())
    for name in ("datasets--acme--data", "spaces--acme--demo", ".locks", "blobs", "models--"):
        (store.hub / name).mkdir(exist_ok=True)
    (store.hub / "version.txt").write_text("1")
    assert ids.in_hub(store.hub) == (NAME, "gpt2")
    assert [model.id for model in scan.scan_hub(store.hub, "cache")] == [NAME, "gpt2"]


def test_no_hub_folder_is_no_models(tmp_path: Path) -> None:
    assert ids.in_hub(tmp_path / "nothing") == ()
    assert scan.scan_hub(tmp_path / "nothing", "project") == ()
    assert scan.downloads(tmp_path / "nothing") == ()
    assert scan.scan_model(layout.RepoPaths(tmp_path, NAME), "project") is None


def test_a_file_where_the_hub_folder_should_be_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(ModelctlError, match=f"`{tmp_path}/models` is a file where a folder should be"):
        ids.in_hub(tmp_path / "models" / "hub")


def remove_entry(store: StoreBuilder, commit: str) -> None:
    store.paths(NAME).entry(commit, "tokenizer.json").unlink()


def remove_two_entries(store: StoreBuilder, commit: str) -> None:
    remove_entry(store, commit)
    store.paths(NAME).entry(commit, "README.md").unlink()


def remove_blob(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001 - one signature for all
    store.blob(NAME, "model.safetensors").unlink()


def cut_blob(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    os.truncate(store.blob(NAME, "model.safetensors"), 100)


def cut_blob_without_listing(store: StoreBuilder, commit: str) -> None:
    blob = store.blob(NAME, "model.safetensors")
    os.truncate(blob, blob.stat().st_size - 3)
    store.paths(NAME).tree(commit).unlink()


def spoil_header(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    with store.blob(NAME, "model.safetensors").open("r+b") as blob:
        blob.write(b"\xff" * 8)


def lead_out(store: StoreBuilder, commit: str) -> None:
    outside = store.hub.parent / "secret"
    outside.write_text("x" * 2)
    entry = store.paths(NAME).entry(commit, "tokenizer.json")
    entry.unlink()
    entry.symlink_to(outside)


def put_a_fifo(store: StoreBuilder, commit: str) -> None:
    entry = store.paths(NAME).entry(commit, "tokenizer.json")
    entry.unlink()
    os.mkfifo(entry)


def put_a_folder(store: StoreBuilder, commit: str) -> None:
    entry = store.paths(NAME).entry(commit, "tokenizer.json")
    entry.unlink()
    entry.mkdir()


def empty_ref(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    store.paths(NAME).ref("main").write_text("")


def newline_ref(store: StoreBuilder, commit: str) -> None:
    store.paths(NAME).ref("main").write_text(f"{commit}\n")


def binary_ref(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    store.paths(NAME).ref("main").write_bytes(b"\xff\xfe\x00")


def fifo_ref(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    os.mkfifo(store.paths(NAME).ref("v1"))


def dangling_ref(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    store.paths(NAME).ref("v1").write_text("0" * 40)


def no_refs(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    shutil.rmtree(store.paths(NAME).refs)


def stray_file(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    (store.paths(NAME).snapshots / ".DS_Store").write_text("")


def refs_is_a_file(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    shutil.rmtree(store.paths(NAME).refs)
    store.paths(NAME).refs.write_text("")


def no_snapshots(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    shutil.rmtree(store.paths(NAME).snapshots)


def empty_folder(store: StoreBuilder, commit: str) -> None:  # noqa: ARG001
    shutil.rmtree(store.paths(NAME).folder)
    store.paths(NAME).folder.mkdir()


def torn_listing(store: StoreBuilder, commit: str) -> None:
    store.paths(NAME).tree(commit).write_text('{"format_version": 1, "fi')


def empty_snapshot(store: StoreBuilder, commit: str) -> None:
    shutil.rmtree(store.paths(NAME).snapshot(commit))
    store.paths(NAME).snapshot(commit).mkdir()
    store.paths(NAME).tree(commit).unlink()


def snapshot_is_a_link(store: StoreBuilder, commit: str) -> None:
    away = store.hub.parent / "away"
    store.paths(NAME).snapshot(commit).rename(away)
    store.paths(NAME).snapshot(commit).symlink_to(away)


def half_download_of_the_library(store: StoreBuilder, commit: str) -> None:
    remove_blob(store, commit)
    store.paths(NAME).entry(commit, "model.safetensors").unlink()
    store.paths(NAME).blob("1" * 64 + ".0a1b2c3d.incomplete").write_bytes(bytes(50))


PULL = "modelctl pull acme/tiny"
MEND = "modelctl verify --repair acme/tiny"
DAMAGES: dict[str, tuple[Callable[[StoreBuilder, str], None], str, list[tuple[str, str, str | None]]]] = {
    "a file missing": (remove_entry, "partial", [("missing", "`tokenizer.json` is missing", PULL)]),
    "two files missing": (remove_two_entries, "partial", [("missing", "2 of 4 files are missing", PULL)]),
    "a blob missing": (
        remove_blob,
        "broken",
        [("dangling", "`model.safetensors` leads to no content in this store", PULL)],
    ),
    "a blob cut off": (cut_blob, "broken", [("size", "`model.safetensors` has 100 bytes instead of 244", MEND)]),
    "a blob cut off, no listing": (
        cut_blob_without_listing,
        "broken",
        [("damaged", "`model.safetensors` is cut off: 3 bytes of its tensors are missing", MEND)],
    ),
    "a header spoiled": (
        spoil_header,
        "broken",
        [
            (
                "damaged",
                "`model.safetensors` is no safetensors file: the length of its header makes no sense",
                MEND,
            )
        ],
    ),
    "a link out of the store": (
        lead_out,
        "broken",
        [("dangling", "`tokenizer.json` leads to no content in this store", PULL)],
    ),
    "a FIFO for a file": (
        put_a_fifo,
        "broken",
        [("dangling", "`tokenizer.json` leads to no content in this store", PULL)],
    ),
    "a folder for a file": (put_a_folder, "partial", [("missing", "`tokenizer.json` is missing", PULL)]),
    "an empty ref": (empty_ref, "ready", [("ref", "`refs/main` names no commit", PULL)]),
    "a ref with a newline": (
        newline_ref,
        "ready",
        [("ref", "`refs/main` has more in it than a commit, so other tools do not understand it", PULL)],
    ),
    "a ref of no text": (binary_ref, "ready", [("ref", "`refs/main` names no commit", PULL)]),
    "a FIFO for a ref": (fifo_ref, "ready", [("ref", "`refs/v1` names no commit", PULL)]),
    "a ref to nothing": (
        dangling_ref,
        "ready",
        [("ref", "`v1` names commit 000000000000, which is not here", f"{PULL}@v1")],
    ),
    "no refs": (no_refs, "ready", []),
    "a stray file": (
        stray_file,
        "ready",
        [("misplaced", "`snapshots/.DS_Store` is no folder of a revision", "rm {folder}/snapshots/.DS_Store")],
    ),
    "a file for the refs": (
        refs_is_a_file,
        "ready",
        [("misplaced", "`refs` is a file where a folder should be", "rm {folder}/refs")],
    ),
    "no snapshots": (
        no_snapshots,
        "broken",
        [
            ("no_revision", "it has contents, but no revision that names them", PULL),
            ("ref", "`main` names commit {commit}, which is not here", PULL),
        ],
    ),
    "an empty folder": (empty_folder, "broken", [("no_revision", "it has no revision", PULL)]),
    "a torn listing": (
        torn_listing,
        "ready",
        [("listing", "`trees/{commit}….json` cannot be read, so nothing tells whether files are missing", PULL)],
    ),
    "an empty snapshot": (empty_snapshot, "broken", [("empty", "its snapshot has no files", PULL)]),
    "a link for a snapshot": (
        snapshot_is_a_link,
        "broken",
        [
            ("misplaced", "`snapshots/{long}` is no folder of a revision", "rm {folder}/snapshots/{long}"),
            ("no_revision", "it has contents, but no revision that names them", PULL),
            ("ref", "`main` names commit {commit}, which is not here", PULL),
        ],
    ),
    "a half download of the library": (
        half_download_of_the_library,
        "partial",
        [("missing", "`model.safetensors` is missing", PULL)],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_shown_with_its_problem_and_the_command_that_mends_it(
    store: StoreBuilder, damage: str
) -> None:
    inflict, state, problems = DAMAGES[damage]
    store.add("acme/whole", files=generator())
    commit = store.add(NAME, files=generator())
    inflict(store, commit)
    model, whole = scan.scan_hub(store.hub, "project")
    values = {"commit": commit[:12], "long": commit, "folder": store.paths(NAME).folder}
    assert model.state == state
    assert told(model) == [
        (kind, message.format(**values), fix and fix.format(**values)) for kind, message, fix in problems
    ]
    assert (whole.id, whole.state) == ("acme/whole", "ready")


def test_a_link_for_a_models_folder_leads_to_the_same_model_elsewhere(store: StoreBuilder, tmp_path: Path) -> None:
    there = StoreBuilder(tmp_path / "elsewhere")
    there.add("acme/linked", files=generator())
    store.hub.mkdir()
    store.paths("acme/linked").folder.symlink_to(there.paths("acme/linked").folder)
    (link,) = scan.scan_hub(store.hub, "project")
    (real,) = scan.scan_hub(there.hub, "project")
    assert link == real._replace(path=store.paths("acme/linked").folder)
    assert link.state == "ready"


def test_a_file_or_any_other_link_for_the_models_folder_is_shown_and_not_followed(
    store: StoreBuilder, tmp_path: Path
) -> None:
    StoreBuilder(tmp_path / "elsewhere").add("acme/other", files=generator())
    away = tmp_path / "elsewhere" / "models--acme--other"
    store.hub.mkdir()
    (store.hub / "models--acme--linked").symlink_to(away)
    (store.hub / "models--acme--file").write_text("")
    file, link = scan.scan_hub(store.hub, "project")
    assert (file.state, link.state, link.size) == ("broken", "broken", 0)
    assert told(file) == [
        ("misplaced", "`models--acme--file` is a file where a folder should be", "modelctl rm acme/file")
    ]
    assert told(link) == [
        (
            "misplaced",
            f"`models--acme--linked` is a link to `{away}`, where no such model is",
            "modelctl rm acme/linked",
        )
    ]


def test_a_folder_that_no_name_gives_is_shown_and_can_be_named(store: StoreBuilder, located: Project) -> None:
    store.add("acme/a", files=generator())
    store.paths("acme/a").folder.rename(store.hub / "models--acme--with--dashes")
    model, _ = scan.find(located, "acme/with/dashes")
    assert model.state == "ready"
    assert told(model) == [
        ("name", "`models--acme--with--dashes` is a folder that no model's name gives", "modelctl rm acme/with/dashes")
    ]


def test_names_that_are_no_unicode_do_not_stop_a_scan(store: StoreBuilder) -> None:
    store.add(NAME, files=generator())
    os.mkdir(os.fsencode(store.hub) + b"/models--acme--\xff")  # noqa: PTH102 - a name of bytes
    (store.paths(NAME).refs / os.fsdecode(b"\xfe")).write_text("x")
    assert [model.state for model in scan.scan_hub(store.hub, "project")] == ["ready", "broken"]


def test_what_removes_a_name_that_reads_as_an_option(store: StoreBuilder, run: Command) -> None:
    (store.hub / "models---n--x").mkdir(parents=True)
    (model,) = scan.scan_hub(store.hub, "project")
    fix = next(problem.fix for problem in model.problems if problem.kind == "name")
    assert fix == "modelctl rm -- -n/x"
    done = run("rm", "--dry-run", *fix.split()[2:])
    assert (done.code, done.stdout.splitlines()[1].split()) == (0, ["-n/x", "all", "0", "B", "0", "B"])


def test_folders_of_another_user_are_told_and_do_not_stop_a_scan(store: StoreBuilder, run: Command) -> None:
    store.add("acme/closed", files=generator())
    store.add("acme/foreign", files=generator())
    store.paths("acme/closed").snapshots.chmod(0o700)
    code = (
        "import sys, pathlib; from modelctl.store import scan\n"
        "for model in scan.scan_hub(pathlib.Path(sys.argv[1]), 'project'):\n"
        "    print(model.id, model.state, [(one.kind, one.message, one.fix) for one in model.problems])\n"
        "print(scan.downloads(pathlib.Path(sys.argv[1])))\n"
    )
    done = run.program([sys.executable, "-c", code, store.hub], user=NOBODY)
    closed, foreign = (store.paths(name).folder for name in ("acme/closed", "acme/foreign"))
    chown = "sudo chown -R $(id -u):$(id -g)"
    assert done.stdout.splitlines() == [
        "acme/closed broken "
        + repr(
            [
                ("unreadable", "`snapshots` cannot be read: Permission denied", f"{chown} {closed}"),
                ("owner", "some of `models--acme--closed` belongs to root", f"{chown} {closed}"),
            ]
        ),
        "acme/foreign ready "
        + repr([("owner", "some of `models--acme--foreign` belongs to root", f"{chown} {foreign}")]),
        "()",
    ]


def test_an_unreadable_hub_is_an_error_of_permissions(run: Command, project: Path) -> None:
    hub = project / "models" / "hub"
    hub.mkdir(mode=0o700)
    done = run("list", user=NOBODY)
    assert (done.code, done.stdout) == (4, "")
    assert done.stderr == (
        f"error: cannot read `{hub}`: Permission denied\n"
        f"hint: `sudo chown -R $(id -u):$(id -g) {hub}` makes it yours, if it should be\n"
    )


@pytest.mark.parametrize("tree", [True, False])
def test_a_shard_that_is_missing_makes_a_model_partial(store: StoreBuilder, *, tree: bool) -> None:
    commit = store.add(NAME, files=sharded(), tree=tree)
    store.paths(NAME).entry(commit, "model-00002-of-00002.safetensors").unlink()
    model = the_model(store)
    assert told(model) == [("missing", "`model-00002-of-00002.safetensors` is missing", PULL)]
    # Its blob is here: only the entry is not.
    assert (model.state, model.done == model.total) == ("partial", tree)


def test_a_shard_that_is_missing_is_seen_without_index_and_listing(store: StoreBuilder) -> None:
    commit = store.add(NAME, files=sharded(), tree=False)
    for name in ("model-00002-of-00002.safetensors", "model.safetensors.index.json"):
        store.paths(NAME).entry(commit, name).unlink()
    assert told(the_model(store)) == [("missing", "`model-00002-of-00002.safetensors` is missing", PULL)]


def test_a_tensor_that_the_index_promises_and_no_shard_holds_breaks_a_model(store: StoreBuilder) -> None:
    files = {**sharded(), "model-00002-of-00002.safetensors": weights({"b": (10,)})}
    store.add(NAME, files=files)
    model = the_model(store)
    what = "`model-00002-of-00002.safetensors` lacks `c`, which `model.safetensors.index.json` places there"
    assert (model.state, told(model)) == ("broken", [("tensors", what, MEND)])


def test_an_index_whose_shards_the_repository_lacks_breaks_a_model_that_no_pull_mends(store: StoreBuilder) -> None:
    files = sharded()
    del files["model-00002-of-00002.safetensors"]
    store.add(NAME, files=files)
    model = the_model(store)
    what = "its index names `model-00002-of-00002.safetensors`, which the repository itself does not have"
    assert (model.state, told(model)) == ("broken", [("incomplete", what, None)])


def test_what_vllm_does_not_load_may_be_missing(store: StoreBuilder) -> None:
    commit = store.add(NAME, files={**generator(), "onnx/model.onnx": "x", "pytorch_model.bin": "y"})
    store.paths(NAME).entry(commit, "onnx/model.onnx").unlink()
    store.blob(NAME, "pytorch_model.bin").unlink()
    model = the_model(store)
    assert (model.state, model.problems) == ("ready", ())
    assert model.total == sum(len(content) for content in generator().values())


@pytest.mark.parametrize("tree", [True, False])
def test_a_repository_with_a_tokenizer_only_is_whole_but_cannot_be_served(store: StoreBuilder, *, tree: bool) -> None:
    store.add(NAME, files={"tokenizer.json": "{}", "tokenizer_config.json": "{}"}, tree=tree)
    model = the_model(store)
    assert (model.state, model.servable) == ("ready", False)
    assert told(model) == [("unservable", "vLLM cannot serve it: it has no weights", None)]


QUANTISED = {
    f"tiny-{label}.gguf": gguf(
        {"a": (kind, (32, 2), size)}, metadata={"general.architecture": "llama", "general.file_type": 2}
    )
    for label, kind, size in (("Q4_0", 2, 36), ("Q8_0", 8, 68))
}


def test_one_quantisation_of_several_is_a_whole_model(store: StoreBuilder) -> None:
    commit = store.add(NAME, files={"README.md": "", **QUANTISED})
    store.paths(NAME).entry(commit, "tiny-Q8_0.gguf").unlink()
    model = the_model(store)
    assert (model.state, model.servable, model.facts.quantization) == ("ready", False, "Q4_0")
    assert told(model) == [("gguf", "vLLM serves GGUF files with the plugin `vllm-gguf-plugin` only", None)]


def test_none_of_several_quantisations_is_half_a_model(store: StoreBuilder) -> None:
    commit = store.add(NAME, files={"README.md": "", **QUANTISED})
    for name in QUANTISED:
        store.paths(NAME).entry(commit, name).unlink()
    model = the_model(store)
    assert (model.state, told(model)) == (
        "partial",
        [("missing", "none of its 2 quantisations is here", f"{PULL}:Q4_0")],
    )


def test_a_damaged_quantisation_breaks_a_model(store: StoreBuilder) -> None:
    store.add(NAME, files={"tiny-Q4_0.gguf": b"GGML" + bytes(60)})
    assert told(the_model(store)) == [("damaged", "`tiny-Q4_0.gguf` is no GGUF file", MEND)]


def test_what_mends_one_quantisation_of_several_names_it(store: StoreBuilder) -> None:
    commit = store.add(NAME, files={"README.md": "", **QUANTISED}, revision="v1")
    store.paths(NAME).entry(commit, "tiny-Q4_0.gguf").unlink()
    store.blob(NAME, "tiny-Q8_0.gguf", revision="v1").write_bytes(b"GGML" + bytes(60))
    fixes = {problem.fix for problem in the_model(store).problems}
    assert fixes == {f"{MEND}@v1"}
    paths = store.paths(NAME)
    shutil.rmtree(paths.snapshots)
    paths.private.mkdir()
    record = {"commit": commit, "revision": "v1", "files": ["README.md", "tiny-Q8_0.gguf"], "total": 9}
    paths.pull_record.write_text(json.dumps(record), encoding="utf-8")
    assert the_model(store).problems[0].fix == f"{PULL}@v1:Q8_0"


def test_a_download_of_the_library_without_a_listing_is_partial_until_weights_are_there(store: StoreBuilder) -> None:
    commit = store.add(NAME, files=generator(), tree=False)
    store.paths(NAME).blob("1" * 64 + ".incomplete").write_bytes(bytes(50))
    assert the_model(store).state == "ready"
    store.paths(NAME).entry(commit, "model.safetensors").unlink()
    model = the_model(store)
    what = "its weights have not arrived: the download was interrupted, or still runs"
    assert (model.state, told(model)) == ("partial", [("unfinished", what, PULL)])


def test_a_configuration_that_some_tool_looked_at_is_no_model(store: StoreBuilder) -> None:
    files = {"config.json": generator()["config.json"]}
    store.add(NAME, files=files, tree=False)
    model = the_model(store)
    assert (model.state, told(model)) == ("partial", [("missing", "none of its weights is here", PULL)])
    store.add(NAME, files={**files, "tf_model.h5": "x"}, tree=False)
    assert the_model(store).state == "ready"


def test_the_state_is_that_of_main_and_the_others_only_tell(store: StoreBuilder) -> None:
    old = store.add(NAME, files=generator(tokenizer__json='{"old": 1}'), revision="v1")
    new = store.add(NAME, files=generator())
    store.paths(NAME).entry(old, "config.json").unlink()
    model = the_model(store)
    assert {revision.refs for revision in model.revisions} == {("v1",), ("main",)}
    assert model.state == "ready"
    assert told(model) == [("missing", f"commit {old[:12]}: `config.json` is missing", f"{PULL}@v1")]
    assert scan.revision_of(model).commit == new


def test_without_main_the_newest_revision_counts(store: StoreBuilder) -> None:
    old = store.add(NAME, files=generator(tokenizer__json='{"old": 1}'), revision=None)
    new = store.add(NAME, files=generator(), revision=None)
    for commit, age in ((old, 1000), (new, 10)):
        for path in (store.paths(NAME).snapshot(commit), *store.paths(NAME).snapshot(commit).iterdir()):
            times = (datetime.now(UTC) - timedelta(seconds=age)).timestamp()
            os.utime(path, (times, times))
    model = the_model(store)
    assert [revision.commit for revision in model.revisions] == [new, old]
    store.paths(NAME).entry(new, "config.json").unlink()
    assert told(the_model(store))[0] == ("missing", "`config.json` is missing", f"{PULL}@{new}")


def record_pull(store: StoreBuilder, commit: str, *, alive: bool, total: int, revision: str = "main") -> None:
    """What a pull leaves while it runs, with half of a blob."""
    paths = store.paths(NAME)
    paths.partials.mkdir(parents=True)
    owner = process.to_json(process.this_process("pull"))
    names = list(json.loads(paths.tree(commit).read_text())["files"])
    record = {"schema": 1, "commit": commit, "revision": revision, "files": names, "total": total, "done_before": 0}
    record["owner"] = owner if alive else {**owner, "started": 1}
    paths.pull_record.write_text(json.dumps(record))


def interrupt(store: StoreBuilder, *, alive: bool) -> tuple[str, int]:
    """A pull of which the small blobs are there and 100 bytes of the weights."""
    files = generator()
    commit = store.add(NAME, files=files)
    paths, total = store.paths(NAME), sum(len(content) for content in files.values())
    blob = store.blob(NAME, "model.safetensors")
    record_pull(store, commit, alive=alive, total=total)
    paths.journal(blob.name).write_text(json.dumps({"size": 244, "received": [[0, 60], [100, 140], [7], [3, "x"]]}))
    os.truncate(blob, 140)
    blob.rename(paths.partial(blob.name))
    shutil.rmtree(paths.snapshots)
    paths.ref("main").unlink()
    return commit, total


def test_an_interrupted_first_pull(store: StoreBuilder) -> None:
    commit, total = interrupt(store, alive=False)
    model = the_model(store)
    done = total - 244 + 100
    assert (model.state, model.done, model.total, model.revisions) == ("partial", done, total, ())
    what = f"the pull of commit {commit[:12]} was interrupted at {done * 100 // total} %"
    assert told(model) == [("interrupted", what, PULL)]
    (download,) = scan.downloads(store.hub)
    assert (download.id, download.commit, download.done, download.total) == (NAME, commit, done, total)
    assert (download.active, download.rate) == (False, None)


def test_a_pull_that_runs(store: StoreBuilder) -> None:
    commit, _ = interrupt(store, alive=True)
    model = the_model(store)
    assert model.state == "partial"
    assert told(model) == [("pulling", f"`modelctl pull` (pid {os.getpid()}) is fetching commit {commit[:12]}", None)]
    (download,) = scan.downloads(store.hub)
    assert download.active
    assert download.rate is not None
    assert download.rate > 0


def test_an_interrupted_update_leaves_the_old_revision_ready(store: StoreBuilder) -> None:
    old = store.add(NAME, files=generator(tokenizer__json='{"old": 1}'))
    new = store.add(NAME, files=generator(), revision="next")
    shutil.rmtree(store.paths(NAME).snapshot(new))
    store.paths(NAME).ref("next").unlink()
    record_pull(store, new, alive=False, total=1000)
    model = the_model(store)
    assert (model.state, scan.revision_of(model).commit) == ("ready", old)
    assert [problem.kind for problem in model.problems] == ["interrupted"]


def test_a_record_that_outlived_a_whole_pull_says_nothing(store: StoreBuilder) -> None:
    commit = store.add(NAME, files=generator())
    record_pull(store, commit, alive=False, total=300)
    model = the_model(store)
    assert (model.state, model.problems) == ("ready", ())


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"commit": 3}', b"\xff", b"[" * 100_000])
def test_a_torn_record_says_nothing(store: StoreBuilder, record: bytes) -> None:
    store.add(NAME, files=generator())
    store.paths(NAME).private.mkdir()
    store.paths(NAME).pull_record.write_bytes(record)
    assert the_model(store).state == "ready"
    assert scan.downloads(store.hub) == ()


def test_both_locations_are_one_list(store: StoreBuilder, cache: StoreBuilder, located: Project) -> None:
    store.add("acme/both", files=generator())
    cache.add("acme/both", files=generator())
    cache.add("acme/cached", files=generator())
    store.add("acme/zeta", files=generator())
    # The copy that counts is the project's, also when the other is in better condition.
    store.blob("acme/both", "config.json").unlink()
    both, cached, zeta = scan.scan_project(located)
    assert (both.id, both.location, both.state) == ("acme/both", "project", "broken")
    assert both.other_copies == (cache.paths("acme/both").folder,)
    assert (cached.id, cached.location, cached.other_copies) == ("acme/cached", "cache", ())
    assert (zeta.id, zeta.location) == ("acme/zeta", "project")
    assert ids.of_project(located) == ("acme/both", "acme/cached", "acme/zeta")


def test_one_folder_for_both_locations_is_the_project(store: StoreBuilder, project: Path) -> None:
    store.add(NAME, files=generator())
    one = locate(project / "models", environ={"HF_HOME": str(project / "models")}, cwd=project)
    (model,) = scan.scan_project(one)
    assert (model.location, model.other_copies) == ("project", ())


def test_a_cache_that_is_no_folder_does_not_hide_the_project(store: StoreBuilder, home: Path, located: Project) -> None:
    store.add(NAME, files=generator())
    (home / ".cache").write_text("")
    assert [model.id for model in scan.scan_project(located)] == [NAME]


@pytest.fixture
def several(store: StoreBuilder, cache: StoreBuilder) -> None:
    for name in ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B-AWQ", "acme/tiny"):
        store.add(name, files=generator())
    cache.add("BAAI/bge-m3", files=generator())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("qwen/qwen3-8b", "Qwen/Qwen3-8B"),
        ("qwen3-8b", "Qwen/Qwen3-8B"),
        ("awq", "Qwen/Qwen3-8B-AWQ"),
        ("hf://acme/tiny", "acme/tiny"),
        ("https://example.com/acme/tiny/tree/main", "acme/tiny"),
        ("m3", "BAAI/bge-m3"),
        ("tiny:Q4_K_M", "acme/tiny"),
    ],
)
@pytest.mark.usefixtures("several")
def test_a_model_is_found_by_any_unique_part_of_its_name(located: Project, text: str, found: str) -> None:
    model, named = scan.find(located, text)
    assert (model.id, named.id) == (found, found)
    assert scan.find(scan.scan_project(located), text)[0].id == found


@pytest.mark.usefixtures("several")
def test_a_name_that_fits_several_or_none_says_what_there_is(located: Project) -> None:
    with pytest.raises(UsageError) as ambiguous:
        scan.find(located, "qwen")
    assert ambiguous.value.message == "`qwen` fits 2 models"
    assert ambiguous.value.hint == "give more of the name: `Qwen/Qwen3-8B`, `Qwen/Qwen3-8B-AWQ`"
    with pytest.raises(NotFoundError) as close:
        scan.find(located, "acme/tony")
    assert close.value.message == "no model `acme/tony` here"
    assert close.value.hint == "did you mean `acme/tiny`; `modelctl pull acme/tony` fetches it"
    with pytest.raises(NotFoundError) as nothing:
        scan.find(located, "zzz")
    assert nothing.value.hint == "`modelctl list` shows what is here, `modelctl pull ORG/NAME` fetches a model"


def test_a_revision_is_found_by_ref_commit_or_its_beginning(store: StoreBuilder, located: Project) -> None:
    old = store.add(NAME, files=generator(tokenizer__json='{"old": 1}'), revision="refs/pr/1")
    new = store.add(NAME, files=generator())
    model, named = scan.find(located, f"tiny@{old[:8]}")
    assert named.revision == old[:8]
    known: dict[str | None, str] = {old: old, old[:7]: old, "refs/pr/1": old, new: new, "main": new, None: new}
    for name, commit in known.items():
        assert scan.revision_of(model, name).commit == commit
    for unknown in (old[:6], "v2", "0" * 40):
        with pytest.raises(NotFoundError, match=f"`acme/tiny` has no revision `{unknown}` here"):
            scan.revision_of(model, unknown)


def test_a_model_without_a_revision_has_none_to_use(store: StoreBuilder) -> None:
    interrupt(store, alive=False)
    with pytest.raises(NotWholeError) as none:
        scan.revision_of(the_model(store))
    assert (none.value.message, none.value.hint) == ("`acme/tiny` is partial and has no revision", f"`{PULL}`")


def test_a_scan_writes_nothing_and_does_not_count_as_a_use(store: StoreBuilder) -> None:
    store.add(NAME, files=sharded())
    paths = sorted(store.hub.rglob("*"))
    long_ago = 1_000_000_000
    for path in paths:
        os.utime(path, (long_ago, long_ago + 5), follow_symlinks=False)
    before = [path.lstat() for path in paths]
    model = the_model(store)
    after = [path.lstat() for path in paths]
    assert sorted(store.hub.rglob("*")) == paths
    assert [status.st_mtime for status in after] == [status.st_mtime for status in before]
    weight = store.blob(NAME, "model-00001-of-00002.safetensors")
    assert weight.stat().st_atime == long_ago
    keeps_count = not os.statvfs(store.hub).f_flag & os.ST_NOATIME
    assert model.used == (datetime.fromtimestamp(long_ago, UTC) if keeps_count else None)
