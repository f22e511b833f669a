"""The file list of a commit, as huggingface_hub caches it: the only offline knowledge of what a commit should hold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from modelctl.store import reading
from modelctl.store.layout import RepoPaths, is_file_name, is_git_sha1, is_sha256

_FORMAT_VERSION = 1
MAX_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One file of a commit: its bytes, git's hash of what lies in git, and for LFS files the hash of the content."""

    size: int
    blob_id: str
    sha256: str | None = None
    xet_hash: str | None = None

    @property
    def digest(self) -> str:
        """The name of the blob, which says what its content hashes to."""
        return self.sha256 or self.blob_id


def read(paths: RepoPaths, commit: str) -> dict[str, TreeFile] | None:
    """The files of a commit by name, `None` where no listing is there or it cannot be trusted."""
    document = reading.document(paths.tree(commit), MAX_BYTES)
    if not isinstance(document, dict) or document.get("format_version") != _FORMAT_VERSION:
        return None
    listed = document.get("files")
    if not isinstance(listed, dict):
        return None
    files: dict[str, TreeFile] = {}
    for name, entry in listed.items():
        file = _file(entry)
        if file is None:
            return None
        files[name] = file
    return files


def write(paths: RepoPaths, commit: str, files: Mapping[str, TreeFile]) -> None:
    """Cache a commit's whole list in huggingface_hub's format, readable by all whom the umask allows."""
    # Not at the top: a listing of models only reads.
    from modelctl.store import changes

    document = {
        "format_version": _FORMAT_VERSION,
        "files": {name: _entry(files[name]) for name in sorted(files)},
    }
    changes.write_file(paths.tree(commit), json.dumps(document, indent=1), via=paths.private)


def _entry(file: TreeFile) -> dict[str, object]:
    entry: dict[str, object] = {"size": file.size, "blob_id": file.blob_id}
    if file.sha256 is not None:
        entry |= {"lfs_sha256": file.sha256, "lfs_size": file.size}
    if file.xet_hash is not None:
        entry["xet_hash"] = file.xet_hash
    return entry


def _file(entry: object) -> TreeFile | None:
    match entry:
        case {"size": int(size), "blob_id": str(blob_id), **rest} if size >= 0 and is_git_sha1(blob_id):
            sha256, xet_hash = rest.get("lfs_sha256"), rest.get("xet_hash")
            if sha256 is not None and not (isinstance(sha256, str) and is_sha256(sha256)):
                return None
            return TreeFile(size, blob_id, sha256, xet_hash if isinstance(xet_hash, str) else None)
        case _:
            return None


def unsafe_names(files: Mapping[str, TreeFile]) -> list[str]:
    """The names that must never become paths, sorted."""
    return sorted(name for name in files if not is_file_name(name))
