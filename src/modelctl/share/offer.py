"""A plain folder of model files, laid out as a repository of a hub folder."""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from modelctl.errors import NotFoundError, UsageError
from modelctl.share import digests
from modelctl.store import changes, layout, tree

_FICLONE = 0x40049409  # ioctl that lets two files share their blocks until one is written to
# The file system has no such thing, or keeps the two files apart: another way has to do.
_OTHER_WAY = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.EMLINK, errno.EACCES}


def lay_out(
    folder: Path,
    hub: Path,
    model_id: str,
    *,
    ref: str | None = "main",
    names: Collection[str] | None = None,
    lfs: Collection[str] = (),
) -> str:
    """Offer the files of `folder` as a commit of `model_id` in `hub`, and return its id.

    Blobs carry the names that the Hub gives them (git's SHA-1, SHA-256 for LFS) and share their disk space with the
    folder where the file system can. The id follows from names and contents: doing it twice changes nothing.
    `names` are the files to take (all by default), `lfs` those to keep in LFS beyond the Hub's own rule.
    """
    if ref is not None and not layout.is_ref_path(ref):
        raise UsageError(f"`{ref}` is not a revision", hint="give a branch or a tag")
    paths = layout.RepoPaths(hub, model_id)
    files = {name: _listed(folder / name, name, lfs=lfs) for name in sorted(names or _names(folder))}
    if not files:
        raise NotFoundError(f"`{folder}` holds no files", hint="name a folder with a model's files")
    commit = digests.commit_id({name: file.digest for name, file in files.items()})
    changes.make_hub(hub)
    for name, file in files.items():
        _place(folder / name, paths.blob(file.digest), via=paths.private)
        changes.publish_entry(paths, commit, name, file.digest)
    if tree.read(paths, commit) != files:
        tree.write(paths, commit, files)
    if ref is not None and not _points_to(paths.ref(ref), commit):
        changes.write_file(paths.ref(ref), commit, via=paths.private)
    changes.tidy(paths)
    return commit


def _names(folder: Path) -> Iterator[str]:
    """The files below a folder, without what Python and git leave there."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not {"__pycache__", ".git", ".cache"}.intersection(name.split("/")[:-1]):
            yield name


def _listed(path: Path, name: str, *, lfs: Collection[str]) -> tree.TreeFile:
    if not layout.is_file_name(name):
        raise UsageError(f"`{name}` cannot be the name of a model's file", hint="rename it")
    return digests.measured(path, name, lfs=name in lfs)


def _place(source: Path, blob: Path, *, via: Path) -> None:
    """Give `source` a second name as a blob, or its blocks, or its bytes; the blob appears by one rename."""
    if blob.exists() and blob.stat().st_size == source.stat().st_size:
        return
    changes.make_folder(blob.parent)
    changes.make_folder(via)
    temporary = via / f"{secrets.token_hex(4)}.tmp"
    try:
        if not (_clone(source, temporary) or _link(source, temporary)):
            shutil.copyfile(source, temporary)
        temporary.replace(blob)
    except OSError as exc:
        raise changes.translated(exc, doing="write") from exc
    finally:
        temporary.unlink(missing_ok=True)


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError as exc:
            if exc.errno not in _OTHER_WAY:
                raise
            target.unlink()
            return False
    return True


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError as exc:
        if exc.errno not in _OTHER_WAY:
            raise
        return False
    return True


def _points_to(ref: Path, commit: str) -> bool:
    try:
        return ref.read_text(encoding="utf-8") == commit
    except (FileNotFoundError, NotADirectoryError):
        return False
