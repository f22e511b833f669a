"""`modelctl export`: a model out of the store, as a plain folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl import ref as refs
from modelctl.cli import options
from modelctl.cli import output as show
from modelctl.errors import InterruptedByUserError, UsageError

if TYPE_CHECKING:
    from modelctl.project import Project
    from modelctl.store.bringing import Way
    from modelctl.store.exporting import ExportPlan, ExportResult

EPILOG = """\b
Examples:
  modelctl export acme/my-tune ~/my-tune
  modelctl export acme/my-tune@v2 /mnt/stick/my-tune --dry-run
  modelctl export acme/model-GGUF:Q4_K_M .
"""
_HOW = {"clone": "reflink", "link": "link", "copy": "copy"}
# Whether the file system can share blocks, only the doing tells.
_PLANNED = {**_HOW, "clone": "reflink, else copy"}


def export(
    name: Annotated[str, typer.Argument(metavar="REPO[@REV]", help="A model that is here, or a part of its name.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is not there.")],
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="A branch, a tag or a commit (default: main).")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", "-c", help="Write every byte, also where blocks could be shared.")
    ] = False,
    hard_link: Annotated[
        bool, typer.Option("--hard-link", "-L", help="Share the files: whoever changes one in place changes both.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what differs; also a model that is not whole.")
    ] = False,
    models_dir: options.ModelsDir = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model out as a plain folder, proven by its hashes.

    What the folder has already is not written again, and nothing else in it is touched.
    """
    from modelctl.store import exporting

    if copy and hard_link:
        raise UsageError("`--copy` and `--hard-link` contradict each other", hint="give one of them")
    project = projects.locate(models_dir)
    out = show.Output(json=json, quiet=quiet)
    plan = _plan(project, name, folder, revision, way="copy" if copy else "link" if hard_link else "clone", force=force)
    if dry_run:
        _show_plan(out, plan)
        return
    if json:
        out.event("plan", **plan_object(plan))
    elif not quiet:
        _say_plan(out, plan)
    with out.progress() as progress:
        try:
            result = exporting.execute(plan, progress)
        except KeyboardInterrupt:
            raise InterruptedByUserError(
                f"the export of `{plan.ref}` was interrupted",
                hint="what has arrived is kept: run the same command again and it goes on from there",
            ) from None
    _show_result(out, plan, result)


def plan_object(plan: "ExportPlan") -> dict[str, Any]:
    """The plan under `--json`."""
    return {
        "id": plan.ref.id,
        "commit": plan.commit,
        "target": plan.folder.absolute(),
        "how": _HOW[plan.way],
        "size": plan.size,
        "to_write": sum(file.size for file in plan.wanted),
        "free": plan.free,
        "files": [{"name": file.name, "size": file.size, "present": file.is_there} for file in plan.files],
        "overwritten": list(plan.overwritten),
    }


def _plan(
    project: "Project", name: str, folder: Path, revision: str | None, *, way: "Way", force: bool
) -> "ExportPlan":
    from modelctl.store import exporting, scan

    model, found = scan.find(project, name)
    ref = refs.with_revision(found, revision)
    return exporting.plan(model, scan.revision_of(model, ref.revision), ref, folder, way=way, force=force)


def _show_plan(out: show.Output, plan: "ExportPlan") -> None:
    if out.json:
        out.object(plan_object(plan))
        return
    if out.quiet:
        out.line(plan.ref.id)
        return
    _say_plan(out, plan)
    columns = [show.Column("FILE"), show.Column("SIZE", "right"), show.Column("SOURCE")]
    out.table(
        columns,
        [(file.name, show.size(file.size), "present" if file.is_there else _PLANNED[plan.way]) for file in plan.files],
    )


def _say_plan(out: show.Output, plan: "ExportPlan") -> None:
    out.say(f"{plan.ref.id}@{plan.commit[:12]} to `{plan.folder}`")
    wanted = sum(file.size for file in plan.wanted)
    out.say(f"  {show.plural(len(plan.files), 'file')}, {show.size(plan.size)}, of which {show.size(wanted)} to write")
    if plan.overwritten:
        out.say(f"  overwritten: {show.plural(len(plan.overwritten), 'file')} with another content")
    if plan.way == "link":
        out.say("  note: whoever changes one of these files in place changes the model")


def _show_result(out: show.Output, plan: "ExportPlan", result: "ExportResult") -> None:
    if out.json:
        out.event(
            "done",
            id=plan.ref.id,
            commit=plan.commit,
            path=plan.folder.absolute(),
            how=result.way and _HOW[result.way],
            files=len(plan.files),
            size=plan.size,
            written=result.written,
            seconds=round(result.seconds, 3),
        )
    elif out.quiet:
        out.line(plan.ref.id)
    else:
        how = _HOW[result.way] if result.way else "all of it was there"
        out.line(f"exported {plan.ref.id}@{plan.commit[:12]} to `{plan.folder}` ({show.size(plan.size)}; {how})")
