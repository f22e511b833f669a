"""Bringing a planned model into the project: blobs, then snapshot entries, then the ref."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl import process
from modelctl.errors import ModelctlError, NoRoomError
from modelctl.hub import client, transfer
from modelctl.hub.client import Hub
from modelctl.hub.plan import PlannedFile, PullPlan, is_plain_entry, is_present
from modelctl.hub.transfer import Blob
from modelctl.hub.workers import Limits, Workers
from modelctl.progress import Progress
from modelctl.ref import ModelRef
from modelctl.store import changes, disk, lock, reading, standing, tree
from modelctl.store.layout import RepoPaths, link_target

# Longer than a commit, so that what follows one is seen.
_LONGEST_REF = 64
# What folders, links and journals need beside the blobs.
_MARGIN = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did: bytes that crossed the network, and how long it took."""

    id: str
    commit: str
    path: Path
    files: int
    size: int
    fetched: int
    seconds: float


def execute(
    planned: PullPlan,
    hub: Hub,
    progress: Progress,
    *,
    limits: Limits,
) -> PullResult:
    """Fetch what the plan names and let it be seen: blobs, then snapshot entries, then the ref.

    Waits for another pull of the same model. Raises what stopped it; what has arrived stays, and the next pull goes on.
    """
    began, paths = time.monotonic(), planned.paths
    if _is_settled(planned):
        # Nothing to write: so also in a store that may only be read.
        return _result(planned, began, fetched=0)
    changes.make_hub(paths.hub)

    def wait(owner: process.Owner | None) -> None:
        progress.say(f"`{planned.id}` is in use by {owner or 'another process'}; waiting for it")

    fetched = 0
    with lock.held(paths, "pull", wait=wait):
        wanted = [file for file in planned.files if planned.force or not is_present(paths, planned.commit, file)]
        changes.refuse_links(paths, _written(planned))
        if wanted:
            _check_room(planned)
            _write_record(planned)
        if wanted or not planned.has_tree:
            tree.write(paths, planned.commit, planned.tree)
        if wanted:
            fetched = _fetch(planned, wanted, hub, progress, limits=limits)
        _publish(planned)
        paths.pull_record.unlink(missing_ok=True)
        changes.tidy(paths)
    return _result(planned, began, fetched=fetched)


def _result(planned: PullPlan, began: float, *, fetched: int) -> PullResult:
    seconds = time.monotonic() - began
    return PullResult(planned.id, planned.commit, planned.snapshot, len(planned.files), planned.size, fetched, seconds)


def _written(planned: PullPlan) -> Iterator[Path]:
    """A path in every folder of the model that a pull writes into."""
    paths, commit = planned.paths, planned.commit
    yield from (paths.blob("any"), paths.partial("any"), paths.pull_record, paths.tree(commit))
    yield from (paths.entry(commit, file.name) for file in planned.files)
    if planned.ref is not None:
        yield paths.ref(planned.ref)


def _is_settled(planned: PullPlan) -> bool:
    """Whether all of it is there to be seen already, and nothing of an unfinished pull."""
    paths = planned.paths
    return (
        planned.has_tree
        and not planned.force
        and all(file.source == "present" for file in planned.files)
        and all(_is_shown(paths, planned.commit, file) for file in planned.files)
        and _is_named(planned)
        and _is_tidy(paths)
    )


def _is_tidy(paths: RepoPaths) -> bool:
    """Whether nothing of an unfinished pull is left, be it an empty folder: notes on revisions may be there."""
    if not paths.private.is_dir():
        return True
    return {entry.name for entry in paths.private.iterdir()} == {paths.standings.name}


def _is_named(planned: PullPlan) -> bool:
    """Whether the ref names the commit, or it is known that the commit itself was asked for, if that can be written."""
    paths = planned.paths
    if planned.ref is not None:
        return _read_ref(paths, planned.ref) == planned.commit
    return standing.is_pinned(paths, planned.commit) or not os.access(paths.folder, os.W_OK)


def _is_shown(paths: RepoPaths, commit: str, file: PlannedFile) -> bool:
    """Whether the snapshot entry leads to the file's blob, or is the file."""
    entry = paths.entry(commit, file.name)
    if entry.is_symlink():
        return str(entry.readlink()) == link_target(file.name, file.digest)
    return is_plain_entry(paths, commit, file)


def _check_room(planned: PullPlan) -> None:
    needed, free = planned.to_fetch + _MARGIN, disk.free(planned.paths.hub)
    if needed > free:
        raise NoRoomError(
            f"`{planned.id}` needs {needed:,} bytes, and the file system of `{planned.paths.hub}` has {free:,} free",
            hint="make room with `modelctl rm`, or name another folder with `--models-dir`",
            needed=needed,
            free=free,
        )


def _write_record(planned: PullPlan) -> None:
    """Say in the store what is being pulled, by whom: what any other terminal shows is read from here."""
    done = planned.size - planned.to_fetch
    record = {
        "schema": 1,
        "commit": planned.commit,
        "revision": planned.revision,
        "files": [file.name for file in planned.files],
        "total": planned.size,
        "done_before": done,
        "owner": process.to_json(process.this_process("pull")),
    }
    changes.write_file(planned.paths.pull_record, json.dumps(record))


def _fetch(
    planned: PullPlan,
    wanted: Sequence[PlannedFile],
    hub: Hub,
    progress: Progress,
    *,
    limits: Limits,
) -> int:
    ref = ModelRef(planned.id, planned.revision)
    blobs = {
        file.digest: Blob(
            file.name,
            file.digest,
            file.size,
            transfer.blob_target(hub.endpoint, planned.id, planned.commit, file.name, hub.token),
        )
        for file in wanted
    }
    present = planned.size - sum(blob.size for blob in blobs.values())
    progress.begin(f"pulling {planned.id}", total=planned.size)

    def refusal(status: int, code: str | None) -> ModelctlError:
        return client.failure(hub, ref, status, code)

    workers = Workers(planned.paths, refusal, limits=limits, force=planned.force)
    workers.run(list(blobs.values()), progress, resumed=planned.resumed, base=present)
    small = [planned.paths.blob(blob.digest) for blob in blobs.values() if blob.size <= transfer.SMALL]
    changes.make_durable(small)
    return workers.fetched


def _publish(planned: PullPlan) -> None:
    """Let the snapshot be seen, then the ref that names it. What is there already is left alone."""
    paths, commit = planned.paths, planned.commit
    changes.make_folder(planned.snapshot)
    folders = {planned.snapshot}
    for file in planned.files:
        if not is_plain_entry(paths, commit, file):
            changes.publish_entry(paths, commit, file.name, file.digest)
            folders.add(paths.entry(commit, file.name).parent)
    for folder in folders:
        changes.sync_folder(folder)
    if planned.ref is None:
        standing.pin(paths, commit)
        return
    old = _read_ref(paths, planned.ref)
    if old != commit:
        standing.leave_behind(paths, old, ref=planned.ref, successor=commit)
        changes.write_file(paths.ref(planned.ref), commit, via=paths.private)
    standing.renew(paths, commit)


def _read_ref(paths: RepoPaths, name: str) -> str | None:
    content = reading.head(paths.ref(name), _LONGEST_REF)
    return None if content is None else content.decode("ascii", "replace")
