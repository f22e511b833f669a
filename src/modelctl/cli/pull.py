"""`modelctl pull`: models from the Hub into the project."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelctl import project as projects
from modelctl import ref as refs
from modelctl.cli import completion, options, pulling
from modelctl.cli import output as show
from modelctl.errors import ModelctlError, UnreachableError, UsageError

if TYPE_CHECKING:
    from modelctl.hub.plan import PullPlan
    from modelctl.hub.pull import PullResult
    from modelctl.hub.workers import Limits
    from modelctl.project import Project

# How long a Hub may say nothing at all where the model is here already, in seconds.
_SILENCE = 10.0
EPILOG = """\b
Examples:
  modelctl pull Qwen/Qwen3-0.6B
  modelctl pull Qwen/Qwen3-0.6B@main BAAI/bge-m3
  modelctl pull acme/big --dry-run
  modelctl pull acme/model-GGUF:Q4_K_M
  modelctl pull acme/model --include '*.json'
  modelctl pull --update --all
"""


def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REPO[@REV]...",
            help="Models on the Hub; with --update models that are here.",
            autocompletion=completion.models,
        ),
    ] = None,
    revision: options.Revision = None,
    all_files: Annotated[bool, typer.Option("--all-files", help="The whole repository, not what vLLM loads.")] = False,
    include: Annotated[
        list[str] | None, typer.Option("--include", metavar="PATTERN", help="Only files that match; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="No files that match; repeatable.")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help="Sent to the Hub alone (default: your login).")
    ] = None,
    max_workers: Annotated[
        int, typer.Option("--max-workers", min=1, max=64, help="Connections at most; as many work as bring more.")
    ] = 16,
    retry_for: Annotated[
        float, typer.Option("--retry-for", metavar="SECONDS", help="How long to keep trying while nothing arrives.")
    ] = 120.0,
    stall_after: Annotated[
        float, typer.Option("--stall-after", metavar="SECONDS", help="When a silent connection is given up.")
    ] = 20.0,
    transport: Annotated[
        Literal["http", "xet"],
        typer.Option("--transport", help="How the files that the Hub keeps in Xet storage come."),
    ] = "http",
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is already here.")] = False,
    no_reuse: Annotated[
        bool, typer.Option("--no-reuse", help="Fetch also what other models, or your cache, already have.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Bring models that are here to the newest commit of their branches.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="With --update: every model of the project.")] = False,
    no_use: Annotated[bool, typer.Option("--no-use", help="Do not make it the project's default model.")] = False,
    models_dir: options.ModelsDir = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring models from the Hub into ./models, all of it proven.

    Fetches the files that vLLM loads. Run again, it goes on where it stopped, or brings the newest commit.
    """
    from modelctl.cli import update as updating
    from modelctl.hub import pull as pulls
    from modelctl.hub import room
    from modelctl.hub.plan import Choice

    reuse = not no_reuse
    asked = {"--revision": revision, "--all-files": all_files, "--include": include, "--exclude": exclude}
    asked |= {"--force": force, "--all": everything}
    if update:
        updating.check(names, everything=everything, others=[option for option, value in asked.items() if value])
    elif everything:
        raise UsageError("`--all` is about models that are here", hint="`modelctl pull --update --all` updates them")
    elif not names:
        raise UsageError("missing argument `REPO[@REV]...`", hint="see `modelctl pull --help`")
    wanted = [] if update else _named(names or [], revision)
    if all_files and include:
        raise UsageError("`--all-files` and `--include` contradict each other", hint="give one of them")
    limits = pulling.limits(max_workers, retry_for=retry_for, stall_after=stall_after, transport=transport)
    if transport == "xet":
        projects.keep_xet_apart()
    project = projects.locate(models_dir)
    out = show.Output(json=json, quiet=quiet)
    if update:
        updating.run(out, project, names or [], token=token, limits=limits, reuse=reuse, dry_run=dry_run)
        return
    hub = pulling.connect(project, token, patience=pulling.patience(out, limits, dry_run=dry_run))
    choice = Choice(
        all_files=all_files,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        force=force,
        reuse=reuse,
    )
    plans = [_plan(project, hub, ref, choice) for ref in wanted]
    for planned in plans:
        pulls.check(planned)
    if dry_run:
        _show_dry_run(out, project, plans)
        return
    room.check(plans)
    results = [_execute(out, planned, hub, limits) for planned in plans]
    default = None if no_use else _set_default(out, project, plans)
    if json:
        out.event("done", models=[pulling.result_object(result) for result in results], default_model=default)


def _named(names: list[str], revision: str | None) -> list[refs.ModelRef]:
    """What the words mean, each once: `acme/x` is `acme/x@main`."""
    wanted = [refs.parse(name, revision=revision) for name in names]
    return list({(ref.id, ref.revision or "main", ref.variant): ref for ref in wanted}.values())


def _plan(project: "Project", hub: Any, ref: refs.ModelRef, choice: Any) -> "PullPlan":  # noqa: ANN401
    from modelctl.hub import plan as planning

    is_ready = _has_ready_revision(project, ref)
    if is_ready:
        # Nobody wants to wait for a Hub that says nothing while there is a model to serve.
        hub = replace(hub, patience=replace(hub.patience, silence=_SILENCE))
    try:
        caches, offline = pulling.caches(project), projects.is_offline(project)
        with pulling.choices_named():
            return planning.plan(hub, project.hub, ref, choice=choice, caches=caches, offline=offline)
    except UnreachableError as error:
        if is_ready:
            error.hint = f"what is already here can be served: `modelctl serve {ref.id}`"
        raise


def _has_ready_revision(project: "Project", ref: refs.ModelRef) -> bool:
    from modelctl.store import scan
    from modelctl.store.layout import RepoPaths

    model = scan.scan_model(RepoPaths(project.hub, ref.id), "project")
    return model is not None and model.state == "ready"


def _show_dry_run(out: show.Output, project: "Project", plans: list["PullPlan"]) -> None:
    from modelctl.hub import room as rooms

    if out.json:
        out.object({"models_dir": project.models_dir, "models": [pulling.plan_object(planned) for planned in plans]})
        return
    if out.quiet:
        for planned in plans:
            out.line(planned.id)
        return
    columns = [show.Column("FILE"), show.Column("SIZE", "right"), show.Column("SOURCE")]
    for planned in plans:
        pulling.say_plan(out, planned)
        rows = [[file.name, show.size(file.size), file.source] for file in planned.files]
        rows += [[name, show.size(size), "left out"] for name, size in planned.skipped]
        out.table(columns, rows)
    for room in rooms.look(plans):
        pulling.say_room(out, room)


def _execute(out: show.Output, planned: "PullPlan", hub: Any, limits: "Limits") -> "PullResult":  # noqa: ANN401
    if out.json:
        out.event("plan", **pulling.plan_object(planned))
    elif not out.quiet:
        pulling.say_plan(out, planned)
    result = pulling.execute(out, planned, hub, limits)
    if not out.json:
        _say_result(out, planned, result)
    return result


def _say_result(out: show.Output, planned: "PullPlan", result: "PullResult") -> None:
    if out.quiet:
        out.line(result.id)
        return
    out.line(f"pulled {planned.id}@{planned.commit[:12]} ({show.size(planned.size)}; {pulling.fetched(result)})")


def _set_default(out: show.Output, project: "Project", plans: list["PullPlan"]) -> str | None:
    """Make the first model that can be served the project's default where it has none, and say so."""
    from modelctl.cli import use

    chosen = next((planned.id for planned in plans if planned.kind == "model"), None)
    try:
        if chosen is None or projects.default_model(project) is not None:
            return None
        use.set_default(project, refs.ModelRef(chosen))
    except ModelctlError as error:
        # The models are here, so the pull is no failure.
        out.note(f"`{chosen}` is not made the default model: {error.message}", is_warning=True)
        return None
    if not out.json and not out.quiet:
        out.say(f"`{chosen}` is now the default model of this project (`{_shown(project.env_file)}`)")
    return chosen


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
