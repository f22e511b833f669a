"""Making a model independent of the place of its folder: what it shares becomes its own."""

import os
from pathlib import Path

from modelctl.store import changes, copying, shared, trash
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Blob, Links


def detach(there: Links) -> None:
    """Let nothing in the model depend on where its folder is. It is whole before, after, and at every step between."""
    paths = there.paths
    incoming = paths.private / "incoming"
    changes.make_folder(incoming)
    users = shared.users(paths.hub) if there.payloads else None
    for blob in there.blobs.values():
        if users is not None and blob.payload is not None and blob.size is not None:
            _take_in(paths, blob, blob.payload, incoming / blob.name, users)
        elif blob.kind == "outside":
            _lead_absolutely(blob.path, incoming)
    for commit, entries in there.snapshots.items():
        for entry in entries:
            if entry.kind == "outside":
                _lead_absolutely(entry.path, incoming)
            elif entry.kind == "blob" and entry.target.startswith("/"):
                changes.publish_entry(paths, commit, entry.name, entry.digest)
    if paths.blobs.is_dir():
        changes.sync_folder(paths.blobs)
    trash.delete(incoming, lambda _: None)
    changes.tidy(paths)


def absolute(path: Path) -> Path:
    """Where a link leads, one step, by its full path."""
    return Path(os.path.normpath(path.parent.resolve() / path.readlink()))


def _take_in(paths: RepoPaths, blob: Blob, payload: Path, spare: Path, users: shared.Users) -> None:
    """A shared payload moves in where it is the only one's, else it gets a second name, or is copied."""
    if not shared.take(paths.hub, payload, blob.path, spare, users):
        copying.copy(payload, spare, blob.name, lambda _: None)
        spare.replace(blob.path)
        shared.release(paths.hub, payload, users)


def _lead_absolutely(path: Path, incoming: Path) -> None:
    if path.readlink().is_absolute():
        return
    spare = incoming / "link"
    spare.unlink(missing_ok=True)
    spare.symlink_to(absolute(path))
    spare.replace(path)
