"""What the threads of one pull know in common: what is left, what has arrived, what there is to tell, what failed."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from modelctl.hub.source import Blob
from modelctl.progress import Progress

if TYPE_CHECKING:
    from modelctl.hub.transfer import Transfer


class Ledger:
    """The state of a pull of `blobs`, of which `resumed` says what is already there of some.

    `changed` guards it, and wakes who waits for a job. `stop` ends all work, `over` says that nothing is left or
    something failed. `open` are the large blobs on their way.
    """

    def __init__(self, blobs: Iterable[Blob], resumed: Mapping[str, int]) -> None:
        self.changed = threading.Condition()
        self.stop = threading.Event()
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.open: dict[str, Transfer] = {}
        self.fetched = 0
        self._left = {blob.digest for blob in blobs}
        self._known = dict(resumed)
        self._done = sum(self._known.values())
        self._arrived = time.monotonic()
        self._messages: deque[str] = deque()
        self._finished: deque[tuple[Blob, str]] = deque()

    @property
    def is_going_on(self) -> bool:
        """Whether there is something left to do, and nothing forbids it."""
        return bool(self._left) and not self.stop.is_set()

    @property
    def done(self) -> int:
        """Bytes that are there, as of the last `tell`."""
        return self._done

    @property
    def files(self) -> int:
        """Blobs of which something was there, or that are done."""
        return len(self._known)

    @property
    def silence(self) -> float:
        """Seconds since something arrived."""
        return time.monotonic() - self._arrived

    def say(self, message: str) -> None:
        """Leave a sentence for the user."""
        self._messages.append(message)

    def arrive(self, count: int) -> None:
        """Take note of fetched bytes."""
        if count:
            with self.changed:
                self._arrived = time.monotonic()
                self.fetched += count
                self.changed.notify_all()

    def excuse(self) -> None:
        """Begin the silence anew: it is not the Hub that is waited for."""
        self._arrived = time.monotonic()

    def finish(self, blob: Blob, *, fetched: int = 0, source: str = "fetched") -> None:
        """Take note of a blob that is whole, proven, and has its name; `source` is as `Progress.file` tells it."""
        with self.changed:
            self.open.pop(blob.digest, None)
            self.fetched += fetched
            self._arrived = time.monotonic()
            self._known[blob.digest] = blob.size
            self._finished.append((blob, source))
            self._left.discard(blob.digest)
            # Nobody is woken for each of two thousand files: only where nothing is left to wait for.
            if not self._left:
                self.over.set()
                self.changed.notify_all()

    def fail(self, exc: BaseException) -> None:
        """End the pull with this; the first failure counts."""
        with self.changed:
            self.error = self.error or exc
            self.stop.set()
            self.over.set()
            self.changed.notify_all()

    def tell(self, progress: Progress, base: int) -> None:
        """Tell the listener what is new. Called from one thread."""
        while self._messages:
            progress.say(self._messages.popleft())
        while self._finished:
            blob, source = self._finished.popleft()
            progress.file(blob.name, size=blob.size, source=source)
        with self.changed:
            done = sum(self._known.values())
            done += sum(one.partial.received - self._known.get(digest, 0) for digest, one in self.open.items())
            if done > self._done:
                # Also where no part is whole yet: on a slow line one part takes longer than the patience lasts.
                self._arrived = time.monotonic()
            self._done = done
        progress.advance(base + done)
