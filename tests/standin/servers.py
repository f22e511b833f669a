"""Servers of the stand-in for vLLM, started by `modelctl serve` in the foreground or on their own."""

import contextlib
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelctl import process
from modelctl.engine import servers
from modelctl.engine.servers import ServerRecord
from tests.command import Command, Finished
from tests.serving import await_true, is_running, session_of

TINY = "acme/tiny"


@dataclass(frozen=True)
class Yard:
    """Where servers of one test run: the command, the environment, their records."""

    run: Command
    env: Mapping[str, str]

    @property
    def state_dir(self) -> Path:
        return self.run.home / ".local" / "state" / "modelctl"

    @property
    def records(self) -> list[Path]:
        return sorted((self.state_dir / "servers").glob("*.json"))

    def __call__(self, *argv: str | Path, env: Mapping[str, str | None] | None = None, **options: Any) -> Finished:  # noqa: ANN401 - those of a command
        return self.run(*argv, env={**self.env, **(env or {})}, **options)

    def record(self) -> ServerRecord:
        """The record of the one server that runs."""
        await_true(lambda: len(servers.running(self.state_dir)) == 1)
        return servers.running(self.state_dir)[0]

    def given(self) -> Any:  # noqa: ANN401 - JSON
        """What the stand-in was given, and its processes."""
        path = Path(self.env["STANDIN_RECORD"])
        await_true(path.exists)
        return json.loads(path.read_bytes())

    def detach(self, *argv: str | Path, **switches: str) -> ServerRecord:
        """Start a server that runs on, and return its record."""
        done = self("serve", TINY, "--detach", "--port", "0", *argv, env=switches)
        assert done.code == 0, done
        server_id = done.stderr.split("`modelctl stop ")[1].partition("`")[0]
        return next(record for record in servers.running(self.state_dir) if record.id == server_id)

    def assert_nothing_is_left(self, record: ServerRecord, *, but_record: bool = False) -> None:
        """No process, no folder of sockets, no record, unless it says why the server is gone."""
        if record.engine_pid is not None:
            assert session_of(record.engine_pid) == []
        if Path(self.env["STANDIN_RECORD"]).exists():
            assert not any(is_running(pid) for pid in self.given()["pids"])
        assert not is_running(record.pid)
        if not but_record:
            assert self.records == []
            assert not record.run_folder.exists()

    def end_all(self) -> None:
        """Kill whatever is left."""
        for path in self.records:
            value = json.loads(path.read_bytes())
            for pid, started in ((value["pid"], value["started"]), (value["engine_pid"], value["engine_started"])):
                if pid is not None and process.start_time(pid) == started:
                    os.kill(pid, signal.SIGKILL)


def record_of(folder: Path, **changed: Any) -> ServerRecord:  # noqa: ANN401 - the record's own fields
    """The record of a server for which this very process is responsible."""
    record = ServerRecord(
        id="0a1b2c3d",
        model=TINY,
        revision="0" * 40,
        path=folder / "snapshot",
        url="http://127.0.0.1:8000",
        pid=os.getpid(),
        started=process.start_time(os.getpid()) or 0,
        engine_pid=1,
        state="starting",
        stage="importing vLLM",
        since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        requests=None,
        log=folder / "x.log",
        run_folder=folder / "modelctl-0a1b2c3d",
    )
    return replace(record, **changed)


@contextlib.contextmanager
def asking(url: str, answers: list[dict[str, Any] | None]) -> Iterator[None]:
    """A request that the server is at work on; its answer, `None` for none, is in `answers` afterwards."""

    def ask() -> None:
        body = json.dumps({"model": TINY}).encode()
        try:
            with urllib.request.urlopen(f"{url}/v1/completions", body, timeout=30) as answer:
                answers.append(json.load(answer))
        except OSError:
            answers.append(None)

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 10
    while in_flight(url) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield
    thread.join()


def in_flight(url: str) -> int:
    """How many requests a stand-in says that it is at work on."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        line = next(line for line in answer.read().decode().splitlines() if line.startswith("vllm:num_requests_r"))
    return int(float(line.rpartition(" ")[2]))
