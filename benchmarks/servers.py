"""Servers to be timed: vLLM's own API server and `modelctl serve`, with one model and the same flags."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelctl.engine import servers
from modelctl.engine.servers import ServerRecord
from modelctl.share.offer import lay_out
from modelctl.share.samples import tiny_llama

MODEL = "bench/tiny-llama"
MODELCTL = str(Path(sys.executable).with_name("modelctl"))
PLAIN, OURS = "vLLM's own API server", "modelctl serve"


@dataclass(frozen=True)
class Place:
    """Where all starts happen: the project folder and the environment."""

    folder: Path
    environ: Mapping[str, str]

    def record(self) -> ServerRecord | None:
        """What modelctl has noted of the server that it runs here."""
        return next(iter(servers.running(Path(self.environ["XDG_STATE_HOME"]) / "modelctl")), None)

    def command(self, form: str, port: int, flags: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The words that start a server, and their environment."""
        argv = [MODELCTL, "serve", MODEL, "--port", str(port), "--", *flags]
        return self._plain(argv) if form == PLAIN else (argv, dict(self.environ))

    def _plain(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """What modelctl would start, put to vLLM's API server, and the environment that it would give it."""
        at = argv.index("--")
        words = [*argv[:at], "--dry-run", "--json", *argv[at:]]
        done = subprocess.run(words, env=self.environ, cwd=self.folder, capture_output=True, check=True)
        told = json.loads(done.stdout)
        python, _launcher, _serve, snapshot, *flags = told["argv"]
        environ = {name: value for name, value in self.environ.items() if name not in told["environment"]["unset"]}
        environ |= told["environment"]["set"]
        return [python, "-m", "vllm.entrypoints.openai.api_server", "--model", snapshot, *flags], environ


@contextmanager
def started(
    argv: Sequence[str], environ: Mapping[str, str], folder: Path, log: int
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that is gone afterwards, with all its processes."""
    process = subprocess.Popen(
        argv, env=environ, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def place(scratch: Path, python: Path | None) -> Place:
    """A project with the model in it, apart from everything of the user but where vLLM is."""
    source = scratch / "source"
    source.mkdir()
    for name, content in tiny_llama().items():
        (source / name).write_bytes(content)
    lay_out(source, scratch / "models" / "hub", MODEL)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL", "HF_", "VLLM_"))}  # noqa: TID251 - a benchmark is no module of the package
    named = os.environ.get("MODELCTL_VLLM_PYTHON")  # noqa: TID251 - as above
    if python or named:
        environ["MODELCTL_VLLM_PYTHON"] = str(python or named)
    # Installed, a package has its bytecode beside it.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environ |= {
        "HF_HOME": str(scratch / "cache"),
        "XDG_STATE_HOME": str(scratch / "state"),
        "VLLM_CACHE_ROOT": str(scratch / "vllm"),
        "VLLM_HOST_IP": "127.0.0.1",
        "TMPDIR": str(scratch),
    }
    return Place(scratch, environ)
