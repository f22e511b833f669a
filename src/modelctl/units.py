"""Large numbers as they are written everywhere: in decimal units, as disks and the Hub count."""

from collections.abc import Sequence


def size(count: float | None) -> str:
    """Bytes: `90.9 MB`."""
    if count is None:
        return "-"
    return _scaled(int(count), (" B", " kB", " MB", " GB", " TB"))


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
