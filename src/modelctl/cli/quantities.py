"""Numbers and times as a person reads them; bytes are those of `units`."""

import re
from datetime import UTC, datetime

from modelctl.errors import UsageError
from modelctl.units import count, size

__all__ = ["age", "count", "duration", "plural", "seconds", "size"]

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def age(moment: datetime | None, *, now: datetime | None = None) -> str:
    """How long ago: `3 days ago`."""
    if moment is None:
        return "-"
    seconds = int(((now or datetime.now(UTC)) - moment).total_seconds())
    for unit, length in (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = seconds // length
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def plural(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def seconds(text: str, *, option: str) -> float:
    """How long `90`, `90s`, `30m`, `2h` or `1d` is: more than nothing."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", text.strip().lower())
    length = float(match[1]) * _SECONDS[match[2]] if match and match[2] in _SECONDS else 0.0
    if not length:
        raise UsageError(
            f"`{text}` is no time that `{option}` could be", hint=f"write it as in `{option} 30m`: s, m, h, d"
        )
    return length


def duration(length: float) -> str:
    """A time in the two largest units that it has: `30 s`, `5 min`, `2 h 5 min`."""
    whole = round(length)
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for unit, size_of in units:
        number, whole = divmod(whole, size_of)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"
