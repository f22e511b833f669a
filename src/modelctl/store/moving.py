"""What of a model has to come to another hub folder, and the ways that take the whole model at once.

The caller holds the locks of both sides.
"""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from modelctl.errors import NotWholeError
from modelctl.store import changes, crew, detaching, downloads, layout, obstacles, proof, shared, tree
from modelctl.store.crew import Tell
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Entry, Links
from modelctl.store.tree import TreeFile

# How contents travel: by a rename of the whole model; as a second name that stays the only one (`move`), or beside the
# first (`link`); sharing the disk's blocks (`clone`), by a copy; or not at all, by a link to the model's folder.
Way = Literal["rename", "move", "link", "clone", "copy", "symlink"]
# Entries with content of the hub's own, which goes with it: it has to come along.
_OWN = {"file", "inside", "beside"}


@dataclass(frozen=True, slots=True)
class Refs:
    """The names of revisions that come along; `overwrite`: also where the target names another revision so."""

    names: tuple[str, ...]
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """One content that has to come over, however many entries show it, and the file to read it from.

    Without a `digest` it belongs to the one entry `name` of `commit`, and nothing says what it should be.
    """

    path: Path
    size: int
    digest: str = ""
    commit: str = ""
    name: str = ""

    def is_in(self, here: Links) -> bool:
        """Whether a model has it already, as far as its size tells."""
        if self.digest:
            blob = here.blobs.get(self.digest)
            return blob is not None and blob.size == self.size and blob.kind in {"file", "shared"}
        return any(entry.name == self.name and entry.size == self.size for entry in here.snapshots.get(self.commit, ()))


def contents(there: Links, commits: Iterable[str]) -> list[Content]:
    """The contents of these revisions, each once. What the links lead to outside of the store is none of them."""
    blobs: dict[str, Content] = {}
    plain: list[Content] = []
    for commit in sorted(commits):
        listing = tree.read(there.paths, commit) or {}
        for entry in there.snapshots[commit]:
            blob = there.blobs.get(entry.digest)
            if blob is not None and blob.size is not None and blob.kind in {"file", "shared", "beside"}:
                path = Path(os.path.realpath(blob.path)) if blob.kind == "beside" else blob.payload or blob.path
                blobs[blob.name] = Content(path, blob.size, blob.name)
            elif entry.kind in _OWN and entry.path.is_file():
                digest = _listed(listing, entry)
                content = Content(Path(os.path.realpath(entry.path)), entry.size, digest, commit, entry.name)
                if digest:
                    blobs.setdefault(digest, content)
                else:
                    plain.append(content)
    return [*blobs.values(), *plain]


def rename(there: Links, target: RepoPaths, users: shared.Users) -> bool:
    """Give a whole model its new place by one rename, after what it shares with others has become its own.

    `users` are those of the source's shared payloads. `False` where no rename leads there: then the model is where it
    was, and whole. The caller makes the names in both hub folders durable: until then it is in one of them.
    """
    source = there.paths
    try:
        detaching.detach(there, users)
        source.folder.rename(target.folder)
        for path in there.unfinished:
            (target.blobs / path.name).unlink(missing_ok=True)
    except OSError as exc:
        if exc.errno == errno.EXDEV:
            return False
        raise changes.translated(exc, doing="move") from exc
    downloads.discard_locks(source)
    return True


def link_folder(there: Links, target: RepoPaths) -> None:
    """Let the target show the whole model where it is, by one link to its folder, which may be there already."""
    changes.make_folder(target.hub)
    try:
        if not target.folder.is_symlink():
            target.folder.symlink_to(os.path.realpath(there.paths.folder))
        changes.sync_folder(target.hub)
    except OSError as exc:
        if exc.errno in obstacles.NO_LINKS:
            raise obstacles.without_links(target.hub) from exc
        raise changes.translated(exc, doing="link") from exc


def prove(there: Links, commits: Iterable[str], tell: Tell) -> None:
    """Hash every content of some revisions that has a hash: `NotWholeError` names the first that is damaged."""

    def prove_one(content: Content, step: Tell) -> None:
        if not proof.matches(content.path, content.digest, step):
            raise NotWholeError(f"`{content.path}` is damaged: its content does not match its name")

    named = [content for content in contents(there, commits) if layout.is_digest(content.digest)]
    crew.work([partial(prove_one, content) for content in named], tell)


def digest_of(entry: Entry, listing: dict[str, TreeFile]) -> str:
    """The blob that an entry names, or should name: what lies elsewhere in the hub becomes a blob, if it is known."""
    return entry.digest or (_listed(listing, entry) if entry.kind in _OWN else "")


def _listed(listing: dict[str, TreeFile], entry: Entry) -> str:
    file = listing.get(entry.name)
    return file.digest if file is not None and file.size == entry.size else ""
