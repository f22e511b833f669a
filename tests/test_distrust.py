"""What other programs write or answer is not believed: records, logs, ports, and who answers there."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import logs, ports, probing, servers
from modelctl.engine.stopping import Stop
from tests.command import NOBODY, Command, Finished
from tests.serving import PATIENCE, await_true, is_pending, serving, suspended
from tests.standin.servers import TINY, Yard, asking, record_of

# A system without handles of processes: an old kernel, a sandbox, or a Python that was built for either.
WITHOUT_HANDLES = """
import os, runpy, sys
def refuse(*_):
    raise OSError(38, "Function not implemented")
if sys.argv.pop(1) == "refused":
    os.pidfd_open = refuse
else:
    del os.pidfd_open
runpy.run_module("modelctl", run_name="__main__")
"""


@pytest.fixture
def written(tmp_path: Path) -> dict[str, object]:
    """A record as it lies on the disk, of this very process."""
    record = record_of(tmp_path)
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


def test_what_is_taken_away_or_full_while_it_loads_ends_no_server(yard: Yard) -> None:
    answers: list[dict[str, Any] | None] = []
    env = {**yard.env, "STANDIN_LOAD": "0.6", "STANDIN_LATE": "2"}
    with serving(yard.run, TINY, "--port", "0", env=env) as server:
        yard.given()
        record = yard.record()
        record.log.unlink()
        # Nothing can be written there any more, as on a full disk. Nor is anything, while that comes about.
        with suspended(server.process):
            shutil.rmtree(yard.state_dir / "servers")
            (yard.state_dir / "servers").write_text("")
        server.until_ready()
        with asking(record.url, answers):
            assert server.send(signal.SIGTERM).finish().code == 0
    assert answers == [{"path": "/v1/completions", "model": TINY}]
    assert not record.run_folder.exists()


@pytest.mark.sweep
def test_requests_are_answered_also_where_nobody_reads_any_more(yard: Yard) -> None:
    answers: list[dict[str, Any] | None] = []
    env = {**yard.env, "STANDIN_LATE": "2"}
    server = yard.run.start("serve", TINY, "--port", "0", "--json", env=env)
    try:
        assert server.stdout is not None
        ready = next(event for line in server.stdout if (event := json.loads(line)).get("stage") == "ready")
        server.stdout.close()
        with asking(ready["url"], answers):
            server.terminate()
            assert server.wait(PATIENCE) == 1
    finally:
        server.kill()
        assert server.stderr is not None
        server.stderr.close()
    assert answers == [{"path": "/v1/completions", "model": TINY}]


@pytest.mark.sweep
def test_who_did_not_listen_for_a_while_hears_that_it_is_ready(yard: Yard) -> None:
    steps = "\n".join(f"Loading safetensors checkpoint shards:  50% Completed | {at}/999" for at in range(1, 999))
    env = {**yard.env, "STANDIN_LOAD": "0.5", "STANDIN_SAY": steps}
    with serving(yard.run, TINY, "--detach", "--port", "0", env=env) as command:
        record = yard.record()
        command.process.send_signal(signal.SIGSTOP)
        await_true(lambda: yard.record().state == "ready")
        command.process.send_signal(signal.SIGCONT)
        assert command.finish().code == 0
    assert f"is served at {record.url}/v1" in command.stdout


@pytest.mark.sweep
def test_one_press_that_arrives_twice_is_one(yard: Yard) -> None:
    for at in range(10):
        answers: list[dict[str, Any] | None] = []
        with serving(yard.run, TINY, "--port", "0", env={**yard.env, "STANDIN_LATE": "2"}, name=f"{at}") as server:
            server.until_ready()
            with asking(server.url.removesuffix("/v1"), answers):
                began = time.monotonic()
                for _ in range(2):
                    server.process.send_signal(signal.SIGINT)
                    # Not until it says that it is stopping: it writes that on the disk before, which may take long.
                    await_true(lambda: not is_pending(server.process.pid, signal.SIGINT), step=0.001)
                took = time.monotonic() - began
                assert server.finish().code == 130
        # What takes twice as long is two presses: then the machine stood still, and nothing is told.
        if took < 0.1:
            assert answers == [{"path": "/v1/completions", "model": TINY}]
            return
    raise AssertionError("it is never pressed quickly enough")


@pytest.mark.sweep
def test_another_program_that_takes_the_port_meanwhile_is_not_the_server(yard: Yard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with serving(yard.run, TINY, "--port", str(port), env={**yard.env, "STANDIN_LOAD": "3"}) as server:
        yard.given()
        with HTTPServer(("127.0.0.1", port), Healthy) as other:
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            done = server.finish(seconds=40)
            other.shutdown()
            thread.join()
    assert (done.code, done.stdout) == (1, "")
    assert "error: vLLM cannot serve `acme/tiny`: its port was taken while it loaded" in done.stderr


class Healthy(BaseHTTPRequestHandler):
    """Says to everybody that all is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.sweep
@pytest.mark.parametrize("how", ["refused", "missing"])
def test_without_handles_of_processes(yard: Yard, how: str) -> None:
    def without(*argv: str) -> Finished:
        return yard.run.program([sys.executable, "-c", WITHOUT_HANDLES, how, *argv], env=yard.env)

    assert without("serve", TINY, "--detach", "--port", "0").code == 0
    record = yard.record()
    assert without("stop") == Finished(0, f"stopped acme/tiny ({record.id})\n", "")
    yard.assert_nothing_is_left(record)


def test_who_is_of_another_user_can_be_hidden(run: Command, written: dict[str, object]) -> None:
    folder = run.home / ".local" / "state" / "modelctl" / "servers"
    folder.mkdir(parents=True)
    (folder / "0a1b2c3d.json").write_text(json.dumps({**written, "pid": 1, "started": 1}))
    if run.program(["unshare", "--mount", "mount", "-t", "proc", "proc", "/proc"]).code:
        pytest.skip("only root can mount")
    hidden = 'mount -t proc -o hidepid=1 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'
    argv = ["unshare", "--mount", "sh", "-c", hidden, "sh", sys.executable, "-m", "modelctl", "ps", "-q"]
    run.let_pass(NOBODY)
    for path in (run.home, *run.home.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    assert run.program(argv) == Finished(0, "", "")


def test_one_that_ended_at_the_request_of_another_is_stopped(tmp_path: Path, written: dict[str, object]) -> None:
    (tmp_path / "servers" / "0a1b2c3d.json").write_text(json.dumps({**written, "engine_pid": None, "started": 1}))
    (record,) = servers.gone(tmp_path)
    assert not Stop(record, environ={}, state_dir=tmp_path).was_there
    servers.remove(record, state_dir=tmp_path)
    assert Stop(record, environ={}, state_dir=tmp_path).finish().how == "stopped"


def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    names = ["acme--tiny.99999999T999999Z.00000001.log", "acme--tiny.20261123T000000Z.00000002.log", "notes.log"]
    (tmp_path / names[0]).touch()
    (tmp_path / names[1]).mkdir()
    (tmp_path / names[2]).touch()
    (tmp_path / "acme--tiny.20261123T000000Z.00000003.log").symlink_to(tmp_path / "nowhere")
    (tmp_path / "acme--tiny.20261123T000000Z.00000004.log").touch()
    assert [log.id for log in logs.kept(tmp_path)] == ["00000004"]
    assert logs.kept(tmp_path / "nowhere") == ()


def test_the_end_of_a_log_is_found_behind_a_line_that_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_CHUNK", 4096)
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100_000 + b"\nlast but one\nlast")
    assert logs._start_of_last(path, 1) == 100_001
    log = logs.Log(id="0a1b2c3d", model=TINY, since=datetime(2026, 11, 23, tzinfo=UTC), path=path)
    assert [line.text for line in logs.lines(log, last=2)] == ["last but one", "last"]


def test_a_start_that_finds_no_place_for_its_sockets_leaves_no_log(yard: Yard) -> None:
    done = yard("serve", TINY, "--port", "0", env={"TMPDIR": "/nonexistent"})
    assert (done.code, done.stderr.splitlines()[-2][:32]) == (1, "error: cannot create `/nonexiste")
    assert not (yard.state_dir / "logs").exists()
