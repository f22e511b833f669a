"""`modelctl export-config`: what other systems that run vLLM have to know of a model."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl import project as projects
from modelctl.cli import completion, options
from modelctl.cli import output as show

if TYPE_CHECKING:
    from modelctl.engine.profile import Profile
    from modelctl.engine.subject import Configuration, Subject
    from modelctl.project import Project
    from modelctl.store.choice import Choice

EPILOG = """\b
Examples:
  modelctl export-config --format vllm Qwen/Qwen3-0.6B > vllm.yaml
  modelctl export-config --format compose Qwen/Qwen3-0.6B > compose.yaml
  modelctl export-config --format ray-serve qwen3-0.6b > serve.yaml
  modelctl export-config --format kserve Qwen/Qwen3-0.6B | kubectl apply -f -
"""


class Format(StrEnum):
    """The systems, by the names that they have on the command line."""

    VLLM = "vllm"
    COMPOSE = "compose"
    RAY_SERVE = "ray-serve"
    PRODUCTION_STACK = "production-stack"
    KSERVE = "kserve"


def export_config(
    kind: Annotated[Format, typer.Option("--format", help="The system that it is for.")],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[REPO[@REV]]", help="A model here (default: the project's own).", autocompletion=completion.models
        ),
    ] = None,
    models_dir: options.ModelsDir = None,
    json: options.Json = False,
) -> None:
    """Print the configuration of another system that runs vLLM.

    It is made from the model that is here and from its settings in modelctl.toml, as `serve` would run it.
    """
    from modelctl.engine import handover, settings_file
    from modelctl.store import choice as choosing

    project, out = projects.locate(models_dir), show.Output(json=json)
    choice = choosing.choose(project, name)
    mine = settings_file.read(project).of(choice.model.id)
    choosing.check_servable(choice, has_tokenizer=mine.has_tokenizer)
    made = handover.configuration(_subject(project, choice, mine), kind.value)
    if json:
        about = {"id": choice.model.id, "commit": choice.revision.commit, "format": kind.value}
        out.object({**about, "usage": made.usage, "notes": list(made.notes), "configuration": made.document})
        return
    for note in made.notes:
        out.say(f"note: {note}")
    out.line(_text(made, f"{choice.model.id}@{choice.revision.commit[:12]}"))


def _subject(project: "Project", choice: "Choice", mine: "Profile") -> "Subject":
    """The model with its profile, and nothing that is so on this machine only."""
    from modelctl.cli import preparing
    from modelctl.engine import command, lora, paths
    from modelctl.engine.subject import Subject
    from modelctl.store import imports
    from modelctl.store.layout import RepoPaths

    loras = lora.resolved(project, mine.loras, folder=mine.folder)
    rank = None if "max-lora-rank" in mine.flags else lora.max_rank(loras)
    nodes = {"nnodes": mine.nnodes, "master-addr": mine.master_addr}
    backend = {"distributed-executor-backend": "ray"} if mine.ray else {}
    hub = choice.model.path.parent.absolute()
    return Subject(
        id=choice.model.id,
        commit=choice.revision.commit,
        snapshot=choice.revision.path.absolute(),
        hub=hub,
        folder=project.folder.absolute(),
        size=choice.revision.size,
        on_hub=imports.of(RepoPaths(hub, choice.model.id), choice.revision) is None,
        names=command.served_names(choice.model.id, choice.model.id, mine.served_names),
        host=mine.host or preparing.HOST,
        port=mine.port or preparing.PORT,
        with_key=mine.api_key_file is not None,
        image=mine.image,
        loras=loras,
        max_lora_rank=rank,
        flags=mine.flags,
        files=paths.here(mine.flags),
        nodes={**{key: value for key, value in nodes.items() if value is not None}, **backend},
    )


def _text(made: "Configuration", what: str) -> str:
    """The document as YAML, with how it is used above it."""
    # Comes with huggingface_hub.
    import yaml  # type: ignore[import-untyped]

    body = yaml.safe_dump(made.document, sort_keys=False, allow_unicode=True, width=2**31)
    # A folder may have any name, and a line break would end the comment.
    usage = show.one_line(made.usage)
    return f"# {what}, by `modelctl export-config`\n# {usage}\n{body.rstrip()}"
