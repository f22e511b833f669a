"""What of a model can be proven, and what is wrong with it at a glance: no content is read here."""

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelctl.errors import BusyError, ModelctlError, NotFoundError, NotWholeError
from modelctl.store import (
    changes,
    checkpoint,
    deletion,
    downloads,
    layout,
    links,
    lock,
    proof,
    pulls,
    scan,
    tree,
    wholeness,
)
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.findings import Content, Damage, Inspected, Kind, Unchecked, Unreadable, Use
from modelctl.store.header import Damage as Malformed
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Blob, Entry, Links
from modelctl.store.model import Location, Model, Revision
from modelctl.store.proof import Stamp
from modelctl.store.tree import TreeFile

# Nothing is at the end of a link.
_NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_NO_LIST = "no list of files tells what it should hold"
_NOT_LISTED = "the list of its commit does not name it"
_NO_HASH = "its name is no hash, and no list of files tells what it should hold"


def inspect(paths: RepoPaths, location: Location, revisions: Sequence[str] = ()) -> Inspected:
    """Find out what of a model, or of some of its revisions, can be proven.

    A model that cannot be looked at has an `error`. `NotFoundError` for a revision that is not here.
    """
    model = scan.scan_model(paths, location)
    if model is None:
        return Inspected(paths, location, {}, tuple(revisions), error=gone(paths))
    chosen = _chosen(model, revisions)
    commits = {revision.commit: revision.refs for revision in chosen}
    try:
        _refuse_busy(paths)
    except BusyError as error:
        return Inspected(paths, location, commits, tuple(revisions), error=error)
    inspector = _Inspector(paths, model, tuple(revisions), chosen, links.read(paths))
    return inspector.inspected()


def gone(paths: RepoPaths) -> NotFoundError:
    """The error for a model that somebody has removed meanwhile."""
    return NotFoundError(f"`{paths.id}` is not here any more", hint="`modelctl list` shows what is here")


def _chosen(model: Model, revisions: Sequence[str]) -> tuple[Revision, ...]:
    if not revisions:
        return model.revisions
    found = {revision.commit: revision for revision in (scan.revision_of(model, name) for name in revisions)}
    return tuple(found.values())


def _refuse_busy(paths: RepoPaths) -> None:
    """`BusyError` while somebody brings, moves or removes the model: what is missing then is on its way."""
    owner = lock.holder(paths)
    if owner is not None and owner.pid != os.getpid():
        raise BusyError(
            f"`{paths.id}` is in use by {owner}", hint="wait for it to end, then run the same command again"
        )
    downloads.refuse(paths)


@dataclass(slots=True)
class _Inspector:
    paths: RepoPaths
    model: Model
    # As they were asked for; none is all of them, and all blobs.
    asked: tuple[str, ...]
    revisions: Sequence[Revision]
    there: Links
    contents: dict[tuple[Path, str], Content] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    wrong: dict[Path, Damage] = field(default_factory=dict)

    def inspected(self) -> Inspected:
        # A link that leads nowhere, or to itself, is no folder that somebody could be let into.
        for folder in dict.fromkeys(self.there.unreadable) if self.paths.folder.is_dir() else ():
            self._forbidden(folder, OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder)), ())
        for revision in self.revisions:
            self._revision(revision)
        if not self.asked:
            for blob in self.there.blobs.values():
                if layout.is_digest(blob.name):
                    self._blob(blob, blob.name, None, ())
        self.damages += self.wrong.values()
        return Inspected(
            self.paths,
            self.model.location,
            {revision.commit: revision.refs for revision in self.revisions},
            self.asked,
            tuple(self.contents.values()),
            tuple(self.damages),
            tuple(self.unchecked),
            tuple(self.unreadable),
            self._error(),
        )

    def _error(self) -> ModelctlError | None:
        """Why there is nothing to look at: no revision, for whatever reason."""
        if self.revisions or self.unreadable:
            return None
        why = next((problem for problem in self.model.problems), None)
        return NotWholeError(
            f"`{self.model.id}` is {self.model.state}: {why.message if why else 'it has no revision'}",
            hint=f"`{why.fix}`" if why and why.fix else None,
        )

    def _revision(self, revision: Revision) -> None:
        commit = revision.commit
        listing = tree.read(self.paths, commit)
        if listing is None and tree.is_there(self.paths, commit):
            self.unchecked.append(Unchecked(self.paths.tree(commit), (), "it cannot be read as a list of files"))
        read = checkpoint.read(revision, listing=listing)
        for entry in self.there.snapshots.get(commit, ()):
            self._entry(entry, Use(commit, entry.name), listing, read)
        self._missing(revision, listing, read)

    def _entry(self, entry: Entry, use: Use, listing: Mapping[str, TreeFile] | None, read: Checkpoint) -> None:
        listed = None if listing is None else listing.get(entry.name)
        size = None if listed is None else listed.size
        digest = "" if listed is None else listed.digest
        if entry.kind == "odd":
            self._wrong(Damage("odd", entry.path, (use,), digest or None, expected_size=size))
        elif entry.kind == "outside":
            self._wrong(Damage("dangling", entry.path, (use,), digest or None, expected_size=size))
        elif entry.kind == "blob":
            self._linked(entry, use, listed)
        elif digest:
            path = entry.path if entry.kind == "file" else Path(os.path.realpath(entry.path))
            self._content(path, digest, size, (use,))
        else:
            self._unknown(entry, use, _NO_LIST if listing is None else _NOT_LISTED, read)

    def _linked(self, entry: Entry, use: Use, listed: TreeFile | None) -> None:
        """An entry that names a blob: by its hash, or by whatever else another tool has called it."""
        blob = self.there.blobs.get(entry.digest)
        size = None if listed is None else listed.size
        has_hash = layout.is_digest(entry.digest)
        if has_hash and listed is not None and entry.digest != listed.digest:
            self.damages.append(Damage("swapped", entry.path, (use,), listed.digest, entry.digest, size))
            size = None
        digest = entry.digest if has_hash else "" if listed is None else listed.digest
        if blob is not None and blob.kind not in {"odd", "outside"} and not digest:
            self.unchecked.append(Unchecked(blob.path, (use,), _NO_HASH))
        elif blob is not None:
            self._blob(blob, digest, size, (use,))
        elif links.leads_into(entry.path, self.paths.hub):
            # The folder of the blobs is a link, or cannot be read.
            self._content(Path(os.path.realpath(entry.path)), digest, size, (use,))
        else:
            self._wrong(Damage("dangling", self.paths.blob(entry.digest), (use,), digest or None, expected_size=size))

    def _blob(self, blob: Blob, digest: str, size: int | None, uses: tuple[Use, ...]) -> None:
        if blob.kind == "odd":
            kind: Kind = "folder" if deletion.is_folder(blob.path) else "odd"
            self._wrong(Damage(kind, blob.path, uses, digest or None, expected_size=size))
        elif blob.kind == "outside":
            self._wrong(Damage("dangling", blob.path, uses, digest or None, expected_size=size))
        else:
            path = Path(os.path.realpath(blob.path)) if blob.kind == "beside" else blob.path
            self._content(path, digest, size, uses, payload=blob.payload)

    def _content(
        self, path: Path, digest: str, size: int | None, uses: tuple[Use, ...], *, payload: Path | None = None
    ) -> None:
        try:
            status = path.stat()
        except OSError as exc:
            if exc.errno in _NOTHING:
                self._wrong(Damage("dangling", path, uses, digest, expected_size=size, payload=payload))
            else:
                self._forbidden(path, exc, uses)
            return
        if not stat.S_ISREG(status.st_mode):
            self._wrong(Damage("odd", path, uses, digest, expected_size=size))
            return
        known = self.contents.get((path, digest))
        if known is not None:
            uses = tuple(dict.fromkeys((*known.uses, *uses)))
            size = known.expected if size is None else size
        self.contents[path, digest] = Content(path, digest, proof.stamp(status), uses, size, payload)

    def _wrong(self, damage: Damage) -> None:
        """Take note of what is wrong with a blob, once for all that shows it. What nothing shows, nobody misses."""
        before = self.wrong.get(damage.path)
        uses = damage.uses if before is None else (*before.uses, *damage.uses)
        if uses:
            self.wrong[damage.path] = replace(damage, uses=tuple(dict.fromkeys(uses)))

    def _unknown(self, entry: Entry, use: Use, why: str, read: Checkpoint) -> None:
        """A file of which nothing tells the hash; what its own header tells is asked all the same."""
        header = read.headers.get(entry.name)
        if isinstance(header, Malformed):
            found = _stamp(entry.path)
            self.damages.append(Damage("header", entry.path, (use,), found_size=entry.size, stamp=found))
        else:
            self.unchecked.append(Unchecked(entry.path, (use,), why))

    def _missing(self, revision: Revision, listing: Mapping[str, TreeFile] | None, read: Checkpoint) -> None:
        """The files that should be there and have no entry, by the rule, or by the pull that was interrupted."""
        if any(folder.is_relative_to(revision.path) for folder in self.there.unreadable):
            return
        pull = pulls.record(self.paths)
        wanted = pull.files if pull is not None and pull.commit == revision.commit and not pull.mends else None
        verdict = wholeness.judge(read, listing=listing, wanted=wanted, unfinished=False, pull=None)
        for name in verdict.missing:
            listed = None if listing is None else listing.get(name)
            use = Use(revision.commit, name)
            place = self.paths.entry(revision.commit, name) if layout.is_file_name(name) else revision.path
            kind: Kind = "missing"
            if place != revision.path and os.path.lexists(place):
                kind = "folder" if deletion.is_folder(place) else "odd"
            digest, size = (None, None) if listed is None else (listed.digest, listed.size)
            self.damages.append(Damage(kind, place, (use,), digest, expected_size=size))

    def _forbidden(self, path: Path, exc: OSError, uses: tuple[Use, ...]) -> None:
        exc.filename = exc.filename or str(path)
        self.unreadable.append(Unreadable(path, uses, changes.translated(exc, doing="read")))


def _stamp(path: Path) -> Stamp | None:
    try:
        return proof.stamp(path.stat())
    except OSError:
        return None
