"""Whatever the stores hold and whatever the way: no content is lost, and none comes from nowhere.

Hypothesis lays out two hub folders and migrates between them; the content of both together, as (repository, revision,
file, SHA-256), says whether that was right.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from modelctl.progress import Silence
from modelctl.store import layout, measuring, migration, naming, trash
from modelctl.store.layout import RepoPaths
from modelctl.store.migration import MigrationResult
from modelctl.store.removal import Target
from modelctl.store.route import Mode, Terms
from tests.crashes import Content, held
from tests.stores import Layout

IDS = ("acme/a", "acme/b", "gpt2", "datasets/acme/d")
NAMES = ("config.json", "model.safetensors", "sub/deep/tokenizer.json", "notes ü.txt", "empty")
# Few, so that revisions and models share them. Some lie in LFS, and of these some in the shared store.
CONTENTS = (b"", b"{}", b"weights " * 500, b"other weights " * 700, b"x")
REFS = ("main", "v1", "refs/pr/7")
Damage = str
DAMAGES = ("altered", "cut", "missing", "dangling ref", "half download", "no ref", "full path", "out of the store")


@dataclass(frozen=True)
class Revision:
    """One commit: files as indexes of `CONTENTS`, LFS files by name, the refs that name it."""

    files: dict[str, int]
    lfs: frozenset[str]
    refs: frozenset[str]
    has_tree: bool


@dataclass(frozen=True)
class Repository:
    """One repository of a hub folder, and what is wrong with it."""

    id: str
    kind: Layout
    revisions: tuple[Revision, ...]
    damages: tuple[tuple[Damage, int], ...]


@dataclass(frozen=True)
class World:
    """Two hub folders, and the migration from one to the other."""

    source: tuple[Repository, ...]
    target: tuple[Repository, ...]
    mode: Mode
    where: str
    chosen: tuple[int, ...]
    only_one_revision: bool
    overwrite: bool
    verify: bool


REVISIONS = st.builds(
    Revision,
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, len(CONTENTS) - 1), min_size=1, max_size=4),
    st.frozensets(st.sampled_from(NAMES)),
    st.frozensets(st.sampled_from(REFS), max_size=2),
    st.booleans(),
)
KINDS: st.SearchStrategy[Layout] = st.sampled_from(("links", "shared", "copies"))
DAMAGE = st.tuples(st.sampled_from(DAMAGES), st.integers(0, 20))
REPOSITORIES = st.lists(
    st.builds(
        Repository,
        st.sampled_from(IDS),
        KINDS,
        st.lists(REVISIONS, min_size=1, max_size=3).map(tuple),
        st.lists(DAMAGE, max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda repository: repository.id,
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Two stores of which one has some of what the other has, in its own layout and with damages of its own."""
    source = draw(REPOSITORIES)
    target = []
    for repository in source:
        if draw(st.booleans()):
            of_both = repository.revisions[: draw(st.integers(0, 2))]
            own = draw(st.lists(REVISIONS, min_size=0 if of_both else 1, max_size=1))
            damages = draw(st.lists(DAMAGE, max_size=2))
            target.append(Repository(repository.id, draw(KINDS), (*of_both, *own), tuple(damages)))
    return World(
        tuple(source),
        tuple(target),
        draw(st.sampled_from(("move", "move", "copy", "link", "symlink"))),
        draw(st.sampled_from(("near", "there", "back"))),
        tuple(draw(st.lists(st.integers(0, 2), max_size=2))),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@dataclass
class Laid:
    """A hub folder that was laid out, what each file of it should hold, and where it was damaged."""

    hub: Path
    truth: dict[tuple[str, str, str], str] = field(default_factory=dict)
    has_oddities: bool = False

    def lay_out(self, repositories: tuple[Repository, ...]) -> None:
        self.hub.mkdir(parents=True)
        for repository in repositories:
            paths = paths_of(self.hub, repository.id)
            for revision in repository.revisions:
                self._commit(paths, repository, revision)
        for repository in repositories:
            for damage, at in repository.damages:
                self._damage(paths_of(self.hub, repository.id), damage, at)

    def _commit(self, paths: RepoPaths, repository: Repository, revision: Revision) -> None:
        listing, names = {}, {}
        for name, at in sorted(revision.files.items()):
            content = CONTENTS[at]
            sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            listing[name] = {"size": len(content), "blob_id": sha1}
            names[name] = sha1
            if name in revision.lfs:
                names[name] = hashlib.sha256(content).hexdigest()
                listing[name] |= {"lfs_sha256": names[name], "lfs_size": len(content)}
        commit = measuring.commit_id(names)
        for name, digest in names.items():
            content = CONTENTS[revision.files[name]]
            self.truth[paths.folder.name, commit, name] = hashlib.sha256(content).hexdigest()
            entry = paths.entry(commit, name)
            entry.parent.mkdir(parents=True, exist_ok=True)
            if entry.is_symlink() or entry.exists():
                continue
            if repository.kind == "copies":
                entry.write_bytes(content)
                continue
            entry.symlink_to(layout.link_target(name, digest))
            self._blob(paths, digest, content, is_shared=repository.kind == "shared" and name in revision.lfs)
        paths.refs.mkdir(exist_ok=True)
        for ref in revision.refs:
            paths.ref(ref).parent.mkdir(parents=True, exist_ok=True)
            paths.ref(ref).write_text(commit)
        if revision.has_tree:
            paths.tree(commit).parent.mkdir(exist_ok=True)
            paths.tree(commit).write_text(json.dumps({"format_version": 1, "files": listing}))

    def _blob(self, paths: RepoPaths, digest: str, content: bytes, *, is_shared: bool) -> None:
        blob = paths.blob(digest)
        blob.parent.mkdir(exist_ok=True)
        if blob.is_symlink() or blob.exists():
            return
        if not is_shared:
            blob.write_bytes(content)
            return
        shared = layout.shared_blobs(self.hub)
        shared.mkdir(exist_ok=True)
        (shared / layout.SHARED_MARKER).write_text("1\n")
        xet = hashlib.blake2s(digest.encode()).hexdigest()
        payload = shared / xet[:2] / xet
        payload.parent.mkdir(exist_ok=True)
        if not payload.exists():
            payload.write_bytes(content)
        blob.symlink_to(f"../../blobs/{xet[:2]}/{xet}")
        with payload.with_name(f"{xet}.refs").open("a") as refs:
            refs.write(f"{paths.folder.name}/blobs/{digest}\n")

    def _damage(self, paths: RepoPaths, damage: Damage, at: int) -> None:
        entries = sorted(path for path in paths.snapshots.rglob("*") if path.is_file())
        named = sorted(path for path in paths.refs.rglob("*") if path.is_file())
        commits = sorted(paths.snapshots.iterdir())
        match damage:
            case "altered" | "cut" if entries:
                content = entries[at % len(entries)].resolve()
                data = content.read_bytes()
                content.write_bytes(data[:-1] if damage == "cut" else bytes(len(data)))
            case "missing" if entries:
                entries[at % len(entries)].resolve().unlink()
                self.has_oddities = True
            case "dangling ref":
                (paths.refs / "gone").write_text("f" * 40)
                self.has_oddities = True
            case "no ref" if named:
                named[at % len(named)].unlink()
            case "half download":
                paths.blobs.mkdir(exist_ok=True)
                (paths.blobs / f"{'a' * 64}.12345678.incomplete").write_bytes(b"half")
            case "full path" if entries and entries[at % len(entries)].is_symlink():
                entry = entries[at % len(entries)]
                target = Path(entry.parent / entry.readlink()).absolute()
                entry.unlink()
                entry.symlink_to(target.parent.resolve() / target.name)
            case "out of the store":
                outside = self.hub.parent / "outside.txt"
                outside.write_text("outside")
                entry = commits[at % len(commits)] / "outside.txt"
                if not entry.is_symlink():
                    entry.symlink_to(os.path.relpath(outside, entry.parent) if at % 2 else outside)
                self.truth[paths.folder.name, entry.parent.name, entry.name] = hashlib.sha256(b"outside").hexdigest()


def paths_of(hub: Path, id_: str) -> RepoPaths:
    if id_.startswith("datasets/"):
        return RepoPaths(hub, id_, f"datasets--{id_.removeprefix('datasets/').replace('/', '--')}")
    return RepoPaths(hub, id_)


def chosen(world: World, hub: Path) -> list[Target]:
    """The models that are named, all where none is, and of each all revisions or one."""
    names = sorted({world.source[at % len(world.source)].id for at in world.chosen} if world.source else ())
    if not names:
        return naming.all_targets(hub, datasets=True)
    targets = naming.targets(hub, names, parts=False, datasets=True)
    if not world.only_one_revision:
        return targets
    return [Target(target.paths, (min(path.name for path in target.paths.snapshots.iterdir()),)) for target in targets]


def state(hub: Path) -> dict[str, bytes | str | None]:
    """All that lies in a hub folder but locks: what a copy leaves as it is."""
    found: dict[str, bytes | str | None] = {}
    for path in hub.rglob("*"):
        name = path.relative_to(hub)
        if name.parts[0] != ".locks" and path.suffix != ".lock":
            found[str(name)] = (
                str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            )
    return found


def refs(hub: Path) -> dict[tuple[str, str], str]:
    return {
        (folder.name, str(path.relative_to(folder / "refs"))): path.read_text()
        for folder in hub.glob("*--*")
        for path in (folder / "refs").rglob("*")
        if path.is_file()
    }


def check(world: World, base: Path, far: Path) -> None:
    """Lay out, migrate, compare."""
    source = Laid((base if world.where == "there" else far) / "from" / "hub")
    target = Laid((base if world.where == "back" else far) / "to" / "hub")
    for laid, repositories_ in ((source, world.source), (target, world.target)):
        laid.lay_out(repositories_)
    truth = {**source.truth, **target.truth}
    before, there, kept = held(source.hub, target.hub), held(source.hub), state(source.hub)
    named_before = (refs(source.hub), refs(target.hub))
    targets = chosen(world, source.hub)
    names = {wanted.paths.folder.name for wanted in targets}
    terms = Terms(world.mode, overwrite=world.overwrite, verify=world.verify)

    planned = migration.plan(source.hub, target.hub, targets, terms=terms)
    assert (held(source.hub, target.hub), state(source.hub)) == (before, kept), "a plan changes nothing"
    result = migration.execute(planned, Silence())

    after = held(source.hub, target.hub)
    keys = {content[:3] for content in after}
    for content in before:
        is_true = truth[content[:3]] == content[3]
        assert content in after if is_true else content[:3] in keys, f"lost: {content}"
    for content in after - before:
        assert truth[content[:3]] == content[3], f"from nowhere: {content}"
    assert {one for one in there if one[0] not in names} <= held(source.hub), "the others stay whole"
    check_each(world, result, there, source.hub, target.hub)
    check_refs(world, result, named_before, target.hub)
    if terms.keeps:
        assert state(source.hub) == kept, "a copy leaves the source as it is"
    # Of a folder that is a link huggingface_hub reads relative links as if they lay where the link is.
    check_tidy(source, target, is_whole=not result.failures and world.mode != "symlink")
    again = migration.execute(migration.plan(source.hub, target.hub, still(targets), terms=terms), Silence())
    check_once_more(result, truth, after, held(source.hub, target.hub))
    assert {failure.id for failure in again.failures} <= {failure.id for failure in result.failures}


def check_once_more(
    result: MigrationResult, truth: dict[tuple[str, str, str], str], after: set[Content], now: set[Content]
) -> None:
    """The same once more changes nothing but what came short: threads bring its files, until one fails."""
    failed = {paths_of(Path(), failure.id).folder.name for failure in result.failures}
    assert {one[0] for one in after ^ now} <= failed, "the same once more changes nothing"
    assert {one[:3] for one in after} == {one[:3] for one in now}
    assert all(truth[one[:3]] != one[3] for one in after - now), "only what was damaged gives way"


def still(targets: list[Target]) -> list[Target]:
    """Those targets of which the source still has something."""
    return [
        target
        for target in targets
        if target.paths.snapshots.is_dir()
        and all((target.paths.snapshots / commit).is_dir() for commit in target.revisions)
    ]


def check_each(world: World, result: MigrationResult, there: set[Content], source: Path, target: Path) -> None:
    """What came is in the target, and in the source only where it was to stay; what did not is where it was."""
    here, left = held(target), held(source)
    for moved in result.moved:
        folder, commits = moved.move.source.folder.name, set(moved.move.commits)
        came = {one for one in there if one[0] == folder and one[1] in commits}
        assert {one[:3] for one in came} <= {one[:3] for one in here}
        assert (came <= left) if world.mode != "move" else not {one for one in left if one in came}
    for failure in result.failures:
        folder = paths_of(source, failure.id).folder.name
        assert {one for one in there if one[0] == folder} <= left


def check_refs(
    world: World, result: MigrationResult, before: tuple[dict[tuple[str, str], str], ...], target: Path
) -> None:
    """A name that came means what it meant in the source, or in the target, as was asked for."""
    theirs, mine = before
    now = refs(target)
    for moved in result.moved:
        folder = moved.move.target.folder.name
        had = {path.name for path in (target / folder / "snapshots").iterdir()}
        for (its, name), commit in theirs.items():
            if its != folder or commit not in moved.move.commits:
                continue
            old = mine.get((folder, name))
            stays = old is not None and old in had and not world.overwrite
            assert now[folder, name] == (old if stays else commit), (folder, name)
            assert (name in moved.move.refs_kept) == (stays and old != commit)
        kept = {name for its, name in mine if its == folder}
        assert kept <= {name for its, name in now if its == folder}


def check_tidy(source: Laid, target: Laid, *, is_whole: bool) -> None:
    """No leftover, no payload without a user, and huggingface_hub finds nothing wrong that was not so before."""
    for hub in (source.hub, target.hub):
        assert trash.leftovers(hub) == ()
        assert not [path for path in hub.glob("*--*/.modelctl/*") if path.name == "incoming"]
    used = {str(blob.readlink()) for blob in source.hub.glob("*--*/blobs/*") if blob.is_symlink()}
    payloads = [path for path in layout.shared_blobs(source.hub).glob("[0-9a-f][0-9a-f]/*") if not path.suffix]
    assert {f"../../blobs/{path.parent.name}/{path.name}" for path in payloads} <= used
    if is_whole and not (source.has_oddities or target.has_oddities):
        assert not scan_cache_dir(target.hub).warnings


def fresh(*folders: Path) -> Callable[[], tuple[Path, ...]]:
    """A maker of new folders below others, which are taken away with the next call."""
    numbers = itertools.count()
    made: list[Path] = []

    def make() -> tuple[Path, ...]:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        made[:] = [folder / str(next(numbers)) for folder in folders]
        return tuple(made)

    return make


@pytest.fixture
def make(tmp_path: Path, elsewhere: Path) -> Callable[[], tuple[Path, ...]]:
    return fresh(tmp_path, elsewhere)


@settings(max_examples=30)
@given(world=worlds())
def test_content_stays(make: Callable[[], tuple[Path, ...]], world: World) -> None:
    check(world, *make())


@pytest.mark.sweep
@settings(max_examples=600)
@given(world=worlds())
def test_content_stays_in_many_worlds(make: Callable[[], tuple[Path, ...]], world: World) -> None:
    check(world, *make())
