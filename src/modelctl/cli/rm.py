"""`modelctl rm`: models and revisions out of the project, or out of the user cache."""

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl.cli import completion, options, outcome, use
from modelctl.cli import output as show
from modelctl.errors import InterruptedByUserError, ModelctlError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from modelctl.project import Project
    from modelctl.store.removal import Removal, RemovalPlan, RemovalResult

EPILOG = """\b
Examples:
  modelctl rm Qwen/Qwen3-0.6B
  modelctl rm Qwen/Qwen3-0.6B@1a2b3c4
  modelctl rm 'acme/*' --yes
  modelctl rm --cache BAAI/bge-m3 --dry-run
"""


def rm(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="REPO[@REV]...",
            help="Models, or revisions of them; globs too.",
            autocompletion=completion.removable,
        ),
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="Only this branch, tag or commit.")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache", help="Out of your own cache, not out of the project.")] = False,
    models_dir: options.ModelsDir = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Remove models from the project, or revisions of them.

    A branch or tag takes its revision with it unless another one names that too, and content that other revisions or
    models use stays. With --yes full names or globs are needed.
    """
    from modelctl.store import removal

    project = projects.locate(models_dir)
    out = show.Output(json=json)
    plan = _plan(project, names, revision=revision, cache=cache, parts=not yes)
    if dry_run:
        _show_plan(out, plan)
        return
    if json:
        out.event("plan", **plan_object(plan))
    else:
        _say_plan(out, plan)
    busy = outcome.busy()
    removal.refuse_busy(plan, busy)
    out.confirm(_question(plan), yes=yes)
    with out.progress() as progress:
        try:
            result = removal.execute(plan, progress, busy=busy)
        except KeyboardInterrupt:
            raise InterruptedByUserError(
                "the removal was interrupted", hint="run the same command again and it is finished"
            ) from None
    _show_result(out, project, result)


def plan_object(plan: "RemovalPlan") -> dict[str, Any]:
    """The plan under `--json`."""
    return {
        "hub": plan.hub,
        "models": [_removal_object(removal) for removal in plan.removals],
        "size": plan.size,
        "frees": plan.frees,
        "leftovers": {"count": len(plan.leftovers), "size": plan.leftover_size},
    }


def _removal_object(removal: "Removal") -> dict[str, Any]:
    return {
        "id": removal.paths.id,
        "path": removal.paths.folder,
        "whole": removal.whole,
        "commits": list(removal.commits),
        "refs": list(removal.refs),
        "size": removal.size,
        "frees": removal.frees,
        "kept": [{"size": kept.size, "why": kept.why} for kept in removal.kept],
    }


def _plan(project: "Project", names: list[str], *, revision: str | None, cache: bool, parts: bool) -> "RemovalPlan":
    from modelctl.store import naming, removal

    hub, other = (project.user_cache, project.hub) if cache else (project.hub, project.cache)

    def planned(where: "Path", words: list[str]) -> "RemovalPlan":
        return removal.plan(where, naming.targets(where, words, revision=revision, parts=parts))

    def has(where: "Path | None", word: str) -> bool:
        try:
            return where is not None and bool(planned(where, [word]))
        except ModelctlError:
            return False

    try:
        return planned(hub, names)
    except NotFoundError:
        # Perhaps it is what `list` shows from the other place: say so, and leave it alone.
        absent = [word for word in names if not has(hub, word)]
        if not absent or other is None or not all(has(other, word) for word in absent):
            raise
        found = [removal.paths.id for removal in planned(other, absent).removals]
        here, there = ("the user cache", "the project") if cache else ("the project", "the user cache")
        words = [*([] if cache else ["--cache"]), *([] if revision is None else ["--revision", revision]), *absent]
        listed = ", ".join(f"`{name}`" for name in found)
        raise NotFoundError(
            f"{listed} {'is' if len(found) == 1 else 'are'} not in {here}, but in {there}",
            hint=f"`{shlex.join(['modelctl', 'rm', *words])}` removes {'it' if len(found) == 1 else 'them'} there",
        ) from None


def _show_plan(out: show.Output, plan: "RemovalPlan") -> None:
    if out.json:
        out.object(plan_object(plan))
        return
    columns = [show.Column("NAME"), show.Column("REVISIONS")]
    columns += [show.Column("SIZE", "right"), show.Column("FREES", "right")]
    rows = [
        (removal.paths.id, _revisions(removal), show.size(removal.size), show.size(removal.frees))
        for removal in plan.removals
    ]
    out.table(columns, rows)
    out.line(f"{show.plural(len(rows), 'model')}, frees {show.size(plan.frees)}")
    _say_kept(out, plan)


def _say_plan(out: show.Output, plan: "RemovalPlan") -> None:
    for removal in plan.removals:
        revisions = f" {_revisions(removal)}" if removal.commits or removal.refs else ""
        out.say(f"{removal.paths.id}{revisions}: {show.size(removal.size)}, frees {show.size(removal.frees)}")
    _say_kept(out, plan)


def _say_kept(out: show.Output, plan: "RemovalPlan") -> None:
    for removal in plan.removals:
        for kept in removal.kept:
            out.say(f"  stays: {show.size(kept.size)} of `{removal.paths.id}`, since {kept.why}")
    if plan.leftovers:
        out.say(f"  with it goes what an interrupted removal has left: {show.size(plan.leftover_size)}")


def _revisions(removal: "Removal") -> str:
    if removal.whole:
        return "all"
    return ", ".join([*removal.refs, *(commit[:12] for commit in removal.commits)]) or "-"


def _question(plan: "RemovalPlan") -> str:
    whole = sum(removal.whole for removal in plan.removals)
    parts = len(plan.removals) - whole
    what = [show.plural(whole, "model")] if whole else []
    what += [f"revisions of {show.plural(parts, 'model')}"] if parts else []
    return f"Remove {' and '.join(what)} from `{plan.hub}`?"


def _show_result(out: show.Output, project: "Project", result: "RemovalResult") -> None:
    removed = [{**_removal_object(done.removal), "freed": done.freed} for done in result.removed]
    if not out.json:
        _say_result(out, project, result)
    outcome.check(out, result.failures, done=len(result.removed), verb="removed", removed=removed, freed=result.freed)
    if out.json:
        out.event("done", removed=removed, freed=result.freed, notes=_notes(project, result))


def _say_result(out: show.Output, project: "Project", result: "RemovalResult") -> None:
    for done in result.removed:
        removal = done.removal
        if removal.whole:
            out.line(f"removed {removal.paths.id}, freed {show.size(done.freed)}")
        elif removal.commits or removal.refs:
            out.line(f"removed {removal.paths.id} {_revisions(removal)}, freed {show.size(done.freed)}")
        else:
            out.line(f"removed what was left of {removal.paths.id}")
    if result.leftovers_freed:
        out.say(f"freed {show.size(result.leftovers_freed)} that an interrupted removal had left")
    for note in _notes(project, result):
        out.say(f"note: {note}")


def _notes(project: "Project", result: "RemovalResult") -> list[str]:
    """What the user should know about a model that is gone: who else still has it, who still names it."""
    notes = []
    for removal in (done.removal for done in result.removed if done.removal.whole):
        name = removal.paths.id
        in_cache = project.cache / removal.paths.folder.name if project.cache is not None else None
        in_project = project.hub / removal.paths.folder.name
        if in_cache is not None and in_cache.exists() and removal.paths.hub != project.cache:
            notes.append(f"`{name}` is still listed from the user cache; `modelctl rm --cache {name}` removes it there")
        elif not in_project.exists() and use.names_model(project, name):
            notes.append(f"`{name}` is the default model, and not here any more; `modelctl use` chooses another")
    return notes
