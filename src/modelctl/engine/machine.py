"""What this machine has to give."""

import os
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of RAM that a new process may take, by the kernel's estimate and the limit of our control group."""
    free = _of_kernel(root / "proc/meminfo")
    if free is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _left_in_group(root / "sys/fs/cgroup", "memory.max", "memory.current")
    old_limit = _left_in_group(root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    return min(value for value in (free, limit, old_limit) if value is not None)


def killed_for_memory(root: Path = Path("/")) -> int | None:
    """How many processes the kernel has killed for want of memory since it started; `None` where it does not tell."""
    try:
        lines = (root / "proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    counts = dict(line.split() for line in lines if line.startswith("oom_kill "))
    return int(counts["oom_kill"]) if counts else None


def _of_kernel(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return int(kilobytes) * 1024 if kilobytes else None


def _left_in_group(folder: Path, limit: str, used: str) -> int | None:
    try:
        most, now = ((folder / name).read_text(encoding="ascii").strip() for name in (limit, used))
    except OSError:
        return None
    # "max", or a number near 2^63, is no limit.
    return max(0, int(most) - int(now)) if most.isdecimal() and int(most) < 2**60 else None
