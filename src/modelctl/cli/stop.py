"""`modelctl stop`: ends servers, and sees that nothing of them is left."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl import project as projects
from modelctl.cli import completion, options
from modelctl.cli import output as show
from modelctl.errors import ModelctlError, UsageError

if TYPE_CHECKING:
    from modelctl.engine.servers import ServerRecord
    from modelctl.engine.stopping import Stop, Stopped

EPILOG = """\b
Examples:
  modelctl stop
  modelctl stop Qwen/Qwen3-0.6B
  modelctl stop 1a2b3c4d --now
  modelctl stop --all
"""
# An idle server has ended by then; one that has not, has requests to answer.
_SOON = 2.0


def stop(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID|MODEL]...",
            help="Servers, as in `ps` (default: the only one).",
            autocompletion=completion.running,
        ),
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", "-a", help="All servers.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for requests in flight.")] = False,
    json: options.Json = False,
) -> None:
    """Stop servers, busy ones when they have answered.

    Idle ones end at once; requests in flight get the server's shutdown timeout, 30 s where it was given none.
    """
    from modelctl.engine import release
    from modelctl.engine.stopping import Stop

    out = show.Output(json=json)
    records = _chosen(names or [], everyone=everyone)
    if everyone and not records and not json:
        out.say("no server is running")
    # All are asked before the first is waited for.
    environ = projects.locate(None).environ
    asked = [Stop(record, environ=environ, now=now) for record in records]
    ended = [_finish(out, one) for one in asked]
    survivors = [pid for one in ended for pid in one.survivors]
    if survivors:
        pids = " ".join(str(pid) for pid in survivors)
        raise ModelctlError(f"processes of vLLM could not be ended: {pids}", hint=f"`kill -9 {pids}`")
    if left := [one.container_left for one in ended if one.container_left is not None]:
        raise ModelctlError("a container of vLLM could not be removed", hint="; ".join(f"`{one}`" for one in left))
    held = {pid: size for one in ended for pid, size in one.held.items()}
    if held:
        raise ModelctlError(release.message(held), hint=release.HINT)
    if json:
        out.event("done", stopped=len(ended))


def _chosen(names: Sequence[str], *, everyone: bool) -> "list[ServerRecord]":
    """The servers that are meant; those that are gone only where they are named, or all are."""
    from modelctl.engine import running, servers

    if everyone and names:
        raise UsageError("`--all` and names contradict each other", hint="give either")
    alive, gone = servers.running(), servers.gone()
    if everyone:
        return [*alive, *gone]
    if not names:
        return [running.only(alive)]
    return [*dict.fromkeys(running.among(name, alive, gone) for name in names)]


def _is_at_work(record: "ServerRecord") -> bool:
    from modelctl.engine import probing

    load = None if record.headless else probing.load(record.url)
    return load is not None and load.requests > 0


def _finish(out: show.Output, asked: "Stop") -> "Stopped":
    from modelctl.engine import running

    record = asked.record
    if not asked.wait(_SOON) and not out.json and _is_at_work(record):
        out.say(
            f"`{record.model}` ({record.id}) has requests in flight, which get up to {record.drain:g} s; "
            f"`modelctl stop --now {record.id}` drops them"
        )
    # Read before what tells of it is taken away.
    reason = None if asked.was_there else running.reason(record)
    ended = asked.finish()
    if out.json:
        out.event(
            "server",
            id=record.model,
            server=record.id,
            url=None if record.headless else record.url,
            how=ended.how,
            reason=reason,
            seconds=round(ended.seconds, 1),
        )
    elif ended.how == "gone":
        out.line(f"{record.model} ({record.id}) was gone: {reason}")
    else:
        how = "killed" if ended.how == "killed" else "stopped"
        out.line(f"{how} {record.model} ({record.id})")
    return ended
