"""Models of the user cache that the project has too, whole: what could be removed there."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from modelctl.store import layout, scan
from modelctl.store.model import Model


class Duplicate(NamedTuple):
    """A model in both locations. `frees`: bytes that only the copy in the user cache takes."""

    id: str
    path: Path
    frees: int


def among(models: Iterable[Model]) -> tuple[Duplicate, ...]:
    """The copies of which the project has every revision, ready; contents that both share free nothing."""
    found = []
    for model in models:
        if model.state != "ready" or model.location != "project":
            continue
        for path in model.other_copies:
            # Both anew: of the many models of a store nobody keeps the files.
            whole = scan.scan_model(layout.paths_at(model.path), "project")
            copy = scan.scan_model(layout.paths_at(path), "cache")
            if whole is None or copy is None or path.is_symlink() or not _has_all(whole, copy):
                continue
            both = model.shared.keys() & copy.shared.keys()
            found.append(Duplicate(model.id, path, copy.allocated - sum(copy.shared[one].allocated for one in both)))
    return tuple(found)


def _has_all(model: Model, copy: Model) -> bool:
    """Whether every file of the copy's revisions is in those of the model."""
    mine = {
        revision.commit: {file.name for file in revision.files if file.size is not None} for revision in model.revisions
    }
    return all(
        {file.name for file in revision.files if file.size is not None} <= mine.get(revision.commit, set())
        for revision in copy.revisions
    )
