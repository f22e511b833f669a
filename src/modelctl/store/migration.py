"""Moving or copying models from one hub folder to another: plan, execute.

On the same file system a model that the target lacks is renamed. Else its blobs are given a second name there, or
copied and hashed; then come the snapshots, each by one rename, then the refs; and only when all of that is proven to be
there does the source let go of it.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelctl.errors import BusyError, ModelctlError, NoRoomError, NotFoundError
from modelctl.progress import Progress
from modelctl.store import changes, disk, disposal, downloads, links, lock, moving, obstacles, shared, trash
from modelctl.store.disposal import Failure
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Links
from modelctl.store.removal import Target
from modelctl.store.trash import Aside

Way = Literal["rename", "link", "copy"]
# What folders, links and refs need beside the blobs.
_MARGIN = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Move:
    """How one model comes to the target: all of it (`whole`), or these commits with the refs that name them.

    `size` are bytes of content, `writes` those of them that have to be written. `merges`: the target has the model
    already; `refs_kept` are refs that name another commit there, and go on doing so. `left_out` are bytes of downloads
    that another tool never finished.
    """

    source: RepoPaths
    target: RepoPaths
    way: Way
    whole: bool
    commits: tuple[str, ...]
    refs: tuple[str, ...]
    merges: bool
    size: int
    writes: int
    refs_kept: tuple[str, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a migration will do. `keep`: the source stays as it is. `free` are bytes on the target's file system.

    `leftovers` is what the source has let go of before and is still to be freed.
    """

    source: Path
    target: Path
    keep: bool
    moves: tuple[Move, ...]
    skipped: tuple[Failure, ...]
    leftovers: tuple[Aside, ...]
    free: int

    @property
    def size(self) -> int:
        """Bytes of content that come to the target."""
        return sum(move.size for move in self.moves)

    @property
    def writes(self) -> int:
        """Bytes that have to be written."""
        return sum(move.writes for move in self.moves)


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


def plan(source: Path, target: Path, targets: Sequence[Target], *, keep: bool = False) -> MigrationPlan:
    """Find out how the models of `source` come to `target`. What cannot come is among `skipped`, with its reason."""
    moves: list[Move] = []
    skipped: list[Failure] = []
    for wanted in targets:
        if not disposal.exists(wanted.paths.folder):
            continue
        there = links.read(wanted.paths)
        try:
            obstacles.refuse(there, keep=keep)
            moves.append(_planned(there, wanted, target, keep=keep))
        except NotFoundError:
            raise
        except ModelctlError as error:
            skipped.append(Failure(wanted.paths.id, error))
    leftovers = () if keep else trash.leftovers(source)
    return MigrationPlan(source, target, keep, tuple(moves), tuple(skipped), leftovers, disk.free(target))


def execute(plan: MigrationPlan, progress: Progress, *, busy: Mapping[str, str] | None = None) -> MigrationResult:
    """Do what the plan says. A model that cannot come is a failure beside the rest, and stays where it is whole.

    `busy` says of ids by whom they are being served: a model in use is not moved away.
    """
    check_room(plan)
    if plan.moves:
        changes.make_hub(plan.target)
    progress.begin("copying" if plan.keep else "moving", total=plan.writes or None)
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
            if busy and move.source.id in busy and not plan.keep:
                raise BusyError(
                    f"`{move.source.id}` is being served by {busy[move.source.id]}",
                    hint="stop it, then run the same command again",
                )
            result = _execute(move, tell, users, keep=plan.keep)
        except ModelctlError as error:
            failures.append(Failure(move.source.id, error))
            if isinstance(error, NoRoomError):
                break
        else:
            moved.append(result)
            progress.file(move.source.id, size=move.size, source="copied" if plan.keep else "moved")
    freed = 0
    if not plan.keep:
        leftovers = disposal.finish_leftovers(plan.source, lambda _: None)
        freed = leftovers.freed
        failures += leftovers.failures
    free = disk.free(plan.target)
    # Of one file system there is one figure: asked twice, it may have changed in between.
    is_one = disk.device(plan.source) == disk.device(plan.target)
    return MigrationResult(tuple(moved), tuple(failures), freed, free if is_one else disk.free(plan.source), free)


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


def _planned(there: Links, wanted: Target, hub: Path, *, keep: bool) -> Move:
    target = RepoPaths(hub, wanted.paths.id, wanted.paths.found)
    here = links.read(target)
    commits, refs = _chosen(there, wanted)
    whole = commits == set(there.snapshots)
    merges = disposal.exists(target.folder)
    if merges:
        obstacles.refuse_target(here)
    way: Way = "copy"
    if not keep and disk.is_one_mount(there.paths.folder, hub):
        way = "rename" if whole and not merges and not obstacles.needs_own_links(there) else "link"
    kept = tuple(sorted(name for name in refs if here.refs.get(name, there.refs[name]) != there.refs[name]))
    contents = moving.contents(there, commits)
    return Move(
        there.paths,
        target,
        way,
        whole,
        tuple(sorted(commits)),
        tuple(sorted(refs)),
        merges,
        size=sum(content.size for content in contents),
        writes=sum(content.size for content in contents if not content.is_in(here)) if way == "copy" else 0,
        refs_kept=kept,
        left_out=sum(path.lstat().st_size for path in there.unfinished),
    )


def _chosen(there: Links, wanted: Target) -> tuple[set[str], set[str]]:
    """The commits and refs that are to come."""
    if not wanted.revisions:
        return set(there.snapshots), set(there.refs)
    commits: set[str] = set()
    for name in wanted.revisions:
        found = {there.refs[name]} if name in there.refs else links.commits(there, name)
        if not found & set(there.snapshots):
            raise NotFoundError(
                f"`{there.paths.id}@{name}` is not in `{there.paths.hub}`",
                hint=f"`modelctl show {there.paths.id}` shows the revisions that are there",
            )
        commits |= found
    return commits, {name for name, commit in there.refs.items() if commit in commits}


def _execute(move: Move, tell: moving.Tell, users: shared.Users, *, keep: bool) -> Moved:
    """Bring one model over, under the locks of both sides, and free what the source has let go of."""
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock.held(move.target, "migrate"))
        if not keep or obstacles.is_writable(move.source.hub):
            locks.enter_context(lock.held(move.source, "migrate"))
        downloads.refuse(move.source)
        there = links.read(move.source)
        if not disposal.exists(move.source.folder):
            raise NotFoundError(
                f"`{move.source.id}` has gone in the meantime", hint="`modelctl list` shows what is there"
            )
        way: Way = move.way
        if way == "rename":
            if moving.rename(there, move.target, users):
                return Moved(move, way, 0)
            way = "copy"
            _check_room_for(there, move)
        moving.transfer(there, move.target, move.commits, move.refs, tell, may_link=way == "link")
        aside = None if keep else _let_go(move)
    freed = disposal.finish(move.source.hub, aside, lambda _: None, users=users) if aside else 0
    return Moved(move, way, freed)


def _let_go(move: Move) -> Aside:
    if move.whole:
        return disposal.set_model_aside(move.source)
    return disposal.set_revisions_aside(move.source, move.commits, move.refs)


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
