"""Where our own environments of vLLM lie: one folder, each under a name of its own, a record of the one in use.

The record is written last and removed first: what it does not name is the rest of an interrupted run, and is swept by
the next.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelctl.errors import BusyError, NotFoundError
from modelctl.progress import Progress
from modelctl.store import changes, disk, lock

RECORD = "engine.json"
_PREFIX = "vllm"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder, as something that one process at a time changes."""

    path: Path

    @property
    def id(self) -> str:
        """Its name for the user."""
        return "modelctl engine"

    @property
    def lock(self) -> Path:
        """Beside the folder, which goes with its last environment."""
        return self.path.with_name(f"{self.path.name}.lock")


@dataclass(frozen=True, slots=True)
class Record:
    """The environment in use: its folder's name, and what was installed there, when and how big."""

    folder: str
    distribution: str
    version: str
    size: int
    installed: datetime


@dataclass(frozen=True, slots=True)
class Removal:
    """What `engine remove` would free: the folders of all environments, whole ones and rests."""

    home: Path
    folders: tuple[Path, ...]
    version: str | None
    size: int


def default() -> Path:
    """The folder under the user's data directory."""
    import platformdirs

    return Path(platformdirs.user_data_dir("modelctl")) / "engine"


def log() -> Path:
    """Where the tool's output goes, under the user's state directory."""
    import platformdirs

    return Path(platformdirs.user_state_dir("modelctl")) / "engine-install.log"


def record(home: Path) -> Record | None:
    """What the last installation wrote when it was whole, `None` where none was."""
    try:
        value = json.loads((home / RECORD).read_bytes())
        match value:
            case {
                "folder": str(folder),
                "distribution": str(distribution),
                "version": str(version),
                "size": int(size),
                "installed": str(installed),
            } if folder == Path(folder).name and folder.startswith(_PREFIX):
                return Record(folder, distribution, version, size, datetime.fromisoformat(installed))
    except (OSError, ValueError):
        pass
    return None


def python(home: Path) -> Path | None:
    """The interpreter of the environment in use, `None` where there is none or its Python is gone from the machine."""
    found = record(home)
    path = home / found.folder / "bin" / "python" if found else None
    return path if path and path.exists() else None


def publish(home: Path, folder: Path, *, distribution: str, version: str) -> None:
    """Make an environment the one in use."""
    value = {
        "schema": 1,
        "folder": folder.name,
        "distribution": distribution,
        "version": version,
        "size": disk.taken(folder),
        "installed": datetime.now(UTC).isoformat(),
    }
    changes.write_file(home / RECORD, json.dumps(value, indent=2) + "\n")


def rests(home: Path) -> tuple[Path, ...]:
    """Environments not in use: left by an interrupted run, or replaced while a server still ran from it."""
    found = record(home)
    return tuple(folder for folder in _environments(home) if not found or folder.name != found.folder)


def sweep(home: Path) -> None:
    """Free the rests, but for those that something runs from."""
    changes.free([folder for folder in rests(home) if user_of(folder) is None])
    changes.make_folder(home)


def removal(home: Path) -> Removal:
    """What there is to remove; `NotFoundError` where there is nothing."""
    folders = tuple(_environments(home))
    if not folders:
        raise NotFoundError(f"there is no vLLM in `{home}`", hint="see which one is used with `modelctl engine status`")
    found = record(home)
    return Removal(home, folders, found.version if found else None, sum(map(disk.taken, folders)))


def remove(planned: Removal, progress: Progress) -> int:
    """Free all environments, and return the bytes that the disk got back."""
    with lock.held(Home(planned.home), "engine remove"):
        for folder in planned.folders:
            if (pid := user_of(folder)) is not None:
                raise BusyError(
                    f"vLLM runs from `{folder}` (pid {pid})",
                    hint="`modelctl ps` shows the servers, `modelctl stop` ends one; then run the same command again",
                )
        progress.begin("removing", total=planned.size)
        (planned.home / RECORD).unlink(missing_ok=True)
        freed = 0
        for folder in planned.folders:
            freed += changes.free([folder])
        # What a cache shares is removed too, and gives nothing back.
        progress.advance(planned.size)
        return freed


def user_of(folder: Path, *, processes: Path = Path("/proc")) -> int | None:
    """A process with a file of `folder` in its memory, as far as the user may see that; Linux alone can tell."""
    inside = f" {os.path.realpath(folder)}/".encode(errors="surrogateescape")
    for process in processes.glob("[0-9]*"):
        try:
            if inside in (process / "maps").read_bytes():
                return int(process.name)
        except OSError:
            continue
    return None


def _environments(home: Path) -> list[Path]:
    """The folders that are ours to remove, each by its name."""
    if not home.is_dir():
        return []
    return sorted(path for path in home.iterdir() if path.name.startswith(_PREFIX) and not path.is_symlink())
