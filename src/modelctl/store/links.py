"""Which blob each snapshot entry names, and which shared payload each blob: what removal and migration reason about.

`store.contents` follows links to the content; here the links themselves are read, and nothing is followed.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelctl.ref import is_commit
from modelctl.store import reading, shared
from modelctl.store.layout import RepoPaths

# huggingface_hub's unfinished downloads, and the link it is about to publish.
_UNFINISHED = (".incomplete", ".shared")
_MAX_REF = 4096
_SHORTEST_COMMIT = 7


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a snapshot.

    `blob`: a link to the repository's own blob `digest`. `file`: the content itself, as without symbolic links.
    `inside`: a link to anything else of the repository folder. `beside`: one into another folder of the same hub.
    `outside`: a link that leads anywhere else, or nowhere. `odd`: neither file nor link. `target` is a link's text.
    """

    name: str
    path: Path
    kind: Literal["blob", "file", "inside", "beside", "outside", "odd"]
    size: int = 0
    digest: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """One name in the blobs folder: a `file`, a link to a `shared` payload, or something `odd`.

    Other links lead to content that is `beside` it, in another folder of the same hub, or `outside`. `size` is that of
    the content, `None` where there is none.
    """

    name: str
    path: Path
    kind: Literal["file", "shared", "beside", "outside", "odd"]
    size: int | None
    payload: Path | None = None


@dataclass(frozen=True, slots=True)
class Links:
    """A repository folder as its links tell it.

    `misplaced` are links and files where a folder should be, `unreadable` what could not be looked into.
    """

    paths: RepoPaths
    snapshots: Mapping[str, tuple[Entry, ...]]
    refs: Mapping[str, str]
    blobs: Mapping[str, Blob]
    unfinished: tuple[Path, ...]
    misplaced: tuple[Path, ...]
    unreadable: tuple[Path, ...]

    @property
    def payloads(self) -> dict[Path, Blob]:
        """The shared payloads that the blobs lead to."""
        return {blob.payload: blob for blob in self.blobs.values() if blob.payload is not None}


def read(paths: RepoPaths) -> Links:
    """The links of a repository folder, in whatever condition."""
    return _Reader(paths, os.path.abspath(paths.blobs)).links()  # noqa: PTH100 - links stay what they are


def digests(entries: tuple[Entry, ...]) -> set[str]:
    """The blobs that a snapshot names."""
    return {entry.digest for entry in entries if entry.kind == "blob"}


def all_commits(there: Links) -> set[str]:
    """Every commit that the model knows of. What a ref says may be anything, and becomes a path only if it is one."""
    return {*there.snapshots, *filter(is_commit, there.refs.values())}


def commits(there: Links, name: str) -> set[str]:
    """The commit that a commit or the beginning of one names: at most one, and none where several begin so."""
    every = all_commits(there)
    if name in every:
        return {name}
    found = {commit for commit in every if len(name) >= _SHORTEST_COMMIT and commit.startswith(name)}
    return found if len(found) == 1 else set()


def leads_into(path: Path, folder: Path) -> bool:
    """Whether what a path comes to, links followed, lies in a folder."""
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))  # noqa: PTH118 - its last slash


@dataclass(slots=True)
class _Reader:
    paths: RepoPaths
    # What each link is compared with, made once.
    blobs_folder: str
    misplaced: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)

    def links(self) -> Links:
        blobs = {blob.name: blob for blob in self._blobs()}
        snapshots = dict(self._snapshots())
        refs = dict(self._refs())
        return Links(
            self.paths,
            snapshots,
            refs,
            blobs,
            tuple(self.unfinished),
            tuple(self.misplaced),
            tuple(self.unreadable),
        )

    def _scan(self, folder: Path) -> list[os.DirEntry[str]]:
        """The entries of a folder by name; a link is no folder, whatever it leads to."""
        try:
            if not stat.S_ISDIR(folder.lstat().st_mode):
                self.misplaced.append(folder)
                return []
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            self.misplaced.append(folder.parent)
            return []
        except OSError:
            self.unreadable.append(folder)
            return []

    def _blobs(self) -> Iterator[Blob]:
        for entry in self._scan(self.paths.blobs):
            if entry.name.endswith(_UNFINISHED):
                self.unfinished.append(Path(entry.path))
            else:
                yield self._blob(entry)

    def _blob(self, entry: os.DirEntry[str]) -> Blob:
        path = Path(entry.path)
        if not entry.is_symlink():
            regular = entry.is_file(follow_symlinks=False)
            size = _size(path, follow=False) if regular else None
            return Blob(entry.name, path, "file" if regular else "odd", size)
        target = self._target(path)
        if target is None:
            return Blob(entry.name, path, "odd", None)
        payload = shared.payload(self.paths.hub, target)
        if payload is None:
            size = _size(path, follow=True)
            is_beside = size is not None and leads_into(path, self.paths.hub)
            return Blob(entry.name, path, "beside" if is_beside else "outside", size)
        return Blob(entry.name, path, "shared", _size(payload, follow=False), payload)

    def _snapshots(self) -> Iterator[tuple[str, tuple[Entry, ...]]]:
        for entry in self._scan(self.paths.snapshots):
            yield entry.name, tuple(self._entries(Path(entry.path)))

    def _entries(self, folder: Path) -> Iterator[Entry]:
        folders, below = [folder], len(str(folder)) + 1
        while folders:
            for entry in self._scan(folders.pop()):
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                    continue
                name = entry.path[below:]
                if entry.is_symlink():
                    yield self._link(name, path)
                elif entry.is_file(follow_symlinks=False):
                    yield Entry(name, path, "file", _size(path, follow=False) or 0)
                else:
                    yield Entry(name, path, "odd")

    def _link(self, name: str, path: Path) -> Entry:
        target = self._target(path)
        if target is None:
            return Entry(name, path, "odd")
        folder, digest = os.path.split(os.path.abspath(path.parent / target))  # noqa: PTH100 - as above
        if folder == self.blobs_folder:
            return Entry(name, path, "blob", digest=digest, target=target)
        # The same place by another spelling, or by way of another entry.
        real = os.path.realpath(path)
        folder, digest = os.path.split(real)
        size = _size(path, follow=True)
        if size is not None and folder == os.path.realpath(self.paths.blobs):
            return Entry(name, path, "blob", digest=digest, target=target)
        is_beside = os.path.lexists(real) and leads_into(path, self.paths.hub)
        is_inside = is_beside and leads_into(path, self.paths.folder)
        return Entry(
            name, path, "inside" if is_inside else "beside" if is_beside else "outside", size or 0, target=target
        )

    def _target(self, path: Path) -> str | None:
        """The text of a link; a folder may let its names be seen and nothing more."""
        try:
            return str(path.readlink())
        except OSError:
            self.unreadable.append(path.parent)
            return None

    def _refs(self) -> Iterator[tuple[str, str]]:
        folders = [self.paths.refs]
        while folders:
            for entry in self._scan(folders.pop()):
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif not entry.name.startswith("."):
                    regular = entry.is_file(follow_symlinks=False)
                    data = reading.head(path, _MAX_REF) if regular else b""
                    yield str(path.relative_to(self.paths.refs)), (data or b"").decode("ascii", "replace").strip()


def _size(path: Path, *, follow: bool) -> int | None:
    """The size of a regular file, `None` where there is none."""
    try:
        status = path.stat(follow_symlinks=follow)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
