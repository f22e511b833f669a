"""The threads of one pull: they take small files and segments of large ones from one queue."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from modelctl.errors import ModelctlError, UnreachableError
from modelctl.hub import hashing, small, uninterrupted
from modelctl.hub.bloblocks import BlobLocks
from modelctl.hub.connection import Connections
from modelctl.hub.ledger import Ledger
from modelctl.hub.patience import KEEP_GOING, TryAgainError, passing, reason
from modelctl.hub.queue import Job, Queue
from modelctl.hub.source import Blob, Refusal, WrongBytesError, not_whole
from modelctl.hub.transfer import NoRangesError, Transfer
from modelctl.hub.width import FILE, Pace
from modelctl.progress import Progress
from modelctl.store import changes
from modelctl.store.layout import RepoPaths

_TICK = 0.1
_GOODBYE = 0.5
_TRIES = 12


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections at most, and for how many seconds to go on trying while no byte arrives.

    `stall` is after how many seconds without a byte one connection is given up and opened anew, `transport` how files
    come that lie in Xet storage; all others come by HTTP.
    """

    max_workers: int = 16
    patience: float = 120.0
    stall: float = 20.0
    transport: Literal["http", "xet"] = "http"


class Workers:
    """Fetches blobs into a model's folder. One instance runs once.

    `force` fetches also what is there already.
    """

    def __init__(self, paths: RepoPaths, refusal: Refusal, *, limits: Limits, force: bool = False) -> None:
        self._paths = paths
        self._refusal = refusal
        self._limits = limits
        self._force = force
        self._ledger = Ledger((), {})
        self._queue = Queue(())
        self._locks = BlobLocks(paths)
        self._pace = Pace(limits.max_workers)
        self._threads: list[threading.Thread] = []
        self._wrong: set[str] = set()
        self._waiting: set[str] = set()

    @property
    def fetched(self) -> int:
        """Bytes that have come."""
        return self._ledger.fetched

    def run(self, blobs: Sequence[Blob], progress: Progress, *, resumed: Mapping[str, int], base: int = 0) -> None:
        """Fetch all of them, or raise what stopped it; what has arrived by then is kept and recorded.

        `resumed` says what is already there of some, `base` what counts as done before.
        """
        little = [blob for blob in blobs if blob.size <= small.LARGEST]
        large = sorted((blob for blob in blobs if blob.size > small.LARGEST), key=lambda blob: -blob.size)
        self._queue = Queue((*little, *large))
        for folder in (self._paths.partials, self._paths.blobs):
            changes.make_folder(folder)
        ledger = self._ledger = Ledger(blobs, {blob.digest: resumed.get(blob.digest, 0) for blob in large})
        hashers = hashing.threads(ledger, self._paths, self._start_again) if large else []
        self._pace.begin(self._work_done(), time.monotonic())
        try:
            for thread in hashers:
                thread.start()
            self._widen()
            while not ledger.over.wait(_TICK):
                ledger.tell(progress, base)
                self._pace.look(self._work_done(), time.monotonic())
                self._widen()
        finally:
            uninterrupted.run(lambda: self._end([*self._threads, *hashers]))
        ledger.tell(progress, base)
        if ledger.error is not None:
            raise ledger.error

    def _work_done(self) -> int:
        return self._ledger.done + FILE * self._ledger.files

    def _widen(self) -> None:
        """Start the threads that are wanted; those that are too many wait."""
        for at in range(len(self._threads), self._pace.count):
            thread = threading.Thread(target=self._work, args=(at,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _end(self, threads: list[threading.Thread]) -> None:
        ledger = self._ledger
        ledger.stop.set()
        with ledger.changed:
            ledger.changed.notify_all()
        deadline = time.monotonic() + _GOODBYE
        for thread in threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        failures = [failure for one in list(ledger.open.values()) if (failure := _saving_failed(one))]
        if not any(thread.is_alive() for thread in threads):
            # A thread that hangs in a read would write into whatever gets the number of a closed file.
            for one in ledger.open.values():
                one.partial.close()
        self._locks.release()
        if failures:
            raise failures[0]

    def _work(self, at: int) -> None:
        connections = Connections(timeout=self._limits.stall)
        try:
            while (job := self._take(at)) is not None:
                self._persist(job, connections)
        except BaseException as exc:  # noqa: BLE001 - a thread's failure is the pull's, and is raised there
            self._ledger.fail(exc)
        finally:
            connections.close()

    def _take(self, at: int) -> Job | None:
        with self._ledger.changed:
            while self._ledger.is_going_on:
                width = self._pace.count
                if at < width and (job := self._queue.take(width=width)):
                    return job
                self._ledger.changed.wait(_TICK)
        return None

    def _persist(self, job: Job, connections: Connections) -> None:
        """Do a job until it is done, with growing pauses while it fails and nothing arrives."""
        tries, at, since = 0, _position(job), time.monotonic()
        while not self._ledger.stop.is_set():
            try:
                self._do(job, connections)
            except (TryAgainError, OSError) as exc:
                job, before = self._remainder(job), at
                at = _position(job)
                if at > before:
                    tries, since = 0, time.monotonic()
                tries += 1
                self._pause(job, exc, tries, since)
            else:
                return

    def _pause(self, job: Job, exc: TryAgainError | OSError, tries: int, since: float) -> None:
        again = passing(exc)
        pause = again.pause(tries)
        # Where others arrive meanwhile there is no silence, and one that never comes would be asked for for ever.
        is_in_vain = tries > _TRIES and (not pause or time.monotonic() - since > self._limits.patience)
        if is_in_vain or self._ledger.silence + pause > self._limits.patience:
            why = reason(again, patience=self._limits.patience)
            raise UnreachableError(f"`{job.blob.name}` cannot be fetched: {why}", hint=KEEP_GOING) from exc
        if pause:
            self._pace.hinder()
            self._ledger.say(f"`{job.blob.name}`: {again}; trying again in {pause:.1f} s")
            self._ledger.stop.wait(pause)

    def _do(self, job: Job, connections: Connections) -> None:
        if job.transfer is None and job.blob.size <= small.LARGEST:
            self._fetch_small(job.blob, connections)
        elif job.transfer is None:
            self._open_large(job.blob)
        elif job.span is None:
            self._fetch_whole(job.transfer, connections)
        else:
            self._fetch_segment(job, connections)

    def _fetch_small(self, blob: Blob, connections: Connections) -> None:
        try:
            content = small.fetch(connections, blob, self._refusal)
        except WrongBytesError:
            self._mark_wrong(blob)
            content = self._fetch_again(connections, blob)
        small.write(self._paths, blob.digest, content)
        self._ledger.finish(blob, fetched=len(content))

    def _fetch_again(self, connections: Connections, blob: Blob) -> bytearray:
        try:
            return small.fetch(connections, blob, self._refusal)
        except WrongBytesError as exc:
            raise not_whole(blob) from exc

    def _open_large(self, blob: Blob) -> None:
        try:
            self._open(blob)
        finally:
            with self._ledger.changed:
                self._queue.opened(blob)

    def _open(self, blob: Blob) -> None:
        """Open a large blob and queue its segments in order, so that hashing can follow closely."""
        if not self._locks.take(blob.digest):
            self._wait_for_other_tool(blob)
            return
        if not self._force and _is_there(self._paths, blob):
            # Another tool has fetched it while we waited for its lock.
            self._ledger.finish(blob, source="present")
            return
        one = Transfer(blob, self._paths, self._refusal)
        with self._ledger.changed:
            self._ledger.open[blob.digest] = one
        self._queue_segments(one)

    def _wait_for_other_tool(self, blob: Blob) -> None:
        with self._ledger.changed:
            if blob.digest not in self._waiting:
                self._waiting.add(blob.digest)
                self._ledger.say(f"`{blob.name}`: another tool is fetching it; waiting for that")
            self._ledger.excuse()
            self._queue.postpone(blob)
            self._ledger.changed.wait(_TICK)

    def _queue_segments(self, one: Transfer) -> None:
        with self._ledger.changed:
            self._queue.divide(one)
            self._ledger.changed.notify_all()

    def _fetch_segment(self, job: Job, connections: Connections) -> None:
        one, span = job.transfer, job.span
        if one is None or span is None or span[0] >= span[1]:
            return
        try:
            at = one.fetch(connections, span, self._ledger.stop)
        except NoRangesError:
            self._fall_back_to_whole(one)
            return
        self._ledger.arrive(at - span[0])
        if at < span[1] and not self._ledger.stop.is_set():
            raise TryAgainError("the connection ended early", wait=None)

    def _fall_back_to_whole(self, one: Transfer) -> None:
        with self._ledger.changed:
            self._queue.drop(one)
            if not one.as_whole:
                one.as_whole = True
                self._queue.divide(one)
                self._ledger.say(f"`{one.blob.name}`: the server sends no parts, so the whole is fetched")

    def _fetch_whole(self, one: Transfer, connections: Connections) -> None:
        if one.is_complete:
            return
        before = one.partial.received
        try:
            one.fetch_whole(connections, self._ledger.stop)
        finally:
            self._ledger.arrive(max(0, one.partial.received - before))

    def _remainder(self, job: Job) -> Job:
        """The job without what has arrived of it."""
        if job.transfer is None or job.span is None:
            return job
        start, end = job.span
        left = [gap for gap in job.transfer.partial.gaps(job.blob.size) if gap[0] < end and gap[1] > start]
        span = (max(left[0][0], start), end) if left else (end, end)
        self._ledger.arrive(span[0] - start)
        return Job(job.blob, job.transfer, span)

    def _start_again(self, one: Transfer) -> None:
        """Fetch a large blob once more, whose content has turned out to be wrong."""
        self._mark_wrong(one.blob)
        one.restart()
        self._queue_segments(one)

    def _mark_wrong(self, blob: Blob) -> None:
        if blob.digest in self._wrong:
            raise not_whole(blob)
        self._wrong.add(blob.digest)
        self._ledger.say(f"`{blob.name}`: wrong bytes, fetched once more")


def _saving_failed(one: Transfer) -> ModelctlError | None:
    """Record what has arrived of one blob; one that cannot be is no reason not to record the others."""
    try:
        one.save(wait=True)
    except ModelctlError as error:
        return error
    return None


def _position(job: Job) -> int:
    return job.span[0] if job.span else 0


def _is_there(paths: RepoPaths, blob: Blob) -> bool:
    try:
        return paths.blob(blob.digest).stat().st_size == blob.size
    except OSError:
        return False
