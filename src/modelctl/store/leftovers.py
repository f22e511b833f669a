"""What a hub folder holds that nobody needs: the leftovers of every model, and those that belong to none."""

from collections.abc import Container, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modelctl.store import deletion, disposal, layout, links, lock, naming, remains, shared, superseded, trash
from modelctl.store.layout import RepoPaths
from modelctl.store.remains import GRACE, Leftover


def find(
    hub: Path, *, patience: timedelta, revisions: superseded.Choice | None = None, among: Container[str] | None = None
) -> list[Leftover]:
    """All leftovers, those that stay for now among them; revisions that no ref names where `revisions` is given.

    `among`: only these models are looked at.
    """
    found = []
    for paths in naming.everything(hub):
        if among is not None and paths.id not in among:
            continue
        there = links.read(paths)
        found += remains.of_model(there, patience=patience)
        found += superseded.of_model(there, revisions) if revisions is not None else []
    return [*found, *_removed(hub), *_payloads(hub), *_temporaries(hub), *_locks(hub)]


def gone(hub: Path) -> list[RepoPaths]:
    """The models of which only the folder of their locks is left, and nobody who holds one of ours."""
    named = [paths for paths in _lock_folders(hub) if not disposal.exists(paths.folder)]
    return [paths for paths in named if lock.holder(paths) is None]


def _removed(hub: Path) -> Iterator[Leftover]:
    for aside in trash.leftovers(hub):
        size = deletion.weigh([aside.path])[1]
        # A rename leaves all times but this one alone.
        since = datetime.fromtimestamp(aside.path.lstat().st_ctime, UTC)
        model_id = layout.model_id(aside.name)
        yield Leftover("removed", model_id, (aside.path,), "an interrupted removal left it", size, since)


def _payloads(hub: Path) -> Iterator[Leftover]:
    """Contents of the cache-wide store that no model uses, as far as every model can be looked into."""
    users = shared.users_if_any(hub)
    if not users.complete:
        return
    for path in shared.contents(hub):
        if path.suffix != ".tmp" and shared.references(hub, path, users) == frozenset():
            yield remains.weighed(Leftover("orphan", None, (path,), "no model uses it"))


def _temporaries(hub: Path) -> Iterator[Leftover]:
    found = [*(hub / ".locks").glob(".*.tmp"), *(path for path in shared.contents(hub) if path.suffix == ".tmp")]
    old = [path for path in found if not remains.is_young(_temporary(path), GRACE)]
    if old:
        yield _temporary(*old)


def _temporary(*paths: Path) -> Leftover:
    return remains.weighed(Leftover("temporary", None, paths, "a writer that was killed left it"))


def _locks(hub: Path) -> Iterator[Leftover]:
    folders = tuple(paths.locks for paths in gone(hub))
    if folders:
        yield remains.weighed(Leftover("locks", None, folders, "their models are gone"))


def _lock_folders(hub: Path) -> Iterator[RepoPaths]:
    for folder in sorted((hub / ".locks").glob(f"{layout.MODEL_PREFIX}?*")):
        if deletion.is_folder(folder):
            yield layout.paths_at(hub / folder.name)
