"""One model on its way to another hub folder, under the locks of both sides, until the source has let go of it."""

import contextlib
from dataclasses import dataclass

from modelctl.errors import BusyError, NoRoomError, NotAllowedError, NotFoundError
from modelctl.store import arrival, disk, disposal, downloads, links, lock, moving, obstacles, shared
from modelctl.store.crew import Tell
from modelctl.store.links import Links
from modelctl.store.moving import Way
from modelctl.store.route import Move, Terms
from modelctl.store.trash import Aside

# What folders, links and refs need beside the blobs.
MARGIN = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Moved:
    """A model that has come to the target, by the way that was gone in the end."""

    move: Move
    way: Way
    freed: int


def go(move: Move, tell: Tell, users: shared.Users, *, terms: Terms) -> Moved:
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
    if needed + MARGIN > free:
        raise NoRoomError(
            f"`{move.source.id}` has to be copied after all, which needs {needed:,} bytes, and {free:,} are free",
            hint="make room with `modelctl rm`, then run the same command again",
            needed=needed,
            free=free,
        )
