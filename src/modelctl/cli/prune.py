"""`modelctl prune`: what nobody needs, away from the disk."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl.cli import options, outcome
from modelctl.cli import output as show
from modelctl.errors import UsageError

if TYPE_CHECKING:
    from modelctl.store.pruning import PruningPlan, PruningResult
    from modelctl.store.remains import Leftover

EPILOG = """\b
Examples:
  modelctl prune
  modelctl prune --dry-run
  modelctl prune --revisions --keep 1
  modelctl prune --older-than 0 --yes
"""
_WHAT = {
    "pull": "interrupted pull",
    "migration": "interrupted migration",
    "import": "interrupted import",
    "download": "unfinished download",
    "temporary": "temporary file",
    "orphan": "unused content",
    "empty": "empty folder",
    "revision": "old revision",
    "removed": "removed model",
    "locks": "old lock",
}


def prune(
    revisions: Annotated[
        bool, typer.Option("--revisions", help="Also revisions that a branch or tag has left behind.")
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option("--keep", metavar="N", min=0, help="With --revisions: keep the newest N of each model."),
    ] = None,
    older_than: Annotated[
        int, typer.Option("--older-than", metavar="DAYS", min=0, help="Which interrupted pulls go that could go on.")
    ] = 7,
    cache: Annotated[bool, typer.Option("--cache", help="In your own cache, not in the project.")] = False,
    models_dir: options.ModelsDir = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Free the disk of what nobody needs any more.

    That is what downloads, removals and writers left behind when they were interrupted. What is being pulled or
    downloaded stays. So does an interrupted pull of the last 7 days, since the same pull goes on with it: --older-than
    0 takes it too. Of revisions that no branch or tag names, --revisions takes those that an update has left behind,
    and none that was pulled by its commit, is named in the project's settings, or is served.
    """
    from modelctl.store import pruning
    from modelctl.store.superseded import Choice

    if keep is not None and not revisions:
        raise UsageError("`--keep` says how many old revisions stay", hint="add `--revisions`, or leave out `--keep`")
    project = projects.locate(models_dir)
    out = show.Output(json=json)
    choice = Choice(keep or 0, projects.named_commits(project), outcome.busy()) if revisions else None
    hub = project.user_cache if cache else project.hub
    plan = pruning.plan(hub, patience=timedelta(days=older_than), revisions=choice)
    if dry_run:
        _show_plan(out, plan)
        return
    if json:
        out.event("plan", **plan_object(plan))
    else:
        _say_plan(out, plan)
    if plan.going:
        out.confirm(_question(plan), yes=yes)
        with out.progress() as progress:
            _show_result(out, pruning.execute(plan, progress))
    elif json:
        out.event("done", pruned=[], freed=0)
    else:
        out.line(_total(plan))


def plan_object(plan: "PruningPlan") -> dict[str, Any]:
    """The plan under `--json`."""
    return {
        "hub": plan.hub,
        "leftovers": [_leftover_object(left) for left in plan.going],
        "size": plan.size,
        "staying": [{**_leftover_object(left), "stays": left.stays} for left in plan.staying],
    }


def _leftover_object(left: "Leftover") -> dict[str, Any]:
    return {
        "kind": left.kind,
        "id": left.id,
        "paths": list(left.paths),
        "commits": list(left.commits),
        "size": left.size,
        "modified": left.modified,
        "why": left.why,
    }


def _show_plan(out: show.Output, plan: "PruningPlan") -> None:
    if out.json:
        out.object(plan_object(plan))
        return
    if plan.going:
        columns = [show.Column("WHAT"), show.Column("MODEL"), show.Column("SIZE", "right")]
        columns += [show.Column("AGE", "right"), show.Column("WHY")]
        rows = [
            (_what(left), left.id or "-", show.size(left.size), show.age(left.modified), left.why)
            for left in plan.going
        ]
        out.table(columns, rows)
    out.line(_total(plan))
    _say_staying(out, plan)


def _say_plan(out: show.Output, plan: "PruningPlan") -> None:
    for left in plan.going:
        model = f" of {left.id}" if left.id else ""
        out.say(f"{_what(left)}{model}: {show.size(left.size)}, {show.age(left.modified)}, {left.why}")
    _say_staying(out, plan)


def _say_staying(out: show.Output, plan: "PruningPlan") -> None:
    for left in plan.staying:
        model = f" of {left.id}" if left.id else ""
        out.say(f"  stays: {_what(left)}{model}, {show.size(left.size)}, {show.age(left.modified)}: {left.stays}")


def _what(left: "Leftover") -> str:
    count = len(left.commits) or (1 if left.kind in _WHOLE else len(left.paths))
    return _WHAT[left.kind] if count == 1 else show.plural(count, _WHAT[left.kind])


# However many paths these have, they are one thing.
_WHOLE = {"pull", "migration", "empty", "removed"}


def _total(plan: "PruningPlan") -> str:
    if not plan.going:
        return "nothing to prune"
    return f"{show.plural(len(plan.going), 'leftover')}, frees {show.size(plan.size)}"


def _question(plan: "PruningPlan") -> str:
    lost = sum(left.kind == "pull" for left in plan.going)
    start_anew = f", {show.plural(lost, 'interrupted pull')} that could go on among them," if lost else ""
    return f"Prune {show.plural(len(plan.going), 'leftover')}{start_anew} from `{plan.hub}`, {show.size(plan.size)}?"


def _show_result(out: show.Output, result: "PruningResult") -> None:
    pruned = [_leftover_object(left) for left in result.pruned]
    if not out.json and (result.pruned or not result.failures):
        out.line(f"pruned {show.plural(len(pruned), 'leftover')}, freed {show.size(result.freed)}")
    outcome.check(out, result.failures, done=len(pruned), verb="pruned", pruned=pruned, freed=result.freed)
    if out.json:
        out.event("done", pruned=pruned, freed=result.freed)
