"""What stands in the way of moving a model: folders that are links, or that this user may not read or change."""

import errno
import os
import secrets
import shlex
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from modelctl.errors import ModelctlError, NotAllowedError
from modelctl.store import borrowed, changes, links, ownership
from modelctl.store.dependents import Lead
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Links

# What a file system answers that has no symbolic links.
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
# What a model's folder holds; anything else in it somebody has put there.
_PARTS = {"blobs", "snapshots", "refs", "trees", ".no_exist", ".modelctl"}


def refuse(there: Links, *, keep: bool) -> None:
    """Raise what keeps a model from being moved, or from being copied with `keep`."""
    paths = there.paths
    remove = f"`rm -r {shlex.quote(str(paths.folder))}`"
    if paths.folder.is_symlink():
        raise ModelctlError(
            f"`{paths.folder}` is a link to `{paths.folder.readlink()}`: the model lies elsewhere",
            hint="move the link by hand",
        )
    if there.misplaced:
        what = "link" if there.misplaced[0].is_symlink() else "file"
        raise ModelctlError(
            f"`{there.misplaced[0]}` is a {what} where a folder should be",
            hint=f"put the folder in its place; {remove} removes the model",
        )
    changes.refuse_links(paths, _written(paths))
    if unreadable := next(iter(_unreadable(there)), None):
        raise NotAllowedError(f"`{unreadable}` cannot be read", hint=_make_yours(paths.folder))
    if not there.snapshots:
        raise ModelctlError(f"`{paths.id}` has no revision in `{paths.hub}`", hint=f"{remove} removes the rest")
    if keep:
        return
    for folder in (paths.hub, paths.hub / ".locks", paths.folder):
        if folder.exists() and not is_writable(folder):
            raise NotAllowedError(
                f"`{folder}` cannot be changed by this user, so nothing can be moved out of it",
                hint=f"`--copy` leaves it as it is{_or_make_yours(folder)}",
            )


def refuse_taking_apart(there: Links, *, keep: bool) -> None:
    """Raise what keeps a model from being brought over content by content, and from being removed afterwards."""
    for entries in there.snapshots.values():
        for entry in entries:
            if entry.kind in {"inside", "beside"} and entry.path.is_dir():
                raise ModelctlError(
                    f"`{entry.path}` is a link to a folder of `{there.paths.hub}`, which cannot come along",
                    hint="put the folder in its place, then run the same command again",
                )
    if not keep and (closed := next(_closed(there.paths.folder), None)):
        raise NotAllowedError(
            f"`{closed}` cannot be changed by this user, so nothing can be moved out of it",
            hint=f"`--copy` leaves it as it is{_or_make_yours(there.paths.folder)}",
        )


def refuse_target(here: Links, source: Links) -> None:
    """Raise what keeps a model from being merged into what the target has in its place."""
    folder = here.paths.folder
    if folder.is_symlink() and links.leads_into(folder, source.paths.hub):
        raise ModelctlError(
            f"`{folder}` is a link to `{os.path.realpath(folder)}`, which is to come there",
            hint=f"`rm {shlex.quote(str(folder))}` takes the link away; then run the same command again",
        )
    borrowed.refuse(here.paths)
    if not folder.is_dir() or here.misplaced:
        in_the_way = here.misplaced[0] if here.misplaced else folder
        raise ModelctlError(
            f"`{in_the_way}` is in the way: no folder", hint=f"`rm {shlex.quote(str(in_the_way))}` removes it"
        )
    changes.refuse_links(here.paths, _written(here.paths))
    if here.unreadable or not is_writable(folder):
        raise NotAllowedError(f"`{folder}` cannot be changed by this user", hint=_make_yours(folder))
    # Bind mounts, as containers have them, may show one folder at two places.
    one, other = here.paths, source.paths
    for mine, theirs in ((folder, other.folder), (one.blobs, other.blobs), (one.snapshots, other.snapshots)):
        if mine.exists() and theirs.exists() and mine.samefile(theirs):
            raise _are_one(mine, theirs)


def refuse_same(folder: Path, target: RepoPaths, source: RepoPaths) -> None:
    """Raise where what is put into a folder of the target is seen in the source too.

    One file system that is mounted twice may have two numbers, and nothing else tells.
    """
    probe = folder / f"probe.{secrets.token_hex(8)}"
    probe.mkdir()
    try:
        is_seen = os.path.lexists(source.folder / probe.relative_to(target.folder))
    finally:
        probe.rmdir()
    if is_seen:
        raise _are_one(target.folder, source.folder)


def _are_one(here: Path, there: Path) -> ModelctlError:
    return ModelctlError(
        f"`{here}` and `{there}` are one folder: what goes from one is gone from both",
        hint="leave the model as it is: both places have it",
    )


def refuse_names(target: RepoPaths, refs: Iterable[Path]) -> None:
    """Raise where a ref needs a folder and the target has a ref of that name, or the other way round."""
    for place in refs:
        above = [folder for folder in place.parents if folder.is_relative_to(target.refs)]
        in_the_way = next((path for path in above if path.is_file()), place if place.is_dir() else None)
        if in_the_way is not None:
            raise ModelctlError(
                f"`{place}` cannot be made: `{in_the_way}` is in the way",
                hint="take the ref away that you do not need, then run the same command again",
            )


def refuse_without_links(folder: Path) -> None:
    """Raise where a folder of our own lies on a file system that has no symbolic links."""
    probe = folder / "probe"
    try:
        probe.unlink(missing_ok=True)
        probe.symlink_to(folder.name)
        probe.unlink()
    except OSError as exc:
        if exc.errno in NO_LINKS:
            raise without_links(folder) from exc
        raise


def without_links(folder: Path) -> ModelctlError:
    """The answer to a file system without symbolic links."""
    return ModelctlError(
        f"`{folder}` is on a file system without symbolic links, which models are made of",
        hint="name a folder on another file system",
    )


def not_linkable(path: Path, *, hint: str = "`--copy` copies it") -> NotAllowedError:
    """The answer where a file may get no second name."""
    return NotAllowedError(
        f"`{path}` is another user's, and this system lets nobody give such a file a second name",
        hint=hint,
    )


def foreign(there: Links) -> list[Path]:
    """What lies in a model's folder and is no part of a model, or of what is whole of it.

    So is what an interrupted pull or import has brought.
    """
    paths = there.paths
    others = (path for path in paths.folder.iterdir() if path.name not in _PARTS)
    return [*others, *(path for path in (paths.pull_record, paths.partials, paths.imported) if os.path.lexists(path))]


def is_writable(folder: Path) -> bool:
    """Whether this user may add to a folder and take from it."""
    return os.access(folder, os.W_OK | os.X_OK)


def leads_beside(there: Links) -> bool:
    """Whether a link of the model leads to content of another one of the same hub folder."""
    kinds = {entry.kind for entries in there.snapshots.values() for entry in entries}
    return "beside" in kinds or any(blob.kind == "beside" for blob in there.blobs.values())


def needed_by(paths: RepoPaths, names: Collection[str]) -> ModelctlError:
    """The answer where letting a model go would break others, whose links lead into it."""
    others = ", ".join(f"`{name}`" for name in sorted(names))
    return ModelctlError(
        f"links of {others} lead into `{paths.folder}`, and would lead nowhere without it",
        hint="name them too: they go first, and take with them what their links lead to; `--copy` leaves all as it is",
    )


def needed_elsewhere(paths: RepoPaths, leads: Collection[Lead]) -> ModelctlError:
    """The answer where those that would break lie in other hub folders: `leads` are their links."""
    whose = ", ".join(sorted({f"`{lead.paths.folder}`" for lead in leads}))
    return ModelctlError(
        f"links in {whose} lead into `{paths.folder}`, and would lead nowhere without it",
        hint="`--copy` leaves all as it is; without those links, as `modelctl rm` takes them away, it can go",
    )


def needs_own_links(there: Links) -> bool:
    """Whether a link of the model names its own folder by its full path, or leads into another one: no rename helps."""
    entries = (entry for snapshot in there.snapshots.values() for entry in snapshot)
    return leads_beside(there) or any(entry.kind == "inside" and entry.target.startswith("/") for entry in entries)


def _written(paths: RepoPaths) -> list[Path]:
    """A file in each folder, beside those of the content, that a migration writes to or removes from."""
    absent = paths.folder / ".no_exist"
    return [paths.incoming / "blobs" / "_", paths.tree("_"), paths.standing("_"), absent / "_"]


def _closed(folder: Path) -> Iterator[Path]:
    """The folders from which this user cannot take anything: not his own, and closed to him."""
    for name, _, _ in os.walk(folder):
        if not is_writable(Path(name)) and Path(name).stat().st_uid != os.geteuid():
            yield Path(name)


def _unreadable(there: Links) -> list[Path]:
    blobs = (blob.path for blob in there.blobs.values() if blob.size is not None)
    files = (entry.path for entries in there.snapshots.values() for entry in entries if entry.kind == "file")
    return [*there.unreadable, *(path for path in (*blobs, *files) if not os.access(path, os.R_OK))]


def _or_make_yours(folder: Path) -> str:
    """Nothing, where the file system itself is read-only."""
    return "" if os.statvfs(folder).f_flag & os.ST_RDONLY else f"; {_make_yours(folder)}"


def _make_yours(folder: Path) -> str:
    return f"`{ownership.fix(folder)}` makes it yours, if it should be"
