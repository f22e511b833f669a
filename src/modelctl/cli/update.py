"""`modelctl pull --update`: the models of the project, brought to the newest commit of their branches and tags."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from modelctl import project as projects
from modelctl.cli import outcome, pulling
from modelctl.cli import output as show
from modelctl.errors import InterruptedByUserError, ModelctlError, UnreachableError, UsageError

if TYPE_CHECKING:
    from modelctl.hub.pull import PullResult
    from modelctl.hub.updates import Update, UpdatePlan
    from modelctl.hub.workers import Limits
    from modelctl.project import Project
    from modelctl.store.disposal import Failure

_SHORT = 12


def check(names: Sequence[str] | None, *, everything: bool, others: Sequence[str]) -> None:
    """`UsageError` where it is not clear what to update, or where other options say what an update decides itself."""
    if contrary := [option for option in others if option != "--all"]:
        hint = "`REPO@REV` names one branch or tag" if contrary[0] == "--revision" else f"leave out `{contrary[0]}`"
        raise UsageError(f"`--update` and `{contrary[0]}` contradict each other", hint=hint)
    if names and everything:
        raise UsageError("`--all` means every model, and some are named too", hint="give names or `--all`")
    if not names and not everything:
        raise UsageError(
            "`--update` needs the names of models, or `--all` for every model of the project",
            hint="`modelctl list --outdated` shows which have something newer",
        )


def run(
    out: show.Output,
    project: "Project",
    names: Sequence[str],
    *,
    token: str | None,
    limits: "Limits",
    reuse: bool,
    dry_run: bool,
) -> None:
    """Update the models that are named, else all, and show what became of each."""
    from modelctl.hub import room, updates
    from modelctl.store import naming

    targets = naming.targets(project.hub, names, parts=True) if names else naming.all_targets(project.hub)
    if projects.is_offline(project):
        raise offline()
    hub = pulling.connect(project, token, patience=pulling.patience(out, limits, dry_run=dry_run))
    plan = updates.plan(hub, targets, caches=pulling.caches(project), reuse=reuse)
    if dry_run:
        _show_dry_run(out, project, plan)
        return
    if out.json:
        out.event("plan", **_plan_object(project, plan))
    elif not out.quiet:
        _say_plan(out, project, plan)
    room.check([update.pull for update in plan.updates])
    _execute(out, plan, hub, limits)


def offline() -> UnreachableError:
    """The error for a question to the Hub while the network is forbidden."""
    return UnreachableError(
        "the Hub cannot be asked for newer commits: `HF_HUB_OFFLINE` forbids the network",
        hint="unset `HF_HUB_OFFLINE` to ask it",
    )


def _plan_object(project: "Project", plan: "UpdatePlan") -> dict[str, Any]:
    return {
        "models_dir": project.models_dir,
        "updates": [{**pulling.plan_object(update.pull), **_changes(update)} for update in plan.updates],
        "current": [asdict(one) for one in plan.current],
        "left": [asdict(left) for left in plan.left],
        "failed": [{"id": failure.id, "error": show.error_object(failure.error)} for failure in plan.failures],
    }


def _changes(update: "Update") -> dict[str, Any]:
    return {
        "ref": update.ref,
        "old_commit": update.old,
        "added": list(update.added),
        "changed": list(update.changed),
        "removed": list(update.removed),
    }


def _show_dry_run(out: show.Output, project: "Project", plan: "UpdatePlan") -> None:
    all_failed = plan.failures and not (plan.updates or plan.current or plan.left)
    if out.json and not all_failed:
        out.object(_plan_object(project, plan))
        if plan.failures:
            # The object names them; a second one for the error would be one too many.
            raise typer.Exit(ModelctlError.exit_code)
        return
    if out.quiet:
        _print_ids(out, plan.updates)
    elif not all_failed:
        _show_tables(out, project, plan)
    _check(out, plan.failures, plan, [{"id": update.pull.id} for update in plan.updates])


def _show_tables(out: show.Output, project: "Project", plan: "UpdatePlan") -> None:
    from modelctl.hub import room

    columns = [show.Column("FILE"), show.Column("SIZE", "right"), show.Column("SOURCE"), show.Column("CHANGE")]
    for update in plan.updates:
        _say_update(out, update)
        change = {name: word for word in ("added", "changed", "removed") for name in getattr(update, word)}
        rows = [
            [file.name, show.size(file.size), file.source, change.get(file.name, "-")] for file in update.pull.files
        ]
        out.table(columns, [*rows, *([name, "-", "-", "removed"] for name in update.removed)])
    for each in room.look([update.pull for update in plan.updates]):
        pulling.say_room(out, each)
    _say_others(out, project, plan)


def _say_plan(out: show.Output, project: "Project", plan: "UpdatePlan") -> None:
    for update in plan.updates:
        _say_update(out, update)
    _say_others(out, project, plan)


def _say_update(out: show.Output, update: "Update") -> None:
    from modelctl.store.wholeness import listed

    pulling.say_files(out, update.pull)
    if update.pull.kind == "part":
        whole = f"`modelctl pull {update.pull.id}` brings what vLLM loads"
        out.say(f"  only a part of it is here, and the same files are brought; {whole}")
    out.say(f"  changes since {update.old[:_SHORT]}: {_counted(update)}")
    for what in ("added", "changed", "removed"):
        if names := getattr(update, what):
            out.say(f"    {what}: {listed(names)}")


def _say_others(out: show.Output, project: "Project", plan: "UpdatePlan") -> None:
    """Tell of what has not moved, and of what never does."""
    for one in plan.current:
        out.line(f"{one.id}@{one.ref} is up to date ({one.commit[:_SHORT]})")
    for left in plan.left:
        out.say(f"`{left.id}` is left alone: {left.why}")
        if left.fix:
            out.say(f"hint: `{left.fix}`")
    if not (plan.updates or plan.current or plan.left or plan.failures):
        out.say(f"no models in `{project.models_dir}` yet")


def _execute(out: show.Output, plan: "UpdatePlan", hub: Any, limits: "Limits") -> None:  # noqa: ANN401
    from modelctl.hub import updates
    from modelctl.store.disposal import Failure

    updated: list[dict[str, Any]] = []
    failures = {failure.id: failure for failure in plan.failures}
    for update in plan.updates:
        try:
            result = pulling.execute(out, update.pull, hub, limits)
        except InterruptedByUserError:
            raise
        except ModelctlError as error:
            failures.setdefault(update.pull.id, Failure(update.pull.id, error))
            continue
        frees = updates.left_behind(update)
        updated.append(
            {**pulling.result_object(result), **_changes(update), "old_frees": frees, "fix": _fix(update, frees)}
        )
        if not out.json:
            _say_result(out, update, result, frees)
    _say_freeable(out, updated)
    _check(out, tuple(failures.values()), plan, updated)
    if out.json:
        out.event("done", updated=updated, current=[asdict(one) for one in plan.current])


def _say_result(out: show.Output, update: "Update", result: "PullResult", frees: int | None) -> None:
    if out.quiet:
        out.line(result.id)
        return
    name, old, new = f"{result.id}@{update.ref}", update.old[:_SHORT], result.commit[:_SHORT]
    out.line(f"updated {name} from {old} to {new} ({_counted(update)}; {pulling.fetched(result)})")
    if frees is not None:
        out.say(f"  kept: {old}, {show.size(frees)} of its own; `{_fix(update, frees)}` frees it")


def _say_freeable(out: show.Output, updated: Sequence[dict[str, Any]]) -> None:
    """Name the one command that frees all that was left behind, where that is more than one revision."""
    freeable = [one["old_frees"] for one in updated if one["old_frees"] is not None]
    if len(freeable) > 1 and not out.json and not out.quiet:
        revisions = show.plural(len(freeable), "old revision")
        out.say(f"hint: `modelctl prune --revisions` frees {revisions}, {show.size(sum(freeable))}")


def _fix(update: "Update", frees: int | None) -> str | None:
    """The command that frees the old revision, where something can be freed."""
    return None if frees is None else f"modelctl rm {update.pull.id}@{update.old[:_SHORT]}"


def _counted(update: "Update") -> str:
    words = {"added": update.added, "changed": update.changed, "removed": update.removed}
    return ", ".join(f"{len(names)} {word}" for word, names in words.items() if names) or "no file changed"


def _check(
    out: show.Output, failures: Sequence["Failure"], plan: "UpdatePlan", updated: Sequence[dict[str, Any]]
) -> None:
    """Raise what the failures come to. Models that are up to date, or left alone, count as done."""
    fine = {one["id"] for one in updated} | {one.id for one in plan.current} | {left.id for left in plan.left}
    fine -= {failure.id for failure in failures}
    outcome.check(out, failures, done=len(fine), verb="updated", updated=list(updated))


def _print_ids(out: show.Output, updates: "Sequence[Update]") -> None:
    for name in dict.fromkeys(update.pull.id for update in updates):
        out.line(name)
