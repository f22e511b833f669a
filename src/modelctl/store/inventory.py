"""One repository folder as a `Model`: what was read of it, put together and judged."""

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from modelctl.ref import is_model_id
from modelctl.store import condition, contents, ownership
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.contents import Content, Contents, Oddity, Place, Snapshot
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Extent, Facts, Location, Model, Problem, Revision, StoredFile


def take(place: Place, paths: RepoPaths, location: Location) -> Model | None:
    """The model of a repository folder, in whatever condition; `None` where it is not there, or no longer."""
    folder = paths.folder
    try:
        mode = os.lstat(folder).st_mode
    except OSError:
        return None
    if stat.S_ISLNK(mode) and (elsewhere := _elsewhere(paths)) is not None:
        there = take(contents.place(str(elsewhere.hub)), elsewhere, location)
        return there and there._replace(path=folder)
    if not stat.S_ISDIR(mode):
        return _no_folder(paths, location)
    found = contents.read(place, folder.name)
    revisions = _revisions(found)
    seen = condition.assess(paths, found, revisions, location)
    extent, shared = _sizes(place, found)
    oddities = tuple(_told(oddity, paths) for oddity in found.oddities)
    owners = tuple(ownership.of_folder(folder, found.owners)) if location == "project" else ()
    return Model(
        id=paths.id,
        location=location,
        path=folder,
        state=seen.state,
        servable=seen.description.servable,
        size=extent.size,
        allocated=extent.allocated,
        done=seen.done,
        total=seen.total,
        revisions=revisions,
        modified=_modified(found),
        used=_used(found, seen.checkpoint) if place.keeps_atime else None,
        facts=seen.description.facts,
        problems=(*_name_problems(paths), *oddities, *seen.problems, *owners),
        shared=shared,
    )


def _elsewhere(paths: RepoPaths) -> RepoPaths | None:
    """The repository folder of the same name in another hub folder that a link in its place leads to."""
    real = Path(os.path.realpath(paths.folder))
    if real.name != paths.folder.name or not real.is_dir():
        return None
    return RepoPaths(real.parent, paths.id, paths.found)


def _no_folder(paths: RepoPaths, location: Location) -> Model:
    what = "is a file where a folder should be"
    if paths.folder.is_symlink():
        what = f"is a link to `{paths.folder.readlink()}`, where no such model is"
    problem = Problem("misplaced", f"`{paths.folder.name}` {what}", _rm(paths))
    return Model(paths.id, location, paths.folder, "broken", None, 0, 0, 0, None, (), None, None, Facts(), (problem,))


def _revisions(found: Contents) -> tuple[Revision, ...]:
    """The revisions, newest first."""
    refs: dict[str, list[str]] = {}
    for name, commit in sorted(found.refs.items()):
        refs.setdefault(commit, []).append(name)
    revisions = [
        (_newest(snapshot), commit, _revision(commit, snapshot, tuple(refs.get(commit, ()))))
        for commit, snapshot in found.snapshots.items()
    ]
    return tuple(revision for _, _, revision in sorted(revisions, key=lambda one: (-one[0], one[1])))


def _revision(commit: str, snapshot: Snapshot, refs: tuple[str, ...]) -> Revision:
    files = tuple(
        StoredFile(
            name,
            f"{snapshot.path}/{name}",
            None if content is None else content.path,
            None if content is None else content.status.st_size,
        )
        for name, content in sorted(snapshot.entries.items())
    )
    there = {content.path: content.status.st_size for content in snapshot.entries.values() if content is not None}
    return Revision(commit, Path(snapshot.path), refs, files, sum(there.values()), moment(_newest(snapshot)))


def _sizes(place: Place, found: Contents) -> tuple[Extent, dict[tuple[int, int], Extent]]:
    """What is whole, and what the disk spends on it and on unfinished contents; one inode counts once.

    And those of the contents that other models may have too: payloads of the store, and what has a second name.
    """
    inodes: dict[tuple[int, int], Extent] = {}
    shared: dict[tuple[int, int], Extent] = {}
    payloads = f"{place.real}/blobs/"
    for path, status in _contents(found):
        inode = status.st_dev, status.st_ino
        inodes[inode] = extent = Extent(status.st_size, status.st_blocks * 512)
        if status.st_nlink > 1 or path.startswith(payloads):
            shared[inode] = extent
    unfinished = sum(status.st_blocks for status in found.unfinished.values()) * 512
    size = sum(extent.size for extent in inodes.values())
    return Extent(size, unfinished + sum(extent.allocated for extent in inodes.values())), shared


def _contents(found: Contents) -> Iterator[Content]:
    yield from found.blobs.values()
    for snapshot in found.snapshots.values():
        yield from (content for content in snapshot.entries.values() if content is not None)


def _modified(found: Contents) -> datetime | None:
    times = [content.status.st_mtime for content in _contents(found)]
    times += [snapshot.modified for snapshot in found.snapshots.values()]
    times += [status.st_mtime for status in found.unfinished.values()]
    return moment(max(times, default=0.0))


def _newest(snapshot: Snapshot) -> float:
    times = (content.status.st_mtime for content in snapshot.entries.values() if content is not None)
    return max((snapshot.modified, *times))


def _used(found: Contents, checkpoint: Checkpoint | None) -> datetime | None:
    """When weights were last read, as far as the mount keeps count of it."""
    if checkpoint is None:
        return None
    entries: Mapping[str, Content | None] = found.snapshots[checkpoint.revision.commit].entries
    weights = [content for name in checkpoint.selection.weights if (content := entries.get(name)) is not None]
    return moment(max((content.status.st_atime for content in weights), default=0.0))


def moment(seconds: float) -> datetime | None:
    """A time of the file system; one that no calendar has is none."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (OverflowError, OSError, ValueError):
        return None


def _name_problems(paths: RepoPaths) -> Iterator[Problem]:
    if not is_model_id(paths.id):
        yield Problem("name", f"`{paths.folder.name}` is a folder that no model's name gives", _rm(paths))


def _told(oddity: Oddity, paths: RepoPaths) -> Problem:
    shown = os.path.relpath(oddity.path, paths.folder)
    match oddity.kind:
        case "unreadable":
            fix: str | None = ownership.fix(paths.folder)
        case "ref":
            fix = condition.pull_command(paths)
        case _:
            fix = f"rm {shlex.quote(oddity.path)}"
    return Problem(oddity.kind, f"`{paths.folder.name if shown == '.' else shown}` {oddity.what}", fix)


def _rm(paths: RepoPaths) -> str:
    # A folder may be called what reads as an option.
    dashes = "-- " if paths.id.startswith("-") else ""
    return f"modelctl rm {dashes}{shlex.quote(paths.id)}"
