"""How a revision stands: asked for by its commit, left behind by a ref that moved on, or imported and on no Hub.

The cache layout cannot tell these apart: a commit that was pulled by itself before a branch was, and one that the
branch named before its last update, leave the very same files and times. So whoever knows writes it down beside the
model, in `.modelctl/revisions/<commit>.json`. Where nothing is written, nobody can tell.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelctl.ref import is_commit
from modelctl.store import deletion, reading
from modelctl.store.layout import RepoPaths


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a revision.

    `ref` has left it behind for the commit `successor`. It was `imported` from that path. None of these: it is pinned.
    """

    ref: str | None = None
    successor: str | None = None
    imported: str | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether somebody asked for this very commit."""
        return self.ref is None and self.imported is None


def read(paths: RepoPaths, commit: str) -> Standing | None:
    """What is known of a revision, `None` where nothing is."""
    match reading.document(paths.standing(commit)):
        case {"pinned": True}:
            return Standing()
        case {"ref": str(ref), "successor": str(successor), **rest}:
            imported = rest.get("imported")
            return Standing(ref, successor, imported if isinstance(imported, str) else None)
        case {"imported": str(imported)}:
            return Standing(imported=imported)
        case _:
            return None


def pin(paths: RepoPaths, commit: str) -> None:
    """Write down that somebody asked for this very commit: from now on no ref that moves leaves it behind."""
    if not is_pinned(paths, commit):
        _write(paths, commit, {"schema": 1, "pinned": True})


def is_pinned(paths: RepoPaths, commit: str) -> bool:
    """Whether that is written down."""
    standing = read(paths, commit)
    return standing is not None and standing.is_pinned


def imported_from(paths: RepoPaths, commit: str) -> str | None:
    """The path that a revision was imported from, `None` where that is not written down."""
    standing = read(paths, commit)
    return None if standing is None else standing.imported


def mark_imported(paths: RepoPaths, commit: str, path: str) -> None:
    """Write down that a revision was imported: no Hub has it, whatever a Hub has under the model's name."""
    if imported_from(paths, commit) is None:
        _write(paths, commit, {"schema": 1, "imported": path})


def leave_behind(paths: RepoPaths, commit: str | None, *, ref: str, successor: str) -> None:
    """Write down that a ref is about to move from a revision to its successor. Before it does: nothing is lost then."""
    is_here = commit is not None and is_commit(commit) and paths.snapshot(commit).is_dir()
    if commit is not None and is_here and not is_pinned(paths, commit):
        _write(paths, commit, {"schema": 1, "ref": ref, "successor": successor, **_import(paths, commit)})


def renew(paths: RepoPaths, commit: str) -> None:
    """Forget that a ref has left a revision behind: one names it again."""
    standing = read(paths, commit)
    if standing is not None and standing.imported is not None and standing.ref is not None:
        _write(paths, commit, {"schema": 1, **_import(paths, commit)})
    elif standing is None or (standing.imported is None and not standing.is_pinned):
        paths.standing(commit).unlink(missing_ok=True)


def records(paths: RepoPaths) -> Iterator[tuple[str, Path]]:
    """The commits of which something is known, and where; none where nobody may look."""
    folder = paths.standings
    try:
        found = sorted(folder.iterdir()) if deletion.is_folder(folder) else []
    except OSError:
        return
    yield from ((path.stem, path) for path in found if path.suffix == ".json")


def _import(paths: RepoPaths, commit: str) -> dict[str, object]:
    path = imported_from(paths, commit)
    return {} if path is None else {"imported": path}


def _write(paths: RepoPaths, commit: str, value: dict[str, object]) -> None:
    # Not at the top: a listing of models only reads.
    from modelctl.store import changes

    changes.write_file(paths.standing(commit), json.dumps(value), via=paths.private)
