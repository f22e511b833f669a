"""Deleting whatever lies at a path, and counting what the disk gives back for it."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Freed:
    """Bytes that the disk got back, and what could not be deleted, each with its reason."""

    size: int
    failures: tuple[OSError, ...] = ()


def delete(path: Path, tell: Callable[[int], None] = lambda _: None) -> Freed:
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
            if is_emptied:
                current.rmdir()
            else:
                current.unlink()
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
    """Whether a path is a folder itself, and no link to one; where nobody may look there is none for us."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def children(folder: Path) -> list[Path]:
    """What is in a folder that is to go; where its own mode forbids to look, or to delete, that is taken back."""
    open_up(folder)
    return list(folder.iterdir())


def open_up(folder: Path) -> None:
    """Take back what a folder's own mode forbids its owner."""
    if is_folder(folder) and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        with contextlib.suppress(OSError):
            folder.chmod(stat.S_IRWXU)


class Inode(NamedTuple):
    """A file by its identity: how many of its names are among those looked at, and how many it has; its bytes."""

    seen: int
    names: int
    size: int
    allocated: int


def inodes(paths: Iterable[Path]) -> dict[tuple[int, int], Inode]:
    """The regular files at some paths and below, each once whatever names it has."""
    found: dict[tuple[int, int], Inode] = {}
    waiting = list(paths)
    while waiting:
        current = waiting.pop()
        try:
            status = current.lstat()
            if stat.S_ISDIR(status.st_mode):
                waiting += current.iterdir()
            elif stat.S_ISREG(status.st_mode):
                key = status.st_dev, status.st_ino
                seen = found[key].seen if key in found else 0
                found[key] = Inode(seen + 1, status.st_nlink, status.st_size, status.st_blocks * 512)
        except OSError:
            continue
    return found


def weigh(paths: Iterable[Path]) -> tuple[int, int]:
    """What lies at some paths: bytes of content, and bytes that the disk would give back. Hard links count once."""
    found = inodes(paths).values()
    return sum(one.size for one in found), sum(one.allocated for one in found if one.seen >= one.names)


def newest(path: Path) -> float:
    """The newest time in a tree, of its own files and folders."""
    newest, waiting = 0.0, [path]
    while waiting:
        current = waiting.pop()
        try:
            status = current.lstat()
        except OSError:
            continue
        newest = max(newest, status.st_mtime)
        if stat.S_ISDIR(status.st_mode):
            with contextlib.suppress(OSError):
                waiting += current.iterdir()
    return newest
