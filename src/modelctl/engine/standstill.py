"""A start that has failed and does not end: an exception has ended the main thread, and a child keeps the process.

Nothing tells a program from outside that its main thread is over. What can be seen is a traceback that nobody caught,
and that from then on nothing is said, next to nothing is computed or read, and no disk is waited for.
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
# The bytes a second below which no reading brings a model into memory in any time.
_TRICKLE = 2**16
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
        self._read = 0
        self._before = ""
        self._goes_on = False

    def heard(self, lines: Iterable[str], *, got_further: bool) -> None:
        """Take note of new lines of the log, and whether any told of a stage that was not reached before."""
        now = time.monotonic()
        if got_further:
            self._failed_at = None
        for line in lines:
            text = diagnosis.said(line)
            if diagnosis.begins_traceback(text):
                of_the_same = self._goes_on and diagnosis.is_chained(self._before)
                self._goes_on = of_the_same or diagnosis.goes_on(self._before)
                self._failed_at = self._failed_at or (None if self._goes_on else now)
            self._before = text or self._before
            self._quiet_since = now

    def is_lasting(self) -> bool:
        """Whether the start has failed, and will not end by itself."""
        if self._failed_at is None:
            return False
        now = time.monotonic()
        if now - self._failed_at >= _AT_MOST:
            return True
        if now - self._looked_at >= min(_STEP, self._patience / 3):
            if self._is_busy(now - self._looked_at):
                self._quiet_since = now
            self._looked_at = now
        return now - self._quiet_since >= self._patience * (1 if self._computed is not None else _WITHOUT_CPU)

    def _is_busy(self, seconds: float) -> bool:
        """Whether any of its processes did something in the `seconds` since the last look; the first look finds so."""
        pids = tuple(self._members(self._leader))
        computed, read = group.cpu_seconds(pids), group.bytes_read(pids)
        if computed is None:
            return False
        before, read_before = self._computed, self._read
        self._computed, self._read = computed, read
        return (
            before is None
            or computed - before > _IDLE * seconds
            or read - read_before > _TRICKLE * seconds
            or group.waits_for_disk(pids)
        )
