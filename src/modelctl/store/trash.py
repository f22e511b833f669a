"""What has been taken out of sight and is not yet freed.

An entry is `<name>.<pid>-<start time>.<random>`: a repository folder as it was (`models--ORG--NAME`), or, as
`models--ORG--NAME@`, a folder of the same form with the parts that went of a model that stays. Nothing ever comes back
from here, so an entry whose process is gone may be freed by anybody.
"""

import contextlib
import errno
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from modelctl import process
from modelctl.store import changes, layout

_ENTRY = re.compile(r"(?P<name>.+)\.(?P<pid>\d+)-(?P<started>\d+)\.[0-9a-f]{8}")
_PARTS = "@"
_LONGEST_NAME = 180


@dataclass(frozen=True, slots=True)
class Aside:
    """One entry of the trash: the repository folder that it was or came from, and whether it holds parts only."""

    path: Path
    name: str
    is_parts: bool

    @property
    def paths(self) -> layout.RepoPaths:
        """The entry read as a repository folder, which its form is."""
        return layout.RepoPaths(self.path.parent, self.name, self.path.name)


def set_aside(hub: Path, folder: Path) -> Aside:
    """Take a repository folder, or whatever lies in its place, out of sight by one rename."""
    target = _place(hub) / _entry_name(folder.name)
    try:
        changes.make_folder(target.parent)
        folder.rename(target)
        changes.sync_folder(folder.parent)
    except OSError as exc:
        error = changes.translated(exc, doing="remove")
        if exc.errno in {errno.EACCES, errno.EPERM}:
            error.hint = f"`sudo rm -rf {folder}` removes it"
        raise error from exc
    return Aside(target, folder.name, is_parts=False)


def open_parts(hub: Path, folder: str) -> Aside:
    """A new entry for parts of a model; `put` fills it."""
    path = _place(hub) / _entry_name(folder + _PARTS)
    changes.make_folder(path)
    return Aside(path, folder, is_parts=True)


def put(aside: Aside, folder: Path, part: Path) -> None:
    """Move one part of the repository folder `folder` into the entry, to the place it had there."""
    target = aside.path / part.relative_to(folder)
    try:
        changes.make_folder(target.parent)
        part.rename(target)
    except OSError as exc:
        raise changes.translated(exc, doing="remove") from exc


def leftovers(hub: Path, folder: str | None = None) -> tuple[Aside, ...]:
    """What a removal that was interrupted has left, of one repository folder or of all, sorted by path."""
    found = []
    for place in _places(hub):
        try:
            entries = sorted(place.iterdir())
        except OSError:
            continue
        for path in entries:
            match = _ENTRY.fullmatch(path.name)
            if match is None or process.start_time(int(match["pid"])) == int(match["started"]):
                continue
            aside = Aside(path, match["name"].removesuffix(_PARTS), match["name"].endswith(_PARTS))
            if folder in {None, aside.name}:
                found.append(aside)
    return tuple(found)


def empty(hub: Path) -> None:
    """Let the trash itself go with its last entry."""
    for place in _places(hub):
        with contextlib.suppress(OSError):
            place.rmdir()


def _places(hub: Path) -> tuple[Path, Path]:
    """Where the trash is, and where it is when `.locks` is of another file system: there other tools warn of it."""
    return layout.trash(hub), hub / layout.trash(hub).name


def _place(hub: Path) -> Path:
    usual, other = _places(hub)
    with contextlib.suppress(OSError):
        if usual.parent.stat().st_dev != hub.stat().st_dev:
            return other
    return usual


def _entry_name(name: str) -> str:
    owner = process.this_process("rm")
    short = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])
    return f"{short}.{owner.pid}-{owner.started}.{secrets.token_hex(4)}"
