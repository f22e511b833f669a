"""What lies in one model's folder and belongs to nothing that is whole, nor to anybody who is at work.

Partial blobs of any tool, temporary files of writers that were killed, contents that no revision uses, and the folder
itself where nothing is in it.
"""

import os
import re
import socket
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from modelctl import process
from modelctl.errors import BusyError
from modelctl.ref import is_commit
from modelctl.store import deletion, disposal, downloads, imports, inventory, journal, layout, lock, pulls, standing
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Links
from modelctl.store.model import Model

Kind = Literal[
    "pull", "migration", "import", "download", "temporary", "orphan", "empty", "revision", "removed", "locks"
]

# For so long what another tool has touched may be in use where no lock tells.
GRACE = timedelta(hours=1)
_INCOMPLETE = re.compile(r"(?P<etag>.+?)(?:\.[0-9a-f]{8})?\.incomplete")
_TEMPORARY_REF = re.compile(r".+\.[0-9a-f]{8}\.tmp")
_TEMPORARY_BLOB = re.compile(r"tmp_[0-9a-f-]{36}|\.[0-9a-f]+\.[0-9a-f]{8}\.shared")
# Files that are worth nothing where there is nothing else: what a commit holds, and what it does not.
_BESIDE = {"trees", ".no_exist"}
_SHORT = 12
_MIGRATES = "`modelctl migrate` goes on with it"
_UNTOLD = "no lock tells whether it is in use, and it is young"
_YOUNG = "it is so young that it may be in use"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Things of one kind that nobody needs, of one model, or of none (`id`).

    `size` are the bytes that the disk would give back, `modified` is the last sign of life. `stays` is the reason to
    leave it alone for now; `commits` are those of revisions.
    """

    kind: Kind
    id: str | None
    paths: tuple[Path, ...]
    why: str
    size: int = 0
    modified: datetime | None = None
    stays: str | None = None
    commits: tuple[str, ...] = ()


def of_model(there: Links, *, patience: timedelta) -> list[Leftover]:
    """The leftovers of one model. What could go on where it was interrupted stays until `patience` is over."""
    paths = there.paths
    if not deletion.is_folder(paths.folder):
        return []
    begun = [_patient(left, paths, patience) for left in _weighed([*_pull(there), *_brought(there)])]
    found = [
        *begun,
        *_downloads(there),
        *_weighed(_own_temporaries(paths)),
        *_weighed(_foreign_temporaries(there), GRACE, _YOUNG),
        *_orphans(there, waiting=next((left.stays for left in begun if left.kind in {"migration", "import"}), None)),
        *_weighed(_empty(there), GRACE, _YOUNG),
    ]
    in_use = _in_use(paths) if found else None
    return [replace(left, stays=in_use) for left in found] if in_use else found


def may_have_any(model: Model) -> bool:
    """Whether a closer look at a model that was scanned is worth it. This one reads names, in a tenth of the time.

    Of its revisions only those count of which something is written down.
    """
    names = {part: _names(f"{model.path}/{part}") for part in ("", "blobs", "trees")}
    files = [file for revision in model.revisions for file in revision.files]
    shown = {file.content for file in files if file.content not in {None, file.entry}}
    refs = [name for revision in model.revisions for name in revision.refs]
    return (
        not files
        or ".modelctl" in names[""]
        or len(names["blobs"]) > len(shown)
        or not all(map(layout.is_digest, names["blobs"]))
        or any(name.endswith(".tmp") for name in (*names["trees"], *refs))
    )


def is_empty(folder: Path, *, but: Container[Path] = ()) -> bool:
    """Whether a repository folder holds nothing `but` some paths: no revision, no ref, no content."""
    try:
        return not any(_is_something(path, but) for path in folder.iterdir() if path.name not in _BESIDE)
    except OSError:
        return False


def blob_of(paths: RepoPaths, path: Path) -> str | None:
    """The blob that a file of the blobs folder is, or is to be, by the name of its lock; `None` for any other file."""
    if path.parent != paths.blobs:
        return None
    match = _INCOMPLETE.fullmatch(path.name)
    return match["etag"] if match else path.name


def weighed(left: Leftover) -> Leftover:
    """The leftover with its bytes and its age."""
    newest = max((deletion.newest(path) for path in left.paths), default=0.0)
    return replace(left, size=deletion.weigh(left.paths)[1], modified=inventory.moment(newest))


def is_young(left: Leftover, limit: timedelta) -> bool:
    """Whether it was touched less than so long ago; what has a time to come, or none, may be."""
    return left.modified is None or datetime.now(UTC) - left.modified < limit


def _is_something(path: Path, but: Container[Path]) -> bool:
    """Whether there is more at a path than folders in folders."""
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in but:
            continue
        if not deletion.is_folder(current):
            return True
        waiting += current.iterdir()
    return False


def _weighed(found: Iterable[Leftover], limit: timedelta | None = None, stays: str | None = None) -> list[Leftover]:
    lefts = [weighed(left) for left in found]
    return [replace(left, stays=stays) if limit and is_young(left, limit) else left for left in lefts]


def _patient(left: Leftover, paths: RepoPaths, patience: timedelta) -> Leftover:
    """What could go on, with the command that does it while there is patience."""
    if left.kind == "temporary":
        return left
    pull = pulls.record(paths)
    if pull and pull.owner and pull.owner.host != socket.gethostname() and is_young(left, GRACE):
        return replace(left, stays=f"{pull.owner} may be at work on it")
    if not patience or not is_young(left, patience):
        return left
    if left.kind == "migration":
        return replace(left, stays=_MIGRATES)
    if left.kind == "import":
        record = imports.record(paths)
        return replace(left, stays=f"`{imports.command(paths, record)}` goes on with it") if record else left
    again = pulls.again(paths, pull) if pull else pulls.command(paths, "main")
    return replace(left, stays=f"`{again}` goes on with it")


def _in_use(paths: RepoPaths) -> str | None:
    """Who is at work on the model, apart from this process."""
    pull, holder = pulls.record(paths), lock.holder(paths)
    for owner in (holder, pull.owner if pull else None):
        if owner is not None and owner.pid != os.getpid() and process.is_alive(owner):
            return f"{owner} is at work on it"
    if holder is None and downloads.is_held(paths.lock):
        return "another process is at work on it"
    try:
        downloads.refuse(paths)
    except BusyError:
        return "another Hugging Face tool is downloading it"
    return None


def _pull(there: Links) -> Iterator[Leftover]:
    """A pull that was interrupted, with what it has brought and no revision shows."""
    paths = there.paths
    parts = disposal.pull_parts(paths)
    partial = _files(paths.partials)
    if not (partial or paths.pull_record in parts) or not deletion.is_folder(paths.private):
        return
    pull = pulls.record(paths)
    if pull is None:
        vouched = any(journal.received(paths, path.name) for path in partial)
        why = "an interrupted pull" if vouched else "a pull that was killed left it"
        yield Leftover("pull" if vouched else "temporary", paths.id, tuple(parts), why)
        return
    if _is_legible(there):
        brought = disposal.used(there) - disposal.used(there, with_pull=False)
        parts += [there.blobs[digest].path for digest in sorted(brought & set(there.blobs))]
        listing = paths.tree(pull.commit)
        if is_commit(pull.commit) and pull.commit not in {*there.snapshots, *there.refs.values()} and listing.exists():
            parts.append(listing)
    download = pulls.progress(paths, pull)
    far = f", {download.done * 100 // download.total} % done" if download.total else ""
    yield Leftover("pull", paths.id, tuple(parts), f"an interrupted pull of {pull.commit[:_SHORT]}{far}")


def _brought(there: Links) -> Iterator[Leftover]:
    """What a migration or an import was bringing when it was interrupted."""
    paths = there.paths
    kinds: tuple[tuple[Kind, Path, str], ...] = (
        ("migration", paths.incoming, "an interrupted migration"),
        ("import", paths.imported, "an interrupted import"),
    )
    for kind, folder, why in kinds:
        if deletion.is_folder(paths.private) and disposal.exists(folder):
            yield Leftover(kind, paths.id, (folder,), why)


def _downloads(there: Links) -> Iterator[Leftover]:
    """Unfinished blobs of huggingface_hub. It never goes on with them: the next download begins anew."""
    why = "a download by another tool was interrupted"
    free = []
    for path in there.unfinished:
        digest = blob_of(there.paths, path)
        if digest is None or digest == path.name:
            continue
        one = weighed(Leftover("download", there.paths.id, (path,), why))
        with downloads.held_off(there.paths, digest) as is_free:
            if is_free is False:
                yield replace(one, stays="another Hugging Face tool is downloading it")
            elif is_free is None and is_young(one, GRACE):
                yield replace(one, stays=_UNTOLD)
            else:
                free.append(path)
    if free:
        yield weighed(Leftover("download", there.paths.id, tuple(free), why))


def _own_temporaries(paths: RepoPaths) -> Iterator[Leftover]:
    """What our own killed writers left. Whoever else writes there holds the model's lock."""
    found = [path for path in _files(paths.private) if path.name.startswith(".") and path.name.endswith(".tmp")]
    found += [record for commit, record in standing.records(paths) if not disposal.exists(paths.snapshot(commit))]
    if found:
        yield Leftover("temporary", paths.id, tuple(found), "a writer that was killed left it")


def _foreign_temporaries(there: Links) -> Iterator[Leftover]:
    """What killed writers of huggingface_hub left. Nobody can tell whether one of them is still in use."""
    paths = there.paths
    found = [path for path in _files(paths.folder / "trees") if path.name.endswith(".tmp")]
    found += [paths.ref(name) for name in there.refs if _TEMPORARY_REF.fullmatch(name)]
    names = (*there.unfinished, *(blob.path for blob in there.blobs.values()))
    found += [path for path in names if _TEMPORARY_BLOB.fullmatch(path.name)]
    if found:
        yield Leftover("temporary", paths.id, tuple(found), "a writer that was killed left it")


def _orphans(there: Links, *, waiting: str | None) -> Iterator[Leftover]:
    """Contents that no revision uses. Only where every revision can be read: what cannot might use anything."""
    if not _is_legible(there):
        return
    paths = there.paths
    unused = {name for name in there.blobs if layout.is_digest(name)} - disposal.used(there)
    left = Leftover("orphan", paths.id, tuple(there.blobs[name].path for name in sorted(unused)), "no revision uses it")
    if not unused:
        return
    if waiting:
        yield replace(weighed(left), stays=waiting)
        return
    known = [name for name in unused if _has_lock(paths, name)]
    for names in (set(known), unused - set(known)):
        part = replace(left, paths=tuple(there.blobs[name].path for name in sorted(names)))
        limit = None if names == set(known) else GRACE
        yield from _weighed([part] if names else [], limit, _UNTOLD)


def _has_lock(paths: RepoPaths, digest: str) -> bool:
    with downloads.held_off(paths, digest) as is_free:
        return is_free is not None


def _empty(there: Links) -> Iterator[Leftover]:
    folder = there.paths.folder
    if is_empty(folder):
        yield Leftover("empty", there.paths.id, (folder,), "there is nothing in it")


def _is_legible(there: Links) -> bool:
    return not (there.unreadable or there.misplaced)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - a Path costs more than the call
    except OSError:
        return []


def _files(folder: Path) -> list[Path]:
    """The files of a folder, sorted; none where it is a link, or cannot be read."""
    try:
        return sorted(path for path in folder.iterdir()) if deletion.is_folder(folder) else []
    except OSError:
        return []
