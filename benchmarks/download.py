"""`modelctl pull` against `hf download`, `curl -Z` and `aria2c`, from one Hub on loopback, in turn, in one run.

    python benchmarks/download.py                      2 GiB in 8 files
    python benchmarks/download.py --files 1 --mib 8192
    python benchmarks/download.py --small 2000
    python benchmarks/download.py --small 500 --latency 50
    python benchmarks/download.py --small 20 --again   a model that is complete

Prints wall time (min and median), CPU seconds, peak memory, requests, and how modelctl stands to each of the others in
wall time and CPU seconds, median to median. What modelctl fetches is hashed and made durable on the disk; what the
others fetch is not.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from modelctl.share.offer import lay_out

BIN = Path(sys.executable).parent
HUB = Path(__file__).with_name("hub.py")
MODEL = "bench/model"
OURS = "modelctl pull"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one tool: seconds of wall time and of CPU, bytes of peak memory, requests that the Hub saw."""

    wall: float
    cpu: float
    memory: int
    requests: int = 0


def write_model(folder: Path, *, files: int, mib: int, small: int) -> None:
    """Random weights in so many files of one size, and small files beside."""
    folder.mkdir(parents=True)
    weight_map = {}
    for at in range(files):
        name = f"model-{at + 1:05}-of-{files:05}.safetensors"
        weight_map[f"t{at}"] = name
        with (folder / name).open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for at in range(small):
        (folder / f"part-{at:05}.json").write_text(json.dumps({"at": at, "text": "x" * (at % 16) * 1000}))


@contextmanager
def hub_on_loopback(folder: Path, *, latency: float) -> Iterator[str]:
    """A Hub in a process of its own, so that its CPU is not counted to its clients."""
    argv = [sys.executable, str(HUB), str(folder), "--latency", str(latency)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout  # noqa: S101 - asked for above
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def count_requests(url: str) -> int:
    """How many requests the Hub has seen since this was last asked."""
    with urllib.request.urlopen(f"{url}/_count") as answer:
        return int(answer.read())


def measure(argv: list[str], *, env: dict[str, str], cwd: Path) -> Run:
    """Run a command to its successful end."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{argv} ended with {process.returncode}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def tools(url: str, names: list[str], *, again: bool) -> dict[str, list[str]]:
    """What is typed for each of the competitors that are here."""
    found = {
        OURS: [str(BIN / "modelctl"), "pull", MODEL, "--all-files", "--no-use", "--models-dir", "models"],
        "hf download": [str(BIN / "hf"), "download", MODEL],
    }
    if again:
        return found | {"python -c pass": [sys.executable, "-c", "pass"]}
    urls = [f"{url}/{MODEL}/resolve/main/{name}" for name in names]
    if curl := shutil.which("curl"):
        found["curl -Z"] = [curl, "-sSfLZ", "--parallel-max", "8", "--remote-name-all", *urls]
    if aria2c := shutil.which("aria2c"):
        found["aria2c -j8 -x4"] = [aria2c, "-q", "-j8", "-x4", "--file-allocation=none", "-Z", *urls]
    return found


def compete(url: str, work: Path, names: list[str], *, runs: int, again: bool, keep: bool) -> dict[str, list[Run]]:
    """Let the tools run in turn, each into an empty folder of its own, or, `again`, into the one that it has filled.

    `keep` leaves the folders: where thousands of files have just been deleted, a file system is slow to make new ones.
    """
    clean = {"PATH": os.environ["PATH"], "HOME": str(work / "home"), "HF_ENDPOINT": url}  # noqa: TID251 - to find tools
    clean["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
    done: dict[str, list[Run]] = {}
    for at in range(runs + again):
        for tool, argv in tools(url, names, again=again).items():
            folder = work / f"{tool.split()[0]}-{0 if again else at}"
            folder.mkdir(parents=True, exist_ok=True)
            os.sync()
            count_requests(url)
            run = measure(argv, env={**clean, "HF_HOME": str(folder)}, cwd=folder)
            run = replace(run, requests=count_requests(url))
            if at or not again:
                done.setdefault(tool, []).append(run)
            if not keep:
                shutil.rmtree(folder)
    return done


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8, help="large files (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=256, help="MiB of each (default: %(default)s)")
    parser.add_argument("--small", type=int, default=0, help="small files; alone, without large ones")
    parser.add_argument("--latency", type=float, default=0, help="milliseconds that the Hub lets each request wait")
    parser.add_argument("--again", action="store_true", help="measure what a tool does that has everything already")
    parser.add_argument("--runs", type=int, default=5, help="runs of each tool (default: %(default)s)")
    parser.add_argument("--dir", type=Path, help="where to work (default: the system's temporary folder)")
    wanted = parser.parse_args()
    files = 0 if wanted.small else wanted.files
    with tempfile.TemporaryDirectory(dir=wanted.dir) as name:
        work = Path(name)
        write_model(work / "source", files=files, mib=wanted.mib, small=wanted.small)
        names = sorted(path.name for path in (work / "source").iterdir())
        lay_out(work / "source", work / "offer" / "hub", MODEL)
        shutil.rmtree(work / "source")
        with hub_on_loopback(work / "offer" / "hub", latency=wanted.latency) as url:
            keep = not files or wanted.again
            runs = compete(url, work / "runs", names, runs=wanted.runs, again=wanted.again, keep=keep)
    what = f"{files * wanted.mib} MiB in {files} files, {len(names) - files} small ones"
    sys.stdout.write(f"{what}, {wanted.latency:g} ms a request, {wanted.runs} runs each\n")
    report(runs)


def report(runs: dict[str, list[Run]]) -> None:
    """A line a tool, and how modelctl's medians stand to each of the others'."""

    def median(tool: str, of: Callable[[Run], float]) -> float:
        return statistics.median(of(run) for run in runs[tool])

    ours_wall, ours_cpu = median(OURS, lambda run: run.wall), median(OURS, lambda run: run.cpu)
    heads = f"{'min s':>7}  {'median s':>8}  {'CPU s':>6}  {'peak MB':>7}  {'requests':>8}  {'wall':>5}  {'CPU':>5}"
    sys.stdout.write(f"{'':15}  {heads}\n")
    for tool, all_runs in runs.items():
        wall, cpu = median(tool, lambda run: run.wall), median(tool, lambda run: run.cpu)
        memory, least = max(run.memory for run in all_runs) / 1e6, min(run.wall for run in all_runs)
        told = f"{least:7.2f}  {wall:8.2f}  {cpu:6.2f}  {memory:7.0f}  {max(run.requests for run in all_runs):8}"
        sys.stdout.write(f"{tool:15}  {told}  {ours_wall / wall:5.2f}  {ours_cpu / max(cpu, 0.001):5.2f}\n")


if __name__ == "__main__":
    main()
