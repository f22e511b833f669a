"""A plain folder of model files, laid out as a repository of a hub folder."""

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from modelctl.errors import NotFoundError, UsageError
from modelctl.store import changes, copying, layout, measuring, plain, publishing, tree


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

    For folders that are ours: nothing is asked of what lies there, and nothing is made durable (`store.importing` is
    for those of a user). Blobs carry the names that the Hub gives them (git's SHA-1, SHA-256 for LFS) and share their
    disk space with the folder where the file system can. Doing it twice changes nothing. `names` are the files to take
    (all by default), `lfs` those to keep in LFS beyond the Hub's own rule.
    """
    if ref is not None and not layout.is_ref_path(ref):
        raise UsageError(f"`{ref}` is not a revision", hint="give a branch or a tag")
    paths = layout.RepoPaths(hub, model_id)
    files = {name: _listed(folder / name, name, lfs=lfs) for name in sorted(names or _names(folder))}
    if not files:
        raise NotFoundError(f"`{folder}` holds no files", hint="name a folder with a model's files")
    commit = measuring.commit_id({name: file.digest for name, file in files.items()})
    changes.make_hub(hub)
    for name, file in files.items():
        _place(folder / name, paths.blob(file.digest), via=paths.private)
        changes.publish_entry(paths, commit, name, file.digest)
    if tree.read(paths, commit) != files:
        tree.write(paths, commit, files)
    if ref is not None and publishing.named(paths, ref) != commit:
        changes.write_file(paths.ref(ref), commit, via=paths.private)
    changes.tidy(paths)
    return commit


def _names(folder: Path) -> Iterator[str]:
    for one in plain.files(folder, follow=True):
        if isinstance(one, plain.PlainFile) or one.kind == "name":
            yield one.name


def _listed(path: Path, name: str, *, lfs: Collection[str]) -> tree.TreeFile:
    if not layout.is_file_name(name):
        raise UsageError(f"`{name}` cannot be the name of a model's file", hint="rename it")
    return measuring.measured(path, name, lfs=name in lfs)


def _place(source: Path, blob: Path, *, via: Path) -> None:
    """Give `source` a second name as a blob, or its blocks, or its bytes; the blob appears by one rename."""
    if blob.exists() and blob.stat().st_size == source.stat().st_size:
        return
    changes.make_folder(blob.parent)
    changes.make_folder(via)
    temporary = via / f"{secrets.token_hex(4)}.tmp"
    try:
        if not (copying.clone(source, temporary) or copying.link(Path(os.path.realpath(source)), temporary)):
            shutil.copyfile(source, temporary)
        temporary.replace(blob)
    except OSError as exc:
        raise changes.translated(exc, doing="write") from exc
    finally:
        temporary.unlink(missing_ok=True)
