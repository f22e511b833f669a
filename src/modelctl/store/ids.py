"""The names of the models in hub folders, and which of them a word means. No look into any model."""

import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from modelctl import ref
from modelctl.errors import ModelctlError, NotFoundError, UsageError
from modelctl.project import Project
from modelctl.store import layout
from modelctl.store.model import Location


def in_hub(hub: Path) -> tuple[str, ...]:
    """The ids of the models in a hub folder, sorted; none where there is no such folder."""
    return tuple(sorted(folders(hub)))


def of_project(project: Project) -> tuple[str, ...]:
    """The ids of the models of both locations, sorted, each once."""
    return tuple(sorted(placed(project)))


def places(project: Project) -> dict[str, tuple[Location, Path]]:
    """The folder of each model by its id; of one that lies in both locations that of the project."""
    return {model_id: found[0] for model_id, found in sorted(placed(project).items())}


def places_in(cache: Path) -> dict[str, tuple[Location, Path]]:
    """The same for the user cache alone."""
    return {model_id: ("cache", cache / folder) for model_id, folder in sorted(folders(cache).items())}


def matching(known: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:
    """The ids that any of these parts of names, or globs, fits. `NotFoundError` for one that fits none.

    `UsageError` for one that names a revision or a variant: what would be left out of it is what was asked for.
    """
    chosen: set[str] = set()
    for part in parts:
        # A folder made by hand may have a name that reads as a revision.
        split = ref.ModelRef(part) if part in known else ref.split(part)
        if split.revision or split.variant:
            raise UsageError(
                f"`{part}` names more than a model", hint=f"`modelctl show {shlex.quote(part)}` shows a revision"
            )
        named = split.id
        fitting = {name for name in known if _fits(name.casefold(), named.casefold())}
        if not fitting:
            raise not_found(named, known)
        chosen |= fitting
    return tuple(name for name in known if name in chosen)


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
    raise not_found(text, known)


def placed(project: Project) -> dict[str, list[tuple[Location, Path]]]:
    """Where each model lies, the place that counts first."""
    found: dict[str, list[tuple[Location, Path]]] = {
        model_id: [("project", project.hub / folder)] for model_id, folder in folders(project.hub).items()
    }
    cache = project.cache
    if cache is not None:
        # It is looked at second: one that cannot be read must not hide the project's models.
        with contextlib.suppress(ModelctlError):
            for model_id, folder in folders(cache).items():
                found.setdefault(model_id, []).append(("cache", cache / folder))
    return found


def folders(hub: Path) -> dict[str, str]:
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


def not_found(text: str, known: Sequence[str]) -> NotFoundError:
    """The error for a word that means none of these models, with those that are close to it."""
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


def _fits(name: str, part: str) -> bool:
    if any(letter in part for letter in "*?["):
        from fnmatch import fnmatchcase

        return fnmatchcase(name, part)
    return part in name
