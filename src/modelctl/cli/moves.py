"""How a migration is shown: its plan, what came of it, and the command that undoes it."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelctl import project as projects
from modelctl.cli import outcome
from modelctl.cli import output as show
from modelctl.errors import NotWholeError

if TYPE_CHECKING:
    from modelctl.store.migration import MigrationPlan, MigrationResult
    from modelctl.store.route import Move

_HOW = {
    "rename": "rename",
    "move": "hard link",
    "link": "hard link",
    "clone": "reflink",
    "copy": "copy",
    "symlink": "symbolic link",
}
_VERBS = {"move": "moved", "copy": "copied", "link": "linked", "symlink": "linked"}


@dataclass(frozen=True, slots=True)
class Ends:
    """The two hub folders of a migration, and how a command names them.

    `back` are the words that lead a migration back, `models_dir` those with which other commands mean the target, and
    `mending` those for the source; `None` where none do.
    """

    source: Path
    target: Path
    back: tuple[str, ...]
    models_dir: tuple[str, ...] | None
    mending: tuple[str, ...] | None

    @property
    def is_one(self) -> bool:
        """Whether both are the same folder."""
        return projects.is_same_folder(self.source, self.target)


def plan_object(plan: "MigrationPlan") -> dict[str, Any]:
    """The plan under `--json`."""
    return {
        "source": plan.source,
        "target": plan.target,
        "mode": plan.terms.mode,
        "models": [_object(move) for move in plan.moves],
        "skipped": [{"id": failure.id, "error": show.error_object(failure.error)} for failure in plan.skipped],
        "size": plan.size,
        "writes": plan.writes,
        "free": plan.free,
        "frees": plan.frees,
    }


def _object(move: "Move", way: str | None = None) -> dict[str, Any]:
    return {
        "id": move.source.id,
        "path": move.source.folder,
        "target": move.target.folder,
        "how": _HOW[way or move.way],
        "commits": list(move.commits),
        "refs": list(move.refs.names),
        "merges": move.merges,
        "size": move.size,
        "already": move.already,
        "shared": move.shared,
        "frees": move.frees,
        "writes": move.writes,
        "refs_kept": list(move.refs_kept),
        "refs_overwritten": list(move.refs_overwritten),
        "left_out": move.left_out,
    }


def arrival(ends: Ends, names: list[str]) -> str:
    """What is said of models that an earlier migration has brought."""
    told = ", ".join(f"`{name}`" for name in names)
    return (
        f"{told} {'is' if len(names) == 1 else 'are'} in `{ends.target}` already, and not in `{ends.source}` any more"
    )


def show_plan(out: show.Output, plan: "MigrationPlan") -> None:
    """The plan as a table, with what is unusual about it."""
    if out.json:
        out.object(plan_object(plan))
        return
    columns = [show.Column("NAME"), show.Column("REVISIONS", "right"), show.Column("SIZE", "right")]
    columns += [show.Column("HOW"), show.Column("WRITES", "right"), show.Column("FREES", "right")]
    rows = [
        (
            move.source.id,
            str(len(move.commits)),
            show.size(move.size),
            _HOW[move.way],
            show.size(move.writes),
            show.size(move.frees),
        )
        for move in plan.moves
    ]
    if rows:
        out.table(columns, rows)
    out.line(f"{show.plural(len(rows), 'model')}, {show.size(plan.size)}, {_room(plan)}")
    _say_details(out, plan)
    _say_skipped(out, plan)


def _room(plan: "MigrationPlan") -> str:
    room = f"writes {show.size(plan.writes)} of {show.size(plan.free)} free"
    room += "" if plan.has_room else ", which is too little"
    room += f", frees {show.size(plan.frees)} at the source" if plan.frees else ""
    return room


def _say_skipped(out: show.Output, plan: "MigrationPlan") -> None:
    for failure in plan.skipped:
        out.say(f"`{failure.id}` cannot be {_VERBS[plan.terms.mode]}: {failure.error.message}")
        if failure.error.hint:
            out.say(f"hint: {failure.error.hint}")


def say_plan(out: show.Output, plan: "MigrationPlan") -> None:
    """The plan, before it is carried out."""
    out.say(f"from `{plan.source}` to `{plan.target}`:")
    for move in plan.moves:
        writes = f", {show.size(move.writes)} to write" if move.writes else ""
        frees = f", frees {show.size(move.frees)}" if move.frees else ""
        out.say(f"  {move.source.id}: {show.size(move.size)}, {_HOW[move.way]}{writes}{frees}")
    if plan.writes or plan.frees:
        out.say(f"  in all: {_room(plan)}")
    _say_details(out, plan)
    _say_skipped(out, plan)


def _say_details(out: show.Output, plan: "MigrationPlan") -> None:
    for move in plan.moves:
        for name in move.refs_kept:
            out.say(
                f"  `{move.source.id}`: `{name}` names another revision in the target, and goes on doing so"
                " (`--overwrite-refs`)"
            )
        for name in move.refs_overwritten:
            out.say(f"  `{move.source.id}`: `{name}` names another revision in the target, and will name this one")
        if move.already:
            out.say(f"  `{move.source.id}`: {show.size(move.already)} of it are there already")
        if move.shared:
            out.say(f"  `{move.source.id}`: {show.size(move.shared)} of it are shared with models that stay whole")
        if move.left_out:
            out.say(f"  `{move.source.id}`: {show.size(move.left_out)} that no revision uses are left out")
    if plan.terms.mode == "symlink" and plan.moves:
        out.say(
            f"  what is removed from `{plan.source}` is gone from `{plan.target}` too; `rm` there takes the link only"
        )


def show_result(out: show.Output, ends: Ends, plan: "MigrationPlan", result: "MigrationResult") -> None:
    """What was done, what is free now, and the command that undoes it."""
    verb = _VERBS[plan.terms.mode]
    free = {"source": result.free_source, "target": result.free_target}
    moved = [_object(done.move, done.way) for done in result.moved]
    undo = _undo(ends, plan, [done.move for done in result.moved])
    if not out.json:
        for done in result.moved:
            out.line(f"{verb} {done.move.source.id} ({show.size(done.move.size)}, {_HOW[done.way]})")
        if result.leftovers_freed:
            out.say(f"freed {show.size(result.leftovers_freed)} that an interrupted migration had left")
        if result.moved or result.leftovers_freed:
            out.say(f"free now: {_free(plan, result)}")
        if undo:
            out.say(f"undo: `{undo}`")
    _name_mending(ends, result)
    outcome.check(out, result.failures, done=len(result.moved), verb=verb, moved=moved)
    if out.json:
        places = {"source": plan.source, "target": plan.target}
        out.event("done", moved=moved, failed=[], free=free, undo=undo, message=None, **places)


def _name_mending(ends: Ends, result: "MigrationResult") -> None:
    """Name the command that mends a damaged model where it is."""
    for failure in result.failures:
        is_model = not failure.id.startswith("datasets/")
        if is_model and isinstance(failure.error, NotWholeError) and ends.mending is not None:
            words = " ".join(["modelctl verify --repair", *ends.mending, shlex.quote(failure.id)])
            failure.error.hint = f"`{words}` fetches what is damaged again"


def _free(plan: "MigrationPlan", result: "MigrationResult") -> str:
    if result.free_source == result.free_target:
        return show.size(result.free_target)
    return f"{show.size(result.free_source)} at `{plan.source}`, {show.size(result.free_target)} at `{plan.target}`"


def _undo(ends: Ends, plan: "MigrationPlan", moves: list["Move"]) -> str | None:
    """The command that brings back what was moved, or removes what was copied or linked."""
    # What a ref named before is not known any more, and what was there already has not come.
    moves = [move for move in moves if move.new and not move.refs_overwritten]
    if plan.terms.mode == "move":
        # A ref that the target kept has gone from the source with its revision, which would come back without it.
        moves = [move for move in moves if not move.refs_kept]
    names = [shlex.quote(name) for move in moves for name in _names(move)]
    if any(name.startswith("-") for name in names):
        names.insert(0, "--")
    has_datasets = any(move.source.id.startswith("datasets/") for move in moves)
    if plan.terms.mode == "move" and moves:
        datasets = ["--include-datasets"] if has_datasets else []
        return " ".join(["modelctl migrate", *ends.back, *datasets, *names])
    if not moves or has_datasets or ends.models_dir is None:
        return None
    return " ".join(["modelctl rm", *ends.models_dir, *names])


def _names(move: "Move") -> list[str]:
    """What names exactly that which came, where the target has more of the model than that."""
    if move.whole and not move.merges:
        return [move.source.id]
    return [f"{move.source.id}@{commit}" for commit in move.new]
