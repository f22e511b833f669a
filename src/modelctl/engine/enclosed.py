"""The processes of a server that runs in a container: found among those of this machine, and ended with it."""

import contextlib
import os
import re
import subprocess
from pathlib import Path

from modelctl.engine import group, keeper, servers
from modelctl.engine.servers import ServerRecord

_PROC = Path("/proc")
_PATIENCE = 5.0
# For one that an earlier server left, a start does not wait for long.
_SWEEPING = 2.0


class Enclosure:
    """The processes of a server, in a container or not, for as long as somebody watches it.

    `left` is the command that is to remove its container, where that could not be removed at the end.
    """

    def __init__(self, record: ServerRecord) -> None:
        self._record = record
        self._identity: bytes | None = None
        self.left: str | None = None

    def members(self, leader: int) -> tuple[int, ...]:
        """The pids of its processes; of one in a container none where they run elsewhere."""
        record = self._record
        if record.container is None or record.container_tool is None:
            return group.members(leader)
        self._identity = self._identity or _identity(record.container_tool, record.container)
        return () if self._identity is None else _inside(self._identity)

    def end(self, leader: int) -> tuple[int, ...]:
        """Kill every process of it, and return those of `leader` that still live after some seconds."""
        survivors = group.end(leader)
        self.left = remove(self._record)
        return survivors


def members(record: ServerRecord) -> tuple[int, ...]:
    """The pids of a server's processes, as of now."""
    return Enclosure(record).members(record.engine_pid) if record.engine_pid is not None else ()


def _inside(identity: bytes) -> tuple[int, ...]:
    """The processes in the control group that a tool has made for a container.

    Their names and environments are theirs to change.
    """
    found = []
    if not _PROC.is_dir():
        return ()
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            # A process may end while we read of it.
            with contextlib.suppress(OSError):
                if identity in (_PROC / entry.name / "cgroup").read_bytes():
                    found.append(int(entry.name))
    return tuple(sorted(found))


def remove(record: ServerRecord, *, patience: float = keeper.REMOVAL) -> str | None:
    """See that a server's container is gone; else the command that is to remove it."""
    if record.container is None or record.container_tool is None:
        return None
    if keeper.remove(str(record.container_tool), record.container, patience=patience):
        return None
    return f"{record.container_tool.name} rm -f {record.container}"


def sweep(state_dir: Path | None = None, *, patience: float = _SWEEPING) -> None:
    """Remove the containers of servers that are gone, which were left where whoever kept them was killed too."""
    unable: set[Path | None] = set()
    for record in servers.gone(state_dir):
        # Asked for each of them, a tool that hangs would hold up every start for long.
        if record.container is None or record.container_tool in unable:
            continue
        if remove(record, patience=patience) is None:
            servers.write(servers.changed(record, container=None), state_dir=state_dir)
        else:
            unable.add(record.container_tool)


def _identity(tool: Path, name: str) -> bytes | None:
    try:
        ran = subprocess.run(
            [str(tool), "container", "inspect", "--format", "{{.Id}}", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
            # Ctrl-C is for who asks.
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = ran.stdout.strip()
    return found if ran.returncode == 0 and re.fullmatch(rb"[0-9a-f]{64}", found) else None
