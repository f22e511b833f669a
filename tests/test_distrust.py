"""What other programs write or answer is not believed: records, logs, ports, and who answers there."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelctl import process
from modelctl.engine import logs, ports, probing, servers
from modelctl.engine.servers import ServerRecord
from tests.command import Command
from tests.standin.servers import TINY, Yard
from tests.stores import StoreBuilder


@pytest.fixture
def yard(run: Command, store: StoreBuilder, engine: Path, tmp_path: Path) -> Iterator[Yard]:
    store.add(TINY)
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        record = str(tmp_path / "record.json")
        found = Yard(run, {"MODELCTL_VLLM_PYTHON": str(engine), "STANDIN_RECORD": record, "TMPDIR": temporary})
        yield found
        found.end_all()


@pytest.fixture
def written(tmp_path: Path) -> dict[str, object]:
    """A record as it lies on the disk, of this very process."""
    record = ServerRecord(
        id="0a1b2c3d",
        model=TINY,
        revision="0" * 40,
        path=tmp_path,
        url="http://127.0.0.1:8000",
        pid=os.getpid(),
        started=process.start_time(os.getpid()) or 0,
        engine_pid=1,
        state="ready",
        stage="ready",
        since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        requests=None,
        log=tmp_path / "log",
        run_folder=tmp_path / "run",
    )
    servers.write(record, state_dir=tmp_path)
    value = json.loads((tmp_path / "servers" / "0a1b2c3d.json").read_bytes())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("pid", value) for value in (-1, 0, 2**40, "1", None)),
        *(("model", value) for value in (7, None, ["a"])),
        *(("since", value) for value in ("2026-01-02T03:04:05", 5)),
        ("url", "http://[::1"),
        ("url", "http://127.0.0.1"),
        ("state", "happy"),
        ("drain", "long"),
        ("reason", {"a": 1}),
        ("container", 5),
    ],
)
def test_a_record_that_cannot_be_is_none(tmp_path: Path, written: dict[str, object], key: str, value: object) -> None:
    assert len(servers.running(tmp_path)) == 1
    (tmp_path / "servers" / "0a1b2c3d.json").write_text(json.dumps({**written, key: value}))
    assert servers.running(tmp_path) == ()
    assert servers.gone(tmp_path) == ()


def test_another_program_at_the_port_is_not_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert not ports.is_foreign(url, [os.getpid()])
        with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as other:
            assert ports.is_foreign(url, [other.pid])
            other.kill()
    assert not ports.is_foreign(url, [])


def test_an_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_PATIENCE_IN_ALL", 0.3)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    while not over.wait(0.05):
                        connection.sendall(b"X-More: 1\r\n")
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        assert not probing.is_healthy(f"http://127.0.0.1:{listener.getsockname()[1]}")
        over.set()
        thread.join(5)


def test_a_link_in_the_place_of_a_ports_lock_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "ports").mkdir()
    (tmp_path / "ports" / "8000.lock").symlink_to(precious)
    with pytest.raises(Exception, match="cannot lock"), ports.held(8000, "serve", state_dir=tmp_path):
        pass
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("last", [0, 1, 3, 700, 10**6])
def test_the_end_of_a_long_log_is_that_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    monkeypatch.setattr(logs, "_CHUNK", 4096)
    path = tmp_path / "log"
    path.write_text(
        "".join(f"INFO 11-23 21:52:{at % 60:02} [x.py:1] line {at} {'y' * (at % 97)}\n" for at in range(999))
    )
    log = logs.Log(id="0a1b2c3d", model=TINY, since=datetime(2026, 11, 23, tzinfo=UTC), path=path)
    lines = path.read_text().splitlines()
    assert [line.text for line in logs.lines(log, last=last)] == lines[len(lines) - min(last, len(lines)) :]


def test_a_suspended_server_is_stopped(yard: Yard) -> None:
    record = yard.detach()
    os.kill(record.pid, signal.SIGSTOP)
    assert yard("stop").code == 0
    yard.assert_nothing_is_left(record)


def test_a_log_that_somebody_takes_away_ends_no_server(yard: Yard) -> None:
    record = yard.detach()
    record.log.unlink()
    done = yard("logs")
    assert (done.code, done.stderr.splitlines()[0]) == (3, f"error: the log `{record.log}` is gone")
    assert yard("stop").code == 0
    yard.assert_nothing_is_left(dataclasses.replace(record))
