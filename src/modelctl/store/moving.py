"""One model from one hub folder to another, by the way that the plan chose. The caller holds the locks of both."""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from modelctl.errors import ModelctlError, NoRoomError, NotWholeError
from modelctl.store import (
    changes,
    copying,
    crew,
    deletion,
    detaching,
    disposal,
    downloads,
    layout,
    links,
    shared,
    standing,
    trash,
    tree,
)
from modelctl.store.crew import Tell
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Blob, Entry, Links
from modelctl.store.tree import TreeFile

# How contents travel: by a rename of the whole model; as a second name that stays the only one (`move`), or beside the
# first (`link`); sharing the disk's blocks (`clone`), by a copy; or not at all, by a link to the model's folder.
Way = Literal["rename", "move", "link", "clone", "copy", "symlink"]


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
            return self.digest in here.blobs and here.blobs[self.digest].size == self.size
        return any(entry.name == self.name and entry.size == self.size for entry in here.snapshots.get(self.commit, ()))


def contents(there: Links, commits: Iterable[str]) -> list[Content]:
    """The contents of these revisions, each once. What the links lead to outside of the store is none of them."""
    blobs: dict[str, Content] = {}
    plain: list[Content] = []
    for commit in sorted(commits):
        listing = tree.read(there.paths, commit) or {}
        for entry in there.snapshots[commit]:
            blob = there.blobs.get(entry.digest)
            if blob is not None and blob.size is not None and blob.kind in {"file", "shared"}:
                blobs[blob.name] = Content(blob.payload or blob.path, blob.size, blob.name)
            elif entry.kind in {"file", "inside"}:
                digest = _listed(listing, entry)
                content = Content(entry.path.resolve(), entry.size, digest, commit, entry.name)
                if digest:
                    blobs.setdefault(digest, content)
                else:
                    plain.append(content)
    return [*blobs.values(), *plain]


def rename(there: Links, target: RepoPaths, users: shared.Users) -> bool:
    """Give a whole model its new place by one rename, after what it shares with others has become its own.

    `users` are those of the source's shared payloads. `False` where no rename leads there: then the model is where it
    was, and whole.
    """
    source = there.paths
    try:
        detaching.detach(there, users)
        source.folder.rename(target.folder)
        changes.sync_folder(target.hub)
        changes.sync_folder(source.hub)
        for path in there.unfinished:
            (target.blobs / path.name).unlink(missing_ok=True)
    except OSError as exc:
        if exc.errno == errno.EXDEV:
            return False
        raise changes.translated(exc, doing="move") from exc
    downloads.discard_locks(source)
    return True


def link_folder(there: Links, target: RepoPaths) -> None:
    """Let the target show the whole model where it is, by one link to its folder."""
    changes.make_folder(target.hub)
    try:
        target.folder.symlink_to(there.paths.folder.resolve())
        changes.sync_folder(target.hub)
    except OSError as exc:
        raise changes.translated(exc, doing="link") from exc


def prove(there: Links, commits: Iterable[str], tell: Tell) -> None:
    """Hash every content of some revisions that has a hash: `NotWholeError` names the first that is damaged."""

    def prove_one(content: Content, step: Tell) -> None:
        if not copying.matches(content.path, content.digest, step):
            raise NotWholeError(
                f"`{content.path}` is damaged: its content does not match its name",
                hint=f"`modelctl pull {there.paths.id}` fetches it again",
            )

    named = [content for content in contents(there, commits) if layout.is_digest(content.digest)]
    crew.work([partial(prove_one, content) for content in named], tell)


def transfer(there: Links, target: RepoPaths, commits: Sequence[str], refs: Refs, tell: Tell, *, way: Way) -> None:
    """Bring revisions over content by content, each proven, let the snapshots be seen, then the refs.

    What fails leaves no trace, but for a lack of room: then what has arrived waits for the next try.
    """
    is_new = not disposal.exists(target.folder)
    transfer = _Transfer(there, target, tell, way=way, brought=[])
    try:
        try:
            transfer.run(commits, refs)
        except OSError as exc:
            raise changes.translated(exc, doing="write") from exc
    except NoRoomError:
        raise
    except ModelctlError:
        _undo(target, transfer.brought, is_new=is_new)
        raise


@dataclass(slots=True)
class _Transfer:
    there: Links
    target: RepoPaths
    tell: Tell
    way: Way
    brought: list[Path]

    @property
    def incoming(self) -> Path:
        return self.target.private / "incoming"

    def run(self, commits: Sequence[str], refs: Refs) -> None:
        for folder in (self.incoming, self.target.blobs, self.target.snapshots):
            changes.make_folder(folder)
        wanted = contents(self.there, commits)
        crew.work([partial(self._bring, content) for content in wanted if content.digest], self.tell)
        for digest in {digest for commit in commits for digest in links.digests(self.there.snapshots[commit])}:
            self._relink(self.there.blobs.get(digest))
        changes.make_durable(self.brought)
        plain = {(content.commit, content.name): content for content in wanted if not content.digest}
        for commit in commits:
            self._bring_beside(commit)
            self._publish(commit, plain)
        self._bring_refs(refs)
        deletion.delete(self.incoming)
        changes.tidy(self.target)

    def _bring(self, content: Content, tell: Tell) -> None:
        place = self.target.blob(content.digest)
        if _is_proven(content, place):
            return
        self._put(content, self.incoming / content.digest, place, tell)
        self.brought.append(place)

    def _put(self, content: Content, spare: Path, place: Path, tell: Tell) -> None:
        """Bring a content under a spare name, then give it its own."""
        by_reference = self._link(content, spare) if self.way in {"link", "move"} else self._clone(content, spare)
        if not by_reference:
            copying.copy(content.path, spare, content.digest, tell)
        elif layout.is_digest(content.digest) and not copying.matches(spare, content.digest, tell):
            spare.unlink()
            raise NotWholeError(f"`{content.path}` is damaged: its content does not match its name")
        changes.make_folder(place.parent)
        spare.replace(place)

    def _link(self, content: Content, spare: Path) -> bool:
        if copying.link(content.path, spare):
            return True
        if self.way == "move":
            return False
        raise ModelctlError(
            f"`{content.path}` cannot be given a second name there",
            hint="`--copy` copies it: a hard link needs one file system, and often a file of your own",
        )

    def _clone(self, content: Content, spare: Path) -> bool:
        # What an interrupted copy has left is gone on with.
        return not spare.exists() and self.way == "clone" and copying.clone(content.path, spare)

    def _relink(self, blob: Blob | None) -> None:
        """A blob that is a link out of the store leads to the same place from its new one."""
        if blob is None or blob.kind != "outside" or disposal.exists(self.target.blob(blob.name)):
            return
        spare = self.incoming / blob.name
        spare.unlink(missing_ok=True)
        spare.symlink_to(detaching.absolute(blob.path))
        spare.replace(self.target.blob(blob.name))

    def _bring_beside(self, commit: str) -> None:
        """What huggingface_hub keeps of a commit beside its files: the listing, and what the Hub does not have."""
        source = self.there.paths
        if source.tree(commit).is_file() and not self.target.tree(commit).exists():
            self._put(
                Content(source.tree(commit), 0), self.incoming / f"{commit}.json", self.target.tree(commit), self.tell
            )
        if source.standing(commit).is_file() and not self.target.standing(commit).exists():
            spare = self.incoming / f"{commit}.standing"
            self._put(Content(source.standing(commit), 0), spare, self.target.standing(commit), self.tell)
        absent = source.folder / ".no_exist" / commit
        for path in absent.rglob("*"):
            if path.is_file() and not path.is_symlink():
                place = self.target.folder / ".no_exist" / commit / path.relative_to(absent)
                changes.make_folder(place.parent)
                place.touch()

    def _publish(self, commit: str, plain: dict[tuple[str, str], Content]) -> None:
        """Let a revision be seen: a new one at once, by one rename; one that is there already is completed."""
        snapshot = self.target.snapshot(commit)
        is_new = not disposal.exists(snapshot)
        folder = self.incoming / commit if is_new else snapshot
        if is_new:
            deletion.delete(folder)
            changes.make_folder(folder)
        listing = tree.read(self.there.paths, commit) or {}
        for entry in self.there.snapshots[commit]:
            place = folder / entry.name
            if is_new or not self._has(entry, place, _digest(entry, listing)):
                self._show(entry, place, plain.get((commit, entry.name)), _digest(entry, listing))
        for each in {folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())}:
            changes.sync_folder(each)
        if is_new:
            folder.rename(snapshot)
            changes.sync_folder(snapshot.parent)

    def _has(self, entry: Entry, place: Path, digest: str) -> bool:
        """Whether the target's revision shows the file already. Other content under its name is the user's to solve."""
        size = self._size(entry)
        if size is None:
            return True
        if not place.is_file():
            return False
        if digest and place.is_symlink() and place.resolve() == self.target.blob(digest).resolve():
            return True
        if copying.are_equal(place, entry.path):
            return True
        raise ModelctlError(
            f"`{place}` differs from `{entry.path}`, and both should be the same file",
            hint=f"`modelctl rm {self.target.id}`, then migrate again, if the one in the project is the wrong one",
        )

    def _show(self, entry: Entry, place: Path, content: Content | None, digest: str) -> None:
        if self._size(entry) is None:
            return
        changes.make_folder(place.parent)
        spare = self.incoming / "entry"
        if content is not None:
            self._put(content, spare, place, self.tell)
            return
        spare.unlink(missing_ok=True)
        spare.symlink_to(layout.link_target(entry.name, digest) if digest else detaching.absolute(entry.path))
        spare.replace(place)

    def _size(self, entry: Entry) -> int | None:
        """The size of what an entry shows, `None` where that is nothing."""
        if entry.kind == "blob":
            blob = self.there.blobs.get(entry.digest)
            return blob.size if blob is not None else None
        return entry.size if entry.kind != "odd" and entry.path.is_file() else None

    def _bring_refs(self, refs: Refs) -> None:
        """Name the revisions; a name that the target gives to another revision of its own stays, or is written over."""
        here = links.read(self.target)
        for name in refs.names:
            commit, old = self.there.refs[name], here.refs.get(name)
            is_free = old not in here.snapshots or refs.overwrite
            if not (is_free and commit in here.snapshots and layout.is_ref_path(name)) or old == commit:
                continue
            standing.leave_behind(self.target, old, ref=name, successor=commit)
            changes.write_file(self.target.ref(name), commit, via=self.incoming)
            standing.renew(self.target, commit)


def _digest(entry: Entry, listing: dict[str, TreeFile]) -> str:
    """The blob that an entry names, or should name: what lies in a snapshot itself becomes a blob, if it is known."""
    return entry.digest or (_listed(listing, entry) if entry.kind in {"file", "inside"} else "")


def _listed(listing: dict[str, TreeFile], entry: Entry) -> str:
    file = listing.get(entry.name)
    return file.digest if file is not None and file.size == entry.size else ""


def _is_proven(content: Content, place: Path) -> bool:
    """Whether the target's blob of that name holds the very content. What is dropped afterwards depends on it."""
    try:
        if place.samefile(content.path):
            return True
        if place.stat().st_size != content.size:
            return False
    except OSError:
        return False
    if layout.is_digest(content.digest):
        return copying.matches(place, content.digest)
    return copying.are_equal(place, content.path)


def _undo(target: RepoPaths, brought: Sequence[Path], *, is_new: bool) -> None:
    """Take back what came before the failure; the source has it all."""
    if is_new and target.folder.is_dir():
        disposal.finish(target.hub, disposal.set_model_aside(target), lambda _: None)
        trash.empty(target.hub)
        return
    for path in brought:
        path.unlink(missing_ok=True)
    deletion.delete(target.private / "incoming")
    changes.tidy(target)
