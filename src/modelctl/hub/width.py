"""How many connections work at once: more for as long as more of them bring more, fewer where they do not (pure).

A line with a long way to the Hub wants many for small files; a fast disk and few processors want two or three for large
ones, which would only wait for each other. Nobody knows beforehand, so it is tried.
"""

from dataclasses import dataclass, replace

START = 4
# A connection more has to bring something that is no chance.
_GAIN = 1.1
# Measurements to wait before another number is tried again: lines change.
_REST = 16


@dataclass(frozen=True, slots=True)
class Width:
    """So many connections, `ceiling` at most. `before` is the number and rate that a larger one has to beat."""

    count: int
    ceiling: int
    before: tuple[int, float] | None = None
    rest: int = 0


def start(ceiling: int) -> Width:
    """The number to begin with; the first measurement is of that one."""
    return Width(min(START, ceiling), ceiling)


def after(width: Width, *, rate: float, trouble: bool = False) -> Width:
    """The number to go on with, after a while at `width` in which so much arrived a second.

    Doubles while that brings a tenth more, and goes back by one step where it does not. `trouble` is a server that
    wants less, or a connection that broke: half as many then, for a while.
    """
    if trouble:
        return Width(max(1, width.count // 2), width.ceiling, rest=_REST)
    if width.rest:
        return replace(width, rest=width.rest - 1)
    if width.before is not None and rate < width.before[1] * _GAIN:
        return Width(width.before[0], width.ceiling, rest=_REST)
    count = min(width.count * 2, width.ceiling)
    if count == width.count:
        return replace(width, before=None, rest=_REST)
    return Width(count, width.ceiling, before=(width.count, rate))
