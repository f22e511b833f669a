"""How the end of a server is told, and which exit code it gets."""

import signal
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from modelctl.cli import output as show
from modelctl.errors import ModelctlError, NoRoomError

if TYPE_CHECKING:
    from modelctl.engine.service import Result, ServePlan

_INTERRUPTED = 130
# What is the machine's fault and not that of the command or the model.
_NO_ROOM = {"memory", "device"}


def finish(out: show.Output, planned: "ServePlan", result: "Result", *, timeout: float | None) -> None:
    """Turn an ending into an exit code: only one that was asked for is a success."""
    ending = result.ending
    if ending.survivors:
        pids = " ".join(str(pid) for pid in ending.survivors)
        raise ModelctlError(
            f"processes of vLLM could not be ended: {pids}", hint=f"`kill -9 {pids}`", **_details(result)
        )
    if ending.asked is None:
        _fail(out, planned, result, timeout=timeout)
    code = _INTERRUPTED if ending.asked == signal.SIGINT else 0
    if out.json:
        out.event(
            "done",
            id=planned.served.id,
            url=planned.url,
            asked=ending.asked.name,
            exit=code,
            engine_exit=ending.engine_exit,
            seconds=round(ending.seconds, 1),
            log=result.log,
        )
    else:
        out.say(f"stopped; vLLM {_exit_words(ending.engine_exit)}")
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
    message = f"{did} `{model}`: {why} (vLLM {_exit_words(ending.engine_exit)})"
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
