"""One question to another program, and its answer within a bounded time."""

import subprocess
from collections.abc import Mapping, Sequence


def ask(argv: Sequence[str], *, environ: Mapping[str, str], patience: float) -> "subprocess.CompletedProcess[str]":
    """What a program says, and how it ends; `TimeoutExpired` after `patience` seconds, `OSError` if it cannot run."""
    return subprocess.run(
        argv,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=patience,
        check=False,
    )
