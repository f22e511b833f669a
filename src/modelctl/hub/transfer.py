"""One large blob: ranged, resumable, hashed beside the transfer."""

import os
import re
import threading
import time
from collections.abc import Mapping

from modelctl.hub.answer import Answer
from modelctl.hub.connection import Connections, Target, is_redirect
from modelctl.hub.partial import Partial
from modelctl.hub.patience import TryAgainError
from modelctl.hub.source import PARTIAL, Blob, Refusal, Source, check_or_finish
from modelctl.store import digest
from modelctl.store.layout import RepoPaths

SEGMENT = 32 * 1024 * 1024
_BUFFER = 1024 * 1024
_FIRST_READ = 64 * 1024
_SAVE_BYTES = 8 * 1024 * 1024
_SAVE_SECONDS = 2.0
# What a kill may cost of one file; a disk that is slower than the line is waited for.
_MOST_UNSAVED = 16 * 1024 * 1024
_HASH_STEP = 1024 * 1024
_REFUSED = {401, 403, 404, 410}
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


class NoRangesError(Exception):
    """The server sent the whole file where a part was asked for."""


class Transfer:
    """One large blob on its way: several workers fetch its segments, one hashes what is there without a gap."""

    def __init__(self, blob: Blob, paths: RepoPaths, refusal: Refusal) -> None:
        self.blob = blob
        self.partial = Partial(paths, blob.digest, blob.size)
        self.source = Source(blob, refusal)
        self._refusal = refusal
        self._hash = digest.hasher(blob.digest, blob.size)
        self._saved_at = time.monotonic()
        self.hashed = 0
        self.hashing = threading.Lock()
        # Set once the server has shown that it knows no ranges: one worker alone then fetches the whole.
        self.as_whole = False

    @property
    def is_complete(self) -> bool:
        """Whether every byte has arrived."""
        return self.partial.received == self.blob.size

    def fetch(self, connections: Connections, span: tuple[int, int], stop: threading.Event) -> int:
        """Fetch what is left of a range, and return where it ended.

        Raises `TryAgainError` for what may pass, `NoRangesError` where only the whole can be had.
        """
        start, end = span
        target, answer = self._ask(connections, headers={"Range": f"bytes={start}-{end - 1}"})
        try:
            if answer.status == PARTIAL:
                self._check_range(answer, start)
            elif start > 0 or end < self.blob.size:
                raise NoRangesError
            return self._receive(answer, span, stop)
        finally:
            connections.release(target, answer)

    def fetch_whole(self, connections: Connections, stop: threading.Event) -> None:
        """Fetch everything in one answer, from a server that knows no ranges."""
        target, answer = self._ask(connections)
        try:
            at = self._receive(answer, (0, self.blob.size), stop)
        finally:
            connections.drop(target)
        if at < self.blob.size and not stop.is_set():
            raise TryAgainError("the connection ended early")

    def _ask(self, connections: Connections, *, headers: Mapping[str, str] | None = None) -> tuple[Target, Answer]:
        """Ask for content where it is; an address that moved or expired is renewed by the next try."""
        target = self.source.target(connections)
        answer = connections.request(target, headers=headers)
        if is_redirect(answer):
            connections.finish(target, answer)
            self.source.move(target, answer.headers["location"])
            raise TryAgainError("its address has moved", wait=0)
        if answer.status in _REFUSED and not self.source.is_hub(target):
            connections.finish(target, answer)
            self.source.expire(target)
            raise TryAgainError("its signed address has expired", wait=0)
        check_or_finish(connections, target, answer, self._refusal)
        return target, answer

    def hash_more(self) -> bool:
        """Hash what has arrived without a gap; whether there was anything. Called under `hashing`."""
        upto = self.partial.prefix
        if upto == self.hashed:
            return False
        buffer = memoryview(bytearray(min(_HASH_STEP, upto - self.hashed)))
        while self.hashed < upto:
            step = os.preadv(self.partial.descriptor, [buffer[: upto - self.hashed]], self.hashed)
            if step == 0:
                break
            self._hash.update(buffer[:step])
            self.hashed += step
        return True

    def is_proven(self) -> bool:
        """Whether the content is what its name says. Called when all of it is hashed."""
        return self._hash.hexdigest() == self.blob.digest

    def restart(self) -> None:
        """Forget everything, after the whole turned out to be wrong."""
        self.partial.discard()
        self._hash = digest.hasher(self.blob.digest, self.blob.size)
        self.hashed = 0

    def save(self, *, wait: bool = False) -> None:
        """Record what has arrived; with `wait` also what came while another thread recorded."""
        if self.partial.unsaved:
            self._saved_at = time.monotonic()
            self.partial.save(wait=wait)

    def _receive(self, answer: Answer, span: tuple[int, int], stop: threading.Event) -> int:
        at, end = span
        buffer = memoryview(bytearray(min(_BUFFER, max(end - at, 1))))
        # Small reads on a slow line, so that progress shows and little is lost; large ones on a fast line.
        length = _FIRST_READ
        while at < end and not stop.is_set():
            began = time.monotonic()
            count = answer.read_into(buffer[: min(length, end - at)])
            if count == 0:
                break
            self.partial.write(at, buffer[:count])
            at += count
            took = time.monotonic() - began
            length = min(length * 2, _BUFFER) if took < 0.05 else max(length // 2, 4096) if took > 0.25 else length
            if self.partial.unsaved >= _SAVE_BYTES or began - self._saved_at >= _SAVE_SECONDS:
                self.save()
                if self.partial.unsaved >= _MOST_UNSAVED:
                    self.partial.settle()
        return at

    def _check_range(self, answer: Answer, start: int) -> None:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if match is None or int(match[1]) != start or match[3] not in {"*", str(self.blob.size)}:
            found = answer.headers.get("content-range")
            raise TryAgainError(f"the server answers with another part than asked for ({found})")
