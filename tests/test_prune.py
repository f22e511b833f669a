"""`modelctl prune` as a person and as a program meet it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modelctl.cli.output import size
from modelctl.store import ids
from tests.checkpoints import generator
from tests.command import NOBODY, Command, Finished
from tests.disks import disk_use
from tests.hub.faults import stall
from tests.hub.loopback import Hub
from tests.second_opinion import accepted
from tests.stores import StoreBuilder
from tests.test_pruning import NAME, SHA, WEIGHTS, interrupt, put, update
from tests.test_pull import BIN, MIB, big_model, until


@pytest.fixture
def littered(store: StoreBuilder) -> StoreBuilder:
    """A store with a whole model, a download that another tool never finished, and two interrupted pulls."""
    store.add(NAME, files=generator())
    put(store.paths(NAME).blobs / f"{SHA}.incomplete", days=3)
    interrupt(store, "acme/half", days=2)
    interrupt(store, "acme/old", days=9)
    return store


def listed(store: StoreBuilder) -> set[str]:
    return set(ids.in_hub(store.hub))


class TestPlain:
    def test_prunes_and_says_what_was_freed(self, run: Command, littered: StoreBuilder) -> None:
        before = disk_use(littered.hub)
        old = size(disk_use(littered.paths("acme/old").folder))
        commit = json.loads(littered.paths("acme/old").pull_record.read_text())["commit"][:12]
        half = size(disk_use(littered.paths("acme/half").folder))
        done = run("prune", "--yes")
        freed = size(before - disk_use(littered.hub))
        assert done == Finished(
            0,
            f"pruned 2 leftovers, freed {freed}\n",
            f"interrupted pull of acme/old: {old}, 9 days ago, an interrupted pull of {commit}, 0 % done\n"
            f"unfinished download of {NAME}: 12.3 kB, 3 days ago, a download by another tool was interrupted\n"
            f"  stays: interrupted pull of acme/half, {half}, 2 days ago: `modelctl pull acme/half` goes on with it\n"
            f"pruning {freed}\n",
        )
        assert listed(littered) == {NAME, "acme/half"}
        assert run("prune", "--yes").stdout == "nothing to prune\n"

    def test_a_dry_run_is_dry(self, run: Command, littered: StoreBuilder) -> None:
        before = sorted(littered.hub.rglob("*"))
        done = run("prune", "--dry-run", "--older-than", "0")
        lines = done.stdout.splitlines()
        assert done.code == 0
        assert lines[0].split() == ["WHAT", "MODEL", "SIZE", "AGE", "WHY"]
        assert [line.split("  ")[0] for line in lines[1:]] == [
            "interrupted pull",
            "interrupted pull",
            "unfinished download",
            f"3 leftovers, frees {size(sum(left['size'] for left in _plan(run, '--older-than', '0')))}",
        ]
        assert sorted(littered.hub.rglob("*")) == before

    def test_a_store_that_may_only_be_read(self, run: Command, littered: StoreBuilder) -> None:
        for path in (littered.hub, *littered.hub.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
        done = run("prune", "--yes", user=NOBODY)
        assert (done.code, done.stdout) == (4, "")
        assert "cannot" in done.stderr
        assert listed(littered) == {NAME, "acme/half", "acme/old"}

    def test_nothing_to_prune_asks_nobody(self, run: Command, store: StoreBuilder, project: Path) -> None:
        assert run("prune") == Finished(0, "nothing to prune\n", "")
        assert not (project / "models" / "hub").exists()
        store.add(NAME)
        assert run("prune", "--revisions") == Finished(0, "nothing to prune\n", "")


class TestAsking:
    def test_without_a_terminal(self, run: Command, littered: StoreBuilder) -> None:
        before = sorted(littered.hub.rglob("*"))
        done = run("prune")
        assert done.code == 2
        assert done.stderr.endswith(
            "error: there is no terminal to ask for confirmation\nhint: add `--yes` to go on without asking\n"
        )
        assert sorted(littered.hub.rglob("*")) == before

    def test_keep_without_revisions(self, run: Command) -> None:
        assert run("prune", "--keep", "1") == Finished(
            2,
            "",
            "error: `--keep` says how many old revisions stay\nhint: add `--revisions`, or leave out `--keep`\n",
        )


class TestRevisions:
    def test_an_update_leaves_one_behind_and_a_pin_none(self, run: Command, hub: Hub, store: StoreBuilder) -> None:
        commits: list[str] = []
        for text in (b"1", b"2", b"3"):
            commits.append(hub.add(NAME, files=generator() | {"README.md": text}))
            name = NAME if len(commits) > 1 else f"{NAME}@{commits[0]}"
            assert run("pull", name, "--all-files", "--no-use", env=hub.environ).code == 0
        pinned, _, new = commits
        assert accepted(store.hub) == {NAME: set(commits)}
        done = run("prune", "--revisions", "--yes")
        assert (done.code, done.stdout.split(",")[0]) == (0, "pruned 1 leftover")
        assert f"`main` has moved on to {new[:12]}" in done.stderr
        assert f"  stays: old revision of {NAME}" in done.stderr
        assert accepted(store.hub) == {NAME: {pinned, new}}

    def test_a_revision_that_is_pulled_by_its_commit_later_stays(
        self, run: Command, hub: Hub, store: StoreBuilder
    ) -> None:
        old = hub.add(NAME, files=generator())
        assert run("pull", NAME, "--no-use", env=hub.environ).code == 0
        hub.add(NAME, files=generator() | {"config.json": b'{"architectures": ["LlamaForCausalLM"]}'})
        assert run("pull", NAME, "--no-use", env=hub.environ).code == 0
        assert [left["commits"] for left in _plan(run, "--revisions")] == [[old]]
        assert run("pull", f"{NAME}@{old}", "--no-use", env=hub.environ).code == 0
        assert _plan(run, "--revisions") == []
        assert len(accepted(store.hub)[NAME]) == 2

    def test_the_default_model_stays(self, run: Command, store: StoreBuilder, project: Path) -> None:
        old, new = update(store, "1", "2")
        (project / ".env").write_text(f"MODELCTL_MODEL={NAME}@{old[:8]}\n")
        assert "the project's settings name it" in run("prune", "--revisions", "--yes").stderr
        (project / ".env").unlink()
        assert "name it" in run("prune", "--revisions", env={"MODELCTL_MODEL": f"{NAME}@{old[:8]}"}).stderr
        assert run("prune", "--revisions", "--keep", "1").stdout == "nothing to prune\n"
        assert run("prune", "--revisions", "--yes").code == 0
        assert accepted(store.hub) == {NAME: {new}}


def test_the_cache_only_when_told(run: Command, store: StoreBuilder, cache: StoreBuilder) -> None:
    for each in (store, cache):
        each.add(NAME)
        put(each.paths(NAME).blobs / f"{SHA}.incomplete")
    assert run("prune", "--cache", "--yes").code == 0
    assert [len(list(each.paths(NAME).blobs.glob("*.incomplete"))) for each in (store, cache)] == [1, 0]


class TestInFlight:
    """What runs is left alone, and what it leaves when it is killed is not."""

    def test_a_download_by_hf(self, run: Command, hub: Hub, store: StoreBuilder) -> None:
        hub.add(NAME, files=big_model(4 * MIB))
        hub.fault(stall(seconds=60, after=MIB), path="*model.safetensors*", times=None)
        put(store.paths(NAME).blobs / f"{SHA}.incomplete", days=3)
        hf = subprocess.Popen(
            [BIN / "hf", "download", NAME],
            env=run.environment({**hub.environ, "HF_HUB_CACHE": str(store.hub)}),
            cwd=run.project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: len(list(store.paths(NAME).blobs.glob("*.incomplete"))) > 1)
            done = run("prune", "--older-than", "0", "--yes")
            assert (done.code, done.stdout) == (0, "nothing to prune\n")
            assert done.stderr.count("another Hugging Face tool is downloading it\n") == 2
            assert len(list(store.paths(NAME).blobs.glob("*.incomplete"))) == 2
        finally:
            hf.kill()
            hf.wait()
        done = run("prune", "--yes")
        assert (done.code, done.stdout.startswith("pruned ")) == (0, True), done
        assert not list(store.paths(NAME).blobs.glob("*.incomplete"))

    def test_a_pull(self, run: Command, hub: Hub, store: StoreBuilder) -> None:
        hub.add(NAME, files=big_model(8 * MIB))
        hub.fault(stall(seconds=60, after=MIB), path="*model.safetensors*", times=None)
        pull = run.start("pull", NAME, "--no-use", env=hub.environ)
        try:
            until(lambda: bool(list(store.paths(NAME).partials.glob("*"))))
            done = run("prune", "--older-than", "0", "--yes")
            assert (done.code, done.stdout) == (0, "nothing to prune\n")
            assert f"`modelctl pull` (pid {pull.pid}) is at work on it" in done.stderr
        finally:
            pull.kill()
            pull.communicate()
        assert run("prune", "--yes").stdout == "nothing to prune\n"
        assert f"`modelctl pull {NAME}` goes on with it" in run("prune", "--yes").stderr
        assert run("prune", "--older-than", "0", "--yes").code == 0
        assert listed(store) == set()


class TestJson:
    def test_the_plan(self, run: Command, littered: StoreBuilder) -> None:
        done = run("prune", "--dry-run", "--json")
        left = littered.paths(NAME).blobs / f"{SHA}.incomplete"
        plan = done.json
        assert list(plan) == ["schema", "hub", "leftovers", "size", "staying"]
        assert plan["leftovers"][1] == {
            "kind": "download",
            "id": NAME,
            "paths": [str(left)],
            "commits": [],
            "size": 12288,
            "modified": plan["leftovers"][1]["modified"],
            "why": "a download by another tool was interrupted",
        }
        assert plan["size"] == sum(each["size"] for each in plan["leftovers"])
        (staying,) = plan["staying"]
        assert (staying["id"], staying["stays"]) == ("acme/half", "`modelctl pull acme/half` goes on with it")

    def test_the_lines(self, run: Command, littered: StoreBuilder) -> None:
        before = disk_use(littered.hub)
        done = run("prune", "--yes", "--json")
        assert (done.code, done.stderr) == (0, "")
        assert done.events[0]["event"] == "plan"
        last = done.events[-1]
        assert (last["event"], last["freed"]) == ("done", before - disk_use(littered.hub))
        assert [left["kind"] for left in last["pruned"]] == ["pull", "download"]
        assert run("prune", "--json").events[-1] == {"schema": 1, "event": "done", "pruned": [], "freed": 0}

    def test_errors(self, run: Command, littered: StoreBuilder) -> None:
        done = run("prune", "--json")
        assert (done.code, done.events[-1]["error"]["kind"]) == (2, "usage")
        assert littered.paths("acme/old").folder.is_dir()


class TestStatus:
    def test_it_tells_of_leftovers_and_the_command(self, run: Command, littered: StoreBuilder) -> None:
        left = _plan(run)
        lines = run("status").stdout.splitlines()
        freed = size(sum(each["size"] for each in left))
        assert f"leftovers  2 that take {freed}, `modelctl prune` frees it" in lines
        assert run("status", "--json").json["leftovers"] == {"count": 2, "size": sum(each["size"] for each in left)}
        assert run("prune", "--yes").code == 0
        assert run("status", "--json").json["leftovers"] == {"count": 0, "size": 0}
        assert "\nleftovers " not in run("status").stdout
        assert littered.paths("acme/half").pull_record.exists()

    def test_old_revisions_are_among_them(self, run: Command, store: StoreBuilder) -> None:
        update(store, "1", "2")
        (left,) = _plan(run, "--revisions")
        line = f"leftovers  1 that takes {size(left['size'])}, `modelctl prune --revisions` frees it"
        assert line in run("status").stdout.splitlines()

    def test_a_payload_of_nobody_and_an_orphan(self, run: Command, store: StoreBuilder) -> None:
        store.add(NAME, files=generator(), lfs={"weights": WEIGHTS}, kind="shared")
        store.add("acme/gone", files=generator(), lfs={"weights": b"gone"}, kind="shared")
        shutil.rmtree(store.paths("acme/gone").folder)
        put(store.paths(NAME).blob(SHA))
        left = _plan(run)
        assert run("status", "--json").json["leftovers"] == {
            "count": len(left),
            "size": sum(each["size"] for each in left),
        }


def _plan(run: Command, *argv: str) -> list[dict[str, Any]]:
    leftovers: list[dict[str, Any]] = run("prune", "--dry-run", "--json", *argv).json["leftovers"]
    return leftovers
