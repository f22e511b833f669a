"""What has been taken out of sight and is not yet freed.

An entry is `<name>.<pid>-<start time>.<random>`: a repository folder as it was (`models--ORG--NAME`), or, as
`models--ORG--NAME@`, a folder of the same form with the parts that went of a model that stays. Nothing ever comes back
from here, so an entry whose process is gone may be freed by anybody.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from modelctl import process
from modelctl.store import changes, layout

_ENTRY = re.compile(r"(?P<name>.+)\.(?P<pid>\d+)-(?P<started>\d+)\.[0-9a-f]{8}")
_PARTS = "@"
_LONGEST_NAME = 180


@dataclass(frozen=True, slots=True)
class Aside:
    """One entry of the trash: the repository folder that it was or came from, and whether it holds parts only."""

    path: Path
    name: str
    is_parts: bool

    @property
    def paths(self) -> layout.RepoPaths:
        """The entry read as a repository folder, which its form is."""
        return layout.RepoPaths(self.path.parent, self.name, self.path.name)


@dataclass(frozen=True, slots=True)
class Freed:
    """Bytes that the disk got back, and what could not be deleted, each with its reason."""

    size: int
    failures: tuple[OSError, ...] = ()


def set_aside(hub: Path, folder: Path) -> Aside:
    """Take a repository folder, or whatever lies in its place, out of sight by one rename."""
    target = _place(hub) / _entry_name(folder.name)
    try:
        changes.make_folder(target.parent)
        folder.rename(target)
        changes.sync_folder(folder.parent)
    except OSError as exc:
        error = changes.translated(exc, doing="remove")
        if exc.errno in {errno.EACCES, errno.EPERM}:
            error.hint = f"`sudo rm -rf {folder}` removes it"
        raise error from exc
    return Aside(target, folder.name, is_parts=False)


def open_parts(hub: Path, folder: str) -> Aside:
    """A new entry for parts of a model; `put` fills it."""
    path = _place(hub) / _entry_name(folder + _PARTS)
    changes.make_folder(path)
    return Aside(path, folder, is_parts=True)


def put(aside: Aside, folder: Path, part: Path) -> None:
    """Move one part of the repository folder `folder` into the entry, to the place it had there."""
    target = aside.path / part.relative_to(folder)
    try:
        changes.make_folder(target.parent)
        part.rename(target)
    except OSError as exc:
        raise changes.translated(exc, doing="remove") from exc


def leftovers(hub: Path, folder: str | None = None) -> tuple[Aside, ...]:
    """What a removal that was interrupted has left, of one repository folder or of all, sorted by path."""
    found = []
    for place in _places(hub):
        try:
            entries = sorted(place.iterdir())
        except OSError:
            continue
        for path in entries:
            match = _ENTRY.fullmatch(path.name)
            if match is None or process.start_time(int(match["pid"])) == int(match["started"]):
                continue
            aside = Aside(path, match["name"].removesuffix(_PARTS), match["name"].endswith(_PARTS))
            if folder in {None, aside.name}:
                found.append(aside)
    return tuple(found)


def empty(hub: Path) -> None:
    """Let the trash itself go with its last entry."""
    for place in _places(hub):
        with contextlib.suppress(OSError):
            place.rmdir()


def delete(path: Path, tell: Callable[[int], None]) -> Freed:
    """Delete whatever lies at a path, links never followed, and count what the disk gives back.

    Counted is what the disk spent on a regular file that went with its last link; `tell` hears the sum so far. What
    cannot be deleted stays, with what is above it, and all else goes.
    """
    size = 0
    failures: list[OSError] = []
    waiting = [(path, False)]
    while waiting:
        current, is_emptied = waiting.pop()
        try:
            status = current.lstat()
            if stat.S_ISDIR(status.st_mode) and not is_emptied:
                waiting += [(current, True), *((child, False) for child in children(current))]
                continue
            _remove(current, is_folder=is_emptied)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                size += status.st_blocks * 512
                tell(size)
        except FileNotFoundError:
            continue
        except OSError as exc:
            # A folder that is not empty has its reason in the list already.
            if exc.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not failures:
                failures.append(exc)
    return Freed(size, tuple(failures))


def is_folder(path: Path) -> bool:
    """Whether a path is a folder itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def children(folder: Path) -> list[Path]:
    """What is in a folder; where its own mode forbids to look, or to delete from it, that is taken back first."""
    try:
        return list(folder.iterdir())
    except PermissionError:
        folder.chmod(stat.S_IRWXU)
        return list(folder.iterdir())


def weigh(paths: Iterable[Path]) -> tuple[int, int]:
    """What lies at some paths: bytes of content, and bytes that the disk would give back. Hard links count once."""
    links: dict[tuple[int, int], tuple[int, os.stat_result]] = {}
    waiting = list(paths)
    while waiting:
        current = waiting.pop()
        try:
            status = current.lstat()
            if stat.S_ISDIR(status.st_mode):
                waiting += current.iterdir()
            elif stat.S_ISREG(status.st_mode):
                key = status.st_dev, status.st_ino
                links[key] = links[key][0] + 1 if key in links else 1, status
        except OSError:
            continue
    size = sum(status.st_size for _, status in links.values())
    return size, sum(status.st_blocks * 512 for seen, status in links.values() if seen >= status.st_nlink)


def _places(hub: Path) -> tuple[Path, Path]:
    """Where the trash is, and where it is when `.locks` is of another file system: there other tools warn of it."""
    return layout.trash(hub), hub / layout.trash(hub).name


def _place(hub: Path) -> Path:
    usual, other = _places(hub)
    with contextlib.suppress(OSError):
        if usual.parent.stat().st_dev != hub.stat().st_dev:
            return other
    return usual


def _entry_name(name: str) -> str:
    owner = process.this_process("rm")
    short = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])
    return f"{short}.{owner.pid}-{owner.started}.{secrets.token_hex(4)}"


def _remove(path: Path, *, is_folder: bool) -> None:
    remove = path.rmdir if is_folder else path.unlink
    try:
        remove()
    except PermissionError:
        path.parent.chmod(stat.S_IRWXU)
        remove()
