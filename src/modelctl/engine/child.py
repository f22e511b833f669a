"""One child process from its start to its end: its output goes to a log and, line by line, to who watches."""

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl.store import changes

_TICK = 0.5
# How long a child may take to end when told; Ctrl-C is to be over within a second.
_GRACE = 0.4
_LINE_END = re.compile(rb"[\r\n]+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended: its exit code, `None` where we ended it; the last line that it printed."""

    code: int | None
    last: str


def run(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: Path,
    log: Path,
    line: Callable[[str], bool | None] = lambda _: None,
    tick: Callable[[], None] = lambda: None,
    patience: float | None = None,
    inherit: Sequence[int] = (),
) -> Outcome:
    """Run `argv` in a process group of its own, which is gone when this returns or raises.

    `line` is given every line of output and may answer `True`: enough was seen, the child is ended. `tick` is called
    twice a second. After `patience` seconds the child is ended. `inherit` are descriptors that it gets too.
    """
    try:
        with log.open("ab", buffering=0) as file:
            file.write(f"$ {' '.join(argv)}\n".encode(errors="surrogateescape"))
            child = subprocess.Popen(
                argv,
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=inherit,
            )
            with child:
                try:
                    return _followed(child, write=file.write, line=line, tick=tick, patience=patience)
                finally:
                    _end(child)
    except OSError as exc:
        raise changes.translated(exc, doing="run", named_by="XDG_STATE_HOME") from exc


def _followed(
    child: subprocess.Popen[bytes],
    *,
    write: Callable[[bytes], object],
    line: Callable[[str], bool | None],
    tick: Callable[[], None],
    patience: float | None,
) -> Outcome:
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    pipe = child.stdout.fileno()
    deadline = time.monotonic() + (float("inf") if patience is None else patience)
    rest, last = b"", ""
    while time.monotonic() < deadline:
        if not select.select([pipe], [], [], _TICK)[0]:
            tick()
            # A grandchild may keep the pipe open for longer than the child lives.
            if child.poll() is not None:
                return Outcome(child.returncode, last)
            continue
        chunk = os.read(pipe, 65536)
        write(chunk)
        *lines, rest = _LINE_END.split(rest + chunk)
        for text in (raw.decode("utf-8", "replace").rstrip() for raw in lines if raw.strip()):
            last = text
            if line(text):
                return Outcome(None, last)
        if not chunk:
            last = rest.decode("utf-8", "replace").rstrip() or last
            return Outcome(child.wait(), last)
        tick()
    return Outcome(None, last)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child and what else is in its group, unless it has ended by itself."""
    if child.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
