"""`modelctl rm` of one model out of many against a bare start of the command, and `hf cache rm`, in turn, in one run.

    python benchmarks/removal.py
    python benchmarks/removal.py --models 1000 --rounds 7

Prints seconds of wall time (min and median). Exits with 1 where removing takes more than 20 ms over a start that does
nothing, median against median.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.stores import Shape, fill, name_of

BAR = 0.020
PYTHON = sys.executable
MODELCTL = str(Path(PYTHON).with_name("modelctl"))
HF = str(Path(PYTHON).with_name("hf"))


def seconds(argv: list[str], environ: dict[str, str], folder: Path) -> float:
    """Wall time of one command that has to succeed."""
    began = time.perf_counter()
    subprocess.run(argv, env=environ, cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelctl-removal-") as scratch:
        project = Path(scratch)
        hub = project / "models" / "hub"
        hub.mkdir(parents=True)
        fill(hub, options.models, Shape())
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL", "HF_"))}  # noqa: TID251 - a benchmark is no module of the package
        environ |= {"HF_HOME": str(project / "cache"), "NO_COLOR": "1"}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        times: dict[str, list[float]] = {"modelctl --version": [], "modelctl rm": [], "hf cache rm": []}
        for turn in range(options.rounds + 1):
            ours, theirs = name_of(2 * turn), name_of(2 * turn + 1)
            for name, argv in (
                ("modelctl --version", [MODELCTL, "--version"]),
                ("modelctl rm", [MODELCTL, "rm", ours, "--yes"]),
                ("hf cache rm", [HF, "cache", "rm", f"model/{theirs}", "--yes", "--cache-dir", str(hub)]),
            ):
                taken = seconds(argv, environ, project)
                # The first round warms the disk's cache, and compiles what nobody has run yet.
                times[name] += [taken] if turn else []
    print(f"one of {options.models} models, {options.rounds} rounds\n{'':20}  min s  median")
    for name, values in times.items():
        print(f"{name:20}  {min(values):5.3f}  {statistics.median(values):6.3f}")
    over = statistics.median(times["modelctl rm"]) - statistics.median(times["modelctl --version"])
    print(f"modelctl rm takes {over * 1000:.0f} ms over a start that does nothing (bar: {BAR * 1000:.0f})")
    return int(over > BAR)


if __name__ == "__main__":
    sys.exit(main())
