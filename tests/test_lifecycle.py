"""Every way to end a server, in every phase, in the foreground and on its own: nothing of it is left afterwards.

With a stand-in for vLLM, which starts processes of its own as the real one does, and one that ignores SIGTERM.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from modelctl.engine import running, servers
from modelctl.engine.servers import ServerRecord
from tests.serving import Serving, await_true, is_held, is_running, serving
from tests.standin.servers import TINY, Yard, asking

Phase = Literal["import", "loading", "serving", "in flight"]
PHASES: dict[Phase, dict[str, str]] = {
    "import": {"STANDIN_IMPORT": "60"},
    "loading": {"STANDIN_LOAD": "60"},
    "serving": {},
    "in flight": {"STANDIN_LATE": "2"},
}
# The seconds within which all is gone, by phase.
BOUNDS: dict[Phase, float] = {"import": 6, "loading": 6, "serving": 2, "in flight": 4}
# What a busy machine takes longer, be it to start `modelctl stop`; who waits for nothing takes half a minute or more.
NOISE = 10.0
Way = Callable[[Yard, ServerRecord], None]


def told(number: signal.Signals) -> Way:
    """A signal to the `modelctl` that watches the server."""
    return lambda _, record: os.kill(record.pid, number)


def _stop(yard: Yard, record: ServerRecord) -> None:
    assert yard("stop", record.id).code == 0


def _kill_server(_: Yard, record: ServerRecord) -> None:
    assert record.engine_pid is not None
    os.kill(record.engine_pid, signal.SIGKILL)


def _kill_engine(yard: Yard, record: ServerRecord) -> None:
    assert record.engine_pid is not None
    os.kill(yard.given()["pids"][1], signal.SIGKILL)


WAYS: dict[str, Way] = {
    "SIGTERM": told(signal.SIGTERM),
    "SIGINT": told(signal.SIGINT),
    "SIGHUP": told(signal.SIGHUP),
    "stop": _stop,
    "SIGKILL": told(signal.SIGKILL),
    "SIGKILL of the API server": _kill_server,
    "SIGKILL of EngineCore": _kill_engine,
}
# What `serve` in the foreground ends with; of a server that runs on, nobody sees it.
CODES = {"SIGTERM": 0, "SIGINT": 130, "SIGHUP": 0, "stop": 0, "SIGKILL": -signal.SIGKILL}
CODES_OF_WAITING = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129, "stop": 143}
# Those after which the reason is to be told: nobody asked for them.
DEATHS = ("SIGKILL", "SIGKILL of the API server", "SIGKILL of EngineCore")


@dataclass(frozen=True)
class Case:
    way: str
    phase: Phase
    detached: bool

    def __str__(self) -> str:
        return f"{self.way}, {self.phase}, {'on its own' if self.detached else 'in the foreground'}"


CASES = [
    Case(way, phase, detached)
    for detached in (True, False)
    for phase in PHASES
    for way in WAYS
    # There is no engine yet.
    if (way, phase) != ("SIGKILL of EngineCore", "import")
]


def bound(phase: Phase) -> float:
    """The seconds within which all is gone on a busy machine."""
    return 2 * BOUNDS[phase] + NOISE


@pytest.fixture
def yard(yard: Yard) -> Yard:
    """With a process that the one of the engine has started, and that ignores SIGTERM."""
    return replace(yard, env={**yard.env, "STANDIN_GRANDCHILD": "1"})


@pytest.mark.matrix(10)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_is_left(yard: Yard, case: Case) -> None:
    answers: list[dict[str, Any] | None] = []
    options = ["--detach"] if case.detached else []
    with ExitStack() as stack:
        env = {**yard.env, **PHASES[case.phase]}
        command = stack.enter_context(serving(yard.run, TINY, "--port", "0", *options, env=env))
        record = _reached(yard, command, case)
        if case.phase == "in flight":
            stack.enter_context(asking(record.url, answers))
        began = time.monotonic()
        WAYS[case.way](yard, record)
        await_true(lambda: not is_running(record.pid), seconds=bound(case.phase))
        _await_end(yard, record)
        assert time.monotonic() - began < bound(case.phase)
        done = command.finish()
    is_death = case.way in DEATHS
    if not case.detached:
        assert done.code == CODES.get(case.way, 1), done
    elif case.phase in {"import", "loading"}:
        # Who waited for it to be ready is told that it will not be.
        assert done.code == CODES_OF_WAITING.get(case.way, 1), done
    if case.phase == "in flight" and not is_death:
        assert answers == [{"path": "/v1/completions", "model": TINY}]
    _check_what_is_told(yard, record, case)


@pytest.mark.sweep
@pytest.mark.parametrize(
    "case",
    [
        Case("SIGTERM", "in flight", detached=False),
        Case("SIGKILL of EngineCore", "serving", detached=False),
        Case("SIGKILL of EngineCore", "loading", detached=False),
    ],
    ids=str,
)
def test_nobody_waits_for_one_that_has_nothing_to_do(yard: Yard, case: Case) -> None:
    """All is answered, or nothing can be any more, and vLLM takes half a minute to fold up."""
    answers: list[dict[str, Any] | None] = []
    with ExitStack() as stack:
        env = {**yard.env, **PHASES[case.phase], "STANDIN_LINGERS": "30"}
        command = stack.enter_context(serving(yard.run, TINY, "--port", "0", env=env))
        record = _reached(yard, command, case)
        if case.phase == "in flight":
            stack.enter_context(asking(record.url, answers))
        began = time.monotonic()
        WAYS[case.way](yard, record)
        done = command.finish()
        assert time.monotonic() - began < bound(case.phase)
    assert done.code == CODES.get(case.way, 1), done
    assert answers == ([{"path": "/v1/completions", "model": TINY}] if case.phase == "in flight" else [])
    yard.assert_nothing_is_left(record)


def test_a_death_is_noticed_also_where_all_stands_still_after_the_first_look(yard: Yard) -> None:
    with serving(yard.run, TINY, "--port", "0", env={**yard.env, "STANDIN_LINGERS": "60"}) as command:
        command.until_ready()
        record = yard.record()
        _kill_engine(yard, record)
        # It looks at once, and again after 0.2 s; the server notices within 0.1 s.
        time.sleep(0.02)
        if is_held(command.process):
            time.sleep(1.5)
        done = command.send(signal.SIGCONT).finish()
    assert done.code == 1, done
    yard.assert_nothing_is_left(record)


@pytest.mark.parametrize("phase", ["loading", "serving"])
def test_what_is_said_to_run_is_watched(yard: Yard, phase: Phase) -> None:
    case = Case("SIGKILL of EngineCore", phase, detached=False)
    with serving(yard.run, TINY, "--port", "0", env={**yard.env, **PHASES[phase]}) as command:
        record = _reached(yard, command, case)
        held = [file.read_text() for file in Path(f"/proc/{record.pid}/fdinfo").iterdir()]
        assert any(f"\nPid:\t{yard.given()['pids'][1]}\n" in each for each in held), held


def _reached(yard: Yard, command: Serving, case: Case) -> ServerRecord:
    """Wait until the server is in the phase, and return its record."""
    if case.phase == "import":
        await_true(lambda: any(one.engine_pid for one in servers.running(yard.state_dir)))
    elif case.phase == "loading":
        await_true(lambda: any("weights" in one.stage for one in servers.running(yard.state_dir)))
        yard.given()
    elif case.detached:
        assert command.finish().code == 0
    else:
        command.until_ready()
    return yard.record()


def _await_end(yard: Yard, record: ServerRecord) -> None:
    def is_over() -> bool:
        try:
            yard.assert_nothing_is_left(record, but_record=True)
        except AssertionError:
            return False
        return True

    await_true(is_over)


def _check_what_is_told(yard: Yard, record: ServerRecord, case: Case) -> None:
    """Why one died that nobody watched, or whose `modelctl` was killed; of all others nothing."""
    loading = case.phase in {"import", "loading"}
    is_remembered = case.way == "SIGKILL" or (case.way in DEATHS and case.detached and not loading)
    found = yard("ps", "--json").json["servers"]
    assert [one["server"] for one in found] == ([record.id] if is_remembered else [])
    if is_remembered:
        assert found[0]["state"] == "failed"
        assert found[0]["reason"]
        if case.way == "SIGKILL":
            assert found[0]["reason"] == running.KILLED
        assert yard("stop", record.id).stdout.startswith(f"{TINY} ({record.id}) was gone: ")
    yard.assert_nothing_is_left(record)
    assert list(Path(yard.env["TMPDIR"]).iterdir()) == []
