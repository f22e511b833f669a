"""Writing a revision out as a plain folder: plan, execute.

Each file is brought aside, proven by its hash, and gets its name by one rename: what has its name is whole.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl.errors import ModelctlError, NoRoomError, NotFoundError, NotWholeError, UsageError
from modelctl.progress import Progress
from modelctl.ref import ModelRef
from modelctl.store import (
    bringing,
    changes,
    checkpoint,
    copying,
    deletion,
    disk,
    layout,
    links,
    lock,
    proof,
    tree,
    wholeness,
)
from modelctl.store.bringing import Way
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Model, Revision

# What is being written lies here, inside of the folder, so that it gets its name by a rename.
ASIDE = ".modelctl-export"
_MARGIN = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file: where its content lies, the hash that it has to have (empty where nothing tells), whether it is there.

    `is_there`: the folder has it already, with this content.
    """

    name: str
    source: Path
    size: int
    digest: str
    is_there: bool


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What an export will do. `overwritten` are names in the folder that have other content now.

    `free` are bytes on the folder's file system.
    """

    ref: ModelRef
    commit: str
    folder: Path
    files: tuple[ExportFile, ...]
    overwritten: tuple[str, ...]
    way: Way
    free: int

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def wanted(self) -> tuple[ExportFile, ...]:
        """The files that have to be written."""
        return tuple(file for file in self.files if not file.is_there)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export did. `written` are bytes that were copied; `way` is `None` where all of it was there already."""

    written: int
    way: Way | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Aside:
    """Where one export at a time may write, for `lock.held`."""

    id: str
    lock: Path


def plan(model: Model, revision: Revision, ref: ModelRef, folder: Path, *, way: Way, force: bool = False) -> ExportPlan:
    """Find out what of a revision has to be written to a folder. Writes nothing.

    What is not whole, or would overwrite another content, needs `force`.
    """
    paths = layout.paths_at(model.path)
    _refuse_place(folder, paths)
    revision = _of_variant(revision, ref)
    if not force:
        _check_whole(paths, revision, ref)
    files = tuple(_files(paths, revision, folder))
    if not files:
        raise NotWholeError(f"`{ref}` has no file that could be exported", hint="`modelctl list` shows what is wrong")
    overwritten = tuple(file.name for file in files if not file.is_there and os.path.lexists(folder / file.name))
    if overwritten and not force:
        count = f", and so do {len(overwritten) - 1} more" if len(overwritten) > 1 else ""
        raise ModelctlError(
            f"`{folder / overwritten[0]}` has another content than the model's file{count}",
            hint="`--force` overwrites what differs",
        )
    if way == "link" and not disk.is_one_mount(paths.folder, folder):
        raise UsageError(
            f"`{folder}` lies on another file system than the model, so it cannot be hard-linked",
            hint="leave out `--hard-link`, and it is copied",
        )
    if way == "clone" and not disk.is_one_mount(paths.folder, folder):
        way = "copy"
    return ExportPlan(ref, revision.commit, folder, files, overwritten, way, disk.free(folder))


def execute(plan: ExportPlan, progress: Progress) -> ExportResult:
    """Write what the folder does not have. Interrupted, the next export goes on."""
    began, aside = time.monotonic(), plan.folder / ASIDE
    progress.begin(f"exporting {plan.ref}", total=plan.size)
    for file in plan.files:
        if file.is_there:
            progress.file(file.name, size=file.size, source="present")
    writing = _Aside(str(plan.folder), aside / "lock")
    if not plan.wanted:
        # What an export has left that was killed at its very end, and nothing of one that runs.
        if aside.is_dir():
            with contextlib.suppress(ModelctlError), lock.held(writing, "export"):
                deletion.delete(aside)
        return ExportResult(0, None, time.monotonic() - began)
    with lock.held(writing, "export"):
        try:
            ways = _write(plan, aside, progress)
        except NoRoomError:
            raise
        except ModelctlError:
            deletion.delete(aside)
            raise
        deletion.delete(aside)
    written = sum(file.size for file, way in zip(plan.wanted, ways, strict=True) if way == "copy")
    way: Way = "copy" if "copy" in ways else ways[0]
    return ExportResult(written, way, time.monotonic() - began)


def _write(plan: ExportPlan, aside: Path, progress: Progress) -> list[Way]:
    """Bring each file, prove it, give it its name; the way that each has come."""
    done = sum(file.size for file in plan.files if file.is_there)

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress.advance(done)

    way = bringing.possible(plan.way, plan.wanted[0].source, aside / "probe")
    if way == "copy":
        _check_room(plan, aside)
    ways: list[Way] = []
    try:
        for file in plan.wanted:
            spare, place = aside / "files" / file.name, plan.folder / file.name
            changes.make_folder(spare.parent)
            changes.make_folder(place.parent)
            before = bringing.stamp(file.source.stat())
            brought = bringing.bring(
                file.source, spare, before, way=way, lfs=not layout.is_git_sha1(file.digest), tell=tell
            )
            if file.digest and brought.file.digest != file.digest:
                raise NotWholeError(
                    f"`{file.name}` of `{plan.ref}` is damaged: its content does not match its name",
                    hint=f"`modelctl verify --repair {plan.ref.id}` mends it, where it comes from the Hub",
                )
            changes.make_durable([spare])
            spare.replace(place)
            ways.append(brought.way)
            progress.file(file.name, size=file.size, source=bringing.SOURCES[brought.way])
        for folder in {(plan.folder / file.name).parent for file in plan.wanted}:
            changes.sync_folder(folder)
    except OSError as exc:
        raise changes.translated(exc, doing="write") from exc
    return ways


def _refuse_place(folder: Path, paths: RepoPaths) -> None:
    """A folder that is none, or is part of a store."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"`{folder}` is no folder", hint="name a folder, also one that is not there yet")
    real, hub = Path(os.path.realpath(folder)), Path(os.path.realpath(paths.hub))
    if real == hub or hub in real.parents:
        raise UsageError(f"`{folder}` lies inside of the store `{paths.hub}`", hint="name a folder outside of it")


def _of_variant(revision: Revision, ref: ModelRef) -> Revision:
    """The revision with one quantisation alone, where one is named."""
    if ref.variant is None:
        return revision
    choices = checkpoint.read(revision, headers=False).selection.choices
    wanted = {label for label in choices if label.upper() == ref.variant.upper()}
    if not wanted:
        here = ", ".join(f"`{label}`" for label in choices)
        raise NotFoundError(
            f"`{ref.id}` has no quantisation `{ref.variant}` here",
            hint=f"here are {here}" if here else "it is no GGUF model: leave the name of a quantisation out",
        )
    others = {name for label in choices.keys() - wanted for name in choices[label]}
    return revision._replace(files=tuple(file for file in revision.files if file.name not in others))


def _check_whole(paths: RepoPaths, revision: Revision, ref: ModelRef) -> None:
    listing = tree.read(paths, revision.commit)
    if listing is not None and ref.variant is not None:
        listing = {file.name: listing[file.name] for file in revision.files if file.name in listing}
    read = checkpoint.read(revision, listing=listing)
    verdict = wholeness.judge(read, listing=listing, wanted=None, unfinished=False, pull=None)
    if verdict.state != "ready":
        raise NotWholeError(
            f"`{ref}` is {verdict.state}: {verdict.problems[0].message}", hint="`--force` exports what is there"
        )


def _files(paths: RepoPaths, revision: Revision, folder: Path) -> Iterator[ExportFile]:
    """The files that have a content in the store."""
    listing = tree.read(paths, revision.commit) or {}
    entries = {entry.name: entry for entry in links.read(paths).snapshots.get(revision.commit, ())}
    for file in revision.files:
        if file.content is None or file.size is None or not layout.is_file_name(file.name):
            continue
        _refuse_way(folder, file.name)
        _refuse_way(folder, f"{ASIDE}/files/{file.name}")
        entry = entries.get(file.name)
        digest = entry.digest if entry is not None and layout.is_digest(entry.digest) else ""
        if not digest and file.name in listing and listing[file.name].size == file.size:
            digest = listing[file.name].digest
        source = Path(file.content)
        yield ExportFile(file.name, source, file.size, digest, _is_there(folder / file.name, source, file.size, digest))


def _refuse_way(folder: Path, name: str) -> None:
    """Raise where something in the folder would lead a file out of it, or is no folder, or is one."""
    place = folder / name
    for above in list(place.parents)[: name.count("/")]:
        if above.is_symlink() or (above.exists() and not above.is_dir()):
            raise ModelctlError(f"`{above}` is no folder", hint="move it away, or export to another folder")
    if place.is_dir() and not place.is_symlink():
        raise ModelctlError(f"`{place}` is a folder where a file should be", hint="export to another folder")


def _is_there(place: Path, source: Path, size: int, digest: str) -> bool:
    try:
        status = place.lstat()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        return False
    return proof.matches(place, digest) if digest else copying.are_equal(place, source)


def _check_room(plan: ExportPlan, aside: Path) -> None:
    """`NoRoomError` where what has to be written does not fit, beside what an interrupted export has left."""
    spares: Sequence[Path] = [aside / "files" / file.name for file in plan.wanted]
    there = sum(spare.stat().st_size for spare in spares if spare.is_file())
    needed, free = max(0, sum(file.size for file in plan.wanted) - there), disk.free(plan.folder)
    if needed + _MARGIN > free:
        raise NoRoomError(
            f"`{plan.ref}` needs {needed:,} bytes, and the file system of `{plan.folder}` has {free:,} free",
            hint="make room there, or export to another disk",
            needed=needed,
            free=free,
        )
