"""The records of the servers that run: one file each in the user's state directory.

A record is a hint that is proven by its process: losing it costs nothing but comfort.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from modelctl import process
from modelctl.store import changes

State = Literal["starting", "ready", "stopping", "failed"]
RUN_PREFIX = "modelctl-"
# What may name another place for records and logs.
NAMED_BY = "XDG_STATE_HOME"
# Unix socket paths end at 104 (macOS) or 108 bytes, and vLLM's names for them take 37.
_LONGEST_RUN_FOLDER = 60
_LOGS_KEPT = 50
_MOST_PIDS = 2**31
# How long it is told why a server is gone, where nobody has asked before.
_REMEMBERED = timedelta(days=7)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerRecord:
    """One server: what it serves, where it answers, which process is responsible for it.

    `pid` and `started` are those of the `modelctl` that watches it, on the machine or in the container `host`;
    `engine_pid` and `engine_started` are vLLM's. `requests` are those in flight, `None` where nobody asked. `drain` are
    the seconds that those get at the end, `ttl` those of idleness after which it ends by itself, `device` is what its
    vLLM is built for, `headless` one that only computes for another machine and answers nobody. Of one that `failed`
    there is why (`cause`, `reason`), with which exit code of vLLM's, and when (`ended`). `container` is the name of the
    one that it runs in, `container_tool` is who knows it; then `engine_pid` is the command that waits for it. `beside`
    are the models that it needs too: adapters, a draft.
    """

    id: str
    model: str
    revision: str
    path: Path
    url: str
    pid: int
    started: int
    engine_pid: int | None
    state: State
    stage: str
    since: datetime
    requests: int | None
    log: Path
    run_folder: Path
    # What records of earlier versions lack.
    host: str = ""
    engine_started: int | None = None
    detached: bool = False
    drain: float = 0.0
    ttl: float | None = None
    cause: str | None = None
    reason: str | None = None
    engine_exit: int | None = None
    ended: datetime | None = None
    container: str | None = None
    container_tool: Path | None = None
    device: str | None = None
    headless: bool = False
    beside: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = "" if self.headless else f", {self.url}"
        return f"`modelctl serve {self.model}` (pid {self.pid}{where})"


def state_folder() -> Path:
    """Where records and logs lie."""
    import platformdirs

    return Path(platformdirs.user_state_dir("modelctl"))


def logs_folder(state_dir: Path | None = None) -> Path:
    """Where the logs of servers lie, also of those that ended."""
    return (state_dir or state_folder()) / "logs"


def new_id() -> str:
    """A name for a server, short enough to type."""
    return secrets.token_hex(4)


def log_file(model_id: str, server_id: str, *, state_dir: Path | None = None) -> Path:
    """Where the log of a server goes, created for its user alone: it may hold what people asked."""
    path = logs_folder(state_dir) / f"{model_id.replace('/', '--')}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{server_id}.log"
    changes.write_file(path, "", mode=0o600, named_by=NAMED_BY)
    return path


def run_folder(server_id: str, *, temporary: Path) -> Path:
    """Create the folder of one server's sockets and temporary files, below `temporary` where its path is short."""
    for parent in (temporary, Path("/tmp")):  # noqa: S108 - its last part is ours alone, and created as new
        folder = parent / f"{RUN_PREFIX}{server_id}"
        if len(os.fsencode(folder)) > _LONGEST_RUN_FOLDER:
            continue
        try:
            folder.mkdir(mode=0o700)
        except OSError as exc:
            raise changes.translated(exc, doing="create", named_by="TMPDIR") from exc
        return folder
    raise AssertionError(server_id)


@contextlib.contextmanager
def place(
    model_id: str, server_id: str, *, temporary: Path, state_dir: Path | None = None
) -> Iterator[tuple[Path, Path]]:
    """Create the folder and the log of a server, for a `with` that writes its record: where it fails, nothing stays.

    Only the record would lead to them later.
    """
    with contextlib.ExitStack() as undo:
        folder = run_folder(server_id, temporary=temporary)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        log = log_file(model_id, server_id, state_dir=state_dir)
        undo.callback(_unlink, log)
        undo.callback(_unlink, _file(server_id, state_dir))
        yield folder, log
        undo.pop_all()


def write(record: ServerRecord, *, state_dir: Path | None = None) -> None:
    """Put a record on the disk, in place of the one before."""
    value = asdict(record) | {
        "schema": 1,
        "path": str(record.path),
        "since": record.since.isoformat(),
        "ended": record.ended and record.ended.isoformat(),
        "log": str(record.log),
        "run_folder": str(record.run_folder),
        "container_tool": record.container_tool and str(record.container_tool),
    }
    changes.write_file(_file(record.id, state_dir), json.dumps(value, indent=1), mode=0o600, named_by=NAMED_BY)


def remove(record: ServerRecord, *, state_dir: Path | None = None) -> None:
    """Forget a server that ended, with its sockets and temporary files."""
    _remove_run_folder(record)
    try:
        _file(record.id, state_dir).unlink(missing_ok=True)
    except OSError as exc:
        raise changes.translated(exc, doing="remove", named_by=NAMED_BY) from exc


def close(record: ServerRecord, *, state_dir: Path | None = None) -> None:
    """Keep the record of a server that failed while nobody looked, without its sockets and temporary files."""
    _remove_run_folder(record)
    write(record, state_dir=state_dir)


def running(state_dir: Path | None = None) -> tuple[ServerRecord, ...]:
    """The servers whose process lives, oldest first."""
    return tuple(record for record in _records(state_dir) if _is_alive(record))


def gone(state_dir: Path | None = None) -> tuple[ServerRecord, ...]:
    """The servers of this machine whose process is gone and whose end nobody has told yet, oldest first."""
    return tuple(record for record in _records(state_dir) if _is_here(record) and not _is_alive(record))


def busy(records: Iterable[ServerRecord]) -> dict[str, str]:
    """Who serves a model, or with it, by its id: `rm` and `migrate` leave those alone."""
    return {model: str(record) for record in records for model in (*record.beside, record.model)}


def is_known(record: ServerRecord, *, state_dir: Path | None = None) -> bool:
    """Whether there still is a record of a server: one that ends in order takes it away."""
    return _file(record.id, state_dir).exists()


def sweep(state_dir: Path | None = None, *, model: str | None = None) -> None:
    """Remove what servers left that are gone, and all but the newest logs.

    Their records stay for a while, so that it can be told why they are gone: but for those of `model`, which is about
    to be served anew, unless a container is still to be removed.
    """
    forgotten = datetime.now(UTC) - _REMEMBERED
    for record in gone(state_dir):
        is_told = record.model == model and record.container is None
        if is_told or (record.ended or record.since) < forgotten:
            remove(record, state_dir=state_dir)
        else:
            _remove_run_folder(record)
    kept = {record.log for record in _records(state_dir)}
    with contextlib.suppress(OSError):
        # A link that leads nowhere has an age, too.
        by_age = sorted(logs_folder(state_dir).glob("*.log"), key=lambda path: path.lstat().st_mtime, reverse=True)
        for path in by_age[_LOGS_KEPT:]:
            if path not in kept:
                path.unlink(missing_ok=True)


def changed(record: ServerRecord, **keys: Any) -> ServerRecord:  # noqa: ANN401 - the record's own fields
    """The record with some fields anew."""
    return replace(record, **keys)


def _file(server_id: str, state_dir: Path | None) -> Path:
    return (state_dir or state_folder()) / "servers" / f"{server_id}.json"


def _records(state_dir: Path | None) -> list[ServerRecord]:
    folder = (state_dir or state_folder()) / "servers"
    try:
        paths = [path for path in folder.iterdir() if path.suffix == ".json"]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    found = [record for path in paths if (record := _read(path)) is not None]
    return sorted(found, key=lambda record: (record.since, record.id))


def _read(path: Path) -> ServerRecord | None:
    """The record in a file; a torn or foreign one is none."""
    try:
        value = json.loads(path.read_bytes())
        known = {name: value[name] for name in ServerRecord.__slots__ if name in value}
        known |= {name: Path(known[name]) for name in ("path", "log", "run_folder")}
        known |= {name: Path(known[name]) for name in ("container_tool",) if known.get(name)}
        known |= {name: datetime.fromisoformat(known[name]) for name in ("since", "ended") if known.get(name)}
        known |= {name: tuple(known[name]) for name in ("beside",) if name in known}
        record = ServerRecord(**known)
        return record if record.id == path.stem and _is_sound(record) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_sound(record: ServerRecord) -> bool:
    """Whether the fields hold what they should: a file that another program wrote may hold anything."""
    words = (record.id, record.model, record.revision, record.url, record.stage, record.host, *record.beside)
    maybe_words = (record.cause, record.reason, record.device, record.container)
    pids: tuple[object, ...] = (record.pid, 1 if record.engine_pid is None else record.engine_pid)
    numbers = (record.started, record.drain, record.requests or 0, record.engine_started or 0, record.ttl or 0)
    times: tuple[object, ...] = (record.since, record.ended or record.since)
    return (
        all(isinstance(word, str) for word in words)
        and all(word is None or isinstance(word, str) for word in maybe_words)
        and all(isinstance(pid, int) and 0 < pid < _MOST_PIDS for pid in pids)
        and all(isinstance(number, int | float) for number in (*numbers, record.engine_exit or 0))
        and all(isinstance(time, datetime) and time.tzinfo is not None for time in times)
        and record.state in get_args(State)
        and urlsplit(record.url).port is not None
    )


def _is_here(record: ServerRecord) -> bool:
    """Whether its process can be looked for here: a home folder may be shared by machines, and by containers."""
    return record.host in {"", socket.gethostname()}


def _is_alive(record: ServerRecord) -> bool:
    return _is_here(record) and process.start_time(record.pid) == record.started


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _remove_run_folder(record: ServerRecord) -> None:
    """Only a folder that can be nothing else: its name is ours, its owner is the user."""
    folder = record.run_folder
    with contextlib.suppress(OSError):
        if folder.name == f"{RUN_PREFIX}{record.id}" and folder.lstat().st_uid == os.getuid():
            shutil.rmtree(folder)
