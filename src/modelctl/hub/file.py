"""One file of a pull: what it is, and what of it is there already."""

import contextlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelctl.store import proof
from modelctl.store.layout import RepoPaths, link_target
from modelctl.store.proof import Stamp


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of a pull: `source` is where its bytes come from.

    `reuse`: the disk holds them elsewhere, or for another revision, and they have to be proven.
    """

    name: str
    size: int
    digest: str
    source: Literal["fetch", "reuse", "present"]


def is_present(paths: RepoPaths, commit: str, file: PlannedFile) -> bool:
    """Whether the blob is there with its size, or the entry itself is the file, as on systems without links."""
    return has_blob(paths, file) or is_plain_entry(paths, commit, file)


def has_blob(paths: RepoPaths, file: PlannedFile) -> bool:
    """Whether the blob is there with its size."""
    with contextlib.suppress(OSError):
        return _is_file_of(paths.blob(file.digest), file.size)
    return False


def is_plain_entry(paths: RepoPaths, commit: str, file: PlannedFile) -> bool:
    """Whether the snapshot entry is the file itself, with its size."""
    with contextlib.suppress(OSError):
        status = paths.entry(commit, file.name).lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == file.size
    return False


def is_to_be_proven(paths: RepoPaths, file: PlannedFile, wrong: Stamp | None) -> bool:
    """Whether a blob is there that may be right: any but the one, in the very state, that was found to be wrong."""
    with contextlib.suppress(OSError):
        return has_blob(paths, file) and proof.stamp(paths.blob(file.digest).stat()) != wrong
    return False


def is_shown(paths: RepoPaths, commit: str, file: PlannedFile) -> bool:
    """Whether the snapshot entry leads to the file's blob, or is the file."""
    entry = paths.entry(commit, file.name)
    if entry.is_symlink():
        return str(entry.readlink()) == link_target(file.name, file.digest)
    return is_plain_entry(paths, commit, file)


def _is_file_of(path: Path, size: int) -> bool:
    """Whether a path leads to a file of that size; a folder or a pipe has a size too."""
    status = path.stat()
    return stat.S_ISREG(status.st_mode) and status.st_size == size
