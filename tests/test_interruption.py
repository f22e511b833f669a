"""Ctrl-C, SIGTERM, SIGHUP: a command ends in order, keeps what arrived, and gives the terminal back."""

import contextlib
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.store import journal
from modelctl.store.layout import RepoPaths
from tests.command import Command
from tests.hub import faults
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import MIB, NAME, big_model, blobs_are_true, leftovers, until, written

SIZE = 40 * MIB
CDN = "/_cdn/*"
HINT = "hint: what has arrived is kept: run the same command again and it goes on from there"


@pytest.fixture(name="slow")
def _slow(hub: Hub) -> faults.Fault:
    """A model whose weights take their time."""
    hub.add(NAME, files=big_model(SIZE))
    return hub.fault(faults.slow(rate=2 * MIB), path=CDN, times=None)


def saved(paths: RepoPaths) -> int:
    """The bytes that the journals of a model vouch for."""
    journals = [path for path in paths.partials.glob("*.json") if len(path.stem) == 64]
    return sum(journal.received(paths, path.stem) for path in journals)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.sweep),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.sweep),
    ],
)
def test_what_arrived_is_saved_and_the_same_command_goes_on(
    run: Command, hub: Hub, store: StoreBuilder, slow: faults.Fault, number: signal.Signals, code: int
) -> None:
    pull = run.start("pull", NAME, "--max-workers", "2", env=hub.environ)
    # Long before the first save that comes by itself, after two seconds or 8 MiB.
    until(lambda: written(pull.pid) > MIB)
    pull.send_signal(number)
    stdout, stderr = pull.communicate(timeout=30)
    assert (pull.returncode, stdout) == (code, "")
    assert stderr.splitlines()[-2:] == [f"error: the pull of `{NAME}` was interrupted", HINT]
    assert saved(store.paths(NAME)) > MIB // 2
    slow.times = 0
    again = run("pull", NAME, "--json", env=hub.environ)
    assert (again.code, again.events[0]["resumed"] > MIB // 2) == (0, True)
    assert blobs_are_true(store)
    assert leftovers(store) == []


@pytest.mark.sweep
def test_under_json_the_last_line_says_so(run: Command, hub: Hub, slow: faults.Fault) -> None:
    pull = run.start("pull", NAME, "--json", env=hub.environ)
    until(lambda: slow.count > 0)
    pull.send_signal(signal.SIGTERM)
    stdout, stderr = pull.communicate(timeout=30)
    assert (pull.returncode, stderr) == (143, "")
    assert json.loads(stdout.splitlines()[-1])["error"]["kind"] == "interrupted"


@pytest.mark.usefixtures("slow")
def test_asked_again_and_again_it_saves_all_the_same(run: Command, hub: Hub, store: StoreBuilder) -> None:
    pull = run.start("pull", NAME, "--max-workers", "2", env=hub.environ)
    until(lambda: written(pull.pid) > MIB)
    # Until it has gone: each of them hits another moment of its end.
    while pull.poll() is None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            pull.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            pull.wait(0.02)
    _, stderr = pull.communicate(timeout=30)
    # The last one may come when all has been said.
    assert pull.returncode in {130, -signal.SIGINT, -signal.SIGTERM}
    assert "Traceback" not in stderr
    assert saved(store.paths(NAME)) > MIB // 2


@pytest.mark.sweep
@pytest.mark.usefixtures("slow")
def test_impatience_does_not_cut_a_slow_save_short(run: Command, hub: Hub, store: StoreBuilder) -> None:
    lazy = "sync = os.fdatasync\ndef lazily(file):\n print(end='.', flush=True)\n time.sleep(2)\n sync(file)\n"
    first = f"import os, time\n{lazy}os.fdatasync = lazily"
    pull = run.start("pull", NAME, "--max-workers", "2", env=hub.environ, first=first)
    assert pull.stdout is not None
    until(lambda: written(pull.pid) > MIB)
    pull.send_signal(signal.SIGINT)
    assert pull.stdout.read(1) == "."
    with contextlib.suppress(subprocess.TimeoutExpired):
        pull.wait(1.2)
    pull.send_signal(signal.SIGINT)
    _, stderr = pull.communicate(timeout=60)
    assert (pull.returncode, "Traceback" in stderr) == (130, False)
    assert saved(store.paths(NAME)) > MIB // 2


@pytest.mark.sweep
@pytest.mark.usefixtures("slow")
def test_nohup_keeps_a_pull_through_a_hangup(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.faults.clear()
    held = hub.fault(faults.stall(seconds=20, after=MIB), path=CDN)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        pull = run.start("pull", NAME, "--stall-after", "1", env=hub.environ)
    finally:
        signal.signal(signal.SIGHUP, before)
    until(lambda: held.count > 0)
    pull.send_signal(signal.SIGHUP)
    _, stderr = pull.communicate(timeout=60)
    assert pull.returncode == 0, stderr
    assert blobs_are_true(store)


def test_before_anything_was_fetched_it_ends_without_a_word(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    hub.fault(faults.silence(), path="/api/models/*", times=None)
    pull = run.start("pull", NAME, env=hub.environ)
    until(lambda: bool(hub.asked))
    pull.send_signal(signal.SIGTERM)
    stdout, stderr = pull.communicate(timeout=30)
    assert (pull.returncode, stdout, stderr) == (143, "", "")


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("terminal", ["there", pytest.param("closed", marks=pytest.mark.sweep)])
def test_a_terminal_gets_its_cursor_back(
    run: Command, hub: Hub, store: StoreBuilder, tmp_path: Path, terminal: str
) -> None:
    ours, theirs = pty.openpty()
    out = tmp_path / "stdout"
    with out.open("w") as file:
        pull = run.start("pull", NAME, env={**hub.environ, "TERM": "xterm"}, stdout=file, stderr=theirs)
    os.close(theirs)
    shown = b""
    pieces = _read(ours)
    while b"\x1b[?25l" not in shown:
        shown += next(pieces)
    until(lambda: written(pull.pid) > MIB)
    if terminal == "closed":
        os.close(ours)
    pull.send_signal(signal.SIGHUP)
    shown += b"".join(pieces if terminal == "there" else [])
    assert pull.wait(30) == 129
    assert saved(store.paths(NAME)) > MIB // 2
    if terminal == "there":
        os.close(ours)
        assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
        assert shown.decode().splitlines()[-1] == HINT


def _read(terminal: int) -> Iterator[bytes]:
    """What comes at a terminal, until the other side has closed it."""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 4096):
            yield piece
