"""Whether a server's memory on GPUs is free again once its processes are gone: only the driver can tell."""

import time
from collections.abc import Callable, Iterable, Mapping

from modelctl import process
from modelctl.engine import gpus, group

# The build that takes memory of which this driver tells.
DEVICE = "cuda"
# How long the driver gets for it. One that hangs holds up nobody for longer.
_PATIENCE = 3.0
_STEP = 0.2


class Holders:
    """The processes of the server of `leader`, noted while they live, since afterwards the driver alone knows of them.

    `environ` is where the driver's tool is found; `None` for a build that uses no GPU: then nobody is ever asked.
    """

    def __init__(
        self,
        leader: int,
        *,
        environ: Mapping[str, str] | None,
        members: Callable[[int], Iterable[int]] = group.members,
    ) -> None:
        self._leader = leader
        self._members = members
        self._environ = environ
        self._pids: set[int] = set()

    def note(self) -> None:
        """Take note of the processes that there are now."""
        if self._environ is not None:
            self._pids.update(self._members(self._leader))

    def held(self, *, patience: float = _PATIENCE) -> dict[int, int]:
        """Bytes that the driver still keeps for ended processes, by pid, after `patience` seconds to free them.

        0 bytes where it does not tell how many. Nothing where nobody tells at all: without the tool, in a container
        whose processes the driver knows by other pids, and where the driver hangs.
        """
        if self._environ is None:
            return {}
        deadline, held = time.monotonic() + patience, dict[int, int]()
        while (left := deadline - time.monotonic()) > 0:
            told = gpus.memory_of_processes(self._environ, patience=left)
            if told is None:
                break
            # One that lives has got the pid anew, or is told of as a survivor.
            held = {pid: told[pid] for pid in self._pids & told.keys() if process.start_time(pid) is None}
            if not held:
                break
            time.sleep(min(_STEP, left))
        return held


def message(held: Mapping[int, int]) -> str:
    """One sentence on memory that is not free."""
    count = sum(held.values())
    size = f"{count / 1e9:.1f} GB of memory" if count else "memory"
    return f"vLLM has ended, but the driver still holds {size} on the GPU for it (pid {_listed(held)})"


HINT = "`nvidia-smi` shows whether it is free by now; else `sudo nvidia-smi --gpu-reset`, which ends all that computes"


def _listed(held: Mapping[int, int]) -> str:
    return ", ".join(str(pid) for pid in sorted(held))
