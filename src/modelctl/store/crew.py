"""Several threads at work on contents, and the calling thread, which alone tells how far they are."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Tell = Callable[[int], None]
_Result = TypeVar("_Result")

_TICK = 0.1
# What they do, hashing and copying, is bound by cores and by the disk: more of them gain nothing.
SIZE = min(4, os.cpu_count() or 1)


class _StoppedError(Exception):
    """The work of a thread is not wanted any more."""


def work(jobs: Sequence[Callable[[Tell], _Result]], tell: Tell) -> list[_Result]:
    """Do all jobs, several at once, and return what they return, in order.

    Each is given what it calls with the bytes of every step; `tell` hears the sum of them since the last time, in the
    calling thread. The first failure, and Ctrl-C, ends the others at their next step.
    """
    if not jobs:
        return []
    crew = _Crew()
    pool = ThreadPoolExecutor(max_workers=SIZE)
    try:
        futures = [pool.submit(job, crew.step) for job in jobs]
        running = set(futures)
        while running:
            finished, running = wait(running, timeout=_TICK)
            tell(crew.taken())
            for future in finished:
                future.result()
        return [future.result() for future in futures]
    finally:
        crew.stop.set()
        pool.shutdown(cancel_futures=True)
        tell(crew.taken())


class _Crew:
    def __init__(self) -> None:
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._done = 0

    def step(self, count: int) -> None:
        if self.stop.is_set():
            raise _StoppedError
        with self._lock:
            self._done += count

    def taken(self) -> int:
        with self._lock:
            done, self._done = self._done, 0
        return done
