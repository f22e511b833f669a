"""`modelctl list`: what is here."""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from modelctl import project as projects
from modelctl.cli import completion, options
from modelctl.cli import output as show
from modelctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelctl.engine.memory import Need
    from modelctl.project import Project
    from modelctl.store.model import Model

EPILOG = """\b
Examples:
  modelctl list
  modelctl list qwen --sort size
  modelctl list --filter 'params<8B' --filter quant=none
  modelctl list -q --filter 'used>30d' --sort used:asc --limit 5
  modelctl list --outdated
  modelctl list --json | jq -r '.models[] | select(.state == "ready").id'
"""


def list_models(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Only models with this in their name; globs too.",
            autocompletion=completion.models,
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            "-f",
            metavar="FILTER",
            help="Only models that fit, as in size>10GB, params<8B, state=partial, used>30d, license!=mit; repeatable.",
        ),
    ] = None,
    sort: Annotated[
        list[str] | None,
        typer.Option(
            "--sort", metavar="KEY[:asc|desc]", help="In this order; repeatable.", autocompletion=completion.sort_keys
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=0, help="At most so many.")] = None,
    revisions: Annotated[bool, typer.Option("--revisions", help="A line for each revision.")] = False,
    outdated: Annotated[
        bool, typer.Option("--outdated", help="Only models of which the Hub has a newer commit; asks it once a model.")
    ] = False,
    models_dir: options.ModelsDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the models of ./models and of your own cache.

    A half or damaged model is shown with its problem and the command that mends it. Filters and orders know name, size,
    params, dtype, quant, context, state, used, modified, format, task, arch, license, servable and location. What is
    not known of a model is =none, and stands last.
    """
    from modelctl.store import ids

    project = projects.locate(models_dir)
    out = show.Output(json=json, quiet=quiet)
    select = _selection(filters or [], sort or [])
    if outdated and (revisions or select or limit is not None):
        other = "--filter" if filters else "--sort" if sort else "--limit" if limit is not None else "--revisions"
        raise UsageError(f"`--outdated` and `{other}` do not go together", hint="give one of them")
    known = ids.of_project(project)
    asked = chosen = ids.matching(known, words) if words else known
    if outdated:
        from modelctl.cli import outdated as newer

        newer.show_outdated(out, project, chosen)
        return
    # Nobody needs a look into a model that is not shown.
    chosen = chosen if select else chosen[:limit]
    if quiet and not (json or select or revisions):
        for name in chosen:
            out.line(show.one_line(name))
        return
    from modelctl.store import scan, survey

    def pick(models: "Sequence[Model]") -> "Sequence[Model]":
        return select(models)[:limit] if select else models

    if json:
        _print_objects(out, project, chosen, pick)
        return
    # Only a table of revisions tells of files.
    everything = scan.scan_project(project, chosen) if revisions else scan.scan_each(project, survey.brief, chosen)
    models = pick(everything)
    if quiet:
        for model in models:
            _show_id(out, model, revisions=revisions)
    elif models:
        _show_table(out, models, revisions=revisions)
    else:
        _say_nothing_found(out, project, len(asked))


class _Listed(NamedTuple):
    """A model without its files, and what is told of them."""

    model: "Model"
    need: "Need | None"
    revisions: list[dict[str, Any]]


def _listed(model: "Model") -> _Listed:
    from modelctl.cli import fitting
    from modelctl.cli import models as shown
    from modelctl.store import survey

    revisions = [shown.revision_object(revision) for revision in model.revisions]
    return _Listed(survey.brief(model), fitting.need(model), revisions)


def _print_objects(
    out: show.Output,
    project: "Project",
    chosen: "Sequence[str]",
    pick: "Callable[[Sequence[Model]], Sequence[Model]]",
) -> None:
    from modelctl.cli import fitting
    from modelctl.cli import models as shown
    from modelctl.store import scan

    with fitting.asked(project) as machine:
        listed = {one.model.id: one for one in scan.scan_each(project, _listed, chosen)}
        objects = []
        for model in pick([one.model for one in listed.values()]):
            _, need, revisions = listed[model.id]
            objects.append({**shown.model_object(model, machine.fit_need(need)), "revisions": revisions})
    out.object({"models_dir": str(project.models_dir), "models": objects})


def _selection(
    filters: "Sequence[str]", sort: "Sequence[str]"
) -> "Callable[[Sequence[Model]], Sequence[Model]] | None":
    """What picks and orders the models, `None` where nothing is asked for."""
    if not filters and not sort:
        return None
    from modelctl.store import query

    conditions = [query.condition(text) for text in filters]
    orders = [query.order(text) for text in sort]
    return lambda models: query.chosen(models, conditions, orders)


def _show_id(out: show.Output, model: "Model", *, revisions: bool) -> None:
    for revision in model.revisions if revisions else ():
        out.line(show.one_line(f"{model.id}@{revision.commit}"))
    if not revisions:
        out.line(show.one_line(model.id))


def _show_table(out: show.Output, models: "Sequence[Model]", *, revisions: bool) -> None:
    from modelctl.cli import models as shown
    from modelctl.store import scan

    total = f"{show.plural(len(models), 'model')}, {show.size(scan.total(models).held)}"
    if revisions:
        rows = [row for model in models for row in shown.revision_rows(model)]
        out.table(shown.REVISION_COLUMNS, rows)
        total = f"{show.plural(len(rows), 'revision')} of {total}"
    else:
        out.table(shown.COLUMNS, map(shown.row, models))
    out.line(total)
    shown.say_problems(out, models)


def _say_nothing_found(out: show.Output, project: "Project", here: int) -> None:
    if here:
        out.say(f"none of {show.plural(here, 'model')} is asked for")
        return
    out.say(f"no models in `{project.models_dir}` yet")
    out.say("hint: `modelctl pull Qwen/Qwen3-0.6B` fetches a small one")
