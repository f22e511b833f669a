"""The primitives that write into a store: publish, set aside, make durable.

Everything is built under a temporary name on the same file system and published by one rename.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from modelctl.errors import ModelctlError, NoRoomError, NotAllowedError
from modelctl.store import deletion, layout, ownership

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {1, 13, 30}  # EPERM, EACCES, EROFS
_SYNC_ONE_BY_ONE = 16
_MODELS = "--models-dir"


def translated(exc: OSError, *, doing: str, named_by: str = _MODELS) -> ModelctlError:
    """The failure of a write as the user meets it. `named_by`, here and below, can name another folder for it."""
    if exc.errno == errno.EISDIR and exc.filename2:
        # A rename: not the temporary name is what is wrong.
        return _in_the_way(Path(os.fsdecode(exc.filename2)))
    path = f" `{exc.filename}`" if exc.filename else ""
    what = f"cannot {doing}{path}: {exc.strerror or exc}"
    if exc.errno in _NO_ROOM:
        return NoRoomError(what, hint="free some space, then run the same command again: nothing that arrived is lost")
    if exc.errno == errno.EFBIG:
        return NoRoomError(
            what,
            hint=f"its file system, or `ulimit -f`, allows no file so large: name another folder with `{named_by}`",
        )
    if exc.errno in _NOT_ALLOWED:
        return NotAllowedError(what, hint=_way_in(exc, named_by))
    return ModelctlError(what, hint="look at the path with `ls -ld`, then run the same command again")


def _way_in(exc: OSError, named_by: str) -> str:
    """What to do where a write is not allowed: the path that failed may be one that is still to be made."""
    if exc.errno == errno.EROFS:
        return f"it is on a read-only file system: name another folder with `{named_by}`"
    if not exc.filename:
        return "see who owns it with `modelctl status`"
    path = Path(os.fsdecode(exc.filename))
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    return f"`{ownership.fix(there)}` makes it yours, if it should be"


def _in_the_way(path: Path) -> ModelctlError:
    return ModelctlError(
        f"`{path}` is a folder where a file should be", hint="move it away, then run the same command again"
    )


def make_folder(folder: Path, *, named_by: str = _MODELS) -> None:
    """Create a folder and what is above it; a file in its place is the user's to decide on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:
        in_the_way = next(path for path in (folder, *folder.parents) if os.path.lexists(path) and not path.is_dir())
        if in_the_way.is_symlink() and not in_the_way.exists():
            raise ModelctlError(
                f"`{in_the_way}` is a link to `{in_the_way.readlink()}`, which is not there",
                hint=f"mount the disk that it leads to, or name another folder with `{named_by}`",
            ) from exc
        raise ModelctlError(
            f"`{in_the_way}` is a file where a folder should be",
            hint=f"move it away, or name another folder with `{named_by}`",
        ) from exc
    except OSError as exc:
        raise translated(exc, doing="create", named_by=named_by) from exc


def make_hub(hub: Path) -> None:
    """Create a hub folder with its cache tag, which tells backup tools what it is."""
    make_folder(hub)
    tag = hub / layout.CACHE_TAG
    if not tag.exists():
        # Not beside it: other tools warn of what they do not know at the top of a hub folder.
        write_file(tag, layout.CACHE_TAG_TEXT, via=hub / ".locks")


def open_own(path: Path, flags: int) -> int:
    """Open a file that only modelctl writes to, made if it is not there, and nothing but a file of its own.

    Whatever else has its name, a link, a pipe or a second name of some other file, would be written to in its place.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        there = path.lstat()
        if stat.S_ISDIR(there.st_mode):
            path.rmdir()
        elif not stat.S_ISREG(there.st_mode) or there.st_nlink != 1:
            path.unlink()
    return os.open(path, flags, 0o666)


def open_lock(path: Path) -> int:
    """Open a lock file, made if it is not there. What leads elsewhere, or is no file, is refused and left alone."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return descriptor


def refuse_links(paths: layout.RepoPaths, written: Iterable[Path]) -> None:
    """Raise where a link inside the model's folder would lead what is written out of it.

    The folder itself and the hub folder may be links: whole models are kept elsewhere so.
    """
    seen = {paths.folder}
    for path in written:
        folder = path.parent
        while folder not in seen:
            seen.add(folder)
            if folder.is_symlink():
                raise ModelctlError(
                    f"`{folder}` is a link where a folder should be",
                    hint=f"take the link away; `{paths.folder}` itself may be one",
                )
            folder = folder.parent


def refuse_folders(files: Iterable[Path]) -> None:
    """Raise where a folder has the place of a file that is to be written."""
    for path in files:
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(path.lstat().st_mode):
                raise _in_the_way(path)


def write_file(
    path: Path, text: str, *, mode: int | None = None, via: Path | None = None, named_by: str = _MODELS
) -> None:
    """Replace a small file: temporary name, content, fsync, rename, fsync of the folder.

    Keeps the mode of the file that it replaces, and its owner where that is allowed; a new one gets `mode`, else what
    the umask leaves. The temporary file lies in `via`, where the file's own folder is one that other tools read whole,
    such as `refs/`.
    """
    before: os.stat_result | None = None
    try:
        make_folder(path.parent, named_by=named_by)
        with contextlib.suppress(FileNotFoundError):
            before = path.stat()
            mode = stat.S_IMODE(before.st_mode) if mode is None else mode
        if via is not None:
            make_folder(via, named_by=named_by)
        temporary = (via or path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        # Whatever comes between, an interruption too, leaves nothing of it.
        with contextlib.ExitStack() as undo:
            undo.callback(temporary.unlink, missing_ok=True)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                if before is not None and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    with contextlib.suppress(PermissionError):
                        os.fchown(file.fileno(), before.st_uid, before.st_gid)
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            undo.pop_all()
        sync_folder(path.parent)
    except OSError as exc:
        # What comes of the content tells no name.
        exc.filename = exc.filename or str(path)
        raise translated(exc, doing="write", named_by=named_by) from exc


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_entry(paths: layout.RepoPaths, commit: str, name: str, digest: str) -> None:
    """Let a snapshot show a file whose blob is there. An entry that leads elsewhere is replaced by one rename."""
    entry, target = paths.entry(commit, name), layout.link_target(name, digest)
    try:
        with contextlib.suppress(FileExistsError):
            _link(entry, target)
            return
        if entry.is_symlink() and str(entry.readlink()) == target:
            return
        # Not beside the entry: killed here, it would be a file of the snapshot for every other tool.
        make_folder(paths.private)
        temporary = paths.private / f".{secrets.token_hex(4)}.tmp"
        temporary.symlink_to(target)
        temporary.replace(entry)
    except OSError as exc:
        raise translated(exc, doing="write") from exc


def _link(entry: Path, target: str) -> None:
    """Make a link, and the folder for it only where it is missing: thousands are made into one."""
    try:
        entry.symlink_to(target)
    except (FileNotFoundError, NotADirectoryError):
        make_folder(entry.parent)
        entry.symlink_to(target)


def tidy(paths: layout.RepoPaths) -> None:
    """Take modelctl's own folders away where nothing is left in them, and temporary files of whoever was killed.

    Called under the model's lock: nobody else's are in use.
    """
    with contextlib.suppress(OSError):
        for leftover in paths.private.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
    for folder in (paths.partials, paths.standings, paths.private):
        with contextlib.suppress(OSError):
            folder.rmdir()


def free(paths: Iterable[Path]) -> int:
    """Delete whatever lies at some paths, links never followed, and return the bytes that the disk got back.

    The folder that they were in goes with the last of them.
    """
    freed = 0
    for path in paths:
        result = deletion.delete(path)
        freed += result.size
        if result.failures:
            raise translated(result.failures[0], doing="delete") from result.failures[0]
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    return freed


def make_durable(blobs: Sequence[Path]) -> None:
    """Make published blobs durable, before anything may name them.

    A few are synced one by one; many by one `syncfs`, which costs about as much as one of them.
    """
    if not blobs:
        return
    try:
        if len(blobs) > _SYNC_ONE_BY_ONE and _sync_file_system(blobs[0]):
            return
        for blob in blobs:
            descriptor = os.open(blob, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for folder in {blob.parent for blob in blobs}:
            sync_folder(folder)
    except OSError as exc:
        raise translated(exc, doing="write") from exc


def _sync_file_system(path: Path) -> bool:
    """`syncfs(2)` on the file system of a path; `False` where the system has none."""
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return bool(syncfs(descriptor) == 0)
    finally:
        os.close(descriptor)
