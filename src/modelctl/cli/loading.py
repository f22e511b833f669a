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

    from modelctl.engine.stages import Stage

# The address and the request to try, for the tasks that the server has.
Ready = Callable[[tuple[str, ...]], dict[str, Any]]
_ASKED = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


def watcher(
    out: show.Output,
    *,
    model: str,
    ready: Ready,
    how: str = "Ctrl-C stops it",
    before: float | None = None,
    verbose: bool = False,
) -> "JsonLines | PlainLines":
    """Who tells of one server: `ready` gives the keys of its `ready` event, `how` says what becomes of it then.

    `before` are the seconds that it took the last time. With `verbose` the log goes to the screen, where no line lives.
    """
    if out.json:
        return JsonLines(out, model=model, ready=ready)
    if sys.stderr.isatty() and not verbose:
        return Display(out, model=model, ready=ready, how=how, before=before)
    return PlainLines(out, model=model, ready=ready, how=how, before=before)


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
        self._out.event(
            "stage",
            stage=stage.name,
            message=stage.text,
            elapsed=round(elapsed, 1),
            done=stage.done,
            total=stage.total,
            rate=stage.rate,
            kv_tokens=stage.kv_tokens,
            kv_requests=stage.kv_requests,
        )

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

    def __init__(self, out: show.Output, *, model: str, ready: Ready, how: str, before: float | None) -> None:
        self._out, self._model, self._ready, self._how = out, model, ready, how
        self._before = before
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def started(self, pid: int) -> None:  # noqa: ARG002 - the process is of no use to a person
        """Say what to expect."""
        if self._before is not None:
            self._out.say(f"the last time it was ready after {self._before:.1f} s")

    def loading(self, stage: "Stage", *, elapsed: float) -> None:
        """Tell of a stage once, and of what it came to."""
        if stage.name != self._stage or stage.sums_up or stage.silence:
            self._stage = stage.name
            self._out.say(f"{elapsed:5.1f} s  {stage.text}")

    def ready(self, tasks: tuple[str, ...], *, elapsed: float) -> None:
        """Say where it answers, and how to try it."""
        keys = self._ready(tasks)
        self._out.say(f"{elapsed:5.1f} s  ready; {self._how}")
        if keys["curl"] is None:
            self._out.line(f"{self._model} is loaded; the machine of rank 0 answers requests")
            return
        self._out.line(f"{self._model} is served at {keys['base_url']}")
        self._out.line(keys["curl"])

    def stopping(self, asked: signal.Signals | None, *, patience: float) -> None:
        """Say that it ends, and for how long requests in flight may hold it up."""
        why = f" ({_ASKED.get(asked, asked.name)})" if asked else ""
        wait = f"; requests in flight get up to {patience:.0f} s, Ctrl-C again ends them" if patience > 10 else ""
        self._out.say(f"stopping{why}{wait}")


class Display(PlainLines):
    """One live line on a terminal: stage, elapsed time, and how long it took the last time."""

    def __init__(self, out: show.Output, *, model: str, ready: Ready, how: str, before: float | None) -> None:
        super().__init__(out, model=model, ready=ready, how=how, before=before)
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._close()

    def started(self, pid: int) -> None:
        """Say nothing: the line does."""

    def loading(self, stage: "Stage", *, elapsed: float) -> None:
        """Move the line on, if the terminal still is there."""
        with contextlib.suppress(OSError):
            self._show(stage, elapsed=elapsed)

    def _show(self, stage: "Stage", *, elapsed: float) -> None:
        if self._rich is None:
            expected = "" if self._before is None else f"of {self._before:.0f} s the last time"
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._rich = Progress(
                SpinnerColumn("line"),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                TextColumn(expected, style="dim"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._rich.add_task(stage.text, total=None)
            self._rich.start()
        elif self._task is not None:
            self._rich.update(self._task, description=stage.text)
        if stage.sums_up:
            # What it came to stays on the screen.
            self._rich.console.print(f"{elapsed:5.1f} s  {stage.text}", markup=False, highlight=False)

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
