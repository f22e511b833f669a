"""The processes that one server consists of: those of its session, found, measured and ended to the last."""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
# How long Python's resource tracker gets for removing what killed processes left in shared memory.
_TIDYING = 2.0
# How long a killed process may take to be gone: the system gives back much memory, and that of devices, in its time.
_LAST_WAIT = 20.0
_RESIDENT = re.compile(r"^Rss(Anon|File|Shmem):\s+(\d+) kB$", re.MULTILINE)
_READ = re.compile(rb"^(?:rchar|read_bytes): (\d+)$", re.MULTILINE)
_STEP = 0.02


def memory(pids: Iterable[int]) -> int | None:
    """Bytes of memory that the processes of a server hold; `None` where the system does not tell.

    Pages of files, which are for the most part the same libraries, and shared memory are counted once.
    """
    own = files = shared = 0
    found = False
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            status = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
            sizes = {name: int(kib) * 1024 for name, kib in _RESIDENT.findall(status)}
            own += sizes.get("Anon", 0)
            files, shared = max(files, sizes.get("File", 0)), max(shared, sizes.get("Shmem", 0))
            found = found or bool(sizes)
    return own + files + shared if found else None


def cpu_seconds(pids: Iterable[int]) -> float | None:
    """Seconds that the processes of a server have computed; `None` where the system does not tell.

    It falls when one of them ends.
    """
    ticks = [_ticks(pid) for pid in pids]
    known = [each for each in ticks if each is not None]
    return sum(known) / os.sysconf("SC_CLK_TCK") if known else None


def _ticks(pid: int) -> int | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    return sum(int(word) for word in stat[stat.rindex(b")") + 2 :].split()[11:13])


def bytes_read(pids: Iterable[int]) -> int:
    """Bytes that the processes of a server have read, also by files in their memory, where the system tells.

    It falls when one of them ends.
    """
    found = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found += sum(int(count) for count in _READ.findall((_PROC / str(pid) / "io").read_bytes()))
    return found


def waits_for_disk(pids: Iterable[int]) -> bool:
    """Whether a thread of the processes of a server waits for a disk, or for another machine that has the files."""
    for pid in pids:
        threads: list[Path] = []
        with contextlib.suppress(OSError):
            threads = [*(_PROC / str(pid) / "task").iterdir()]
        for thread in threads:
            # A thread may end while we read of it.
            with contextlib.suppress(OSError):
                stat = (thread / "stat").read_bytes()
                if stat[stat.rindex(b")") + 2 :].startswith(b"D"):
                    return True
    return False


def members(leader: int) -> tuple[int, ...]:
    """The pids of the processes in the session or the process group of `leader`. Zombies hold nothing and do not count.

    Where the system has no `/proc`, `leader` stands for all as long as its group has a process.
    """
    if not _tells_processes():
        return (leader,) if _has_group(leader) else ()
    found = []
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            # A process may end while we read of it.
            with contextlib.suppress(OSError):
                stat = (_PROC / entry.name / "stat").read_bytes()
                state, _, group, session = stat[stat.rindex(b")") + 2 :].split()[:4]
                if leader in {int(group), int(session)} and state not in {b"Z", b"X"}:
                    found.append(int(entry.name))
    return tuple(sorted(found))


def end(leader: int) -> tuple[int, ...]:
    """Kill every process of the server, and return those that still live after some seconds.

    Python's resource trackers go last: they end by themselves as soon as nobody is left to track, and remove the
    shared memory and semaphores that killed processes could not.
    """
    if _tells_processes():
        _await_end(leader, seconds=_LAST_WAIT, but_trackers=True)
        _await_end(leader, seconds=_TIDYING)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    _kill(members(leader))
    return _await_end(leader, seconds=_TIDYING if _tells_processes() else _LAST_WAIT)


def _await_end(leader: int, *, seconds: float, but_trackers: bool = False) -> tuple[int, ...]:
    """Kill all, also who turns up late (a child that was being born), but resource trackers; wait until all are gone.

    `but_trackers`: those are not waited for.
    """
    deadline = time.monotonic() + seconds
    while left := members(leader):
        others = [pid for pid in left if not _is_tracker(pid)]
        _kill(others)
        if (but_trackers and not others) or time.monotonic() >= deadline:
            break
        # Processes that are not our children cannot be waited for.
        time.sleep(_STEP)
    return left


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _is_tracker(pid: int) -> bool:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    # One that is just being started has no words yet, and may become one.
    return not words or b"multiprocessing.resource_tracker" in words


def _tells_processes() -> bool:
    return (_PROC / "self/stat").exists()


def _has_group(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return sys.platform != "darwin"  # there it also speaks of a group of zombies
    return True
