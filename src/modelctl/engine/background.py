"""A server whose `modelctl` has a session of its own: it outlives the command that started it, and its terminal."""

import array
import contextlib
import fcntl
import os
import signal
import sys
import termios
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from modelctl.engine import servers, service
from modelctl.engine.launch import Watcher
from modelctl.engine.servers import ServerRecord
from modelctl.engine.service import Result, ServePlan
from modelctl.engine.stages import Stage
from modelctl.engine.stop_requests import StopRequests
from modelctl.errors import ModelctlError

_MOST_FILES = 65536
# Bytes; a pipe holds some more.
_MOST_UNHEARD = 4096


def start(
    planned: ServePlan,
    watcher: Watcher,
    *,
    timeout: float | None = None,
    ttl: float | None = None,
    announce: Callable[[ServerRecord], None] = lambda _: None,
) -> "Result | signal.Signals | None":
    """Start a server in a process of its own, and wait until it is ready: `None`. A `Result` where it ended before.

    `watcher` and `announce` are told as by `service.execute`, by which it is served. Ctrl-C and SIGTERM end the server,
    while it loads, and lead to its `Result`; a closed terminal (SIGHUP) leaves it alone, and is what is returned, once
    the server is announced.
    """
    here, there = Pipe(duplex=False)
    with StopRequests() as requests:
        sys.stdout.flush()
        sys.stderr.flush()
        # The process begins with our handlers, which would note in a copy that nobody reads what is passed on to it.
        # Blocked, a signal waits until it has its own.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, requests.SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                _serve(planned, there, timeout=timeout, ttl=ttl)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        with here:
            return _follow(here, pid, requests, watcher=watcher, announce=announce)


def _follow(
    here: Connection,
    pid: int,
    requests: StopRequests,
    *,
    watcher: Watcher,
    announce: Callable[[ServerRecord], None],
) -> "Result | signal.Signals | None":
    """Pass on what the process tells until the server is ready, or will not be."""
    passed_on = 0
    record: ServerRecord | None = None
    while (asked := requests.asked()) != signal.SIGHUP or record is None:
        # Ctrl-C a second time: no waiting for anybody there either.
        while asked not in {None, signal.SIGHUP} and passed_on < 1 + requests.is_impatient:
            os.kill(pid, signal.SIGINT if passed_on else asked)
            passed_on += 1
        if not here.poll():
            requests.wait(None, beside=(here.fileno(),))
            continue
        what, arguments, keys = _heard(here, pid, record)
        match what:
            case "announce":
                (record,) = arguments
                announce(*arguments)
            case "result":
                os.waitpid(pid, 0)
                if record is not None:
                    # It is told here and now, so nobody has to ask later.
                    servers.remove(record)
                return arguments[0]  # type: ignore[no-any-return]
            case _:
                getattr(watcher, what)(*arguments, **keys)
                # Asked meanwhile, it is about to end.
                if what == "ready" and requests.asked() is None:
                    return None
    return asked


def _heard(here: Connection, pid: int, record: ServerRecord | None) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """What the process tells next: of which of the watcher's methods it is, with what. An error is raised."""
    try:
        what, arguments, keys = here.recv()
    except EOFError:
        os.waitpid(pid, 0)
        hint = f"its log is `{record.log}`" if record else "run the same command without `--detach`"
        raise ModelctlError("the `modelctl` that was to watch the server has ended", hint=hint) from None
    if what == "error":
        raise arguments[0]
    return what, arguments, keys


def _serve(planned: ServePlan, there: Connection, *, timeout: float | None, ttl: float | None) -> NoReturn:
    """The process that watches the server. It holds nothing of the terminal or of who started the command."""
    code = 1
    try:
        _leave(there.fileno())
        told = _Teller(there)
        try:
            result = service.execute(planned, told, timeout=timeout, ttl=ttl, detached=True, announce=told.announce)
            told.end("result", result)
            code = 0
        except ModelctlError as error:
            told.end("error", error)
    finally:
        if (bug := sys.exception()) is not None:
            traceback.print_exception(bug)
            sys.stderr.flush()
        # What was to be written at the end of the command is not this process's to write.
        os._exit(code)


def _leave(kept: int) -> None:
    os.setsid()
    # Drops a hangup that still waits: it was that of the terminal.
    signal.signal(signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_IGN))
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    signal.set_wakeup_fd(-1)
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, kept)
    os.closerange(kept + 1, min(limit, _MOST_FILES) if limit > 0 else _MOST_FILES)


class _Teller:
    """Tells the command what the watcher of a server hears, for as long as the command is there."""

    def __init__(self, there: Connection) -> None:
        self._there = there
        # A command that was suspended must not hold up who watches the server.
        os.set_blocking(there.fileno(), False)

    def end(self, what: str, argument: Result | ModelctlError) -> None:
        """Tell how it ended, if anybody is still there: nothing else is left to do."""
        os.set_blocking(self._there.fileno(), True)
        self.tell(what, argument)

    def tell(self, what: str, *arguments: Any, **keys: Any) -> None:  # noqa: ANN401 - those of the watcher's methods
        """Tell one thing; nobody has to be there."""
        with contextlib.suppress(OSError):
            self._there.send((what, arguments, keys))

    def _is_heard(self) -> bool:
        """Whether the command takes in what it is told. Where it does not, there has to be room for what matters."""
        waiting = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._there.fileno(), termios.FIONREAD, waiting)
        return waiting[0] < _MOST_UNHEARD

    def announce(self, record: ServerRecord) -> None:
        """Tell of the server; from now on, a bug of ours is told in its log."""
        with Path(record.log).open("ab") as log:
            os.dup2(log.fileno(), 2)
        self.tell("announce", record)

    def started(self, pid: int) -> None:
        """It has a process."""
        self.tell("started", pid)

    def loading(self, stage: Stage, *, elapsed: float) -> None:
        """It reached a stage, or got further in one."""
        if self._is_heard():
            self.tell("loading", stage, elapsed=elapsed)

    def ready(self, tasks: tuple[str, ...], *, elapsed: float) -> None:
        """It answers."""
        self.tell("ready", tasks, elapsed=elapsed)

    def stopping(self, asked: signal.Signals | None, *, patience: float) -> None:
        """It is told to end."""
        self.tell("stopping", asked, patience=patience)
