"""`modelctl serve` as a process that runs: started, waited for, looked at, ended."""

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command import Command, Finished

PATIENCE = 30.0
# What is said of a vLLM that was not waited for any longer; it always gets a second.
WAS_KILLED = r"vLLM had not ended after [1-9]\d*\.\d s and was killed"
# A process whose terminal is its stdin, which then becomes modelctl.
_ON_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "modelctl", *sys.argv[1:]])
"""


@dataclass(frozen=True)
class Serving:
    """One running `modelctl serve`; what it writes goes to files, so that nobody has to read along."""

    process: subprocess.Popen[str]
    folder: Path
    run: Command
    screen: "subprocess.Popen[bytes] | None" = None

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8")

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def url(self) -> str:
        found = re.search(r"http://\S+:\d+", self.stdout)
        assert found is not None, self.stdout
        return found[0]

    @property
    def curl(self) -> str:
        """The line that the user is told to try."""
        return next(line for line in self.stdout.splitlines() if line.startswith("curl "))

    def until(self, what: Callable[[], object], *, seconds: float = PATIENCE) -> "Serving":
        """Wait until `what` is true; a `serve` that ended before is a failure."""
        await_true(what, seconds=seconds, alive=self.process)
        return self

    def until_ready(self, *, seconds: float = PATIENCE) -> "Serving":
        return self.until(lambda: "\ncurl " in self.stdout or '"stage": "ready"' in self.stdout, seconds=seconds)

    def send(self, number: signal.Signals) -> "Serving":
        self.process.send_signal(number)
        time.sleep(0.1)
        return self

    def press_twice(self) -> "Serving":
        """Ctrl-C, and once more when the first has been heard for a while: two at once are one press."""
        self.send(signal.SIGINT).until(lambda: "stopping (Ctrl-C)" in self.stderr)
        time.sleep(0.3)
        return self.send(signal.SIGINT)

    def hang_up(self) -> None:
        """Close the terminal on which it runs."""
        assert self.screen is not None
        self.screen.kill()
        self.screen.wait()

    def finish(self, *, seconds: float = PATIENCE) -> Finished:
        code = self.process.wait(seconds)
        return Finished(code, self.stdout, self.stderr)

    def try_curl(self, **env: str) -> dict[str, Any]:
        """Run the very line that was printed, in a shell."""
        done = self.run.program(["sh", "-c", self.curl], env=env)
        assert done.code == 0, done
        value = json.loads(done.stdout)
        assert isinstance(value, dict)
        return value


@contextlib.contextmanager
def serving(run: Command, *argv: str | Path, env: Mapping[str, str | None], name: str = "serving") -> Iterator[Serving]:
    """Start `modelctl serve ARGV`; whatever is left of it at the end is killed."""
    folder = run.home.parent / name
    folder.mkdir()
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        process = run.start("serve", *argv, env=env, stdout=out, stderr=err)
    try:
        yield Serving(process, folder, run)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def on_terminal(
    run: Command, *argv: str | Path, env: Mapping[str, str | None], name: str = "terminal"
) -> Iterator[Serving]:
    """Start `modelctl serve ARGV` as `serving` does, on a terminal of its own: all it writes is its `stdout`."""
    folder = run.home.parent / name
    folder.mkdir()
    ours, theirs = pty.openpty()
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb"):
        process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, "serve", *(str(word) for word in argv)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=run.project,
            env=run.environment(env),
            text=True,
        )
        # A process of its own has the other side: closed while somebody reads of it, a terminal would stay.
        screen = subprocess.Popen(["/bin/cat"], stdin=ours, stdout=out, stderr=subprocess.DEVNULL)
    os.close(ours)
    os.close(theirs)
    serving = Serving(process, folder, run, screen)
    try:
        yield serving
    finally:
        serving.hang_up()
        if process.poll() is None:
            process.kill()
        process.wait()


def await_true(
    what: Callable[[], object],
    *,
    seconds: float = PATIENCE,
    alive: subprocess.Popen[str] | None = None,
    step: float = 0.02,
) -> None:
    """Wait until `what` is true, as long as the process is `alive`."""
    deadline = time.monotonic() + seconds
    while not what():
        assert alive is None or alive.poll() is None, "it ended before"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(step)


def is_held(process: subprocess.Popen[str]) -> bool:
    """Suspend a process; `False` if it has ended."""
    os.kill(process.pid, signal.SIGSTOP)
    state = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return state is not None and state.si_code == os.CLD_STOPPED


def struck(process: subprocess.Popen[str], number: signal.Signals, *, where: Callable[[], object]) -> bool:
    """Send a signal to a process, and tell whether it was there where it is to hear of it."""
    was_there = is_held(process) and bool(where())
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    return was_there


@contextlib.contextmanager
def suspended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Keep a process that runs from doing anything meanwhile."""
    assert is_held(process), "it ended before"
    yield
    os.kill(process.pid, signal.SIGCONT)


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a signal was sent to a process that has not heard of it yet."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\t(\w+)$", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def is_running(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :].split()[0] not in {b"Z", b"X"}


def session_of(pid: int) -> list[int]:
    """The processes of the session that `pid` leads."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry.name}/stat").read_bytes()
                fields = stat[stat.rindex(b")") + 2 :].split()
                if int(fields[3]) == pid and fields[0] != b"Z":
                    found.append(int(entry.name))
    return found


def in_time(text: str) -> str:
    """What was said of an end, as it is where the machine does not stand still: an idle vLLM gets but a second."""
    return re.sub(WAS_KILLED, "vLLM ended with exit code 0", text)


def words(line: str) -> list[str]:
    """A shell line as its words."""
    return shlex.split(line)
