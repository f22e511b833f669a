"""A migration killed before any of its changes: nothing is lost, nothing looks whole and is not, and it can go on."""

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from modelctl.store import scan, trash
from tests.command import Command
from tests.crashes import Content, Crashes, Killed, held, spread
from tests.second_opinion import accepted, loads
from tests.stores import Layout, StoreBuilder

HF = Path(sys.executable).parent / "hf"
WEIGHTS = {"model.safetensors": b"w" * 300_000}
FLAGS = {"move": "--yes", "copy": "--copy", "link": "--hard-link", "symlink": "--symbolic-link"}


@dataclass(frozen=True)
class Case:
    """One way of migrating `acme/one`, whose weights `acme/two` has too."""

    mode: str
    place: str
    kind: Layout = "links"
    merges: bool = False
    revision: str | None = None

    def __str__(self) -> str:
        parts = (self.mode, self.place, self.kind, "merge" if self.merges else "", "one" if self.revision else "")
        return " ".join(part for part in parts if part)


# Of these the plain run takes some kills, and the sweep every one.
PLAIN = (
    Case("move", "near", "shared"),
    Case("move", "far", "shared", merges=True),
    Case("move", "near", merges=True),
    Case("link", "near", "shared"),
)
WHOLE = (
    Case("move", "near"),
    Case("move", "near", "shared", revision="v1"),
    Case("copy", "near", "shared", merges=True),
    Case("copy", "far", "shared"),
    Case("symlink", "near", "shared"),
    Case("symlink", "far"),
)
# Of these the sweep takes some.
OTHERS = (
    Case("move", "near", "copies"),
    Case("move", "near", "shared", merges=True),
    Case("move", "far"),
    Case("move", "far", "shared"),
    Case("move", "far", "copies"),
    Case("move", "far", "links", merges=True),
    Case("move", "far", "links", revision="v1"),
    Case("copy", "near", "links"),
    Case("copy", "far", "copies"),
    Case("link", "near", "links", merges=True),
    Case("link", "near", "copies"),
)
CASES = [pytest.param(case, 3, id=f"{case}, some") for case in PLAIN]
CASES += [pytest.param(case, None, id=str(case), marks=pytest.mark.sweep) for case in (*PLAIN, *WHOLE)]
CASES += [pytest.param(case, 16, id=str(case), marks=pytest.mark.sweep) for case in OTHERS]


@pytest.mark.parametrize(("case", "count"), CASES)
def test_anywhere(
    cache: StoreBuilder, run: Command, case: Case, count: int | None, request: pytest.FixtureRequest
) -> None:
    near = case.place == "near"
    there = StoreBuilder(request.getfixturevalue("project" if near else "elsewhere") / "models" / "hub")

    def prepare() -> None:
        for builder in (cache, there):
            shutil.rmtree(builder.hub, ignore_errors=True)
        files = {"config.json": '{"a": 1}', "folder/same": "same"}
        if case.revision:
            cache.add("acme/one", files={"config.json": "old"}, lfs=WEIGHTS, kind=case.kind, revision=case.revision)
        cache.add("acme/one", files=files, lfs=WEIGHTS, kind=case.kind)
        cache.add("acme/two", files={"config.json": "2"}, lfs=WEIGHTS, kind=case.kind)
        there.hub.mkdir(parents=True, exist_ok=True)
        if case.merges:
            there.add("acme/one", files={"config.json": "0", "same": "same"}, revision="v0")

    prepare()
    before, theirs = held(cache.hub, there.hub), held(cache.hub)
    moved = {one for one in theirs if one[0] == "models--acme--one"}
    if case.revision:
        commit = cache.paths("acme/one").ref(case.revision).read_text()
        moved = {one for one in moved if one[1] == commit}
    ours = held(there.hub) | moved
    name = f"acme/one@{case.revision}" if case.revision else "acme/one"
    argv = ("migrate", "--from-cache", name, FLAGS[case.mode], "--models-dir", there.hub.parent)
    crashes = Crashes(run, roots=(cache.hub, there.hub), may_vary=True)
    for killed in crashes.each(*argv, prepare=prepare, count=count):
        assert held(cache.hub, there.hub) == before, killed
        check_readable(run, (cache, there), killed, before)
        done = run(*argv)
        assert done.code == 0, (killed, done)
        # All that was left to do may have been to free what the source had let go of.
        is_gone = "any more" in done.stdout
        assert held(there.hub) == ours, killed
        assert held(cache.hub) == (theirs - moved if case.mode == "move" else theirs), killed
        assert set(accepted(there.hub)) == {"acme/one"}, killed
        assert accepted(cache.hub), killed
        loads(there.hub, "acme/one", case.revision or "main")
        loads(cache.hub, "acme/two")
        assert not there.paths("acme/one").private.exists(), killed
        # At the very end nothing is left by which the model could be known, but an empty folder or two.
        assert is_gone or not [*trash.leftovers(there.hub), *trash.leftovers(cache.hub)], killed


def check_readable(run: Command, builders: Iterable[StoreBuilder], killed: Killed, before: set[Content]) -> None:
    """Both stores can be listed, and what another tool would take for whole is whole."""
    for builder in builders:
        if not builder.hub.exists():
            continue
        assert scan.scan_hub(builder.hub, "project") is not None
        scan_cache_dir(builder.hub)
        for snapshot in builder.hub.glob("models--*/snapshots/*"):
            mine = {one for one in before if one[:2] == (snapshot.parent.parent.name, snapshot.name)}
            assert {one for one in held(builder.hub) if one[:2] == (snapshot.parent.parent.name, snapshot.name)} >= mine
        for ref in builder.hub.glob("models--*/refs/*"):
            assert (ref.parent.parent / "snapshots" / ref.read_text()).is_dir(), killed
        # The commands themselves, from time to time: what they ask is what was asked above.
        if killed.number in spread(killed.total, 3)[1:2] or killed.number % 10 == 0:
            listed = run("list", "--json", "--models-dir", builder.hub.parent)
            assert listed.code == 0, (killed, listed)
            seen = run.program([HF, "cache", "ls"], env={"HF_HUB_CACHE": str(builder.hub)})
            assert (seen.code, "WARNING" in seen.stderr) == (0, False), (killed, seen)
