"""The command line of the stand-in: `vllm serve MODEL --served-model-name NAME... --host H --port P ...`."""

import argparse
import contextlib
import importlib.metadata
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def switch(name: str, default: str = "") -> str:
    return os.environ.get(f"STANDIN_{name}", default)  # noqa: TID251 - not our package


class Server(ThreadingHTTPServer):
    """The API server: `in_flight` counts the requests that wait for their answer, `done` those that have it."""

    daemon_threads = True
    in_flight = 0
    done = 0
    names: tuple[str, ...] = ()
    is_broken = False

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Handler)
        self.is_to_end = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(503 if self.server.is_broken else int(switch("HEALTH", "200")), b"")
        elif self.path == "/metrics":
            lines = ("# TYPE vllm:num_requests_running gauge", "# TYPE vllm:num_requests_waiting gauge")
            labels = '{engine="0",model_name="x"}'
            counts = (
                f"vllm:num_requests_running{labels} {self.server.in_flight}.0\nvllm:num_requests_waiting{labels} 0.0"
            )
            more = (
                f"vllm:kv_cache_usage_perc{labels} {0.25 * self.server.in_flight}\n"
                f'vllm:request_success_total{{engine="0",finished_reason="stop",model_name="x"}} {self.server.done}.0'
            )
            self.answer(200, "\n".join([*lines, counts, more, ""]).encode())
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": name} for name in self.server.names]})
        else:
            self.answer(404, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = switch("KEY")
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.answer(401, {"error": "Unauthorized"})
        elif body.get("model") not in self.server.names:
            self.answer(404, {"error": f"no model {body.get('model')}"})
        else:
            self.server.in_flight += 1
            try:
                time.sleep(float(switch("SLOW", "0")))
                if path := switch("HOLDS"):
                    await_file(path)
                if seconds := switch("LATE"):
                    self.server.is_to_end.wait()
                    time.sleep(float(seconds))
                self.answer(200, switch("ANSWER").encode() or {"path": self.path, "model": body["model"]})
            finally:
                self.server.in_flight -= 1
                self.server.done += 1

    def answer(self, status: int, body: bytes | dict[str, Any]) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the signature of its base
        say(f"INFO:     {format % args}", prefix=False)


def await_file(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.02)


def say(text: str, *, process: str = "APIServer", level: str = "INFO", prefix: bool = True) -> None:
    start = f"({process} pid={os.getpid()}) {level} 11-22 21:52:07 [standin.py:1] " if prefix else ""
    sys.stdout.write(f"{start}{text}\n")
    sys.stdout.flush()


def engine_core(report: Any) -> None:  # noqa: ANN401 - one end of a pipe
    """A process of the engine, started as vLLM starts its own, and called as it calls them."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("VLLM::EngineCore", encoding="ascii")
    grandchild = None
    if switch("GRANDCHILD"):
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
        grandchild = subprocess.Popen([sys.executable, "-S", "-c", code])
    say("Initializing a V1 LLM engine (v0.33.0) with config: model='x'", process="EngineCore")
    report.send([os.getpid(), *([grandchild.pid] if grandchild else [])])
    while True:
        signal.pause()


def main() -> int:
    time.sleep(float(switch("IMPORT", "0")))
    parser = argparse.ArgumentParser(prog="vllm")
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve")
    serve.add_argument("model")
    serve.add_argument("--served-model-name", nargs="+", default=["?"])
    serve.add_argument("--host", default="0.0.0.0")  # noqa: S104 - as the real one
    serve.add_argument("--port", type=int, default=8000)
    for flag in (
        "--max-model-len",
        "--gpu-memory-utilization",
        "--tensor-parallel-size",
        "--dtype",
        "--hf-token",
        "-sc",
        "--config",
    ):
        serve.add_argument(flag)
    for flag in ("--distributed-executor-backend", "--nnodes", "--node-rank", "--master-addr", "--max-lora-rank"):
        serve.add_argument(flag)
    serve.add_argument("--lora-modules", nargs="+", type=json.loads)
    for flag in ("--enable-lora", "--headless"):
        serve.add_argument(flag, action="store_true")
    serve.add_argument("--shutdown-timeout", type=float, default=0.0)
    serve.add_argument("--kv-cache-memory-bytes", type=int)
    serve.add_argument("--enforce-eager", action="store_true")
    arguments = parser.parse_args()
    return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    stop = threading.Event()
    stubborn = bool(switch("STUBBORN"))
    signal.signal(signal.SIGTERM, lambda *_: None if stubborn else stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say(f"version {importlib.metadata.version('vllm')}")
    say("Resolved architecture: StandinForCausalLM")
    here, there = multiprocessing.Pipe()
    engine = multiprocessing.get_context("spawn").Process(target=engine_core, args=(there,), name="EngineCore")
    engine.start()
    pids = [os.getpid(), *here.recv()]
    record(arguments, pids)
    say("Starting to load model x...", process="EngineCore")
    sys.stdout.write("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00, 39.10it/s]\r")
    sys.stdout.flush()
    if text := switch("SAY"):
        say(text, prefix=False)
    if switch("HANGS"):
        # The main thread ends with a traceback, and waits for ever for the child that it has.
        raise ValueError(switch("HANGS"))
    engine.join(float(switch("LOAD", "0.05")))
    while (path := switch("LOADS")) and not Path(path).exists() and engine.is_alive():
        time.sleep(0.02)
    if not engine.is_alive():
        time.sleep(float(switch("LINGERS", "0")))
        say("RuntimeError: Engine core initialization failed. See root cause above.", level="ERROR")
        return 1
    if code := switch("EXIT"):
        engine.kill()
        return int(code)
    if arguments.headless:
        # For another machine: nobody is answered, and nothing more is said.
        say("Loading weights took 0.10 seconds", process="Worker")
        while not stop.wait(0.1) and engine.is_alive():
            pass
        engine.kill()
        return 0
    length = "Maximum concurrency for 2,048 tokens per request: 64.00x"
    say(f"GPU KV cache size: 131,072 tokens, {length}", process="EngineCore")
    say(f"Supported tasks: ['{switch('TASK', 'generate')}']")
    say(f"Starting vLLM server on http://{arguments.host}:{arguments.port}")
    return listen(arguments, engine, stop)


def listen(arguments: argparse.Namespace, engine: Any, stop: threading.Event) -> int:  # noqa: ANN401
    if switch("DEAF"):
        stop.wait()
        engine.kill()
        return 0
    server = Server((arguments.host, arguments.port))
    server.names = tuple(arguments.served_model_name)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("INFO:     Application startup complete.", prefix=False)
    if path := switch("DIES"):
        await_file(path)
        say("RuntimeError: the engine is gone", process="EngineCore", level="ERROR")
        engine.kill()
        return 0
    # As the real one: an engine that died is found out, and the exit code is 0 all the same.
    while not stop.wait(0.1) and engine.is_alive():
        pass
    server.is_broken = not engine.is_alive()
    server.is_to_end.set()
    deadline = time.monotonic() + arguments.shutdown_timeout
    while server.in_flight and time.monotonic() < deadline:
        time.sleep(0.02)
    # The real one takes its time to fold up, here and after the death of its engine.
    time.sleep(float(switch("LINGERS", "0")))
    engine.kill()
    return 0


def record(arguments: argparse.Namespace, pids: list[int]) -> None:
    if path := switch("RECORD"):
        value = {
            "argv": sys.argv,
            "arguments": vars(arguments),
            "environ": dict(os.environ),  # noqa: TID251 - not our package
            "cwd": str(Path.cwd()),
            "pids": pids,
            "session": os.getsid(0),
            "path": sys.path,
            "version": importlib.metadata.version("vllm"),
        }
        # Two stand-ins of one test may record at once.
        temporary = Path(f"{path}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(value), encoding="utf-8")
        temporary.replace(path)
