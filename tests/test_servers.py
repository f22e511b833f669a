"""The records of running servers, the ports they keep, and the processes they consist of."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelctl.engine import group, ports, running, servers
from modelctl.engine.servers import ServerRecord
from modelctl.engine.standstill import Standstill
from modelctl.errors import BusyError, NotFoundError, UsageError
from tests.serving import await_true, is_running
from tests.standin.servers import record_of

TRACEBACK = "Traceback (most recent call last):"
DURING = "During handling of the above exception, another exception occurred:"
# A process that reads, and computes next to nothing.
READS = """
import time
print(flush=True)
with open("/dev/zero", "rb", buffering=0) as file:
    while True:
        file.read(2**16)
        time.sleep(0.05)
"""
# A process that cannot be interrupted, as one that waits for a disk: its child has the memory of both, and sleeps.
WAITS = """
import ctypes, time
print(flush=True)
ctypes.CDLL(None).vfork()
time.sleep(300)
"""
# A process that leads a session, with a child in a group of its own; both ignore SIGTERM.
FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"], process_group=0)
print(child.pid, flush=True)
time.sleep(300)
"""
TRACKED = """
import multiprocessing, time
lock = multiprocessing.get_context("spawn").Semaphore()
print(lock._semlock.name, flush=True)
time.sleep(300)
"""


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def record(tmp_path: Path) -> ServerRecord:
    """The record of a server for which this very process is responsible."""
    return record_of(tmp_path)


@pytest.fixture
def dead(record: ServerRecord) -> ServerRecord:
    """The record of one that ended, whose pid another process has."""
    return dataclasses.replace(record, id="00000000", started=record.started - 1)


def test_a_record_comes_back_as_it_was_written(record: ServerRecord, state_dir: Path) -> None:
    assert servers.running(state_dir) == ()
    servers.write(record, state_dir=state_dir)
    assert servers.running(state_dir) == (record,)
    ready = servers.changed(record, state="ready", stage="ready")
    servers.write(ready, state_dir=state_dir)
    assert servers.running(state_dir) == (ready,)
    servers.remove(ready, state_dir=state_dir)
    assert servers.running(state_dir) == ()


def test_a_reader_leaves_the_dead_alone_and_a_sweep_does_not(
    record: ServerRecord, dead: ServerRecord, state_dir: Path
) -> None:
    dead = dataclasses.replace(dead, run_folder=dead.run_folder.with_name("modelctl-00000000"))
    dead.run_folder.mkdir()
    (dead.run_folder / "socket").touch()
    for one in (record, dead):
        servers.write(one, state_dir=state_dir)
    assert servers.running(state_dir) == (record,)
    assert dead.run_folder.exists()
    assert servers.gone(state_dir) == (dead,)
    servers.sweep(state_dir)
    assert not dead.run_folder.exists()
    assert [path.stem for path in (state_dir / "servers").iterdir()] == [record.id]


def test_why_a_server_is_gone_can_be_told_for_a_while(dead: ServerRecord, state_dir: Path) -> None:
    folder = dead.run_folder.with_name("modelctl-00000000")
    dead = dataclasses.replace(dead, state="failed", reason="no room", ended=datetime.now(UTC), run_folder=folder)
    folder.mkdir()
    servers.close(dead, state_dir=state_dir)
    assert not folder.exists()
    servers.sweep(state_dir, model="acme/other")
    assert servers.gone(state_dir) == (dead,)
    assert running.reason(dead) == "no room"
    servers.sweep(state_dir, model=dead.model)
    assert servers.gone(state_dir) == ()


def test_a_container_that_is_left_is_not_forgotten(dead: ServerRecord, state_dir: Path) -> None:
    kept = dataclasses.replace(dead, since=datetime.now(UTC), container="modelctl-x")
    servers.write(kept, state_dir=state_dir)
    servers.sweep(state_dir, model=dead.model)
    assert [record.container for record in servers.gone(state_dir)] == ["modelctl-x"]


def test_servers_of_another_machine_are_left_alone(record: ServerRecord, dead: ServerRecord, state_dir: Path) -> None:
    """A home folder may be shared: a pid of another machine, or of a container, says nothing here."""
    for one in (record, dead):
        servers.write(dataclasses.replace(one, host="elsewhere"), state_dir=state_dir)
    servers.sweep(state_dir)
    assert (servers.running(state_dir), servers.gone(state_dir)) == ((), ())
    assert len(list((state_dir / "servers").iterdir())) == 2


def test_a_record_of_an_earlier_version_is_read(record: ServerRecord, state_dir: Path) -> None:
    servers.write(record, state_dir=state_dir)
    (path,) = (state_dir / "servers").iterdir()
    value = json.loads(path.read_bytes())
    for name in ("host", "engine_started", "detached", "drain", "ttl", "cause", "reason", "engine_exit", "ended"):
        del value[name]
    path.write_text(json.dumps(value))
    assert servers.running(state_dir) == (record,)


class TestReasons:
    """Why a server is gone whose `modelctl` could not say."""

    def test_its_log_tells(self, dead: ServerRecord) -> None:
        dead = dataclasses.replace(dead, since=datetime.now(UTC))
        dead.log.write_text(
            "(EngineCore pid=1) ERROR 11-22 21:52:07 [a.py:1] torch.OutOfMemoryError: CUDA out of memory\n"
        )
        assert running.reason(dead) == "it ran out of memory"

    def test_nothing_tells(self, dead: ServerRecord) -> None:
        assert running.reason(dataclasses.replace(dead, since=datetime.now(UTC))) == running.KILLED

    def test_the_machine_was_restarted(self, dead: ServerRecord) -> None:
        assert running.reason(dataclasses.replace(dead, since=datetime(2001, 1, 1, tzinfo=UTC))) == running.RESTARTED


class TestNames:
    def test_an_id_a_model_or_a_part(self, record: ServerRecord, dead: ServerRecord) -> None:
        other = dataclasses.replace(record, id="0b000000", model="acme/other", beside=("acme/sql",))
        both = (record, other)
        for text in ("0a1b2c3d", "0a", "0A1B", "acme/tiny", "TINY", "tin"):
            assert running.find(both, text) == record, text
        assert running.find(both, "acme/sql") == other
        for text, error in (("acme", UsageError), ("0", NotFoundError), ("", NotFoundError), ("none", NotFoundError)):
            with pytest.raises(error):
                running.find(both, text)
        assert running.among("tiny", both, (dead,)) == record
        assert running.among("tiny", (other,), (dead,)) == dead
        assert running.among(dead.id, both, (dead,)) == dead


class TestStandstill:
    """A start that has failed and does not end is told from one that takes long."""

    @pytest.fixture
    def leader(self) -> Iterator[subprocess.Popen[bytes]]:
        started = subprocess.Popen(["/bin/sleep", "300"], start_new_session=True)
        yield started
        started.kill()
        started.wait()

    @pytest.mark.parametrize(
        "lines",
        [
            ["(APIServer pid=1) Traceback (most recent call last):", "ValueError: oh"],
            ["Traceback (most recent call last):"],
        ],
    )
    def test_after_a_traceback_that_nobody_caught(self, leader: subprocess.Popen[bytes], lines: list[str]) -> None:
        found = Standstill(leader.pid, patience=0.15)
        found.heard(lines, got_further=False)
        assert not found.is_lasting()
        await_true(found.is_lasting, seconds=5)
        found.heard(["Starting to load model"], got_further=True)
        assert not found.is_lasting()

    @pytest.mark.parametrize(
        "lines",
        [
            ["Exception ignored in: <x>", TRACEBACK],
            ["(EngineCore pid=1) ERROR 11-22 21:52:07 [a.py:1] Traceback (most recent call last):"],
            ["loading"],
            ["Exception in thread Thread-3 (_report_usage):", TRACEBACK, "OSError: [Errno 101] Network is unreachable"],
            [
                "(APIServer pid=1) Exception in thread Thread-3 (_report_usage):",
                f"(APIServer pid=1) {TRACEBACK}",
                "(APIServer pid=1) socket.gaierror: [Errno -2] Name or service not known",
                "(APIServer pid=1) ",
                "(APIServer pid=1) The above exception was the direct cause of the following exception:",
                "(APIServer pid=1) ",
                f"(APIServer pid=1) {TRACEBACK}",
            ],
            ["--- Logging error ---", TRACEBACK],
            ["Task exception was never retrieved", "future: <Task finished name='Task-1'>", TRACEBACK],
        ],
    )
    def test_not_for_silence_or_what_the_main_thread_does_not_mind(
        self, leader: subprocess.Popen[bytes], lines: list[str]
    ) -> None:
        found = Standstill(leader.pid, patience=0)
        for line in lines:
            found.heard([line], got_further=False)
        assert not any(found.is_lasting() for _ in range(3))
        # The main thread may still fail, also in a chain of its own.
        found.heard([TRACEBACK, "KeyError: 1", "", DURING, "", TRACEBACK], got_further=False)
        await_true(found.is_lasting, seconds=5)

    # Who reads has to read between two looks, of which there are three in that time or more, one each second: a
    # machine that stands still does not.
    @pytest.mark.parametrize(("code", "patience"), [(READS, 4.0), (WAITS, 0.6)])
    def test_not_while_anything_is_read_or_a_disk_waited_for(self, code: str, patience: float) -> None:
        busy = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        try:
            assert busy.stdout is not None
            assert busy.stdout.readline()
            found = Standstill(busy.pid, patience=patience)
            found.heard([TRACEBACK], got_further=False)
            assert_not_lasting(found, seconds=patience + 1)
        finally:
            group.end(busy.pid)
            busy.communicate()

    @pytest.mark.sweep
    def test_not_while_anything_is_computed(self) -> None:
        busy = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"], start_new_session=True)
        try:
            found = Standstill(busy.pid, patience=4.0)
            found.heard([TRACEBACK], got_further=False)
            assert_not_lasting(found, seconds=5)
        finally:
            busy.kill()
            busy.wait()


def assert_not_lasting(found: Standstill, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert not found.is_lasting()
        time.sleep(0.05)


def test_a_sweep_removes_no_folder_that_is_not_a_servers(dead: ServerRecord, state_dir: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    servers.write(dataclasses.replace(dead, run_folder=precious), state_dir=state_dir)
    servers.sweep(state_dir)
    assert precious.exists()


def test_keeps_the_newest_logs(record: ServerRecord, state_dir: Path) -> None:
    logs = [servers.log_file("acme/tiny", f"{at:08}", state_dir=state_dir) for at in range(53)]
    for at, log in enumerate(logs):
        os.utime(log, (at, at))
    servers.write(dataclasses.replace(record, log=logs[0]), state_dir=state_dir)
    servers.sweep(state_dir)
    assert [log for log in logs if not log.exists()] == logs[1:3]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"id": "x"}', b"\xff"])
def test_a_torn_record_is_none(content: bytes, record: ServerRecord, state_dir: Path) -> None:
    servers.write(record, state_dir=state_dir)
    (state_dir / "servers" / "torn.json").write_bytes(content)
    assert servers.running(state_dir) == (record,)


def test_a_record_says_what_it_is(record: ServerRecord, state_dir: Path) -> None:
    servers.write(record, state_dir=state_dir)
    (path,) = (state_dir / "servers").iterdir()
    value = json.loads(path.read_bytes())
    assert value["schema"] == 1
    assert (value["model"], value["since"]) == ("acme/tiny", "2026-01-02T03:04:05+00:00")
    assert servers.busy([record]) == {
        "acme/tiny": f"`modelctl serve acme/tiny` (pid {os.getpid()}, http://127.0.0.1:8000)"
    }


def test_a_run_folder_has_a_short_path(tmp_path: Path) -> None:
    short = servers.run_folder("12345678", temporary=Path("/tmp"))  # noqa: S108
    short.rmdir()
    far = servers.run_folder("12345678", temporary=tmp_path / ("x" * 60))
    far.rmdir()
    assert short == far == Path("/tmp/modelctl-12345678")  # noqa: S108


class TestPorts:
    def test_a_port_is_for_one_at_a_time(self, state_dir: Path) -> None:
        with (
            ports.held(8000, "serve acme/tiny", state_dir=state_dir),
            pytest.raises(BusyError) as refused,
            ports.held(8000, "serve acme/other", state_dir=state_dir),
        ):
            pass
        assert refused.value.message == f"port 8000 is taken by `modelctl serve acme/tiny` (pid {os.getpid()})"
        with ports.held(8000, "serve acme/other", state_dir=state_dir):
            pass

    def test_names_who_listens(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            with pytest.raises(BusyError) as refused:
                ports.check("127.0.0.1", port)
        assert refused.value.message.endswith(f"(pid {os.getpid()})")
        ports.check("127.0.0.1", port)

    def test_a_free_one_is_free(self) -> None:
        ports.check("127.0.0.1", ports.choose("127.0.0.1"))
        ports.check("::1", ports.choose("::1"))

    def test_a_free_one_is_none_that_others_get(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        first = int(ports._GIVEN_AWAY.read_text(encoding="ascii").split()[0])
        assert all(20000 <= ports.choose("127.0.0.1") < min(first, 30000) for _ in range(20))
        monkeypatch.setattr(ports, "_GIVEN_AWAY", tmp_path / "range")
        assert 20000 <= ports.choose("127.0.0.1") < 30000
        (tmp_path / "range").write_text("1024 65535")
        ports.check("127.0.0.1", ports.choose("127.0.0.1"))

    def test_one_that_is_taken_is_passed_over(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        first = ports.choose("127.0.0.1")
        monkeypatch.setattr(ports, "_FIRST", first)
        (tmp_path / "range").write_text(f"{first + 2} 65535")
        monkeypatch.setattr(ports, "_GIVEN_AWAY", tmp_path / "range")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", first))
            listener.listen()
            assert {ports.choose("127.0.0.1") for _ in range(5)} == {first + 1}

    @pytest.mark.parametrize("host", ["127.0.0..1", ".x", "a" * 70])
    def test_what_is_no_host_name(self, host: str) -> None:
        with pytest.raises(UsageError, match="is no host name: "):
            ports.choose(host)


class TestGroup:
    @pytest.fixture
    def leader(self) -> Iterator[subprocess.Popen[str]]:
        started = subprocess.Popen(
            [sys.executable, "-S", "-c", FAMILY], stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True
        )
        yield started
        started.kill()
        started.wait()
        if started.stdout:
            started.stdout.close()

    def test_ends_all_of_a_session(self, leader: subprocess.Popen[str]) -> None:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        assert group.members(leader.pid) == tuple(sorted((leader.pid, child)))
        assert group.end(leader.pid) == ()
        assert leader.wait(5) == -signal.SIGKILL
        assert not is_running(child)

    def test_finds_a_child_whose_leader_is_gone(self, leader: subprocess.Popen[str]) -> None:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        leader.kill()
        leader.wait()
        assert group.members(leader.pid) == (child,)
        assert group.end(leader.pid) == ()
        assert not is_running(child)

    def test_lets_the_resource_tracker_tidy_up(self) -> None:
        leader = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", TRACKED],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with leader:
            assert leader.stdout is not None
            name = leader.stdout.readline().decode().strip().removeprefix("/")
            semaphore = Path("/dev/shm") / f"sem.{name}"  # noqa: S108 - looked at only
            assert semaphore.exists()
            assert len(group.members(leader.pid)) == 2
            assert group.end(leader.pid) == ()
        assert not semaphore.exists()

    def test_nobody_is_nobody(self) -> None:
        gone = subprocess.Popen([sys.executable, "-S", "-c", ""], start_new_session=True)
        gone.wait()
        assert group.members(gone.pid) == ()
        assert group.end(gone.pid) == ()
