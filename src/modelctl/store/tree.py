"""The file list of a commit, as huggingface_hub caches it: the only offline knowledge of what a commit should hold."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from modelctl.store import reading
from modelctl.store.layout import RepoPaths, is_file_name, is_git_sha1, is_sha256

_FORMAT_VERSION = 1


class TreeFile(NamedTuple):
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
    document = reading.document(paths.tree(commit))
    if not isinstance(document, dict) or document.get("format_version") != _FORMAT_VERSION:
        return None
    listed = document.get("files")
    if not isinstance(listed, dict):
        return None
    files: dict[str, TreeFile] = {}
    for name, entry in listed.items():
        file = _file(entry)
        if file is None or not is_file_name(name):
            return None
        files[name] = file
    return files


def is_there(paths: RepoPaths, commit: str) -> bool:
    """Whether something lies where the listing should be, or nobody may look whether it does."""
    try:
        paths.tree(commit).lstat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def write(paths: RepoPaths, commit: str, files: Mapping[str, TreeFile]) -> None:
    """Cache a commit's whole list in huggingface_hub's format, readable by all whom the umask allows."""
    # Not at the top: a listing of models only reads.
    from modelctl.store import changes

    document = {
        "format_version": _FORMAT_VERSION,
        "files": {name: _entry(files[name]) for name in sorted(files)},
    }
    # Without the indentation of huggingface_hub's: that alone takes 40 ms for two thousand files.
    changes.write_file(paths.tree(commit), json.dumps(document), via=paths.private)


def _entry(file: TreeFile) -> dict[str, object]:
    entry: dict[str, object] = {"size": file.size, "blob_id": file.blob_id}
    if file.sha256 is not None:
        entry |= {"lfs_sha256": file.sha256, "lfs_size": file.size}
    if file.xet_hash is not None:
        entry["xet_hash"] = file.xet_hash
    return entry


def _file(entry: object) -> TreeFile | None:
    match entry:
        case {"size": size, "blob_id": blob_id, **rest}:
            return trusted(size, blob_id, sha256=rest.get("lfs_sha256"), xet_hash=rest.get("xet_hash"))
        case _:
            return None


def trusted(size: object, blob_id: object, *, sha256: object, xet_hash: object) -> TreeFile | None:
    """A file as somebody else describes it, `None` where size and hashes are none: a hash becomes a path."""
    if not (isinstance(size, int) and size >= 0 and isinstance(blob_id, str) and is_git_sha1(blob_id)):
        return None
    if sha256 is not None and not (isinstance(sha256, str) and is_sha256(sha256)):
        return None
    return TreeFile(size, blob_id, sha256, xet_hash if isinstance(xet_hash, str) else None)


def contradiction(files: Mapping[str, TreeFile]) -> str | None:
    """What no commit can hold: a file that is also a folder, or a content with two sizes. `None` where all is well."""
    sizes: dict[str, int] = {}
    for name, file in files.items():
        parts = name.split("/")
        for length in range(1, len(parts)):
            if (folder := "/".join(parts[:length])) in files:
                return f"`{folder}` both as a file and as a folder"
        if sizes.setdefault(file.digest, file.size) != file.size:
            return f"two sizes for the content of `{name}`"
    return None
