"""A store full of malformed models: every command survives it, tells the truth, and leaves good neighbours alone."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkpoints import generator
from tests.command import Command, Finished
from tests.crashes import spread
from tests.menagerie import KINDS, Animal
from tests.stores import Layout, StoreBuilder

NEIGHBOURS: Mapping[str, Layout] = {"acme/links": "links", "acme/shared": "shared", "acme/copies": "copies"}
# The plain run has so many kinds, spread over them all.
SAMPLE = 24


@dataclass(frozen=True)
class Zoo:
    """A store with an animal of each kind, among good models."""

    store: StoreBuilder
    animals: Mapping[str, Animal]

    def image(self) -> dict[str, str]:
        """The neighbours, byte for byte."""
        folders = [self.store.paths(name).folder for name in NEIGHBOURS] + [self.store.hub / "blobs"]
        return {str(path): _told(path) for folder in folders for path in sorted(folder.rglob("*"))}


def _told(path: Path) -> str:
    if path.is_symlink():
        return f"-> {os.readlink(path)}"  # noqa: PTH115 - as it is written
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


def make_zoo(store: StoreBuilder, kinds: Sequence[str]) -> Zoo:
    for name, kind in NEIGHBOURS.items():
        store.add(name, files=generator(), lfs={"model.onnx": name}, kind=kind)
    animals = {what: KINDS[what].make(store, f"zoo/kind-{at:03}") for at, what in enumerate(kinds)}
    return Zoo(store, animals)


def states(run: Command) -> dict[str, str]:
    return {model["id"]: model["state"] for model in calm(run("list", "--json")).json["models"]}


def calm(done: Finished, code: int | None = 0) -> Finished:
    """What ended as it should, whatever it met."""
    assert "Traceback" not in done.stderr, done.stderr
    assert code is None or done.code == code, done
    return done


def look(run: Command, zoo: Zoo) -> None:
    """The commands that look at all of it."""
    expected = {animal.id: KINDS[what].state for what, animal in zoo.animals.items()}
    told = states(run)
    wrong = {
        what: (KINDS[what].state, told.get(animal.id))
        for what, animal in zoo.animals.items()
        if told.get(animal.id) != expected[animal.id]
    }
    assert not wrong
    assert {told[name] for name in NEIGHBOURS} == {"ready"}
    calm(run("list"))
    calm(run("list", "--revisions", "--sort", "size", "--filter", "size>0"))
    calm(run("status", "--json"))
    calm(run("status", "--check"), code=1)
    calm(run("prune", "--dry-run", "--json", "--revisions"))
    verified = {
        one["id"]: one for one in calm(run("verify", "--all", "--json"), code=6).events[-1]["error"]["verified"]
    }
    assert {verified[name]["state"] for name in NEIGHBOURS} == {"whole"}


def test_a_sample(run: Command, store: StoreBuilder) -> None:
    kinds = list(KINDS)
    zoo = make_zoo(store, [kinds[at - 1] for at in spread(len(kinds), SAMPLE)])
    before = zoo.image()
    look(run, zoo)
    calm(run("rm", "zoo/*", "--dry-run"))
    calm(run("rm", "zoo/*", "--yes"))
    assert set(states(run)) == set(NEIGHBOURS)
    assert zoo.image() == before


@pytest.mark.sweep
class TestAll:
    def test_what_looks_at_all_of_them(self, run: Command, store: StoreBuilder) -> None:
        zoo = make_zoo(store, list(KINDS))
        before = zoo.image()
        look(run, zoo)
        assert zoo.image() == before

    @pytest.mark.parametrize("part", range(8))
    def test_each_by_itself(self, run: Command, store: StoreBuilder, part: int) -> None:
        zoo = make_zoo(store, list(KINDS)[part::8])
        before = zoo.image()
        for what, animal in zoo.animals.items():
            code = 3 if KINDS[what].state is None else 0
            shown = calm(run("show", animal.id, "--json"), code=code)
            if code == 0:
                assert shown.json["model"]["state"] == KINDS[what].state
                assert calm(run("verify", animal.id), code=None).code in {0, 6}, what
            calm(run("rm", animal.id, "--dry-run"), code=code)
            calm(run("rm", animal.id, "--yes"), code=code)
            assert not os.path.lexists(animal.paths.folder), what
        assert set(states(run)) == set(NEIGHBOURS)
        assert zoo.image() == before
