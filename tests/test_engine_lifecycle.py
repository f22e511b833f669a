"""The ways to end a server, in its phases, with the real vLLM on the CPU: nothing of it is left afterwards.

With all of its processes: API server, EngineCore and worker. Two servers are always under way beside each other, since
every start takes some twenty seconds; each test waits for its own.
"""

import contextlib
import http.client
import json
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from modelctl.engine import ports, probing, running, servers
from modelctl.engine.servers import ServerRecord
from modelctl.errors import BusyError
from tests import engines
from tests.command import Command, Finished
from tests.engines import SMALL, START, TINY
from tests.serving import Serving, await_true, is_running, on_terminal, serving, session_of
from tests.stores import StoreBuilder

pytestmark = pytest.mark.engine

Phase = Literal["import", "engine import", "worker import", "loading", "serving", "in flight"]
# The seconds within which all is gone. A request in flight is let finish: that is its time and that of an idle server.
BOUNDS: dict[Phase, float] = {
    "import": 6,
    "engine import": 6,
    "worker import": 6,
    "loading": 6,
    "serving": 2,
    "in flight": 2,
}
# For the other server that is under way on a machine of two processors, and for what else that machine has to do. Left
# to itself, vLLM takes five seconds where it is idle, and ten minutes where it loads.
NOISE = 2.0
# So many answers of so many tokens take the tiny model some seconds; ten times as many it is not to finish.
ANSWERS, TOKENS = 12, 1900
GUARD = Path(__file__).parent / "guard"
KILLS = ("SIGKILL", "SIGKILL of the API server", "SIGKILL of EngineCore", "SIGKILL of the worker")


@dataclass(frozen=True)
class Case:
    """`way` is what ends the server, `code` what `serve` ends with, `beyond` the seconds that it takes vLLM longer."""

    way: str
    phase: Phase
    code: int
    detached: bool = False
    beyond: float = 0

    @property
    def is_answered(self) -> bool:
        """Whether a request in flight gets its answer."""
        return self.way not in {*KILLS, "stop --now"}

    def __str__(self) -> str:
        return f"{self.way}, {self.phase}, {'on its own' if self.detached else 'in the foreground'}"


CASES = [
    Case("SIGTERM", "import", 0),
    Case("SIGKILL", "import", -signal.SIGKILL),
    Case("SIGKILL of the API server", "import", 1),
    # A single SIGTERM has vLLM wait for itself for ten minutes here,
    Case("SIGTERM", "engine import", 0),
    Case("SIGINT", "engine import", 130),
    Case("SIGKILL of EngineCore", "engine import", 1),
    Case("stop", "engine import", 143, detached=True),
    # and here vLLM swallows it, and serves.
    Case("closed terminal", "worker import", 0),
    Case("SIGKILL", "worker import", -signal.SIGKILL),
    # It has no name yet by which it is known, so that vLLM alone finds out.
    Case("SIGKILL of the worker", "worker import", 1, beyond=9),
    Case("SIGHUP", "loading", 0),
    Case("SIGKILL of the API server", "loading", 1),
    # vLLM itself tells of it, and gets the time for that: on a busy machine eight seconds.
    Case("SIGKILL of the worker", "loading", 1, detached=True, beyond=3),
    Case("SIGTERM", "serving", 0),
    Case("closed terminal", "serving", 0),
    Case("ttl", "serving", 0),
    Case("stop", "serving", 0, detached=True),
    Case("SIGKILL", "serving", 0, detached=True),
    Case("SIGKILL of the API server", "serving", 1),
    Case("SIGKILL of EngineCore", "serving", 0, detached=True),
    Case("SIGKILL of the worker", "serving", 1),
    Case("SIGTERM", "in flight", 0),
    Case("SIGHUP", "in flight", 0, detached=True),
    Case("stop --now", "in flight", 0, detached=True),
    Case("SIGKILL", "in flight", -signal.SIGKILL),
    Case("SIGKILL of EngineCore", "in flight", 1),
]


@dataclass(frozen=True)
class Yard:
    """Where the server of one case runs: its home and project, and the environment of its commands."""

    run: Command
    env: Mapping[str, str]

    @property
    def state_dir(self) -> Path:
        return self.run.home / ".local" / "state" / "modelctl"

    def record(self) -> ServerRecord:
        (found,) = servers.running(self.state_dir)
        return found


@dataclass(frozen=True)
class Traces:
    """What a server had while it ran, and is to be gone."""

    record: ServerRecord
    pids: tuple[int, ...]
    shared_memory: frozenset[Path]


@dataclass(frozen=True)
class Outcome:
    """How a case went: `seconds` until the last process was gone, `answered` until a request in flight was."""

    done: Finished
    traces: Traces
    seconds: float
    answered: float
    answer: dict[str, Any] | None
    told: Mapping[str, Any]
    left: tuple[str, ...]


@pytest.fixture(scope="module")
def outcomes(
    vllm: Path, vllm_caches: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Mapping[Case, "Future[Outcome]"]]:
    """How each case goes that is to be tested; they begin in their order, two at a time."""
    chosen = [item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")]
    with ThreadPoolExecutor(max_workers=2) as pool:
        env = engines.environment(vllm, vllm_caches)
        yield {
            case: pool.submit(_play, case, tmp_path_factory.mktemp("case"), env)
            for case in chosen
            if isinstance(case, Case)
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_is_left(outcomes: Mapping[Case, "Future[Outcome]"], case: Case) -> None:
    outcome = outcomes[case].result()
    record, pids = outcome.traces.record, outcome.traces.pids
    print(f"{case}: {len(pids)} processes, gone after {outcome.seconds:.2f} s, answered after {outcome.answered:.2f} s")
    assert outcome.left == ()
    assert outcome.done.code == case.code, outcome.done
    assert outcome.seconds < outcome.answered + (record.ttl or 0) + BOUNDS[case.phase] + case.beyond + NOISE
    assert len(pids) >= _least_processes(case.phase)
    if case.phase == "in flight":
        assert outcome.answer == ({"completion_tokens": ANSWERS * TOKENS} if case.is_answered else None)
    _check_what_is_told(case, outcome)


def _least_processes(phase: Phase) -> int:
    return {"import": 2, "engine import": 4}.get(phase, 5)


def _check_what_is_told(case: Case, outcome: Outcome) -> None:
    """A death is a failure, with the reason, wherever somebody is there to hear of it; all others are told as ends."""
    if case.way in KILLS and case.way != "SIGKILL" and not case.detached:
        begun = "vLLM ended while it served" if case.phase in {"serving", "in flight"} else "vLLM cannot serve"
        assert f"error: {begun} `{TINY}`: " in outcome.done.stderr
    loading = case.phase not in {"serving", "in flight"}
    is_remembered = case.way == "SIGKILL" or (case.way in KILLS and case.detached and not loading)
    assert (outcome.told != {}) == is_remembered
    if is_remembered:
        assert outcome.told["state"] == "failed"
        assert outcome.told["reason"]
        if case.way == "SIGKILL":
            assert outcome.told["reason"] == running.KILLED


def _play(case: Case, folder: Path, env: Mapping[str, str]) -> Outcome:
    home, project = folder / "home", folder / "project"
    home.mkdir()
    (project / "models").mkdir(parents=True)
    StoreBuilder(project / "models" / "hub").add(TINY)
    with tempfile.TemporaryDirectory(prefix="ml-", dir="/tmp") as temporary, ExitStack() as stack:
        yard = Yard(Command(project, home=home, guard=GUARD), {**env, "TMPDIR": temporary})
        options = ["--detach"] if case.detached else ["--ttl", "3s"] if case.way == "ttl" else []
        argv = [TINY, "--port", "0", "--max-model-len", "2048", *options, "--", *SMALL]
        start = on_terminal if case.way == "closed terminal" else serving
        command = stack.enter_context(start(yard.run, *argv, env=yard.env))
        stack.callback(_end_all, yard)
        traces = _reached(yard, command, case)
        answers = ANSWERS if case.is_answered else 10 * ANSWERS
        asked = stack.enter_context(_asking(traces.record.url, answers)) if case.phase == "in flight" else None
        began = time.monotonic()
        _WAYS[case.way](yard, command, traces.record)
        answer, answered = asked.result(60) if asked else (None, began)
        await_true(lambda: not _processes(traces), seconds=30)
        seconds = time.monotonic() - began
        done = command.finish(seconds=10)
        told = yard.run("ps", "--json").json["servers"]
        if told:
            assert yard.run("stop", traces.record.id).code == 0
        return Outcome(
            done=done,
            traces=traces,
            seconds=seconds,
            answered=answered - began,
            answer=answer,
            told=told[0] if told else {},
            left=tuple(_left(yard, traces)),
        )


def _reached(yard: Yard, command: Serving, case: Case) -> Traces:
    """Wait until the server is in the phase, and note what it has."""
    if case.phase in {"serving", "in flight"}:
        if case.detached:
            assert command.finish(seconds=START).code == 0
        else:
            command.until_ready(seconds=START)
    else:
        command.until(lambda: _is_in(case.phase, yard), seconds=START)
    record = yard.record()
    assert record.engine_pid is not None
    return Traces(
        record=record,
        pids=tuple(session_of(record.engine_pid)),
        shared_memory=frozenset(engines.shared_memory(record.engine_pid)),
    )


def _is_in(phase: Phase, yard: Yard) -> bool:
    for record in servers.running(yard.state_dir):
        if (leader := record.engine_pid) is not None:
            cores = engines.spawned(leader)
            match phase:
                case "import":
                    return engines.imports(leader)
                case "engine import":
                    return bool(cores)
                case "worker import":
                    return any(engines.spawned(core) for core in cores)
                case _:
                    return "weights" in record.stage or "KV cache" in record.stage
    return False


def _processes(traces: Traces) -> set[int]:
    """Those of the server that live: of its session, with its folder in their environment, and its `modelctl`."""
    record = traces.record
    assert record.engine_pid is not None
    found = {*session_of(record.engine_pid), *engines.naming(record.run_folder), *traces.pids, record.pid}
    return {pid for pid in found if is_running(pid)}


def _left(yard: Yard, traces: Traces) -> Iterator[str]:
    """What is there still of a server that is gone, and was told to be gone."""
    record = traces.record
    if pids := _processes(traces):
        yield f"processes {pids}"
    yield from (f"shared memory {path}" for path in traces.shared_memory if path.exists())
    yield from (f"temporary {path}" for path in Path(yard.env["TMPDIR"]).iterdir())
    yield from (f"record {path}" for path in (yard.state_dir / "servers").glob("*.json"))
    if record.run_folder.exists():
        yield f"folder {record.run_folder}"
    port = int(record.url.rpartition(":")[2])
    with contextlib.suppress(BusyError), ports.held(port, "test", state_dir=yard.state_dir):
        ports.check("127.0.0.1", port)
        return
    yield f"port {port}"


def _end_all(yard: Yard) -> None:
    """Kill whatever is left of a case that failed."""
    for record in (*servers.running(yard.state_dir), *servers.gone(yard.state_dir)):
        for pid in {*engines.naming(record.run_folder), *((record.pid,) if is_running(record.pid) else ())}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _asking(url: str, answers: int) -> Iterator["Future[tuple[dict[str, Any] | None, float]]"]:
    """A request that the server is at work on for some seconds: its answer, `None` for none, and when that came."""
    body = {"model": TINY, "prompt": "Once", "n": answers, "max_tokens": TOKENS, "ignore_eos": True}

    def ask() -> tuple[dict[str, Any] | None, float]:
        answer = None
        request = urllib.request.Request(
            f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(request, timeout=60) as response,
        ):
            answer = {"completion_tokens": json.load(response)["usage"]["completion_tokens"]}
        return answer, time.monotonic()

    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(ask)
        await_true(lambda: (load := probing.load(url)) is not None and load.requests > 0, seconds=20)
        yield future


def _told(number: signal.Signals) -> "Way":
    return lambda _, __, record: os.kill(record.pid, number)


def _killed(which: Callable[[int], int]) -> "Way":
    def kill(_yard: Yard, _command: Serving, record: ServerRecord) -> None:
        assert record.engine_pid is not None
        os.kill(which(record.engine_pid), signal.SIGKILL)

    return kill


def _stopped(*options: str) -> "Way":
    def stop(yard: Yard, _command: Serving, record: ServerRecord) -> None:
        done = yard.run("stop", record.id, *options)
        assert done.code == 0, done

    return stop


def _engine_core(leader: int) -> int:
    return _only_child(leader)


def _worker(leader: int) -> int:
    return _only_child(_engine_core(leader))


def _only_child(parent: int) -> int:
    # While it is given its title, it has none for a moment.
    deadline = time.monotonic() + 10
    while not (found := engines.spawned(parent)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[0]


Way = Callable[[Yard, Serving, ServerRecord], object]
_WAYS: dict[str, Way] = {
    "SIGTERM": _told(signal.SIGTERM),
    "SIGINT": _told(signal.SIGINT),
    "SIGHUP": _told(signal.SIGHUP),
    "closed terminal": lambda _, command, __: command.hang_up(),
    "stop": _stopped(),
    "stop --now": _stopped("--now"),
    "ttl": lambda _, __, ___: None,
    "SIGKILL": _told(signal.SIGKILL),
    "SIGKILL of the API server": _killed(lambda leader: leader),
    "SIGKILL of EngineCore": _killed(_engine_core),
    "SIGKILL of the worker": _killed(_worker),
}
