"""Things in a store that belong to another user, as containers leave them: they cannot be replaced or removed."""

import os
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from modelctl.project import Project
from modelctl.store import layout
from modelctl.store.model import Problem


def fix(folder: Path) -> str:
    """The command that makes a folder the user's own."""
    return f"sudo chown -R $(id -u):$(id -g) {shlex.quote(str(folder))}"


def of_folder(folder: Path, owners: Collection[int]) -> Iterator[Problem]:
    """A problem, where some of a folder's owners are not the user. To root everything belongs."""
    user = os.geteuid()
    strangers = sorted(set(owners) - {user})
    if strangers and user != 0:
        whose = "root" if strangers == [0] else " and ".join(f"user {uid}" for uid in strangers)
        yield Problem("owner", f"some of `{folder.name}` belongs to {whose}", fix(folder))


def of_project(project: Project) -> Iterator[Problem]:
    """A problem, where the folders around the models are another user's."""
    hub = project.hub
    owners = set()
    for folder in (project.models_dir, hub, layout.shared_blobs(hub), hub / ".locks"):
        try:
            owners.add(folder.lstat().st_uid)
        except OSError:
            continue
    yield from of_folder(project.models_dir, owners)
