"""Start vLLM, wait until it answers, and end it with every process that it started."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from modelctl.engine import group, ports, probing, stages, standstill
from modelctl.engine.idleness import Idleness
from modelctl.engine.logs import LogReader
from modelctl.engine.release import Holders
from modelctl.engine.stages import Course, Stage
from modelctl.engine.standstill import Standstill
from modelctl.engine.stop_requests import StopRequests
from modelctl.engine.vital import Loss, Vital
from modelctl.store import changes

# A server that still loads drops the request to stop, and has nothing to finish.
_PATIENCE_LOADING = 5.0
# Idle, it has nothing to finish either; it would take its time over an orderly end of its own parts.
_PATIENCE_IDLE = 1.0
# What an orderly end takes beyond the time for requests in flight.
_PATIENCE_BEYOND_DRAIN = 10.0
_POLL = 0.2
# How long vLLM gets to tell why a process of its own has died, and how often it is looked at meanwhile at least.
_LAST_WORDS = 1.0
_LAST_LOOKS = 5
# A start that says nothing for so long may be well, but a person wants to know.
_SILENCE = 60.0

# How the loading of a server ended: `late` after its `--timeout`, `hung` where it had failed and did not end.
Loaded = Literal["ready", "ended", "late", "hung", "dead"]
# And its serving: `idle` after its time without requests. `dead`: a part of it had died that it cannot do without.
Served = Literal["ended", "idle", "dead"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is started and where it answers.

    `drain` are the seconds that vLLM gives to requests in flight after a request to stop. `ttl` are the seconds without
    any request after which it is ended, `weights` the bytes of the model's, `standstill` the seconds in which nothing
    happens after its start has failed. `on_gpus`: it may take memory of GPUs, which is to be free again at the end.
    `headless`: it only computes for another machine, and answers nobody. `members` finds the processes of which the one
    started is the leader, `end` ends them, and returns who still lives.
    """

    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    log: Path
    url: str
    drain: float
    ttl: float | None = None
    weights: int | None = None
    standstill: float = standstill.PATIENCE
    on_gpus: bool = False
    in_container: bool = False
    headless: bool = False
    members: Callable[[int], tuple[int, ...]] = group.members
    end: Callable[[int], tuple[int, ...]] = group.end


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a server ended: who asked for it (`None`: nobody), vLLM's exit code, what is left of it.

    `engine_exit` is negative for a signal, `None` where nothing was started; `survivors` are processes that could not
    be killed. `was_idle`: nobody asked, its time without requests was over. `hung`: its start had failed, and it did
    not end by itself. `killed_after`: it was told to end, and had not after so many seconds. `held` are bytes on GPUs
    that are not free although their processes are gone, by pid.
    """

    asked: signal.Signals | None
    engine_exit: int | None
    was_ready: bool
    timed_out: bool
    seconds: float
    survivors: tuple[int, ...] = ()
    was_idle: bool = False
    hung: bool = False
    killed_after: float | None = None
    held: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_wanted(self) -> bool:
        """Whether it ended because it was to."""
        return self.asked is not None or self.was_idle


class Watcher(Protocol):
    """Who is told how the server does. Called from the thread that runs it."""

    def started(self, pid: int) -> None:
        """It has a process."""

    def loading(self, stage: Stage, *, elapsed: float) -> None:
        """It reached a stage, or got further in one."""

    def ready(self, tasks: tuple[str, ...], *, elapsed: float) -> None:
        """It answers, and can be asked for `tasks` (none where it does not tell)."""

    def stopping(self, asked: signal.Signals | None, *, patience: float) -> None:
        """It is told to end, and has `patience` seconds for it."""


def run(start: Start, *, requests: StopRequests, watcher: Watcher, timeout: float | None = None) -> Ending:
    """Serve until somebody asks for the end, the server ends by itself, or is not ready within `timeout` seconds.

    Returns when no process of the server is left. Call it from the main thread: the kernel ends the server with the
    thread that started it.
    """
    begun = time.monotonic()
    if (asked := requests.asked()) is not None:
        return Ending(asked=asked, engine_exit=None, was_ready=False, timed_out=False, seconds=0.0)
    child = _spawn(start)
    holders = Holders(child.pid, environ=start.environ if start.on_gpus else None, members=start.members)
    loaded: Loaded = "ended"
    served: Served = "ended"
    waited = 0.0
    try:
        watcher.started(child.pid)
        with Vital(child.pid, members=start.members) as vital:
            loaded = _load(start, child, holders, vital, requests=requests, watcher=watcher, timeout=timeout)
            if loaded == "ready":
                served = _serve(start, child, vital, requests=requests)
        asked = requests.asked()
        holders.note()
        if child.poll() is None and "dead" not in {loaded, served}:
            waited = _ask_to_end(start, child, requests=requests, watcher=watcher, was_ready=loaded == "ready")
    finally:
        survivors = start.end(child.pid)
        if child.pid not in survivors:
            child.wait()
    return Ending(
        asked=asked,
        engine_exit=child.returncode,
        was_ready=loaded == "ready",
        timed_out=loaded == "late",
        seconds=time.monotonic() - begun,
        survivors=survivors,
        was_idle=served == "idle",
        hung=loaded == "hung",
        killed_after=waited if waited and child.returncode else None,
        held=holders.held(),
    )


def _spawn(start: Start) -> subprocess.Popen[bytes]:
    try:
        with start.log.open("ab") as log:
            return subprocess.Popen(
                start.argv,
                env=dict(start.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C and a closed terminal reach us alone, and all of it can be found.
                start_new_session=True,
            )
    except OSError as exc:
        raise changes.translated(exc, doing="start") from exc


def _load(
    start: Start,
    child: subprocess.Popen[bytes],
    holders: Holders,
    vital: Vital,
    *,
    requests: StopRequests,
    watcher: Watcher,
    timeout: float | None,
) -> Loaded:
    """Wait until the server is ready, or will not become it any more."""
    begun = time.monotonic()
    log = LogReader(start.log)
    failure = Standstill(child.pid, patience=start.standstill, members=start.members)
    loss, course = Loss(vital, start.log), Course(weights=start.weights)
    said_at, silences = begun, 0
    watcher.loading(course.stage, elapsed=0.0)
    while child.poll() is None and requests.asked() is None:
        # Asked before the log is read: what the server said until it was ready is then all there.
        is_healthy = not start.headless and probing.is_healthy(start.url)
        before, lines, now = course.stage, log.lines(), time.monotonic()
        # Before any of it is told: of what is said to be under way, the processes are watched.
        is_lost = loss.is_final(has_spoken=bool(lines))
        for line in lines:
            if course.heard(line, at=now):
                holders.note()
                watcher.loading(course.stage, elapsed=now - begun)
        said_at, silences = (now, 0) if lines else (said_at, silences)
        if now - said_at >= _SILENCE * (silences + 1):
            silences += 1
            watcher.loading(stages.silent(course.stage, now - said_at), elapsed=now - begun)
        # Another process may answer at this port: ready is only who answers, and lives, and listens there itself.
        is_ready = course.has_loaded if start.headless else is_healthy and not _is_of_another(start, child)
        if is_ready and child.poll() is None:
            vital.look()
            holders.note()
            watcher.ready(course.tasks, elapsed=time.monotonic() - begun)
            return "ready"
        failure.heard(lines, got_further=course.stage != before)
        if failure.is_lasting():
            return "hung"
        if is_lost:
            return "dead"
        if timeout is not None and time.monotonic() - begun >= timeout:
            return "late"
        requests.wait(_POLL)
    return "ended"


def _is_of_another(start: Start, child: subprocess.Popen[bytes]) -> bool:
    """Whether somebody else answers in the server's place; of a container nothing tells."""
    return not start.in_container and ports.is_foreign(start.url, start.members(child.pid))


def _serve(start: Start, child: subprocess.Popen[bytes], vital: Vital, *, requests: StopRequests) -> Served:
    """Wait for the end, and find out whether it is that nobody has asked for anything, or that nobody can answer."""
    idle = Idleness(start.url, start.ttl)
    while requests.asked() is None and child.poll() is None:
        if idle.is_over() and child.poll() is None:
            return "idle"
        if vital.has_lost_one():
            if not _serves_on(start, child, requests=requests):
                return "dead"
            # One that was no longer needed.
            vital.write_off()
            vital.look()
        requests.wait(idle.step, beside=vital.handles)
    return "ended"


def _serves_on(start: Start, child: subprocess.Popen[bytes], *, requests: StopRequests) -> bool:
    """Whether the server does without a process of it that has ended. One that does not gets to tell why."""
    deadline, looks, is_healthy = time.monotonic() + _LAST_WORDS, 0, True
    # It takes vLLM a moment to notice: one look would not do, if all stood still after it for those seconds.
    while child.poll() is None and (time.monotonic() < deadline or looks < _LAST_LOOKS):
        is_healthy, looks = is_healthy and probing.is_healthy(start.url), looks + 1
        requests.wait(_POLL)
    return is_healthy and child.poll() is None


def _ask_to_end(
    start: Start, child: subprocess.Popen[bytes], *, requests: StopRequests, watcher: Watcher, was_ready: bool
) -> float:
    """Ask the server to end, and wait for it as long as it may have something to finish.

    Returns the seconds after which it had not ended, 0 where it had.
    """
    patience, is_busy = _PATIENCE_LOADING, False
    if was_ready and not start.headless:
        is_busy = not _is_idle(start)
        patience = start.drain + _PATIENCE_BEYOND_DRAIN if is_busy else _PATIENCE_IDLE
    child.send_signal(signal.SIGTERM)
    told = time.monotonic()
    try:
        watcher.stopping(requests.asked(), patience=patience)
    finally:
        # Requests in flight are answered also where nobody can be told of it any more.
        _await_answers(start, child, requests=requests, patience=patience, is_busy=is_busy)
    return time.monotonic() - told if child.poll() is None else 0.0


def _await_answers(
    start: Start, child: subprocess.Popen[bytes], *, requests: StopRequests, patience: float, is_busy: bool
) -> None:
    """Wait for the end of a server that was told to end, at most for its `patience`."""
    deadline = time.monotonic() + patience
    while child.poll() is None and not requests.is_impatient and (left := deadline - time.monotonic()) > 0:
        requests.wait(min(left, _POLL) if is_busy else left)
        # Once all is answered, nothing is left that would be worth the wait.
        if is_busy and _is_idle(start):
            is_busy, deadline = False, min(deadline, time.monotonic() + _PATIENCE_IDLE)


def _is_idle(start: Start) -> bool:
    """Whether it says that it has nothing to answer."""
    load = probing.load(start.url)
    return load is not None and load.requests == 0
