"""The signals that ask a server to end: they wake who waits for it, and nobody is thrown out of what he does."""

import os
import select
import signal
import time
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Self

# One press of Ctrl-C may arrive twice, from the terminal and from the program that started us.
_ONE_PRESS = 0.2


class StopRequests:
    """The signals that ask for the end, noted instead of obeyed, so that the server is ended first.

    A context manager of the main thread. What was ignored before (`nohup`) stays ignored; what was blocked, because it
    was to wait for these handlers, comes now.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._first: signal.Signals | None = None
        self._since = 0.0
        self.is_impatient = False

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, self._note)
            for number in self.SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        # Only to be woken by a child's end.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def asked(self) -> signal.Signals | None:
        """The first request that came, if one did."""
        return self._first

    def wait(self, seconds: float | None, *, beside: Iterable[int] = ()) -> None:
        """Sleep until a signal comes, a child ends, or there is something to read `beside`, at most `seconds`."""
        watched = [self._reader, *beside]
        if self._reader in select.select(watched, [], [], seconds)[0]:
            os.read(self._reader, 4096)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # Ctrl-C after any request to stop: the user does not want to wait for requests in flight.
        is_same = self._first == number and time.monotonic() - self._since < _ONE_PRESS
        self.is_impatient = self.is_impatient or (self._first is not None and number == signal.SIGINT and not is_same)
        if self._first is None:
            self._first, self._since = signal.Signals(number), time.monotonic()
