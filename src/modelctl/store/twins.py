"""Contents that the disk holds already: under another revision, another model, or in the user's own cache.

A twin is believed by its hash alone, proven before the model that wants it shows it.
"""

import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from modelctl.errors import ModelctlError, NoRoomError
from modelctl.progress import Progress
from modelctl.ref import is_commit
from modelctl.store import changes, copying, crew, disk, layout, proof, tree
from modelctl.store.layout import RepoPaths

# Below that, a look into every other model costs more than the request.
_WORTH_A_SEARCH = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Twin:
    """A file that should hold the content `digest` of `size` bytes.

    `way`: it is the model's own blob and only has to be proven, it can be given a second name, or it has to be copied.
    """

    digest: str
    size: int
    path: Path
    way: Literal["prove", "link", "copy"]


def find(
    paths: RepoPaths,
    wanted: Mapping[str, int],
    caches: Sequence[Path],
    *,
    wrong: Collection[tuple[int, int]] = (),
) -> dict[str, Twin]:
    """Twins of the contents that a model wants (sizes by digest), in its own hub folder and in others.

    Where the model itself has the content under a file name, or a cache has the same model, contents of any size are
    found; in all other models large ones. `wrong` are files, by device and inode, that are known to hold others.
    """
    missing, found = dict(wanted), {}
    for digest, path in _candidates(paths, missing, caches):
        if digest in missing and (twin := _twin(paths, digest, missing[digest], path, wrong)):
            found[digest] = twin
            del missing[digest]
        if not missing:
            break
    return found


def own(paths: RepoPaths, digest: str, size: int) -> Twin:
    """The model's own blob, brought by another revision."""
    return Twin(digest, size, paths.blob(digest), "prove")


def bring(paths: RepoPaths, twins: Sequence[Twin], progress: Progress, *, base: int) -> frozenset[str]:
    """Give the model the contents, each proven, and return the digests of those that were what they should be.

    Several are hashed side by side; `base` is what counts as done before. The caller holds the model's lock and makes
    the blobs durable.
    """
    changes.make_folder(paths.partials)
    changes.make_folder(paths.blobs)
    done = base

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress.advance(done)

    proven = crew.work([partial(_bring, paths, twin) for twin in twins], tell)
    return frozenset(twin.digest for twin, is_proven in zip(twins, proven, strict=True) if is_proven)


def spares(paths: RepoPaths) -> Iterator[Path]:
    """What a killed `bring` has left."""
    return paths.partials.glob("*.spare")


def _bring(paths: RepoPaths, twin: Twin, tell: crew.Tell) -> bool:
    """One content; `False`, and no trace, where it is not what it should be."""
    place, spare = paths.blob(twin.digest), paths.partials / f"{twin.digest}.spare"
    try:
        if twin.way == "prove":
            return proof.matches(place, twin.digest, tell)
        if not _is_plain(twin.path):
            return False
        if twin.way == "link" and copying.link(twin.path, spare):
            # The second name and not the first: that may lead to another file by now.
            if not _is_plain(spare) or not proof.matches(spare, twin.digest, tell):
                return False
        else:
            copying.copy(twin.path, spare, twin.digest, tell)
        spare.replace(place)
    except NoRoomError:
        raise
    except ModelctlError:
        # It is damaged, has gone, or cannot be read. Where it is our own folder that fails, the fetch says so.
        return False
    except OSError as exc:
        raise changes.translated(exc, doing="write") from exc
    finally:
        spare.unlink(missing_ok=True)
    # What an interrupted pull has left of it is not needed any more.
    paths.partial(twin.digest).unlink(missing_ok=True)
    paths.journal(twin.digest).unlink(missing_ok=True)
    return True


def _is_plain(path: Path) -> bool:
    """Whether a path is a file itself: a second name for a link would be another link, and hold nothing."""
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _candidates(paths: RepoPaths, wanted: Mapping[str, int], caches: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Where the contents may lie, the nearest first."""
    yield from _plain_files(paths, wanted)
    for cache in caches:
        there = RepoPaths(cache, paths.id)
        yield from ((digest, there.blob(digest)) for digest in [*wanted])
        yield from _plain_files(there, wanted)
    large = {digest for digest, size in wanted.items() if size > _WORTH_A_SEARCH}
    for hub in (paths.hub, *caches) if large else ():
        for blobs in _blob_folders(hub):
            yield from ((digest, blobs / digest) for digest in large.intersection(_names(blobs)))


def _plain_files(paths: RepoPaths, wanted: Mapping[str, int]) -> Iterator[tuple[str, Path]]:
    """The files that lie in snapshots themselves, as without symbolic links, and whose content a listing names."""
    for commit in filter(is_commit, _names(paths.snapshots)):
        for name, file in (tree.read(paths, commit) or {}).items():
            if file.digest in wanted:
                yield file.digest, paths.entry(commit, name)


def _blob_folders(hub: Path) -> Iterable[Path]:
    return (hub / name / "blobs" for name in _names(hub) if layout.model_id(name))


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)
    return []


def _twin(paths: RepoPaths, digest: str, size: int, path: Path, wrong: Collection[tuple[int, int]]) -> Twin | None:
    try:
        # The end of the links: a second name for a link would be another link.
        real = Path(os.path.realpath(path, strict=True))
        status = real.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size != size or not os.access(real, os.R_OK):
        return None
    if (status.st_dev, status.st_ino) in wrong:
        return None
    # Of somebody else's file a copy is made, so that all in the project is its user's own.
    may_link = status.st_uid == os.geteuid() and disk.is_one_mount(real.parent, paths.folder)
    return Twin(digest, size, real, "link" if may_link else "copy")
