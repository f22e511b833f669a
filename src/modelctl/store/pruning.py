"""Taking away what nobody needs: plan, execute.

What goes of a model is set aside under its lock and freed afterwards, as a removal does it: whoever is killed in
between leaves something that the next removal or pruning frees.
"""

import contextlib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from modelctl.errors import BusyError, ModelctlError
from modelctl.progress import Progress
from modelctl.store import (
    changes,
    disposal,
    downloads,
    leftovers,
    links,
    lock,
    naming,
    remains,
    shared,
    superseded,
    trash,
)
from modelctl.store.disposal import Failure
from modelctl.store.layout import RepoPaths
from modelctl.store.remains import Leftover
from modelctl.store.superseded import Choice
from modelctl.store.trash import Aside

# For so long a pull that was interrupted waits for the one that goes on with it.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class PruningPlan:
    """What goes, and what stays for now, each with its reason.

    What could go on stays until it is older than `patience`; `revisions` is `None` where none of them go.
    """

    hub: Path
    patience: timedelta
    revisions: Choice | None
    going: tuple[Leftover, ...]
    staying: tuple[Leftover, ...]

    @property
    def size(self) -> int:
        """Bytes that the disk gives back."""
        return sum(left.size for left in self.going)


@dataclass(frozen=True, slots=True)
class PruningResult:
    """What has gone of the plan, what could not, and the bytes that the disk gave back, counted as they went."""

    pruned: tuple[Leftover, ...]
    failures: tuple[Failure, ...]
    freed: int


def plan(
    hub: Path, *, patience: timedelta, revisions: Choice | None = None, among: Container[str] | None = None
) -> PruningPlan:
    """Find out what goes, of all models or of those `among` them, and of what belongs to none."""
    found = leftovers.find(hub, patience=patience, revisions=revisions, among=among)
    going = tuple(left for left in found if left.stays is None)
    return PruningPlan(hub, patience, revisions, going, tuple(left for left in found if left.stays is not None))


def execute(plan: PruningPlan, progress: Progress) -> PruningResult:
    """Take away what the plan names, as far as it still is what it was. What cannot go is a failure beside the rest."""
    progress.begin("pruning", total=plan.size)
    count = _Count(progress)
    pruned: list[Leftover] = []
    failures: list[Failure] = []
    for lefts in _steps(plan):
        name = lefts[0].id or str(lefts[0].paths[0])
        try:
            _take(plan, lefts, count)
        except ModelctlError as error:
            failures.append(Failure(name, error))
            count.freed += error.details.get("freed", 0)
        else:
            gone = [left for left in lefts if not all(map(disposal.exists, left.paths))]
            pruned += gone
            if gone:
                progress.file(name, size=sum(left.size for left in gone), source="pruned")
    removed = disposal.finish_leftovers(plan.hub, count.tell)
    if not removed.failures:
        pruned += [left for left in plan.going if left.kind == "removed"]
    return PruningResult(tuple(pruned), (*failures, *removed.failures), count.freed + removed.freed)


@dataclass(slots=True)
class _Count:
    """The bytes that the disk gave back so far."""

    progress: Progress
    freed: int = 0

    def tell(self, more: int) -> None:
        self.progress.advance(self.freed + more)

    def finish(self, hub: Path, asides: Sequence[Aside]) -> None:
        for aside in asides:
            self.freed += disposal.finish(hub, aside, self.tell)


def _steps(plan: PruningPlan) -> list[list[Leftover]]:
    """All that goes of each model together, then what belongs to none."""
    by_id: dict[str, list[Leftover]] = {}
    for left in plan.going:
        if left.id is not None and left.kind != "removed":
            by_id.setdefault(left.id, []).append(left)
    return [*by_id.values(), *([left] for left in plan.going if left.id is None and left.kind != "removed")]


def _take(plan: PruningPlan, lefts: Sequence[Leftover], count: _Count) -> None:
    if lefts[0].id is None:
        count.freed += _take_alone(plan.hub, lefts[0])
        return
    paths = next((paths for paths in naming.everything(plan.hub) if paths.id == lefts[0].id), None)
    if paths is None:
        return
    asides: list[Aside] = []
    try:
        with lock.held(paths, "prune"):
            downloads.refuse(paths)
            _set_aside(plan, paths, lefts, asides)
    finally:
        count.finish(plan.hub, asides)


def _set_aside(plan: PruningPlan, paths: RepoPaths, lefts: Sequence[Leftover], asides: list[Aside]) -> None:
    """Take out of sight what was planned and may still go: since then a pull may have gone on, a ref come back."""
    there = links.read(paths)
    free = [left for left in remains.of_model(there, patience=plan.patience) if left.stays is None]
    going = {path for left in free for path in left.paths}
    parts = [path for left in lefts if left.kind != "revision" for path in left.paths if path in going]
    if parts and remains.is_empty(paths.folder, but=set(parts)):
        asides.append(disposal.set_model_aside(paths))
        return
    if parts:
        asides.append(trash.open_parts(paths.hub, paths.folder.name))
    for part in parts:
        _put(asides[0], paths, part)
    if plan.revisions is not None and any(left.commits for left in lefts):
        old = {
            commit for left in superseded.of_model(there, plan.revisions) if not left.stays for commit in left.commits
        }
        commits = [commit for left in lefts for commit in left.commits if commit in old]
        if commits:
            asides.append(disposal.set_revisions_aside(paths, commits, ()))
    changes.tidy(paths)


def _put(aside: Aside, paths: RepoPaths, part: Path) -> None:
    """Set one part aside; what another tool fetches, or might, only while it is kept from that."""
    digest = remains.blob_of(paths, part)
    with contextlib.ExitStack() as stack:
        if digest is not None and stack.enter_context(downloads.held_off(paths, digest)) is False:
            return
        if disposal.exists(part):
            trash.put(aside, paths.folder, part)


def _take_alone(hub: Path, left: Leftover) -> int:
    """Take away what belongs to no model."""
    if left.kind == "orphan":
        return sum(shared.release(hub, path, shared.users(hub)) or 0 for path in left.paths)
    if left.kind == "temporary":
        return changes.free(left.paths)
    for paths in leftovers.gone(hub):
        with contextlib.suppress(BusyError), lock.held(paths, "prune"):
            if not disposal.exists(paths.folder):
                downloads.discard_locks(paths)
    return 0
