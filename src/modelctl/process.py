"""Which process is which: a pid alone is reused by the system, a pid with its start time is not."""

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds something: what it does, where it runs, since when.

    `started` is the kernel's start time of the process in clock ticks since boot, 0 where the system does not tell.
    """

    command: str
    host: str
    pid: int
    started: int
    since: datetime

    def __str__(self) -> str:
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"`modelctl {self.command}` (pid {self.pid}{where})"


def start_time(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot, 0 where it cannot be told, `None` if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return _start_time_without_proc(pid)
    except ProcessLookupError:
        return None
    except PermissionError:
        # Another user's, where `/proc` is mounted so that nobody sees those (`hidepid`).
        return 0
    # The second field is the command in parentheses and may hold anything; the 22nd is the start time.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def handle(pid: int) -> int | None:
    """A descriptor that becomes readable when a process ends, to be closed; `ProcessLookupError` if there is none.

    `None` where the system has no such handles: another one than Linux, an old kernel, one that a sandbox stands for.
    """
    opened = getattr(os, "pidfd_open", None)
    if opened is None:
        return None
    try:
        return int(opened(pid))
    except ProcessLookupError:
        raise
    except OSError:
        return None


def _start_time_without_proc(pid: int) -> int | None:
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0


def this_process(command: str) -> Owner:
    """The calling process, as the owner of what `command` is about to do."""
    pid = os.getpid()
    return Owner(command, socket.gethostname(), pid, start_time(pid) or 0, datetime.now(UTC))


def is_alive(owner: Owner) -> bool:
    """Whether the very process still runs. One of another host is taken for dead: nobody here can ask it."""
    return owner.host == socket.gethostname() and start_time(owner.pid) == owner.started


def to_json(owner: Owner) -> dict[str, Any]:
    """The owner as a JSON object."""
    return {
        "command": owner.command,
        "host": owner.host,
        "pid": owner.pid,
        "started": owner.started,
        "since": owner.since.isoformat(),
    }


def from_json(value: object) -> Owner | None:
    """The owner in a JSON value, `None` where it holds none: records are hints, and a torn one is nobody."""
    match value:
        case {
            "command": str(command),
            "host": str(host),
            "pid": int(pid),
            "started": int(started),
            "since": str(since),
        }:
            try:
                return Owner(command, host, pid, started, datetime.fromisoformat(since))
            except ValueError:
                return None
        case _:
            return None
