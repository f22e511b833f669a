"""Moving or copying models from one hub folder to another: plan, execute.

On the same file system a model that the target lacks is renamed. Else its blobs are given a second name there, or
copied and hashed; then come the snapshots, each by one rename, then the refs; and only when all of that is proven to be
there does the source let go of it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelctl.errors import BusyError, ModelctlError, NoRoomError, NotFoundError, UsageError
from modelctl.progress import Progress
from modelctl.store import (
    arrivals,
    changes,
    departure,
    disk,
    disposal,
    links,
    obstacles,
    passage,
    removal,
    route,
    shared,
    trash,
)
from modelctl.store.disposal import Failure
from modelctl.store.passage import Moved
from modelctl.store.removal import Target
from modelctl.store.route import Move, Terms
from modelctl.store.trash import Aside


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a migration will do. `free` bytes has the target's file system, `frees` bytes the source's gets back.

    `arrived` are revisions that are in the target and not in the source any more. `leftovers` is what the source has
    let go of before and is still to be freed. `needed_by` are, by folder, the ids of models of the source whose links
    lead into it: they have to go first.
    """

    source: Path
    target: Path
    terms: Terms
    moves: tuple[Move, ...]
    skipped: tuple[Failure, ...]
    arrived: tuple[str, ...]
    leftovers: tuple[Aside, ...]
    free: int
    frees: int
    needed_by: departure.Needed

    @property
    def size(self) -> int:
        """Bytes of content that come to the target."""
        return sum(move.size for move in self.moves)

    @property
    def writes(self) -> int:
        """Bytes that have to be written."""
        return sum(move.writes for move in self.moves)

    @property
    def has_room(self) -> bool:
        """Whether that fits."""
        return not self.writes or self.writes + passage.MARGIN <= self.free

    @property
    def reads(self) -> int:
        """Bytes that are hashed on their way."""
        return sum(move.reads for move in self.moves)


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """What a migration did, and what both file systems say is free now."""

    moved: tuple[Moved, ...]
    failures: tuple[Failure, ...]
    leftovers_freed: int
    free_source: int
    free_target: int


def plan(
    source: Path, target: Path, targets: Sequence[Target], *, terms: Terms, others: Sequence[Path] = ()
) -> MigrationPlan:
    """Find out how the models of `source` come to `target`. What cannot come is among `skipped`, with its reason.

    `others` are further hub folders that are known: what their links lead to stays where it is.
    """
    _refuse_nested(source, target)
    moves: list[Move] = []
    skipped: list[Failure] = []
    arrived: list[str] = []
    users = shared.users_if_any(source)
    leftovers = () if terms.keeps else trash.leftovers(source)
    for wanted in targets:
        if not disposal.exists(wanted.paths.folder):
            continue
        there = links.read(wanted.paths)
        try:
            obstacles.refuse(there, keep=terms.keeps)
            begun = {name: ref for aside in leftovers for name, ref in _refs(aside, wanted).items()}
            come = {} if terms.keeps else arrivals.of_model(wanted, target)
            move = route.plan(there, wanted, target, terms=terms, begun={**come, **begun})
            if move is not None:
                moves.append(move)
            else:
                arrived += [f"{wanted.paths.id}@{name}" for name in wanted.revisions if name in come]
        except NotFoundError:
            raise
        except ModelctlError as error:
            skipped.append(Failure(wanted.paths.id, error))
    needed_by: departure.Needed = {}
    if not terms.keeps:
        leaving = departure.plan(source, moves, (target, *others))
        moves, needed_by = list(leaving.moves), leaving.needed_by
        skipped += leaving.held_back
    going = [] if terms.keeps else [move for move in moves if move.way == "copy"]
    freed = removal.plan(source, [Target(move.source, () if move.whole else move.commits) for move in going])
    frees = {removed.paths.folder: removed.frees for removed in freed.removals}
    return MigrationPlan(
        source,
        target,
        terms,
        _weighed(moves, users, frees, keeps=terms.keeps),
        tuple(skipped),
        tuple(arrived),
        leftovers,
        disk.free(target),
        freed.frees if going else 0,
        needed_by,
    )


def _refs(aside: Aside, wanted: Target) -> Mapping[str, str]:
    """What an interrupted move has taken out of a model, so that its names still mean what they meant."""
    return links.read(aside.paths).refs if aside.name == wanted.paths.folder.name else {}


def execute(plan: MigrationPlan, progress: Progress, *, busy: Mapping[str, str] | None = None) -> MigrationResult:
    """Do what the plan says. A model that cannot come is a failure beside the rest, and stays where it is whole.

    `busy` says of ids by whom they are being served: a model in use is not moved away.
    """
    check_room(plan)
    if plan.moves:
        changes.make_hub(plan.target)
        progress.begin("moving" if not plan.terms.keeps else "bringing", total=plan.reads or None)
    moved: list[Moved] = []
    failures = list(plan.skipped)
    gone: set[str] = set()
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress.advance(done)

    users = shared.users_if_any(plan.source)
    for move in plan.moves:
        try:
            if not plan.terms.keeps:
                _refuse_served(move, busy or {})
                departure.refuse(move, plan.needed_by, gone)
            result = passage.go(move, tell, users, terms=plan.terms)
        except ModelctlError as error:
            failures.append(Failure(move.source.id, error))
            if isinstance(error, NoRoomError):
                break
        else:
            moved.append(result)
            gone.add(move.source.id)
            progress.file(move.source.id, size=move.size, source=_DONE[plan.terms.mode])
    shared.trim(plan.source, users)
    # Renames are made durable once for all of them: that costs more than they do.
    for hub in (plan.target, plan.source) if any(each.way == "rename" for each in moved) else ():
        changes.sync_folder(hub)
    freed = 0
    if not plan.terms.keeps:
        leftovers = disposal.finish_leftovers(plan.source, lambda _: None)
        freed = leftovers.freed
        failures += leftovers.failures
    free = disk.free(plan.target)
    # Of one file system there is one figure: asked twice, it may have changed in between.
    is_one = disk.device(plan.source) == disk.device(plan.target)
    return MigrationResult(tuple(moved), tuple(failures), freed, free if is_one else disk.free(plan.source), free)


def _refuse_served(move: Move, busy: Mapping[str, str]) -> None:
    if move.source.id in busy:
        raise BusyError(
            f"`{move.source.id}` is being served by {busy[move.source.id]}",
            hint=f"`modelctl stop {move.source.id}` ends that; then run the same command again",
        )


_DONE = {"move": "moved", "copy": "copied", "link": "linked", "symlink": "linked"}


def check_room(plan: MigrationPlan) -> None:
    """`NoRoomError` where the target's file system cannot take what has to be written."""
    free = disk.free(plan.target)
    if plan.writes and plan.writes + passage.MARGIN > free:
        raise NoRoomError(
            f"{plan.writes:,} bytes have to be written to the file system of `{plan.target}`, which has {free:,} free",
            hint="make room with `modelctl rm`, or migrate one model at a time",
            needed=plan.writes,
            free=free,
        )


def _refuse_nested(source: Path, target: Path) -> None:
    """One hub folder inside the other would be moved into itself."""
    one, other = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    if one in other.parents or other in one.parents:
        raise UsageError(
            f"`{target}` and `{source}` lie one in the other", hint="name two folders of which none holds the other"
        )


def _weighed(moves: Sequence[Move], users: shared.Users, frees: Mapping[Path, int], *, keeps: bool) -> tuple[Move, ...]:
    """The moves with what they share with models that stay, and with what the source gets back for each."""
    going = set() if keeps else {move.source.blobs for move in moves if move.whole}
    staying = {named for named, blobs in users.by_payload.items() if any(blob.parent not in going for blob in blobs)}

    def is_shared(named: Path, move: Move) -> bool:
        if move.whole or named not in staying:
            return named in staying
        # What only other revisions of the very model use is no other model's.
        stay = {blob.parent for blob in users.by_payload[named]} - going
        return stay != {move.source.blobs}

    return tuple(
        replace(
            move,
            shared=sum(size for named, size in move.payloads.items() if is_shared(named, move)),
            frees=frees.get(move.source.folder, 0),
        )
        for move in moves
    )
