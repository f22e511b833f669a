"""Bringing a file of which nobody has told the hash: by its blocks, a second name or its bytes, and measured.

The file may be anybody's, and written to at this very moment: what is brought is the content as it was at one time, or
nothing.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelctl.errors import BusyError, ModelctlError
from modelctl.store import changes, copying
from modelctl.store.measuring import Meter
from modelctl.store.tree import TreeFile

# `clone`: sharing blocks until one of the two is written to, where the file system can, else copied. `link`: one file
# with two names, so that whoever writes to it writes to both.
Way = Literal["clone", "link", "copy"]
# How `Progress.file` hears of each.
SOURCES = {"clone": "reflinked", "link": "linked", "copy": "copied"}
# Hears the bytes of each step; what it raises ends the work.
Tell = Callable[[int], None]
_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another, without a look into it."""

    device: int
    inode: int
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Brought:
    """A content that was brought, and by which way in the end."""

    file: TreeFile
    way: Way


def stamp(status: os.stat_result) -> Stamp:
    """The state of a file."""
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def check_unchanged(path: Path, before: Stamp) -> None:
    """`BusyError` where a file is not any more what it was when it was looked at."""
    try:
        now = stamp(path.stat())
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    if now != before:
        raise _changing(path)


def measure(path: Path, before: Stamp, *, lfs: bool, tell: Tell) -> TreeFile:
    """What the Hub would say of a file, read in the state that it is wanted in."""
    meter = Meter(before.size, lfs=lfs)
    try:
        with path.open("rb", buffering=0) as reading:
            while chunk := reading.read(_CHUNK):
                meter.update(chunk)
                tell(len(chunk))
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    check_unchanged(path, before)
    return meter.result()


def possible(way: Way, source: Path, probe: Path) -> Way:
    """The way that the file system lets be gone: whether it can share blocks only a try can tell, made at `probe`."""
    if way != "clone":
        return way
    is_cloned = copying.clone(source, probe)
    probe.unlink(missing_ok=True)
    return "clone" if is_cloned else "copy"


def bring(source: Path, spare: Path, before: Stamp, *, way: Way, lfs: bool, tell: Tell) -> Brought:
    """Bring a file under a spare name and measure it; `before` is the state in which it is wanted.

    A copy that was interrupted is gone on with: what lies at `spare` is kept as far as it equals the source.
    """
    if way == "clone" and copying.clone(source, spare):
        file = measure(spare, stamp(spare.stat()), lfs=lfs, tell=tell)
        check_unchanged(source, before)
        _keep_times(spare, source)
        return Brought(file, "clone")
    if way == "link":
        if not copying.link(source, spare):
            raise ModelctlError(
                f"`{source}` cannot be given a second name here", hint="leave out `--hard-link`, and it is copied"
            )
        return Brought(measure(spare, before, lfs=lfs, tell=tell), "link")
    file = _copied(source, spare, before, lfs=lfs, tell=tell)
    check_unchanged(source, before)
    return Brought(file, "copy")


def _copied(source: Path, spare: Path, before: Stamp, *, lfs: bool, tell: Tell) -> TreeFile:
    meter = Meter(before.size, lfs=lfs)
    try:
        with source.open("rb", buffering=0) as reading:
            writing = changes.open_own(spare, os.O_RDWR)
            try:
                size = _pour(reading.fileno(), writing, meter, tell)
                os.ftruncate(writing, size)
            finally:
                os.close(writing)
        _keep_times(spare, source)
    except OSError as exc:
        raise changes.translated(exc, doing="copy") from exc
    return meter.result()


def _pour(source: int, target: int, meter: Meter, tell: Tell) -> int:
    """Write what the target does not have yet; one thread hashes a chunk meanwhile. Returns the bytes in all."""
    at, there = 0, os.fstat(target).st_size
    with ThreadPoolExecutor(max_workers=1) as pool:
        while chunk := os.read(source, _CHUNK):
            is_only = not at and len(chunk) < _CHUNK
            # A thread costs more than a small file.
            hashing = None if is_only else pool.submit(meter.update, chunk)
            if hashing is None:
                meter.update(chunk)
            if at >= there or os.pread(target, len(chunk), at) != chunk:
                written = 0
                while written < len(chunk):
                    written += os.pwrite(target, memoryview(chunk)[written:], at + written)
            if hashing is not None:
                hashing.result()
            at += len(chunk)
            tell(len(chunk))
    return at


def _keep_times(spare: Path, source: Path) -> None:
    status = source.stat()
    os.utime(spare, ns=(status.st_atime_ns, status.st_mtime_ns))


def _changing(path: Path) -> BusyError:
    return BusyError(
        f"`{path}` was changed meanwhile", hint="wait until nothing writes to it, then run the same command again"
    )
