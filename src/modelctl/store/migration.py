"""Moving or copying models from one hub folder to another: plan, execute.

On the same file system a model that the target lacks is renamed. Else its blobs are given a second name there, or
copied and hashed; then come the snapshots, each by one rename, then the refs; and only when all of that is proven to be
there does the source let go of it.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl.errors import BusyError, ModelctlError, NoRoomError, NotAllowedError, NotFoundError, UsageError
from modelctl.progress import Progress
from modelctl.store import (
    arrival,
    changes,
    departure,
    disk,
    disposal,
    downloads,
    links,
    lock,
    moving,
    obstacles,
    removal,
    route,
    shared,
    trash,
)
from modelctl.store.crew import Tell
from modelctl.store.disposal import Failure
from modelctl.store.links import Links
from modelctl.store.moving import Way
from modelctl.store.removal import Target
from modelctl.store.route import Move, Terms
from modelctl.store.trash import Aside

# What folders, links and refs need beside the blobs.
_MARGIN = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a migration will do. `free` bytes has the target's file system, `frees` bytes the source's gets back.

    `leftovers` is what the source has let go of before and is still to be freed. `needed_by` are, by folder, the ids of
    models of the source whose links lead into it: they have to go first.
    """

    source: Path
    target: Path
    terms: Terms
    moves: tuple[Move, ...]
    skipped: tuple[Failure, ...]
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
        return not self.writes or self.writes + _MARGIN <= self.free

    @property
    def reads(self) -> int:
        """Bytes that are hashed on their way."""
        return sum(move.reads for move in self.moves)


@dataclass(frozen=True, slots=True)
class Moved:
    """A model that has come to the target, by the way that was gone in the end."""

    move: Move
    way: Way
    freed: int


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
    users = shared.users_if_any(source)
    leftovers = () if terms.keeps else trash.leftovers(source)
    for wanted in targets:
        if not disposal.exists(wanted.paths.folder):
            continue
        there = links.read(wanted.paths)
        try:
            obstacles.refuse(there, keep=terms.keeps)
            begun = {name: ref for aside in leftovers for name, ref in _refs(aside, wanted).items()}
            move = route.plan(there, wanted, target, terms=terms, users=users, begun=begun)
            if move is not None:
                moves.append(move)
        except NotFoundError:
            raise
        except ModelctlError as error:
            skipped.append(Failure(wanted.paths.id, error))
    needed_by: departure.Needed = {}
    if not terms.keeps:
        leaving = departure.plan(source, moves, (target, *others))
        moves, needed_by = list(leaving.moves), leaving.needed_by
        skipped += leaving.held_back
    frees = 0 if terms.keeps else _frees(source, [move for move in moves if move.way == "copy"])
    return MigrationPlan(
        source, target, terms, tuple(moves), tuple(skipped), leftovers, disk.free(target), frees, needed_by
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
                departure.refuse(move, plan.needed_by, {each.move.source.id for each in moved})
            result = _execute(move, tell, users, terms=plan.terms)
        except ModelctlError as error:
            failures.append(Failure(move.source.id, error))
            if isinstance(error, NoRoomError):
                break
        else:
            moved.append(result)
            progress.file(move.source.id, size=move.size, source=_DONE[plan.terms.mode])
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
            hint="stop it, then run the same command again",
        )


_DONE = {"move": "moved", "copy": "copied", "link": "linked", "symlink": "linked"}


def check_room(plan: MigrationPlan) -> None:
    """`NoRoomError` where the target's file system cannot take what has to be written."""
    free = disk.free(plan.target)
    if plan.writes and plan.writes + _MARGIN > free:
        raise NoRoomError(
            f"{plan.writes:,} bytes have to be written to the file system of `{plan.target}`, which has {free:,} free",
            hint="make room with `modelctl rm`, or migrate one model at a time",
            needed=plan.writes,
            free=free,
        )


def _refuse_nested(source: Path, target: Path) -> None:
    """One hub folder inside the other would be moved into itself."""
    one, other = source.resolve(), target.resolve()
    if one in other.parents or other in one.parents:
        raise UsageError(
            f"`{target}` and `{source}` lie one in the other", hint="name two folders of which none holds the other"
        )


def _frees(source: Path, moves: Sequence[Move]) -> int:
    targets = [Target(move.source, () if move.whole else move.commits) for move in moves]
    return removal.plan(source, targets).frees if targets else 0


def _execute(move: Move, tell: Tell, users: shared.Users, *, terms: Terms) -> Moved:
    """Bring one model over, under the locks of both sides, and free what the source has let go of."""
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock.held(move.target, "migrate"))
        # Who may only read the source has no lock to take there; what changes meanwhile is found by its hash.
        with contextlib.suppress(*[NotAllowedError] if terms.keeps else []):
            locks.enter_context(lock.held(move.source, "migrate"))
        for paths in (move.source, move.target):
            downloads.refuse(paths)
        there = links.read(move.source)
        if not there.snapshots.keys() >= set(move.commits):
            raise NotFoundError(
                f"`{move.source.id}` has gone in the meantime, or a revision of it",
                hint="`modelctl list` shows what is there",
            )
        way = _bring(there, move, tell, users, terms=terms)
        aside = None if terms.keeps or way == "rename" else _let_go(there, move)
    freed = disposal.finish(move.source.hub, aside, lambda _: None, users=users) if aside else 0
    return Moved(move, way, freed)


def _bring(there: Links, move: Move, tell: Tell, users: shared.Users, *, terms: Terms) -> Way:
    """Let the target have the model, and return the way that it came in the end."""
    way = move.way
    if way in {"rename", "symlink"} and terms.verify:
        moving.prove(there, move.commits, tell)
    if way == "symlink":
        moving.link_folder(there, move.target)
        return way
    if way == "rename":
        if moving.rename(there, move.target, users):
            return way
        way = "copy"
        _check_room_for(there, move)
    arrival.transfer(there, move.target, move.commits, move.refs, tell, way=way)
    return way


def _let_go(there: Links, move: Move) -> Aside:
    """Take out of the source what has come to the target, and nothing that came to the source meanwhile."""
    downloads.refuse(move.source)
    now = links.read(move.source)
    if any(now.snapshots.get(commit) != there.snapshots[commit] for commit in move.commits):
        raise BusyError(
            f"`{move.source.id}` has changed while it was copied", hint="run the same command again: it brings the rest"
        )
    if now.snapshots.keys() <= set(move.commits) and not obstacles.foreign(now):
        return disposal.set_model_aside(move.source)
    refs = [name for name, commit in now.refs.items() if commit in move.commits]
    return disposal.set_revisions_aside(move.source, move.commits, refs)


def _check_room_for(there: Links, move: Move) -> None:
    """A rename was planned and is not possible after all: what it would not have cost has to be there."""
    needed = sum(content.size for content in moving.contents(there, set(move.commits)))
    free = disk.free(move.target.hub)
    if needed + _MARGIN > free:
        raise NoRoomError(
            f"`{move.source.id}` has to be copied after all, which needs {needed:,} bytes, and {free:,} are free",
            hint="make room with `modelctl rm`, then run the same command again",
            needed=needed,
            free=free,
        )
