"""`modelctl list` on a large store against `hf cache ls` and a bare walk of the same folders, in turn, in one run.

    python benchmarks/listing.py
    python benchmarks/listing.py --models 10000 --tensors 200 --rounds 3
    python benchmarks/listing.py --models 1000 --layout shared

The floor is a bare Python process that walks the same folders with `os.scandir` and stats the same contents. Prints
seconds of wall time (min and median), the ratios to the floor and to `hf cache ls`, and the peak of memory.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.stores import Shape, fill

PYTHON = sys.executable
MODELCTL = str(Path(PYTHON).with_name("modelctl"))
HF = str(Path(PYTHON).with_name("hf"))
FLOOR = """
import os, sys
folders = [sys.argv[1]]
while folders:
    with os.scandir(folders.pop()) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif not entry.is_symlink():
                entry.stat(follow_symlinks=False)
"""


@dataclass
class Run:
    """One measured process: seconds of wall time, and mebibytes at its peak."""

    seconds: float
    mib: float


def measure(argv: list[str], environ: dict[str, str], folder: Path) -> Run:
    """Run a command to its end."""
    began = time.perf_counter()
    with subprocess.Popen(argv, env=environ, cwd=folder, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv} ended with {process.returncode}")
    return Run(time.perf_counter() - began, usage.ru_maxrss / 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--layout", choices=("links", "shared"), default="links")
    parser.add_argument("--tensors", type=int, default=20, help="in the header of each model")
    parser.add_argument("--no-listings", action="store_true", help="as tools leave a store that keep no trees/")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=None, help="where to make the store (default: a temporary folder)")
    options = parser.parse_args()
    # One model's files are many, and each is an inode; `wait4` tells of memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="modelctl-listing-", dir=options.dir) as scratch:
        project = Path(scratch)
        hub = project / "models" / "hub"
        hub.mkdir(parents=True)
        shape = Shape(options.layout, tensors=options.tensors, listings=not options.no_listings)
        files = fill(hub, options.models, shape)
        print(f"{options.models} models, {files} files, {options.layout}, {options.tensors} tensors", flush=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL", "HF_"))}  # noqa: TID251 - a benchmark is no module of the package
        environ |= {"HF_HOME": str(project / "cache"), "NO_COLOR": "1"}
        # Installed, a package has its bytecode beside it.
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = {
            "a bare walk": [PYTHON, "-c", FLOOR, str(hub)],
            "hf cache ls": [HF, "cache", "ls", "--cache-dir", str(hub)],
            "modelctl list -q": [MODELCTL, "list", "-q"],
            "modelctl list": [MODELCTL, "list"],
            "modelctl list --json": [MODELCTL, "list", "--json"],
            "modelctl status": [MODELCTL, "status"],
        }
        runs: dict[str, list[Run]] = {name: [] for name in commands}
        for turn in range(options.rounds + 1):
            for name, argv in commands.items():
                taken = measure(argv, environ, project)
                # The first round warms the disk's cache, and compiles what nobody has run yet.
                runs[name] += [taken] if turn else []
    tell(runs)
    return 0


def tell(runs: dict[str, list[Run]]) -> None:
    """Print the table; ratios are of the minima, which the machine's other work leaves alone."""
    floor = min(run.seconds for run in runs["a bare walk"])
    peer = min(run.seconds for run in runs["hf cache ls"])
    print(f"{'':22} min s  median  x walk  x hf   MiB")
    for name, taken in runs.items():
        least, middle = min(run.seconds for run in taken), statistics.median(run.seconds for run in taken)
        peak = max(run.mib for run in taken)
        print(f"{name:22} {least:5.2f}  {middle:6.2f}  {least / floor:6.2f}  {least / peer:5.2f}  {peak:4.0f}")


if __name__ == "__main__":
    sys.exit(main())
