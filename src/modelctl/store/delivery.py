"""Files on their way into a plain folder: brought aside, proven, and given their names many at a time."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelctl.errors import ModelctlError, NoRoomError, NotWholeError
from modelctl.progress import Progress
from modelctl.store import bringing, changes, copying, disk, layout
from modelctl.store.bringing import Way

# What is being written lies here, inside of the folder, so that it gets its name by a rename.
ASIDE = ".modelctl-export"
_MARGIN = 1024 * 1024
# So much is made durable at once: one by one that takes longer than all the rest.
_MOST_FILES, _MOST_BYTES = 1000, 256 * 1024 * 1024


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


def refuse_way(folder: Path, name: str) -> None:
    """Raise where something in the folder would lead a file out of it, or is no folder, or is one."""
    place = folder / name
    for above in list(place.parents)[: name.count("/")]:
        if above.is_symlink() or (above.exists() and not above.is_dir()):
            raise ModelctlError(f"`{above}` is no folder", hint="move it away, or export to another folder")
    if place.is_dir() and not place.is_symlink():
        raise ModelctlError(f"`{place}` is a folder where a file should be", hint="export to another folder")


@dataclass(slots=True)
class Delivery:
    """What one export writes to a folder. `title` is what the user calls the model.

    `overwrites`: also what has a file's name by now. `done` are the bytes that count already, `waiting` the files that
    have been brought and proven, and have no names yet, `size` their bytes.
    """

    folder: Path
    title: str
    progress: Progress
    overwrites: bool
    done: int
    waiting: list[tuple[ExportFile, Way]] = field(default_factory=list)
    size: int = 0
    folders: set[Path] = field(default_factory=set)

    def run(self, wanted: Sequence[ExportFile], way: Way) -> list[Way]:
        """Bring each file, prove it, give it its name; the way that each has come."""
        try:
            way = bringing.possible(way, wanted[0].source, self.folder / ASIDE / "probe")
            if way == "copy":
                self._check_room(wanted)
            try:
                ways = [self._bring(file, way) for file in wanted]
            except ModelctlError:
                # What is proven by now stays.
                with contextlib.suppress(ModelctlError):
                    self._name()
                raise
            self._name()
            for folder in {(self.folder / file.name).parent for file in wanted}:
                changes.sync_folder(folder)
        except OSError as exc:
            raise changes.translated(exc, doing="write") from exc
        return ways

    def _bring(self, file: ExportFile, way: Way) -> Way:
        spare = self._spare(file)
        self._make_folder(spare.parent)
        before = bringing.stamp(file.source.stat())
        brought = bringing.bring(
            file.source, spare, before, way=way, lfs=not layout.is_git_sha1(file.digest), tell=self._tell
        )
        if file.digest and brought.file.digest != file.digest:
            raise NotWholeError(
                f"`{file.name}` of `{self.title}` is damaged: its content does not match its name",
                hint=f"`modelctl verify --repair {self.title}` mends it, where it comes from the Hub",
            )
        self.waiting.append((file, brought.way))
        self.size += file.size
        if len(self.waiting) >= _MOST_FILES or self.size >= _MOST_BYTES:
            self._name()
        return brought.way

    def _name(self) -> None:
        """Give the files that wait their names, durable before."""
        waiting, self.waiting, self.size = self.waiting, [], 0
        changes.make_durable([self._spare(file) for file, _ in waiting])
        for file, way in waiting:
            place = self.folder / file.name
            refuse_way(self.folder, file.name)
            self._make_folder(place.parent)
            self._put(self._spare(file), place)
            self.progress.file(file.name, size=file.size, source=bringing.SOURCES[way])

    def _put(self, spare: Path, place: Path) -> None:
        """Give a file its name, which nothing may have got meanwhile."""
        if not self.overwrites:
            try:
                # No rename asks whether the name is free.
                os.link(spare, place)
            except FileExistsError as exc:
                raise _has_appeared(place) from exc
            except OSError as exc:
                if exc.errno not in copying.NO_LINK:
                    raise
                if os.path.lexists(place):
                    raise _has_appeared(place) from exc
            else:
                spare.unlink()
                return
        spare.replace(place)

    def _check_room(self, wanted: Sequence[ExportFile]) -> None:
        """`NoRoomError` where what has to be written does not fit, beside what an interrupted export has left."""
        spares = [self._spare(file) for file in wanted]
        there = sum(spare.stat().st_size for spare in spares if spare.is_file())
        needed, free = max(0, sum(file.size for file in wanted) - there), disk.free(self.folder)
        if needed + _MARGIN > free:
            raise NoRoomError(
                f"`{self.title}` needs {needed:,} bytes, and the file system of `{self.folder}` has {free:,} free",
                hint="make room there, or export to another disk",
                needed=needed,
                free=free,
            )

    def _make_folder(self, folder: Path) -> None:
        if folder not in self.folders:
            changes.make_folder(folder)
            self.folders.add(folder)

    def _spare(self, file: ExportFile) -> Path:
        return self.folder / ASIDE / "files" / file.name

    def _tell(self, count: int) -> None:
        self.done += count
        self.progress.advance(self.done)


def _has_appeared(place: Path) -> ModelctlError:
    return ModelctlError(
        f"`{place}` has appeared meanwhile",
        hint="run the same command again: what is the same is not written twice, and `--force` overwrites what differs",
    )
