"""Which models can leave a hub folder, and in which order: nothing that stays may lose what its links lead to."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl.store import dependents, links, moving, naming, obstacles
from modelctl.store.dependents import Lead, Leads
from modelctl.store.disposal import Failure
from modelctl.store.route import Move

Needed = Mapping[str, frozenset[str]]
_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Departure:
    """The moves in the order in which they can be made, and those that cannot be.

    `needed_by` are, by folder, the ids of models of the source whose links lead into it: they have to go first.
    """

    moves: tuple[Move, ...]
    held_back: tuple[Failure, ...]
    needed_by: Needed


def plan(source: Path, moves: Sequence[Move], others: Sequence[Path]) -> Departure:
    """Find out which of some moves can be made; `others` are hub folders whose links may lead into this one."""
    leads = dependents.find(source, others)
    if not leads:
        return Departure(tuple(moves), (), {})
    held_back: list[Failure] = []
    free: list[Move] = []
    needed_by: dict[str, frozenset[str]] = {}
    for move in moves:
        near, far = _leads_to(move, leads)
        needed_by[move.source.folder.name] = frozenset(lead.paths.id for lead in near)
        if far:
            held_back.append(Failure(move.source.id, obstacles.needed_elsewhere(move.source, far)))
        else:
            free.append(move)
    staying = _staying(source, free)
    while needed := [move for move in free if needed_by[move.source.folder.name] & staying]:
        for move in needed:
            names = needed_by[move.source.folder.name] & staying
            held_back.append(Failure(move.source.id, obstacles.needed_by(move.source, names)))
        free = [move for move in free if move not in needed]
        staying = _staying(source, free)
    return Departure(tuple(_in_order(free, needed_by)), tuple(held_back), needed_by)


def refuse(move: Move, needed_by: Needed, gone: set[str]) -> None:
    """Raise where a model that leads into this one should have gone before, and has not."""
    if names := needed_by.get(move.source.folder.name, _NOBODY) - gone:
        raise obstacles.needed_by(move.source, names)


def _leads_to(move: Move, leads: Leads) -> tuple[list[Lead], list[Lead]]:
    """The links of models of the same hub folder into one that goes, and those of others, which stay."""
    places = [os.path.realpath(path) for path in (move.source.folder, *move.payloads)]
    into = {lead for place in places for lead in leads.get(place, ())}
    into = {lead for lead in into if lead.paths.folder != move.source.folder}
    near = [lead for lead in into if lead.paths.hub == move.source.hub]
    far = [lead for lead in into if lead.paths.hub != move.source.hub]
    if any(lead.paths.folder == move.target.folder for lead in far):
        mended = set(_put_right(move))
        far = [lead for lead in far if lead.link not in mended]
    return near, far


def _put_right(move: Move) -> Iterator[Path]:
    """What the target has of the very model, and gets anew: that may be links into what goes."""
    there = links.read(move.source)
    for content in moving.contents(there, move.commits):
        if content.digest:
            yield move.target.blob(content.digest)
    for commit in move.commits:
        yield from (move.target.entry(commit, entry.name) for entry in there.snapshots[commit])


def _in_order(moves: Sequence[Move], needed_by: Needed) -> list[Move]:
    """Those whose links lead into others before the others. Of a circle none can go, which is found out on the way."""
    ordered: list[Move] = []
    left = {move.source.id: move for move in moves}
    while left:
        free = [move for move in left.values() if not needed_by[move.source.folder.name] & left.keys()]
        ordered += free or left.values()
        left = {move.source.id: move for move in left.values() if move not in free} if free else {}
    return ordered


def _staying(source: Path, moves: Sequence[Move]) -> set[str]:
    """The ids of the models of which something stays in the source."""
    going = {move.source.id for move in moves if move.whole}
    return {target.paths.id for target in naming.all_targets(source, datasets=True)} - going
