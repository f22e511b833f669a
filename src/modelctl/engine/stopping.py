"""Ending a server from outside: its `modelctl` is asked to, and what is left of it after its time is killed."""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelctl import process
from modelctl.engine import enclosed, group, servers
from modelctl.engine.release import DEVICE, Holders
from modelctl.engine.servers import ServerRecord
from modelctl.errors import NotAllowedError

# How long the end takes at most beside the time for requests in flight: vLLM's own, then that of the killing.
_BEYOND = 25.0
_STEP = 0.05
How = Literal["stopped", "killed", "gone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """How a server ended: `stopped` in order, `killed` since it did not, `gone` before.

    `survivors` are processes that could not be killed, `held` bytes on GPUs that are not free for all that, by pid.
    `container_left` is the command that removes its container, where that could not be removed.
    """

    record: ServerRecord
    how: How
    seconds: float
    survivors: tuple[int, ...]
    held: Mapping[int, int]
    container_left: str | None = None


class Stop:
    """One server that is asked to end as soon as this is made. `now`: without waiting for requests in flight.

    In `environ` the tool of the driver of its GPUs is found.
    """

    def __init__(
        self, record: ServerRecord, *, environ: Mapping[str, str], now: bool = False, state_dir: Path | None = None
    ) -> None:
        self.record = record
        self._state_dir = state_dir
        leader = self._engine()
        self._holders = Holders(
            leader or 0,
            environ=environ if leader and record.device == DEVICE else None,
            members=lambda _: enclosed.members(record),
        )
        self._holders.note()
        self._begun = time.monotonic()
        # The first asks; Ctrl-C after it has the server not wait for anybody.
        # One that has just ended in order, since somebody else asked, is as good as stopped.
        self.was_there = self._send(signal.SIGTERM) or not servers.is_known(record, state_dir=state_dir)
        if now and self.was_there:
            self._wait(0.2)
            self._send(signal.SIGINT)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        return self._wait(seconds)

    def finish(self) -> Stopped:
        """Wait for the end, bring it about where it does not come, and see that nothing is left."""
        how: How = "stopped" if self.was_there else "gone"
        if not self._wait(self.record.drain + _BEYOND - (time.monotonic() - self._begun)):
            how = "killed"
            self._send(signal.SIGKILL)
            self._wait(5.0)
        survivors = () if (leader := self._engine()) is None else group.end(leader)
        left = enclosed.remove(self.record)
        seconds = time.monotonic() - self._begun
        # Ended in order, it has taken its record away itself.
        if not survivors and left is None:
            servers.remove(self.record, state_dir=self._state_dir)
        held = self._holders.held()
        return Stopped(
            record=self.record, how=how, seconds=seconds, survivors=survivors, held=held, container_left=left
        )

    def _is_there(self) -> bool:
        return process.start_time(self.record.pid) == self.record.started

    def _send(self, number: signal.Signals) -> bool:
        """Whether the very process was there and got the signal."""
        record = self.record
        try:
            with _handle(record.pid) as descriptor:
                # Held by a handle, the pid cannot become another process between the look and the signal.
                if not self._is_there():
                    return False
                # One that was suspended hears of nothing until it goes on.
                for each in (number, signal.SIGCONT):
                    if descriptor is None:
                        os.kill(record.pid, each)
                    elif sys.platform == "linux":
                        signal.pidfd_send_signal(descriptor, each)
        except ProcessLookupError:
            return False
        except PermissionError as exc:
            raise NotAllowedError(f"{record} belongs to another user", hint=f"`sudo kill {record.pid}`") from exc
        return True

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with contextlib.suppress(ProcessLookupError), _handle(self.record.pid) as descriptor:
            while self._is_there():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                # Readable as soon as the process has ended; without a handle there is nothing to await.
                select.select([] if descriptor is None else [descriptor], [], [], _STEP if descriptor is None else left)
        return True

    def _engine(self) -> int | None:
        """The leader of vLLM's processes, where they are beyond doubt still those of this server."""
        record = self.record
        if record.engine_pid is None:
            return None
        started = process.start_time(record.engine_pid)
        if started is not None:
            return record.engine_pid if started == record.engine_started else None
        # Led by nobody any more: each has its own server's folder in its environment.
        mine = os.fsencode(f"TMPDIR={record.run_folder}")
        for pid in group.members(record.engine_pid):
            with contextlib.suppress(OSError):
                if mine in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    return record.engine_pid
        return None


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int | None]:
    """A handle of a process, where the system has such."""
    descriptor = process.handle(pid)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
