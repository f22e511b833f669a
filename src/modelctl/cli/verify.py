"""`modelctl verify`: whether every byte is what it should be, and what is not, fetched again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl import project as projects
from modelctl.cli import completion, options, pulling, repairing, verifying
from modelctl.cli import output as show
from modelctl.errors import InterruptedByUserError, NotFoundError, UnreachableError, UsageError

if TYPE_CHECKING:
    from modelctl.project import Project
    from modelctl.store.layout import RepoPaths
    from modelctl.store.model import Location

_PATIENCE = 120.0
EPILOG = """\b
Examples:
  modelctl verify Qwen/Qwen3-0.6B
  modelctl verify --all
  modelctl verify qwen3-0.6b@main 'acme/*' --json
  modelctl verify --repair Qwen/Qwen3-0.6B
  modelctl verify --cache --all
"""


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REPO[@REV]]...",
            help="Models, or any part of a name; revisions of them; globs too.",
            autocompletion=completion.models,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model that `list` shows.")] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="Only this branch, tag or commit.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch again what is damaged or missing, and nothing else.")
    ] = False,
    cache: Annotated[bool, typer.Option("--cache", help="Of your own cache, not of the project.")] = False,
    token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help="With --repair: sent to the Hub alone.")
    ] = None,
    retry_for: Annotated[
        float,
        typer.Option("--retry-for", metavar="SECONDS", help="With --repair: how long to try while nothing arrives."),
    ] = _PATIENCE,
    models_dir: options.ModelsDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Hash the files of models, and say which are damaged.

    Needs no network: a file's name in the store says what it has to hash to, and the list of its commit which files
    there should be. Nothing is changed, but by --repair, which fetches the damaged and missing files. Interrupted, the
    same command goes on where it stopped. --quiet prints the ids of damaged models.
    """
    from modelctl.store import inspection, proven, verification

    _check(names, everything=everything, revision=revision)
    project = projects.locate(models_dir)
    out = show.Output(json=json, quiet=quiet)
    targets = _targets(project, names or [], revision, cache=cache)
    limits = pulling.limits(retry_for=retry_for)
    if repair and projects.is_offline(project):
        raise _offline()
    where = verifying.Where(models_dir, in_cache=cache)
    with proven.Proven(proven.folder()) as known, out.progress() as progress:
        try:
            plan = verification.plan([inspection.inspect(*target) for target in targets], known)
            verifying.say_plan(out, plan)
            result = verification.execute(plan, progress, known)
            mended = repairing.Mended(result.models)
            if repair:
                repairer = repairing.Repairer(out, project, known, progress, token, limits)
                mended = repairer.repair(result.models, in_cache=cache)
        except KeyboardInterrupt:
            raise _interrupted() from None
        if not mended.errors:
            known.forget()
    verifying.show_result(out, where, result, mended)


def _check(names: Sequence[str] | None, *, everything: bool, revision: str | None) -> None:
    """`UsageError` where it is not clear what to verify."""
    if names and everything:
        raise UsageError("`--all` means every model, and some are named too", hint="give names or `--all`")
    if not names and not everything:
        raise UsageError("`verify` needs the names of models, or `--all`", hint="`modelctl verify --all` verifies all")
    if revision is not None and not names:
        raise UsageError("`--revision` needs the model that it is one of", hint="name it: `verify ORG/NAME@REV`")


def _targets(
    project: "Project", names: Sequence[str], revision: str | None, *, cache: bool
) -> "list[tuple[RepoPaths, Location, tuple[str, ...]]]":
    """The models that words name, or all, each with the revisions that are meant: none is all of them."""
    from modelctl.store import ids, layout, naming

    found = ids.places_in(project.user_cache) if cache else ids.places(project)
    known = {model_id: layout.paths_at(folder) for model_id, (_, folder) in found.items()}
    try:
        targets = naming.among(known, names or [*known], revision=revision, parts=True, where="here")
    except NotFoundError as error:
        if cache:
            error.hint = "only your own cache is looked at: leave out `--cache` for the project"
        raise
    return [(target.paths, found[target.paths.id][0], target.revisions) for target in targets]


def _offline() -> UnreachableError:
    return UnreachableError(
        "nothing can be fetched: `HF_HUB_OFFLINE` forbids the network",
        hint="unset `HF_HUB_OFFLINE` to repair; `modelctl verify` without `--repair` needs no network",
    )


def _interrupted() -> InterruptedByUserError:
    return InterruptedByUserError(
        "the verification was interrupted", hint="run the same command again: what is proven is not read once more"
    )
