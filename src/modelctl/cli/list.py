"""`modelctl list`: what is here."""

from typing import Annotated

import typer

from modelctl import project as projects
from modelctl.cli import options
from modelctl.cli import output as show

EPILOG = """\b
Examples:
  modelctl list
  modelctl list qwen
  modelctl list --outdated
  modelctl list --json | jq -r '.models[] | select(.state == "ready").id'
"""


def list_models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only models with this in their name; globs too.")
    ] = None,
    outdated: Annotated[
        bool, typer.Option("--outdated", help="Only models of which the Hub has a newer commit; asks it once a model.")
    ] = False,
    models_dir: options.ModelsDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the models of ./models and of your own cache.

    A half or damaged model is shown with its problem and the command that mends it.
    """
    from modelctl.store import scan

    project = projects.locate(models_dir)
    out = show.Output(json=json, quiet=quiet)
    known = scan.project_names(project)
    chosen = scan.matching(known, names) if names else known
    if outdated:
        from modelctl.cli import outdated as newer

        newer.show_outdated(out, project, chosen)
        return
    if quiet and not json:
        for name in chosen:
            out.line(name)
        return
    from modelctl.cli import models as shown

    if json:
        from modelctl.cli import fitting

        with fitting.asked(project) as machine:
            models = scan.scan_project(project, chosen)
            listed = [shown.model_object(model, machine.fit(model)) for model in models]
        out.object({"models_dir": str(project.models_dir), "models": listed})
        return
    models = scan.scan_project(project, chosen)
    if not models:
        out.say(f"no models in `{project.models_dir}` yet")
        out.say("hint: `modelctl pull Qwen/Qwen3-0.6B` fetches a small one")
        return
    out.table(shown.COLUMNS, map(shown.row, models))
    out.line(f"{show.plural(len(models), 'model')}, {show.size(scan.total_size(models))}")
    shown.say_problems(out, models)
