"""The processes without which vLLM serves nothing more: its engine cores and workers, whose end is seen at once.

vLLM finds out by itself, but its own process takes some five seconds more to end.
"""

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Watched:
    handle: int
    title: bytes


class Vital:
    """The vital processes of the server of `leader`, a context manager. Where the system has no handles, none."""

    def __init__(self, leader: int, *, members: Callable[[int], Iterable[int]] = group.members) -> None:
        self._leader = leader
        self._members = members
        self._watched: dict[int, _Watched] = {}

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in tuple(self._watched):
            self._forget(pid)

    def look(self) -> None:
        """Watch also those that have come since the last look."""
        for pid in self._members(self._leader):
            # It may end while we look at it.
            with contextlib.suppress(OSError):
                if pid not in self._watched and (title := _title(pid)).startswith(_TITLE):
                    handle = process.handle(pid)
                    if handle is not None:
                        self._watched[pid] = _Watched(handle, title)

    @property
    def handles(self) -> tuple[int, ...]:
        """Handles that become readable when a process ends."""
        return tuple(each.handle for each in self._watched.values())

    def has_lost_one(self) -> bool:
        """Whether one of them has ended.

        One that another has just begotten bears its title until it becomes the program that it is to be, such as a tool
        that is asked something: where the title is still borne, nobody is lost.
        """
        if not (ended := self._ended()):
            return False
        borne = {_title(pid) for pid in self._members(self._leader)}
        for pid in ended:
            if self._watched[pid].title in borne:
                self._forget(pid)
        return any(pid in self._watched for pid in ended)

    def write_off(self) -> None:
        """Do without those that have ended."""
        for pid in self._ended():
            self._forget(pid)

    def _ended(self) -> list[int]:
        readable = select.select(self.handles, [], [], 0)[0] if self._watched else []
        return [pid for pid, each in self._watched.items() if each.handle in readable]

    def _forget(self, pid: int) -> None:
        os.close(self._watched.pop(pid).handle)


def _title(pid: int) -> bytes:
    """What a process calls itself, in short and at length; nothing where it has ended."""
    try:
        return b"\0".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("comm", "cmdline"))
    except OSError:
        return b""


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
        if self._since is not None and has_spoken:
            # It goes on, or vLLM itself begins to tell.
            self._since = None
            self._vital.write_off()
        if self._since is None and self._vital.has_lost_one():
            self._since = now
            self._is_silent = diagnosis.cause(logs.last_lines(self._log), model="") is None
        elif self._since is None and (has_spoken or now - self._looked_at >= _STEP):
            self._looked_at = now
            self._vital.look()
        return self._is_silent and self._since is not None and now - self._since >= _PATIENCE
