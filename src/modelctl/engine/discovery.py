"""Which interpreter has vLLM, its version and its device, without importing it."""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from modelctl import project as projects
from modelctl.engine import container, gpus, home, images, keeper, question
from modelctl.engine.images import Image
from modelctl.errors import ModelctlError, NoRoomError, NotAllowedError, NotFoundError, UsageError
from modelctl.project import Project

Device = Literal["cuda", "rocm", "cpu", "tpu", "xpu"]

_PROBE = Path(__file__).with_name("probe.py")
# The probe takes 0.2 s; the rest is for a cold disk.
_PATIENCE = 30.0
OWN = "installed by `modelctl engine install`"
INSTALL = "`modelctl engine install` puts vLLM into an environment of its own"
_INSTALL_CPU = "`modelctl engine install --cpu` puts the build for the CPU into an environment of its own"


@dataclass(frozen=True, slots=True)
class Engine:
    """A vLLM: the interpreter that has it, how that was found, and the folder of its package.

    One in a container image is run by the `python` in there, and its package lies nowhere that could be looked at.
    `has_ray`: whether it can use Ray, which does not come with vLLM; `None` where that is not known.
    """

    python: Path
    version: str
    device: Device | None
    distribution: str
    how: str
    package: Path | None = field(default=None, compare=False)
    image: Image | None = field(default=None, compare=False)
    has_ray: bool | None = field(default=None, compare=False)

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"`{self.python}`" if self.image is None else f"the image `{self.image.name}`"


def find(project: Project, *, python: Path | None = None, image: str | None = None) -> Engine | None:
    """The first vLLM of: what is named, our own environment, this one, `vllm` on `PATH`.

    `python` or `image` name one, else `MODELCTL_VLLM_PYTHON` or `MODELCTL_VLLM_IMAGE` in the environment. Where one is
    named, none of the others counts: without a vLLM in it, `NotFoundError`.
    """
    if python is not None:
        return _named(python, "named by `--python`", project)
    if image is not None:
        return enclosed(project, image)
    variable, other = projects.vllm_python(project), projects.vllm_image(project)
    if variable is not None and other is not None:
        raise UsageError(
            "`MODELCTL_VLLM_PYTHON` and `MODELCTL_VLLM_IMAGE` contradict each other", hint="take one of them away"
        )
    if variable is not None:
        return _named(variable, "named by `MODELCTL_VLLM_PYTHON`", project)
    if other is not None:
        return enclosed(project, other)
    for candidate, how in _candidates(project):
        # A broken environment does not hide the next one; named, it would say what it suffers from.
        try:
            engine = probe(candidate, how=how, environ=project.environ)
        except ModelctlError:
            continue
        if engine is not None:
            return engine
    return None


def required(project: Project, *, python: Path | None = None, image: str | None = None) -> Engine:
    """As `find`, with `NotFoundError` where there is no vLLM at all."""
    engine = find(project, python=python, image=image)
    if engine is None:
        raise NotFoundError("no vLLM is installed", hint=INSTALL)
    return engine


def unusable(engine: Engine, *, root: Path = Path("/")) -> ModelctlError | None:
    """Why this vLLM cannot start on this machine, as far as that can be told before it is tried."""
    needed = {"cuda": "nvidia", "rocm": "amd"}.get(engine.device or "")
    if needed is None or gpus.gpu(root) == needed:
        return None
    maker = {"nvidia": "NVIDIA", "amd": "AMD"}[needed]
    hint = _INSTALL_CPU
    if engine.how.startswith("named by"):
        hint += f"; this one is {engine.how}"
    return NoRoomError(
        f"vLLM {engine.version} of {engine.place} is built for {maker} GPUs, and this machine shows none", hint=hint
    )


def probe(python: Path, *, how: str, environ: Mapping[str, str]) -> Engine | None:
    """The vLLM of one interpreter, `None` if it has none; an interpreter that cannot be asked is an error."""
    try:
        ran = question.ask([str(python), str(_PROBE)], environ=environ, patience=_PATIENCE)
    except FileNotFoundError as exc:
        raise NotFoundError(f"there is no interpreter `{python}`", hint="name a Python that has vLLM") from exc
    except PermissionError as exc:
        raise NotAllowedError(f"`{python}` may not be run", hint=f"see `ls -l {python}`") from exc
    except subprocess.TimeoutExpired as exc:
        raise ModelctlError(f"`{python}` does not answer within {_PATIENCE:.0f} s", hint="run it by hand") from exc
    except OSError as exc:
        raise NotFoundError(
            f"`{python}` is no interpreter: {exc.strerror}", hint="name a Python that has vLLM"
        ) from exc
    answer = _parsed(ran.stdout)
    if ran.returncode or answer is False:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise NotFoundError(f"`{python}` does not answer as a Python does: {last}", hint="name a Python that has vLLM")
    match answer:
        case {"version": str(version), "distribution": str(distribution), "device": device, "folder": str(folder)}:
            known = device if device in get_args(Device) else None
            return Engine(python, version, known, distribution, how, Path(folder), has_ray=_has_ray(answer))
        case _:
            return None


def enclosed(project: Project, name: str) -> Engine:
    """The vLLM of a container image that is on this machine: its Python is asked as that of an environment is.

    Once: what an image holds is told by its hash, and to start a container takes most of a second.
    """
    image = images.find(project, name)
    answer = images.remembered(image)
    if answer is None:
        answer = _inside(image, project.environ)
        images.remember(image, answer)
    match answer:
        case {"version": str(version), "distribution": str(distribution), "device": device}:
            known = device if device in get_args(Device) else None
            how = f"container image `{name}`"
            return Engine(Path("python3"), version, known, distribution, how, image=image, has_ray=_has_ray(answer))
        case _:
            raise NotFoundError(f"the image `{name}` has no vLLM", hint="`vllm/vllm-openai` is that of vLLM itself")


def _inside(image: Image, environ: Mapping[str, str]) -> object:
    """What the probe says in a container of an image."""
    called = container.name(f"probe-{secrets.token_hex(4)}")
    try:
        ran = question.ask(container.probe(image, _PROBE, called=called), environ=environ, patience=_PATIENCE)
    except subprocess.TimeoutExpired as exc:
        keeper.remove(str(image.tool.path), called)
        raise ModelctlError(
            f"the Python of the image `{image.name}` does not answer within {_PATIENCE:.0f} s", hint="run it by hand"
        ) from exc
    except OSError as exc:
        raise NotAllowedError(f"`{image.tool.path}` cannot be run: {exc.strerror}") from exc
    answer = _parsed(ran.stdout)
    if ran.returncode or answer is False:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise NotFoundError(
            f"the image `{image.name}` has no `python3` that answers: {last}", hint="name an image with vLLM"
        )
    return answer


def _has_ray(answer: object) -> bool | None:
    match answer:
        case {"ray": bool(told)}:
            return told
    return None


def interpreter(named: Path, environ: Mapping[str, str]) -> Path:
    """What the user may mean: an interpreter, the folder of an environment, or a command on `PATH`."""
    path = Path(os.path.expanduser(named))  # noqa: PTH111 - that of `Path` knows all users or fails
    # Not that of `Path`, which fails where this user may not look; that it cannot be run is told when it is.
    if os.path.isdir(path):  # noqa: PTH112
        return path.absolute() / "bin" / "python"
    if len(path.parts) == 1 and not path.exists() and (command := shutil.which(path, path=environ.get("PATH"))):
        return Path(command)
    # Not resolved: an environment's interpreter is a link out of it.
    return path.absolute()


def _named(python: Path, how: str, project: Project) -> Engine:
    path = interpreter(python, project.environ)
    engine = probe(path, how=how, environ=project.environ)
    if engine is None:
        raise NotFoundError(f"`{path}`, {how}, has no vLLM", hint=INSTALL)
    return engine


def _candidates(project: Project) -> Iterator[tuple[Path, str]]:
    own = home.python(home.default())
    if own is not None:
        yield own, OWN
    if find_spec("vllm") is not None:
        yield Path(sys.executable), "in the environment of modelctl"
    script = shutil.which("vllm", path=project.environ.get("PATH"))
    if script is not None and (python := _shebang(Path(script), project.environ)) is not None:
        yield python, f"`vllm` on PATH, {script}"


def _shebang(script: Path, environ: Mapping[str, str]) -> Path | None:
    """The interpreter of a console script, also where its path was too long or had spaces for a first line."""
    try:
        with script.open("rb") as file:
            head = file.read(4096).decode("utf-8", "replace").splitlines()
        words = shlex.split(head[0].removeprefix("#!")) if head and head[0].startswith("#!") else []
        if words[:1] == ["/bin/sh"] and head[1:2] and head[1].startswith("'''exec' "):
            words = shlex.split(head[1])[1:]
    except (OSError, ValueError):
        return None
    if words and Path(words[0]).name == "env":
        words = [shutil.which(words[-1], path=environ.get("PATH")) or ""]
    return Path(words[0]) if words and Path(words[0]).name.startswith(("python", "pypy")) else None


def _parsed(output: str) -> object:
    """The probe's line, which is the last one; `False` if there is none. An interpreter may say more at its start."""
    try:
        return json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return False
