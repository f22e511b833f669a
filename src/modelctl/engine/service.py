"""Serving one revision of one model: the plan, and its execution from the port to the last process."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from modelctl import process
from modelctl import project as projects
from modelctl.engine import (
    causes,
    command,
    container,
    diagnosis,
    draft,
    enclosed,
    flags,
    images,
    launch,
    logs,
    machine,
    ports,
    release,
    servers,
    stages,
)
from modelctl.engine.causes import Cause
from modelctl.engine.command import Command, Settings
from modelctl.engine.discovery import Engine
from modelctl.engine.enclosed import Enclosure
from modelctl.engine.launch import Ending, Start, Watcher
from modelctl.engine.servers import ServerRecord
from modelctl.engine.stages import Stage
from modelctl.engine.stop_requests import StopRequests
from modelctl.errors import ModelctlError
from modelctl.project import Project
from modelctl.store import changes, layout, reading

_TAIL = 10
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "tekken.json")


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served: a complete snapshot, and what is known of it; `weights` are the bytes that its weights take."""

    id: str
    commit: str
    snapshot: Path
    context: int | None
    task: str | None
    weights: int | None = None


@dataclass(frozen=True, kw_only=True)
class ServePlan:
    """All that a start needs. `chats`: the model knows a conversation; `offline`: it gets no network.

    `with_key`: requests need the key in the environment; `with_foreign_key`: that in vLLM's own file, which stands over
    it. `folders` have to be there before it.
    """

    served: Served
    engine: Engine
    settings: Settings
    command: Command = field(repr=False)
    url: str
    offline: bool
    chats: bool
    with_key: bool
    with_foreign_key: bool
    temporary: Path
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """How the serving ended: why it failed, where it did, and the end of its log.

    `container_left` is the command that removes its container, where that could not be removed.
    """

    ending: Ending
    cause: Cause | None
    tail: tuple[str, ...]
    log: Path
    container_left: str | None = None


def plan(project: Project, served: Served, engine: Engine, settings: Settings) -> ServePlan:
    """Build command line and environment. Reads the model's templates, writes nothing."""
    command.check(settings)
    if engine.image is not None:
        settings = replace(settings, extra=container.absolute(settings.extra, Path.cwd()))
    offline = not projects.is_online(project)
    snapshot = served.snapshot.absolute()
    argv = command.serve(engine.python, snapshot, settings, version=engine.version)
    caches = None if engine.image is None else images.caches(engine.image)
    environ = command.environment(projects.child_environment(project, offline=offline, caches=caches))
    folders: tuple[Path, ...] = ()
    if engine.image is not None and caches is not None:
        models, hub = (snapshot, *(lora.path for lora in settings.loras)), None if offline else project.hub.absolute()
        environ = container.environment(environ, caches)
        inside = container.inside(caches, models, argv[2:], environ=environ, hub=hub)
        argv = container.run(engine.image, argv[2:], environ=environ, inside=inside, device=engine.device)
        folders = inside.writing
    return ServePlan(
        served=served,
        engine=engine,
        settings=settings,
        command=Command(argv=argv, environ=environ),
        url=command.base_url(settings.host, settings.port, is_tls=settings.is_tls),
        offline=offline,
        chats=_chats(served.snapshot) or flags.given(settings.words, "--chat-template") is not None,
        with_key=bool(project.environ.get("VLLM_API_KEY")),
        with_foreign_key=flags.given(settings.configured, "--api-key") is not None,
        temporary=Path(project.environ.get("TMPDIR") or "/tmp"),  # noqa: S108 - where temporary folders belong
        folders=folders,
    )


def execute(
    planned: ServePlan,
    watcher: Watcher,
    *,
    timeout: float | None = None,
    ttl: float | None = None,
    detached: bool = False,
    announce: Callable[[ServerRecord], None] = lambda _: None,
    state_dir: Path | None = None,
) -> Result:
    """Serve until asked to end, idle for `ttl` seconds, or the server ends by itself; then no process of it is left.

    `announce` is told of the server before the start. Where nobody watches (`detached`), the record of one that failed
    stays and says why. `BusyError` where the port is not free.
    """
    settings = planned.settings
    what = f"serve {planned.served.id}"
    with StopRequests() as requests, ports.held(settings.port, what, state_dir=state_dir):
        ports.check(settings.host, settings.port)
        enclosed.sweep(state_dir)
        servers.sweep(state_dir, model=planned.served.id)
        record = _record(planned, state_dir, ttl=ttl, detached=detached)
        failed = None
        try:
            announce(record)
            enclosure = Enclosure(record)
            start = _start(planned, record, enclosure)
            killed_before = machine.killed_for_memory()
            recorder = _Recorder(record, watcher, state_dir)
            ending = launch.run(start, requests=requests, watcher=recorder, timeout=timeout)
            result = replace(_result(planned, record, ending, killed_before), container_left=enclosure.left)
            if enclosure.left is not None or (detached and (ending.held or not ending.is_wanted)):
                failed = _failed(recorder.record, result)
            return result
        finally:
            # Its end is told whether or not the disk takes note of it.
            with contextlib.suppress(ModelctlError):
                if failed is not None:
                    servers.close(failed, state_dir=state_dir)
                else:
                    servers.remove(record, state_dir=state_dir)


class _Recorder:
    """Keeps the record of a server true while it runs, and passes on what it hears."""

    def __init__(self, record: ServerRecord, watcher: Watcher, state_dir: Path | None) -> None:
        self.record = record
        self._watcher = watcher
        self._state_dir = state_dir

    def started(self, pid: int) -> None:
        self._change(engine_pid=pid, engine_started=process.start_time(pid))
        self._watcher.started(pid)

    def loading(self, stage: Stage, *, elapsed: float) -> None:
        self._change(stage=stage.text)
        self._watcher.loading(stage, elapsed=elapsed)

    def ready(self, tasks: tuple[str, ...], *, elapsed: float) -> None:
        self._change(state="ready", stage=stages.READY.text)
        logs.note_ready(self.record.log, elapsed)
        self._watcher.ready(tasks, elapsed=elapsed)

    def stopping(self, asked: signal.Signals | None, *, patience: float) -> None:
        self._change(state="stopping", stage=stages.STOPPING.text)
        self._watcher.stopping(asked, patience=patience)

    def _change(self, **keys: object) -> None:
        self.record = servers.changed(self.record, **keys)
        # A record is a hint: a full disk is no reason to end a server, nor to drop what it is at work on.
        with contextlib.suppress(ModelctlError):
            servers.write(self.record, state_dir=self._state_dir)


def _record(planned: ServePlan, state_dir: Path | None, *, ttl: float | None, detached: bool) -> ServerRecord:
    server_id, served, settings = servers.new_id(), planned.served, planned.settings
    pid, image = os.getpid(), planned.engine.image
    with servers.place(served.id, server_id, temporary=planned.temporary, state_dir=state_dir) as (run_folder, log):
        record = ServerRecord(
            id=server_id,
            model=served.id,
            revision=served.commit,
            path=served.snapshot,
            url=planned.url,
            pid=pid,
            started=process.start_time(pid) or 0,
            engine_pid=None,
            state="starting",
            stage=stages.STARTING.text,
            since=datetime.now(UTC),
            requests=None,
            log=log,
            run_folder=run_folder,
            host=socket.gethostname(),
            detached=detached,
            drain=settings.drain,
            ttl=ttl,
            container=container.name(server_id) if image else None,
            container_tool=image.tool.path if image else None,
            device=planned.engine.device,
            headless=settings.is_headless,
            beside=_beside(settings),
        )
        servers.write(record, state_dir=state_dir)
    return record


def _beside(settings: Settings) -> tuple[str, ...]:
    names = (*(lora.id or layout.model_within(lora.path) for lora in settings.loras), draft.model(settings.extra))
    return tuple(name for name in names if name is not None)


def _start(planned: ServePlan, record: ServerRecord, enclosure: Enclosure) -> Start:
    argv, environ = planned.command.argv, dict(planned.command.environ)
    private = command.private(record.run_folder, supervisor=record.pid, inherited=environ)
    if record.container is not None:
        argv = container.kept(argv, record.container)
    for folder in planned.folders:
        changes.make_folder(folder, named_by="XDG_CACHE_HOME")
    return Start(
        argv=argv,
        environ=environ | private,
        log=record.log,
        url=planned.url,
        drain=record.drain,
        ttl=record.ttl,
        on_gpus=record.device == release.DEVICE,
        in_container=record.container is not None,
        headless=record.headless,
        weights=planned.served.weights,
        members=enclosure.members,
        end=enclosure.end,
    )


def _failed(record: ServerRecord, result: Result) -> ServerRecord:
    """The record of a server that ended without being asked to, or not to the last."""
    cause, ending = result.cause, result.ending
    reason = cause.message if cause else "it does not say why"
    if ending.timed_out:
        reason = "it was not ready in the time that it got"
    if ending.is_wanted:
        reason = release.message(ending.held)
    if result.container_left is not None:
        reason = f"its container could not be removed: `{result.container_left}`"
    return servers.changed(
        record,
        state="failed",
        stage="failed",
        cause=cause.kind if cause else None,
        reason=reason,
        engine_exit=ending.engine_exit,
        ended=datetime.now(UTC),
    )


def _result(planned: ServePlan, record: ServerRecord, ending: Ending, killed_before: int | None) -> Result:
    if ending.is_wanted:
        return Result(ending=ending, cause=None, tail=(), log=record.log)
    lines = logs.last_lines(record.log)
    cause = diagnosis.cause(lines, model=planned.served.id)
    if planned.engine.image is not None and ending.engine_exit in container.REFUSED:
        said = container.refusal(lines)
        cause = Cause("engine", *said) if said else cause
    killed = machine.killed_for_memory()
    # The kernel writes into no log of ours: a process is simply gone.
    if (cause is None or cause.kind in {"unknown", "engine"}) and killed is not None and killed > (killed_before or 0):
        cause = causes.KILLED_FOR_MEMORY
    return Result(
        ending=ending, cause=cause, tail=tuple(line for line in lines if line.strip())[-_TAIL:], log=record.log
    )


def _chats(snapshot: Path) -> bool:
    """Whether the model has a chat template; vLLM refuses a conversation with one that has none."""
    if any((snapshot / name).exists() for name in _TEMPLATES):
        return True
    return bool(_document(snapshot / "tokenizer_config.json").get("chat_template"))


def _document(path: Path) -> Mapping[str, object]:
    value = reading.document(path)
    return value if isinstance(value, dict) else {}
