"""Servers that run on: `serve --detach`, `ps`, `logs`, `stop`, `--ttl`, with a stand-in for vLLM."""

import os
import pty
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelctl import process
from modelctl.engine import logs, servers
from tests.command import Finished
from tests.serving import PATIENCE, WAS_KILLED, await_true, in_time, is_running, serving, session_of, suspended
from tests.standin.servers import TINY, Yard, asking

# A `modelctl` to which a signal comes as soon as it has forked; the process that it forked takes its time.
STRUCK_AT_THE_FORK = """
import os, sys, time
number = int(sys.argv.pop(1))
def strike():
    os.kill(os.getppid(), number)
    time.sleep(0.3)
os.register_at_fork(after_in_child=strike)
from modelctl.__main__ import main
main()
"""
# The state folder lacks a folder of this name, since a file has it; or no file may hold a byte.
HINDRANCES = ["ports", "logs", "servers", "ulimit"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
# Seconds after the process that is to watch the server has a session of its own.
MOMENTS = [0, 0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8]


def test_a_server_runs_on_and_is_seen_and_stopped(yard: Yard) -> None:
    began = time.monotonic()
    done = yard("serve", TINY, "-d", "--port", "0")
    assert done.code == 0
    record = yard.record()
    # A session of its own, which is neither that of the command nor vLLM's, and nothing of a terminal.
    assert session_of(record.pid) == [record.pid]
    opened = {str(Path(f"/proc/{record.pid}/fd/{number}").readlink()) for number in range(3)}
    assert opened == {os.devnull, str(record.log)}
    assert done.stdout.startswith(f"acme/tiny is served at {record.url}/v1\ncurl -s {record.url}/v1/chat")
    assert done.stderr.endswith(
        f" s  ready; it runs on\n`modelctl logs -f {record.id}` shows its log, `modelctl stop {record.id}` stops it\n"
    )
    assert time.monotonic() - began < PATIENCE

    answers: list[dict[str, object] | None] = []
    shown = yard("ps")
    memory = shown.stdout.split("%")[-1].strip()
    assert shown == Finished(
        0,
        f"ID        MODEL      {'URL':<{len(record.url)}}  STATE  SINCE     REQUESTS  KV CACHE   MEMORY\n"
        f"{record.id}  acme/tiny  {record.url}  ready  just now         0       0 %  {memory}\n",
        "",
    )
    assert re.fullmatch(r"\d+\.\d MB", memory)
    assert yard("ps", "-q").stdout == f"{record.id}\n"
    (server,) = yard("ps", "--json").json["servers"]
    assert (server["requests"], server["kv_cache"], server["detached"], server["reason"]) == (0, 0.0, True, None)
    assert f"serving    acme/tiny at {record.url} (ready, 0 requests in flight, {record.id})\n" in yard("status").stdout

    began = time.monotonic()
    assert yard("stop", record.id) == Finished(0, f"stopped acme/tiny ({record.id})\n", "")
    # Requests in flight would get more, and there are none.
    assert time.monotonic() - began < 20
    yard.assert_nothing_is_left(record)
    assert answers == []
    assert yard("ps") == Finished(0, "", "no server is running, `modelctl serve --detach` starts one\n")
    # Its log is still there, and found by the model.
    assert "Application startup complete" in yard("logs", "tiny").stdout


@pytest.mark.sweep
@pytest.mark.parametrize("heeded", [True, False])
def test_the_closing_of_the_terminal_ends_no_server_that_runs_on(yard: Yard, tmp_path: Path, *, heeded: bool) -> None:
    loaded = tmp_path / "loaded"
    ours, theirs = pty.openpty()
    line = "import os, signal, sys; os.setsid(); import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    line += "" if heeded else "signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    line += "os.execv(sys.executable, [sys.executable, '-m', 'modelctl', *sys.argv[1:]])"
    shell = subprocess.Popen(
        [sys.executable, "-c", line, "serve", TINY, "-d", "--port", "0"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=yard.run.project,
        env=yard.run.environment({**yard.env, "STANDIN_LOADS": str(loaded)}),
    )
    os.close(theirs)
    record = yard.record()
    # While it still loads.
    os.close(ours)
    loaded.touch()
    # Without the signal, or where that comes last, it goes on to say what nobody can read: its result.
    assert shell.wait(PATIENCE) in ({1, 128 + signal.SIGHUP} if heeded else {1})
    await_true(lambda: servers.running(yard.state_dir)[0].state == "ready")
    assert yard.record().pid == record.pid
    assert yard("stop").code == 0
    yard.assert_nothing_is_left(record)


def test_a_start_that_fails_is_told_here_and_leaves_nothing(yard: Yard) -> None:
    failing = {
        "STANDIN_EXIT": "1",
        "STANDIN_SAY": "(EngineCore pid=1) ERROR 11-22 21:52:07 [core.py:1] torch.OutOfMemoryError: CUDA out of memory",
    }
    done = yard("serve", TINY, "-d", "--port", "0", env=failing)
    assert (done.code, done.stdout) == (5, "")
    assert (
        "error: vLLM cannot serve `acme/tiny`: it ran out of memory (vLLM ended with exit code 1)\nhint: "
    ) in done.stderr
    assert yard.records == []
    events = yard("serve", TINY, "-d", "--port", "0", "--json", env=failing).events
    assert (events[-1]["event"], events[-1]["error"]["kind"]) == ("error", "no_room")


@pytest.mark.matrix(4)
@pytest.mark.parametrize("option", [[], ["-d"]], ids=["in the foreground", "on its own"])
@pytest.mark.parametrize("hindrance", HINDRANCES)
def test_a_start_that_cannot_write_its_state_leaves_nothing(yard: Yard, hindrance: str, option: list[str]) -> None:
    command = [sys.executable, "-m", "modelctl", "serve", TINY, "--port", "0", *option]
    if hindrance == "ulimit":
        done = yard.run.program(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command], env=yard.env)
        assert (done.code, "File too large" in done.stderr) == (5, True), done
        assert done.stderr.endswith("allows no file so large: name another folder with `XDG_STATE_HOME`\n")
    else:
        (there := yard.state_dir / hindrance).parent.mkdir(parents=True)
        there.touch()
        done = yard.run.program(command, env=yard.env)
        assert done.code == 1
        assert done.stderr.endswith(
            f"\nerror: `{there}` is a file where a folder should be\n"
            "hint: move it away, or name another folder with `XDG_STATE_HOME`\n"
        )
    assert list(Path(yard.env["TMPDIR"]).iterdir()) == []
    assert [path for path in yard.state_dir.rglob("*") if path.suffix != ".lock" and path.is_file()] == (
        [] if hindrance == "ulimit" else [there]
    )


@pytest.mark.sweep
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_interrupts_the_wait_ends_the_server(yard: Yard, number: signal.Signals, code: int) -> None:
    with serving(yard.run, TINY, "-d", "--port", "0", env={**yard.env, "STANDIN_LOAD": "60"}) as command:
        yard.given()
        record = yard.record()
        done = command.send(number).finish(seconds=PATIENCE)
    assert done.code == code
    # It may be asked before it can hear.
    assert re.search(rf"\nstopped; (vLLM was ended by SIGTERM|{WAS_KILLED})\n", done.stderr), done.stderr
    yard.assert_nothing_is_left(record)


@pytest.mark.parametrize("number", CODES)
def test_no_signal_is_lost_at_the_fork(yard: Yard, number: signal.Signals) -> None:
    argv = [sys.executable, "-c", STRUCK_AT_THE_FORK, str(int(number)), "serve", TINY, "-d", "--port", "0", "--json"]
    done = yard.run.program(argv, env=yard.env)
    assert (done.code, done.stderr) == (CODES[number], "")
    last = done.events[-1]
    assert (last["event"], last["asked"], last["exit"]) == ("done", number.name, CODES[number])
    if number == signal.SIGHUP:
        # The end of the terminal is not that of the server.
        record = yard.record()
        assert last["server"] == record.id
        await_true(lambda: yard.record().state == "ready")
        assert yard("stop").code == 0
    assert servers.running(yard.state_dir) == ()
    assert yard.records == []


@pytest.mark.matrix(2)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_runs_on_only_where_it_was_told_to_be_ready(yard: Yard, moment: float, number: signal.Signals) -> None:
    with serving(yard.run, TINY, "-d", "--port", "0", "--json", env=yard.env) as command:
        children = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children")
        command.until(lambda: any(session_of(int(pid)) for pid in children.read_text().split()))
        time.sleep(moment)
        done = command.send(number).finish()
    if '"stage": "ready"' not in done.stdout:
        assert (done.code, yard.records) == (CODES[number], []), done
    elif yard.records:
        assert yard("stop").code == 0


def test_who_interrupts_a_wait_that_was_suspended_ends_the_server(yard: Yard, tmp_path: Path) -> None:
    """It is ready by then, but nobody was told."""
    loaded = tmp_path / "loaded"
    with serving(yard.run, TINY, "-d", "--port", "0", env={**yard.env, "STANDIN_LOADS": str(loaded)}) as command:
        record = yard.record()
        with suspended(command.process):
            loaded.touch()
            await_true(lambda: yard.record().state == "ready")
            command.process.send_signal(signal.SIGINT)
        done = command.finish()
    assert done.code == 130
    assert "\nstopped; vLLM ended with exit code 0\n" in in_time(done.stderr)
    yard.assert_nothing_is_left(record)


@pytest.mark.sweep
def test_json_of_a_server_that_runs_on(yard: Yard) -> None:
    done = yard("serve", TINY, "-d", "--port", "0", "--ttl", "1h", "--json")
    record = yard.record()
    assert (done.code, done.stderr) == (0, "")
    plan, *_, ready, last = done.events
    assert (plan["server"], plan["detached"], plan["ttl"]) == (record.id, True, 3600)
    assert ready["stage"] == "ready"
    seconds = last.pop("seconds")
    assert 0 < seconds < 20
    assert last == {
        "schema": 1,
        "event": "done",
        "id": TINY,
        "url": record.url,
        "server": record.id,
        "pid": record.pid,
        "asked": None,
        "exit": 0,
        "engine_exit": None,
        "log": str(record.log),
    }
    gone, end = yard("stop", "--all", "--json").events
    assert (gone["server"], gone["how"], gone["reason"], end["stopped"]) == (record.id, "stopped", None, 1)


@pytest.mark.sweep
def test_why_a_server_died_is_told_until_it_is_taken_off_the_list(yard: Yard, tmp_path: Path) -> None:
    record = yard.detach(STANDIN_DIES=str(tmp_path / "now"))
    (tmp_path / "now").touch()
    await_true(lambda: not servers.running(yard.state_dir))
    said = (
        f"`acme/tiny` ({record.id}) is gone: RuntimeError: the engine is gone\n"
        f"hint: `modelctl logs {record.id}` shows its log, `modelctl stop {record.id}` takes it off this list\n"
    )
    for _ in range(2):
        shown = yard("ps")
        assert (shown.code, shown.stderr) == (0, said)
    (server,) = yard("ps", "--json").json["servers"]
    assert (server["state"], server["cause"], server["engine_exit"]) == ("failed", "unknown", 0)
    assert yard("ps", "-q").stdout == ""
    checked = yard("status", "--check")
    assert checked.code == 1
    assert f"the server of `acme/tiny` ({record.id}) is gone: RuntimeError: the engine is gone\n" in checked.stderr
    yard.assert_nothing_is_left(record, but_record=True)
    assert not record.run_folder.exists()
    assert yard("stop", "tiny") == Finished(
        0, f"acme/tiny ({record.id}) was gone: RuntimeError: the engine is gone\n", ""
    )
    assert yard("ps").stdout == ""


@pytest.mark.sweep
def test_two_servers_need_names(yard: Yard) -> None:
    one, other = yard.detach(), yard.detach("--served-model-name", "other")
    listed = f"`{one.id}` (acme/tiny at {one.url}), `{other.id}` (acme/tiny at {other.url})"
    assert yard("stop") == Finished(2, "", f"error: no server is named, and there are 2\nhint: name one: {listed}\n")
    assert yard("stop", "tiny") == Finished(
        2, "", f"error: `tiny` fits 2 servers\nhint: name one by its id: {listed}\n"
    )
    assert yard("stop", "acme/none") == Finished(3, "", f"error: no server `acme/none`\nhint: there are {listed}\n")
    assert yard("stop", "--all", one.id).code == 2
    words = {"_MODELCTL_COMPLETE": "complete_bash", "COMP_WORDS": "modelctl stop ", "COMP_CWORD": "2"}
    assert yard(env=words).stdout.split() == [TINY, one.id, other.id]
    done = yard("stop", "--all")
    assert (done.code, set(done.stdout.splitlines())) == (0, {f"stopped acme/tiny ({it.id})" for it in (one, other)})
    yard.assert_nothing_is_left(one)
    yard.assert_nothing_is_left(other)
    assert yard("stop", "--all") == Finished(0, "", "no server is running\n")
    assert yard("stop") == Finished(3, "", "error: no server is running\nhint: `modelctl serve` starts one\n")


@pytest.mark.sweep
def test_stop_waits_for_requests_in_flight_unless_it_is_told_not_to(yard: Yard, tmp_path: Path) -> None:
    answers: list[dict[str, object] | None] = []
    record = yard.detach(STANDIN_HOLDS=str(tmp_path / "answer"))
    with asking(record.url, answers):
        (server,) = yard("ps", "--json").json["servers"]
        assert (server["requests"], server["kv_cache"]) == (1, 0.25)
        stop = yard.run.start("stop", env=yard.env)
        assert stop.stderr is not None
        assert stop.stderr.readline() == (
            f"`acme/tiny` ({record.id}) has requests in flight, which get up to 30 s; "
            f"`modelctl stop --now {record.id}` drops them\n"
        )
        # It is answered while it is waited for.
        (tmp_path / "answer").touch()
        said = stop.communicate(timeout=PATIENCE)
    assert (stop.returncode, said) == (0, (f"stopped acme/tiny ({record.id})\n", ""))
    record = yard.detach(STANDIN_SLOW="25")
    with asking(record.url, answers):
        began = time.monotonic()
        assert yard("stop", "--now").code == 0
        assert time.monotonic() - began < 15
    assert [answer and answer["model"] for answer in answers] == [TINY, None]
    yard.assert_nothing_is_left(record)


@pytest.mark.sweep
def test_a_machine_that_only_computes_is_ready_when_it_has_loaded(yard: Yard) -> None:
    nodes = ("--nnodes", "2", "--node-rank", "1", "--master-addr", "127.0.0.1")
    done = yard("serve", TINY, "-d", "--ttl", "1m", *nodes)
    assert (done.code, done.stderr.splitlines()[0]) == (2, "error: `--ttl` counts requests, and this machine gets none")
    done = yard("serve", TINY, "-d", *nodes)
    assert (done.code, done.stdout) == (0, f"{TINY} is loaded; the machine of rank 0 answers requests\n")
    (shown,) = yard("ps", "--json").json["servers"]
    assert (shown["state"], shown["url"], shown["requests"]) == ("ready", None, None)
    (row,) = yard("ps").stdout.splitlines()[1:]
    assert row.split()[1:4] == [TINY, "-", "ready"]
    assert f"{TINY} for another machine (ready, " in yard("status").stdout
    assert "does not answer" not in yard("status", "--check").stderr
    record = yard.record()
    gone, _ = yard("stop", "--json").events
    # Told to end, it does so by itself; five seconds later it would be killed.
    assert (gone["server"], gone["how"], gone["seconds"] < 5) == (record.id, "stopped", True)
    yard.assert_nothing_is_left(record)


def test_where_requests_are_not_counted_nobody_waits_for_none(yard: Yard) -> None:
    done = yard("serve", TINY, "--ttl", "1m", "--", "--disable-log-stats")
    assert (done.code, done.stderr.splitlines()[0]) == (
        2,
        "error: `--ttl` counts requests, and with `--disable-log-stats` vLLM does not",
    )


def test_a_server_in_the_foreground_is_stopped_too(yard: Yard) -> None:
    with serving(yard.run, TINY, "--port", "0", env=yard.env) as server:
        server.until_ready()
        record = yard.record()
        assert yard("stop", record.id[:4]).code == 0
        assert server.finish().code == 0


@pytest.mark.sweep
def test_an_idle_server_ends_by_itself(yard: Yard) -> None:
    with serving(yard.run, TINY, "--port", "0", "--ttl", "3s", env={**yard.env, "STANDIN_SLOW": "4"}) as server:
        server.until_ready()
        record = yard.record()
        answers: list[dict[str, object] | None] = []
        with asking(record.url, answers):
            # Longer than its time without requests: it has one.
            pass
        done = server.finish()
    assert (done.code, len(answers)) == (0, 1)
    assert answers[0] is not None
    assert in_time(done.stderr).endswith("stopping\nstopped after 3 s without a request; vLLM ended with exit code 0\n")
    yard.assert_nothing_is_left(record)


@pytest.mark.sweep
def test_a_start_that_failed_and_hangs_is_ended_with_its_cause(yard: Yard) -> None:
    began = time.monotonic()
    done = yard("serve", TINY, "--port", "0", env={"STANDIN_HANGS": "no such thing"})
    assert done.code == 1
    assert (
        "error: vLLM cannot serve `acme/tiny`: ValueError: no such thing (vLLM did not end by itself after that)\n"
    ) in done.stderr
    assert 15 < time.monotonic() - began < 50
    assert yard.records == []


@pytest.mark.sweep
def test_a_thread_that_fails_ends_no_start(yard: Yard) -> None:
    said = (
        "Exception in thread Thread-3 (_report_usage):\nTraceback (most recent call last):\nOSError: [Errno 101] No way"
    )
    record = yard.detach(STANDIN_LOAD="20", STANDIN_SAY=said)
    assert record.state == "ready"
    assert yard("stop").code == 0
    yard.assert_nothing_is_left(record)


@pytest.mark.sweep
def test_a_server_that_does_not_end_is_killed_by_stop(yard: Yard) -> None:
    """What watches it is, by its record, a process that hears of no request to end."""
    record = yard.detach("--", "--shutdown-timeout", "1")
    os.kill(record.pid, signal.SIGSTOP)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(120)"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        started = process.start_time(deaf.pid) or 0
        servers.write(replace(record, pid=deaf.pid, started=started), state_dir=yard.state_dir)
        done = yard("stop", timeout=90)
        assert (done.code, done.stdout) == (0, f"killed acme/tiny ({record.id})\n")
        assert deaf.wait(5) == -signal.SIGKILL
    os.kill(record.pid, signal.SIGCONT)
    await_true(lambda: not is_running(record.pid))
    yard.assert_nothing_is_left(record, but_record=True)


class TestLogs:
    LINES = (
        "(APIServer pid=1) INFO 11-22 21:52:07 [a.py:1] one",
        "  more of one",
        "(EngineCore pid=2) INFO 11-22 21:53:07 [a.py:1] two",
        "Loading:  50% Completed\rLoading: 100% Completed",
        "(APIServer pid=1) INFO 11-22 21:54:07 [a.py:1] three",
    )

    @pytest.fixture
    def log(self, tmp_path: Path) -> logs.Log:
        path = tmp_path / "acme--tiny.20261122T215200Z.0a1b2c3d.log"
        path.write_text("\n".join(self.LINES), encoding="utf-8")
        return logs.kept(tmp_path)[0]

    def test_names_tell_of_what_they_are(self, log: logs.Log) -> None:
        assert (log.id, log.model, log.since) == ("0a1b2c3d", TINY, datetime(2026, 11, 22, 21, 52, tzinfo=UTC))

    @pytest.mark.parametrize(
        ("since", "last", "first"),
        [(None, None, 0), ((21, 53), None, 2), ((21, 53, 30), None, 5), ((22, 0), None, 6), (None, 2, 4), (None, 0, 6)],
    )
    def test_from_a_time_on_or_the_last(
        self, log: logs.Log, since: tuple[int, ...] | None, last: int | None, first: int
    ) -> None:
        everything = "\n".join(self.LINES).replace("\r", "\n").split("\n")
        moment = datetime(2026, 11, 22, *since).astimezone() if since else None  # type: ignore[arg-type]
        found = logs.lines(log, since=moment, last=last)
        assert [line.text for line in found] == everything[first:]

    def test_a_year_that_ends(self, log: logs.Log) -> None:
        log.path.write_text(
            "(A pid=1) INFO 12-31 23:59:59 [a.py:1] one\n(A pid=1) INFO 01-01 00:00:01 [a.py:1] two\n", encoding="utf-8"
        )
        first, second = logs.lines(log)
        assert first.time is not None
        assert second.time == first.time + timedelta(seconds=2)

    @pytest.mark.sweep
    def test_follows_until_the_server_has_ended(self, yard: Yard, tmp_path: Path) -> None:
        record = yard.detach()
        out = tmp_path / "out"
        with out.open("w") as file:
            following = yard.run.start("logs", "-f", "tiny", env=yard.env, stdout=file, stderr=subprocess.DEVNULL)
        await_true(lambda: "Application startup complete" in out.read_text())
        assert following.poll() is None
        assert yard("stop").code == 0
        assert following.wait(PATIENCE) == 0
        assert out.read_text() == record.log.read_text().replace("\r", "\n")
        (*lines, done) = yard("logs", record.id, "--tail", "2", "--json").events
        assert [line["event"] for line in lines] == ["line", "line"]
        assert (done["server"], done["lines"]) == (record.id, 2)
        assert yard("logs", "--since", "1x").code == 2
        west = yard("logs", "--since", "9999-12-31T23:59", env={"TZ": "America/New_York"})
        assert (west.code, west.stderr.splitlines()[0]) == (2, "error: `9999-12-31T23:59` is no time of a log")
        assert yard("logs", "acme/none").code == 3
        assert stat.S_IMODE(record.log.stat().st_mode) == 0o600

    @pytest.mark.sweep
    def test_no_log_at_all(self, yard: Yard) -> None:
        assert yard("logs") == Finished(3, "", "error: no server is running\nhint: `modelctl serve` starts one\n")
