"""The standard streams as somebody left them to us: closed, on a full disk, or with nobody at the other end."""

import os
import sys
from pathlib import Path
from typing import TextIO

from modelctl.errors import ModelctlError

# Characters that move a terminal's cursor, turn the direction of what follows, or worse, as they are escaped.
_OBEYED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_OBEYED |= {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))}
# Where a text may have several lines, a tab and a line's end are meant.
_CONTROLS = {code: shown for code, shown in _OBEYED.items() if chr(code) not in "\t\n"}


class UnwritableError(ModelctlError):
    """The result cannot be shown to who asked for it."""


def open_missing() -> None:
    """Open the streams that were closed before the start, so that no file of ours gets their numbers.

    What is written to stdout still fails then, as it should: who closed it asked for a result all the same.
    """
    if sys.stdin is None:
        sys.stdin = open(_occupied(0, os.O_RDONLY), encoding="utf-8")  # noqa: SIM115 - for all of the process
    if sys.stdout is None:
        sys.stdout = open(_occupied(1, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115 - as above
    if sys.stderr is None:
        sys.stderr = open(_occupied(2, os.O_WRONLY), "w", encoding="utf-8")  # noqa: SIM115 - as above


def say(text: str) -> None:
    """Write one line to stderr, if somebody is still there: a terminal may have been closed."""
    try:
        sys.stderr.write(f"{printable(one_line(text), sys.stderr)}\n")
        sys.stderr.flush()
    except OSError:
        # What is still in its buffer would fail again at the end, and spoil the exit code.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process


def unwritable(exc: OSError) -> UnwritableError:
    """The error for a result that could not be written."""
    throw_away()
    return UnwritableError(
        f"the result cannot be written: {exc.strerror}",
        hint="let it be written elsewhere; what was done until then stays done",
    )


def throw_away() -> None:
    """Let nothing of stdout be written any more, nor what is left of it at the end: it would fail again."""
    _occupied(1, os.O_WRONLY)


def finish() -> None:
    """Write what is left in the buffers, or throw it away where nobody is there: that would be the exit code."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            _occupied(number, os.O_WRONLY)


def _occupied(number: int, flags: int) -> int:
    """Put the empty device in a stream's place."""
    nothing = os.open(os.devnull, flags)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)
    return number


def width(stream: TextIO) -> int | None:
    """The columns of the terminal that a stream is; `None` where it is none, or does not tell."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def one_line(text: str) -> str:
    """Text without a line's end: a name that holds one must not begin a line that looks like one of ours."""
    return text if text.isprintable() else text.translate(_OBEYED)


def printable(text: str, stream: TextIO) -> str:
    """Text that any terminal can show, and none obeys.

    File names may be no valid Unicode, and a terminal may know ASCII only; what a Hub says may hold control characters.
    """
    text = text.translate(_CONTROLS)
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
