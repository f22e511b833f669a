"""How a revision that no ref names stands: asked for by its commit, or left behind by a ref that moved on.

The cache layout cannot tell the two apart: a commit that was pulled by itself before a branch was, and one that the
branch named before its last update, leave the very same files and times. So whoever knows writes it down beside the
model, in `.modelctl/revisions/<commit>.json`. Where nothing is written, nobody can tell.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelctl.ref import is_commit
from modelctl.store import changes, reading
from modelctl.store.layout import RepoPaths


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a revision: `ref` has left it behind for the commit `successor`; neither: it is pinned."""

    ref: str | None = None
    successor: str | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether somebody asked for this very commit."""
        return self.ref is None


def read(paths: RepoPaths, commit: str) -> Standing | None:
    """What is known of a revision, `None` where nothing is."""
    match reading.document(paths.standing(commit)):
        case {"pinned": True}:
            return Standing()
        case {"ref": str(ref), "successor": str(successor)}:
            return Standing(ref, successor)
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


def leave_behind(paths: RepoPaths, commit: str | None, *, ref: str, successor: str) -> None:
    """Write down that a ref is about to move from a revision to its successor. Before it does: nothing is lost then."""
    is_here = commit is not None and is_commit(commit) and paths.snapshot(commit).is_dir()
    if commit is not None and is_here and not is_pinned(paths, commit):
        _write(paths, commit, {"schema": 1, "ref": ref, "successor": successor})


def renew(paths: RepoPaths, commit: str) -> None:
    """Forget that a ref has left a revision behind: one names it again."""
    if not is_pinned(paths, commit):
        paths.standing(commit).unlink(missing_ok=True)


def records(paths: RepoPaths) -> Iterator[tuple[str, Path]]:
    """The commits of which something is known, and where."""
    folder = paths.standings
    if not folder.is_symlink() and folder.is_dir():
        yield from ((path.stem, path) for path in sorted(folder.iterdir()) if path.suffix == ".json")


def _write(paths: RepoPaths, commit: str, value: dict[str, object]) -> None:
    changes.write_file(paths.standing(commit), json.dumps(value), via=paths.private)
