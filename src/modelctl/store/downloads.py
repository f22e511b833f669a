"""Downloads of a model by huggingface_hub itself: it holds a lock beside ours for each blob that it fetches."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from modelctl.errors import BusyError
from modelctl.store.layout import RepoPaths


def refuse(paths: RepoPaths) -> None:
    """`BusyError` where another Hugging Face tool is downloading into the model's folder."""
    for path in _locks(paths):
        with _locked(path) as is_free:
            if is_free is False:
                raise BusyError(
                    f"`{paths.id}` is being downloaded by another Hugging Face tool",
                    hint="wait for it to end, then run the same command again",
                )


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock file, be it in another container, where nobody sees his process."""
    with _locked(path) as is_free:
        return is_free is False


@contextlib.contextmanager
def held_off(paths: RepoPaths, digest: str) -> Iterator[bool | None]:
    """Keep other Hugging Face tools from fetching a blob meanwhile.

    `False` where one of them is at it, `None` where nobody can tell: there is no lock, or none that can be asked.
    """
    # Clients before 0.17 put the lock beside the blob.
    places = (paths.blob_lock(digest), paths.blobs / f"{digest}.lock")
    with _locked(next((path for path in places if path.exists()), places[0])) as is_free:
        yield is_free


def discard_locks(paths: RepoPaths) -> None:
    """Remove the folder of the locks of a model that is gone. Only the holder of the model's own lock may.

    A lock file goes while it is held here, so who waits for it sees that it is gone and takes the next one; one that
    somebody else holds stays, and the folder with it.
    """
    for path in _locks(paths):
        with _locked(path) as is_free, contextlib.suppress(OSError):
            if is_free is not False:
                path.unlink()
    if any(path != paths.lock for path in _entries(paths)):
        return
    with contextlib.suppress(OSError):
        paths.lock.unlink()
        paths.locks.rmdir()


def _locks(paths: RepoPaths) -> list[Path]:
    return [path for path in _entries(paths) if path.suffix == ".lock" and path != paths.lock]


def _entries(paths: RepoPaths) -> list[Path]:
    try:
        return sorted(paths.locks.iterdir())
    except OSError:
        return []


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool | None]:
    """Hold a lock file if nobody else does; `None` where it cannot be asked, as without `flock`."""
    descriptor = _open(path)
    if descriptor is None:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            yield False if exc.errno in {errno.EAGAIN, errno.EACCES} else None
        else:
            yield True
    finally:
        os.close(descriptor)


def _open(path: Path) -> int | None:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    # Over NFS a lock needs a descriptor that can write; another user's lock file may be readable only.
    for access in (os.O_RDWR, os.O_RDONLY):
        with contextlib.suppress(OSError):
            return os.open(path, access | flags)
    return None
