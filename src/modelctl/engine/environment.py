"""vLLM in an environment of its own, so that its pins never meet anybody else's: install it by a plan."""

import contextlib
import ctypes
import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from modelctl.engine import child, discovery, home, packages, recipe
from modelctl.engine.discovery import Engine
from modelctl.engine.packages import Question
from modelctl.engine.recipe import Build, InstallPlan, Source, wanted_version
from modelctl.engine.watch import Watch
from modelctl.errors import ModelctlError, NoRoomError, NotFoundError, UnreachableError
from modelctl.process import Owner
from modelctl.progress import Progress
from modelctl.store import changes, lock

__all__ = ["Build", "InstallPlan", "execute", "installed", "plan", "serves"]

# The PyTorch project's own index of builds for the CPU, which the package index does not carry.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
plan = functools.partial(recipe.plan, torch_index=TORCH_INDEX)

# A question takes a second or two; a whole resolution may take a minute.
_PATIENCE = 120.0
# Less than this left on the disk, and a tool that failed has filled it.
_FULL = 64 << 20

_WITHOUT_CUDA = "torch has no CUDA"
_LOAD_TORCH = f"import torch; print('torch has CUDA' if torch.version.cuda else '{_WITHOUT_CUDA}')"

_Run = Callable[..., child.Outcome]


def installed(folder: Path, *, environ: Mapping[str, str]) -> Engine | None:
    """The vLLM of our own environment below `folder`, `None` where there is none or it does not answer."""
    python = home.python(folder)
    if python is None:
        return None
    with contextlib.suppress(ModelctlError):
        return discovery.probe(python, how=discovery.OWN, environ=environ)
    return None


def serves(engine: Engine, build: Build, version: str | None) -> bool:
    """Whether an installed vLLM is what a plan for `build` and `version` would bring."""
    return engine.device == build and wanted_version(build, version) in {None, engine.version}


def execute(plan: InstallPlan, progress: Progress, *, force: bool = False) -> Engine:
    """Install by the plan, or return what another process has installed meanwhile.

    What was installed before stays in use until the new one is whole. `NoRoomError` and `UnreachableError` come before
    the download as far as they can be foreseen.
    """
    _check_libraries(plan.libraries)
    waiting = functools.partial(_say_wait, progress)
    with lock.held(home.Home(plan.home), "engine install", wait=waiting) as descriptor:
        present = installed(plan.home, environ=plan.environ)
        if present and not force and serves(present, plan.build, plan.version):
            return present
        home.sweep(plan.home)
        changes.write_file(plan.log, "", named_by="XDG_STATE_HOME")
        run = functools.partial(child.run, environ=plan.environ, cwd=plan.home, log=plan.log, inherit=(descriptor,))
        return _installed_anew(plan, progress, run=run)


def _installed_anew(plan: InstallPlan, progress: Progress, *, run: _Run) -> Engine:
    try:
        _check_room(plan, plan.sources[0])
        progress.begin("preparing", total=None)
        _create(plan, run=run)
        progress.begin("asking", total=None)
        source = _open_source(plan, run=run)
        if source is not plan.sources[0]:
            progress.say(f"torch comes from {source.name}; about {source.download / 1e9:.1f} GB to fetch in all")
            _check_room(plan, source)
        watch = Watch(progress, folder=plan.folder, download=source.download, size=source.size)
        for step in source.steps:
            outcome = run(step, line=watch.line, tick=watch.tick)
            if outcome.code != 0:
                raise _failure(plan, outcome, run=run)
        progress.begin("checking", total=None)
        engine = _checked(plan, run=run)
    except ModelctlError:
        # Room, above all: it may be what was missing.
        changes.free([plan.folder])
        raise
    home.publish(plan.home, plan.folder, distribution=engine.distribution, version=engine.version)
    home.sweep(plan.home)
    return engine


def _create(plan: InstallPlan, *, run: _Run) -> None:
    outcome = run(plan.create, patience=_PATIENCE)
    if outcome.code != 0:
        raise ModelctlError(
            f"cannot make an environment with `{plan.interpreter}`: {outcome.last}",
            hint="install the `venv` module (Debian and Ubuntu: `apt-get install python3-venv`), or `uv`",
            log=str(plan.log),
        )


def _open_source(plan: InstallPlan, *, run: _Run) -> Source:
    """The first source that is open; before that, whether there is such a vLLM at all."""
    if not _answered(plan.wanted, plan, run=run):
        if plan.version and _answered(plan.offered, plan, run=run):
            raise NotFoundError(
                f"`{plan.distribution}` has no version {plan.version} that this machine can run",
                hint=f"leave `--version` out, or see what there is with `pip index versions {plan.distribution}`",
            )
        raise _unreachable(plan)
    for source in plan.sources:
        if _answered(source.ask, plan, run=run):
            return source
    names = "; ".join(source.name for source in plan.sources)
    raise UnreachableError(
        f"torch is to be had from none of: {names}",
        hint=f"see what they answered in `{plan.log}`, then run the same command again",
        log=str(plan.log),
    )


def _answered(question: Question, plan: InstallPlan, *, run: _Run) -> bool:
    seen = False

    def line(text: str) -> bool:
        nonlocal seen
        seen = question.seen is not None and question.seen.match(text) is not None
        return seen

    environ = {**plan.environ, **packages.IMPATIENT}
    return run(question.argv, environ=environ, line=line, patience=_PATIENCE).code == 0 or seen


def _failure(plan: InstallPlan, outcome: child.Outcome, *, run: _Run) -> ModelctlError:
    """Why a tool failed, by what can be seen now: its messages are for people, and change."""
    if shutil.disk_usage(plan.home).free < _FULL:
        return NoRoomError(
            f"the disk of `{plan.home}` is full: {outcome.last}",
            hint="free some space, then run the same command again",
        )
    if not _answered(plan.wanted, plan, run=run):
        return _unreachable(plan)
    return ModelctlError(
        f"`{plan.tool.name}` failed with exit code {outcome.code}: {outcome.last}",
        hint=f"see all that it said in `{plan.log}`",
        log=str(plan.log),
    )


def _unreachable(plan: InstallPlan) -> UnreachableError:
    return UnreachableError(
        f"the package index does not offer `{plan.distribution}` to this machine, or cannot be reached",
        hint=f"see what it answered in `{plan.log}`; {_again(plan)}",
        log=str(plan.log),
    )


def _checked(plan: InstallPlan, *, run: _Run) -> Engine:
    """The new vLLM, seen to answer, with a torch that can be loaded."""
    python = plan.folder / "bin" / "python"
    engine = discovery.probe(python, how=discovery.OWN, environ=plan.environ)
    if engine is None:
        raise ModelctlError(f"`{plan.folder}` has no vLLM after its installation", hint=f"see `{plan.log}`")
    outcome = run((str(python), "-I", "-c", _LOAD_TORCH), patience=_PATIENCE)
    if outcome.code != 0:
        raise ModelctlError(f"torch cannot be loaded: {outcome.last}", hint=f"see `{plan.log}`", log=str(plan.log))
    if plan.build == "cuda" and outcome.last == _WITHOUT_CUDA:
        raise ModelctlError(
            "the torch that was found is built for the CPU, and serves no GPU",
            hint="see where it comes from with `pip config list`: `find-links` and the indexes there count",
            log=str(plan.log),
        )
    return engine


def _check_room(plan: InstallPlan, source: Source) -> None:
    """Downloads are kept by the tool, as a rule on the same disk."""
    free = shutil.disk_usage(plan.home).free
    needed = source.size + source.download
    if free < needed:
        raise NoRoomError(
            f"vLLM and its downloads need about {needed / 1e9:.1f} GB, and `{plan.home}` has {free / 1e9:.1f} GB left",
            hint="free some space, or let `XDG_DATA_HOME` name a folder on a bigger disk, then try again",
        )


def _check_libraries(libraries: Mapping[str, str]) -> None:
    for library, bringers in libraries.items():
        try:
            ctypes.CDLL(library)
        except OSError as exc:
            raise ModelctlError(
                f"vLLM's build for the CPU needs `{library}`, which this machine lacks",
                hint=f"install {bringers}, then run the same command again",
            ) from exc


def _say_wait(progress: Progress, owner: Owner | None) -> None:
    progress.say(f"waiting for {owner or 'another installation'} to end")


def _again(plan: InstallPlan) -> str:
    return f"run the same command again: `{plan.tool.name}` keeps what it has downloaded"
