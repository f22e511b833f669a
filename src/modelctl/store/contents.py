"""One repository folder as it lies on the disk: bare scandir and readlink, strings, few stats, no judgement.

A listing of a large store is as fast as this walk. Links are followed inside the hub folder only. The values here, and
in the modules that judge them, are named tuples: a frozen dataclass costs 0.4 ms at every start, a named tuple a fifth.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from modelctl.ref import is_commit
from modelctl.store import reading

_UNFINISHED = ".incomplete"
# What `changes.publish_entry` leaves behind when it is killed between its two steps.
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp")
_MAX_REF = 256


class Place(NamedTuple):
    """A hub folder, with what is asked of it once for all its models."""

    hub: str
    real: str
    keeps_atime: bool


class Content(NamedTuple):
    """A regular file with content, where the links that lead to it end."""

    path: str
    status: os.stat_result


class Snapshot(NamedTuple):
    """One revision's folder: every entry by its name in the repository, `None` where it leads to no content."""

    path: str
    entries: Mapping[str, Content | None]
    modified: float


class Oddity(NamedTuple):
    """Something in a repository folder that should not be there, or not so."""

    kind: str
    path: str
    what: str


class Contents(NamedTuple):
    """A repository folder: blobs by name, unfinished ones of any tool, snapshots, refs, and what was odd about it.

    `has_private`: modelctl keeps something of its own there. `owners` are the user ids that things in it belong to.
    """

    blobs: Mapping[str, Content]
    unfinished: Mapping[str, os.stat_result]
    snapshots: Mapping[str, Snapshot]
    refs: Mapping[str, str]
    has_private: bool
    oddities: tuple[Oddity, ...]
    owners: frozenset[int]


def place(hub: str) -> Place:
    """A hub folder to read from."""
    real = os.path.realpath(hub)
    try:
        keeps_atime = not os.statvfs(real).f_flag & getattr(os, "ST_NOATIME", 0)
    except OSError:
        keeps_atime = False
    return Place(hub, real, keeps_atime)


def read(where: Place, folder: str) -> Contents:
    """What lies in the repository folder of this name."""
    return _Reader(where, f"{where.hub}/{folder}").contents()


class _Reader:
    def __init__(self, place: Place, folder: str) -> None:
        self.place = place
        self.folder = folder
        self.oddities: list[Oddity] = []
        self.owners: set[int] = set()
        self.blobs: dict[str, Content] = {}
        self.unfinished: dict[str, os.stat_result] = {}

    def contents(self) -> Contents:
        parts = {entry.name: entry for entry in self._scan(self.folder)}
        if self._is_folder(parts, "blobs"):
            self._read_blobs()
        snapshots = self._snapshots() if self._is_folder(parts, "snapshots") else {}
        refs = dict(self._refs(snapshots)) if self._is_folder(parts, "refs") else {}
        has_private = self._is_folder(parts, ".modelctl")
        if has_private:
            self._read_partials()
        return Contents(
            self.blobs, self.unfinished, snapshots, refs, has_private, tuple(self.oddities), frozenset(self.owners)
        )

    def _odd(self, kind: str, path: str, what: str) -> None:
        self.oddities.append(Oddity(kind, path, what))

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            self.owners.add(os.lstat(folder).st_uid)
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []
        except OSError as exc:
            self._odd("unreadable", folder, f"cannot be read: {exc.strerror}")
            return []

    def _is_folder(self, parts: Mapping[str, os.DirEntry[str]], name: str) -> bool:
        if name not in parts:
            return False
        if parts[name].is_dir(follow_symlinks=False):
            return True
        what = "link" if parts[name].is_symlink() else "file"
        self._odd("misplaced", parts[name].path, f"is a {what} where a folder should be")
        return False

    def _read_blobs(self) -> None:
        for entry in self._scan(f"{self.folder}/blobs"):
            content = self._content(entry)
            if content is None:
                continue
            if entry.name.endswith(_UNFINISHED):
                self.unfinished[entry.name] = content.status
            else:
                self.blobs[entry.name] = content

    def _read_partials(self) -> None:
        for entry in self._scan(f"{self.folder}/.modelctl/partial"):
            content = None if "." in entry.name or entry.is_symlink() else self._content(entry)
            if content is not None:
                self.unfinished[entry.name] = content.status

    def _content(self, entry: os.DirEntry[str]) -> Content | None:
        """The regular file that an entry is or leads to. The shared layout's blobs are links into `hub/blobs`."""
        if entry.is_symlink():
            return self._followed(entry.path)
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return None
        self.owners.add(status.st_uid)
        return Content(entry.path, status) if stat.S_ISREG(status.st_mode) else None

    def _followed(self, path: str) -> Content | None:
        """Where a chain of links ends, if that is a regular file inside the hub folder."""
        try:
            real = os.path.realpath(path, strict=True)
            if not real.startswith(f"{self.place.real}/"):
                return None
            status = os.lstat(real)
        except OSError:
            return None
        self.owners.add(status.st_uid)
        return Content(real, status) if stat.S_ISREG(status.st_mode) else None

    def _snapshots(self) -> dict[str, Snapshot]:
        snapshots = {}
        for entry in self._scan(f"{self.folder}/snapshots"):
            if entry.is_dir(follow_symlinks=False):
                snapshots[entry.name] = self._snapshot(entry.path)
            elif not _TEMPORARY.fullmatch(entry.name):
                # `hf cache ls` hides a repository that has one, and then cannot remove it.
                self._odd("misplaced", entry.path, "is no folder of a revision")
        return snapshots

    def _snapshot(self, folder: str) -> Snapshot:
        entries: dict[str, Content | None] = {}
        folders = [(folder, "")]
        while folders:
            current, prefix = folders.pop()
            blobs = "../" * (prefix.count("/") + 2) + "blobs/"
            for entry in self._scan(current):
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{name}/"))
                elif entry.is_symlink():
                    if not _TEMPORARY.fullmatch(entry.name):
                        entries[name] = self._linked(entry.path, blobs)
                else:
                    entries[name] = self._content(entry)
        try:
            modified = os.lstat(folder).st_mtime
        except OSError:
            modified = 0.0
        return Snapshot(folder, entries, modified)

    def _linked(self, path: str, blobs: str) -> Content | None:
        """What a snapshot entry links to: nearly always a blob that is known already, by a link of one form."""
        try:
            target = os.readlink(path)  # noqa: PTH115 - strings all the way: a Path costs more than the call
        except OSError:
            return None
        if target.startswith(blobs):
            content = self.blobs.get(target[len(blobs) :])
            if content is not None:
                return content
        return self._followed(path)

    def _refs(self, snapshots: Mapping[str, Snapshot]) -> Iterator[tuple[str, str]]:
        folders = [(f"{self.folder}/refs", "")]
        while folders:
            current, prefix = folders.pop()
            for entry in self._scan(current):
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{prefix}{entry.name}/"))
                elif not entry.name.startswith("."):
                    commit = self._commit(entry, snapshots)
                    if commit is not None:
                        yield prefix + entry.name, commit

    def _commit(self, entry: os.DirEntry[str], snapshots: Mapping[str, Snapshot]) -> str | None:
        data = reading.head(entry.path, _MAX_REF) if entry.is_file(follow_symlinks=False) else b""
        if data is None:
            self._odd("unreadable", entry.path, "cannot be read")
            return None
        text = data.decode("ascii", "replace")
        commit = text.strip()
        if not is_commit(commit) and commit not in snapshots:
            self._odd("ref", entry.path, "names no commit")
            return None
        if commit != text:
            self._odd("ref", entry.path, "has more in it than a commit, so other tools do not understand it")
        return commit
