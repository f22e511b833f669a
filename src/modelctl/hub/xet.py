"""Files that hf_xet fetches from Xet storage, proven and published like all others.

hf_xet writes a file from its start to its end and cannot go on where an earlier run was stopped. So what it has written
is put down in the journal of our own transfer, which finishes what was begun.
"""

import hashlib
import re
import threading
import time
from collections import deque
from collections.abc import Sequence

from modelctl.errors import NoRoomError, NotWholeError, UnreachableError
from modelctl.hub import grant, uninterrupted
from modelctl.hub.bloblocks import BlobLocks
from modelctl.hub.client import Hub
from modelctl.hub.file import PlannedFile, has_blob
from modelctl.hub.grant import BY_HTTP
from modelctl.hub.partial import Partial
from modelctl.hub.plan import PullPlan
from modelctl.hub.storage import Storage
from modelctl.hub.workers import Limits
from modelctl.progress import Progress
from modelctl.ref import ModelRef
from modelctl.store import changes, disk
from modelctl.store.layout import is_sha256

_XET_HASH = re.compile(r"[0-9a-f]{64}")
_TICK = 0.1
_GOODBYE = 0.5
_SAVE_SECONDS = 2.0


def fetch(
    planned: PullPlan, wanted: Sequence[PlannedFile], hub: Hub, progress: Progress, *, limits: Limits, anew: bool
) -> tuple[list[PlannedFile], int]:
    """Fetch what lies in Xet storage; the files that are left for our own transfer, and the bytes that came.

    Left are files that do not lie there, and those of which an earlier pull has a part. `anew` fetches also what
    something has the name of already.
    """
    chosen = {file.digest: file for file in wanted if _is_backed(planned, file)}
    if wanted and not chosen:
        progress.say("none of it lies in Xet storage: it comes by HTTP")
    for digest in chosen.keys() & planned.resumed.keys():
        progress.say(f"`{chosen.pop(digest).name}` was begun before: what is missing of it comes by HTTP")
    left = [file for file in wanted if file.digest not in chosen]
    if not chosen:
        return left, 0
    granted = grant.ask(hub, ModelRef(planned.id, planned.revision), planned.commit)
    downloads = _Downloads(planned, list(chosen.values()), limits=limits, anew=anew)
    resumed = sum(planned.resumed.get(digest, 0) for digest in {file.digest for file in left})
    base = planned.size - sum({file.digest: file.size for file in wanted}.values()) + resumed
    downloads.run(Storage(granted, stall=limits.stall), progress, base=base)
    return left, downloads.fetched


def _is_backed(planned: PullPlan, file: PlannedFile) -> bool:
    """Whether a file lies in Xet storage, and the name of its blob can prove what comes from there."""
    return is_sha256(file.digest) and _XET_HASH.fullmatch(_xet_hash(planned, file)) is not None


def _xet_hash(planned: PullPlan, file: PlannedFile) -> str:
    return planned.tree[file.name].xet_hash or ""


class _Downloads:
    """Files of one model, some at a time. One instance runs once."""

    def __init__(self, planned: PullPlan, files: Sequence[PlannedFile], *, limits: Limits, anew: bool) -> None:
        self._planned = planned
        self._paths = planned.paths
        self._limits = limits
        self._anew = anew
        self._queue = deque(files)
        self._total = sum(file.size for file in files)
        self._left = len(files)
        self._locks = BlobLocks(planned.paths)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._messages: deque[str] = deque()
        self._finished: deque[PlannedFile] = deque()
        self._open: dict[str, Partial] = {}
        self._coming = 0
        # Bytes that count as done without having come, less those that came in vain.
        self._beside = 0
        self._moved = (0, 0)
        self._moved_at = time.monotonic()

    @property
    def fetched(self) -> int:
        """The bytes that crossed the network."""
        return self._moved[1]

    def run(self, storage: Storage, progress: Progress, *, base: int) -> None:
        """Fetch all of them, or raise what stopped it; what has been written by then is recorded."""
        for folder in (self._paths.partials, self._paths.blobs):
            changes.make_folder(folder)
        count = min(self._limits.max_workers, self._left)
        threads = [threading.Thread(target=self._work, args=(storage,), daemon=True) for _ in range(count)]
        threads.append(threading.Thread(target=self._keep, daemon=True))
        try:
            for thread in threads:
                thread.start()
            while not self._over.wait(_TICK):
                self._tell(storage, progress, base)
                self._watch()
        finally:
            uninterrupted.run(lambda: self._end(storage, threads))
        self._tell(storage, progress, base)
        if self._error is not None:
            raise self._error

    def _tell(self, storage: Storage, progress: Progress, base: int) -> None:
        while self._messages:
            progress.say(self._messages.popleft())
        while self._finished:
            file = self._finished.popleft()
            progress.file(file.name, size=file.size, source="fetched")
        moved = storage.moved
        with self._lock:
            if moved != self._moved or not self._coming:
                self._moved, self._moved_at = moved, time.monotonic()
            there = max(moved) + self._beside
        progress.advance(base + max(0, min(there, self._total)))

    def _watch(self) -> None:
        """Give up where nothing comes: hf_xet itself would go on trying."""
        longest = max(self._limits.patience, self._limits.stall)
        silence = time.monotonic() - self._moved_at
        if silence > longest:
            self._fail(UnreachableError(f"nothing has come from Xet storage for {silence:.0f} s", hint=BY_HTTP))

    def _end(self, storage: Storage, threads: list[threading.Thread]) -> None:
        self._stop.set()
        storage.end()
        deadline = time.monotonic() + _GOODBYE
        for thread in threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._save(wait=True)
        if not any(thread.is_alive() for thread in threads):
            for partial in self._open.values():
                partial.close()
        self._locks.release()

    # -- what the threads do

    def _work(self, storage: Storage) -> None:
        try:
            while (file := self._take()) is not None:
                self._bring(storage, file)
        except BaseException as exc:  # noqa: BLE001 - a thread's failure is the pull's, and is raised there
            self._fail(exc)

    def _take(self) -> PlannedFile | None:
        with self._lock:
            return self._queue.popleft() if self._queue and not self._stop.is_set() else None

    def _keep(self) -> None:
        """Record, every now and then, what is durably there: a pull that is killed has lost little."""
        try:
            while not self._stop.wait(_SAVE_SECONDS):
                self._save()
        except BaseException as exc:  # noqa: BLE001 - as above
            self._fail(exc)

    def _save(self, *, wait: bool = False) -> None:
        with self._lock:
            partials = list(self._open.values())
        for partial in partials:
            partial.adopt()
            if partial.unsaved:
                partial.save(wait=wait)

    def _bring(self, storage: Storage, file: PlannedFile) -> None:
        self._wait_for_other_tools(file)
        if self._stop.is_set():
            return
        if not self._anew and has_blob(self._paths, file):
            # Another tool has fetched it while we waited for its lock.
            self._finish(file, beside=file.size)
            return
        partial = Partial(self._paths, file.digest, file.size)
        if not self._write_and_prove(storage, file, partial):
            self._messages.append(f"`{file.name}`: wrong bytes, fetched once more")
            with self._lock:
                self._beside -= file.size
            if not self._write_and_prove(storage, file, partial):
                partial.discard()
                raise NotWholeError(
                    f"`{file.name}` arrived twice with bytes that do not match its hash",
                    hint=f"Xet storage is damaged; {BY_HTTP}",
                )
        partial.publish(self._paths.blob(file.digest))
        self._finish(file)

    def _write_and_prove(self, storage: Storage, file: PlannedFile, partial: Partial) -> bool:
        """Have a file written from its start; whether it is what it should be."""
        partial.discard()
        with self._lock:
            self._open[file.digest] = partial
            self._coming += 1
        try:
            storage.bring(file.name, _xet_hash(self._planned, file), file.size, partial.path)
        except UnreachableError as exc:
            partial.adopt()
            free, lacking = disk.free(self._paths.partials), file.size - partial.received
            if free < lacking and not self._stop.is_set():
                raise NoRoomError(
                    f"cannot write `{partial.path}`: it lacks {lacking:,} bytes, and there are {free:,} free",
                    hint="free some space, then run the same command again: nothing that arrived is lost",
                ) from exc
            raise
        finally:
            with self._lock:
                self._coming -= 1
        # Not beside the transfer: that it is written in order is hf_xet's way today, and not its promise.
        with partial.path.open("rb") as written:
            return hashlib.file_digest(written, "sha256").hexdigest() == file.digest

    def _wait_for_other_tools(self, file: PlannedFile) -> None:
        if self._locks.take(file.digest):
            return
        self._messages.append(f"`{file.name}`: another tool is fetching it; waiting for that")
        while not self._stop.wait(_TICK):
            if self._locks.take(file.digest):
                return

    # -- bookkeeping

    def _finish(self, file: PlannedFile, *, beside: int = 0) -> None:
        with self._lock:
            self._open.pop(file.digest, None)
            self._finished.append(file)
            self._beside += beside
            self._left -= 1
            if not self._left:
                self._over.set()

    def _fail(self, exc: BaseException) -> None:
        with self._lock:
            self._error = self._error or exc
            self._stop.set()
            self._over.set()
