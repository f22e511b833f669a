"""`modelctl logs`: what vLLM says, of a server that runs or ran."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl.cli import completion, options, quantities
from modelctl.cli import output as show
from modelctl.errors import NotAllowedError, NotFoundError, UsageError

if TYPE_CHECKING:
    from modelctl.engine.logs import Log

EPILOG = """\b
Examples:
  modelctl logs -f
  modelctl logs Qwen/Qwen3-0.6B --since 10m
  modelctl logs 1a2b3c4d --tail 50
"""
_STEP = 0.2


def logs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID|MODEL]",
            help="A server (default: the only one that runs, else the last one).",
            autocompletion=completion.logged,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what comes, until the server has ended.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="From then on: 10m ago, or 2026-01-31T12:00.")
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", metavar="LINES", min=0, help="Only the last lines.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show the log of a server, also of one that has ended."""
    from modelctl.engine import logs as logged

    out = show.Output(json=json)
    start = None if since is None else _moment(since)
    log = _chosen(name)
    count = 0
    try:
        for line in logged.lines(log, since=start, last=tail, pause=_pause(log) if follow else None):
            count += 1
            if json:
                out.event("line", time=line.time, text=line.text)
            else:
                out.line(line.text)
    except FileNotFoundError:
        raise NotFoundError(f"the log `{log.path}` is gone", hint="`modelctl ps` shows the servers") from None
    except PermissionError as exc:
        raise NotAllowedError(f"cannot read `{log.path}`: {exc.strerror}", hint=f"see `ls -l {log.path}`") from None
    if json:
        out.event("done", id=log.model, server=log.id, log=log.path, lines=count)


def _chosen(name: str | None) -> "Log":
    """The log that is meant: of a server that runs, one that failed, or any whose log is still there."""
    from modelctl.engine import logs as logged
    from modelctl.engine import running, servers

    alive, gone = servers.running(), servers.gone()
    kept = logged.kept(servers.logs_folder())
    if name is None and kept and not alive:
        return kept[0]
    try:
        found = running.only(alive) if name is None else running.among(name, alive, gone)
    except NotFoundError:
        if name is None or (older := logged.newest(kept, name)) is None:
            raise
        return older
    return logged.Log(id=found.id, model=found.model, since=found.since, path=found.log)


def _pause(log: "Log") -> Callable[[], bool]:
    """What waits for more of a log, and says whether there may be some."""
    from modelctl.engine import servers

    was_there = True

    def again() -> bool:
        nonlocal was_there
        # Looked at once more after its end: what it said last.
        before, was_there = was_there, any(one.id == log.id for one in servers.running())
        if was_there:
            time.sleep(_STEP)
        return before

    return again


def _moment(text: str) -> datetime:
    """A point in time: one that is written out, local where it does not say otherwise, or so long ago."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        pass
    except OverflowError:
        raise UsageError(f"`{text}` is no time of a log", hint="write it as in `--since 10m`") from None
    try:
        return datetime.now(UTC) - timedelta(seconds=quantities.seconds(text, option="--since"))
    except OverflowError:
        raise UsageError(f"`{text}` is too long ago", hint="write it as in `--since 10m`") from None
