"""How a server's life is told: JSON lines for programs, a live line on a terminal, else one line a stage."""

import contextlib
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelctl.cli import output as show

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from modelctl.engine.diagnosis import Stage

# The address and the request to try, for the tasks that the server has.
Ready = Callable[[tuple[str, ...]], dict[str, Any]]
_ASKED = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


def watcher(out: show.Output, *, model: str, ready: Ready, how: str = "Ctrl-C stops it") -> "JsonLines | PlainLines":
    """Who tells of one server: `ready` gives the keys of its `ready` event, `how` says what becomes of it then."""
    if out.json:
        return JsonLines(out, model=model, ready=ready)
    if sys.stderr.isatty():
        return Display(out, model=model, ready=ready, how=how)
    return PlainLines(out, model=model, ready=ready, how=how)


class JsonLines:
    """Events on stdout: one `stage` for each stage, of which `ready` and `stopping` say more."""

    def __init__(self, out: show.Output, *, model: str, ready: Ready) -> None:
        self._out, self._model, self._ready = out, model, ready

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def started(self, pid: int) -> None:
        """Name the process."""
        self._out.event("stage", stage="started", message="vLLM has a process", elapsed=0.0, engine_pid=pid)

    def loading(self, stage: "Stage", *, elapsed: float) -> None:
        """Tell of a stage."""
        self._out.event("stage", stage=stage.name, message=stage.text, elapsed=round(elapsed, 1))

    def ready(self, tasks: tuple[str, ...], *, elapsed: float) -> None:
        """Say where it answers."""
        keys = self._ready(tasks)
        self._out.event("stage", stage="ready", message="ready", elapsed=round(elapsed, 1), tasks=list(tasks), **keys)

    def stopping(self, asked: signal.Signals | None, *, patience: float) -> None:
        """Say that it ends, and who wanted it."""
        why = asked.name if asked else None
        self._out.event("stage", stage="stopping", message="stopping", asked=why, patience=patience)


class PlainLines:
    """Lines: what the server answers to on stdout, all else on stderr."""

    def __init__(self, out: show.Output, *, model: str, ready: Ready, how: str) -> None:
        self._out, self._model, self._ready, self._how = out, model, ready, how
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def started(self, pid: int) -> None:
        """Say nothing: the process is of no use to a person."""

    def loading(self, stage: "Stage", *, elapsed: float) -> None:
        """Tell of a stage once, whatever its details."""
        if stage.name != self._stage:
            self._stage = stage.name
            self._out.say(f"{elapsed:5.1f} s  {stage.text}")

    def ready(self, tasks: tuple[str, ...], *, elapsed: float) -> None:
        """Say where it answers, and how to try it."""
        keys = self._ready(tasks)
        self._out.say(f"{elapsed:5.1f} s  ready; {self._how}")
        self._out.line(f"{self._model} is served at {keys['base_url']}")
        self._out.line(keys["curl"])

    def stopping(self, asked: signal.Signals | None, *, patience: float) -> None:
        """Say that it ends, and for how long requests in flight may hold it up."""
        why = f" ({_ASKED.get(asked, asked.name)})" if asked else ""
        wait = f"; requests in flight get up to {patience:.0f} s, Ctrl-C again ends them" if patience > 10 else ""
        self._out.say(f"stopping{why}{wait}")


class Display(PlainLines):
    """One live line on a terminal: stage and elapsed time."""

    def __init__(self, out: show.Output, *, model: str, ready: Ready, how: str) -> None:
        super().__init__(out, model=model, ready=ready, how=how)
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._close()

    def loading(self, stage: "Stage", *, elapsed: float) -> None:  # noqa: ARG002 - the line counts by itself
        """Move the line on."""
        if self._rich is None:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._rich = Progress(
                SpinnerColumn("line"),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._rich.add_task(stage.text, total=None)
            self._rich.start()
        elif self._task is not None:
            self._rich.update(self._task, description=stage.text)

    def ready(self, tasks: tuple[str, ...], *, elapsed: float) -> None:
        """Leave the live line and tell as in a log."""
        self._close()
        super().ready(tasks, elapsed=elapsed)

    def stopping(self, asked: signal.Signals | None, *, patience: float) -> None:
        """Leave the live line and tell as in a log."""
        self._close()
        super().stopping(asked, patience=patience)

    def _close(self) -> None:
        if self._rich is not None:
            # The terminal may have been closed.
            with contextlib.suppress(OSError):
                self._rich.stop()
            self._rich = self._task = None
