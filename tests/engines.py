"""The real vLLM in tests: how it is found, and how it starts fastest."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

# One process less and no compilation: a start of some 20 seconds instead of 40, on two cores.
UNI = ("--", "--distributed-executor-backend", "uni", "--enforce-eager")
FAST = (*UNI, "--kv-cache-memory-bytes", "67108864")
START = 240.0


def interpreter() -> Path:
    """The interpreter of the real vLLM."""
    named = os.environ.get("MODELCTL_TEST_ENGINE_PYTHON")  # noqa: TID251 - the tests' own
    if not named or not Path(named).exists():
        pytest.fail("there is no vLLM to test with: `modelctl engine install --cpu`, or MODELCTL_TEST_ENGINE_PYTHON")
    return Path(named)


def environment(python: Path, *, caches: Path, temporary: str) -> Mapping[str, str]:
    """In which `modelctl serve` finds it, and leaves what it has found out once about an architecture in `caches`."""
    return {
        "MODELCTL_VLLM_PYTHON": str(python),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CACHE_ROOT": str(caches),
        # Else vLLM looks for its own address by asking for a way to the internet.
        "VLLM_HOST_IP": "127.0.0.1",
        "TMPDIR": temporary,
    }
