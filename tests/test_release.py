"""Memory on GPUs after the end of a server: a stand-in plays NVIDIA's tool, whose driver frees it, late or never."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelctl.engine import launch, release
from modelctl.engine.launch import Ending, Start
from modelctl.engine.release import Holders
from modelctl.engine.stages import Stage
from modelctl.engine.stop_requests import StopRequests
from modelctl.store import changes
from tests.serving import await_true, is_running
from tests.standin.servers import TINY, Yard

MIB = 2**20


# The seconds in which a shell script has answered, also on a machine that stands still for two of them.
PATIENCE = 4.0


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """The folder of a `nvidia-smi` that says what the file `rows` holds, after it has done what `does` says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = f'#!/bin/sh\necho "$*" >> {folder}/asked\n. {folder}/does\nexec cat {folder}/rows\n'
    for name, text in (("rows", ""), ("does", ""), ("asked", ""), ("nvidia-smi", script)):
        (folder / name).write_text(text)
    (folder / "nvidia-smi").chmod(0o755)
    return folder


@pytest.fixture
def ended(tool: Path) -> Holders:
    """The processes of a server that is gone: of one, whose pid stands in `gone`."""
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as child:
        holders = Holders(child.pid, environ={"PATH": f"{tool}:/bin:/usr/bin"})
        holders.note()
        child.kill()
    (tool / "gone").write_text(str(child.pid))
    return holders


def rows(tool: Path, *lines: str) -> int:
    """Have the tool say `lines`, in which PID stands for the process that is gone, and return that."""
    pid = (tool / "gone").read_text()
    (tool / "rows").write_text("".join(f"{line}\n" for line in lines).replace("PID", pid))
    return int(pid)


def asked(tool: Path) -> int:
    return len((tool / "asked").read_text().splitlines())


def test_nothing_is_held_and_one_question_tells(tool: Path, ended: Holders) -> None:
    assert ended.held() == {}
    assert asked(tool) == 1


def test_others_may_hold_what_they_want(tool: Path, ended: Holders) -> None:
    rows(tool, f"{os.getpid()}, 4000", "1, 300")
    assert ended.held() == {}
    assert asked(tool) == 1


@pytest.mark.parametrize("count", [1, 8])
def test_what_is_held_on_so_many_gpus(tool: Path, ended: Holders, count: int) -> None:
    pid = rows(tool, *["PID, 300"] * count, "1, 500")
    held = ended.held(patience=PATIENCE)
    assert held == {pid: count * 300 * MIB}
    assert release.message(held) == (
        f"vLLM has ended, but the driver still holds {count * 300 * MIB / 1e9:.1f} GB of memory on the GPU for it "
        f"(pid {pid})"
    )


def test_a_divided_gpu_that_tells_of_no_sizes(tool: Path, ended: Holders) -> None:
    pid = rows(tool, "PID, [N/A]")
    assert ended.held(patience=PATIENCE) == {pid: 0}
    assert "still holds memory on the GPU" in release.message({pid: 0})


def test_a_divided_gpu_that_tells_of_no_processes(tool: Path, ended: Holders) -> None:
    rows(tool, "[Insufficient Permissions], [Insufficient Permissions]")
    assert ended.held() == {}


def test_a_driver_that_takes_its_time(tool: Path, ended: Holders) -> None:
    rows(tool, "PID, 300")
    (tool / "does").write_text(f"[ $(wc -l < {tool}/asked) -lt 3 ] || : > {tool}/rows\n")
    assert ended.held(patience=20) == {}
    assert asked(tool) == 3


@pytest.mark.parametrize("does", ["sleep 60", "trap '' TERM; sleep 60 & wait", "exit 9", "exit 6"])
def test_a_driver_that_does_not_tell_holds_up_nobody(tool: Path, ended: Holders, does: str) -> None:
    rows(tool, "PID, 300")
    (tool / "does").write_text(f"{does}\n")
    began = time.monotonic()
    assert ended.held(patience=0.3) == {}
    assert time.monotonic() - began < 20


def test_nobody_is_asked_where_no_gpu_is_used(tool: Path, tmp_path: Path) -> None:
    ending = _ended(tool, tmp_path, on_gpus=False)
    assert (ending.held, asked(tool)) == ({}, 0)


def test_the_end_of_a_server_says_what_is_held(tool: Path, tmp_path: Path) -> None:
    ending = _ended(tool, tmp_path, on_gpus=True)
    assert list(ending.held.values()) == [700 * MIB]
    assert not any(is_running(pid) for pid in ending.held)
    assert ending.survivors == ()


def _ended(tool: Path, tmp_path: Path, *, on_gpus: bool) -> Ending:
    """The end of a program that lists itself among those that use the GPU, and is never ready."""
    program = f"import os, time; open({str(tool / 'rows')!r}, 'w').write(f'{{os.getpid()}}, 700\\n'); time.sleep(60)"
    start = Start(
        argv=(sys.executable, "-S", "-c", program),
        environ={"PATH": f"{tool}:/bin:/usr/bin"},
        log=tmp_path / "log",
        url="http://127.0.0.1:9",
        drain=1.0,
        on_gpus=on_gpus,
    )

    class Watcher:
        def started(self, pid: int) -> None:
            # It is given up soon, and has to have listed itself by then.
            await_true(lambda: f"{pid}, " in (tool / "rows").read_text())

        def loading(self, stage: Stage, *, elapsed: float) -> None:
            pass

        def ready(self, tasks: tuple[str, ...], *, elapsed: float) -> None:
            pass

        def stopping(self, asked: object, *, patience: float) -> None:
            pass

    with StopRequests() as requests:
        return launch.run(start, requests=requests, watcher=Watcher(), timeout=0.5)


@pytest.mark.sweep
def test_stop_says_what_is_held(yard: Yard, tool: Path) -> None:
    """A server of the stand-in, whose record is made to say that its build uses GPUs."""
    record = yard.detach()
    (path,) = yard.records
    changes.write_file(path, json.dumps(json.loads(path.read_bytes()) | {"device": "cuda"}))
    (tool / "rows").write_text(f"{record.engine_pid}, 1234\n")
    done = yard("stop", env={"PATH": f"{tool}{os.pathsep}{os.environ['PATH']}"})  # noqa: TID251 - of the tests
    assert (done.code, done.stdout) == (1, f"stopped {TINY} ({record.id})\n")
    assert done.stderr == (
        "error: vLLM has ended, but the driver still holds 1.3 GB of memory on the GPU for it "
        f"(pid {record.engine_pid})\nhint: {release.HINT}\n"
    )
    yard.assert_nothing_is_left(record)
