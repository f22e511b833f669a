"""`modelctl ps`: the servers of this user, how they do, and why one is gone."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl.cli import options
from modelctl.cli import output as show

if TYPE_CHECKING:
    from modelctl.engine.running import Server

EPILOG = """\b
Examples:
  modelctl ps
  modelctl ps --json | jq '.servers[] | {id, url, requests}'
  modelctl stop $(modelctl ps -q)
"""


def ps(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the ids of those that run.")] = False,
    json: options.Json = False,
) -> None:
    """Show the servers that run, and those that failed.

    Why one is gone is shown until `modelctl stop` or the next `serve` of its model takes it off the list.
    """
    from modelctl.engine import servers

    out = show.Output(json=json, quiet=quiet)
    if quiet and not json:
        for record in servers.running():
            out.line(record.id)
        return
    found = gather()
    if json:
        out.object({"servers": [server_object(server) for server in found]})
        return
    if not found:
        out.say("no server is running, `modelctl serve --detach` starts one")
        return
    _show(out, found)


def gather() -> "tuple[Server, ...]":
    """The servers of this user, asked how they do."""
    from modelctl.engine import gpus, running, servers

    alive = servers.running()
    on_gpus = gpus.memory_of_processes(projects.locate(None).environ) if alive else None
    return running.look(alive, gone=servers.gone(), on_gpus=on_gpus)


def server_object(server: "Server") -> dict[str, Any]:
    """A server under `--json`."""
    record = server.record
    return {
        "id": record.model,
        "server": record.id,
        "revision": record.revision,
        "url": None if record.headless else record.url,
        "pid": record.pid,
        "engine_pid": record.engine_pid,
        "container": record.container,
        "state": server.state,
        "stage": record.stage,
        "since": record.since,
        "detached": record.detached,
        "ttl": record.ttl,
        "requests": server.requests,
        "kv_cache": server.kv_cache,
        "memory": server.memory,
        "gpu_memory": server.gpu_memory,
        "reason": server.reason,
        "cause": record.cause,
        "engine_exit": record.engine_exit,
        "ended": record.ended,
        "log": record.log,
    }


def state_words(server: "Server") -> str:
    """The state as a person reads it: while it loads, how far it is."""
    if server.state == "starting":
        return server.record.stage
    return {"silent": "does not answer"}.get(server.state, server.state)


def _show(out: show.Output, found: "tuple[Server, ...]") -> None:
    columns = (
        show.Column("ID"),
        show.Column("MODEL"),
        show.Column("URL"),
        show.Column("STATE"),
        show.Column("SINCE", spare=3),
        show.Column("REQUESTS", "right", spare=4),
        show.Column("KV CACHE", "right", spare=2),
        show.Column("MEMORY", "right", spare=5),
        show.Column("GPU", "right", spare=1),
    )
    has_gpu = any(server.gpu_memory for server in found)
    out.table(columns[: None if has_gpu else -1], [_row(server)[: len(columns) - (not has_gpu)] for server in found])
    for server in found:
        if server.reason is not None:
            name = server.record.id
            out.say(f"`{server.record.model}` ({name}) is gone: {server.reason}")
            out.say(f"hint: `modelctl logs {name}` shows its log, `modelctl stop {name}` takes it off this list")


def _row(server: "Server") -> list[str]:
    record = server.record
    return [
        record.id,
        record.model,
        "-" if record.headless else record.url,
        state_words(server),
        show.age(record.ended or record.since),
        "-" if server.requests is None else str(server.requests),
        "-" if server.kv_cache is None else f"{server.kv_cache * 100:.0f} %",
        show.size(server.memory),
        show.size(server.gpu_memory),
    ]
