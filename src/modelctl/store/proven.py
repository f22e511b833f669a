"""What a verification has proven so far, so that an interrupted one can go on. Not a word of it outlives its use.

Each run keeps a file of its own in the user's cache directory: one line a content, the state of the file and the hash.
It goes when the run has come to its end. Only what a run has left that was killed or interrupted within a day is
believed, and of that only what names a file in the very state that it is in now: device, inode, size, and both times,
one of which nobody can set. Losing it costs nothing but time.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from modelctl import process
from modelctl.store import changes, reading
from modelctl.store.proof import Stamp

# Smaller ones are read faster than their lines.
WORTH_A_LINE = 1024 * 1024
_PATIENCE = 24 * 60 * 60
# A file that is written to again within one tick of the clock keeps its times.
_TICK = 2 * 1_000_000_000


def folder() -> Path:
    """Where the files lie."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("modelctl")) / "verify"


class Proven:
    """The contents that are known to be true: by interrupted runs at first, then also by this one."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._read: list[Path] = []
        self._known: set[tuple[Stamp, str]] = set()
        self._file: Path | None = None
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Read what interrupted runs have left; what is too old goes."""
        for path in _left(self._place):
            # Another run may take it away just now.
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _PATIENCE:
                    path.unlink()
                else:
                    self._known |= set(_lines(path))
                    self._read.append(path)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what has been written: who comes to the end calls `forget`."""
        self._close()

    def has(self, stamp: Stamp, digest: str) -> bool:
        """Whether a file in this state has been proven."""
        return (stamp, digest) in self._known

    def add(self, stamp: Stamp, digest: str) -> None:
        """Take note of a file that has been proven; where that cannot be written, the next run proves it again."""
        if time.time_ns() - max(stamp.modified, stamp.changed) < _TICK:
            return
        self._known.add((stamp, digest))
        if stamp.size < WORTH_A_LINE:
            return
        line = [stamp.device, stamp.inode, stamp.size, stamp.modified, stamp.changed, digest]
        with contextlib.suppress(OSError):
            os.write(self._open(), f"{json.dumps(line)}\n".encode())

    def forget(self) -> None:
        """Take away what this run has written, and what it has read."""
        self._close()
        for path in (*self._read, *([self._file] if self._file else [])):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._place.rmdir()

    def _open(self) -> int:
        if self._descriptor < 0:
            self._place.mkdir(parents=True, exist_ok=True)
            owner = process.this_process("verify")
            self._file = self._place / f"{owner.pid}-{owner.started}.jsonl"
            self._descriptor = changes.open_own(self._file, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
            os.write(self._descriptor, f"{json.dumps(process.to_json(owner))}\n".encode())
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _left(place: Path) -> Iterator[Path]:
    """The files of runs that are over without having come to their end."""
    try:
        paths = sorted(place.glob("*.jsonl"))
    except OSError:
        return
    for path in paths:
        first = (reading.head(path, 4096) or b"").partition(b"\n")[0]
        owner = process.from_json(reading.parsed(first))
        if owner is None or not process.is_alive(owner):
            yield path


def _lines(path: Path) -> Iterator[tuple[Stamp, str]]:
    """What a file says; a torn line says nothing."""
    for line in (reading.head(path, reading.MAX_JSON) or b"").splitlines():
        match reading.parsed(line):
            case [int(device), int(inode), int(size), int(modified), int(changed), str(digest)]:
                yield Stamp(device, inode, size, modified, changed), digest
