"""The GPUs and their memory, by one question to NVIDIA's own tool; a driver that hangs holds up nobody."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from modelctl.engine import flags

_MIB = 2**20
_FIELDS = ("index", "uuid", "name", "memory.total", "memory.free", "mig.mode.current")
# Drivers from before there were divided GPUs refuse a field that they do not know.
_OLD_FIELDS = _FIELDS[:-1]


class Gpu(NamedTuple):
    """One GPU, or one slice of a divided one: bytes that it has, and that are free."""

    uuid: str
    name: str
    total: int
    free: int
    is_slice: bool = False


def gpu(root: Path = Path("/")) -> Literal["nvidia", "amd"] | None:
    """Whose GPU the machine has, by what its driver puts under `root`; no tool is asked."""
    cards = root / "proc/driver/nvidia/gpus"
    if (cards.is_dir() and any(cards.iterdir())) or (root / "dev/nvidiactl").exists():
        return "nvidia"
    # Windows' subsystem: the device is there for a card of any maker, CUDA's library for NVIDIA's.
    if (root / "dev/dxg").exists() and (root / "usr/lib/wsl/lib/libcuda.so.1").exists():
        return "nvidia"
    return "amd" if (root / "dev/kfd").exists() else None


class Question:
    """`nvidia-smi`, asked now and heard later: a scan in between costs its time only once."""

    def __init__(self, environ: Mapping[str, str], words: Sequence[str] | None = None) -> None:
        self._environ = dict(environ)
        self._tool = shutil.which("nvidia-smi", path=environ.get("PATH"))
        self._process = self._start(_query(_FIELDS) if words is None else words)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            _end(self._process)

    def answer(self, *, patience: float) -> tuple[Gpu, ...] | None:
        """The GPUs that a process of ours would see, in CUDA's order; `None` where none can tell within `patience`."""
        deadline = time.monotonic() + patience
        code, text = self.hear(deadline)
        if code == 2 and "mig.mode" in text:
            self._process = self._start(_query(_OLD_FIELDS))
            code, text = self.hear(deadline)
        if code != 0:
            # "No devices were found": a driver without a GPU.
            return () if code == 6 else None
        found = _parsed(text)
        if found is not None and any(row.is_divided for row in found):
            self._process = self._start(("-q", "-x"))
            code, text = self.hear(deadline)
            found = _with_slices(found, text) if code == 0 else None
        return None if found is None else _visible([row.gpu for row in found], self._environ)

    def _start(self, words: Sequence[str]) -> "subprocess.Popen[str] | None":
        if self._tool is None:
            return None
        try:
            return subprocess.Popen(
                [self._tool, *words],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError:
            return None

    def hear(self, deadline: float) -> tuple[int | None, str]:
        """The exit code, `None` without one in time, and all that was said."""
        process, self._process = self._process, None
        if process is None:
            return None, ""
        try:
            text = process.communicate(timeout=max(0.0, deadline - time.monotonic()))[0]
        except subprocess.TimeoutExpired:
            _end(process)
            return None, ""
        return process.returncode, text


def memory_of_processes(environ: Mapping[str, str], *, patience: float = 2.0) -> dict[int, int] | None:
    """Bytes that processes have on GPUs, by pid, 0 where it is not told how many; `None` where nobody tells.

    Of containers the driver knows other pids, and of divided GPUs it may tell none.
    """
    words = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
    with Question(environ, words) as question:
        code, text = question.hear(time.monotonic() + patience)
    if code != 0:
        # As above: a driver without a GPU.
        return {} if code == 6 else None
    found: dict[int, int] = {}
    for line in text.splitlines():
        pid, _, used = (word.strip() for word in line.partition(","))
        if pid.isdecimal():
            found[int(pid)] = found.get(int(pid), 0) + (_bytes(used) or 0)
    return found


class _Row(NamedTuple):
    gpu: Gpu
    is_divided: bool


def _query(fields: Sequence[str]) -> tuple[str, ...]:
    return (f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits")


def _end(process: "subprocess.Popen[str]") -> None:
    """Kill the tool with what it started, and wait for no process that the kernel does not let die."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(0.5)
    except (OSError, subprocess.TimeoutExpired):
        pass
    if process.stdout is not None:
        process.stdout.close()


def _parsed(text: str) -> list[_Row] | None:
    rows = []
    for line in filter(str.strip, text.splitlines()):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) not in {len(_FIELDS), len(_OLD_FIELDS)}:
            return None
        is_divided = cells[-1] == "Enabled"
        total, free = _bytes(cells[3]), _bytes(cells[4])
        if not is_divided and (total is None or free is None):
            # A GPU that shares the machine's memory has none of its own to tell of.
            return None
        rows.append(_Row(Gpu(cells[1], cells[2], total or 0, free or 0), is_divided))
    return rows


def _bytes(cell: str) -> int | None:
    digits = cell.removesuffix("MiB").strip()
    return int(digits) * _MIB if digits.isdecimal() else None


def _with_slices(rows: Sequence[_Row], text: str) -> list[_Row] | None:
    """Each divided GPU replaced by its slices, as the long report tells of them."""
    from xml.etree import ElementTree as ET

    try:
        report = ET.fromstring(text)  # noqa: S314 - of the driver's own tool
    except ET.ParseError:
        return None
    slices: dict[str, list[_Row]] = {}
    for card in report.iter("gpu"):
        name = card.findtext("product_name") or "GPU"
        for at, part in enumerate(card.iter("mig_device")):
            total, free = (_bytes(part.findtext(f"fb_memory_usage/{key}") or "") for key in ("total", "free"))
            if total is None or free is None:
                return None
            mine = slices.setdefault(card.findtext("uuid") or "", [])
            mine.append(_Row(Gpu(part.findtext("uuid") or f"MIG-{at}", f"{name} (slice)", total, free, True), False))
    return [each for row in rows for each in (slices.get(row.gpu.uuid, []) if row.is_divided else [row])]


def _visible(found: Sequence[Gpu], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Those that `CUDA_VISIBLE_DEVICES` leaves to see. A process sees one slice, whichever there are."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        chosen: list[Gpu] = []
        for word in (word.strip() for word in named.split(",")):
            index = flags.whole(word)
            gpus = [found[index]] if index is not None and index < len(found) else []
            gpus = gpus or [each for each in found if word.startswith(("GPU-", "MIG-")) and each.uuid.startswith(word)]
            if len(gpus) != 1:
                # CUDA ends the list at the first word that names nothing.
                break
            chosen += gpus
        found = chosen
    slices = [each for each in found if each.is_slice]
    return tuple(slices[:1]) if slices else tuple(found)
