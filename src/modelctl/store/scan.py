"""What lies in a store: models, revisions, files, sizes, state. Read-only, and never stopped by a damaged entry."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from modelctl import ref
from modelctl.errors import NotFoundError, NotWholeError
from modelctl.project import Project
from modelctl.ref import ModelRef
from modelctl.store import condition, contents, ids, inventory, layout, metadata, survey
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Download, Extent, Location, Model, Revision
from modelctl.store.survey import Place

_SHORTEST_COMMIT = 7

T = TypeVar("T")


def scan_hub(hub: Path, location: Location) -> tuple[Model, ...]:
    """Every model of a hub folder, in whatever condition, sorted by id."""
    place = contents.place(str(hub))
    folders = (folder for _, folder in sorted(ids.folders(hub).items()))
    taken = (inventory.take(place, layout.paths_at(hub / folder), location) for folder in folders)
    return tuple(model for model in taken if model is not None)


def scan_model(paths: RepoPaths, location: Location) -> Model | None:
    """One model, `None` where its folder is not there."""
    return inventory.take(contents.place(str(paths.hub)), paths, location)


def scan_project(project: Project, only: Collection[str] | None = None) -> tuple[Model, ...]:
    """The models of both locations, sorted by id; one that lies in both is the project's, the other copy named.

    `only` narrows it to some ids.
    """
    return tuple(survey.models(_places(project, only)))


def scan_each(project: Project, take: Callable[[Model], T], only: Collection[str] | None = None) -> list[T]:
    """What `take` makes of the same models, by several processes where there are many of them: see `survey.each`."""
    return survey.each(_places(project, only), take)


def _places(project: Project, only: Collection[str] | None) -> list[Place]:
    chosen = None if only is None else frozenset(only)
    return [
        Place(folder, location, tuple(path for _, path in others))
        for model_id, ((location, folder), *others) in sorted(ids.placed(project).items())
        if chosen is None or model_id in chosen
    ]


def find(where: Project | Sequence[Model], text: str) -> tuple[Model, ModelRef]:
    """The model that `text` names (any form `ref.split` takes, or a unique part of a name), and the name in full.

    `UsageError` with the candidates where it fits several, `NotFoundError` with close names where it fits none.
    """
    known = ids.of_project(where) if isinstance(where, Project) else tuple(model.id for model in where)
    # A folder made by hand may have a name that reads as a revision.
    named = ModelRef(text) if text in known else ref.split(text)
    found = ids.match(known, named.id)
    models = scan_project(where, {found}) if isinstance(where, Project) else where
    model = next((model for model in models if model.id == found), None)
    if model is None:
        raise ids.not_found(named.id, known)
    return model, ModelRef(found, named.revision, named.variant)


def revision_of(model: Model, name: str | None = None) -> Revision:
    """The revision that a ref, a commit or a unique beginning of one (7 digits or more) names.

    Without a name: that of `main`, else the only one, else the newest. `NotFoundError` where there is none of that
    name, `NotWholeError` where there is none at all.
    """
    if name is None:
        default = condition.default_of(model.revisions)
        if default is None:
            fix = next((problem.fix for problem in model.problems if problem.fix), None)
            raise NotWholeError(f"`{model.id}` is {model.state} and has no revision", hint=fix and f"`{fix}`")
        return default
    for revision in model.revisions:
        if name in {*revision.refs, revision.commit}:
            return revision
    short = [revision for revision in model.revisions if revision.commit.startswith(name)]
    if len(name) >= _SHORTEST_COMMIT and len(short) == 1:
        return short[0]
    here = [", ".join((*revision.refs, revision.commit[:12])) for revision in model.revisions]
    hint = f"here are {'; '.join(here)}" if here else f"`modelctl pull {model.id}@{name}` fetches it"
    raise NotFoundError(f"`{model.id}` has no revision `{name}` here", hint=hint)


def at(model: Model, revision: Revision) -> Model:
    """The model with one of its revisions alone, and what that one is; the state stays that of the model."""
    facts = model.facts if revision is condition.default_of(model.revisions) else metadata.facts(revision)
    return model._replace(revisions=(revision,), facts=facts)


def downloads(hub: Path) -> tuple[Download, ...]:
    """The pulls that run or were interrupted, from their records."""
    from modelctl.store import pulls

    found = []
    for _, folder in sorted(ids.folders(hub).items()):
        paths = layout.paths_at(hub / folder)
        pull = pulls.record(paths)
        if pull is not None:
            found.append(pulls.progress(paths, pull))
    return tuple(found)


def total(models: Sequence[Model]) -> Extent:
    """The bytes of all these models together; a content that several have counts once."""
    size, allocated = sum(model.size for model in models), sum(model.allocated for model in models)
    seen: set[tuple[int, int]] = set()
    for model in models:
        for inode, extent in model.shared.items():
            if inode in seen:
                size -= extent.size
                allocated -= extent.allocated
            seen.add(inode)
    return Extent(size, allocated)
