"""`modelctl import`: models that lie outside of any store into the project."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl import ref as refs
from modelctl.cli import models, options
from modelctl.cli import output as show
from modelctl.errors import InterruptedByUserError, UsageError

if TYPE_CHECKING:
    from modelctl.store.bringing import Way
    from modelctl.store.importing import ImportPlan
    from modelctl.store.intake import ImportResult

EPILOG = """\b
Examples:
  modelctl import runs/checkpoint-500 --as acme/my-tune
  modelctl import runs/checkpoint-900 --as acme/my-tune@v2 --dry-run
  modelctl import model-Q4_K_M.gguf --as acme/model-GGUF
  modelctl import ~/.lmstudio/models/acme/Qwen-GGUF --as acme/Qwen-GGUF
"""
_HOW = {"clone": "reflink", "link": "link", "copy": "copy"}
# Whether the file system can share blocks, only the doing tells.
_PLANNED = {**_HOW, "clone": "reflink, else copy"}


def import_model(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, a GGUF file, or a manifest of Ollama.")],
    name: Annotated[str, typer.Option("--as", metavar="REPO[@TAG]", help="The name that the model gets.")],
    copy: Annotated[
        bool, typer.Option("--copy", "-c", help="Write every byte, also where blocks could be shared.")
    ] = False,
    hard_link: Annotated[
        bool, typer.Option("--hard-link", "-L", help="Share the files: whoever changes one in place changes both.")
    ] = False,
    all_files: Annotated[bool, typer.Option("--all-files", help="The whole folder, not what vLLM loads.")] = False,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Also links that lead out of the folder.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what vLLM could not load.")] = False,
    models_dir: options.ModelsDir = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring a folder, or a GGUF file, into ./models as a model.

    A fine-tuned checkpoint, a download into a plain folder, a model of Ollama or LM Studio. It checks first that vLLM
    could load it. The source stays as it is; run again on the same files, it changes nothing.
    """
    from modelctl.store import importing

    if copy and hard_link:
        raise UsageError("`--copy` and `--hard-link` contradict each other", hint="give one of them")
    ref = refs.parse(name)
    project = projects.locate(models_dir)
    out = show.Output(json=json, quiet=quiet)
    way: Way = "copy" if copy else "link" if hard_link else "clone"
    choice = importing.Choice(way=way, all_files=all_files, force=force, follow=follow_links)
    plan = importing.plan(path, project.hub, ref, choice=choice)
    if dry_run:
        _show_plan(out, plan)
        return
    result = _execute(out, plan)
    _show_result(out, plan, result)


def plan_object(plan: "ImportPlan") -> dict[str, Any]:
    """The plan under `--json`."""
    model = plan.model
    return {
        "id": plan.id,
        "ref": plan.ref,
        "source": plan.source.path.absolute(),
        "kind": plan.source.kind,
        "target": plan.paths.folder,
        "how": _HOW[plan.way],
        "format": model.facts.format,
        "quantizations": list(model.quantizations),
        "size": model.size,
        "free": plan.free,
        "files": [{"name": file.name, "size": file.size, "origin": file.path} for file in model.files],
        "left_out": [{"name": one.name, "size": one.size, "why": one.why} for one in model.left_out],
        "problems": [models.problem_object(problem) for problem in model.problems],
        "named": plan.named,
        "note": model.note,
    }


def _execute(out: show.Output, plan: "ImportPlan") -> "ImportResult":
    from modelctl.store import importing

    if out.json:
        out.event("plan", **plan_object(plan))
    elif not out.quiet:
        _say_plan(out, plan)
    with out.progress() as progress:
        try:
            return importing.execute(plan, progress)
        except KeyboardInterrupt:
            raise InterruptedByUserError(
                f"the import of `{plan.id}` was interrupted",
                hint="what has arrived is kept: run the same command again and it goes on from there",
            ) from None


def _show_plan(out: show.Output, plan: "ImportPlan") -> None:
    if out.json:
        out.object(plan_object(plan))
        return
    if out.quiet:
        out.line(plan.id)
        return
    _say_plan(out, plan)
    columns = [show.Column("FILE"), show.Column("SIZE", "right"), show.Column("SOURCE")]
    rows = [(file.name, show.size(file.size), _PLANNED[plan.way]) for file in plan.model.files]
    rows += [(one.name, show.size(one.size), "left out") for one in plan.model.left_out]
    out.table(columns, rows)


def _say_plan(out: show.Output, plan: "ImportPlan") -> None:
    model = plan.model
    out.say(f"`{plan.source.path}` as {plan.id}@{plan.ref}")
    quantizations = f", {', '.join(model.quantizations)}" if model.quantizations else ""
    out.say(f"  {show.plural(len(model.files), 'file')}, {show.size(model.size)}{quantizations}, {_PLANNED[plan.way]}")
    if model.left_out:
        size = sum(one.size or 0 for one in model.left_out)
        out.say(f"  left out: {show.plural(len(model.left_out), 'file')}, {show.size(size)} (`--dry-run` shows them)")
    for problem in model.problems:
        out.say(f"  problem: {problem.message}")
    if model.note:
        out.say(f"  note: {model.note}")
    if plan.way == "link":
        out.say("  note: whoever changes a file of the source in place changes the model")


def _show_result(out: show.Output, plan: "ImportPlan", result: "ImportResult") -> None:
    model = plan.model
    if out.json:
        out.event(
            "done",
            id=plan.id,
            ref=plan.ref,
            commit=result.commit,
            path=result.path,
            how=result.way and _HOW[result.way],
            files=len(model.files),
            size=model.size,
            written=result.written,
            left=result.left,
            seconds=round(result.seconds, 3),
        )
        return
    if out.quiet:
        out.line(plan.id)
        return
    how = _HOW[result.way] if result.way else "all of it was here"
    out.line(f"imported {plan.id}@{result.commit[:12]} ({show.size(model.size)}; {how})")
    if result.left:
        old = f"{plan.id}@{result.left[:12]}"
        out.say(f"`{plan.ref}` has moved on from {result.left[:12]}, which stays; `modelctl rm {old}` removes it")
