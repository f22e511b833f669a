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

    `ref` has left it behind for the commit `successor`. It was `imported` from that path, this `variant` of it where
    one was asked for, with these `options`. None of these: it is pinned.
    """

    ref: str | None = None
    successor: str | None = None
    imported: str | None = None
    variant: str | None = None
    options: tuple[str, ...] = ()

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
            return Standing(ref, successor, imported if isinstance(imported, str) else None, *wishes(rest))
        case {"imported": str(imported), **rest}:
            return Standing(None, None, imported, *wishes(rest))
        case _:
            return None


def wishes(record: dict[object, object]) -> tuple[str | None, tuple[str, ...]]:
    """The quantisation and the options that an import was asked for with, as a record of it tells them."""
    variant, options = record.get("variant"), record.get("options")
    words = tuple(map(str, options)) if isinstance(options, list) else ()
    return variant if isinstance(variant, str) else None, words


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


def mark_imported(
    paths: RepoPaths, commit: str, path: str, *, variant: str | None = None, options: tuple[str, ...] = ()
) -> None:
    """Write down that a revision was imported: no Hub has it, whatever a Hub has under the model's name."""
    if imported_from(paths, commit) is None:
        _write(paths, commit, {"schema": 1, **_import(Standing(None, None, path, variant, options))})


def leave_behind(paths: RepoPaths, commit: str | None, *, ref: str, successor: str) -> None:
    """Write down that a ref is about to move from a revision to its successor. Before it does: nothing is lost then."""
    is_here = commit is not None and is_commit(commit) and paths.snapshot(commit).is_dir()
    if commit is not None and is_here and not is_pinned(paths, commit):
        _write(paths, commit, {"schema": 1, "ref": ref, "successor": successor, **_import(read(paths, commit))})


def renew(paths: RepoPaths, commit: str) -> None:
    """Forget that a ref has left a revision behind: one names it again."""
    standing = read(paths, commit)
    if standing is not None and standing.imported is not None and standing.ref is not None:
        _write(paths, commit, {"schema": 1, **_import(standing)})
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


def _import(known: Standing | None) -> dict[str, object]:
    if known is None or known.imported is None:
        return {}
    variant: dict[str, object] = {} if known.variant is None else {"variant": known.variant}
    return {"imported": known.imported, **variant, **({"options": known.options} if known.options else {})}


def _write(paths: RepoPaths, commit: str, value: dict[str, object]) -> None:
    # Not at the top: a listing of models only reads.
    from modelctl.store import changes

    changes.write_file(paths.standing(commit), json.dumps(value), via=paths.private)
