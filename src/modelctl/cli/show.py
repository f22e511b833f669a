"""`modelctl show`: all that is known of one model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from modelctl import project as projects
from modelctl.cli import completion, options
from modelctl.cli import output as show

if TYPE_CHECKING:
    from pathlib import Path

    from modelctl.engine.fitting import Fit
    from modelctl.project import Project
    from modelctl.store.model import Model, Revision

EPILOG = """\b
Examples:
  modelctl show Qwen/Qwen3-0.6B
  modelctl show qwen3-0.6b
  modelctl show qwen3-0.6b@main --json
  modelctl show qwen3-0.6b --memory
"""


def show_model(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@REV]", help="A model, or any unique part of its name.", autocompletion=completion.models
        ),
    ],
    memory: Annotated[
        bool, typer.Option("--memory", help="Show what it needs of this machine's memory, and why it fits or not.")
    ] = False,
    models_dir: options.ModelsDir = None,
    json: options.Json = False,
) -> None:
    """Show one model: facts, whether it fits, files, problems."""
    from modelctl.cli import fitting
    from modelctl.cli import memory as reasons
    from modelctl.store import scan

    project, out = projects.locate(models_dir), show.Output(json=json)
    with fitting.asked(project) as machine:
        model, named = scan.find(project, name)
        if named.revision is not None:
            model = scan.at(model, scan.revision_of(model, named.revision))
        fit = machine.fit(model)
    if json:
        about = {"engine": _engine(project, model)._asdict(), "memory": reasons.fits_object(fit, machine.machine)}
        out.object({"model": model_object(model, fit), **about})
        return
    if memory:
        for line in reasons.lines(model, fit, machine.machine):
            out.line(line)
        return
    for line in _lines(model, _engine(project, model), reasons.sentence(fit)):
        out.line(line)
    for problem in model.problems:
        out.say(f"problem: {problem.message}")
        if problem.fix:
            out.say(f"hint: `{problem.fix}`")


class _Engine(NamedTuple):
    """The vLLM that would serve the model, and whether it knows the architecture."""

    version: str | None = None
    device: str | None = None
    knows: bool | None = None
    note: str | None = None


def _engine(project: "Project", model: "Model") -> _Engine:
    from modelctl.engine import architectures, discovery
    from modelctl.errors import ModelctlError

    try:
        engine = discovery.find(project)
    except ModelctlError as error:
        return _Engine(note=error.message)
    if engine is None:
        return _Engine()
    # A GGUF file names architectures in words of its own.
    architecture = None if model.facts.format == "gguf" else model.facts.architecture
    answer = architectures.asked(engine, architecture)
    return _Engine(engine.version, engine.device, answer.knows, answer.note)


def model_object(model: "Model", fit: "Fit | None" = None) -> dict[str, Any]:
    """The keys of `list`, and the files of each revision."""
    from modelctl.cli import models

    revisions = [{**models.revision_object(one), "files": _files(one), "path": one.path} for one in model.revisions]
    return {**models.model_object(model, fit), "revisions": revisions}


def _files(revision: "Revision") -> list[dict[str, Any]]:
    return [{"name": file.name, "size": file.size, "path": file.path, "blob": file.blob} for file in revision.files]


def _lines(model: "Model", engine: _Engine, fits: str | None) -> Iterator[str]:
    yield show.one_line(model.id)
    told = (("engine", _known(engine)), ("fits", fits))
    facts = [(label, show.one_line(text)) for label, text in (*_facts(model), *told) if text]
    width = max(len(label) for label, _ in facts)
    for label, text in facts:
        yield f"  {label.ljust(width)}  {text}"
    for revision in model.revisions:
        yield ""
        yield from _revision_lines(revision)


def _facts(model: "Model") -> Iterator[tuple[str, str | None]]:
    from modelctl.cli import models

    facts = model.facts
    yield "state", models.state(model) + _served(model)
    yield model.location, str(model.path)
    for path in model.other_copies:
        yield "also in cache", _other_copy(path)
    yield "size", f"{show.size(model.size)} ({show.size(model.allocated)} on disk)"
    if model.total is not None and model.state != "ready":
        yield "arrived", f"{show.size(model.done)} of {show.size(model.total)}"
    yield "format", facts.format
    yield "task", facts.task
    yield "architecture", facts.architecture
    if facts.parameters is not None:
        exact = f" ({facts.parameters:,})" if facts.parameters >= 1000 else ""
        yield "parameters", f"{show.count(facts.parameters)}{exact}"
    yield "dtype", facts.dtype
    yield "quantization", facts.quantization
    if facts.context_length is not None:
        yield "context", f"{facts.context_length:,} tokens"
    yield "license", facts.license
    yield "modified", show.age(model.modified)
    yield "used", show.age(model.used) if model.used else None


def _known(engine: _Engine) -> str | None:
    if engine.note or engine.knows is None:
        return engine.note
    return f"vLLM {engine.version} knows its architecture"


def _served(model: "Model") -> str:
    if model.servable is None:
        return ""
    return ", vLLM can serve it" if model.servable else ", vLLM cannot serve it"


def _other_copy(path: "Path") -> str:
    """Where another copy lies, and in what condition."""
    from modelctl.cli import models
    from modelctl.store import layout, scan

    copy = scan.scan_model(layout.paths_at(path), "cache")
    return f"{path} ({models.state(copy)}, {show.size(copy.size)})" if copy else str(path)


def _revision_lines(revision: "Revision") -> list[str]:
    refs = f" ({', '.join(revision.refs)})" if revision.refs else ""
    count = show.plural(len(revision.files), "file")
    heading = f"revision {revision.commit}{refs}: {count}, {show.size(revision.size)}, {show.age(revision.modified)}"
    columns = (show.Column("FILE"), show.Column("SIZE", "right"))
    table = show.table_lines(columns, ((file.name, show.size(file.size)) for file in revision.files))
    return [heading, *(f"  {line}" for line in table)]
