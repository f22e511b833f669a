"""Which model a command without a name means, and whether a revision is fit to be served."""

from dataclasses import dataclass

from modelctl import project as projects
from modelctl.errors import ModelctlError, NotFoundError, NotWholeError, UsageError
from modelctl.project import Project
from modelctl.ref import ModelRef
from modelctl.store import checkpoint, condition, fused, metadata, scan, tree, variant, wholeness
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.header import Header
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Facts, Model, Problem, Revision, State

_PULL = "`modelctl pull ORG/NAME` brings one"
# What to try where vLLM cannot serve a model, by the kind of the problem.
_HINTS = {
    "no_tokenizer": "name the folder of one: `-- --tokenizer FOLDER`",
    "no_config": "`modelctl verify {ref}` tells whether it is as it was published",
    "config": "`modelctl verify {ref}` tells whether it is as it was published",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One revision of one model, as `typed`, and why that one where nothing was typed."""

    model: Model
    revision: Revision
    ref: ModelRef
    typed: str
    reason: str | None = None


def choose(project: Project, name: str | None) -> Choice:
    """The model that was named, else the default one, else the only ready one of the project."""
    if name is not None:
        return _named(project, name)
    if (default := projects.default_model(project)) is not None:
        value, where = default
        try:
            return _named(project, value, reason=f"the default model, from {where}")
        except NotFoundError as error:
            error.message += f" (the default model, from {where})"
            raise
    models = [model for model in scan.scan_hub(project.hub, "project") if model.state == "ready" and model.servable]
    if len(models) == 1:
        (only,) = models
        revision = scan.revision_of(only)
        return Choice(only, revision, ModelRef(only.id), only.id, reason="the only ready model of the project")
    if not models:
        raise UsageError("no model is named, and the project has none that is ready", hint=_PULL)
    candidates = ", ".join(f"`{model.id}`" for model in models)
    raise UsageError(
        f"no model is named, and the project has {len(models)}: {candidates}",
        hint="name one, or make one the default with `modelctl use`",
        candidates=[model.id for model in models],
    )


def check_servable(choice: Choice, *, has_tokenizer: bool = False) -> Facts:
    """The facts of the chosen revision; `NotWholeError` where it is not whole, `ModelctlError` where vLLM cannot.

    `has_tokenizer`: one was named that is not the model's own.
    """
    model, revision = choice.model, choice.revision
    # A name that means nothing is not to be served as if it had not been typed.
    variant.of(revision, choice.ref)
    listing = tree.read(RepoPaths(model.path.parent, model.id), revision.commit)
    read = checkpoint.read(revision, listing=listing)
    state, reasons = model.state, model.problems
    if revision.commit != scan.revision_of(model).commit:
        state, reasons = _judged(choice)
    if state != "ready":
        problem = reasons[0] if reasons else Problem(state, "it is not complete", f"modelctl pull {choice.ref}")
        raise NotWholeError(
            f"`{choice.ref}` is {state}: {problem.message}",
            hint=f"`{problem.fix}` mends it" if problem.fix else "`modelctl list` shows what is wrong with it",
        )
    _check_tensors(choice, read)
    description = metadata.describe(read)
    problems = tuple(each for each in description.problems if not (has_tokenizer and each.kind == "no_tokenizer"))
    if description.servable is False and problems:
        problem = problems[0]
        hint = _HINTS.get(problem.kind, "`modelctl list` shows which models can be")
        raise ModelctlError(
            f"`{choice.ref}` cannot be served: {problem.message}",
            hint=f"`{problem.fix}`" if problem.fix else hint.format(ref=choice.ref),
        )
    return description.facts


def _check_tensors(choice: Choice, read: Checkpoint) -> None:
    """Refuse weights that lack what vLLM would serve without a word."""
    names: set[str] = set()
    for header in read.headers.values():
        if not isinstance(header, Header) or not header.is_read:
            return
        names |= header.names
    if missing := fused.lacking(names):
        raise NotWholeError(
            f"the weights of `{choice.ref}` lack {wholeness.listed(missing)}, and vLLM would serve it without a word",
            hint=f"`modelctl verify {choice.ref}` tells whether they are as they were published",
        )


def _judged(choice: Choice) -> tuple[State, tuple[Problem, ...]]:
    """The state of a revision that is not the one by which the model is judged."""
    model, revision = choice.model, choice.revision
    paths = RepoPaths(model.path.parent, model.id)
    listing = tree.read(paths, revision.commit)
    read = checkpoint.read(revision, listing=listing)
    pull, mend = condition.commands(paths, read, model.location)
    verdict = wholeness.judge(read, listing=listing, wanted=None, unfinished=False, pull=pull, mend=mend)
    return verdict.state, verdict.problems


def _named(project: Project, name: str, *, reason: str | None = None) -> Choice:
    model, ref = scan.find(project, name)
    return Choice(model, scan.revision_of(model, ref.revision), ref, name, reason)
