"""One revision as the target shows it: a new one appears by one rename, one that is there already is completed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from modelctl.errors import ModelctlError
from modelctl.store import changes, copying, deletion, detaching, disposal, layout, links, moving, tree
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Entry, Links
from modelctl.store.moving import Content
from modelctl.store.tree import TreeFile


class Put(Protocol):
    """Brings a content to its place by way of a spare name."""

    def __call__(self, content: Content, spare: Path, place: Path) -> None:
        """Bring it."""


def publish(there: Links, target: RepoPaths, commit: str, contents: Mapping[str, Content], put: Put) -> None:
    """Let a revision be seen. Its blobs are there; `contents` are those of entries that are no links to blobs."""
    _Revision(there, target, commit, contents, put, tree.read(there.paths, commit) or {}).publish()


@dataclass(slots=True)
class _Revision:
    there: Links
    target: RepoPaths
    commit: str
    contents: Mapping[str, Content]
    put: Put
    listing: dict[str, TreeFile]
    brought: list[Path] = field(default_factory=list)

    def publish(self) -> None:
        snapshot = self.target.snapshot(self.commit)
        is_new = not disposal.exists(snapshot)
        folder = self.target.incoming / "snapshot" if is_new else snapshot
        if is_new:
            deletion.delete(folder)
            changes.make_folder(folder)
        for entry in self.there.snapshots[self.commit]:
            place = folder / entry.name
            if is_new or not self._has(entry, place):
                self._show(entry, place)
        changes.make_durable(self.brought)
        for each in {folder, *(path for path in folder.rglob("*") if deletion.is_folder(path))}:
            changes.sync_folder(each)
        if is_new:
            folder.rename(snapshot)
            changes.sync_folder(snapshot.parent)

    def _has(self, entry: Entry, place: Path) -> bool:
        """Whether the target's revision shows the file already. Other content under its name is the user's to solve."""
        if not self._is_content(entry):
            return True
        digest = moving.digest_of(entry, self.listing)
        if not entry.path.exists() and disposal.exists(place):
            return True
        # What is the source's own goes with it.
        if not place.is_file() or links.leads_into(place, self.there.paths.hub):
            return False
        if digest and place.is_symlink() and os.path.realpath(place) == os.path.realpath(self.target.blob(digest)):
            return True
        if copying.are_equal(place, entry.path):
            return True
        raise ModelctlError(
            f"`{place}` differs from `{entry.path}`, and both should be the same file",
            hint="remove the one that is wrong, then run the same command again",
        )

    def _show(self, entry: Entry, place: Path) -> None:
        if not self._is_content(entry):
            return
        changes.make_folder(place.parent)
        spare = self.target.incoming / "entry"
        content = self.contents.get(entry.name)
        if content is not None:
            self.put(content, spare, place)
            self.brought.append(place)
            return
        digest = moving.digest_of(entry, self.listing)
        spare.unlink(missing_ok=True)
        spare.symlink_to(layout.link_target(entry.name, digest) if digest else detaching.absolute(entry.path))
        spare.replace(place)

    def _is_content(self, entry: Entry) -> bool:
        """Whether an entry shows anything."""
        match entry.kind:
            case "blob":
                blob = self.there.blobs.get(entry.digest)
                return blob is not None and (blob.size is not None or self._leads_out(entry))
            case "outside":
                return entry.path.exists() or self._leads_out(entry)
            case "odd":
                return False
            case _:
                return entry.path.is_file()

    def _leads_out(self, entry: Entry) -> bool:
        """Whether a link that leads nowhere leads out of the store: to a disk, perhaps, that is not mounted now."""
        return entry.path.is_symlink() and not links.leads_into(entry.path, self.there.paths.hub)
