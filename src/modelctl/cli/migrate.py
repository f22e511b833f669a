"""`modelctl migrate`: models from the user cache into the project."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl.cli import options, outcome
from modelctl.cli import output as show
from modelctl.errors import InterruptedByUserError, UsageError

if TYPE_CHECKING:
    from modelctl.project import Project
    from modelctl.store.migration import MigrationPlan, MigrationResult, Move

EPILOG = """\b
Examples:
  modelctl migrate --from-cache --dry-run
  modelctl migrate --from-cache
  modelctl migrate --from-cache Qwen/Qwen3-0.6B BAAI/bge-m3
  modelctl migrate --from-cache --copy 'acme/*'
"""
_HOW = {"rename": "rename", "link": "merge", "copy": "copy"}


def migrate(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[REPO[@REV]]...", help="Only these models; globs too.")
    ] = None,
    from_cache: Annotated[bool, typer.Option("--from-cache", help="Out of your own cache into the project.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Leave the cache as it is.")] = False,
    models_dir: options.ModelsDir = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Move models from your own Hugging Face cache into ./models.

    On one file system that takes no time and no space. Else every file is copied, hashed, and only then removed from
    the cache; interrupted, it goes on where it stopped.
    """
    if not from_cache:
        raise UsageError(
            "`migrate` needs to know where the models come from",
            hint="`modelctl migrate --from-cache` moves those of your own cache",
        )
    project = projects.locate(models_dir)
    out = show.Output(json=json)
    plan = None if project.is_one_store else _plan(project, names or [], copy=copy, parts=not yes)
    if plan is None or not (plan.moves or plan.skipped or plan.leftovers):
        _say_nothing_to_do(out, project, dry_run=dry_run)
        return
    if dry_run:
        _show_plan(out, plan)
        return
    result = _execute(out, plan, yes=yes)
    _show_result(out, plan, result)


def plan_object(plan: "MigrationPlan") -> dict[str, Any]:
    """The plan under `--json`."""
    return {
        "source": plan.source,
        "target": plan.target,
        "mode": "copy" if plan.keep else "move",
        "models": [_move_object(move) for move in plan.moves],
        "skipped": [{"id": failure.id, "error": show.error_object(failure.error)} for failure in plan.skipped],
        "size": plan.size,
        "writes": plan.writes,
        "free": plan.free,
    }


def _move_object(move: "Move") -> dict[str, Any]:
    return {
        "id": move.source.id,
        "path": move.source.folder,
        "target": move.target.folder,
        "how": _HOW[move.way],
        "commits": list(move.commits),
        "refs": list(move.refs),
        "merges": move.merges,
        "size": move.size,
        "writes": move.writes,
        "refs_kept": list(move.refs_kept),
        "left_out": move.left_out,
    }


def _plan(project: "Project", names: list[str], *, copy: bool, parts: bool) -> "MigrationPlan":
    from modelctl.store import migration, naming

    source = project.user_cache
    targets = naming.targets(source, names, parts=parts) if names else naming.all_targets(source)
    return migration.plan(source, project.hub, targets, keep=copy)


def _execute(out: show.Output, plan: "MigrationPlan", *, yes: bool) -> "MigrationResult":
    from modelctl.store import migration

    if out.json:
        out.event("plan", **plan_object(plan))
    else:
        _say_plan(out, plan)
    migration.check_room(plan)
    busy = outcome.busy()
    if plan.moves and not plan.keep:
        out.confirm(f"Move {show.plural(len(plan.moves), 'model')} out of `{plan.source}`?", yes=yes)
    with out.progress() as progress:
        try:
            return migration.execute(plan, progress, busy=busy)
        except KeyboardInterrupt:
            raise InterruptedByUserError(
                "the migration was interrupted",
                hint="nothing is lost: run the same command again and it goes on from there",
            ) from None


def _say_nothing_to_do(out: show.Output, project: "Project", *, dry_run: bool) -> None:
    if project.is_one_store:
        message = f"`{project.hub}` is your own cache too: there is nothing to move"
    else:
        message = f"no models in `{project.user_cache}`"
    nothing = {"source": project.user_cache, "target": project.hub, "message": message}
    if not out.json:
        out.line(message)
    elif dry_run:
        out.object({**nothing, "mode": None, "models": [], "skipped": [], "size": 0, "writes": 0, "free": None})
    else:
        out.event("done", moved=[], failed=[], free=None, **nothing)


def _show_plan(out: show.Output, plan: "MigrationPlan") -> None:
    if out.json:
        out.object(plan_object(plan))
        return
    columns = [show.Column("NAME"), show.Column("REVISIONS", "right"), show.Column("SIZE", "right")]
    columns += [show.Column("HOW"), show.Column("WRITES", "right")]
    rows = [
        (move.source.id, str(len(move.commits)), show.size(move.size), _HOW[move.way], show.size(move.writes))
        for move in plan.moves
    ]
    if rows:
        out.table(columns, rows)
    free = f"writes {show.size(plan.writes)} of {show.size(plan.free)} free"
    out.line(f"{show.plural(len(rows), 'model')}, {show.size(plan.size)}, {free}")
    _say_details(out, plan)
    for failure in plan.skipped:
        out.say(f"`{failure.id}` cannot be moved: {failure.error.message}")


def _say_plan(out: show.Output, plan: "MigrationPlan") -> None:
    out.say(f"from `{plan.source}` to `{plan.target}`:")
    for move in plan.moves:
        writes = f", {show.size(move.writes)} to write" if move.writes else ""
        out.say(f"  {move.source.id}: {show.size(move.size)}, {_HOW[move.way]}{writes}")
    _say_details(out, plan)


def _say_details(out: show.Output, plan: "MigrationPlan") -> None:
    for move in plan.moves:
        for name in move.refs_kept:
            out.say(f"  `{move.source.id}`: `{name}` names another revision in the project, and goes on doing so")
        if move.left_out:
            out.say(f"  `{move.source.id}`: an unfinished download of {show.size(move.left_out)} is left out")


def _show_result(out: show.Output, plan: "MigrationPlan", result: "MigrationResult") -> None:
    verb = "copied" if plan.keep else "moved"
    free = {"source": result.free_source, "target": result.free_target}
    moved = [{**_move_object(done.move), "how": _HOW[done.way]} for done in result.moved]
    if not out.json:
        for done in result.moved:
            out.line(f"{verb} {done.move.source.id} ({show.size(done.move.size)}, {_HOW[done.way]})")
        if result.leftovers_freed:
            out.say(f"freed {show.size(result.leftovers_freed)} that an interrupted migration had left")
        out.say(f"free now: {_free(plan, result)}")
    outcome.check(out, result.failures, done=len(result.moved), verb=verb, moved=moved)
    if out.json:
        out.event("done", moved=moved, failed=[], free=free, source=plan.source, target=plan.target, message=None)


def _free(plan: "MigrationPlan", result: "MigrationResult") -> str:
    if result.free_source == result.free_target:
        return show.size(result.free_target)
    return f"{show.size(result.free_source)} at `{plan.source}`, {show.size(result.free_target)} at `{plan.target}`"
