"""Which revisions of a model are garbage, and which of those that no ref names are not.

A revision goes only where it is written down that a ref has left it behind (`store.standing`), that ref still names one
that is here, and the model is whole without it. A revision that was pulled by its commit stays, and so does one of
which nothing is known: other tools do not write down what they leave behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from modelctl.ref import is_commit
from modelctl.store import disposal, removal, scan, standing
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Links
from modelctl.store.remains import Leftover, weighed
from modelctl.store.removal import Target
from modelctl.store.standing import Standing

_SHORT = 12


@dataclass(frozen=True, slots=True)
class Choice:
    """Which old revisions stay all the same.

    `keep` of each model, the newest; those that begin with one of the texts in `named`; those of models in `busy`,
    which says by whom they are served.
    """

    keep: int = 0
    named: frozenset[str] = frozenset()
    busy: Mapping[str, str] = field(default_factory=dict)


def of_model(there: Links, choice: Choice) -> list[Leftover]:
    """The revisions of a model that no ref names: those that go together, and each of the others with its reason."""
    paths = there.paths
    nameless = sorted(set(there.snapshots) - set(there.refs.values()))
    if not nameless or len(there.snapshots) == 1 or paths.folder.is_symlink():
        return []
    lefts = [_left(paths, commit) for commit in nameless]
    if reason := _reason_to_stay(there, choice):
        return [replace(left, stays=reason) for left in lefts]
    found = [replace(left, stays=_stays(there, left.commits[0], choice)) for left in lefts]
    never = datetime.min.replace(tzinfo=UTC)
    going = [left for left in found if left.stays is None]
    going.sort(key=lambda left: left.modified or never, reverse=True)
    kept = [replace(left, stays=f"`--keep {choice.keep}`") for left in going[: choice.keep]]
    staying = [left for left in found if left.stays is not None]
    return [*_together(paths, going[choice.keep :]), *kept, *staying]


def _reason_to_stay(there: Links, choice: Choice) -> str | None:
    """Why all revisions of a model stay."""
    paths = there.paths
    if there.unreadable or there.misplaced or not all(map(is_commit, there.refs.values())):
        return "its refs cannot all be read"
    if not there.refs:
        return "no ref names any revision of it"
    if paths.id in choice.busy:
        return f"it is being served by {choice.busy[paths.id]}"
    model = scan.scan_model(paths, "project")
    if model is None or model.state != "ready":
        return "the model is not whole without it"
    return None


def _stays(there: Links, commit: str, choice: Choice) -> str | None:
    """Why one revision stays, `None` where it goes."""
    known = standing.read(there.paths, commit)
    if any(commit.startswith(text) for text in choice.named):
        return "the project's settings name it"
    if known is not None and known.is_pinned:
        return "it was pulled by its commit"
    if known is None or there.refs.get(known.ref or "") not in there.snapshots:
        return f"nothing tells that a ref has left it behind; `modelctl rm {there.paths.id}@{commit[:_SHORT]}` takes it"
    return None


def _left(paths: RepoPaths, commit: str) -> Leftover:
    known = standing.read(paths, commit)
    return weighed(Leftover("revision", paths.id, (_dated(paths, commit),), _why(known), commits=(commit,)))


def _together(paths: RepoPaths, lefts: Sequence[Leftover]) -> list[Leftover]:
    """Those that go, as one: what they share goes with the last of them."""
    if not lefts:
        return []
    commits = tuple(left.commits[0] for left in lefts)
    (removed,) = removal.plan(paths.hub, [Target(paths, commits)]).removals
    parts = tuple(part for commit in commits for part in disposal.parts(paths, commit))
    return [replace(lefts[0], paths=parts, size=removed.frees, commits=commits)]


def _why(known: Standing | None) -> str:
    if known is None or known.is_pinned or known.successor is None:
        return "no ref names it"
    return f"`{known.ref}` has moved on to {known.successor[:_SHORT]}"


def _dated(paths: RepoPaths, commit: str) -> Path:
    """What tells since when the revision is as it is."""
    record = paths.standing(commit)
    return record if record.exists() else paths.snapshot(commit)
