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
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl.engine import group

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.servers import OURS, PLAIN, Place, free_port, is_ready, place, started

BAR_RATIO, BAR_SECONDS, BAR_BEFORE = 1.10, 1.0, 1.0
FASTER = "the same, faster settings"
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


def start(where: Place, form: str, flags: Sequence[str]) -> Run:
    """Start a server, wait until it is ready, and end it."""
    port = free_port()
    argv, environ = where.command(form, port, FASTER_FLAGS if form == FASTER else flags)
    if form == FASTER:
        environ |= FASTER_ENVIRON
    began = time.monotonic()
    with (where.folder / "log").open("wb") as log, started(argv, environ, where.folder, log.fileno()) as process:
        while not is_ready(port):
            if process.poll() is not None or time.monotonic() - began > PATIENCE:
                raise SystemExit(f"{argv} was not ready:\n{(where.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.01)
        ready = time.monotonic() - began
        return Run(ready, *_told(where, process.pid))


def _told(where: Place, pid: int) -> tuple[float, float]:
    """What the system tells of the processes: seconds of CPU, and those between modelctl's start and vLLM's."""
    cpu, record = group.cpu_seconds(group.members(pid)) or 0.0, where.record()
    if record is None:
        return cpu, 0.0
    cpu += group.cpu_seconds(group.members(record.engine_pid or 0)) or 0.0
    return cpu, ((record.engine_started or 0) - record.started) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", type=Path, help="the interpreter of vLLM (default: the one that modelctl finds)")
    parser.add_argument("flags", nargs="*", default=["--enforce-eager"], help="flags of vLLM, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as scratch:
        where = place(Path(scratch), options.python)
        runs: dict[str, list[Run]] = {PLAIN: [], OURS: [], FASTER: []}
        for turn in range(options.rounds + 1):
            for form in runs:
                run = start(where, form, options.flags)
                print(
                    f"{turn:2} {form:28} {run.ready:6.2f} s {run.cpu:6.2f} s {run.before:6.2f} s",
                    file=sys.stderr,
                    flush=True,
                )
                # The first round warms the disk's cache, and has vLLM look at the architecture.
                runs[form] += [run] if turn else []
    return tell(runs, flags=options.flags)


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
