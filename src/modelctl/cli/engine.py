"""`modelctl engine`: vLLM in an environment of its own."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl.cli import options
from modelctl.cli import output as show
from modelctl.errors import InterruptedByUserError, UsageError

if TYPE_CHECKING:
    from modelctl.engine.discovery import Engine
    from modelctl.engine.recipe import Build, InstallPlan
    from modelctl.errors import ModelctlError

app = typer.Typer(
    name="engine",
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Install vLLM by itself, see which one is used, remove it.",
    epilog="""\b
Examples:
  modelctl engine install
  modelctl engine status
""",
)

INSTALL_EPILOG = """\b
Examples:
  modelctl engine install
  modelctl engine install --cpu
  modelctl engine install --cuda --version 0.32.0
  modelctl engine install --dry-run
"""
STATUS_EPILOG = """\b
Examples:
  modelctl engine status
  modelctl engine status --json | jq .version
"""
REMOVE_EPILOG = """\b
Examples:
  modelctl engine remove
  modelctl engine remove --yes
"""
_GPUS = {"nvidia": "NVIDIA", "amd": "AMD", None: "none"}
_DEVICES = {"cpu": "the CPU", "cuda": "NVIDIA GPUs", "rocm": "AMD GPUs", "tpu": "TPUs", "xpu": "Intel GPUs"}


@app.command(epilog=INSTALL_EPILOG)
def install(
    cpu: Annotated[bool, typer.Option("--cpu", help="The build for the CPU (default: where there is no GPU).")] = False,
    cuda: Annotated[
        bool, typer.Option("--cuda", help="The build for NVIDIA GPUs (default: where there is one).")
    ] = False,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="Another version than the one that is known to work.")
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option("--python", metavar="INTERPRETER", help="The Python to build it with (default: ours)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Install again what is already there.")] = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Put vLLM into an environment of its own.

    Its pins never meet those of anything else. `serve` uses it where nothing else is named.
    """
    from modelctl.engine import discovery, environment, gpus, home

    if cpu and cuda:
        raise UsageError("`--cpu` and `--cuda` contradict each other", hint="give one of them")
    environ = projects.locate().environ
    out = show.Output(json=json)
    build: Build = "cuda" if cuda or (not cpu and gpus.gpu() == "nvidia") else "cpu"
    folder = home.default()
    present = None if force else environment.installed(folder, environ=environ)
    if present and environment.serves(present, build, version) and not dry_run:
        _show_installed(out, present, changed=False, seconds=0.0)
        return
    planned = environment.plan(
        folder,
        build,
        environ=environ,
        log=home.log(),
        version=version,
        interpreter=discovery.interpreter(python, environ) if python else None,
    )
    if dry_run:
        _show_dry_run(out, planned)
        return
    if json:
        out.event("plan", **_plan_object(planned))
    else:
        _say_plan(out, planned)
    started = time.monotonic()
    with out.progress() as progress:
        try:
            engine = environment.execute(planned, progress, force=force)
        except KeyboardInterrupt:
            kept = f"run the same command again: `{planned.tool.name}` keeps what it has downloaded"
            raise InterruptedByUserError("the installation of vLLM was interrupted", hint=kept) from None
    # Another process may have installed it while this one waited.
    changed = planned.folder in engine.python.parents
    _show_installed(out, engine, changed=changed, seconds=time.monotonic() - started)


@app.command(epilog=STATUS_EPILOG)
def status(
    python: Annotated[
        Path | None, typer.Option("--python", metavar="INTERPRETER", help="Ask this interpreter, not those in turn.")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Ask this container image, not those in turn.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show which vLLM is used, and why."""
    from modelctl.engine import discovery, gpus, home

    out = show.Output(json=json)
    if python is not None and image is not None:
        raise UsageError("`--python` and `--image` contradict each other", hint="give one of them")
    engine = discovery.find(projects.locate(), python=python, image=image)
    problem = discovery.unusable(engine) if engine else None
    if json:
        error = show.error_object(problem) if problem else None
        out.object({**engine_object(engine), "problem": error, "gpu": gpus.gpu(), "own": _own_object(home.default())})
    else:
        _show_status(out, engine, problem)


def _show_status(out: show.Output, engine: "Engine | None", problem: "ModelctlError | None") -> None:
    from modelctl.engine import discovery, gpus, home

    own = _own_object(home.default())
    out.line(f"vLLM    {_described(engine) if engine else 'none'}")
    if engine:
        if engine.image is None:
            out.line(f"python  {engine.python}")
        out.line(f"found   {engine.how}")
    out.line(f"own     {own['path']} ({own['state'] + ', ' + show.size(own['size']) if own['state'] else 'none'})")
    out.line(f"GPU     {_GPUS[gpus.gpu()]}")
    if own["state"] == "broken":
        out.say(f"problem: the interpreter of `{own['path']}` is gone from this machine")
        out.say("hint: `modelctl engine install` makes the environment anew")
    if own["rests"]:
        rests = show.plural(len(own["rests"]), "environment")
        out.say(f"note: {rests} in `{own['path']}` not in use, freed by the next `modelctl engine install`")
    if problem:
        out.say(f"problem: {problem.message}")
        out.say(f"hint: {problem.hint}")
    elif engine is None and own["state"] is None:
        out.say(f"hint: {discovery.INSTALL}")


def _own_object(folder: Path) -> dict[str, Any]:
    """Our own environment: its interpreter is a link to one that may be gone from the machine."""
    from modelctl.engine import home

    record = home.record(folder)
    return {
        "path": folder,
        "state": None if record is None else "ready" if home.python(folder) else "broken",
        "version": record.version if record else None,
        "size": record.size if record else None,
        "installed": record.installed if record else None,
        "rests": list(home.rests(folder)),
    }


@app.command(epilog=REMOVE_EPILOG)
def remove(yes: options.Yes = False, dry_run: options.DryRun = False, json: options.Json = False) -> None:
    """Remove the environment that `engine install` made."""
    from modelctl.engine import home

    out = show.Output(json=json)
    planned = home.removal(home.default())
    plan_object = {"path": planned.home, "folders": list(planned.folders), "size": planned.size}
    what = f"vLLM {planned.version}" if planned.version else "what an interrupted installation left"
    if dry_run:
        if json:
            out.object(plan_object)
        else:
            out.line(f"would remove {what} from {planned.home} ({show.size(planned.size)})")
        return
    out.confirm(f"Remove {what} from {planned.home} ({show.size(planned.size)})?", yes=yes)
    if json:
        out.event("plan", **plan_object)
    with out.progress() as progress:
        freed = home.remove(planned, progress)
    if json:
        out.event("done", path=planned.home, freed=freed)
    else:
        out.line(f"removed {what} from {planned.home} (freed {show.size(freed)})")
        if freed < planned.size:
            out.say("note: the cache of `uv` shares the rest; `uv cache prune` frees what nothing else uses")


def engine_object(engine: "Engine | None") -> dict[str, Any]:
    """The keys of an engine under `--json`, all `null` where there is none."""
    return {
        "found": engine is not None,
        "version": engine.version if engine else None,
        "device": engine.device if engine else None,
        "distribution": engine.distribution if engine else None,
        "python": engine.python if engine else None,
        "how": engine.how if engine else None,
        "image": engine.image.name if engine and engine.image else None,
    }


def _described(engine: "Engine") -> str:
    return f"{engine.version} for {_DEVICES.get(engine.device or '', 'an unknown device')} (`{engine.distribution}`)"


def _wanted(planned: "InstallPlan") -> str:
    return f"vLLM {planned.version or '(the newest)'} for {_DEVICES[planned.build]} (`{planned.distribution}`)"


def _say_plan(out: show.Output, planned: "InstallPlan") -> None:
    out.say(f"{_wanted(planned)}, into {planned.home}")
    out.say(
        f"  about {show.size(planned.download)} to fetch, {show.size(planned.size)} on disk, with {planned.tool.name}"
    )
    if planned.build == "cpu":
        out.say(f"  `{planned.distribution}` is built and published by a third party, not by the vLLM project")
    out.say(f"  log: {planned.log}")


def _show_dry_run(out: show.Output, planned: "InstallPlan") -> None:
    if out.json:
        out.object(_plan_object(planned))
        return
    _say_plan(out, planned)
    for source in planned.sources:
        out.line(f"# from {source.name}: about {show.size(source.download)} to fetch, {show.size(source.size)} on disk")
        for step in (planned.create, *source.steps):
            out.line(" ".join(step))


def _plan_object(planned: "InstallPlan") -> dict[str, Any]:
    return {
        "path": planned.folder,
        "build": planned.build,
        "distribution": planned.distribution,
        "version": planned.version,
        "tool": planned.tool.name,
        "interpreter": planned.interpreter,
        "download": planned.download,
        "size": planned.size,
        "log": planned.log,
        "create": list(planned.create),
        "sources": [
            {
                "name": source.name,
                "download": source.download,
                "size": source.size,
                "steps": [list(step) for step in source.steps],
            }
            for source in planned.sources
        ],
    }


def _show_installed(out: show.Output, engine: "Engine", *, changed: bool, seconds: float) -> None:
    if out.json:
        out.event("done", engine=engine_object(engine), changed=changed, seconds=round(seconds, 3))
    elif changed:
        out.line(f"installed vLLM {_described(engine)} in {seconds:.0f} s: {engine.python}")
    else:
        out.line(f"vLLM {_described(engine)} is already installed: {engine.python}")
        out.say("hint: `modelctl engine install --force` installs it again")
