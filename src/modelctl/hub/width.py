"""How many connections work at once: more for as long as more of them bring more, fewer where they do not.

A line with a long way to the Hub wants many for small files; a fast disk and few processors want a few for large ones,
which would only wait for each other. Nobody knows beforehand, so it is tried.
"""

from dataclasses import dataclass, replace

_START = 4
# A connection more has to bring something that is no chance.
_GAIN = 1.1
# Measurements to wait before another number is tried again: lines change.
_REST = 16
# How long a number of connections is tried, and how long at most where little arrives.
_MEASURE, _LONGEST_MEASURE = 0.25, 2.0
# What a file counts for beside its bytes: of small ones it is the requests that take the time.
FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Width:
    """So many connections, `ceiling` at most. `before` is the number and rate that a larger one has to beat."""

    count: int
    ceiling: int
    before: tuple[int, float] | None = None
    rest: int = 0


def after(width: Width, *, rate: float, trouble: bool = False) -> Width:
    """The number to go on with, after a while at `width` in which so much arrived a second (pure).

    Doubles while that brings a tenth more, and goes back by one step where it does not. `trouble` is a server that
    wants less, or a connection that broke: half as many then, for a while.
    """
    if trouble:
        return Width(max(1, width.count // 2), width.ceiling, rest=_REST)
    if width.rest or not rate:
        return replace(width, rest=max(0, width.rest - 1))
    if width.before is not None and rate < width.before[1] * _GAIN:
        return Width(width.before[0], width.ceiling, rest=_REST)
    count = min(width.count * 2, width.ceiling)
    if count == width.count:
        return replace(width, before=None, rest=_REST)
    return Width(count, width.ceiling, before=(width.count, rate))


class Pace:
    """The number of connections of one pull, and the measurement that it is being put to."""

    def __init__(self, ceiling: int) -> None:
        self._width = Width(min(_START, ceiling), ceiling)
        self._began = 0.0
        self._before = 0
        self._trouble = False

    @property
    def count(self) -> int:
        """How many connections are to work now."""
        return self._width.count

    def begin(self, work: int, now: float) -> None:
        """Measure from here on: `work` is what has arrived by now, bytes and `FILE` for each file."""
        self._before, self._began, self._trouble = work, now, False

    def hinder(self) -> None:
        """Take note of an answer that wants less, or of a connection that broke."""
        self._trouble = True

    def look(self, work: int, now: float) -> None:
        """Decide anew where there is enough to see; `work` may have become less, where wrong bytes were thrown away."""
        arrived, seconds = max(0, work - self._before), now - self._began
        is_telling = self._trouble or arrived >= FILE * self.count or seconds >= _LONGEST_MEASURE
        if seconds >= _MEASURE and is_telling:
            self._width = after(self._width, rate=arrived / seconds, trouble=self._trouble)
            self.begin(work, now)
