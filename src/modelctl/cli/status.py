"""`modelctl status`: where the models are, what is ready, what is under way, what needs a hand."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl.cli import options
from modelctl.cli import output as show

if TYPE_CHECKING:
    from modelctl.engine.discovery import Engine
    from modelctl.engine.servers import ServerRecord
    from modelctl.project import Project
    from modelctl.store.model import Download, Model, Problem
    from modelctl.store.remains import Leftover

EPILOG = """\b
Examples:
  modelctl status
  modelctl status --json | jq .downloaded_models
  modelctl status --check || echo "something needs a hand"
"""
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Status:
    """All that `status` tells, as it was found."""

    project: "Project"
    default_model: str | None
    models: "tuple[Model, ...]"
    downloads: "tuple[Download, ...]"
    servers: "tuple[ServerRecord, ...]"
    engine: "Engine | None"
    engine_problem: str | None
    problems: "tuple[Problem, ...]"
    free: int
    total: int
    leftovers: "tuple[Leftover, ...]" = ()

    @property
    def ready(self) -> list[str]:
        """The ids of the ready models of both locations."""
        return [model.id for model in self.models if model.state == "ready"]


def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 when something needs a hand, and say what.")
    ] = False,
    models_dir: options.ModelsDir = None,
    json: options.Json = False,
) -> None:
    """Show where models are, what is ready or runs, what needs a hand."""
    found = gather(projects.locate(models_dir))
    out = show.Output(json=json)
    if json:
        out.object(status_object(found))
    else:
        for line in _lines(found):
            out.line(line)
    wrong = list(_needs_a_hand(found))
    if check or not json:
        for message, fix in wrong:
            out.say(message)
            if fix:
                out.say(f"hint: `{fix}`")
    if check and wrong:
        raise typer.Exit(1)


def gather(project: "Project") -> Status:
    """Read everything that the status tells. A store that cannot be read is a problem of it, not a failure."""
    from modelctl.engine import discovery, servers
    from modelctl.errors import ModelctlError
    from modelctl.store import disk, ownership, scan
    from modelctl.store.model import Problem

    problems = list(ownership.of_project(project))
    models: tuple[Model, ...] = ()
    downloads: tuple[Download, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    running = servers.running()
    try:
        models, downloads = scan.scan_project(project), scan.downloads(project.hub)
        leftovers = _leftovers(project, models, running)
    except ModelctlError as error:
        problems.append(Problem("store", error.message, None))
    engine, obstacle = None, None
    try:
        engine = discovery.find(project)
        obstacle = discovery.unusable(engine) if engine else None
    except ModelctlError as error:
        obstacle = error
    default = projects.default_model(project)
    usage = shutil.disk_usage(disk.existing(project.models_dir))
    return Status(
        project=project,
        default_model=default[0] if default else None,
        models=models,
        downloads=downloads,
        servers=running,
        engine=engine,
        engine_problem=obstacle.message if obstacle else None,
        problems=tuple(problems),
        free=usage.free,
        total=usage.total,
        leftovers=leftovers,
    )


def _leftovers(
    project: "Project", models: "Sequence[Model]", running: "Sequence[ServerRecord]"
) -> "tuple[Leftover, ...]":
    """What `prune --revisions` would take, as far as it takes room."""
    from modelctl.engine import servers
    from modelctl.store import pruning, remains
    from modelctl.store.superseded import Choice

    choice = Choice(named=projects.named_commits(project), busy=servers.busy(running))
    among = {model.id for model in models if model.location == "project" and remains.may_have_any(model)}
    plan = pruning.plan(project.hub, patience=pruning.PATIENCE, revisions=choice, among=among)
    return tuple(left for left in plan.going if left.size)


def status_object(found: Status) -> dict[str, Any]:
    """The status under `--json`."""
    from modelctl.cli import models
    from modelctl.store import scan

    project, taken = found.project, scan.total(_own(found))
    disk = {"free": found.free, "total": found.total, "models": taken.size, "allocated": taken.allocated}
    return {
        "models_available": bool(found.ready),
        "models_dir_exists": project.models_dir.is_dir(),
        "downloaded_models": found.ready,
        "message": message(found),
        "models_dir": project.models_dir,
        "models_dir_reason": project.reason,
        "cache_dir": project.cache,
        "default_model": found.default_model,
        "disk": disk,
        "downloads": [
            {"id": one.id, "done": one.done, "total": one.total, "rate": one.rate, "active": one.active}
            for one in found.downloads
        ],
        "servers": [_server_object(server) for server in found.servers],
        "engine": _engine_object(found),
        "leftovers": {"count": len(found.leftovers), "size": sum(left.size for left in found.leftovers)},
        "problems": [models.problem_object(problem) for problem in found.problems],
    }


def message(found: Status) -> str:
    """The status in one sentence."""
    if not found.project.models_dir.is_dir() and not found.models:
        return "there is no models directory yet, `modelctl pull` makes it"
    if not found.models:
        return "there are no models yet, `modelctl pull` fetches one"
    active = [download for download in found.downloads if download.active]
    halves = [f"{show.plural(len(found.ready), 'model')} ready"]
    halves += [f"{len(active)} being pulled"] if active else []
    waiting = len(found.models) - len(found.ready) - len(active)
    halves += [f"{waiting} not whole"] if waiting > 0 else []
    return ", ".join(halves)


def _own(found: Status) -> "list[Model]":
    return [model for model in found.models if model.location == "project"]


def _server_object(server: "ServerRecord") -> dict[str, Any]:
    return {
        "id": server.model,
        "server": server.id,
        "url": server.url,
        "pid": server.pid,
        "state": server.state,
        "stage": server.stage,
        "since": server.since,
        "requests": server.requests,
        "log": server.log,
    }


def _engine_object(found: Status) -> dict[str, Any]:
    engine = found.engine
    return {
        "found": engine is not None,
        "version": engine and engine.version,
        "device": engine and engine.device,
        "how": engine and engine.how,
        "python": engine and engine.python,
        "problem": found.engine_problem,
    }


def _lines(found: Status) -> Iterator[str]:
    from modelctl.store import scan

    project = found.project
    yield f"models     {project.models_dir} ({project.reason})"
    yield f"cache      {project.cache or 'the same folder'}"
    yield f"default    {_default_line(found)}"
    taken = show.size(scan.total(_own(found)).size)
    yield f"disk       {show.size(found.free)} free of {show.size(found.total)}, the models take {taken}"
    yield f"engine     {_engine_line(found)}"
    yield f"status     {message(found)}"
    yield from _models_lines(found)
    for download in found.downloads:
        yield f"pulling    {_download_line(download)}"
    for server in found.servers:
        yield f"serving    {server.model} at {server.url} ({server.state}, pid {server.pid})"
    if found.leftovers:
        yield f"leftovers  {_leftovers_line(found.leftovers)}"


def _default_line(found: Status) -> str:
    name = found.default_model
    if name is None:
        return "none, `modelctl use NAME` sets it"
    is_here = any(model.id == name.partition("@")[0] for model in found.models)
    return name if is_here else f"{name}, which is not here"


def _models_lines(found: Status) -> Iterator[str]:
    label = "ready      "
    for name in found.ready[:_SHOWN]:
        yield f"{label}{name}"
        label = " " * len(label)
    if len(found.ready) > _SHOWN:
        yield f"{label}and {len(found.ready) - _SHOWN} more, see `modelctl list`"


def _download_line(download: "Download") -> str:
    percent = f"{download.done * 100 // download.total} %" if download.total else "-"
    far = f"{download.id} {percent}, {show.size(download.done)} of {show.size(download.total)}"
    if not download.active:
        return f"{far}, interrupted"
    return f"{far}, {show.size(int(download.rate))}/s" if download.rate is not None else far


def _leftovers_line(leftovers: "Sequence[Leftover]") -> str:
    taken = show.size(sum(left.size for left in leftovers))
    command = "modelctl prune --revisions" if any(left.commits for left in leftovers) else "modelctl prune"
    return f"{len(leftovers)} that {'takes' if len(leftovers) == 1 else 'take'} {taken}, `{command}` frees it"


def _engine_line(found: Status) -> str:
    engine = found.engine
    if engine is not None and found.engine_problem is None:
        device = f" for {engine.device}" if engine.device else ""
        return f"vLLM {engine.version}{device} ({engine.how})"
    return found.engine_problem or "no vLLM yet, `modelctl engine install` installs it"


def _needs_a_hand(found: Status) -> Iterator[tuple[str, str | None]]:
    """What is wrong and the command that mends it. Foreign files are mended by one command for all."""
    from modelctl.store import ownership

    active = {download.id for download in found.downloads if download.active}
    foreign = [problem for problem in found.problems if problem.kind == "owner"]
    yield from ((problem.message, problem.fix) for problem in found.problems if problem.kind != "owner")
    for model in found.models:
        foreign += [problem for problem in model.problems if problem.kind == "owner"]
        wrong = [problem for problem in model.problems if problem.fix and problem.kind != "owner"]
        if wrong and model.id not in active:
            what = "ready, but" if model.state == "ready" else f"{model.state}:"
            yield f"`{model.id}` is {what} {wrong[0].message}", wrong[0].fix
        elif model.state != "ready" and model.id not in active:
            yield f"`{model.id}` is {model.state}", None
    if foreign:
        yield foreign[0].message, ownership.fix(found.project.models_dir)
