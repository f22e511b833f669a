"""Whether a content is what its name says: the one place that reads a content of a store for its hash.

A look at a content is no use of the model, so access times stay as they are where that is allowed. What is no regular
file is refused before it is read: a pipe would be waited for.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelctl.store import changes, layout, reading
from modelctl.store import digest as digests
from modelctl.store.crew import Tell

if TYPE_CHECKING:
    from hashlib import _Hash

# Small enough to be hashed while it is still in the processor's cache; the buffers are kept, since new ones cost more
# than what is done with them.
CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another without a look into it. Times in nanoseconds.

    `changed` is the time of the last change that the system keeps by itself, and that nobody can set.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A content that was read to its end: what it hashes to, and the state of the file before and after."""

    digest: str
    before: Stamp
    after: Stamp

    @property
    def is_steady(self) -> bool:
        """Whether nobody wrote to it meanwhile."""
        return self.before == self.after


def stamp(status: os.stat_result) -> Stamp:
    """The state of a file."""
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def matches(path: Path, digest: str, tell: Tell = lambda _: None) -> bool:
    """Whether a file's content is what the digest says; `False` also for a name that is no digest."""
    return layout.is_digest(digest) and read(path, digest, tell).digest == digest


def read(path: Path, digest: str, tell: Tell = lambda _: None) -> Reading:
    """Hash a file in the way that a digest is made. `tell` hears the bytes of each step."""
    try:
        descriptor = reading.opened(path)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is no file")
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            hashed = digests.hasher(digest, status.st_size)
            feed(descriptor, hashed, tell)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        # What fails on a descriptor names no file.
        exc.filename = exc.filename or path
        raise changes.translated(exc, doing="read") from exc
    return Reading(hashed.hexdigest(), stamp(status), stamp(after))


def hasher(digest: str, size: int) -> "_Hash | None":
    """What proves a content of `size` bytes; `None` for a name that is no digest."""
    return digests.hasher(digest, size) if layout.is_digest(digest) else None


def feed(descriptor: int, hashed: "_Hash | None", tell: Tell) -> None:
    """Read on to the end."""
    chunk = buffer(descriptor)
    while count := os.readv(descriptor, [chunk]):
        if hashed is not None:
            hashed.update(chunk[:count])
        tell(count)


def buffer(descriptor: int) -> memoryview:
    """A place for a chunk, and no larger than the file: most of a model's files are small."""
    return memoryview(bytearray(max(1, min(CHUNK, os.fstat(descriptor).st_size))))
