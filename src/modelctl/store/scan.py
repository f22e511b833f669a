"""What lies in a store: models, revisions, files, sizes, state. Read-only, and never stopped by a damaged entry.

`names` reads one folder; `scan_hub`, `scan_model` and `scan_project` look into the models.
"""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from modelctl import ref
from modelctl.errors import ModelctlError, NotFoundError, NotWholeError, UsageError
from modelctl.project import Project
from modelctl.ref import ModelRef
from modelctl.store import condition, contents, inventory, layout, metadata
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Download, Location, Model, Revision

_SHORTEST_COMMIT = 7


def names(hub: Path) -> tuple[str, ...]:
    """The ids of the models in a hub folder, sorted; none where there is no such folder."""
    return tuple(sorted(_folders(hub)))


def scan_hub(hub: Path, location: Location) -> tuple[Model, ...]:
    """Every model of a hub folder, in whatever condition, sorted by id."""
    place = contents.place(str(hub))
    folders = (folder for _, folder in sorted(_folders(hub).items()))
    taken = (inventory.take(place, layout.paths_at(hub / folder), location) for folder in folders)
    return tuple(model for model in taken if model is not None)


def scan_model(paths: RepoPaths, location: Location) -> Model | None:
    """One model, `None` where its folder is not there."""
    return inventory.take(contents.place(str(paths.hub)), paths, location)


def project_names(project: Project) -> tuple[str, ...]:
    """The ids of the models of both locations, sorted, each once."""
    return tuple(sorted(_placed(project)))


def scan_project(project: Project, ids: Collection[str] | None = None) -> tuple[Model, ...]:
    """The models of both locations, sorted by id; one that lies in both is the project's, the other copy named.

    `ids` narrows it to some of them.
    """
    places = {"project": contents.place(str(project.hub)), "cache": contents.place(str(project.user_cache))}
    models = []
    for model_id, ((location, folder), *others) in sorted(_placed(project).items()):
        if ids is None or model_id in ids:
            model = inventory.take(places[location], layout.paths_at(folder), location)
            models += [model._replace(other_copies=tuple(path for _, path in others))] if model is not None else []
    return tuple(models)


def matching(known: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:
    """The ids that any of these parts of names, or globs, fits. `NotFoundError` for one that fits none."""
    chosen: set[str] = set()
    for part in parts:
        named = ref.split(part).id
        fitting = {name for name in known if _fits(name.casefold(), named.casefold())}
        if not fitting:
            raise _not_found(named, known)
        chosen |= fitting
    return tuple(name for name in known if name in chosen)


def find(where: Project | Sequence[Model], text: str) -> tuple[Model, ModelRef]:
    """The model that `text` names (any form `ref.split` takes, or a unique part of a name), and the name in full.

    `UsageError` with the candidates where it fits several, `NotFoundError` with close names where it fits none.
    """
    known = project_names(where) if isinstance(where, Project) else tuple(model.id for model in where)
    # A folder made by hand may have a name that reads as a revision.
    named = ModelRef(text) if text in known else ref.split(text)
    found = match(known, named.id)
    models = scan_project(where, {found}) if isinstance(where, Project) else where
    model = next((model for model in models if model.id == found), None)
    if model is None:
        raise _not_found(named.id, known)
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
    for _, folder in sorted(_folders(hub).items()):
        paths = layout.paths_at(hub / folder)
        pull = pulls.record(paths)
        if pull is not None:
            found.append(pulls.progress(paths, pull))
    return tuple(found)


def total_size(models: Sequence[Model]) -> int:
    """The bytes of all these models together; a payload that several share counts once."""
    seen: dict[str, int] = {}
    stores = {hub: f"{os.path.realpath(layout.shared_blobs(hub))}/" for hub in {model.path.parent for model in models}}
    for model in models:
        shared = stores[model.path.parent]
        contents_here = {file.content: file.size or 0 for revision in model.revisions for file in revision.files}
        for content, size in contents_here.items():
            if content is not None and content.startswith(shared):
                seen[content] = seen.get(content, -size) + size
    return sum(model.size for model in models) - sum(seen.values())


def _folders(hub: Path) -> dict[str, str]:
    """The names of the models' folders by id."""
    try:
        with os.scandir(hub) as entries:
            return {model_id: entry.name for entry in entries if (model_id := layout.model_id(entry.name)) is not None}
    except FileNotFoundError:
        return {}
    except NotADirectoryError as exc:
        in_the_way = next(path for path in (hub, *hub.parents) if path.exists())
        raise ModelctlError(
            f"`{in_the_way}` is a file where a folder should be",
            hint="move it away, or name another folder with `--models-dir`",
        ) from exc
    except OSError as exc:
        from modelctl.store import changes

        raise changes.translated(exc, doing="read") from exc


def _placed(project: Project) -> dict[str, list[tuple[Location, Path]]]:
    """Where each model lies, the place that counts first."""
    placed: dict[str, list[tuple[Location, Path]]] = {
        model_id: [("project", project.hub / folder)] for model_id, folder in _folders(project.hub).items()
    }
    cache = project.cache
    if cache is not None:
        # It is looked at second: one that cannot be read must not hide the project's models.
        with contextlib.suppress(ModelctlError):
            for model_id, folder in _folders(cache).items():
                placed.setdefault(model_id, []).append(("cache", cache / folder))
    return placed


def _fits(name: str, part: str) -> bool:
    if any(letter in part for letter in "*?["):
        from fnmatch import fnmatchcase

        return fnmatchcase(name, part)
    return part in name


def match(known: Sequence[str], text: str) -> str:
    """The id that a text means: itself, itself in another case, the part after the slash, any part."""
    if text in known:
        return text
    wanted = text.casefold()
    for found in (
        [name for name in known if name.casefold() == wanted],
        [name for name in known if name.casefold().rsplit("/", 1)[-1] == wanted],
        [name for name in known if wanted in name.casefold()],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            names_found = ", ".join(f"`{name}`" for name in found)
            raise UsageError(f"`{text}` fits {len(found)} models", hint=f"give more of the name: {names_found}")
    raise _not_found(text, known)


def _not_found(text: str, known: Sequence[str]) -> NotFoundError:
    import difflib

    short = {name.rsplit("/", 1)[-1]: name for name in known}
    close = difflib.get_close_matches(text, known, n=3, cutoff=0.6)
    close += [short[name] for name in difflib.get_close_matches(text, short, n=3, cutoff=0.6)]
    hints = [f"did you mean {' or '.join(f'`{name}`' for name in dict.fromkeys(close))}"] if close else []
    if ref.is_model_id(text) and "/" in text:
        hints.append(f"`modelctl pull {text}` fetches it")
    elif not close:
        hints.append("`modelctl list` shows what is here, `modelctl pull ORG/NAME` fetches a model")
    return NotFoundError(f"no model `{text}` here", hint="; ".join(hints))
