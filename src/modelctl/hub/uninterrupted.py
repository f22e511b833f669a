"""Work that a second Ctrl-C must not cut short, such as recording what has arrived."""

import threading
from collections.abc import Callable


def run(work: Callable[[], object]) -> None:
    """Do it to its end in a thread of its own: signals reach the main thread alone. Then raise what came meanwhile."""
    failures: list[BaseException] = []
    done = threading.Event()

    def guarded() -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - the failure of the work is its caller's, and is raised there
            failures.append(exc)
        finally:
            done.set()

    threading.Thread(target=guarded).start()
    while not done.is_set():
        try:
            # Not `join`: interrupted in it, Python 3.11 takes the thread for ended.
            done.wait()
        except KeyboardInterrupt as exc:
            failures.append(exc)
    if failures:
        raise failures[0]
