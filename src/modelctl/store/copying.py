"""Bringing one content into a store: by a second name for it, or by a copy that is hashed on its way."""

import errno
import fcntl
import os
import stat
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from modelctl.errors import NotWholeError
from modelctl.store import changes, layout, proof
from modelctl.store.crew import Tell

if TYPE_CHECKING:
    from hashlib import _Hash

# By how many chunks the hashing may lag behind the writing.
_AHEAD = 4
# What a file system answers that has no hard links, has too many of this one, or forbids one on a foreign file.
NO_LINK = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES}
_FICLONE = 0x40049409  # ioctl that lets two files share their blocks until one is written to
# The file system has no such thing, or keeps the two files apart.
_NO_CLONE = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.EACCES, errno.ENOSYS}


def link(source: Path, spare: Path) -> bool:
    """Give a file a second name; `False` where the file system has none to give."""
    try:
        spare.unlink(missing_ok=True)
        os.link(source, spare, follow_symlinks=False)
    except OSError as exc:
        if exc.errno in NO_LINK:
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


def copy(source: Path, spare: Path, digest: str, tell: Tell, *, is_alone: bool = True) -> None:
    """Copy a file and prove it: `NotWholeError`, and no copy, where the content is not what `digest` says.

    What an interrupted copy has left at `spare` is gone on with, since it is proven with the rest. A name that is no
    digest is proven by nothing but the length. `tell` hears the bytes of each step. A file that `is_alone`, with no
    other copied beside it, is hashed by a thread of its own.
    """
    is_first = not _may_go_on(source, spare, digest)
    if is_first:
        spare.unlink(missing_ok=True)
    if _copied(source, spare, digest, tell, is_alone=is_alone):
        return
    spare.unlink()
    # What had been left there may have been wrong, and not the source.
    if is_first or not _copied(source, spare, digest, tell, is_alone=is_alone):
        spare.unlink(missing_ok=True)
        raise NotWholeError(f"`{source}` is damaged: its content does not match its name")


def _may_go_on(source: Path, spare: Path, digest: str) -> bool:
    try:
        there = spare.lstat()
        is_own = stat.S_ISREG(there.st_mode) and there.st_nlink == 1
        return is_own and layout.is_digest(digest) and 0 < there.st_size <= source.stat().st_size
    except OSError:
        return False


def _copied(source: Path, spare: Path, digest: str, tell: Tell, *, is_alone: bool) -> bool:
    """Copy what is not there yet, and tell whether the whole is what it should be."""
    try:
        with source.open("rb", buffering=0) as reading:
            status = os.fstat(reading.fileno())
            descriptor = os.open(spare, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                hashed = proof.hasher(digest, status.st_size)
                proof.feed(descriptor, hashed, tell)
                os.lseek(reading.fileno(), os.lseek(descriptor, 0, os.SEEK_CUR), os.SEEK_SET)
                if hashed is not None and is_alone and status.st_size > proof.CHUNK:
                    _pour_beside(reading.fileno(), descriptor, hashed, tell)
                else:
                    _pour(reading.fileno(), descriptor, hashed, tell)
                is_right = hashed is None or hashed.hexdigest() == digest
                is_right = is_right and os.fstat(descriptor).st_size == status.st_size
                os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(descriptor)
            return is_right
    except OSError as exc:
        raise changes.translated(exc, doing="copy") from exc


def are_equal(one: Path, other: Path) -> bool:
    """Whether two files have the same content, byte by byte."""
    try:
        with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
            if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
                return False
            while chunk := first.read(proof.CHUNK):
                if chunk != second.read(len(chunk)):
                    return False
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    return True


def _pour(source: int, target: int, hashed: "_Hash | None", tell: Tell) -> None:
    """Copy all bytes, hashing each chunk while it is at hand."""
    buffer = proof.buffer(source)
    while count := os.readv(source, [buffer]):
        if hashed is not None:
            hashed.update(buffer[:count])
        _write(target, buffer[:count])
        tell(count)


def _pour_beside(source: int, target: int, hashed: "_Hash", tell: Tell) -> None:
    """The same by two threads: one hashes chunks while the other reads and writes the next ones."""
    free = [proof.buffer(source) for _ in range(_AHEAD)]
    hashing: deque[tuple[Future[None], memoryview]] = deque()
    with ThreadPoolExecutor(max_workers=1) as pool:
        while count := os.readv(source, [buffer := free.pop()]):
            hashing.append((pool.submit(hashed.update, buffer[:count]), buffer))
            _write(target, buffer[:count])
            tell(count)
            if not free:
                oldest, buffer = hashing.popleft()
                oldest.result()
                free.append(buffer)
        for each, _ in hashing:
            each.result()


def _write(target: int, chunk: memoryview) -> None:
    written = 0
    while written < len(chunk):
        written += os.write(target, chunk[written:])
