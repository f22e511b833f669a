"""Fetching again what a verification has found to be missing or wrong, and nothing else.

The wrong bytes keep their name until the right ones are proven: a mending that fails leaves everything as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl.hub import plan as planning
from modelctl.hub import pull as pulls
from modelctl.hub import room
from modelctl.hub.client import Hub
from modelctl.hub.plan import Choice, PullPlan
from modelctl.hub.pull import PullResult
from modelctl.hub.workers import Limits
from modelctl.progress import Progress
from modelctl.ref import ModelRef
from modelctl.store import changes, deletion, disposal, lock, remedy, shared
from modelctl.store import pulls as records
from modelctl.store.findings import Verified
from modelctl.store.layout import RepoPaths
from modelctl.store.proof import Stamp


@dataclass(frozen=True, slots=True)
class Mending:
    """What has to be brought into one model: the files of each commit that show what is wrong.

    A content that several revisions show is brought for one of them.
    """

    paths: RepoPaths
    files: Mapping[str, Mapping[str, Stamp | None]]
    payloads: frozenset[Path]


def plan(verified: Verified) -> Mending:
    """Find out what could be brought: not what was imported, and not what no file of a commit shows."""
    paths, files = verified.model.paths, dict[str, dict[str, Stamp | None]]()
    for damage in verified.damages:
        for use in remedy.from_hub(verified, damage):
            files.setdefault(use.commit, {})[use.name] = damage.stamp
    payloads = frozenset(damage.payload for damage in verified.damages if damage.payload is not None)
    return Mending(paths, files, payloads)


def finish(verified: Verified) -> None:
    """Take away what a mending has left that was killed when all was mended."""
    paths = verified.model.paths
    pull = records.record(paths)
    is_ours = pull is not None and pull.mends and pull.commit in verified.model.commits
    if is_ours or (pull is None and _is_empty(paths)):
        with lock.held(paths, "verify --repair"):
            changes.free(disposal.pull_parts(paths) if is_ours else ())
            changes.tidy(paths)


def execute(
    mending: Mending, hub: Hub, progress: Progress, *, limits: Limits, caches: Sequence[Path]
) -> list[PullResult]:
    """Bring the files of a model, proven, each to its place by one rename. Raises what stopped it."""
    results = []
    for commit, names in mending.files.items():
        planned = _plan(mending.paths, commit, names, hub, caches)
        room.check([planned])
        results.append(pulls.execute(planned, hub, progress, limits=limits))
    if mending.payloads:
        # What several models shared and this one does no longer is theirs, or nobody's.
        known = shared.users(mending.paths.hub)
        for payload in mending.payloads:
            shared.release(mending.paths.hub, payload, known)
    return results


def _is_empty(paths: RepoPaths) -> bool:
    """Whether nothing is left in the folder that is modelctl's own, but what a killed writer leaves there."""
    if not deletion.is_folder(paths.private):
        return False
    return all(path == paths.partials or path.suffix == ".tmp" for path in paths.private.iterdir())


def _plan(
    paths: RepoPaths, commit: str, names: Mapping[str, Stamp | None], hub: Hub, caches: Sequence[Path]
) -> PullPlan:
    return planning.plan(hub, paths.hub, ModelRef(paths.id, commit), choice=Choice(mend=names), caches=caches)
