"""The listeners of long work: JSON lines for programs, a live line on a terminal, plain lines in a log."""

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Self

from modelctl.cli import quantities, streams

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from modelctl.cli.output import Output

_JSON_INTERVAL = 0.1
_PLAIN_INTERVAL = 10.0


class Listener:
    """What the three have in common: they are open within a `with` block, so that a terminal is always given back."""

    def __enter__(self) -> Self:
        """Nothing is shown before the first phase."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what is shown as it is."""
        self.close()

    def close(self) -> None:
        """Give back what is held."""

    def begin(self, what: str, *, total: int | None) -> None:
        """Start a phase."""
        raise NotImplementedError

    def advance(self, done: int) -> None:
        """Move within the phase."""
        raise NotImplementedError

    def file(self, name: str, *, size: int, source: str) -> None:
        """Tell of a finished file."""
        raise NotImplementedError

    def say(self, message: str) -> None:
        """Tell a sentence."""
        raise NotImplementedError


class JsonLines(Listener):
    """Events on stdout: `stage`, `progress` at most ten times a second, `file`, `note`."""

    def __init__(self, output: "Output") -> None:
        self._output = output
        self._total: int | None = None
        self._next = 0.0

    def begin(self, what: str, *, total: int | None) -> None:
        """Announce a phase."""
        self._total, self._next = total, 0.0
        self._output.event("stage", stage=what, total=total)

    def advance(self, done: int) -> None:
        """Tell how far the phase is, if the last word is a tenth of a second old or it is at its end."""
        now = time.monotonic()
        if now >= self._next or done == self._total:
            self._next = now + _JSON_INTERVAL
            self._output.event("progress", done=done, total=self._total)

    def file(self, name: str, *, size: int, source: str) -> None:
        """Tell of a finished file."""
        self._output.event("file", name=name, size=size, source=source)

    def say(self, message: str) -> None:
        """Tell a sentence."""
        self._output.event("note", message=message)


class PlainLines(Listener):
    """Lines on stderr where it is no terminal: every phase, then one line in ten seconds."""

    def __init__(self, output: "Output") -> None:
        self._output = output
        self._what = ""
        self._total: int | None = None
        self._next = 0.0

    def begin(self, what: str, *, total: int | None) -> None:
        """Name a phase."""
        self._what, self._total = what, total
        self._next = time.monotonic() + _PLAIN_INTERVAL
        if not self._output.quiet:
            self._output.say(f"{what} {quantities.size(total)}" if total is not None else what)

    def advance(self, done: int) -> None:
        """Tell how far the phase is, seldom."""
        now = time.monotonic()
        if now < self._next or self._output.quiet:
            return
        self._next = now + _PLAIN_INTERVAL
        of = f" of {quantities.size(self._total)} ({done * 100 // self._total} %)" if self._total else ""
        self._output.say(f"{self._what}: {quantities.size(done)}{of}")

    def file(self, name: str, *, size: int, source: str) -> None:
        """Say nothing: a log of two thousand files helps nobody."""

    def say(self, message: str) -> None:
        """Say it, also when quiet: it is about a wait or a failure."""
        self._output.say(message)


class Display(Listener):
    """One live line on a terminal: bytes, rate, time left, files."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None
        self._files = 0

    def begin(self, what: str, *, total: int | None) -> None:
        """Start the phase's line; the one before stays as it ended."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.table import Column

        self.close()
        self._files = 0
        self._rich = Progress(
            # A long name gives way to the numbers, so that the line stays one line.
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[files]}"),
            console=Console(stderr=True),
            expand=True,
        )
        self._task = self._rich.add_task(what, total=total, files="")
        # The terminal may have been closed.
        with contextlib.suppress(OSError):
            self._rich.start()

    def advance(self, done: int) -> None:
        """Move the line."""
        if self._rich and self._task is not None:
            self._rich.update(self._task, completed=done)

    def file(self, name: str, *, size: int, source: str) -> None:  # noqa: ARG002 - the line counts files only
        """Count a finished file."""
        self._files += 1
        if self._rich and self._task is not None:
            self._rich.update(self._task, files=quantities.plural(self._files, "file"))

    def say(self, message: str) -> None:
        """Print a sentence above the line."""
        if self._rich:
            with contextlib.suppress(OSError):
                self._rich.console.print(streams.printable(message, sys.stderr), markup=False, highlight=False)
        else:
            streams.say(message)

    def close(self) -> None:
        """Leave the line as it is and give the terminal back, if it still is there."""
        if self._rich:
            with contextlib.suppress(OSError):
                self._rich.stop()
            self._rich = self._task = None
