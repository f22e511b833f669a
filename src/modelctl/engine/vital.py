"""The processes without which vLLM serves nothing more: its engine cores and workers, whose end is seen at once.

vLLM finds out by itself, but its own process takes some five seconds more to end.
"""

import contextlib
import os
import select
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from modelctl.engine import group

# How vLLM calls its processes, but for the one that was started.
_TITLE = b"VLLM::"


class Vital:
    """The vital processes of the server of `leader`, a context manager. Where the system has no handles, none."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._handles: list[int] = []

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._handles:
            os.close(self._handles.pop())

    def look(self) -> None:
        """Watch those that there are now, in place of those from before."""
        self.__exit__(None, None, None)
        if sys.platform != "linux":
            return
        for pid in group.members(self._leader):
            # It may end while we look at it.
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(pid)
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(_TITLE):
                    self._handles.append(handle)
                else:
                    os.close(handle)

    @property
    def handles(self) -> tuple[int, ...]:
        """Handles that become readable when a process ends."""
        return tuple(self._handles)

    def has_lost_one(self) -> bool:
        """Whether one of them has ended."""
        return bool(self._handles and select.select(self._handles, [], [], 0)[0])
