"""Making a model independent of the place of its folder: what it shares becomes its own."""

import os
from pathlib import Path

from modelctl.store import changes, copying, deletion, shared
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Blob, Links


def detach(there: Links, users: shared.Users) -> None:
    """Let nothing in the model depend on where its folder is. It is whole before, after, and at every step between."""
    paths = there.paths
    incoming = paths.incoming
    shared_blobs = [blob for blob in there.blobs.values() if blob.payload is not None and blob.size is not None]
    leading_out = [blob.path for blob in there.blobs.values() if blob.kind == "outside"]
    leading_out += [entry.path for entries in there.snapshots.values() for entry in entries if entry.kind == "outside"]
    if shared_blobs or leading_out:
        changes.make_folder(incoming)
    try:
        for blob in shared_blobs:
            if blob.payload is not None:
                _take_in(paths, blob, blob.payload, incoming / blob.name, users)
        if shared_blobs:
            changes.sync_folder(paths.blobs)
        for path in leading_out:
            _lead_absolutely(path, incoming)
        for commit, entries in there.snapshots.items():
            for entry in entries:
                if entry.kind == "blob" and entry.target.startswith("/"):
                    changes.publish_entry(paths, commit, entry.name, entry.digest)
    finally:
        deletion.delete(incoming)
        changes.tidy(paths)


def absolute(path: Path) -> Path:
    """Where a link leads, one step, by its full path."""
    return Path(os.path.normpath(Path(os.path.realpath(path.parent)) / path.readlink()))


def _take_in(paths: RepoPaths, blob: Blob, payload: Path, spare: Path, users: shared.Users) -> None:
    """A shared payload moves in where it is the only one's, else it gets a second name, or is copied."""
    if not shared.take(paths.hub, payload, blob.path, spare, users):
        copying.copy(payload, spare, blob.name, lambda _: None)
        spare.replace(blob.path)
        shared.release(paths.hub, payload, users, trims=False)


def _lead_absolutely(path: Path, incoming: Path) -> None:
    if path.readlink().is_absolute():
        return
    spare = incoming / "link"
    spare.unlink(missing_ok=True)
    spare.symlink_to(absolute(path))
    spare.replace(path)
