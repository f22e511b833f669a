"""The journal of an unfinished blob: which of its bytes are durably there, as far as its file can hold them."""

import stat

from modelctl.store import reading
from modelctl.store.layout import RepoPaths

Range = tuple[int, int]


def ranges(paths: RepoPaths, digest: str, *, size: int | None = None) -> list[Range]:
    """The half-open ranges of an unfinished blob, of `size` bytes where that is known, that its journal vouches for."""
    try:
        there = paths.partial(digest).lstat()
    except OSError:
        return []
    match reading.document(paths.journal(digest)):
        case {"size": int(of), "received": list(received)} if size in {None, of}:
            if not stat.S_ISREG(there.st_mode) or there.st_size > of:
                return []
            # A file that hf_xet was writing is as long as what it holds.
            return merged([(span[0], span[1]) for span in received if _is_range(span, there.st_size)])
        case _:
            return []


def received(paths: RepoPaths, digest: str, *, size: int | None = None) -> int:
    """The bytes of an unfinished blob that its journal vouches for."""
    return sum(end - start for start, end in ranges(paths, digest, size=size))


def merged(ranges: list[Range]) -> list[Range]:
    """The same bytes in order, each counted once, in as few ranges as there can be."""
    joined: list[Range] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _is_range(span: object, size: int) -> bool:
    match span:
        case [int(start), int(end)]:
            return 0 <= start < end <= size
        case _:
            return False
