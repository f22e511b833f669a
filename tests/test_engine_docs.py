"""The session that docs/serving.md shows is one with the real vLLM: each command is typed, each answer compared."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.engine import ports
from modelctl.share import samples
from tests.command import Command
from tests.hub.loopback import Hub

pytestmark = pytest.mark.engine

PAGE = Path(__file__).parent.parent / "docs" / "serving.md"
SESSION = re.search(r"^## A first session$(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
PORT = 8001
# What differs from run to run, and from machine to machine.
VARIES = (
    (r"\d+(\.\d+)? ([kMG]?B)\b", "SIZE"),
    (r"(?<=, )fetched SIZE in .*?(?=\))", "RATE"),
    (r"\b\d+\.\d s\b", "SECONDS"),
    (r"\b\d{8}T\d{6}Z\.[0-9a-f]{8}\b", "WHEN"),
    (r"\b[0-9a-f]{8}\b", "SERVER"),
    (r"\b[0-9a-f]{12}\b", "COMMIT"),
    (r"(?<=pid )\d+", "PID"),
    (r"(just now|\d+ \w+ ago)", "AGE"),
    (r"\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"/\S*/\.local/state", "STATE"),
    (r"/\S*/\.env", "ENV"),
    (r"embd-[0-9a-f]{16}", "ID"),
    (r'"created":\d+', "CREATED"),
    (r"127\.0\.0\.1:\d+ - ", "SOMEBODY"),
    (r"named by `MODELCTL_VLLM_PYTHON`|installed by `modelctl engine install`", "HOW"),
    (r" +", " "),
    (r"^ ", ""),
)


def typed() -> Iterator[tuple[str, str]]:
    """The commands of the page, each with what it shows for it."""
    assert SESSION is not None
    for block in re.findall(r"^```console\n(.*?)^```$", SESSION[1], re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.replace("\\\n", "").partition("\n")
            yield command, shown


def plain(text: str) -> list[str]:
    for pattern, word in VARIES:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text.splitlines()


def test_the_session_that_is_shown(run: Command, hub: Hub, project: Path, vllm: Path) -> None:
    samples.lay_out_sample(hub.store.hub)
    port = str(ports.choose("127.0.0.1"))
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        env = run.environment(
            {
                **hub.environ,
                "MODELCTL_VLLM_PYTHON": str(vllm),
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "TMPDIR": temporary,
                "VLLM_HOST_IP": "127.0.0.1",
            }
        )
        told = []
        try:
            for command, _ in typed():
                done = subprocess.run(
                    ["/bin/sh", "-c", command.replace(str(PORT), port)],
                    cwd=project,
                    env=env,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    timeout=240,
                    check=False,
                )
                told.append((command, done.stdout.replace(port, str(PORT))))
        finally:
            run("stop", "--all", "--now")
    assert [(command, plain(said)) for command, said in told] == [(command, plain(said)) for command, said in typed()]
