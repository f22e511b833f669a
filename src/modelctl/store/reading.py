"""Small and bounded reads of what other tools wrote: never more than asked for, never a wait, no trace in the atime."""

import json
import os
from typing import Any

MAX_JSON = 25_000_000 - 1


def opened(path: str | os.PathLike[str]) -> int:
    """Open for reading: a FIFO does not block, and a look at a header does not count as a use of the model."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        # Only the owner of a file may leave its access time alone.
        return os.open(path, flags)


def head(path: str | os.PathLike[str], limit: int) -> bytes | None:
    """Up to `limit` bytes from the beginning of a file, `None` where it cannot be read."""
    return part(path, 0, limit)


def part(path: str | os.PathLike[str], offset: int, limit: int) -> bytes | None:
    """Up to `limit` bytes from `offset` on, `None` where the file cannot be read."""
    try:
        descriptor = opened(path)
    except OSError:
        return None
    try:
        chunks = []
        # Most are small, and room for much costs more than the reading.
        wanted = min(limit, 1 << 14)
        while wanted > 0:
            chunk = os.pread(descriptor, wanted, offset)
            chunks.append(chunk)
            if len(chunk) < wanted:
                break
            offset += wanted
            limit -= wanted
            wanted = min(limit, 1 << 20)
        return b"".join(chunks)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def document(path: str | os.PathLike[str], limit: int = MAX_JSON) -> Any:  # noqa: ANN401 - JSON values
    """The JSON value of a file, `None` where it is none, or longer than `limit`."""
    data = head(path, limit + 1)
    return None if data is None or len(data) > limit else parsed(data)


def parsed(data: bytes) -> Any:  # noqa: ANN401 - JSON values
    """The JSON value of some bytes, `None` where they are none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
