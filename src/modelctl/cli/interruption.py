"""Ctrl-C, SIGTERM and SIGHUP: each ends a command in the same order, with what has arrived kept."""

import signal
import time
from types import FrameType

CTRL_C = 128 + signal.SIGINT
_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# One press of a key may arrive twice, from the terminal and from the program that started us. Who asks again later than
# this finds that the end takes too long.
_ONE_REQUEST = 1.0


class Interruption:
    """Lets the signals unwind the stack of the main thread. What was ignored before (`nohup`) stays ignored."""

    def __init__(self) -> None:
        self._asked: int | None = None
        self._since = 0.0
        for number in _ASKING:
            if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
                signal.signal(number, self._unwind)

    def exit_code(self, code: int) -> int:
        """The exit code of a command that ended with `code`: where it was interrupted, that of the signal."""
        return 128 + self._asked if code == CTRL_C and self._asked else code

    def give_up(self) -> None:
        """Leave the signals to the system: what was to be kept is kept, and who asks again wants no more words."""
        for number in _ASKING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)

    def _unwind(self, number: int, _frame: FrameType | None) -> None:
        if self._asked is None:
            self._asked, self._since = number, time.monotonic()
        elif time.monotonic() - self._since < _ONE_REQUEST:
            return
        raise KeyboardInterrupt
