"""The processes without which a server serves nothing more, and those that only look like one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.engine import vital
from modelctl.engine.vital import Loss, Vital
from tests.serving import await_true

# What calls itself as vLLM does, and has a child that has not become another program yet.
FORKED = """
import os, time
with open("/proc/self/comm", "w") as comm:
    comm.write("VLLM::EngineCore")
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.waitpid(child, 0)
time.sleep(60)
"""


@pytest.fixture
def core() -> Iterator["subprocess.Popen[bytes]"]:
    argv = [sys.executable, "-S", "-c", FORKED]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
        yield process
        process.kill()


def child_of(core: "subprocess.Popen[bytes]") -> int:
    assert core.stdout is not None
    return int(core.stdout.readline())


def test_a_child_that_is_to_become_a_tool_is_no_loss(core: "subprocess.Popen[bytes]") -> None:
    child = child_of(core)
    with Vital(core.pid) as watched:
        assert len(watched.handles) == 2
        assert not watched.has_lost_one()
        os.kill(child, signal.SIGKILL)
        await_true(lambda: not watched.has_lost_one() and len(watched.handles) == 1)
        core.kill()
        await_true(watched.has_lost_one)
        assert watched.has_lost_one()


def test_a_start_is_given_up_only_where_nothing_more_is_said(
    core: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vital, "_PATIENCE", 0.2)
    log = tmp_path / "log"
    log.write_text("INFO nothing of note\n")
    os.kill(child_of(core), signal.SIGKILL)
    with Vital(core.pid) as watched:
        loss = Loss(watched, log)
        assert not loss.is_final(has_spoken=True)
        core.kill()
        await_true(watched.has_lost_one)
        assert not loss.is_final(has_spoken=False)
        assert not loss.is_final(has_spoken=True)
        # It said something after that, so vLLM is left to draw the consequence itself.
        assert not any(loss.is_final(has_spoken=False) for _ in range(3))
    with Vital(core.pid) as watched:
        assert watched.handles == ()


def test_a_silent_loss_is_final(
    core: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vital, "_PATIENCE", 0.2)
    os.kill(child_of(core), signal.SIGKILL)
    with Vital(core.pid) as watched:
        loss = Loss(watched, tmp_path / "log")
        core.kill()
        await_true(lambda: loss.is_final(has_spoken=False))
