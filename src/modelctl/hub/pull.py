"""Bringing a planned model into the project: blobs, then snapshot entries, then the ref."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelctl import process
from modelctl.errors import ModelctlError
from modelctl.hub import client, room, xet
from modelctl.hub.client import Hub
from modelctl.hub.file import PlannedFile, is_plain_entry, is_present, is_shown, is_to_be_proven
from modelctl.hub.plan import PullPlan
from modelctl.hub.small import LARGEST
from modelctl.hub.source import Blob, blob_target
from modelctl.hub.workers import Limits, Workers
from modelctl.progress import Progress
from modelctl.ref import ModelRef
from modelctl.store import borrowed, changes, journal, lock, publishing, standing, tree, twins
from modelctl.store.layout import RepoPaths
from modelctl.store.twins import Twin


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did: bytes that crossed the network, bytes that came from elsewhere on the disk, how long it took."""

    id: str
    commit: str
    path: Path
    files: int
    size: int
    fetched: int
    reused: int
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
    check(planned)
    if _is_settled(planned):
        # Nothing to write: so also in a store that may only be read.
        return _result(planned, began, fetched=0)
    changes.make_hub(paths.hub)

    def wait(owner: process.Owner | None) -> None:
        progress.say(f"`{planned.id}` is in use by {owner or 'another process'}; waiting for it")

    reused, fetched = 0, 0
    with lock.held(paths, _command(planned), wait=wait):
        changes.refuse_links(paths, _written(planned))
        changes.refuse_folders(_named(planned))
        changes.free(twins.spares(paths))
        found, missing = _left(planned)
        if found or missing:
            room.check([_rest(planned, found, missing)])
            _write_record(planned)
        if found or missing or not planned.has_tree:
            tree.write(paths, planned.commit, planned.tree)
        if found or missing:
            progress.begin(f"pulling {planned.id}", total=planned.size)
            proven = _reuse(planned, found, missing, progress)
            reused = sum(twin.size for twin in found if twin.digest in proven and twin.way != "prove")
            wrong = {twin.digest for twin in found} - proven
            wanted = [*missing, *(file for file in planned.files if file.digest in wrong)]
            anew = planned.force or planned.mend is not None or bool(wrong)
            if limits.transport == "xet":
                wanted, fetched = xet.fetch(planned, wanted, hub, progress, limits=limits, anew=anew)
            fetched += _fetch(planned, wanted, hub, progress, limits=limits, anew=anew)
        _publish(planned)
        paths.pull_record.unlink(missing_ok=True)
        changes.tidy(paths)
    return _result(planned, began, fetched=fetched, reused=reused)


def check(planned: PullPlan) -> None:
    """Raise where what has to be written would be written into another store than the project's."""
    if not _is_settled(planned):
        borrowed.refuse(planned.paths)


def _result(planned: PullPlan, began: float, *, fetched: int, reused: int = 0) -> PullResult:
    return PullResult(
        planned.id,
        planned.commit,
        planned.snapshot,
        files=len(planned.files),
        size=planned.size,
        fetched=fetched,
        reused=reused,
        seconds=time.monotonic() - began,
    )


def _left(planned: PullPlan) -> tuple[list[Twin], list[PlannedFile]]:
    """What is left to reuse and to fetch now that nobody else is at it: another pull may have done some of it."""
    paths, found, missing = planned.paths, {}, []
    for file in planned.files:
        twin, is_here = planned.twins.get(file.digest), _is_here(planned, file)
        if planned.mend is not None and is_to_be_proven(paths, file, planned.mend.get(file.name)):
            # Since it was found to be wrong, somebody may have put something else in its place.
            found[file.digest] = twins.own(paths, file.digest, file.size)
        elif twin is None:
            missing += [] if is_here else [file]
        elif twin.way == "prove" and planned.mend is not None:
            missing.append(file)
        elif not (is_shown(paths, planned.commit, file) if twin.way == "prove" else is_here):
            found[file.digest] = twin
    return list(found.values()), missing


def _is_here(planned: PullPlan, file: PlannedFile) -> bool:
    """Whether a file is there as far as its size tells, where that counts."""
    return not planned.force and planned.mend is None and is_present(planned.paths, planned.commit, file)


def _command(planned: PullPlan) -> str:
    return "pull" if planned.mend is None else "verify --repair"


def _rest(planned: PullPlan, found: Sequence[Twin], missing: Sequence[PlannedFile]) -> PullPlan:
    """The plan as it stands after another pull of the same has done a part of it."""
    sizes = {file.digest: file.size for file in missing}
    resumed = {digest: journal.received(planned.paths, digest, size=size) for digest, size in sizes.items()}
    return replace(
        planned,
        to_fetch=sum(sizes.values()) - sum(resumed.values()),
        resumed=resumed,
        twins={twin.digest: twin for twin in found},
    )


def _written(planned: PullPlan) -> Iterator[Path]:
    """A path in every folder of the model that a pull writes into."""
    paths, commit = planned.paths, planned.commit
    yield from (paths.blob("any"), paths.partial("any"), paths.pull_record, paths.tree(commit))
    yield from (paths.entry(commit, file.name) for file in planned.files)
    if planned.ref is not None:
        yield paths.ref(planned.ref)


def _named(planned: PullPlan) -> Iterator[Path]:
    """What a pull gives a name to, by a rename that would fail when all has been fetched."""
    paths, commit = planned.paths, planned.commit
    for file in planned.files:
        yield from (paths.blob(file.digest), paths.entry(commit, file.name))
    if planned.ref is not None:
        yield paths.ref(planned.ref)


def _is_settled(planned: PullPlan) -> bool:
    """Whether all of it is there to be seen already, and nothing of an unfinished pull."""
    paths = planned.paths
    return (
        planned.has_tree
        and not planned.force
        and all(file.source == "present" for file in planned.files)
        and all(is_shown(paths, planned.commit, file) for file in planned.files)
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
    if planned.mend is not None:
        return True
    if planned.ref is not None:
        return publishing.named(paths, planned.ref) == planned.commit
    return standing.is_pinned(paths, planned.commit) or not os.access(paths.folder, os.W_OK)


def _write_record(planned: PullPlan) -> None:
    """Say in the store what is being pulled, by whom: what any other terminal shows is read from here."""
    reused = sum(twin.size for twin in planned.twins.values() if twin.way != "prove")
    record = {
        "schema": 1,
        "commit": planned.commit,
        "revision": planned.revision,
        "files": [file.name for file in planned.files],
        "total": planned.size,
        "done_before": planned.size - planned.to_fetch - reused,
        "owner": process.to_json(process.this_process(_command(planned))),
    }
    if planned.mend is not None:
        record["mends"] = True
    changes.write_file(planned.paths.pull_record, json.dumps(record))


def _reuse(
    planned: PullPlan, found: Sequence[Twin], missing: Sequence[PlannedFile], progress: Progress
) -> frozenset[str]:
    """Take what the disk has elsewhere, each proven; the digests of what was as it should be."""
    if not found:
        return frozenset()
    paths, names = planned.paths, {file.digest: file.name for file in planned.files}
    base = planned.size - _size(missing) - sum(twin.size for twin in found)
    proven = twins.bring(paths, found, progress, base=base)
    for twin in found:
        if twin.digest in proven:
            progress.file(names[twin.digest], size=twin.size, source="reused")
        else:
            progress.say(f"`{twin.path}` is not what `{names[twin.digest]}` should be, so that is fetched")
    changes.make_durable([paths.blob(twin.digest) for twin in found if twin.digest in proven])
    return proven


def _fetch(
    planned: PullPlan, wanted: Sequence[PlannedFile], hub: Hub, progress: Progress, *, limits: Limits, anew: bool
) -> int:
    """Fetch files, `anew` also where something has their names already, and return the bytes that came."""
    if not wanted:
        return 0
    ref = ModelRef(planned.id, planned.revision)
    blobs = {
        file.digest: Blob(
            file.name,
            file.digest,
            file.size,
            blob_target(hub.endpoint, planned.id, planned.commit, file.name, hub.token),
        )
        for file in wanted
    }

    def refusal(status: int, code: str | None) -> ModelctlError:
        return client.failure(hub, ref, status, code)

    workers = Workers(planned.paths, refusal, limits=limits, force=anew)
    workers.run(list(blobs.values()), progress, resumed=planned.resumed, base=planned.size - _size(wanted))
    changes.make_durable([planned.paths.blob(blob.digest) for blob in blobs.values() if blob.size <= LARGEST])
    return workers.fetched


def _size(files: Sequence[PlannedFile]) -> int:
    return sum({file.digest: file.size for file in files}.values())


def _publish(planned: PullPlan) -> None:
    """Let the snapshot be seen, then the ref that names it. What is there already is left alone, but what is mended."""
    paths, commit = planned.paths, planned.commit
    changes.make_folder(planned.snapshot)
    folders = {planned.snapshot}
    for file in planned.files:
        if planned.mend is not None or not is_plain_entry(paths, commit, file):
            changes.publish_entry(paths, commit, file.name, file.digest)
            folders.add(paths.entry(commit, file.name).parent)
    for folder in folders:
        changes.sync_folder(folder)
    if planned.mend is not None:
        return
    if planned.ref is None:
        standing.pin(paths, commit)
        return
    publishing.name(paths, planned.ref, commit)
