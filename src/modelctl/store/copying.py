"""Bringing one content into a store: by a second name for it, or by a copy that is hashed on its way."""

import errno
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from modelctl.errors import NotWholeError
from modelctl.store import changes, layout
from modelctl.store import digest as digests

if TYPE_CHECKING:
    from hashlib import _Hash

_CHUNK = 4 * 1024 * 1024
# What a file system answers that has no hard links, has too many of this one, or forbids one on a foreign file.
_NO_LINK = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES}
_FICLONE = 0x40049409  # ioctl that lets two files share their blocks until one is written to
# The file system has no such thing, or keeps the two files apart.
_NO_CLONE = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.EACCES, errno.ENOSYS}
# Hears the bytes of each step; what it raises ends the work.
Tell = Callable[[int], None]


def link(source: Path, spare: Path) -> bool:
    """Give a file a second name; `False` where the file system has none to give."""
    try:
        spare.unlink(missing_ok=True)
        os.link(source, spare, follow_symlinks=False)
    except OSError as exc:
        if exc.errno in _NO_LINK:
            return False
        raise changes.translated(exc, doing="link") from exc
    return True


def clone(source: Path, spare: Path) -> bool:
    """Let a new file share the blocks of another one until either is changed; `False` where no such thing is."""
    try:
        with source.open("rb") as old:
            spare.unlink(missing_ok=True)
            with spare.open("xb") as new:
                try:
                    fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
                except OSError as exc:
                    spare.unlink()
                    if exc.errno in _NO_CLONE:
                        return False
                    raise
    except OSError as exc:
        raise changes.translated(exc, doing="copy") from exc
    return True


def copy(source: Path, spare: Path, digest: str, tell: Tell) -> None:
    """Copy a file and prove it: `NotWholeError`, and no copy, where the content is not what `digest` says.

    A name that is no digest is proven by nothing but the length. `tell` hears the bytes of each step.
    """
    try:
        with source.open("rb", buffering=0) as reading:
            status = os.fstat(reading.fileno())
            spare.unlink(missing_ok=True)
            descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                hashed = _hasher(digest, status.st_size)
                _pour(reading.fileno(), descriptor, hashed, tell)
                is_right = hashed is None or hashed.hexdigest() == digest
                is_right = is_right and os.fstat(descriptor).st_size == status.st_size
                os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
            except BaseException:
                spare.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)
            if not is_right:
                spare.unlink()
                raise NotWholeError(f"`{source}` is damaged: its content does not match its name")
    except OSError as exc:
        raise changes.translated(exc, doing="copy") from exc


def matches(path: Path, digest: str, tell: Tell = lambda _: None) -> bool:
    """Whether a file's content is what the digest says; `False` also for a name that is no digest."""
    try:
        with path.open("rb", buffering=0) as reading:
            hashed = _hasher(digest, os.fstat(reading.fileno()).st_size)
            if hashed is None:
                return False
            while chunk := reading.read(_CHUNK):
                hashed.update(chunk)
                tell(len(chunk))
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    return hashed.hexdigest() == digest


def are_equal(one: Path, other: Path) -> bool:
    """Whether two files have the same content, byte by byte."""
    try:
        with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
            if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
                return False
            while chunk := first.read(_CHUNK):
                if chunk != second.read(len(chunk)):
                    return False
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    return True


def _hasher(digest: str, size: int) -> "_Hash | None":
    return digests.hasher(digest, size) if layout.is_digest(digest) else None


def _pour(source: int, target: int, hashed: "_Hash | None", tell: Tell) -> None:
    """Copy all bytes; one thread hashes a chunk while the other writes it."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        while chunk := os.read(source, _CHUNK):
            hashing = pool.submit(hashed.update, chunk) if hashed is not None else None
            written = 0
            while written < len(chunk):
                written += os.write(target, memoryview(chunk)[written:])
            if hashing is not None:
                hashing.result()
            tell(len(chunk))
