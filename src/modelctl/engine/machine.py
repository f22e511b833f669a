"""What this machine has to give."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from modelctl.engine.gpus import Gpu


# As vLLM counts what a node has left.
_NODE_FREE = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")


class Machine(NamedTuple):
    """The memory that vLLM can have: that of the GPUs, and without one the machine's own.

    `gpus` is `None` where there are GPUs whose memory nobody tells. Bytes; `available` is what a new process may take.
    `nodes` are the NUMA nodes, 0 where nothing tells.
    """

    gpus: "tuple[Gpu, ...] | None"
    memory: int
    available: int
    nodes: int = 0


def without_gpu(root: Path = Path("/")) -> Machine:
    """A machine of which only the RAM counts."""
    nodes = sum(1 for _ in (root / "sys/devices/system/node").glob("node[0-9]*"))
    return Machine((), total_memory(root), available_memory(root), nodes)


def total_memory(root: Path = Path("/")) -> int:
    """Bytes of RAM, or of the share that our control groups have of it."""
    kernel = _of_kernel(root / "proc/meminfo", "MemTotal:")
    limits = [most for most, _ in _limits(root)]
    whole = kernel if kernel is not None else _physical()
    return min([whole, *limits, max((node["MemTotal"] for node in _nodes(root)), default=whole)])


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of RAM that a new process may take, by the kernel's estimate and the limits of our control groups."""
    free = _of_kernel(root / "proc/meminfo", "MemAvailable:")
    if free is None:
        return _physical()
    left = [max(0, most - used) for most, used in _limits(root)]
    nodes = (sum(node.get(key, 0) for key in _NODE_FREE) for node in _nodes(root))
    return min([free, *left, max(nodes, default=free)])


def killed_for_memory(root: Path = Path("/")) -> int | None:
    """How many processes the kernel has killed for want of memory since it started; `None` where it does not tell."""
    try:
        lines = (root / "proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    counts = dict(line.split() for line in lines if line.startswith("oom_kill "))
    return int(counts["oom_kill"]) if counts else None


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_kernel(meminfo: Path, key: str) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith(key)), None)
    return int(kilobytes) * 1024 if kilobytes else None


def _nodes(root: Path) -> list[dict[str, int]]:
    """What the kernel tells of each NUMA node, of several: vLLM on the CPU takes its memory from one of them."""
    found = []
    for path in sorted((root / "sys/devices/system/node").glob("node[0-9]*/meminfo")):
        try:
            # `Node 0 MemTotal:  97421888 kB`
            rows = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        except OSError:
            continue
        node = {row[2].rstrip(":"): int(row[3]) * 1024 for row in rows if len(row) > 3 and row[3].isdecimal()}
        found += [node] if "MemTotal" in node else []
    return found if len(found) > 1 else []


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """The limit of each control group that we are in, and what its processes use of it."""
    groups = root / "sys/fs/cgroup"
    for folder in _folders(groups, _own_group(root, "")):
        yield from _limit(folder, "memory.max", "memory.current", "inactive_file")
    for folder in _folders(groups / "memory", _own_group(root, "memory")):
        yield from _limit(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _own_group(root: Path, controller: str) -> str:
    """Our group's path below the mount; in a container of its own that is the mount itself."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "/"
    fields = (line.split(":", 2) for line in lines)
    return next((words[2] for words in fields if len(words) == 3 and controller in words[1].split(",")), "/")


def _folders(mount: Path, group: str) -> Iterator[Path]:
    """Our group and those that it lies in. One that the mount does not show is left out."""
    folder = mount / group.strip("/")
    while folder != mount and mount in folder.parents:
        yield folder
        folder = folder.parent
    yield mount


def _limit(folder: Path, limit: str, used: str, file: str) -> Iterator[tuple[int, int]]:
    try:
        most, now = ((folder / name).read_text(encoding="ascii").strip() for name in (limit, used))
    except OSError:
        return
    # "max", or a number near 2^63, is no limit.
    if most.isdecimal() and now.isdecimal() and int(most) < 2**60:
        yield int(most), max(0, int(now) - _reclaimable(folder / "memory.stat", file))


def _reclaimable(stat: Path, key: str) -> int:
    """Bytes of files that were read and not since: the kernel counts them as used, and gives them up at once."""
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), 0)
