"""The processes without which vLLM serves nothing more: its engine cores and workers, whose end is seen at once.

vLLM finds out by itself, but its own process takes some five seconds more to end.
"""

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from modelctl import process
from modelctl.engine import diagnosis, group, logs

# How long vLLM gets, while it loads, to end after the death of a process that said nothing: nobody will know more.
_PATIENCE = 4.0
_STEP = 1.0
# How vLLM calls its processes, but for the one that was started.
_TITLE = b"VLLM::"


class Vital:
    """The vital processes of the server of `leader`, a context manager. Where the system has no handles, none."""

    def __init__(self, leader: int, *, members: Callable[[int], Iterable[int]] = group.members) -> None:
        self._leader = leader
        self._members = members
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
        for pid in self._members(self._leader):
            # It may end while we look at it.
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_bytes().startswith(_TITLE):
                    handle = process.handle(pid)
                    self._handles += [] if handle is None else [handle]

    @property
    def handles(self) -> tuple[int, ...]:
        """Handles that become readable when a process ends."""
        return tuple(self._handles)

    def has_lost_one(self) -> bool:
        """Whether one of them has ended."""
        return bool(self._handles and select.select(self._handles, [], [], 0)[0])


class Loss:
    """Whether a server that loads has lost a vital process without a word, and does not draw the consequence.

    One that fails says so before it ends, and vLLM then tells of it in its own time.
    """

    def __init__(self, vital: Vital, log: Path) -> None:
        self._vital = vital
        self._log = log
        self._since: float | None = None
        self._is_silent = False
        self._looked_at = 0.0

    def is_final(self, *, has_spoken: bool) -> bool:
        """Take a look; call it often. `has_spoken`: there are new lines in the log, perhaps of a new process."""
        now = time.monotonic()
        if self._since is None and self._vital.has_lost_one():
            self._since = now
            self._is_silent = diagnosis.cause(logs.last_lines(self._log), model="") is None
        elif self._since is None and (has_spoken or now - self._looked_at >= _STEP):
            self._looked_at = now
            self._vital.look()
        return self._is_silent and self._since is not None and now - self._since >= _PATIENCE
