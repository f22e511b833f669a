"""`modelctl migrate` against `mv` and `cp -a`, in turn, in one run: 50 models of 4 GiB together.

    python benchmarks/migrate.py
    python benchmarks/migrate.py --models 10 --mib 400 --far /dev/shm

On one file system a move may cost at most 10 ms a model over the start of the command, and write no content. To another
file system (`--far`) a copy may take at most 1.5 times the time of `cp -a`, which hashes nothing and syncs nothing.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelctl.share.offer import lay_out

if TYPE_CHECKING:
    from collections.abc import Callable

MODELCTL = str(Path(sys.executable).parent / "modelctl")
MIB = 1024 * 1024
# Beside two files of weights.
SMALL_FILES = 12


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one command: seconds of wall time and of CPU, bytes of peak memory."""

    wall: float
    cpu: float
    memory: int


def write_models(hub: Path, *, models: int, mib: int) -> None:
    """Models of random weights, each in two files, and small files beside."""
    block = os.urandom(16 * MIB)
    for at in range(models):
        with tempfile.TemporaryDirectory(dir=hub.parent) as name:
            folder = Path(name)
            for part in range(2):
                with (folder / f"model-{part + 1:05}-of-00002.safetensors").open("wb") as file:
                    file.write(json.dumps([at, part]).encode().ljust(64))
                    left = mib * MIB // models // 2
                    while left > 0:
                        file.write(block[:left])
                        left -= len(block)
            for number in range(SMALL_FILES):
                (folder / f"file-{number}.json").write_text(json.dumps({"at": at, "text": "x" * number * 1000}))
            lay_out(folder, hub, f"bench/model-{at:02}")


def measure(*argv: str | Path, home: Path) -> Run:
    """Run a command to its successful end."""
    env = {"PATH": os.defpath, "HOME": str(home)}
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in argv], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{argv} ended with {process.returncode}")
    return Run(wall, usage.ru_utime + usage.ru_stime, _peak(usage))


def _peak(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * 1024


def inodes(hub: Path) -> set[int]:
    """The files that hold content: the same ones after a move that wrote none."""
    return {path.stat().st_ino for path in hub.glob("models--*/blobs/*")}


def empty(folder: Path) -> Path:
    """A new folder in the place of whatever was there, with nothing left to be written from before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.sync()
    return folder


def near(work: Path, runs: int) -> dict[str, list[Run]]:
    """On one file system: each way there, measured, and back."""
    source, target = work / "source", work / "near"
    flags: list[str | Path] = ["--from", source, "--to", target, "--yes"]
    found: dict[str, list[Run]] = {}
    for _ in range(runs):
        found.setdefault("modelctl --version", []).append(measure(MODELCTL, "--version", home=work))
        (empty(target) / "hub").mkdir()
        content = inodes(source / "hub")
        found.setdefault("modelctl migrate", []).append(measure(MODELCTL, "migrate", *flags, home=work))
        if inodes(target / "hub") != content:
            raise SystemExit("content was written")
        _move(target / "hub", source / "hub")
        (empty(target) / "hub").mkdir()
        models = sorted((source / "hub").glob("models--*"))
        found.setdefault("mv", []).append(measure("mv", *models, target / "hub", home=work))
        _move(target / "hub", source / "hub")
        found.setdefault("cp -a", []).append(measure("cp", "-a", source / "hub", empty(target), home=work))
        shutil.rmtree(target)
    return found


def _move(source: Path, target: Path) -> None:
    for folder in source.glob("models--*"):
        folder.rename(target / folder.name)


def across(work: Path, far: Path, runs: int) -> dict[str, list[Run]]:
    """To another file system: copies, and nothing is left there."""
    source = work / "source"
    ways: dict[str, Callable[[Path], Run]] = {
        "modelctl migrate --copy": lambda to: measure(
            MODELCTL, "migrate", "--from", source, "--to", to, "--copy", home=work
        ),
        "cp -a": lambda to: measure("cp", "-a", source / "hub", to, home=work),
    }
    found: dict[str, list[Run]] = {}
    for _ in range(runs):
        for name, way in ways.items():
            found.setdefault(name, []).append(way(empty(far / "target")))
    return found


def report(title: str, runs: dict[str, list[Run]]) -> None:
    """A line a command."""
    sys.stdout.write(f"\n{title:24}  {'min s':>7}  {'median s':>8}  {'CPU s':>6}  {'peak MB':>7}\n")
    for name, all_runs in runs.items():
        walls = [run.wall for run in all_runs]
        cpu = statistics.median(run.cpu for run in all_runs)
        memory = max(run.memory for run in all_runs) / 1e6
        sys.stdout.write(f"{name:24}  {min(walls):7.3f}  {statistics.median(walls):8.3f}  {cpu:6.2f}  {memory:7.0f}\n")


def ratios(one: list[Run], other: list[Run]) -> list[float]:
    """How long the one took beside the other, run by run: both had the machine that they had."""
    return [mine.wall / theirs.wall for mine, theirs in zip(one, other, strict=True)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--mib", type=int, default=4096, help="MiB of all together (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each command (default: %(default)s)")
    parser.add_argument("--dir", type=Path, help="where to work (default: the system's temporary folder)")
    parser.add_argument("--far", type=Path, help="a folder on another file system, to copy to")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.dir) as name:
        work = Path(name)
        (work / "source" / "hub").mkdir(parents=True)
        write_models(work / "source" / "hub", models=wanted.models, mib=wanted.mib)
        sys.stdout.write(f"{wanted.models} models, {wanted.mib} MiB, {wanted.runs} runs each\n")
        here = near(work, wanted.runs)
        report("on one file system", here)
        over = [
            run.wall - start.wall
            for run, start in zip(here["modelctl migrate"], here["modelctl --version"], strict=True)
        ]
        each = statistics.median(over) / wanted.models * 1000
        sys.stdout.write(f"{each:.1f} ms a model over the start of the command, no content written\n")
        if wanted.far:
            with tempfile.TemporaryDirectory(dir=wanted.far) as there:
                apart = across(work, Path(there), wanted.runs)
            report("to another file system", apart)
            found = ratios(apart["modelctl migrate --copy"], apart["cp -a"])
            sys.stdout.write(f"{statistics.median(found):.2f} times `cp -a` (best {min(found):.2f})\n")


if __name__ == "__main__":
    main()
