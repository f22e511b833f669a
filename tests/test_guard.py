"""The fence round the tests bites: in this process, in Python children, and in the programs they start."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import NOBODY, Command
from tests.guard import fence

# An address for documentation: even an unfenced test would reach nobody.
STRANGER = "192.0.2.1"


@pytest.fixture
def trespasses() -> Callable[[], str]:
    """What was written down so far; taking it makes the test pass the yard's own check."""
    record = Path(os.environ[fence.RECORD])  # noqa: TID251 - the fence's own

    def take() -> str:
        text = record.read_text(encoding="utf-8") if record.exists() else ""
        record.unlink(missing_ok=True)
        return text

    return take


def test_no_other_machine_is_reached(trespasses: Callable[[], str]) -> None:
    with socket.socket() as connection, pytest.raises(fence.TrespassError, match=STRANGER):
        connection.connect((STRANGER, 80))
    with pytest.raises(fence.TrespassError, match="huggingface"):
        socket.getaddrinfo("huggingface.co", 443)
    assert len(trespasses().splitlines()) == 2


def test_a_datagram_is_not_sent(trespasses: Callable[[], str]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        with contextlib.suppress(OSError):
            # How programs ask for this machine's own address: nothing is sent.
            asking.connect((STRANGER, 80))
        assert not trespasses()
        with pytest.raises(fence.TrespassError, match="sendto"):
            asking.sendto(b"x", (STRANGER, 80))
    assert trespasses()


def test_loopback_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


@pytest.mark.parametrize(
    "code",
    [
        f"import socket; socket.socket().connect(({STRANGER!r}, 80))",
        "import urllib.request; urllib.request.urlopen('http://huggingface.co', timeout=1)",
        f"import httpx; httpx.get('http://{STRANGER}/', trust_env=False, timeout=1)",
        "import pathlib; pathlib.Path({fenced!r}, 'hub', 'x').read_bytes()",
        "import os; os.listdir({fenced!r})",
        "import os; os.rename('models', os.path.join({fenced!r}, 'models'))",
    ],
)
def test_children_are_fenced(run: Command, trespasses: Callable[[], str], code: str) -> None:
    fenced = os.environ[fence.FENCED].split(os.pathsep)[0]  # noqa: TID251 - the fence's own
    done = run.program([sys.executable, "-c", code.replace("{fenced!r}", repr(fenced))])
    if "urllib" in code:
        # The proxies that lead nowhere come first.
        assert "Connection refused" in done.stderr
    else:
        assert "TrespassError: a test may not do this" in done.stderr
        assert trespasses()
    assert done.code == 1


def test_the_command_is_fenced(run: Command, trespasses: Callable[[], str]) -> None:
    fenced = os.environ[fence.FENCED].split(os.pathsep)[0]  # noqa: TID251 - the fence's own
    done = run("list", env={"HF_HOME": fenced})
    assert done.code == 1
    assert "TrespassError: a test may not do this" in done.stderr
    assert fenced in trespasses()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may run the command as somebody else")
def test_the_command_runs_as_somebody_else(run: Command, project: Path) -> None:
    done = run("--version", user=NOBODY)
    assert (done.code, done.stderr) == (0, "")
    code = "import os, sys; os.mkdir(sys.argv[1])"
    refused = run.program([sys.executable, "-c", code, project / "new"], user=NOBODY)
    assert "PermissionError" in refused.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, a program that is not Python")
def test_other_programs_find_only_a_proxy_that_leads_nowhere() -> None:
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "5", "https://huggingface.co"],  # noqa: S607 - whichever there is
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 7
    assert "127.0.0.1" in done.stderr


def test_home_and_caches_are_the_tests_own(home: Path) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HF_HOME"):
        assert Path(os.environ[name]).is_relative_to(home)  # noqa: TID251 - what the fence set
    assert Path.home() == home
    assert "HF_TOKEN" not in os.environ  # noqa: TID251 - what the fence set
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE, constants.ENDPOINT)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, encoding="utf-8").stdout
    assert told.split() == [str(home / ".cache" / "huggingface" / "hub"), "http://127.0.0.1:9"]
