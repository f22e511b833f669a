"""What a store offers, file by file, as the Hub would list it."""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelctl.errors import NotFoundError
from modelctl.ref import is_commit, is_revision
from modelctl.store import layout, measuring, reading, tree
from modelctl.store.layout import RepoPaths

_KEPT = 256
_MAX_REF = 64


@dataclass(frozen=True, slots=True)
class Offer:
    """One file of a commit: what the Hub says of it, and the regular file that holds its content.

    `blob_id` is git's name of what lies in git: the file itself, or the pointer of an LFS file, whose content
    `sha256` names.
    """

    name: str
    size: int
    blob_id: str
    sha256: str | None
    path: Path

    @property
    def etag(self) -> str:
        """What a client names the blob by: it says what the content hashes to."""
        return self.sha256 or self.blob_id


class Catalogue:
    """The repositories of some hub folders; where two hold the same one, the first counts.

    The disk is asked at each request: what is pulled or removed meanwhile is offered or gone. Of a commit with a
    `trees/<commit>.json` those files are offered whose content is there, so that a selective pull is offered as far
    as it goes; of one without, the entries of its snapshot.
    """

    def __init__(self, hubs: Sequence[Path]) -> None:
        self._hubs = [Path(os.path.realpath(hub)) for hub in hubs]
        self._known: dict[tuple[Path, str], RepoPaths] = {}
        self._trees: dict[Path, tuple[tuple[int, int], Mapping[str, tree.TreeFile] | None]] = {}
        self._hashes: dict[Path, tuple[tuple[int, int], tree.TreeFile]] = {}

    def ids(self) -> list[str]:
        """The ids of all repositories that offer something, sorted."""
        found = {
            model_id
            for hub in self._hubs
            for entry in _scan(hub)
            if (model_id := layout.model_id(entry.name)) and self.repository(model_id)
        }
        return sorted(found)

    def repository(self, model_id: str) -> RepoPaths | None:
        """Where a repository lies; `None` if no hub folder has it, or has nothing of it."""
        for hub in self._hubs:
            paths = self._paths(hub, model_id)
            try:
                folder = paths.folder
            except NotFoundError:
                return None
            if folder.is_dir() and any(self.commits(paths)):
                return paths
        return None

    def _paths(self, hub: Path, model_id: str) -> RepoPaths:
        """The paths of a repository, put together once: each of thousands of requests for its files needs them."""
        paths = self._known.get((hub, model_id))
        if paths is None:
            _make_room(self._known)
            paths = self._known[hub, model_id] = RepoPaths(hub, model_id)
        return paths

    def commits(self, paths: RepoPaths) -> Iterator[str]:
        """The commits that have a snapshot."""
        return (entry.name for entry in _scan(paths.snapshots) if is_commit(entry.name))

    def refs(self, paths: RepoPaths) -> dict[str, str]:
        """Branches and tags by name, with the commits that they name; only those of which something is there."""
        found = {}
        for folder, _, names in os.walk(paths.refs):
            for name in names:
                ref = (Path(folder) / name).relative_to(paths.refs).as_posix()
                if commit := self.commit(paths, ref):
                    found[ref] = commit
        return dict(sorted(found.items()))

    def commit(self, paths: RepoPaths, revision: str) -> str | None:
        """The full commit that a branch, a tag or a commit id names, if something of it is there."""
        if not is_revision(revision):
            return None
        commit: str | None = revision
        if not is_commit(revision):
            commit = _read_ref(paths, revision)
        return commit if commit and paths.snapshot(commit).is_dir() else None

    def modified(self, paths: RepoPaths, commit: str) -> datetime:
        """When the snapshot of a commit was last changed."""
        return datetime.fromtimestamp(int(paths.snapshot(commit).stat().st_mtime), UTC)

    def is_listed(self, paths: RepoPaths, commit: str) -> bool:
        """Whether the hashes of a commit's files are known without reading them."""
        return self._tree(paths, commit) is not None

    def files(self, paths: RepoPaths, commit: str) -> dict[str, Offer]:
        """All files of a commit that are there, by name, sorted."""
        listed = self._tree(paths, commit)
        if listed is None:
            found = (self._from_snapshot(paths, commit, name) for name in sorted(_entries(paths.snapshot(commit))))
        else:
            is_own = _has_own_blobs(paths)
            found = (_listed(paths, commit, name, listed[name], is_own=is_own) for name in sorted(listed))
        return {offer.name: offer for offer in found if offer}

    def file(self, paths: RepoPaths, commit: str, name: str) -> Offer | None:
        """One file of a commit, if its content is there, whole, and inside the store."""
        listed = self._tree(paths, commit)
        if listed is None:
            return self._from_snapshot(paths, commit, name)
        if name not in listed:
            return None
        return _listed(paths, commit, name, listed[name], is_own=_has_own_blobs(paths))

    def _from_snapshot(self, paths: RepoPaths, commit: str, name: str) -> Offer | None:
        if not layout.is_file_name(name):
            return None
        entry = paths.entry(commit, name)
        content = _content(paths.hub, entry)
        if content is None:
            return None
        path, status = content
        blob = entry.readlink().name if entry.is_symlink() else ""
        if layout.is_sha256(blob):
            known = tree.TreeFile(status.st_size, measuring.pointer_id(blob, size=status.st_size), blob)
        elif layout.is_git_sha1(blob):
            known = tree.TreeFile(status.st_size, blob)
        else:
            known = self._hashed(path, name, status)
        return Offer(name, known.size, known.blob_id, known.sha256, path)

    def _tree(self, paths: RepoPaths, commit: str) -> Mapping[str, tree.TreeFile] | None:
        """A commit's cached list, parsed once for as long as the file stays what it is."""
        path = paths.tree(commit)
        try:
            status = path.stat()
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        key = status.st_mtime_ns, status.st_size
        known = self._trees.get(path)
        if known is None or known[0] != key:
            _make_room(self._trees)
            known = self._trees[path] = key, tree.read(paths, commit)
        return known[1]

    def _hashed(self, path: Path, name: str, status: os.stat_result) -> tree.TreeFile:
        """The hashes of a file whose name does not tell them, as in a store without links; computed once."""
        key = status.st_mtime_ns, status.st_size
        known = self._hashes.get(path)
        if known is None or known[0] != key:
            _make_room(self._hashes)
            known = self._hashes[path] = key, measuring.measured(path, name)
        return known[1]


def _make_room(cache: dict[Any, Any]) -> None:
    if len(cache) >= _KEPT:
        cache.clear()


def _has_own_blobs(paths: RepoPaths) -> bool:
    """Whether the blobs of a repository lie in the hub folder itself, not where a link leads."""
    return not paths.folder.is_symlink() and not paths.blobs.is_symlink()


def _listed(paths: RepoPaths, commit: str, name: str, known: tree.TreeFile, *, is_own: bool) -> Offer | None:
    """A file of a cached list. A plain blob, as nearly all are, costs one look; what is a link is followed."""
    blob = paths.blob(known.digest)
    if is_own:
        with contextlib.suppress(OSError):
            status = blob.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size == known.size:
                return Offer(name, known.size, known.blob_id, known.sha256, blob)
    for candidate in (blob, paths.entry(commit, name)):
        content = _content(paths.hub, candidate)
        if content and content[1].st_size == known.size:
            return Offer(name, known.size, known.blob_id, known.sha256, content[0])
    return None


def _content(hub: Path, path: Path) -> tuple[Path, os.stat_result] | None:
    """The regular file that a path leads to, links followed, if it lies inside the hub folder."""
    try:
        target = Path(os.path.realpath(path, strict=True))
        status = target.stat()
    except OSError:
        return None
    return (target, status) if target.is_relative_to(hub) and stat.S_ISREG(status.st_mode) else None


def _entries(snapshot: Path) -> list[str]:
    return [
        (Path(folder) / name).relative_to(snapshot).as_posix()
        for folder, _, names in os.walk(snapshot)
        for name in names
    ]


def _read_ref(paths: RepoPaths, name: str) -> str | None:
    text = (reading.head(paths.ref(name), _MAX_REF) or b"").decode("ascii", "replace").strip()
    return text if is_commit(text) else None


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []
