"""How the servers of this user do: those that run, asked, and those that are gone, with the reason."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from modelctl.engine import diagnosis, enclosed, group, logs, probing
from modelctl.engine.servers import ServerRecord
from modelctl.errors import NotFoundError, UsageError

Condition = Literal["starting", "ready", "silent", "stopping", "failed"]
KILLED = "the `modelctl` that watched it was killed, and vLLM with it"
RESTARTED = "the machine was restarted"
_WIDTH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """One server as it is now. `state` is `silent` where one that was ready does not answer.

    `requests` are those in flight, `kv_cache` is the share of it that they fill, `memory` and `gpu_memory` are bytes;
    each `None` where it is not known. `reason` is why one is gone.
    """

    record: ServerRecord
    state: Condition
    requests: int | None = None
    kv_cache: float | None = None
    memory: int | None = None
    gpu_memory: int | None = None
    reason: str | None = None


def look(
    records: Iterable[ServerRecord], *, gone: Iterable[ServerRecord] = (), on_gpus: Mapping[int, int] | None = None
) -> tuple[Server, ...]:
    """Ask each running server how it does, all at once; of those that are gone find out why.

    `on_gpus` are the bytes that processes have on GPUs.
    """
    alive = tuple(records)
    asked: list[Server] = []
    if alive:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=_WIDTH) as pool:
            asked = list(pool.map(lambda record: _asked(record, on_gpus or {}), alive))
    return (*asked, *(Server(record=record, state="failed", reason=reason(record)) for record in gone))


def reason(record: ServerRecord) -> str:
    """Why a server is gone whose record is there still."""
    if record.reason is not None:
        return record.reason
    if (booted := _booted()) is not None and record.since < booted:
        return RESTARTED
    # Killed itself, its `modelctl` could not tell; perhaps vLLM's own log does.
    cause = diagnosis.cause(logs.last_lines(record.log), model=record.model)
    return cause.message if cause else KILLED


def find(records: Sequence[ServerRecord], text: str) -> ServerRecord:
    """The server that a word means: its id or the beginning of it, its model, or a part of the model's name.

    Last of all a model that it serves beside its own.
    """
    for found in (
        [one for one in records if one.id == text],
        [one for one in records if one.model == text],
        [one for one in records if len(text) >= 2 and one.id.startswith(text.lower())],
        [one for one in records if one.model.rsplit("/", 1)[-1].casefold() == text.casefold()],
        [one for one in records if text and text.casefold() in one.model.casefold()],
        [one for one in records if text in one.beside],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"`{text}` fits {len(found)} servers", hint=f"name one by its id: {_listed(found)}")
    raise NotFoundError(f"no server `{text}`", hint=_hint(records))


def among(text: str, alive: Sequence[ServerRecord], gone: Sequence[ServerRecord]) -> ServerRecord:
    """The server that a word means: one that runs, else one that is gone."""
    try:
        return find(alive, text)
    except NotFoundError:
        # Of several of a model the one that went last.
        last = {record.model: record for record in gone}.values()
        with contextlib.suppress(NotFoundError):
            return next((one for one in gone if one.id == text), None) or find([*last], text)
        raise


def only(records: Sequence[ServerRecord]) -> ServerRecord:
    """The server that is meant where none is named: the only one."""
    if not records:
        raise NotFoundError("no server is running", hint="`modelctl serve` starts one")
    if len(records) > 1:
        raise UsageError(f"no server is named, and there are {len(records)}", hint=f"name one: {_listed(records)}")
    return records[0]


def _asked(record: ServerRecord, on_gpus: Mapping[int, int]) -> Server:
    answers = record.state == "ready" and not record.headless
    load = probing.load(record.url) if answers else None
    pids = enclosed.members(record)
    is_silent = answers and load is None and not probing.is_healthy(record.url)
    return Server(
        record=record,
        state="silent" if is_silent else record.state,
        requests=load.requests if load else None,
        kv_cache=load.kv_cache if load else None,
        memory=group.memory(pids),
        gpu_memory=sum(on_gpus.get(pid, 0) for pid in pids) or None,
    )


def _booted() -> datetime | None:
    """When the machine was started."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    seconds = next((line.split()[1] for line in lines if line.startswith("btime ")), None)
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


def _listed(records: Iterable[ServerRecord]) -> str:
    return ", ".join(f"`{one.id}` ({one.model} at {one.url})" for one in records)


def _hint(records: Sequence[ServerRecord]) -> str:
    return f"there are {_listed(records)}" if records else "no server is running; `modelctl serve` starts one"
