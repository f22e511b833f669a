"""huggingface_hub's cache-wide blob store: payloads that several repositories share, in `hub/blobs`.

A payload is named by its Xet hash; beside it lie a list of the blobs that are links to it (`.refs`) and a lock. The
list is a hint: every line of it is checked against the disk, and what the disk shows counts beside it.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelctl.errors import BusyError, ModelctlError
from modelctl.store import changes, copying, layout

_VERSION = b"1\n"
_HASH = re.compile(r"[0-9a-f]{64}")
_REPOSITORY = re.compile(r"(?:models|datasets|spaces|kernels)--.+")
_POLL = 0.05
_LONGEST_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class Users:
    """The blobs of a whole hub folder that are links to payloads.

    `complete` is false where some repository could not be looked into: it may use anything.
    """

    by_payload: Mapping[Path, frozenset[Path]]
    complete: bool


def is_store(hub: Path) -> bool:
    """Whether the hub folder has a shared store of the version known here."""
    marker = layout.shared_blobs(hub) / layout.SHARED_MARKER
    try:
        return stat.S_ISREG(marker.lstat().st_mode) and marker.read_bytes() == _VERSION
    except OSError:
        return False


def payload(hub: Path, target: str) -> Path | None:
    """The payload that a blob's link text names, whether it exists or not; `None` where it names something else."""
    store = layout.shared_blobs(hub)
    folder, name = os.path.split(os.path.normpath(hub.absolute() / "models--" / "blobs" / target))
    if folder != os.path.normpath(store.absolute() / name[:2]) or _HASH.fullmatch(name) is None:
        return None
    return store / name[:2] / name


def payloads(hub: Path, blobs: Iterable[Path]) -> dict[Path, Path]:
    """The payload of each of some blobs that is a link to one, wherever the blobs lie now. `OSError`: who knows."""
    texts = {blob: str(blob.readlink()) for blob in blobs if blob.is_symlink()}
    return {blob: named for blob, text in texts.items() if (named := payload(hub, text)) is not None}


def list_of(named: Path) -> Path:
    """The list beside a payload of the blobs that are links to it."""
    return named.with_name(f"{named.name}.refs")


def links_in(blobs: Path) -> list[Path]:
    """The links of a blobs folder, none where there is no such folder, or only a link to one."""
    try:
        if blobs.is_symlink():
            return []
        with os.scandir(blobs) as entries:
            return [Path(entry.path) for entry in entries if entry.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def contents(hub: Path) -> Iterator[Path]:
    """Every payload, and the temporary files beside them, as far as they can be looked at."""
    for folder in layout.shared_blobs(hub).glob("[0-9a-f][0-9a-f]") if is_store(hub) else ():
        try:
            found = [] if folder.is_symlink() or not folder.is_dir() else [*folder.iterdir()]
        except OSError:
            continue
        yield from (path for path in found if _HASH.fullmatch(path.name) or path.suffix == ".tmp")


def users(hub: Path) -> Users:
    """Every blob of the hub folder that is a link to a payload, found by looking."""
    found: dict[Path, set[Path]] = {}
    complete = True
    try:
        with os.scandir(hub) as entries:
            repositories = [entry.name for entry in entries if _REPOSITORY.fullmatch(entry.name)]
    except OSError:
        return Users({}, complete=False)
    for name in repositories:
        try:
            for link, named in payloads(hub, links_in(hub / name / "blobs")).items():
                found.setdefault(named, set()).add(link)
        except OSError:
            complete = False
    return Users({named: frozenset(links) for named, links in found.items()}, complete)


def users_if_any(hub: Path) -> Users:
    """The same, and no look at the models of a hub folder that has no shared store."""
    return users(hub) if is_store(hub) else Users({}, complete=True)


def references(hub: Path, named: Path, known: Users) -> frozenset[Path] | None:
    """The blobs that are links to a payload now; `None` where nobody can tell, so that it must stay."""
    listed: list[str] = []
    try:
        listed = list_of(named).read_bytes().decode().splitlines()
    except FileNotFoundError:
        if not known.complete:
            return None
    except (OSError, UnicodeError):
        return None
    candidates = {hub / line for line in listed if _is_blob_path(line)} | known.by_payload.get(named, frozenset())
    try:
        return frozenset(link for link in candidates if _leads_to(hub, link, named))
    except OSError:
        return None


@contextlib.contextmanager
def locked(named: Path) -> Iterator[None]:
    """Hold a payload's lock, the one that huggingface_hub takes to publish, link and collect it."""
    path = named.with_name(f"{named.name}.lock")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        raise changes.translated(exc, doing="lock") from exc
    try:
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o666)
        _wait_for(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def release(hub: Path, named: Path, known: Users, *, trims: bool = True) -> int | None:
    """Trim a payload's list, and delete the payload where nobody is left on it.

    Returns the bytes that the disk got back, `None` where nobody can tell who uses it: then it stays. Whoever releases
    it for many models may let `trim` do that, once.
    """
    if not is_store(hub) or not named.parent.is_dir():
        return 0
    with locked(named):
        if not trims and _is_used(hub, named, known):
            return 0
        left = references(hub, named, known)
        if left is None:
            return None
        try:
            if left:
                _rewrite(hub, named, left)
                return 0
            freed = 0
            for path in (named, list_of(named)):
                with contextlib.suppress(FileNotFoundError):
                    status = path.lstat()
                    path.unlink()
                    freed += status.st_blocks * 512 if status.st_nlink == 1 else 0
        except OSError as exc:
            raise changes.translated(exc, doing="remove") from exc
        return freed


def take(hub: Path, named: Path, blob: Path, spare: Path, known: Users) -> bool:
    """Put a payload's content in the place of `blob`, the link to it, by one rename; the link's line goes.

    The payload itself moves where nobody else uses it. Else it gets a second name (a hard link) by way of `spare`, a
    path on the same file system; `False` where that cannot be had, with nothing done. The lists of those that stay are
    `trim`'s.
    """
    with locked(named):
        if not _is_used(hub, named, known, but=blob):
            left = references(hub, named, known)
            if left is not None and left <= {blob}:
                named.replace(blob)
                list_of(named).unlink(missing_ok=True)
                return True
        if not copying.link(named, spare):
            return False
        spare.replace(blob)
        return True


def trim(hub: Path, known: Users) -> None:
    """Take the blobs that have gone since out of the lists of the payloads that stay.

    Once for all of them: a list may be as long as there are models. A line too many does no harm, since whoever reads
    the list looks at the disk.
    """
    for named, blobs in known.by_payload.items():
        if all(blob.is_symlink() for blob in blobs) or not named.exists():
            continue
        with contextlib.suppress(OSError, ModelctlError), locked(named):
            if left := references(hub, named, known):
                _rewrite(hub, named, left)


def _is_used(hub: Path, named: Path, known: Users, *, but: Path | None = None) -> bool:
    """Whether some other blob is a link to a payload for sure: one is enough, however many there are."""
    try:
        return any(link != but and _leads_to(hub, link, named) for link in known.by_payload.get(named, ()))
    except OSError:
        return False


def _wait_for(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + _LONGEST_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in {errno.EAGAIN, errno.EACCES}:
                raise changes.translated(exc, doing="lock") from exc
            if time.monotonic() > deadline:
                raise BusyError(
                    f"`{path}` is held by another Hugging Face tool",
                    hint="wait for it to end, then run the same command again",
                ) from exc
            time.sleep(_POLL)
        else:
            return


def _is_blob_path(line: str) -> bool:
    parts = line.split("/")
    return len(parts) == 3 and _REPOSITORY.fullmatch(parts[0]) is not None and parts[1] == "blobs" and ".." not in parts


def _leads_to(hub: Path, link: Path, named: Path) -> bool:
    """Whether the link leads to the payload. Any doubt but plain absence is an `OSError`."""
    try:
        return payload(hub, str(link.readlink())) == named
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # no link
            return False
        raise


def _rewrite(hub: Path, named: Path, left: frozenset[Path]) -> None:
    """As huggingface_hub writes it: readable and writable by all who share the cache."""
    temporary = named.with_name(f"{named.name}.refs.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o666)
            file.writelines(f"{link.relative_to(hub)}\n" for link in sorted(left))
            file.flush()
            os.fsync(descriptor)
        temporary.replace(list_of(named))
    finally:
        temporary.unlink(missing_ok=True)
