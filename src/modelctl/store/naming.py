"""Which models of one hub folder the words of a command mean."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelctl import ref
from modelctl.errors import NotFoundError, UsageError
from modelctl.store import changes, disposal, ids, layout, trash
from modelctl.store.layout import RepoPaths
from modelctl.store.removal import Target

_GLOB = "*?["
# What is in a hub folder beside repositories.
_OF_A_HUB = {layout.CACHE_TAG, ".locks"}


def hub_of(folder: Path, *, is_there: bool) -> Path:
    """The hub folder that a folder is, or contains, or that of a project. One that is not there yet is made inside."""
    try:
        names = {entry.name for entry in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError) as exc:
        if is_there or isinstance(exc, NotADirectoryError):
            raise NotFoundError(f"`{folder}` is no folder", hint="name the folder that contains `hub/`") from exc
        names = set()
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    project = folder / "models"
    if "hub" not in names and ((project / "hub").is_dir() or (project / ".gitkeep").exists()):
        return project / "hub"
    if folder.name == "hub" or _OF_A_HUB & names or any(layout.repository_id(name) for name in names):
        return folder
    if is_there and "hub" not in names:
        raise NotFoundError(
            f"`{folder}` holds no models", hint="name a hub folder, with its `models--*`, or the folder above it"
        )
    return folder / "hub"


def targets(
    hub: Path, words: Sequence[str], *, revision: str | None = None, parts: bool, datasets: bool = False
) -> list[Target]:
    """The models that words name, each once, with the revisions that they name.

    A word is an id or a glob, and with `parts` also any unique part of a name. All that are unknown are named in one
    `NotFoundError`. With `datasets` those are meant too, as `datasets/ORG/NAME`.
    """
    known = {paths.id: paths for paths in (*everything(hub), *(all_datasets(hub) if datasets else ()))}
    others = [] if datasets else [paths.id for paths in all_datasets(hub)]
    return among(known, words, revision=revision, parts=parts, where=f"in `{hub}`", datasets=others)


def among(
    known: Mapping[str, RepoPaths],
    words: Sequence[str],
    *,
    revision: str | None,
    parts: bool,
    where: str,
    datasets: Sequence[str] = (),
) -> list[Target]:
    """The same of models that are known by their ids, wherever they lie: `where`, for the error.

    `datasets` are there too, and not meant.
    """
    chosen: dict[RepoPaths, list[str]] = {}
    unknown: list[NotFoundError] = []
    for word in words:
        # An id as it is found may have in it what parts a name from its revision: a folder may be called anything.
        split = ref.ModelRef(word) if word in known else ref.split(word)
        named = ref.with_revision(split, revision)
        if named.variant is not None:
            raise UsageError(
                f"`{word}` names a variant, and only whole revisions can be meant here",
                hint=f"leave out `:{named.variant}`",
            )
        try:
            for paths in _named(known, named.id, parts=parts, where=where, datasets=datasets):
                revisions = chosen.setdefault(paths, [])
                revisions.append(named.revision or "")
        except NotFoundError as error:
            unknown.append(error)
    if len(unknown) == 1:
        raise unknown[0]
    if unknown:
        raise NotFoundError("; ".join(error.message for error in unknown), hint=unknown[0].hint)
    # Whoever names a model without a revision means all of it.
    return [
        Target(paths, () if "" in revisions else tuple(dict.fromkeys(revisions))) for paths, revisions in chosen.items()
    ]


def everything(hub: Path) -> list[RepoPaths]:
    """The models of a hub folder, and those of which an interrupted removal has left something, sorted by id."""
    try:
        names = {path.name for path in hub.iterdir()}
    except FileNotFoundError:
        names = set()
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    names |= {aside.name for aside in trash.leftovers(hub)}
    found = [layout.paths_at(hub / name) for name in names if layout.model_id(name) is not None]
    return sorted(found, key=lambda paths: paths.id)


def all_targets(hub: Path, *, datasets: bool = False) -> list[Target]:
    """Every model that is there, and every dataset."""
    every = (*everything(hub), *(all_datasets(hub) if datasets else ()))
    return [Target(paths) for paths in every if disposal.exists(paths.folder)]


def all_datasets(hub: Path) -> list[RepoPaths]:
    """Every dataset that is there, as `datasets/ORG/NAME`."""
    try:
        names = sorted(path.name for path in hub.iterdir())
    except OSError:
        return []
    found = ((layout.repository_id(name), name) for name in names if layout.model_id(name) is None)
    return [RepoPaths(hub, dataset, name) for dataset, name in found if dataset]


def _named(
    known: Mapping[str, RepoPaths], text: str, *, parts: bool, where: str, datasets: Sequence[str]
) -> list[RepoPaths]:
    if text in known:
        return [known[text]]
    if text in datasets or (text.startswith("datasets/") and fnmatch.filter(datasets, text)):
        raise NotFoundError(
            f"`{text}` is no model {where}, but a dataset", hint="`migrate` takes it with `--include-datasets`"
        )
    if any(letter in text for letter in _GLOB):
        return [known[name] for name in ids.matching(tuple(known), [text])]
    if parts:
        return [known[ids.match(tuple(known), text)]]
    fitting = [f"`{name}`" for name in known if text.casefold() in name.casefold()]
    hint = f"with `--yes` a full name or a glob is needed: {' or '.join(fitting)}" if fitting else "see `modelctl list`"
    raise NotFoundError(f"no model `{text}` {where}", hint=hint)
