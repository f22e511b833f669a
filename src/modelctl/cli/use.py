"""`modelctl use`: the default model of a project."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl import env_file
from modelctl import project as projects
from modelctl.cli import completion, options
from modelctl.cli import output as show

if TYPE_CHECKING:
    from modelctl.project import Project
    from modelctl.ref import ModelRef

EPILOG = """\b
Examples:
  modelctl use Qwen/Qwen3-0.6B
  modelctl use
"""


def use(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[REPO[@REV]]",
            help="A model that is here; none shows the default one.",
            autocompletion=completion.models,
        ),
    ] = None,
    models_dir: options.ModelsDir = None,
    json: options.Json = False,
) -> None:
    """Choose the model that `serve` means where none is named.

    It is written as MODELCTL_MODEL into the project's .env, whose other lines stay as they are.
    """
    from modelctl.store import scan

    project = projects.locate(models_dir)
    out = show.Output(json=json)
    if name is None:
        _show(out, project)
        return
    model, ref = scan.find(project, name)
    if ref.revision is not None:
        scan.revision_of(model, ref.revision)
    written = set_default(project, ref)
    if json:
        _show(out, project)
        return
    out.line(str(ref))
    out.say(f"it is the default model now, written to `{written}`")
    _say_what_counts(out, project)


def set_default(project: "Project", ref: "ModelRef") -> Path:
    """Write the default model into the project's `.env`, and return the file; where `.env` is a link, what it means."""
    from modelctl.store import changes

    path = Path(os.path.realpath(project.env_file))
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        text = ""
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    changed = env_file.with_default_model(text, str(ref))
    if changed != text:
        changes.write_file(path, changed)
    return path


def names_model(project: "Project", model_id: str) -> bool:
    """Whether the project's default is this model."""
    default = projects.default_model(project)
    return default is not None and default[0].partition("@")[0].partition(":")[0] == model_id


def _show(out: show.Output, project: "Project") -> None:
    default = projects.default_model(project)
    if out.json:
        model, source = default or (None, None)
        out.object({"default_model": model, "source": source, "env_file": project.env_file})
    elif default is None:
        out.say(f"`{project.env_file}` names no default model")
        out.say("hint: `modelctl use ORG/NAME` chooses one of `modelctl list`")
    else:
        out.line(default[0])
        _say_what_counts(out, project)


def _say_what_counts(out: show.Output, project: "Project") -> None:
    default = projects.default_model(project)
    if default is not None and default[1] != str(project.env_file):
        out.say(f"note: `MODELCTL_MODEL` in {default[1]} is `{default[0]}`, and counts before `{project.env_file}`")
