"""`modelctl verify` against `sha256sum` under `xargs -P`, in turn, in one run: the same blobs, on as many processors.

    python benchmarks/verify.py
    python benchmarks/verify.py --mib 8192 --runs 7 --dir /mnt/big

It may take at most 1/0.9 of the time of `sha256sum`, which knows nothing of what the hashes should be. All of it is in
memory after the first round, if it fits there: then it is the processors that are measured, else the disk.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from modelctl.store import layout
from modelctl.store.layout import RepoPaths

MODELCTL = str(Path(sys.executable).parent / "modelctl")
MIB = 1024 * 1024
# What is measured is started by a small process: its memory would else count as at least that of this one.
_LAUNCHER = """
import os, resource, sys, time
began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", 1, 0)])
_, status = os.waitpid(pid, 0)
wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one command: seconds of wall time and of CPU, bytes of peak memory."""

    wall: float
    cpu: float
    memory: int


def write_model(hub: Path, *, mib: int, files: int, small: int) -> list[Path]:
    """A model of random weights in files of one size, and small files beside; its blobs."""
    import hashlib

    paths, commit = RepoPaths(hub, "bench/model"), "1" * 40
    for folder in (paths.blobs, paths.snapshot(commit), paths.refs):
        folder.mkdir(parents=True)
    paths.ref("main").write_text(commit)
    block, blobs = os.urandom(16 * MIB), []
    sizes = [mib * MIB // files] * files + [4096 + at for at in range(small)]
    for at, size in enumerate(sizes):
        hashed, spare = hashlib.sha256(), paths.blobs / "spare"
        with spare.open("wb") as file:
            left, piece = size, at.to_bytes(8, "big") + block
            while left > 0:
                hashed.update(piece[:left])
                file.write(piece[:left])
                left -= len(piece)
        blob = spare.rename(paths.blob(hashed.hexdigest()))
        paths.entry(commit, f"file-{at}").symlink_to(layout.link_target(f"file-{at}", blob.name))
        blobs.append(blob)
    os.sync()
    return blobs


def measure(*argv: str | Path, home: Path, stdin: bytes = b"") -> Run:
    """Run a command, and all that it starts, to its successful end."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *(str(word) for word in argv)],
        env={"PATH": os.defpath, "HOME": str(home)},
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=home,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{argv} ended with {done.returncode}")
    wall, cpu, memory = done.stdout.split()
    return Run(float(wall), float(cpu), int(memory))


def report(runs: dict[str, list[Run]], size: int) -> None:
    """A line a command."""
    sys.stdout.write(f"{'':32}  {'min s':>7}  {'median s':>8}  {'GB/s':>6}  {'CPU s':>6}  {'peak MB':>7}\n")
    for name, all_runs in runs.items():
        walls = [run.wall for run in all_runs]
        cpu = statistics.median(run.cpu for run in all_runs)
        memory = max(run.memory for run in all_runs) / 1e6
        rate = size / statistics.median(walls) / 1e9
        line = f"{min(walls):7.3f}  {statistics.median(walls):8.3f}  {rate:6.2f}  {cpu:6.2f}  {memory:7.0f}"
        sys.stdout.write(f"{name:32}  {line}\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=4096, help="MiB of all large files together (default: %(default)s)")
    parser.add_argument("--files", type=int, default=8, help="large files (default: %(default)s)")
    parser.add_argument("--small", type=int, default=200, help="small files beside (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each command (default: %(default)s)")
    parser.add_argument("--dir", type=Path, help="where to work (default: the system's temporary folder)")
    wanted = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=wanted.dir) as name:
        work = Path(name)
        blobs = write_model(work / "models" / "hub", mib=wanted.mib, files=wanted.files, small=wanted.small)
        size = sum(blob.stat().st_size for blob in blobs)
        sys.stdout.write(f"{len(blobs)} files, {size / 1e9:.1f} GB, {cores} processors, {wanted.runs} runs each\n")
        # One file at a time, so that each processor has one as long as there are some left.
        summing = f"xargs -0 -n 1 -P {cores} sha256sum"
        words = b"".join(os.fsencode(blob) + b"\0" for blob in blobs)
        others = [summing]
        if shutil.which("openssl"):
            # It knows of the processor's own instructions, which not every `sha256sum` does.
            others.append(f"xargs -0 -n 1 -P {cores} openssl sha256")
        runs: dict[str, list[Run]] = {
            "modelctl verify": [],
            **{other: [] for other in others},
            "modelctl --version": [],
        }
        for _ in range(wanted.runs + 1):
            runs["modelctl verify"].append(measure(MODELCTL, "verify", "--all", "--models-dir", "models", home=work))
            for other in others:
                runs[other].append(measure(*other.split(), home=work, stdin=words))
            runs["modelctl --version"].append(measure(MODELCTL, "--version", home=work))
        # The first round finds nothing in memory.
        report({name: all_runs[1:] for name, all_runs in runs.items()}, size)
        for other in others:
            pairs = zip(runs["modelctl verify"][1:], runs[other][1:], strict=True)
            shares = [theirs.wall / mine.wall for mine, theirs in pairs]
            sys.stdout.write(
                f"{statistics.median(shares):.2f} of the throughput of `{other}` (best {max(shares):.2f})\n"
            )


if __name__ == "__main__":
    main()
