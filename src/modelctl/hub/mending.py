"""Fetching again what a verification has found to be missing or wrong, and nothing else.

The wrong bytes keep their name until the right ones are proven: a mending that fails leaves everything as it was.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from modelctl.ref import ModelRef, is_commit, is_model_id
from modelctl.store import shared, standing
from modelctl.store.findings import Damage, Use, Verified
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
        for use in _chosen(verified, damage):
            files.setdefault(use.commit, {})[use.name] = damage.stamp
    payloads = frozenset(damage.payload for damage in verified.damages if damage.payload is not None)
    return Mending(paths, files, payloads)


def is_mendable(verified: Verified, damage: Damage) -> bool:
    """Whether a Hub may have what is damaged."""
    return any(True for _ in _chosen(verified, damage))


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


def _plan(
    paths: RepoPaths, commit: str, names: Mapping[str, Stamp | None], hub: Hub, caches: Sequence[Path]
) -> PullPlan:
    return planning.plan(hub, paths.hub, ModelRef(paths.id, commit), choice=Choice(mend=names), caches=caches)


def _chosen(verified: Verified, damage: Damage) -> Iterator[Use]:
    """The entries for which a damaged content has to be brought.

    One of them will do where all lead to the blob that bears its hash: best one that a branch or tag names.
    """
    paths, commits = verified.model.paths, verified.model.commits
    uses = [use for use in damage.uses if is_commit(use.commit) and standing.imported_from(paths, use.commit) is None]
    if not is_model_id(paths.id) or not uses:
        return
    if damage.path == paths.blob(damage.expected or ""):
        yield max(uses, key=lambda use: bool(commits.get(use.commit)))
    else:
        yield from uses
