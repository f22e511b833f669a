"""A model that comes to another hub folder content by content. The caller holds the locks of both.

First every content, each proven and then all durable; then the revisions, each shown by one rename; then the refs.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from modelctl.errors import ModelctlError, NoRoomError, NotWholeError
from modelctl.store import (
    changes,
    copying,
    crew,
    deletion,
    detaching,
    disposal,
    layout,
    links,
    moving,
    obstacles,
    revision,
    standing,
    trash,
)
from modelctl.store.crew import Tell
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Blob, Links
from modelctl.store.moving import Content, Refs, Way


def transfer(there: Links, target: RepoPaths, commits: Sequence[str], refs: Refs, tell: Tell, *, way: Way) -> None:
    """Bring revisions over content by content.

    What fails before a revision is shown leaves no trace, but for a lack of room: then what has arrived waits for the
    next try.
    """
    is_new = not disposal.exists(target.folder)
    arrival = _Arrival(there, target, tell, links.read(target), way=way)
    written = [target.entry(commit, entry.name) for commit in commits for entry in there.snapshots[commit]]
    names = [target.ref(name) for name in refs.names if layout.is_ref_path(name)]
    changes.refuse_links(target, (*written, *names))
    obstacles.refuse_names(target, names)
    try:
        try:
            arrival.run(commits, refs)
        except OSError as exc:
            raise changes.translated(exc, doing="write") from exc
    except NoRoomError:
        raise
    except ModelctlError:
        arrival.take_back(is_new=is_new)
        raise


@dataclass(slots=True)
class _Arrival:
    there: Links
    target: RepoPaths
    tell: Tell
    # The target as it was before.
    here: Links
    way: Way
    # Blobs that have got their names, and whether some revision may show them.
    brought: list[Path] = field(default_factory=list)
    is_shown: bool = False
    # Whether one content is so large that the others are soon done beside it.
    is_alone: bool = True

    def run(self, commits: Sequence[str], refs: Refs) -> None:
        for folder in (self.target.incoming / "blobs", self.target.blobs, self.target.snapshots):
            changes.make_folder(folder)
        obstacles.refuse_without_links(self.target.incoming)
        obstacles.refuse_same(self.target.incoming, self.target, self.there.paths)
        wanted = moving.contents(self.there, commits)
        # The largest first, so that none of them is begun when the others are done.
        blobs = sorted((each for each in wanted if each.digest), key=lambda each: each.size, reverse=True)
        self.is_alone = len(blobs) < 2 or blobs[1].size < blobs[0].size // crew.SIZE
        crew.work([partial(self._bring, content) for content in blobs], self.tell)
        for digest in {digest for commit in commits for digest in links.digests(self.there.snapshots[commit])}:
            self._relink(self.there.blobs.get(digest))
        for commit in commits:
            self._bring_beside(commit)
        changes.make_durable(self.brought)
        plain = {(content.commit, content.name): content for content in wanted if not content.digest}
        self.is_shown = True
        for commit in commits:
            contents = {name: content for (its, name), content in plain.items() if its == commit}
            revision.publish(self.there, self.target, commit, contents, self._put)
        self._bring_refs(commits, refs)
        deletion.delete(self.target.incoming)
        changes.tidy(self.target)
        for folder in (self.target.folder, self.target.hub):
            changes.sync_folder(folder)

    def take_back(self, *, is_new: bool) -> None:
        """Undo what came before the failure; the source has it all. What a revision of the target shows stays."""
        if is_new and self.target.folder.is_dir() and self._is_ours():
            disposal.finish(self.target.hub, disposal.set_model_aside(self.target), lambda _: None)
            trash.empty(self.target.hub)
            return
        used = disposal.used(links.read(self.target))
        for path in () if self.is_shown else self.brought:
            if path.name not in used:
                path.unlink(missing_ok=True)
        deletion.delete(self.target.incoming)
        changes.tidy(self.target)

    def _is_ours(self) -> bool:
        """Whether nobody else has begun to bring the model there meanwhile."""
        now = links.read(self.target)
        known = {path.name for path in self.brought} | set(self.there.blobs)
        is_known = now.blobs.keys() <= known and not now.unfinished
        return is_known and (self.is_shown or not (now.snapshots or now.refs))

    def _bring(self, content: Content, tell: Tell) -> None:
        place = self.target.blob(content.digest)
        if self._is_proven(content, place, lambda _: tell(0)):
            return
        self._put(content, self.target.incoming / "blobs" / content.digest, place, tell)
        self.brought.append(place)

    def _is_proven(self, content: Content, place: Path, tell: Tell) -> bool:
        """Whether the target's blob of that name holds the very content. What is dropped afterwards depends on it."""
        try:
            if links.leads_into(place, self.there.paths.hub):
                return False
            if place.samefile(content.path):
                return True
            if place.stat().st_size != content.size:
                return False
        except OSError:
            return False
        if layout.is_digest(content.digest):
            return copying.matches(place, content.digest, tell)
        return copying.are_equal(place, content.path)

    def _put(self, content: Content, spare: Path, place: Path, tell: Tell | None = None) -> None:
        """Bring a content under a spare name, then give it its own."""
        tell = tell or self.tell
        by_reference = self._link(content, spare) if self.way in {"link", "move"} else self._clone(content, spare)
        if not by_reference:
            copying.copy(content.path, spare, content.digest, tell, is_alone=self.is_alone)
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
        spare = self.target.incoming / "blobs" / blob.name
        spare.unlink(missing_ok=True)
        spare.symlink_to(detaching.absolute(blob.path))
        spare.replace(self.target.blob(blob.name))

    def _bring_beside(self, commit: str) -> None:
        """What is kept of a commit beside its files: the listing, how it stands, and what the Hub does not have."""
        source = self.there.paths
        both = (
            (source.tree(commit), self.target.tree(commit)),
            (source.standing(commit), self.target.standing(commit)),
        )
        for path, place in both:
            if path.is_file() and not place.exists():
                self._put(Content(path, 0), self.target.incoming / "beside", place)
                self.brought.append(place)
        absent = source.folder / ".no_exist" / commit
        for path in absent.rglob("*"):
            if path.is_file() and not path.is_symlink():
                place = self.target.folder / ".no_exist" / commit / path.relative_to(absent)
                changes.make_folder(place.parent)
                with contextlib.suppress(FileExistsError):
                    place.touch(exist_ok=False)

    def _bring_refs(self, commits: Sequence[str], refs: Refs) -> None:
        """Name the revisions; a name that the target gives to another revision of its own stays, or is written over."""
        for name in refs.names:
            commit, old = self.there.refs.get(name, ""), self.here.refs.get(name)
            is_free = old not in self.here.snapshots or refs.overwrite
            if is_free and commit in commits and commit != old and layout.is_ref_path(name):
                standing.leave_behind(self.target, old, ref=name, successor=commit)
                changes.write_file(self.target.ref(name), commit, via=self.target.incoming)
                standing.renew(self.target, commit)
