"""`modelctl list` on a store of 20 models against `python -c pass`, in turn, in one run.

    python benchmarks/list_startup.py
    python benchmarks/list_startup.py --models 200 --rounds 10

Prints milliseconds of wall time (min and median) and how many times a bare interpreter's start that is. Exits with 1
where the faster of both, min against min, is beyond the bar: the minimum is what the machine's other work leaves alone.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from modelctl.share.offer import lay_out
from modelctl.share.samples import tiny_llama

BAR = 8.0
PYTHON = sys.executable
MODELCTL = str(Path(PYTHON).with_name("modelctl"))
COMMANDS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import typer": [PYTHON, "-c", "import typer"],
    "modelctl --version": [MODELCTL, "--version"],
    "modelctl list -q": [MODELCTL, "list", "-q"],
    "modelctl list": [MODELCTL, "list"],
}


def lay_out_models(hub: Path, count: int) -> None:
    """Whole models of a megabyte, no two of them alike."""
    files = tiny_llama()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            for name, content in {**files, "LICENSE": f"of {number}".encode()}.items():
                path = Path(scratch) / str(number) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            lay_out(Path(scratch) / str(number), hub, f"acme/model-{number}")


def measure(argv: list[str], environ: dict[str, str], folder: Path) -> float:
    """Milliseconds of one run."""
    began = time.perf_counter()
    subprocess.run(argv, env=environ, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelctl-list-") as scratch:
        project = Path(scratch)
        lay_out_models(project / "models" / "hub", options.models)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL", "HF_"))}  # noqa: TID251 - a benchmark is no module of the package
        environ["HF_HOME"] = str(project / "cache")
        # Installed, a package has its bytecode beside it.
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        times: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for turn in range(options.rounds + 1):
            for name, argv in COMMANDS.items():
                taken = measure(argv, environ, project)
                # The first round warms the disk's cache, and compiles what nobody has run yet.
                times[name] += [taken] if turn else []
    return tell(times, models=options.models)


def tell(times: dict[str, list[float]], *, models: int) -> int:
    """Print the table and the ratios of the two that matter."""
    bare = times["python -c pass"]
    print(f"{models} models, {len(bare)} rounds\n{'':20}  min ms  median   x min  x median")
    for name, values in times.items():
        least, middle = min(values), statistics.median(values)
        ratios = f"{least / min(bare):6.1f}  {middle / statistics.median(bare):8.1f}"
        print(f"{name:20}  {least:6.1f}  {middle:6.1f}  {ratios}")
    ratio = min(times["modelctl list"]) / min(bare)
    print(f"modelctl list takes {ratio:.1f} times a bare interpreter's start (bar: {BAR:.0f})")
    return int(ratio > BAR)


if __name__ == "__main__":
    sys.exit(main())
