"""A start that has failed and does not end: an exception has ended the main thread, and a child keeps the process.

Nothing tells a program from outside that its main thread is over. What can be seen is a traceback that nobody caught,
and that from then on nothing is said and next to nothing is computed.
"""

import time
from collections.abc import Callable, Iterable

from modelctl.engine import diagnosis, group

# How long nothing may happen after an exception that nobody caught.
PATIENCE = 15.0
# How long something may go on happening after it without any stage being reached: then it is noise.
_AT_MOST = 600.0
# Without a way to see whether it computes, silence has to last longer.
_WITHOUT_CPU = 4
# The share of a processor that a process takes which waits.
_IDLE = 0.1
_STEP = 1.0


class Standstill:
    """Watches the start of a server, whose processes `members` finds: those of the session of `leader`."""

    def __init__(
        self, leader: int, *, patience: float = PATIENCE, members: Callable[[int], Iterable[int]] = group.members
    ) -> None:
        self._leader = leader
        self._members = members
        self._patience = patience
        self._failed_at: float | None = None
        self._quiet_since = 0.0
        self._looked_at = 0.0
        self._computed: float | None = None
        self._before = ""

    def heard(self, lines: Iterable[str], *, got_further: bool) -> None:
        """Take note of new lines of the log, and whether any told of a stage that was not reached before."""
        now = time.monotonic()
        if got_further:
            self._failed_at = None
        for line in lines:
            if diagnosis.begins_traceback(line) and not diagnosis.is_ignored(self._before):
                self._failed_at = self._failed_at or now
            self._before = line
            self._quiet_since = now

    def is_lasting(self) -> bool:
        """Whether the start has failed, and will not end by itself."""
        if self._failed_at is None:
            return False
        now = time.monotonic()
        if now - self._failed_at >= _AT_MOST:
            return True
        if now - self._looked_at >= min(_STEP, self._patience / 3):
            computed = group.cpu_seconds(self._members(self._leader))
            if computed is not None:
                self._is_busy(computed, now)
            self._looked_at = now
        return now - self._quiet_since >= self._patience * (1 if self._computed is not None else _WITHOUT_CPU)

    def _is_busy(self, computed: float, now: float) -> None:
        if self._computed is None or computed - self._computed > _IDLE * (now - self._looked_at):
            self._quiet_since = now
        self._computed = computed
