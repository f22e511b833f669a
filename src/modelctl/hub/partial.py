"""An unfinished blob on disk: its bytes, written by offset, and a journal of those that are durably there.

The journal is written after `fdatasync`, so it claims nothing that a power cut could take back. It is trusted no
further than the final hash: what a partial claims to hold counts only once the whole has been proven.
"""

import contextlib
import json
import os
import threading
from pathlib import Path

from modelctl.store import changes, journal
from modelctl.store.journal import Range
from modelctl.store.layout import RepoPaths


class Partial:
    """The unfinished blob `digest` of `size` bytes, opened where an earlier pull left it.

    Ranges are half-open. Writers of disjoint ranges may work at once; `save` may be called by any of them.
    """

    def __init__(self, paths: RepoPaths, digest: str, size: int) -> None:
        self.size = size
        self.path = paths.partial(digest)
        self._journal = paths.journal(digest)
        changes.make_folder(self.path.parent)
        try:
            self.descriptor = changes.open_own(self.path, os.O_RDWR)
            self._received = journal.ranges(paths, digest, size=size)
            os.ftruncate(self.descriptor, size)
        except OSError as exc:
            exc.filename = exc.filename or self.path
            raise changes.translated(exc, doing="write") from exc
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self.unsaved = 0

    @property
    def received(self) -> int:
        """Bytes that are there, in all."""
        with self._lock:
            return sum(end - start for start, end in self._received)

    @property
    def prefix(self) -> int:
        """Bytes that are there without a gap from the start on."""
        with self._lock:
            return self._received[0][1] if self._received and self._received[0][0] == 0 else 0

    def gaps(self, longest: int) -> list[Range]:
        """The ranges that are missing, none longer than `longest`."""
        gaps, at = [], 0
        with self._lock:
            edges = [*self._received, (self.size, self.size)]
        for start, end in edges:
            gaps += [(first, min(first + longest, start)) for first in range(at, start, longest)]
            at = max(at, end)
        return gaps

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes at their offset. What comes after the content was proven is not wanted any more."""
        start = offset
        with self._lock:
            if self.descriptor < 0:
                return
            try:
                while data:
                    written = os.pwrite(self.descriptor, data, offset)
                    offset, data = offset + written, data[written:]
            except OSError as exc:
                exc.filename = self.path
                raise changes.translated(exc, doing="write") from exc
            self._received = journal.merged([*self._received, (start, offset)])
            self.unsaved += offset - start

    def adopt(self) -> None:
        """Count as arrived what another program has written into the file in order, from its start on."""
        with self._lock:
            if self.descriptor < 0:
                return
            there = os.fstat(self.descriptor)
            # A file with a hole is not, or not yet, written so.
            end = there.st_size if there.st_size <= there.st_blocks * 512 else 0
            before = sum(end - start for start, end in self._received)
            self._received = [(0, end)] if end else []
            self.unsaved = max(0, self.unsaved + end - before)

    def save(self, *, wait: bool = False) -> None:
        """Make what has arrived durable and record it. One caller at a time; others go on, or `wait`."""
        if not self._saving.acquire(blocking=wait):
            return
        try:
            if self.descriptor < 0:
                return
            with self._lock:
                ranges, saved = list(self._received), self.unsaved
            os.fdatasync(self.descriptor)
            self._write_journal(ranges)
            with self._lock:
                self.unsaved -= saved
        except OSError as exc:
            exc.filename = exc.filename or self.path
            raise changes.translated(exc, doing="write") from exc
        finally:
            self._saving.release()

    def settle(self) -> None:
        """Wait until the save that is under way, if one is, has ended."""
        with self._saving:
            pass

    def publish(self, blob: Path) -> None:
        """Give the proven content its final name. The content is durable before, the journal goes after."""
        self.close(durable=True)
        try:
            self.path.replace(blob)
            changes.sync_folder(blob.parent)
            self._journal.unlink(missing_ok=True)
            self._journal.with_suffix(".tmp").unlink(missing_ok=True)
        except OSError as exc:
            raise changes.translated(exc, doing="write") from exc

    def discard(self) -> None:
        """Forget all that arrived: it did not add up to what it should."""
        with self._lock:
            self._received, self.unsaved = [], 0
        self._journal.unlink(missing_ok=True)
        os.ftruncate(self.descriptor, 0)
        os.ftruncate(self.descriptor, self.size)

    def close(self, *, durable: bool = False) -> None:
        """Give the file back, once nobody writes or saves: a late writer would hit whoever gets its number next."""
        with self._saving, self._lock:
            if self.descriptor < 0:
                return
            try:
                if durable:
                    os.fdatasync(self.descriptor)
            except OSError as exc:
                exc.filename = self.path
                raise changes.translated(exc, doing="write") from exc
            finally:
                os.close(self.descriptor)
                self.descriptor = -1

    def _write_journal(self, ranges: list[Range]) -> None:
        temporary = self._journal.with_suffix(".tmp")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, json.dumps({"size": self.size, "received": ranges}).encode())
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(self._journal)
