"""stdout is data, stderr is talk: tables, JSON, questions."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from modelctl.cli import streams
from modelctl.cli.here import Here
from modelctl.cli.quantities import age, count, plural, size
from modelctl.cli.streams import one_line, printable
from modelctl.errors import DeclinedError, ModelctlError, UsageError

if TYPE_CHECKING:
    from modelctl.cli.progress import Listener

__all__ = ["Column", "Output", "age", "count", "error_object", "one_line", "plural", "printable", "size", "table_lines"]

SCHEMA = 1
Json = Mapping[str, Any]


class Output:
    """Where one command shows what it found and says what it does.

    `json` turns results into documented objects (`object`) or lines (`event`); `quiet` into ids, one a line.
    """

    # What the command line says of the place, for all that is shown by this process.
    here = Here()

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet

    def object(self, value: Json) -> None:
        """Print the one object of a `--json` command."""
        self._print(json.dumps(self.here.value({"schema": SCHEMA, **value}), default=_plain, indent=2))

    def event(self, event: str, /, **keys: Any) -> None:  # noqa: ANN401 - JSON values
        """Print one line of a `--json` command that takes long."""
        self._print(json.dumps(self.here.value({"schema": SCHEMA, "event": event, **keys}), default=_plain))

    def line(self, text: str = "") -> None:
        """Print one line of data."""
        self._print(self.here.text(text))

    def _print(self, text: str) -> None:
        try:
            sys.stdout.write(f"{printable(text, sys.stdout)}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise streams.unwritable(exc) from exc

    def say(self, text: str) -> None:
        """Say one line to the person who watches, if there still is one."""
        streams.say(self.here.text(text))

    def note(self, text: str, *, is_warning: bool = False, beside_object: bool = False) -> None:
        """Say one line, under `--json` as an event; where the answer is one object, no event has a place beside it."""
        if self.json and not beside_object:
            self.event("note", message=text)
        else:
            self.say(f"warning: {text}" if is_warning else text)

    def table(self, columns: Sequence["Column"], rows: Iterable[Sequence[str]]) -> None:
        """Print a borderless table under uppercase headers, without what has no room on the terminal."""
        for line in table_lines(columns, rows, width=streams.width(sys.stdout)):
            self.line(line)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is destroyed; `yes` is `--yes`.

        Without a terminal there is nobody to ask: `UsageError`. The answer no: `DeclinedError`.
        """
        if yes:
            return
        if self.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("there is no terminal to ask for confirmation", hint="add `--yes` to go on without asking")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise DeclinedError("nothing was done", hint="answer `y` to go on, or add `--yes`")

    def progress(self) -> "Listener":
        """The listener for long work, for a `with`: JSON lines, a live display on a terminal, else plain lines."""
        from modelctl.cli import progress

        if self.json:
            return progress.JsonLines(self)
        if sys.stderr.isatty() and not self.quiet:
            return progress.Display()
        return progress.PlainLines(self)


class Column:
    """A table column: its header, the side that its cells keep to, and how soon it goes where there is little room.

    Columns go in the order of `spare`, the lowest first; one of 0 stays.
    """

    __slots__ = ("align", "header", "spare")

    def __init__(self, header: str, align: Literal["left", "right"] = "left", *, spare: int = 0) -> None:
        self.header = header
        self.align = align
        self.spare = spare


def table_lines(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, width: int | None = None) -> list[str]:
    """The lines of a table: two spaces between columns, none at the end of a line, at most `width` of them if need be.

    What is too wide all the same is left whole: half a name is of no use.
    """
    cells = [[column.header for column in columns], *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    shown = _with_room(columns, widths, width)

    def line(row: Sequence[str]) -> str:
        parts = (
            row[at].rjust(widths[at]) if columns[at].align == "right" else row[at].ljust(widths[at]) for at in shown
        )
        return "  ".join(parts).rstrip()

    return [line(row) for row in cells]


def _with_room(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
    """The columns that fit a line of `width`."""
    shown = list(range(len(columns)))
    going = sorted((at for at in shown if columns[at].spare), key=lambda at: columns[at].spare)
    while width is not None and going and sum(widths[at] + 2 for at in shown) - 2 > width:
        shown.remove(going.pop(0))
    return shown


def error_object(error: ModelctlError) -> dict[str, Any]:
    """The `error` object of `--json`."""
    return {"kind": error.kind, "message": error.message, "hint": error.hint, **error.details}


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    raise TypeError(f"{type(value).__name__} has no JSON form")
