"""Letting a revision be seen whose blobs are there, and naming it."""

from collections.abc import Mapping

from modelctl.ref import is_commit
from modelctl.store import changes, deletion, layout, reading, standing
from modelctl.store.layout import RepoPaths

# Longer than a commit, so that what follows one is seen.
_LONGEST_REF = 64


def named(paths: RepoPaths, ref: str) -> str | None:
    """What a ref holds, `None` where it cannot be read."""
    content = reading.head(paths.ref(ref), _LONGEST_REF)
    return None if content is None else content.decode("ascii", "replace")


def show(paths: RepoPaths, commit: str, digests: Mapping[str, str]) -> None:
    """Let a snapshot be seen, durably: a new one at once, by one rename; one that is there already is completed.

    `digests` are the blobs by the names of the files. The caller holds the model's lock.
    """
    snapshot = paths.snapshot(commit)
    is_new = not snapshot.is_dir()
    # Not beside it: killed here, it would be a revision for every other tool.
    folder = paths.imported / commit if is_new else snapshot
    try:
        if is_new:
            deletion.delete(folder)
        changes.make_folder(folder)
        for name, digest in digests.items():
            if is_new:
                changes.make_folder((folder / name).parent)
                (folder / name).symlink_to(layout.link_target(name, digest))
            else:
                changes.publish_entry(paths, commit, name, digest)
        for each in {folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())}:
            changes.sync_folder(each)
        if is_new:
            changes.make_folder(snapshot.parent)
            folder.rename(snapshot)
            changes.sync_folder(snapshot.parent)
    except OSError as exc:
        raise changes.translated(exc, doing="write") from exc


def is_shown(paths: RepoPaths, commit: str, name: str, digest: str) -> bool:
    """Whether a snapshot shows a file by its blob."""
    entry = paths.entry(commit, name)
    return entry.is_symlink() and str(entry.readlink()) == layout.link_target(name, digest) and entry.is_file()


def name(paths: RepoPaths, ref: str, commit: str) -> str | None:
    """Let a ref name a revision, and return the revision that it leaves behind."""
    old = named(paths, ref)
    if old != commit:
        standing.leave_behind(paths, old, ref=ref, successor=commit)
        changes.write_file(paths.ref(ref), commit, via=paths.private)
    standing.renew(paths, commit)
    is_left = old is not None and old != commit and is_commit(old) and paths.snapshot(old).is_dir()
    return old if is_left else None
