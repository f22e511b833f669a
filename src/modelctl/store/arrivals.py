"""What an earlier migration has brought: named once more it is whole in the target, and not in the source any more.

Whoever was killed at the very end runs the same command again, and is not told that there is no such model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from modelctl.errors import NotFoundError, UsageError
from modelctl.store import disposal, links, naming
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Links
from modelctl.store.removal import Target


def named(
    source: Path, target: Path, words: Sequence[str], *, revision: str | None, parts: bool, datasets: bool
) -> tuple[list[str], list[str]]:
    """The words that still mean something of the source, or nothing at all; and the names of what has arrived."""
    left: list[str] = []
    arrived: list[str] = []
    for word in words:
        try:
            naming.targets(source, [word], revision=revision, parts=parts, datasets=datasets)
        except NotFoundError:
            found = _in_target(target, word, revision=revision, parts=parts, datasets=datasets)
            arrived += found
            left += [] if found else [word]
        else:
            left.append(word)
    return left, list(dict.fromkeys(arrived))


def of_model(wanted: Target, target: Path) -> Mapping[str, str]:
    """The revisions of those wanted that are whole in the target, with their commits, by the names that they have."""
    if not wanted.revisions:
        return {}
    there = links.read(RepoPaths(target, wanted.paths.id, wanted.paths.found))
    commits = {name: there.refs.get(name) or next(iter(links.commits(there, name)), "") for name in wanted.revisions}
    return {name: commit for name, commit in commits.items() if _is_whole(there, {commit})}


def _in_target(target: Path, word: str, *, revision: str | None, parts: bool, datasets: bool) -> list[str]:
    try:
        found = naming.targets(target, [word], revision=revision, parts=parts, datasets=datasets)
    except (NotFoundError, UsageError):
        return []
    names = []
    for one in found:
        there = links.read(one.paths)
        come = of_model(one, target)
        if come.keys() != set(one.revisions) or not (one.revisions or _is_whole(there, set(there.snapshots))):
            return []
        names += [f"{one.paths.id}@{name}" for name in one.revisions] or [one.paths.id]
    return names


def _is_whole(there: Links, commits: set[str]) -> bool:
    """Whether each entry of some revisions leads to something, and nothing is still on its way."""
    entries = [entry for commit in commits for entry in there.snapshots.get(commit, ())]
    return bool(entries) and all(entry.path.exists() for entry in entries) and not disposal.exists(there.paths.incoming)
