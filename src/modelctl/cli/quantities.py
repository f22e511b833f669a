"""Bytes, numbers and times as a person reads them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from modelctl.errors import UsageError

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def size(count: int | None) -> str:
    """Bytes in decimal units, as disks and the Hub count: `90.9 MB`."""
    if count is None:
        return "-"
    return _scaled(count, (" B", " kB", " MB", " GB", " TB"))


def count(number: int | None) -> str:
    """A number of parameters or tokens in short: `22.7M`."""
    if number is None:
        return "-"
    return _scaled(number, ("", "K", "M", "B", "T"))


def _scaled(number: int, units: Sequence[str]) -> str:
    """A number in the unit, each a thousand of the one before, that leaves it below a thousand."""
    value = float(number)
    for unit in units[:-1]:
        if value < 999.95:
            return f"{number}{unit}" if unit == units[0] else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}{units[-1]}"


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
