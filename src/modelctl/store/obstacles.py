"""What stands in the way of moving a model: folders that are links, or that this user may not read or change."""

import os
from pathlib import Path

from modelctl.errors import ModelctlError, NotAllowedError
from modelctl.store.links import Links


def refuse(there: Links, *, keep: bool) -> None:
    """Raise what keeps a model from being moved, or from being copied with `keep`."""
    paths = there.paths
    if paths.folder.is_symlink():
        raise ModelctlError(
            f"`{paths.folder}` is a link to `{paths.folder.readlink()}`: the model lies elsewhere",
            hint="move the link by hand",
        )
    if there.misplaced:
        what = "link" if there.misplaced[0].is_symlink() else "file"
        raise ModelctlError(
            f"`{there.misplaced[0]}` is a {what} where a folder should be",
            hint=f"`modelctl show {paths.id}` says more; `modelctl rm --cache {paths.id}` removes it",
        )
    if unreadable := next(iter(_unreadable(there)), None):
        raise NotAllowedError(f"`{unreadable}` cannot be read", hint=_make_yours(paths.folder))
    if not there.snapshots:
        raise ModelctlError(
            f"`{paths.id}` has no revision in `{paths.hub}`", hint=f"`modelctl rm --cache {paths.id}` removes the rest"
        )
    if keep:
        return
    for folder in (paths.hub, paths.hub / ".locks", paths.folder):
        if folder.exists() and not is_writable(folder):
            raise NotAllowedError(
                f"`{folder}` cannot be changed by this user, so nothing can be moved out of it",
                hint=f"`--copy` leaves it as it is; {_make_yours(folder)}",
            )


def refuse_target(here: Links) -> None:
    """Raise what keeps a model from being merged into what the target has in its place."""
    folder = here.paths.folder
    if not folder.is_dir() or here.misplaced:
        in_the_way = here.misplaced[0] if here.misplaced else folder
        raise ModelctlError(
            f"`{in_the_way}` is in the way: no folder", hint=f"`modelctl rm {here.paths.id}` removes it"
        )
    if here.unreadable or not is_writable(folder):
        raise NotAllowedError(f"`{folder}` cannot be changed by this user", hint=_make_yours(folder))


def is_writable(folder: Path) -> bool:
    """Whether this user may add to a folder and take from it."""
    return os.access(folder, os.W_OK | os.X_OK)


def needs_own_links(there: Links) -> bool:
    """Whether a link of the model names its own folder by its full path, so that it cannot simply be renamed."""
    entries = (entry for snapshot in there.snapshots.values() for entry in snapshot)
    return any(entry.kind == "inside" and entry.target.startswith("/") for entry in entries)


def _unreadable(there: Links) -> list[Path]:
    blobs = (blob.path for blob in there.blobs.values() if blob.size is not None)
    files = (entry.path for entries in there.snapshots.values() for entry in entries if entry.kind == "file")
    return [*there.unreadable, *(path for path in (*blobs, *files) if not os.access(path, os.R_OK))]


def _make_yours(folder: Path) -> str:
    return f"`sudo chown -R $(id -u):$(id -g) {folder}` makes it yours, if it should be"
