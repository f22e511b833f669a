"""A repository as the JSON that the Hub tells of it."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import quote

from modelctl.share.catalogue import Offer
from modelctl.share.query import Json
from modelctl.store import measuring

_LISTED = ("id", "modelId", "author", "sha", "lastModified", "private", "gated", "disabled", "downloads", "likes")


def model(
    model_id: str, commit: str, files: Mapping[str, Offer], *, modified: datetime, private: bool, gated: bool
) -> Json:
    """What `/api/models/ID` says, without the sizes and hashes of the files."""
    return {
        "_id": hashlib.sha1(model_id.encode(), usedforsecurity=False).hexdigest()[:24],
        "id": model_id,
        "modelId": model_id,
        "author": model_id.partition("/")[0] if "/" in model_id else None,
        "sha": commit,
        "lastModified": _time(modified),
        "createdAt": _time(modified),
        "private": private,
        "gated": "manual" if gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": name} for name in files],
        "usedStorage": sum(file.size for file in files.values()),
    }


def siblings(files: Mapping[str, Offer]) -> list[Json]:
    """The files as `?blobs=true` tells them."""
    return [_sibling(file) for file in files.values()]


def _sibling(file: Offer) -> Json:
    told: Json = {"rfilename": file.name, "blobId": file.blob_id, "size": file.size}
    if file.sha256:
        told["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": _pointer_size(file)}
    return told


def in_list(full: Json, *, with_files: bool) -> Json:
    """A model as one entry of `/api/models`."""
    keys = (*_LISTED, "siblings") if with_files else _LISTED
    return {key: full[key] for key in keys}


def tree(files: Mapping[str, Offer], *, below: str, recursive: bool) -> list[Json] | None:
    """The entries of a folder of a commit, folders among them; `None` where there is no such folder."""
    prefix = f"{below}/" if below else ""
    inside = [file for name, file in files.items() if name.startswith(prefix)]
    if prefix and not inside:
        return None
    folders: dict[str, list[Offer]] = {}
    direct = []
    for file in inside:
        *parents, _ = file.name.removeprefix(prefix).split("/")
        for depth in range(1, len(parents) + 1):
            folders.setdefault(prefix + "/".join(parents[:depth]), []).append(file)
        if recursive or not parents:
            direct.append(entry(file))
    shown = [
        folder_entry(path, held) for path, held in folders.items() if recursive or "/" not in path.removeprefix(prefix)
    ]
    return sorted([*shown, *direct], key=lambda told: str(told["path"]))


def entry(file: Offer) -> Json:
    """A file as the tree tells it."""
    told: Json = {"type": "file", "oid": file.blob_id, "size": file.size, "path": file.name}
    if file.sha256:
        told["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": _pointer_size(file)}
    return told


def folder_entry(path: str, files: Iterable[Offer]) -> Json:
    """A folder as the tree tells it; its id follows from what it holds."""
    held = "".join(f"{file.name}\0{file.blob_id}\n" for file in files).encode("utf-8", "surrogateescape")
    oid = hashlib.sha1(held, usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def expanded(told: Json, *, commit: str, modified: datetime) -> Json:
    """An entry with what `?expand=true` adds."""
    last = {"id": commit, "title": "Laid out by modelctl", "date": _time(modified)}
    safety: Json = {"status": "unscanned", "avScan": None, "pickleImportScan": None}
    return told | {"lastCommit": last} | ({"securityFileStatus": safety} if told["type"] == "file" else {})


def refs(named: Mapping[str, str], *, with_pull_requests: bool) -> Json:
    """What `/refs` says. A store does not tell tags from branches: they all count as branches."""
    told: Json = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    for name, commit in named.items():
        kind, ref, shown = "branches", f"refs/heads/{name}", name
        if name.startswith("refs/pr/"):
            kind, ref, shown = "pullRequests", name, name.removeprefix("refs/pr/")
        elif name.startswith("refs/convert/"):
            kind, ref, shown = "converts", name, name.removeprefix("refs/convert/")
        told[kind].append({"name": shown, "ref": ref, "targetCommit": commit})
    if not with_pull_requests:
        del told["pullRequests"]
    return told


def disposition(name: str) -> str:
    """The `Content-Disposition` of a file."""
    last = name.rsplit("/", 1)[-1]
    plain = last.encode("ascii", "replace").decode().replace('"', "'").replace("\\", "_")
    encoded = quote(last.encode("utf-8", "surrogateescape"))
    return f"inline; filename*=UTF-8''{encoded}; filename=\"{plain}\";"


def _pointer_size(file: Offer) -> int:
    return len(measuring.lfs_pointer(file.sha256 or "", size=file.size))


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
