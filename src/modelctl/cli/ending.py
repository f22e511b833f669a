"""How the end of a server is told, and which exit code it gets."""

import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from modelctl.cli import output as show
from modelctl.cli import quantities
from modelctl.errors import ModelctlError, NoRoomError

if TYPE_CHECKING:
    from modelctl.engine.servers import ServerRecord
    from modelctl.engine.service import Result, ServePlan

# What is the machine's fault and not that of the command or the model.
_NO_ROOM = {"memory", "device"}


def leave(out: show.Output, record: "ServerRecord", *, hangup: bool) -> None:
    """Tell of a server that goes on by itself: ready, or where the terminal was closed (`hangup`) perhaps not yet."""
    code = 128 + signal.SIGHUP if hangup else 0
    if out.json:
        out.event(
            "done",
            id=record.model,
            url=None if record.headless else record.url,
            server=record.id,
            pid=record.pid,
            asked="SIGHUP" if hangup else None,
            exit=code,
            engine_exit=None,
            seconds=round((datetime.now(UTC) - record.since).total_seconds(), 1),
            log=record.log,
        )
    else:
        out.say(f"`modelctl logs -f {record.id}` shows its log, `modelctl stop {record.id}` stops it")
    if code:
        raise typer.Exit(code)


def finish(
    out: show.Output,
    planned: "ServePlan",
    result: "Result",
    *,
    timeout: float | None,
    ttl: float | None = None,
    detached: bool = False,
) -> None:
    """Turn an ending into an exit code: only one that was wanted is a success.

    One that was to run on (`detached`) and was told to end before it was ready has not done what it should.
    """
    from modelctl.engine import release

    ending = result.ending
    if ending.survivors:
        pids = " ".join(str(pid) for pid in ending.survivors)
        raise ModelctlError(
            f"processes of vLLM could not be ended: {pids}", hint=f"`kill -9 {pids}`", **_details(result)
        )
    if result.container_left is not None:
        raise ModelctlError(
            "the container of vLLM could not be removed", hint=f"`{result.container_left}`", **_details(result)
        )
    if ending.held and not ending.is_wanted:
        out.note(f"{release.message(ending.held)}; {release.HINT}", is_warning=True)
    if not ending.is_wanted:
        _fail(out, planned, result, timeout=timeout)
    if ending.held:
        raise ModelctlError(release.message(ending.held), hint=release.HINT, **_details(result))
    code = 128 + ending.asked if ending.asked and (detached or ending.asked == signal.SIGINT) else 0
    if out.json:
        out.event(
            "done",
            id=planned.served.id,
            url=None if planned.settings.is_headless else planned.url,
            asked=ending.asked.name if ending.asked else "ttl",
            exit=code,
            engine_exit=ending.engine_exit,
            seconds=round(ending.seconds, 1),
            log=result.log,
        )
    else:
        why = f" after {quantities.duration(ttl)} without a request" if ending.was_idle and ttl else ""
        # An idle vLLM takes seconds to fold up, for nobody: it is no failure that it was not waited for.
        slow = ending.killed_after
        how = _exit_words(ending.engine_exit) if slow is None else f"had not ended after {slow:.1f} s and was killed"
        out.say(f"stopped{why}; vLLM {how}")
    if code:
        raise typer.Exit(code)


def _fail(out: show.Output, planned: "ServePlan", result: "Result", *, timeout: float | None) -> NoReturn:
    ending, cause, model = result.ending, result.cause, planned.served.id
    if ending.timed_out:
        raise ModelctlError(
            f"`{model}` is not ready after {timeout:g} s",
            hint=f"give it longer with `--timeout`; the log is `{result.log}`",
            **_details(result),
        )
    is_known = cause is not None and cause.kind != "unknown"
    if not is_known and not out.json:
        out.say("the last lines of the log:")
        for line in result.tail:
            out.say(f"  {line[:300]}")
    did = "vLLM ended while it served" if ending.was_ready else "vLLM cannot serve"
    why = cause.message if cause else "it does not say why"
    end = "did not end by itself after that" if ending.hung else _exit_words(ending.engine_exit)
    message = f"{did} `{model}`: {why} (vLLM {end})"
    remedy = f"{cause.remedy}; the" if cause and cause.remedy else "the"
    kind = NoRoomError if cause and cause.kind in _NO_ROOM else ModelctlError
    raise kind(message, hint=f"{remedy} whole log is `{result.log}`", **_details(result))


def _exit_words(code: int | None) -> str:
    if code is None:
        return "was not started yet"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _details(result: "Result") -> dict[str, Any]:
    return {
        "engine_exit": result.ending.engine_exit,
        "cause": result.cause.kind if result.cause else None,
        "log": result.log,
        "tail": list(result.tail),
    }
