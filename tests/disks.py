"""Other file systems for a test: one to move to, one that is soon full."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the one other file system that every Linux has


def disk_use(folder: Path) -> int:
    """What the disk spends on the files in a folder, each once."""
    found = {path.lstat().st_ino: path.lstat() for path in folder.rglob("*")}
    return sum(status.st_blocks * 512 for status in found.values() if stat.S_ISREG(status.st_mode))


@contextmanager
def another_disk(here: Path) -> Iterator[Path]:
    """A folder on another file system than `here`."""
    if not _SHARED_MEMORY.is_dir() or _SHARED_MEMORY.stat().st_dev == here.stat().st_dev:
        pytest.skip("there is no other file system")
    folder = Path(tempfile.mkdtemp(dir=_SHARED_MEMORY, prefix="modelctl-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of its own with so many bytes, mounted at `folder`. Only root can."""
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    if subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)  # noqa: S607 - where mount is, it is


@contextmanager
def bind_mount(source: Path, folder: Path, *, read_only: bool = False) -> Iterator[Path]:
    """A folder shown at a second place, as containers are given theirs: the same disk, and no rename leads there.

    It may be the same place: then `read_only` lets nobody write there, be it root.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount")
    if subprocess.run([mount, "--bind", source, folder], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        if read_only:
            subprocess.run([mount, "-o", "remount,bind,ro", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)  # noqa: S607 - where mount is, it is
