"""`modelctl serve` against vLLM's own API server with the same model and the same flags, in turn, in one run.

    python benchmarks/serve_startup.py
    python benchmarks/serve_startup.py --python /path/of/vllm/bin/python --rounds 10
    python benchmarks/serve_startup.py -- --max-model-len 1024

What follows -- are flags of vLLM, in place of `--enforce-eager`; those that modelctl adds get all. Prints seconds
from the start of the command until `/health` answers with 200 (min and median), the seconds that all its processes
computed until then, which other work on the machine hardly changes, and what passed before modelctl started vLLM.
Exits with 1 where modelctl's median is more than 10 % or more than a second beyond vLLM's own, where it takes more
than a second before it starts vLLM, and where the faster settings for a CPU are not faster.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelctl.engine import group, servers
from modelctl.share.offer import lay_out
from modelctl.share.samples import tiny_llama

BAR_RATIO, BAR_SECONDS, BAR_BEFORE = 1.10, 1.0, 1.0
MODEL = "bench/tiny-llama"
MODELCTL = str(Path(sys.executable).with_name("modelctl"))
PLAIN, OURS, FASTER = "vLLM's own API server", "modelctl serve", "the same, faster settings"
# One process less, and a small KV cache that is quickly zeroed.
FASTER_FLAGS = ("--distributed-executor-backend", "uni", "--enforce-eager", "--kv-cache-memory-bytes", "67108864")
FASTER_ENVIRON = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
PATIENCE = 300.0


@dataclass(frozen=True)
class Run:
    """One start: seconds until it was ready, seconds that all its processes computed, and those before vLLM's start."""

    ready: float
    cpu: float
    before: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where all starts happen: the project folder and the environment."""

    folder: Path
    environ: Mapping[str, str]

    @property
    def state(self) -> Path:
        """Where modelctl keeps the records of its servers."""
        return Path(self.environ["XDG_STATE_HOME"]) / "modelctl"

    def start(self, form: str, flags: Sequence[str]) -> Run:
        """Start a server, wait until it is ready, and end it."""
        port, environ = _free_port(), dict(self.environ)
        if form == FASTER:
            environ, flags = environ | FASTER_ENVIRON, FASTER_FLAGS
        argv = [MODELCTL, "serve", MODEL, "--port", str(port), "--", *flags]
        if form == PLAIN:
            argv, environ = self._plain(argv)
        with (
            (self.folder / "log").open("wb") as log,
            _ended(argv, environ, self.folder, log.fileno()) as (process, began),
        ):
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() - began > PATIENCE:
                    raise SystemExit(f"{argv} was not ready:\n{(self.folder / 'log').read_text()[-3000:]}")
                time.sleep(0.01)
            ready = time.monotonic() - began
            return Run(ready, *self._told(process.pid, is_plain=form == PLAIN))

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

    def _told(self, pid: int, *, is_plain: bool) -> tuple[float, float]:
        """What the system tells of the processes: seconds of CPU, and those between modelctl's start and vLLM's."""
        cpu = group.cpu_seconds(group.members(pid)) or 0.0
        if is_plain:
            return cpu, 0.0
        (record,) = servers.running(self.state)
        cpu += group.cpu_seconds(group.members(record.engine_pid or 0)) or 0.0
        return cpu, ((record.engine_started or 0) - record.started) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _ended(
    argv: Sequence[str], environ: Mapping[str, str], folder: Path, log: int
) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    """A server that is gone afterwards, with all its processes, and when it was started."""
    began = time.monotonic()
    process = subprocess.Popen(
        argv, env=environ, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield process, began
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", type=Path, help="the interpreter of vLLM (default: the one that modelctl finds)")
    parser.add_argument("flags", nargs="*", default=["--enforce-eager"], help="flags of vLLM, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as scratch:
        place = _place(Path(scratch), options.python)
        runs: dict[str, list[Run]] = {PLAIN: [], OURS: [], FASTER: []}
        for turn in range(options.rounds + 1):
            for form in runs:
                run = place.start(form, options.flags)
                print(
                    f"{turn:2} {form:28} {run.ready:6.2f} s {run.cpu:6.2f} s {run.before:6.2f} s",
                    file=sys.stderr,
                    flush=True,
                )
                # The first round warms the disk's cache, and has vLLM look at the architecture.
                runs[form] += [run] if turn else []
    return tell(runs, flags=options.flags)


def _place(scratch: Path, python: Path | None) -> Place:
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


def tell(runs: Mapping[str, Sequence[Run]], *, flags: Sequence[str]) -> int:
    """Print the table, and what is beyond its bar."""
    print(f"{len(runs[OURS])} rounds, {' '.join(flags)}\n{'':28}  min s  median  ratio  CPU s  before vLLM")
    middle = {form: statistics.median(run.ready for run in taken) for form, taken in runs.items()}
    before = statistics.median(run.before for run in runs[OURS])
    for form, taken in runs.items():
        cpu = statistics.median(run.cpu for run in taken)
        own = "" if form == PLAIN else f"{statistics.median(run.before for run in taken):11.2f}"
        least = min(run.ready for run in taken)
        print(f"{form:28} {least:6.2f}  {middle[form]:6.2f}  {middle[form] / middle[PLAIN]:5.2f}  {cpu:5.1f}  {own}")
    more = middle[OURS] - middle[PLAIN]
    failures = [
        (
            more > min(BAR_SECONDS, (BAR_RATIO - 1) * middle[PLAIN]),
            f"modelctl takes {more:.2f} s more (bar: 10 %, 1 s)",
        ),
        (before > BAR_BEFORE, f"modelctl takes {before:.2f} s before it starts vLLM (bar: {BAR_BEFORE:g} s)"),
        (middle[FASTER] >= middle[PLAIN], "the faster settings are not faster"),
    ]
    for is_failed, sentence in failures:
        if is_failed:
            print(sentence)
    return int(any(is_failed for is_failed, _ in failures))


if __name__ == "__main__":
    sys.exit(main())
