"""The file systems that stores lie on: what is free, and what can be renamed or linked without copying."""

import contextlib
import os
import shutil
from pathlib import Path

# Where files may share their blocks; on XFS and ZFS that can be switched off.
_CLONING = {"btrfs", "xfs", "bcachefs", "zfs"}


def free(path: Path) -> int:
    """Free bytes where a path lies, or will lie."""
    return shutil.disk_usage(existing(path)).free


def device(path: Path) -> int:
    """The number of the file system on which a path lies, or will lie."""
    return existing(path).stat().st_dev


def is_one_mount(one: Path, other: Path) -> bool:
    """Whether a rename leads from one place to the other. Two bind mounts of one disk, as containers have, are two."""
    return _mount(existing(one)) == _mount(existing(other))


def can_clone(one: Path, other: Path) -> bool:
    """Whether files on both sides can share blocks of the disk, as far as the kind of their file system tells."""
    here, there = existing(one), existing(other)
    return here.stat().st_dev == there.stat().st_dev and _kind(here) in _CLONING


def may_link(path: Path) -> bool:
    """Whether this user may give a file a second name: Linux forbids that of files that are not his to write to."""
    if os.geteuid() in {0, path.stat().st_uid} or os.access(path, os.R_OK | os.W_OK):
        return True
    try:
        return Path("/proc/sys/fs/protected_hardlinks").read_bytes().strip() == b"0"
    except OSError:
        return True


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    # What may not be looked at counts as not there, and not as a failure: the first write into it will be one.
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if os.access(folder, os.F_OK))


def taken(folder: Path) -> int:
    """Bytes that the files of a folder take on disk, each counted once; 0 where it is not there."""
    seen: dict[tuple[int, int], int] = {}
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(where, name))  # noqa: PTH118 - there may be sixty thousand
                seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def _mount(path: Path) -> tuple[int, str]:
    return path.stat().st_dev, _mount_point(path)


def _mount_point(path: Path) -> str:
    """The longest mount point above a path; empty where the system does not tell."""
    return _mounted(path)[0]


def _kind(path: Path) -> str:
    """The kind of a path's file system, such as `ext4`; empty where the system does not tell."""
    return _mounted(path)[1]


def _mounted(path: Path) -> tuple[str, str]:
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return "", ""
    kinds = {}
    for line in table.splitlines():
        # Of several mounts at one point the last is seen. What follows the lone dash begins with the kind.
        kinds[_unescaped(line.split(b" ")[4])] = line.partition(b" - ")[2].split(b" ")[0].decode()
    real = Path(os.path.realpath(path))
    return next(
        ((str(folder), kinds[str(folder)]) for folder in (real, *real.parents) if str(folder) in kinds), ("", "")
    )


def _unescaped(point: bytes) -> str:
    """A mount point as the kernel writes it: blanks and backslashes in octal."""
    return point.decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")
