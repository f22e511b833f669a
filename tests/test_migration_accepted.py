"""What the real huggingface_hub makes of migrated models: it finds them offline, and all their hashes are right."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import Command
from tests.hub.loopback import Hub
from tests.second_opinion import accepted, loads
from tests.stores import Files, Layout, StoreBuilder, tiny_model

HF = Path(sys.executable).parent / "hf"
NAME = "acme/tiny"
FILES: Files = {**tiny_model(), "folder/deep.json": "{}"}
OLD: Files = {"config.json": "old", "model.safetensors": b"old" * 1000}


@dataclass(frozen=True)
class Case:
    """One way that a model comes to the project."""

    flag: str
    place: str
    kind: Layout
    merges: bool = False

    def __str__(self) -> str:
        return f"{self.flag[2:]} {self.place} {self.kind}{' merge' if self.merges else ''}"


# The plain run takes the first two.
FIRST = (Case("--yes", "near", "shared"), Case("--yes", "far", "copies", merges=True))
CASES = [
    *FIRST,
    *(
        Case(flag, place, kind, merges)
        for flag in ("--yes", "--copy", "--hard-link", "--symbolic-link")
        for place in ("near", "far")
        for kind in ("links", "shared", "copies")
        for merges in (False, True)
        if not (flag == "--hard-link" and place == "far") and not (flag == "--symbolic-link" and merges)
        if Case(flag, place, kind, merges) not in FIRST
    ),
]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=str(case), marks=[pytest.mark.sweep] * (at > 1)) for at, case in enumerate(CASES)]
)
def test_every_way(run: Command, hub: Hub, cache: StoreBuilder, case: Case, request: pytest.FixtureRequest) -> None:
    models: Path = request.getfixturevalue("project" if case.place == "near" else "elsewhere") / "models"
    there = StoreBuilder(models / "hub")
    commits = {hub.add(NAME, files=OLD, revision="v0"), hub.add(NAME, files=FILES)}
    new = cache.add(NAME, files=FILES, kind=case.kind)
    if case.merges:
        there.add(NAME, files=OLD, revision="v0")
    done = run("migrate", "--from-cache", case.flag, "--models-dir", models)
    assert done.code == 0, done

    assert accepted(there.hub) == {NAME: commits if case.merges else {new}}
    env = {**hub.environ, "HF_HUB_CACHE": str(there.hub)}
    for revision in ("main", "v0") if case.merges else ("main",):
        loads(there.hub, NAME, revision)
        strict = ("--fail-on-missing-files", "--fail-on-extra-files")
        seen = run.program([HF, "cache", "verify", NAME, "--revision", revision, *strict], env=env)
        assert seen.code == 0, seen
    # Online it is asked what there is, and nothing is fetched.
    assert run.program([HF, "download", NAME], env=env).code == 0
    assert not [asked for asked in hub.asked if asked.method == "GET" and "/resolve/" in asked.path]
