"""Which models of one hub folder the words of a command mean."""

from collections.abc import Sequence
from pathlib import Path

from modelctl import ref
from modelctl.errors import NotFoundError, UsageError
from modelctl.store import changes, disposal, layout, scan, trash
from modelctl.store.layout import RepoPaths
from modelctl.store.removal import Target

_GLOB = "*?["


def targets(hub: Path, words: Sequence[str], *, revision: str | None = None, parts: bool) -> list[Target]:
    """The models that words name, each once, with the revisions that they name.

    A word is an id or a glob, and with `parts` also any unique part of a name. All that are unknown are named in one
    `NotFoundError`.
    """
    known = {paths.id: paths for paths in everything(hub)}
    chosen: dict[RepoPaths, list[str]] = {}
    unknown: list[NotFoundError] = []
    for word in words:
        named = ref.with_revision(ref.split(word), revision)
        if named.variant is not None:
            raise UsageError(
                f"`{word}` names a variant, and only whole revisions can be meant here",
                hint=f"leave out `:{named.variant}`",
            )
        try:
            for paths in _named(hub, known, named.id, parts=parts):
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


def all_targets(hub: Path) -> list[Target]:
    """Every model that is there."""
    return [Target(paths) for paths in everything(hub) if disposal.exists(paths.folder)]


def _named(hub: Path, known: dict[str, RepoPaths], text: str, *, parts: bool) -> list[RepoPaths]:
    if text in known:
        return [known[text]]
    if any(letter in text for letter in _GLOB):
        return [known[name] for name in scan.matching(tuple(known), [text])]
    if parts:
        return [known[scan.match(tuple(known), text)]]
    raise NotFoundError(
        f"no model `{text}` in `{hub}`", hint="with `--yes` a full name or a glob is needed: see `modelctl list`"
    )
