"""Taking a model, or revisions of it, out of a store: set aside first, freed afterwards.

A whole model goes by one rename. Of a model that stays, refs go first, then the snapshot, then the blobs that nothing
else names. What was set aside tells what is still to do: whoever is killed in between leaves something that no tool
lists, and the next removal finishes it.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from modelctl.errors import BusyError, ModelctlError, NotAllowedError
from modelctl.store import changes, deletion, downloads, layout, links, lock, pulls, shared, trash, tree
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Links
from modelctl.store.trash import Aside


@dataclass(frozen=True, slots=True)
class Failure:
    """A model of which something could not be done."""

    id: str
    error: ModelctlError


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What came of the leftovers of interrupted removals."""

    freed: int
    failures: tuple[Failure, ...]


def exists(path: Path) -> bool:
    """Whether something has this name, be it a link that leads nowhere."""
    return os.path.lexists(path)


def set_model_aside(paths: RepoPaths) -> Aside:
    """Take a whole model out of sight, its locks with it. The caller holds its lock."""
    aside = trash.set_aside(paths.hub, paths.folder)
    downloads.discard_locks(paths)
    return aside


def set_revisions_aside(paths: RepoPaths, commits: Iterable[str], refs: Iterable[str]) -> Aside:
    """Take revisions out of sight with all that is theirs alone. The caller holds the model's lock.

    Blobs go only once no entry that a tool could open leads to them any more.
    """
    aside = trash.open_parts(paths.hub, paths.folder.name)
    commits = tuple(commits)
    for name in refs:
        trash.put(aside, paths.folder, paths.ref(name))
    for commit in commits:
        for part in parts(paths, commit):
            trash.put(aside, paths.folder, part)
    pull = pulls.record(paths)
    if pull is not None and pull.commit in commits:
        for part in pull_parts(paths):
            trash.put(aside, paths.folder, part)
    _put_unused_blobs(aside, paths)
    changes.tidy(paths)
    return aside


def parts(paths: RepoPaths, commit: str) -> list[Path]:
    """What is there of one revision alone, beside its refs and blobs."""
    every = (paths.snapshot(commit), paths.tree(commit), paths.folder / ".no_exist" / commit, paths.standing(commit))
    return [part for part in every if exists(part)]


def pull_parts(paths: RepoPaths) -> list[Path]:
    """What is there of a pull that did not come to its end, beside the blobs that it has brought."""
    return [part for part in (paths.pull_record, paths.partials) if exists(part)]


def unused(there: Links, commits: Iterable[str]) -> set[str]:
    """The blobs that these commits name and nothing that stays does."""
    commits = set(commits)
    going = {digest for commit in commits for digest in links.digests(there.snapshots.get(commit, ()))}
    return going - used(there, commits)


def finish(hub: Path, aside: Aside, tell: Callable[[int], None], *, users: shared.Users | None = None) -> int:
    """Free what was set aside, and shared payloads that nobody else uses. Returns the bytes that the disk got back.

    Payloads go first: an entry that is still there says which ones are to be looked at. `users` are those of the
    payloads, where the caller has looked already; then it is for him to `shared.trim` their lists at the end.
    """
    freed = 0
    try:
        # A model's folder may be a link to anywhere: what is behind it is nobody's to free.
        contents = deletion.children(aside.path) if deletion.is_folder(aside.path) else []
        deletion.open_up(aside.path / "blobs")
        payloads = set(shared.payloads(hub, shared.links_in(aside.path / "blobs")).values()) if contents else set()
    except OSError as exc:
        raise changes.translated(exc, doing="look into") from exc
    for named in payloads:
        found = users or shared.users(hub)
        freed += shared.release(hub, named, found, trims=users is None) or 0
        tell(freed)
    # The refs last: as long as they are there, the same command is understood once more.
    for part in (*sorted(contents, key=lambda part: part.name == "refs"), aside.path):
        before = freed
        result = deletion.delete(part, lambda size, before=before: tell(before + size))  # type: ignore[misc]
        freed += result.size
        if result.failures:
            first = result.failures[0]
            raise NotAllowedError(
                f"`{first.filename}` cannot be deleted: {first.strerror}",
                hint=f"`sudo rm -rf {aside.path}` frees it; nothing lists it any more",
                freed=freed,
            )
    return freed


def finish_leftovers(hub: Path, tell: Callable[[int], None]) -> Leftovers:
    """Free what interrupted removals have left; of a model that is in use, the next removal does it."""
    freed = 0
    failures = []
    for aside in trash.leftovers(hub):
        before = freed
        try:
            with contextlib.suppress(BusyError):
                if aside.is_parts:
                    _take_up(hub, aside)
                freed += finish(hub, aside, lambda size, before=before: tell(before + size))  # type: ignore[misc]
        except ModelctlError as error:
            failures.append(Failure(layout.model_id(aside.name) or aside.name, error))
    trash.empty(hub)
    return Leftovers(freed, tuple(failures))


def _take_up(hub: Path, aside: Aside) -> None:
    """Bring in the blobs that an interrupted removal of revisions had not come to."""
    paths = RepoPaths(hub, layout.repository_id(aside.name) or aside.name, aside.name)
    if paths.folder.is_dir():
        with lock.held(paths, "rm"):
            _put_unused_blobs(aside, paths)


def _put_unused_blobs(aside: Aside, paths: RepoPaths) -> None:
    """Set those blobs aside that the revisions in `aside` name and nothing in the model does."""
    there = links.read(paths)
    if there.unreadable:
        raise NotAllowedError(
            f"`{there.unreadable[0]}` cannot be read, so nobody can tell which blobs are still in use",
            hint=f"`sudo chown -R $(id -u):$(id -g) {paths.folder}` makes it yours, if it should be",
        )
    gone = links.read(aside.paths)
    going = {digest for entries in gone.snapshots.values() for digest in links.digests(entries)}
    for digest in sorted(going - used(there)):
        if exists(paths.blob(digest)) and not there.paths.blobs.is_symlink():
            trash.put(aside, paths.folder, paths.blob(digest))


def used(there: Links, going: Iterable[str] = (), *, with_pull: bool = True) -> set[str]:
    """The blobs that other revisions name than those that go, and those that an interrupted pull of one has brought.

    Without `with_pull` the pull is one that will not go on.
    """
    gone = set(going)
    named = {
        digest for commit, entries in there.snapshots.items() if commit not in gone for digest in links.digests(entries)
    }
    pull = pulls.record(there.paths) if with_pull else None
    if pull is not None and pull.commit not in gone:
        named |= {file.digest for file in (tree.read(there.paths, pull.commit) or {}).values()}
    return named
