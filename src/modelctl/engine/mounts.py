"""Where a container of a compose file sees what lies on this machine (pure)."""

from pathlib import Path

from modelctl.engine.command import Lora

# What is mounted, with the place that it has in the container.
Mounts = dict[Path, str]


def of_lora(lora: Lora, mounts: Mounts) -> str:
    """Where an adapter lies in a container; what has to be mounted for that is added to `mounts`."""
    if lora.id is None:
        mounts[lora.path] = f"/loras/{lora.name}"
        return mounts[lora.path]
    # The links of a snapshot lead to blobs: only the whole hub folder is of use.
    hub = lora.path.parents[2]
    target = mounts.setdefault(hub, f"/loras/hub-{len(mounts)}")
    return f"{target}/{lora.path.relative_to(hub)}"


def of_file(path: Path, key: str, mounts: Mounts) -> str:
    """Where a file or folder that a flag names lies in a container; added to `mounts` as an adapter is."""
    for source, target in mounts.items():
        if path.is_relative_to(source):
            return str(Path(target) / path.relative_to(source))
    mounts[path] = f"/files/{key}/{path.name}"
    return mounts[path]


def source(path: Path, folder: Path) -> str:
    """What is mounted, as a compose file in the project's folder names it."""
    return f"./{path.relative_to(folder)}" if path.is_relative_to(folder) else str(path)
