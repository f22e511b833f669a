"""What `status` tells, as it was found: places, models, downloads, servers, the engine, and what needs a hand."""

import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from modelctl import project as projects

if TYPE_CHECKING:
    from pathlib import Path

    from modelctl.engine.discovery import Engine
    from modelctl.engine.running import Server
    from modelctl.engine.servers import ServerRecord
    from modelctl.login import Login
    from modelctl.project import Project
    from modelctl.store.duplicates import Duplicate
    from modelctl.store.model import Download, Extent, Model, Problem
    from modelctl.store.remains import Leftover


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that `status` tells.

    `problems` are of the store, `silent` are servers that do not answer where they should, `side_caches` folders of
    hf_xet that take room, with their bytes. `own` and `cached` are the bytes of the project's models, and of those that
    only the user cache has. `is_checked`: the servers were asked.
    """

    project: "Project"
    default_model: str | None
    login: "Login | None"
    models: "tuple[Model, ...]"
    own: "Extent"
    cached: "Extent"
    duplicates: "tuple[Duplicate, ...]"
    downloads: "tuple[Download, ...]"
    leftovers: "tuple[Leftover, ...]"
    side_caches: "Mapping[Path, int]"
    servers: "tuple[Server, ...]"
    silent: "tuple[ServerRecord, ...]"
    engine: "Engine | None"
    engine_problem: str | None
    problems: "tuple[Problem, ...]"
    free: int
    total: int
    is_checked: bool = False

    @property
    def ready(self) -> list[str]:
        """The ids of the ready models of both locations."""
        return [model.id for model in self.models if model.state == "ready"]

    @property
    def is_default_here(self) -> bool:
        """Whether the default model, if there is one, is among the models."""
        name = self.default_model
        return name is None or any(model.id == name.partition("@")[0].partition(":")[0] for model in self.models)


def gather(project: "Project", *, ask: bool = False) -> Situation:
    """Read everything that the status tells. A store that cannot be read is a problem of it, not a failure.

    `ask` has the servers that should be ready asked whether they are.
    """
    from modelctl import login
    from modelctl.engine import discovery, servers
    from modelctl.engine import running as watching
    from modelctl.errors import ModelctlError
    from modelctl.store import disk, duplicates, ownership, scan
    from modelctl.store.model import Problem

    problems = list(ownership.of_project(project))
    models: tuple[Model, ...] = ()
    downloads: tuple[Download, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    running = servers.running()
    try:
        looks = scan.scan_each(project, _look)
        models, downloads = tuple(look.model for look in looks), scan.downloads(project.hub)
        leftovers = _leftovers(project, {look.model.id for look in looks if look.may_have_leftovers}, running)
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
    return Situation(
        project=project,
        default_model=default[0] if default else None,
        login=login.find(project),
        models=models,
        own=scan.total([model for model in models if model.location == "project"]),
        cached=scan.total([model for model in models if model.location == "cache"]),
        duplicates=duplicates.among(models),
        downloads=downloads,
        leftovers=leftovers,
        side_caches={folder: size for folder in projects.xet_caches(project) if (size := disk.taken(folder))},
        servers=watching.look(running, gone=servers.gone()),
        silent=tuple(one for one in running if ask and _should_answer(one) and not _answers(one.url)),
        engine=engine,
        engine_problem=obstacle.message if obstacle else None,
        problems=tuple(problems),
        free=usage.free,
        total=usage.total,
        is_checked=ask,
    )


def _should_answer(record: "ServerRecord") -> bool:
    return record.state == "ready" and not record.headless


def _answers(url: str) -> bool:
    from modelctl.engine import probing

    return probing.is_healthy(url) and probing.has_model(url)


class _Look(NamedTuple):
    model: "Model"
    may_have_leftovers: bool


def _look(model: "Model") -> _Look:
    """What is asked of each model while its files are known."""
    from modelctl.store import remains, survey

    is_own = model.location == "project"
    return _Look(survey.brief(model), is_own and remains.may_have_any(model))


def _leftovers(
    project: "Project", among: "Collection[str]", running: "Sequence[ServerRecord]"
) -> "tuple[Leftover, ...]":
    """What `prune --revisions` would take of some models, as far as it takes room."""
    from modelctl.engine import servers
    from modelctl.store import pruning
    from modelctl.store.superseded import Choice

    choice = Choice(named=projects.named_commits(project), busy=servers.busy(running))
    plan = pruning.plan(project.hub, patience=pruning.PATIENCE, revisions=choice, among=among)
    return tuple(left for left in plan.going if left.size)


def needs_a_hand(found: Situation) -> Iterator[tuple[str, str | None]]:
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
    if found.engine_problem is not None and found.is_checked:
        yield found.engine_problem, "modelctl engine status"
    if not found.is_default_here:
        yield (
            f"the default model `{found.default_model}` is not here",
            f"modelctl pull {shlex.quote(found.default_model or '')}",
        )
    for server in found.servers:
        if server.reason is not None:
            name = server.record.id
            yield f"the server of `{server.record.model}` ({name}) is gone: {server.reason}", f"modelctl logs {name}"
    for silent in found.silent:
        yield (
            f"`{silent.model}` should be ready at {silent.url}, and does not answer",
            f"modelctl logs {silent.id} --tail 50",
        )
