"""`modelctl pull` against `hf download` and `curl -Z`, from one Hub on loopback, in turn, in one run.

    python benchmarks/download.py                      2 GiB in 8 files
    python benchmarks/download.py --files 1 --mib 8192
    python benchmarks/download.py --small 2000

Prints wall time (min and median), CPU seconds, peak memory, and how modelctl's median stands to each of the others'.
What modelctl fetches is hashed and made durable on the disk; what the others fetch is not.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelctl.share.offer import lay_out

BIN = Path(sys.executable).parent
MODEL = "bench/model"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one tool: seconds of wall time and of CPU, bytes of peak memory."""

    wall: float
    cpu: float
    memory: int


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
def hub_on_loopback(hub: Path) -> Iterator[str]:
    """A Hub in a process of its own, so that its CPU is not counted to its clients."""
    argv = [sys.executable, "-m", "modelctl.share", str(hub)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout  # noqa: S101 - asked for above
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def measure(argv: list[str], *, env: dict[str, str], cwd: Path) -> Run:
    """Run a command to its successful end."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{argv} ended with {process.returncode}")
    return Run(wall, usage.ru_utime + usage.ru_stime, _peak(usage))


def _peak(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * 1024


def tools(url: str, work: Path, names: list[str]) -> dict[str, Callable[[], Run]]:
    """The competitors, each into a folder of its own that is emptied before."""
    clean = {"PATH": os.defpath, "HOME": str(work / "home"), "HF_ENDPOINT": url, "HF_HUB_DISABLE_UPDATE_CHECK": "1"}

    def into(folder: str, argv: list[str]) -> Run:
        shutil.rmtree(work / folder, ignore_errors=True)
        (work / folder).mkdir(parents=True)
        os.sync()
        env = {**clean, "HF_HOME": str(work / folder)}
        return measure(argv, env=env, cwd=work / folder)

    everything = ["--all-files", "--no-use", "--models-dir", "models"]
    found = {
        "modelctl pull": lambda: into("modelctl", [str(BIN / "modelctl"), "pull", MODEL, *everything]),
        "hf download": lambda: into("hf", [str(BIN / "hf"), "download", MODEL]),
    }
    if curl := shutil.which("curl"):
        urls = [f"{url}/{MODEL}/resolve/main/{name}" for name in names]
        found["curl -Z"] = lambda: into("curl", [curl, "-sSfLZ", "--parallel-max", "8", "--remote-name-all", *urls])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8, help="large files (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=256, help="MiB of each (default: %(default)s)")
    parser.add_argument("--small", type=int, default=0, help="small files; alone, without large ones")
    parser.add_argument("--runs", type=int, default=5, help="runs of each tool (default: %(default)s)")
    parser.add_argument("--dir", type=Path, help="where to work (default: the system's temporary folder)")
    wanted = parser.parse_args()
    files = 0 if wanted.small else wanted.files
    with tempfile.TemporaryDirectory(dir=wanted.dir) as name:
        work = Path(name)
        write_model(work / "source", files=files, mib=wanted.mib, small=wanted.small)
        names = sorted(path.name for path in (work / "source").iterdir())
        lay_out(work / "source", work / "offer" / "hub", MODEL)
        with hub_on_loopback(work / "offer" / "hub") as url:
            runs: dict[str, list[Run]] = {}
            for _ in range(wanted.runs):
                for tool, run in tools(url, work, names).items():
                    runs.setdefault(tool, []).append(run())
    total = files * wanted.mib
    sys.stdout.write(f"{total} MiB in {files} files, {len(names) - files} small ones, {wanted.runs} runs each\n")
    report(runs)


def report(runs: dict[str, list[Run]]) -> None:
    """A line a tool, and how modelctl's median wall time stands to each of the others'."""
    ours = statistics.median(run.wall for run in runs["modelctl pull"])
    sys.stdout.write(f"{'':14}  {'min s':>7}  {'median s':>8}  {'CPU s':>6}  {'peak MB':>7}  {'ours / it':>9}\n")
    for tool, all_runs in runs.items():
        walls = [run.wall for run in all_runs]
        cpu = statistics.median(run.cpu for run in all_runs)
        memory = max(run.memory for run in all_runs) / 1e6
        median = statistics.median(walls)
        line = f"{tool:14}  {min(walls):7.2f}  {median:8.2f}  {cpu:6.2f}  {memory:7.0f}  {ours / median:9.2f}\n"
        sys.stdout.write(line)


if __name__ == "__main__":
    main()
