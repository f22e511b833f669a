"""Run as a script: `python keeper.py TOOL NAME ARGV...` becomes ARGV, which runs the container NAME in the foreground.

Whoever kills that command, or the `modelctl` that started it, does not end the container: it is not their child. A
process in a session of its own stays behind, and removes the container as soon as either of them is gone. Of the
standard library alone; modelctl itself takes `remove` from here.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

SUPERVISOR = "MODELCTL_SUPERVISOR"
# How long a removal may take, and all of its questions to the tool.
REMOVAL = 10.0
# The last ones get so long all the same, to tell how it went.
_LEAST = 1.0
_STEP = 0.1
# A container may still have been on its way into being when whoever ordered it was killed.
_LOOKS_AGAIN = (1.0, 3.0)


def remove(tool: str, name: str, *, patience: float = REMOVAL) -> bool:
    """Kill and remove a container; whether it is known that none of this name is left."""
    deadline = time.monotonic() + patience
    while (is_there := _is_there(tool, name, deadline)) is not False and time.monotonic() < deadline:
        # Killed first: `podman rm -f` would ask it to end and wait for that.
        for words in (("kill", name), ("rm", "-f", name)) if is_there else ():
            _answer(deadline, tool, *words)
        time.sleep(_STEP)
    return is_there is False


def _is_there(tool: str, name: str, deadline: float) -> "bool | None":
    """Whether there is such a container, `None` where the tool does not say."""
    told = _answer(deadline, tool, "ps", "--all", "--filter", f"name={name}", "--format", "{{.Names}}")
    return None if told is None else name in told.split()


def _answer(deadline: float, tool: str, *words: str) -> "str | None":
    """What the tool prints; `None` where it fails, or does not answer by the deadline."""
    try:
        ran = subprocess.run(
            [tool, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=max(_LEAST, deadline - time.monotonic()),
            check=False,
            # Ctrl-C is for who waits for the container's end.
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if ran.returncode else ran.stdout


def _keep(supervisor: int, client: int, *, tool: str, name: str) -> None:
    """Wait until one of both is gone, and see that nothing is left of the other two."""
    gone = _await_end(supervisor, client)
    if gone == supervisor:
        with contextlib.suppress(OSError):
            os.killpg(client, signal.SIGKILL)
    remove(tool, name)
    for pause in _LOOKS_AGAIN if gone == supervisor else ():
        time.sleep(pause)
        remove(tool, name)


def _await_end(supervisor: int, client: int) -> int:
    """The one of both that has ended first."""
    try:
        handles = {os.pidfd_open(pid): pid for pid in (supervisor, client)}
    except ProcessLookupError:
        return client if _lives(supervisor) else supervisor
    except (AttributeError, OSError):
        # A system without such handles.
        while _lives(supervisor):
            if not _lives(client):
                return client
            time.sleep(0.5)
        return supervisor
    # Readable as soon as the process has ended.
    ended = [handles[each] for each in select.select([*handles], [], [])[0]]
    return supervisor if supervisor in ended else client


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _leave() -> None:
    """Let go of who started this: signals to it, its terminal and its log are not for who stays."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)


def main() -> None:
    """Leave the keeper, and become the command."""
    tool, name, *argv = sys.argv[1:]
    supervisor, client = int(os.environ[SUPERVISOR]), os.getpid()  # noqa: TID251 - run outside of modelctl
    if os.getppid() != supervisor:
        os._exit(1)
    if os.fork() == 0:
        try:
            _leave()
            _keep(supervisor, client, tool=tool, name=name)
        finally:
            os._exit(0)
    os.execvp(argv[0], argv)  # noqa: S606 - the command that modelctl has put together


if __name__ == "__main__":
    main()
