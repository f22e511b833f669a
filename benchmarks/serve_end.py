"""How `modelctl serve` ends, against vLLM's own API server with the same model and the same flags, in turn, in one run.

    python benchmarks/serve_end.py
    python benchmarks/serve_end.py --python /path/of/vllm/bin/python --rounds 5

Three ways: SIGTERM while it serves and has nothing to do, SIGTERM while it loads, and SIGKILL of its engine while it
serves. Prints seconds until the last of its processes is gone (min and median), 30 where it is not gone by then. Exits
with 1 where modelctl's median is beyond the bar of the way.
"""

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelctl.engine import group

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.servers import OURS, PLAIN, Place, free_port, is_ready, place, started

IDLE, LOADING, DEAD = "SIGTERM, idle", "SIGTERM, loading", "SIGKILL of the engine, serving"
BARS = {IDLE: 2.0, LOADING: 6.0, DEAD: 2.0}
FLAGS = ("--enforce-eager", "--kv-cache-memory-bytes", "67108864")
# What vLLM says when it turns to the weights, and how it calls the process that has them.
LOADS, ENGINE = b"Starting to load model", b"VLLM::EngineCore"
PATIENCE = 300.0
# vLLM's own server may wait for itself for ten minutes.
GIVEN_UP = 30.0


def end(where: Place, form: str, way: str) -> float:
    """Start a server, end it in a way, and wait until all of it is gone: the seconds that this takes."""
    port, log = free_port(), where.folder / "log"
    argv, environ = where.command(form, port, FLAGS)
    with log.open("wb") as file, started(argv, environ, where.folder, file.fileno()) as process:
        deadline = time.monotonic() + PATIENCE
        while not (serves(where, port) if way != LOADING else loads(where, log)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{argv} did not come so far:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        record = where.record()
        leaders = {process.pid, record.engine_pid if record and record.engine_pid else process.pid}
        began = time.monotonic()
        os.kill(engine(leaders) if way == DEAD else process.pid, signal.SIGKILL if way == DEAD else signal.SIGTERM)
        while process.poll() is None or any(group.members(leader) for leader in leaders):
            if time.monotonic() - began > GIVEN_UP:
                os.killpg(process.pid, signal.SIGKILL)
                return GIVEN_UP
            time.sleep(0.005)
        return time.monotonic() - began


def serves(where: Place, port: int) -> bool:
    """Whether the server answers, and whoever started it knows."""
    record = where.record()
    return is_ready(port) and (record is None or record.state == "ready")


def loads(where: Place, log: Path) -> bool:
    """Whether the server has begun to load the weights."""
    record = where.record()
    with contextlib.suppress(OSError):
        return LOADS in (record.log if record else log).read_bytes()
    return False


def engine(leaders: set[int]) -> int:
    """The process that has the model."""
    for leader in leaders:
        for pid in group.members(leader):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(ENGINE):
                    return pid
    raise SystemExit(f"none of vLLM's processes is called {ENGINE.decode()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", type=Path, help="the interpreter of vLLM (default: the one that modelctl finds)")
    options = parser.parse_args()
    taken: dict[tuple[str, str], list[float]] = {(way, form): [] for way in BARS for form in (PLAIN, OURS)}
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as scratch:
        where = place(Path(scratch), options.python)
        for turn in range(1, options.rounds + 1):
            for (way, form), seconds in taken.items():
                seconds.append(end(where, form, way))
                print(f"{turn:2} {way:32} {form:24} {seconds[-1]:6.2f} s", file=sys.stderr, flush=True)
    return tell(taken, rounds=options.rounds)


def tell(taken: Mapping[tuple[str, str], Sequence[float]], *, rounds: int) -> int:
    """Print the table, and what is beyond its bar."""
    print(f"{rounds} rounds, {' '.join(FLAGS)}\n{'':56}  min s  median  ratio")
    middle = {key: statistics.median(seconds) for key, seconds in taken.items()}
    for (way, form), seconds in taken.items():
        ratio = middle[way, form] / middle[way, PLAIN]
        print(f"{way:31} {form:24} {min(seconds):6.2f}  {middle[way, form]:6.2f}  {ratio:5.2f}")
    failed = [way for way, bar in BARS.items() if middle[way, OURS] > bar]
    for way in failed:
        print(f"{way}: modelctl takes {middle[way, OURS]:.2f} s (bar: {BARS[way]:g} s)")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
