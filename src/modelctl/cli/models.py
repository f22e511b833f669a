"""How a model is shown: its keys under `--json`, its row in a table, its problems."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from modelctl.cli import output as show
from modelctl.cli.output import Column, Output
from modelctl.store.model import Model, Problem, Revision

if TYPE_CHECKING:
    from modelctl.engine.fitting import Fit

COLUMNS = (
    Column("NAME"),
    Column("SIZE", "right", spare=6),
    Column("PARAMS", "right", spare=5),
    Column("DTYPE", spare=2),
    Column("CONTEXT", "right", spare=1),
    Column("STATE"),
    Column("USED", spare=3),
    Column("WHERE", spare=4),
)
REVISION_COLUMNS = (
    Column("NAME"),
    Column("REVISION"),
    Column("REFS"),
    Column("FILES", "right", spare=1),
    Column("SIZE", "right", spare=3),
    Column("MODIFIED", spare=2),
    Column("WHERE", spare=4),
)
_SHORT = 12


def model_object(model: Model, fit: "Fit | None" = None) -> dict[str, Any]:
    """The model under `--json`; `fit` says how it fits this machine."""
    facts = model.facts
    return {
        "id": model.id,
        "location": model.location,
        "path": model.path,
        "state": model.state,
        "servable": model.servable,
        "size": model.size,
        "allocated": model.allocated,
        "done": model.done,
        "total": model.total,
        "revisions": [revision_object(revision) for revision in model.revisions],
        "modified": model.modified,
        "used": model.used,
        "format": facts.format,
        "task": facts.task,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "dtype": facts.dtype,
        "quantization": facts.quantization,
        "context_length": facts.context_length,
        "license": facts.license,
        "fits": fit.fits if fit else None,
        "fits_context": fit.context if fit else None,
        "other_copies": list(model.other_copies),
        "problems": [problem_object(problem) for problem in model.problems],
    }


def revision_object(revision: Revision) -> dict[str, Any]:
    """The revision under `--json`, its files counted."""
    return {
        "commit": revision.commit,
        "refs": list(revision.refs),
        "size": revision.size,
        "files": len(revision.files),
        "modified": revision.modified,
    }


def problem_object(problem: Problem) -> dict[str, Any]:
    """The problem under `--json`."""
    return {"kind": problem.kind, "message": problem.message, "fix": problem.fix}


def row(model: Model) -> tuple[str, ...]:
    """The model in a table with `COLUMNS`."""
    facts = model.facts
    return (
        model.id,
        show.size(model.held),
        show.count(facts.parameters),
        facts.quantization or facts.dtype or "-",
        context(facts.context_length),
        state(model),
        show.age(model.used),
        f"{model.location}+cache" if model.other_copies else model.location,
    )


def revision_rows(model: Model) -> Iterator[tuple[str, ...]]:
    """The revisions of a model in a table with `REVISION_COLUMNS`."""
    for revision in model.revisions:
        yield (
            model.id,
            revision.commit[:_SHORT],
            ", ".join(revision.refs) or "-",
            str(len(revision.files)),
            show.size(revision.size),
            show.age(revision.modified),
            model.location,
        )


def state(model: Model) -> str:
    """The state in a word, with how far it is where that is known: `partial 45 %`."""
    if model.state == "partial" and model.total:
        return f"partial {model.done * 100 // model.total} %"
    return model.state


def context(tokens: int | None) -> str:
    """A context length as people name it: 131072 is 128K."""
    if tokens is None:
        return "-"
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)


def say_problems(out: Output, models: Iterable[Model]) -> None:
    """Say what is wrong with the models that are not whole, and the command that mends each."""
    for model in models:
        if model.state == "ready":
            continue
        relevant = [problem for problem in model.problems if problem.fix or problem.kind == "pulling"] or model.problems
        out.say(f"`{model.id}` is {model.state}: {_sentence(relevant)}")
        fix = next((problem.fix for problem in relevant if problem.fix), None)
        if fix:
            out.say(f"hint: `{fix}`")


def _sentence(problems: Sequence[Problem]) -> str:
    shown = [problem.message for problem in problems[:3]]
    more = [f"and {len(problems) - 3} more"] if len(problems) > 3 else []
    return "; ".join(shown + more)
