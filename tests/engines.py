"""The real vLLM on the CPU, as tests start it: its interpreter, its environment, its processes."""

import contextlib
import os
from pathlib import Path

import pytest

from tests.serving import session_of

TINY = "acme/tiny-llama"
KV_CACHE = ("--kv-cache-memory-bytes", "67108864")
SMALL = ("--enforce-eager", *KV_CACHE)
# One process less and no compilation: a start of some 20 seconds instead of 40, on two cores.
UNI = ("--", "--distributed-executor-backend", "uni", "--enforce-eager")
FAST = (*UNI, *KV_CACHE)
START = 240.0


def interpreter() -> Path:
    """The interpreter of the real vLLM."""
    named = os.environ.get("MODELCTL_TEST_ENGINE_PYTHON")  # noqa: TID251 - the tests' own
    if not named or not Path(named).exists():
        pytest.fail("there is no vLLM to test with: `modelctl engine install --cpu`, or MODELCTL_TEST_ENGINE_PYTHON")
    return Path(named)


def environment(engine: Path, caches: Path) -> dict[str, str]:
    """What every start of the real vLLM needs in a test."""
    return {
        "MODELCTL_VLLM_PYTHON": str(engine),
        "VLLM_CACHE_ROOT": str(caches),
        # Else vLLM looks for its own address by asking for a way to the internet.
        "VLLM_HOST_IP": "127.0.0.1",
    }


def imports(pid: int) -> bool:
    """Whether a process has begun to import vLLM, of which torch is the first large part."""
    try:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def spawned(parent: int) -> list[int]:
    """The processes of vLLM that one of them started: EngineCore of the API server, workers of EngineCore."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry.name}/stat").read_bytes()
                words = Path(f"/proc/{entry.name}/cmdline").read_bytes()
                if int(stat[stat.rindex(b")") + 2 :].split()[1]) == parent and (
                    b"spawn_main" in words or b"VLLM::" in words
                ):
                    found.append(int(entry.name))
    return found


def naming(folder: Path) -> list[int]:
    """The processes that have a folder in their environment or on their command line."""
    word, found = os.fsencode(folder), []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                texts = [Path(f"/proc/{entry.name}/{name}").read_bytes() for name in ("environ", "cmdline")]
                if any(word in text for text in texts):
                    found.append(int(entry.name))
    return found


def shared_memory(leader: int) -> set[Path]:
    """The files in shared memory that the processes of a server have mapped."""
    found = set()
    for pid in session_of(leader):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
                path = line.split(maxsplit=5)[-1]
                if path.startswith("/dev/shm/"):  # noqa: S108 - looked at only
                    found.add(Path(path.removesuffix(" (deleted)")))
    return found
