"""`modelctl migrate`: models between the user cache, the project, and any other hub folder."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl import project as projects
from modelctl.cli import completion, moves, options, outcome
from modelctl.cli import output as show
from modelctl.cli.moves import Ends
from modelctl.errors import InterruptedByUserError, UsageError

if TYPE_CHECKING:
    from modelctl.project import Project
    from modelctl.store.migration import MigrationPlan, MigrationResult
    from modelctl.store.route import Mode, Terms

EPILOG = """\b
Examples:
  modelctl migrate --from-cache --dry-run
  modelctl migrate --from-cache
  modelctl migrate --from-cache Qwen/Qwen3-0.6B BAAI/bge-m3
  modelctl migrate --from ../old-project/models --copy 'acme/*'
  modelctl migrate --to-cache Qwen/Qwen3-0.6B
"""


def migrate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REPO[@REV]]...", help="Only these models; globs too.", autocompletion=completion.models
        ),
    ] = None,
    from_cache: Annotated[bool, typer.Option("--from-cache", help="Out of your own cache.")] = False,
    from_dir: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Out of a hub folder, or the folder that contains it.")
    ] = None,
    to_cache: Annotated[bool, typer.Option("--to-cache", help="Into your own cache.")] = False,
    to_dir: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Into a hub folder, or the folder that contains it.")
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", "-c", help="Copy, and leave the source as it is.")] = False,
    hard_link: Annotated[
        bool, typer.Option("--hard-link", "-L", help="Give the files second names, and leave the source as it is.")
    ] = False,
    symbolic_link: Annotated[
        bool, typer.Option("--symbolic-link", "-l", help="Link to the models where they are, which have to stay there.")
    ] = False,
    revision: options.Revision = None,
    overwrite_refs: Annotated[
        bool, typer.Option("--overwrite-refs", help="Let refs that differ name the source's revision.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash also what is only renamed.")] = False,
    include_datasets: Annotated[bool, typer.Option("--include-datasets", help="Datasets too.")] = False,
    models_dir: options.ModelsDir = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Move models between ./models, your cache and other folders.

    On one file system that takes no time and no space. Else every file is copied, hashed, and only then removed from
    the source; interrupted, it goes on where it stopped. What is not named as source or target is the project.
    """
    from modelctl.store.route import Terms

    project = projects.locate(models_dir)
    mode = _mode(copy=copy, hard_link=hard_link, symbolic_link=symbolic_link)
    ends = _ends(project, models_dir, from_cache=from_cache, from_dir=from_dir, to_cache=to_cache, to_dir=to_dir)
    if revision is not None and not names:
        raise UsageError("`--revision` needs the model that it is one of", hint="name it: `migrate ... ORG/NAME`")
    out = show.Output(json=json)
    terms = Terms(mode, overwrite=overwrite_refs, verify=verify)
    wanted = _Wanted(names or [], revision, parts=not yes, datasets=include_datasets)
    if ends.is_one:
        _say_nothing_to_do(out, ends, _is_one(project, ends), dry_run=dry_run)
        return
    plan, arrived = _plan(project, ends, wanted, terms)
    _say_datasets_stay(out, ends, wanted)
    if not (plan.moves or plan.skipped or plan.leftovers):
        message = moves.arrival(ends, arrived) if arrived else f"no models in `{ends.source}`"
        _say_nothing_to_do(out, ends, message, dry_run=dry_run)
        return
    if arrived and not out.json:
        out.say(moves.arrival(ends, arrived))
    if dry_run:
        moves.show_plan(out, plan)
        return
    result = _execute(out, plan, yes=yes)
    moves.show_result(out, ends, plan, result)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be moved, as it was typed."""

    names: list[str]
    revision: str | None
    parts: bool
    datasets: bool


def _mode(*, copy: bool, hard_link: bool, symbolic_link: bool) -> "Mode":
    chosen: dict[str, Mode] = {"--copy": "copy", "--hard-link": "link", "--symbolic-link": "symlink"}
    given = [name for name, is_on in zip(chosen, (copy, hard_link, symbolic_link), strict=True) if is_on]
    if len(given) > 1:
        raise UsageError(f"`{given[0]}` and `{given[1]}` contradict each other", hint="give one of them")
    return chosen[given[0]] if given else "move"


def _ends(
    project: "Project",
    models_dir: Path | None,
    *,
    from_cache: bool,
    from_dir: Path | None,
    to_cache: bool,
    to_dir: Path | None,
) -> Ends:
    """Where from and where to; what is not named is the project."""
    from modelctl.store import naming

    if not (from_cache or from_dir or to_cache or to_dir):
        raise UsageError(
            "`migrate` needs to know where the models come from",
            hint="`modelctl migrate --from-cache` moves those of your own cache",
        )
    for is_cache, folder, way in ((from_cache, from_dir, "from"), (to_cache, to_dir, "to")):
        if is_cache and folder:
            raise UsageError(f"`--{way}-cache` and `--{way}` contradict each other", hint="give one of them")
    source = naming.hub_of(_absolute(from_dir), is_there=True) if from_dir else None
    target = naming.hub_of(_absolute(to_dir), is_there=False) if to_dir else None
    source = source or (project.user_cache if from_cache else project.hub)
    target = target or (project.user_cache if to_cache else project.hub)
    flag = () if models_dir is None else ("--models-dir", shlex.quote(str(models_dir)))
    back = (*_words(project, target, "from"), *_words(project, source, "to"))
    is_project = project.hub in {source, target}
    return Ends(
        source,
        target,
        (*(flag if is_project else ()), *back),
        _models_dir(project, target, flag),
        _models_dir(project, source, flag),
    )


def _absolute(folder: Path) -> Path:
    """The full path, for messages and for commands that are typed elsewhere. Links stay what they are."""
    return Path(os.path.abspath(folder))  # noqa: PTH100 - `resolve` would follow them


def _words(project: "Project", hub: Path, way: str) -> tuple[str, ...]:
    """How `migrate` is told of a hub folder."""
    if hub == project.hub:
        return ()
    return (f"--{way}-cache",) if hub == project.user_cache else (f"--{way}", shlex.quote(str(hub)))


def _models_dir(project: "Project", hub: Path, flag: tuple[str, ...]) -> tuple[str, ...] | None:
    """How other commands are told of a hub folder, `None` where they cannot be."""
    if hub == project.hub:
        return flag
    if hub == project.user_cache:
        return (*flag, "--cache")
    return ("--models-dir", shlex.quote(str(hub.parent))) if hub.name == "hub" else None


def _plan(project: "Project", ends: Ends, wanted: _Wanted, terms: "Terms") -> tuple["MigrationPlan", list[str]]:
    """The plan, and the names of what has come by an earlier migration."""
    from modelctl.store import arrivals, migration, naming

    source, arrived = ends.source, list[str]()
    if wanted.names:
        names, how = wanted.names, {"parts": wanted.parts, "datasets": wanted.datasets}
        if not terms.keeps:
            names, arrived = arrivals.named(source, ends.target, names, revision=wanted.revision, **how)
        targets = naming.targets(source, names, revision=wanted.revision, **how)
    else:
        targets = naming.all_targets(source, datasets=wanted.datasets)
    known = (project.hub, project.user_cache)
    plan = migration.plan(source, ends.target, targets, terms=terms, others=known)
    return plan, [*arrived, *plan.arrived]


def _execute(out: show.Output, plan: "MigrationPlan", *, yes: bool) -> "MigrationResult":
    from modelctl.store import migration

    if out.json:
        out.event("plan", **moves.plan_object(plan))
    elif plan.moves:
        moves.say_plan(out, plan)
    migration.check_room(plan)
    busy = outcome.busy()
    if plan.moves and not plan.terms.keeps:
        out.confirm(f"Move {show.plural(len(plan.moves), 'model')} out of `{plan.source}`?", yes=yes)
    with out.progress() as progress:
        try:
            return migration.execute(plan, progress, busy=busy)
        except KeyboardInterrupt:
            raise InterruptedByUserError(
                "the migration was interrupted",
                hint="nothing is lost: run the same command again and it goes on from there",
            ) from None


def _say_datasets_stay(out: show.Output, ends: Ends, wanted: _Wanted) -> None:
    from modelctl.store import naming

    if wanted.names or wanted.datasets or out.json:
        return
    if there := naming.all_datasets(ends.source):
        out.say(f"{show.plural(len(there), 'dataset')} in `{ends.source}` stay there (`--include-datasets`)")


def _is_one(project: "Project", ends: Ends) -> str:
    is_cache = project.is_one_store and projects.is_same_folder(ends.source, project.hub)
    whose = "your own cache" if is_cache else "where the models come from"
    return f"`{ends.target}` is {whose} too: there is nothing to move"


def _say_nothing_to_do(out: show.Output, ends: Ends, message: str, *, dry_run: bool) -> None:
    nothing = {"source": ends.source, "target": ends.target, "message": message}
    if not out.json:
        out.line(message)
    elif dry_run:
        sizes = {"size": 0, "writes": 0, "free": None, "frees": 0}
        out.object({**nothing, "mode": None, "models": [], "skipped": [], **sizes})
    else:
        out.event("done", moved=[], failed=[], free=None, undo=None, **nothing)
