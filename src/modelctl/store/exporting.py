"""Writing a revision out as a plain folder: plan, execute.

Each file is brought aside, proven by its hash, and gets its name by one rename: what has its name is whole.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelctl.errors import ModelctlError, NoRoomError, NotWholeError, UsageError
from modelctl.progress import Progress
from modelctl.ref import ModelRef
from modelctl.store import (
    changes,
    checkpoint,
    copying,
    deletion,
    delivery,
    disk,
    layout,
    links,
    lock,
    obstacles,
    proof,
    tree,
    variant,
    wholeness,
)
from modelctl.store.bringing import Way
from modelctl.store.delivery import ASIDE, Delivery, ExportFile
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Model, Revision


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What an export will do. `overwritten` are names in the folder that have other content now.

    With `force` what has got a file's name meanwhile is overwritten too. `free` are bytes on the folder's file system.
    """

    ref: ModelRef
    commit: str
    folder: Path
    files: tuple[ExportFile, ...]
    overwritten: tuple[str, ...]
    way: Way
    force: bool
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
    revision = variant.of(revision, ref)
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
    if way == "link" and (foreign := next((one.source for one in files if not disk.may_link(one.source)), None)):
        raise obstacles.not_linkable(foreign, hint="leave out `--hard-link`, and it is copied")
    if way == "clone" and not disk.is_one_mount(paths.folder, folder):
        way = "copy"
    return ExportPlan(ref, revision.commit, folder, files, overwritten, way, force, disk.free(folder))


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
            done = sum(file.size for file in plan.files if file.is_there)
            ways = Delivery(plan.folder, str(plan.ref), progress, plan.force, done).run(plan.wanted, plan.way)
        except NoRoomError:
            raise
        except ModelctlError:
            deletion.delete(aside)
            raise
        deletion.delete(aside)
    written = sum(file.size for file, way in zip(plan.wanted, ways, strict=True) if way == "copy")
    way: Way = "copy" if "copy" in ways else ways[0]
    return ExportResult(written, way, time.monotonic() - began)


def _refuse_place(folder: Path, paths: RepoPaths) -> None:
    """A folder that is none, or is part of a store."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"`{folder}` is no folder", hint="name a folder, also one that is not there yet")
    real, hub = Path(os.path.realpath(folder)), Path(os.path.realpath(paths.hub))
    if real == hub or hub in real.parents:
        raise UsageError(f"`{folder}` lies inside of the store `{paths.hub}`", hint="name a folder outside of it")


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
        delivery.refuse_way(folder, file.name)
        delivery.refuse_way(folder, f"{ASIDE}/files/{file.name}")
        entry = entries.get(file.name)
        digest = entry.digest if entry is not None and layout.is_digest(entry.digest) else ""
        if not digest and file.name in listing and listing[file.name].size == file.size:
            digest = listing[file.name].digest
        source = Path(file.content)
        yield ExportFile(file.name, source, file.size, digest, _is_there(folder / file.name, source, file.size, digest))


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
