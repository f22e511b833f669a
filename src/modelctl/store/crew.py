"""Several threads at work on contents, and the calling thread, which alone tells how far they are."""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Tell = Callable[[int], None]
_Result = TypeVar("_Result")

_TICK = 0.1
# What they do, hashing and copying, is bound by cores and by the disk: more of them gain nothing.
SIZE = min(4, os.cpu_count() or 1)


class _StoppedError(Exception):
    """The work of a thread is not wanted any more."""


def work(
    jobs: Sequence[Callable[[Tell], _Result]],
    tell: Tell,
    *,
    size: int = SIZE,
    finished: Callable[[int, _Result], None] = lambda _at, _result: None,
) -> list[_Result]:
    """Do all jobs, `size` of them at once and the first ones first, and return what they return, in order.

    Each is given what it calls with the bytes of every step. The calling thread hears of what has been done since the
    last time: `tell` the sum of the bytes, `finished` each job by its number. The first failure, and Ctrl-C, ends the
    others at their next step.
    """
    if not jobs:
        return []
    crew = _Crew(jobs)
    threads = [threading.Thread(target=crew.work, daemon=True) for _ in range(min(size, len(jobs)))]

    def report() -> None:
        tell(crew.taken())
        while crew.finished:
            finished(*crew.finished.popleft())

    try:
        for thread in threads:
            thread.start()
        while not crew.over.wait(_TICK):
            report()
    finally:
        crew.stop.set()
        for thread in threads:
            # One that could not be started is none.
            if thread.ident is not None:
                thread.join()
        report()
    if crew.error is not None:
        raise crew.error
    return [crew.results[at] for at in range(len(jobs))]


class _Crew(Generic[_Result]):
    def __init__(self, jobs: Sequence[Callable[[Tell], _Result]]) -> None:
        self.stop = threading.Event()
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.results: dict[int, _Result] = {}
        self.finished: deque[tuple[int, _Result]] = deque()
        self._jobs = jobs
        self._next = 0
        self._lock = threading.Lock()
        self._done = 0

    def work(self) -> None:
        try:
            while not self.stop.is_set() and (at := self._take()) is not None:
                self._finish(at, self._jobs[at](self.step))
        except _StoppedError:
            pass
        except BaseException as exc:  # noqa: BLE001 - a thread's failure is the work's, and is raised there
            with self._lock:
                self.error = self.error or exc
            self.stop.set()
            self.over.set()

    def step(self, count: int) -> None:
        if self.stop.is_set():
            raise _StoppedError
        with self._lock:
            self._done += count

    def taken(self) -> int:
        with self._lock:
            done, self._done = self._done, 0
        return done

    def _take(self) -> int | None:
        with self._lock:
            at, self._next = self._next, self._next + 1
        return at if at < len(self._jobs) else None

    def _finish(self, at: int, result: _Result) -> None:
        with self._lock:
            self.results[at] = result
            self.finished.append((at, result))
            if len(self.results) == len(self._jobs):
                self.over.set()
