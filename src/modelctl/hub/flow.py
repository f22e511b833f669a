"""A connection that drips is worth no more than a silent one: fewer bytes than this, and it is opened anew."""

import time

# A line that is slow for all of eight connections still carries more than this on each.
_LEAST_RATE = 100
# Times what a silent connection is given.
_WINDOW = 3


class TooSlowError(OSError):
    """Bytes come, but so few that they would come for ever."""


class Flow:
    """Counts what comes on one connection, and raises `TooSlowError` where it is a drip.

    `stall` is how long a connection may be silent, in seconds.
    """

    def __init__(self, stall: float) -> None:
        self._window = stall * _WINDOW
        self._since = time.monotonic()
        self._came = 0

    def count(self, came: int) -> None:
        """Take so many bytes into account."""
        self._came += came
        took = time.monotonic() - self._since
        if took < self._window:
            return
        if self._came < took * _LEAST_RATE:
            raise TooSlowError(f"only {self._came:,} bytes came in {took:.0f} s")
        self._since, self._came = time.monotonic(), 0
