"""What the threads of one pull are to do next."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from modelctl.hub.small import LARGEST
from modelctl.hub.source import Blob
from modelctl.hub.transfer import SEGMENT, Transfer

# Several, since what one file gets while its bytes are made durable is lost if the pull is killed just then; not all,
# so that an interrupted pull leaves whole files.
_LARGE_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Job:
    """One thing for a worker to do: a small blob, the opening of a large one, or a part of one (`None`: the whole)."""

    blob: Blob
    transfer: Transfer | None = None
    span: tuple[int, int] | None = None


class Queue:
    """The jobs of a pull: blobs in the order given, of large ones a few at once, the parts of each in their order.

    Whoever calls holds what guards the pull's state.
    """

    def __init__(self, blobs: Iterable[Blob]) -> None:
        self._blobs = deque(Job(blob) for blob in blobs)
        self._parts: deque[deque[Job]] = deque()
        self._later: deque[Job] = deque()
        self._opening: set[str] = set()

    def take(self, *, width: int) -> Job | None:
        """The next job, where `width` connections work."""
        if self._blobs and len(self._parts) + len(self._opening) < min(width, _LARGE_AT_ONCE):
            job = self._blobs.popleft()
            if job.blob.size > LARGEST:
                self._opening.add(job.blob.digest)
            return job
        if self._parts:
            parts = self._parts.popleft()
            job = parts.popleft()
            if parts:
                self._parts.append(parts)
            return job
        return self._later.popleft() if self._later else None

    def divide(self, one: Transfer) -> None:
        """Queue what is missing of a large blob."""
        spans = [None] if one.as_whole else one.partial.gaps(SEGMENT)
        if spans:
            self._parts.append(deque(Job(one.blob, one, span) for span in spans))

    def opened(self, blob: Blob) -> None:
        """Take note that a large blob has been opened, or cannot be for now."""
        self._opening.discard(blob.digest)

    def drop(self, one: Transfer) -> None:
        """Forget the parts of a large blob."""
        self._parts = deque(parts for parts in self._parts if parts[0].transfer is not one)

    def postpone(self, blob: Blob) -> None:
        """Come back to a blob when there is nothing else to do."""
        self._later.append(Job(blob))
