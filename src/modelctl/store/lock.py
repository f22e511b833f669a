"""One writer of modelctl a model: a lock that says by whom it is held."""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from modelctl import process
from modelctl.errors import BusyError
from modelctl.store import changes, reading

_POLL = 0.1
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class Lockable(Protocol):
    """What one process at a time may change: a model, or vLLM's environment."""

    @property
    def id(self) -> str:
        """Its name for the user."""

    @property
    def lock(self) -> Path:
        """The file that is locked."""


@contextlib.contextmanager
def held(
    paths: Lockable,
    command: str,
    *,
    wait: Callable[[process.Owner | None], None] | None = None,
) -> Iterator[int]:
    """Hold the model's lock for `command`. A child that inherits the descriptor holds it until its own end.

    Where another process holds it: `BusyError` that names it, or, with `wait`, call that once and wait for it.
    """
    descriptor = _acquire(paths, wait=wait)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(process.to_json(process.this_process(command))).encode(), 0)
        yield descriptor
    finally:
        # Emptied, not removed: a process that waits on this very file would otherwise hold a lock that nobody sees.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def take(descriptor: int) -> None:
    """Lock a file without waiting, as far as its file system has locks. Raises `OSError` where somebody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        # What is written into the file, by whom it is held, is then all that keeps others away.
        if exc.errno not in _WITHOUT_LOCKS:
            raise


def holder(paths: Lockable) -> process.Owner | None:
    """Who holds the model's lock now, as far as its record tells and that process lives."""
    owner = process.from_json(reading.document(paths.lock))
    return owner if owner and process.is_alive(owner) else None


def _acquire(paths: Lockable, *, wait: Callable[[process.Owner | None], None] | None) -> int:
    told = False
    while True:
        descriptor = _open(paths.lock)
        try:
            # On some network file systems flock succeeds for everybody: the record is asked too.
            take(descriptor)
            if not _is_current(descriptor, paths.lock):
                os.close(descriptor)
                continue
            other = holder(paths)
            if other is None or other.pid == os.getpid():
                return descriptor
        except OSError as exc:
            if exc.errno not in {errno.EAGAIN, errno.EACCES}:
                os.close(descriptor)
                raise changes.translated(exc, doing="lock") from exc
        os.close(descriptor)
        owner = holder(paths)
        if wait is None:
            raise BusyError(
                f"`{paths.id}` is in use by {owner or 'another process'}",
                hint="wait for it to end, then run the same command again",
            )
        if not told:
            wait(owner)
            told = True
        time.sleep(_POLL)


def _open(path: Path) -> int:
    while True:
        changes.make_folder(path.parent)
        try:
            return changes.open_lock(path)
        except FileNotFoundError:
            # Gone between the two steps: the model was removed, and the folder of its locks with it.
            continue
        except OSError as exc:
            raise changes.translated(exc, doing="lock") from exc


def _is_current(descriptor: int, path: Path) -> bool:
    """Whether the locked file still is the one with the name: `rm` may have taken it away in between."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
