# Runs at each event of each process, where `Path` objects would cost too much.
# ruff: noqa: PTH118
"""A file system without links, symbolic or hard, as FAT has none: every attempt to make one fails as it does there."""

import errno
import os
import sys
from typing import Any

FOLDER = "MODELCTL_TEST_LINKLESS"


def forbid_links(folder: str) -> None:
    """Let nobody in this process make a link below a folder, for good."""
    below = os.path.join(os.path.realpath(folder), "")

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"os.symlink", "os.link"} and os.path.realpath(os.fsdecode(arguments[1])).startswith(below):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), arguments[1])

    sys.addaudithook(watch)
