"""A plain folder of model files, as training, a download or an installed package leaves it: what lies in it."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from modelctl.store import bringing, changes, layout
from modelctl.store.bringing import Stamp
from modelctl.store.model import StoredFile

# What Python, git, huggingface_hub and an interrupted export leave beside a model's files.
_NOT_THE_MODELS = {"__pycache__", ".git", ".cache", ".modelctl-export"}


@dataclass(frozen=True, slots=True)
class PlainFile:
    """One file: the name that it has or gets in a repository, and where its content lies, links followed.

    `stamp` is the state in which it was found. `expected` is the SHA-256 that somebody has told of its content.
    """

    name: str
    path: Path
    stamp: Stamp
    expected: str | None = None

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.stamp.size

    @property
    def stored(self) -> StoredFile:
        """The file as the judges of stored models take it."""
        return StoredFile(self.name, str(self.path), str(self.path), self.size)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What has the name of a file and cannot be imported, and why not: the end of a sentence.

    `unreadable`: this user may not. `outside`: a link that leads out of the folder. `name`: no model's file can be
    called so. `odd`: no file, or none any more.
    """

    name: str
    path: Path
    kind: Literal["unreadable", "outside", "name", "odd"]
    why: str


def files(folder: Path, *, follow: bool) -> Iterator[PlainFile | Obstacle]:
    """What lies below a folder, in no order.

    Links are followed inside of the folder (of a snapshot, inside of its hub folder); those that lead out of it only
    with `follow`: whoever packs a folder could name any file of this machine in one.
    """
    yield from _Walk(_boundary(folder), follow=follow).files(folder)


def file(path: Path, name: str, *, expected: str | None = None) -> PlainFile | Obstacle:
    """One file under the name that it is to get; links are followed wherever they lead."""
    return _found(path, name, expected=expected)


@dataclass(frozen=True)
class _Folder:
    """A folder on the walk; `is_linked` where a link led to it, or to one above it."""

    path: Path
    prefix: str = ""
    above: "_Folder | None" = None
    is_linked: bool = False

    @cached_property
    def real(self) -> str:
        """Its path with all links followed."""
        return os.path.realpath(self.path)

    @property
    def leads_back(self) -> bool:
        """Whether it is one of those above it, which without a link none is."""
        above = self.above if self.is_linked else None
        while above is not None:
            if above.real == self.real:
                return True
            above = above.above
        return False


@dataclass(frozen=True, slots=True)
class _Entry:
    folder: _Folder
    entry: os.DirEntry[str]

    @property
    def name(self) -> str:
        """Its path below the folder that the walk began in."""
        return self.folder.prefix + self.entry.name


@dataclass(frozen=True, slots=True)
class _Walk:
    boundary: str
    follow: bool
    # Where links to folders have led from behind other such links: each place once, or there might be no end.
    seen: set[str] = field(default_factory=set)

    def files(self, folder: Path) -> Iterator[PlainFile | Obstacle]:
        """The files below a folder."""
        waiting = self._entries(_Folder(folder))
        while waiting:
            one = waiting.pop()
            entry, path, name, is_link = one.entry, Path(one.entry.path), one.name, one.entry.is_symlink()
            if is_link and (obstacle := self._leads_wrong(name, path)):
                yield obstacle
            elif not _is_folder(path):
                yield _found(path, name)
            elif entry.name not in _NOT_THE_MODELS and not (is_link and one.folder.is_linked and self._is_seen(path)):
                waiting += self._entries(
                    _Folder(path, f"{name}/", one.folder, is_linked=one.folder.is_linked or is_link)
                )

    def _entries(self, folder: "_Folder") -> "list[_Entry]":
        """What is in a folder, the first last; nothing where a link has led back to a folder on the way to it."""
        if folder.leads_back:
            return []
        try:
            with os.scandir(folder.path) as found:
                # What is found must not hang on the order in which a disk tells it.
                return [_Entry(folder, each) for each in sorted(found, key=lambda each: each.name, reverse=True)]
        except OSError as exc:
            raise changes.translated(exc, doing="read") from exc

    def _is_seen(self, path: Path) -> bool:
        real = os.path.realpath(path)
        is_seen = real in self.seen
        self.seen.add(real)
        return is_seen

    def _leads_wrong(self, name: str, path: Path) -> Obstacle | None:
        real = os.path.realpath(path)
        try:
            path.stat()
        except PermissionError:
            # Where it leads to is told below, or that it cannot be read.
            pass
        except OSError:
            return Obstacle(name, path, "odd", f"is a link to `{_target(path) or real}`, which is not there")
        if self.follow or real.startswith(f"{self.boundary}/"):
            return None
        return Obstacle(name, path, "outside", f"is a link that leads out of the folder, to `{real}`")


def _is_folder(path: Path) -> bool:
    # Not `Path.is_dir`, which raises where a link leads to what may not be looked at.
    return os.path.isdir(path)  # noqa: PTH112


def _target(path: Path) -> str:
    """What a link says, as long as it is there: what is being written to may go at any moment."""
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _boundary(folder: Path) -> str:
    """The folder that links may not leave."""
    real = Path(os.path.realpath(folder))
    is_snapshot = real.parent.name == "snapshots" and layout.model_id(real.parent.parent.name) is not None
    return str(real.parents[2] if is_snapshot else real).rstrip("/")


def _found(path: Path, name: str, *, expected: str | None = None) -> PlainFile | Obstacle:
    try:
        real = Path(os.path.realpath(path, strict=True))
        status = real.stat()
    except OSError as exc:
        kind: Literal["unreadable", "odd"] = "unreadable" if isinstance(exc, PermissionError) else "odd"
        return Obstacle(name, path, kind, f"cannot be read: {exc.strerror or exc}")
    if not layout.is_file_name(name):
        return Obstacle(name, path, "name", "cannot be the name of a model's file")
    if not stat.S_ISREG(status.st_mode):
        return Obstacle(name, path, "odd", "is no file")
    if not os.access(real, os.R_OK):
        return Obstacle(name, path, "unreadable", "cannot be read: Permission denied")
    return PlainFile(name, real, bringing.stamp(status), expected)
