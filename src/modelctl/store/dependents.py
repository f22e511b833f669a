"""Which repositories have links that lead into others of a hub folder: they break when what they lead to is moved away.

Looked at are names and link texts only, in every hub folder that is known: this one, the target, the project's, the
user's cache. Of folders elsewhere nobody knows.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from modelctl.errors import ModelctlError
from modelctl.store import naming
from modelctl.store.layout import RepoPaths

# So many links in a row the kernel follows.
_MOST_LINKS = 40


class Lead(NamedTuple):
    """A link of a repository that leads into another one, or to a shared payload."""

    paths: RepoPaths
    link: Path


Leads = Mapping[str, frozenset[Lead]]


def find(source: Path, others: Iterable[Path]) -> Leads:
    """By the real path of a repository's folder, or of a shared payload, of `source`: the links that lead there."""
    real = os.path.realpath(source)
    found: dict[str, set[Lead]] = {}
    for hub, paths in _repositories((source, *others)):
        folder = os.path.abspath(paths.folder)  # noqa: PTH100 - links stay what they are
        for link in _links(folder):
            places = _on_its_way(link, folder, real)
            if hub is source:
                places.discard(f"{real}/{paths.folder.name}")
                if os.path.dirname(link) == f"{folder}/blobs":  # noqa: PTH120 - strings all the way
                    # A blob that is a link to a payload is what the shared store's own lists are about.
                    places = {place for place in places if not place.startswith(f"{real}/blobs/")}
            for place in places:
                found.setdefault(place, set()).add(Lead(paths, Path(link)))
    return {place: frozenset(leads) for place, leads in found.items()}


def _repositories(hubs: Iterable[Path]) -> Iterator[tuple[Path, RepoPaths]]:
    """Every model and dataset of some hub folders, of which two may be one; none of one that cannot be read."""
    seen: set[str] = set()
    for hub in hubs:
        real = os.path.realpath(hub)
        if real in seen:
            continue
        seen.add(real)
        try:
            targets = naming.all_targets(hub, datasets=True)
        except ModelctlError:
            continue
        for target in targets:
            yield hub, target.paths


def _links(folder: str) -> Iterator[str]:
    """The links below a folder; what is behind a folder that is a link itself is another's."""
    if os.path.islink(folder):  # noqa: PTH114 - a Path costs more than the call
        yield folder
        return
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        yield entry.path
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue


def _on_its_way(link: str, folder: str, hub: str) -> set[str]:
    """The repositories and payloads of a hub folder that a link leads through, and that in which it ends."""
    places: set[str] = set()
    at = link
    for _ in range(_MOST_LINKS):
        try:
            text = os.readlink(at)  # noqa: PTH115
        except OSError:
            break
        above = os.path.dirname(at)  # noqa: PTH120
        named = os.path.normpath(os.path.join(above, text))  # noqa: PTH118
        if at == link and named.startswith(f"{folder}/"):
            # What lies inside of its own folder is looked at by itself.
            break
        reached = os.path.join(os.path.realpath(above), text)  # noqa: PTH118
        # Every folder on the way to it may be a link as well.
        at = os.path.join(os.path.realpath(os.path.dirname(reached)), os.path.basename(reached))  # noqa: PTH118, PTH119, PTH120
        if os.path.basename(at) in {"", ".", ".."}:  # noqa: PTH119
            at = os.path.realpath(at)
        places |= {place for path in (named, at) if (place := _place(path, hub))}
    return places


def _place(path: str, hub: str) -> str | None:
    """The repository's folder in which a path of a hub folder lies, or the payload that it is."""
    if not path.startswith(f"{hub}/"):
        return None
    parts = path[len(hub) + 1 :].split("/")
    return "/".join((hub, *parts[:3])) if parts[0] == "blobs" else f"{hub}/{parts[0]}"
