"""What following the Hub brings to the models that are here.

A revision is followed in the shape that it has here: the rule, and what is here beyond it. The cache layout does not
say how a revision was asked for, so the shape is read from its files (`_shape`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelctl.errors import ModelctlError, NotFoundError
from modelctl.hub import following
from modelctl.hub import plan as planning
from modelctl.hub.client import Hub
from modelctl.hub.following import Followed, Tracked
from modelctl.hub.plan import Choice, PullPlan
from modelctl.ref import ModelRef
from modelctl.store import borrowed, checkpoint, condition, imports, links, removal, scan, standing, tree
from modelctl.store.disposal import Failure
from modelctl.store.model import Model, Revision
from modelctl.store.removal import Target
from modelctl.store.tree import TreeFile

_SHORT = 12


@dataclass(frozen=True, slots=True)
class Current:
    """A branch or tag that has not moved."""

    id: str
    ref: str
    commit: str


@dataclass(frozen=True, slots=True)
class Left:
    """A model, or a revision of it, that nothing moves: why, and the command that would be meant instead."""

    id: str
    why: str
    fix: str | None


@dataclass(frozen=True)
class Update:
    """A branch or tag that is to follow the Hub: the pull, and the names of files by what becomes of them.

    `old` is the commit that it is compared with.
    """

    pull: PullPlan
    ref: str
    old: str
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class UpdatePlan:
    """What following the Hub comes to for some models. A model that cannot be followed is a failure beside the rest."""

    updates: tuple[Update, ...]
    current: tuple[Current, ...]
    left: tuple[Left, ...]
    failures: tuple[Failure, ...]


def plan(hub: Hub, targets: Iterable[Target], *, caches: Sequence[Path] = (), reuse: bool = True) -> UpdatePlan:
    """Find out what following the Hub brings to models, or to some of their branches and tags. Writes nothing.

    `NotFoundError` for a branch or tag that is not here. `caches` and `reuse` are as for a pull.
    """
    wanted: list[Tracked] = []
    left: list[Left] = []
    updates: list[Update] = []
    current: list[Current] = []
    failures: list[Failure] = []
    for target in targets:
        model = scan.scan_model(target.paths, "project")
        if model is None:
            gone = NotFoundError(f"no model `{target.paths.id}` here", hint="`modelctl list` shows what is here")
            failures.append(Failure(target.paths.id, gone))
        else:
            wanted.append(_wanted(following.track(model), target.revisions, left))
    for tracked in following.ask(hub, [one for one in wanted if one.followed]):
        model_id, error = tracked.model.id, tracked.error
        current += [
            Current(model_id, one.ref, one.commit)
            for one in tracked.followed
            if one.commit is not None and one.newest == one.commit
        ]
        for one in tracked.moved:
            try:
                updates.append(_update(hub, tracked, one, caches=caches, reuse=reuse))
            except ModelctlError as exc:
                error = error or exc
        failures += [Failure(model_id, error)] if error is not None else []
    return UpdatePlan(tuple(updates), tuple(current), tuple(left), tuple(failures))


def left_behind(update: Update) -> int | None:
    """Bytes that the disk gives back for the old revision; `None` where a ref still names it, or somebody asked for it.

    To be asked after the update.
    """
    paths, commit = update.pull.paths, update.old
    there = links.read(paths)
    if commit in there.refs.values() or commit not in there.snapshots or standing.is_pinned(paths, commit):
        return None
    (removed,) = removal.plan(paths.hub, [Target(paths, (commit,))]).removals
    return removed.frees


def _wanted(tracked: Tracked, revisions: Sequence[str], left: list[Left]) -> Tracked:
    """The model with those of its branches and tags that are meant; what nothing moves is added to `left`."""
    model = tracked.model
    if lender := borrowed.lender(tracked.paths):
        left.append(Left(model.id, f"it is a link to the model in `{lender}`, and nothing is written there", None))
        return replace(tracked, followed=())
    if not revisions:
        if not tracked.followed:
            left.append(_left(tracked))
        return tracked
    named = {one.ref: one for one in tracked.followed}
    for name in revisions:
        if name in named:
            continue
        commit = scan.revision_of(model, name).commit
        left.append(_imported(tracked) or Left(model.id, f"{commit[:_SHORT]} is a commit, which never moves", None))
    return replace(tracked, followed=tuple(named[name] for name in revisions if name in named))


def _left(tracked: Tracked) -> Left:
    """Why a whole model is left alone."""
    if imported := _imported(tracked):
        return imported
    model = tracked.model
    wrong = next((problem for problem in model.problems if problem.fix), None)
    if model.revisions and (wrong is None or wrong.kind not in {"ref", "unreadable"}):
        commits = ", ".join(revision.commit[:_SHORT] for revision in model.revisions)
        return Left(model.id, f"no branch or tag names {commits}", f"modelctl pull {model.id}")
    return Left(model.id, wrong.message if wrong else f"it is {model.state}", wrong.fix if wrong else None)


def _imported(tracked: Tracked) -> Left | None:
    """Why a model is left alone that was imported, with the command that imports it once more."""
    for revision in tracked.model.revisions:
        if revision.refs and (record := imports.of(tracked.paths, revision)):
            return Left(tracked.model.id, "it was imported, and follows no Hub", imports.command(tracked.paths, record))
    return None


def _update(hub: Hub, tracked: Tracked, one: Followed, *, caches: Sequence[Path], reuse: bool) -> Update:
    model, paths = tracked.model, tracked.paths
    old = _compared(model, one)
    listing = tree.read(paths, old.commit)
    choice, variant = _shape(old, listing)
    pull = planning.plan(
        hub,
        paths.hub,
        ModelRef(model.id, one.ref, variant),
        choice=replace(choice, reuse=reuse),
        caches=caches,
        resolved=one.resolved,
    )
    before = _contents(old, listing)
    after: dict[str, str | int | None] = {file.name: file.digest for file in pull.files}
    sizes = {file.name: file.size for file in pull.files}
    changed = [
        name
        for name in before.keys() & after.keys()
        if before[name] != (after[name] if isinstance(before[name], str) else sizes[name])
    ]
    return Update(
        pull,
        one.ref,
        old.commit,
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(changed)),
        tuple(sorted(before.keys() - after.keys())),
    )


def _compared(model: Model, one: Followed) -> Revision:
    """The revision that a branch or tag names; where that is not here, the one that stands for the model."""
    revisions = [revision for revision in model.revisions if revision.files]
    named = (revision for revision in revisions if revision.commit == one.commit)
    found = next(named, None) or condition.default_of(revisions)
    if found is None:
        raise NotFoundError(f"`{model.id}` has no revision here", hint=f"`modelctl pull {model.id}` fetches it")
    return found


def _shape(revision: Revision, listing: dict[str, TreeFile] | None) -> tuple[Choice, str | None]:
    """The choice, and the quantisation, that brings of another commit what this revision has of its own.

    All that the commit has: all. What vLLM loads: that, the quantisations that are here, and other files of the same
    names. Anything less was chosen by patterns, or is damaged: the files of the same names, so that nobody gets
    weights that were left out.
    """
    here = {file.name for file in revision.files}
    read = checkpoint.read(revision, listing=listing, headers=False)
    chosen = read.selection
    is_whole = bool(chosen.weights) and not chosen.missing and chosen.names <= here
    if listing is not None and set(listing) <= here and not (is_whole and set(listing) == chosen.names):
        return Choice(all_files=True), None
    if not is_whole:
        return Choice(only=frozenset(here)), None
    labels = [label for label, names in chosen.choices.items() if here & set(names)]
    variant = next((label for label in labels if chosen.choices[label] == chosen.weights), None)
    beside = here - chosen.names - {name for names in chosen.choices.values() for name in names}
    return Choice(beside=frozenset(beside), variants=tuple(labels)), variant


def _contents(revision: Revision, listing: dict[str, TreeFile] | None) -> dict[str, str | int | None]:
    """What tells the content of each file of a revision: its hash, where links say it, else its size."""
    known: dict[str, str | int | None] = {}
    for file in revision.files:
        entry = Path(file.entry)
        if listing is not None and file.name in listing:
            known[file.name] = listing[file.name].digest
        else:
            known[file.name] = entry.readlink().name if entry.is_symlink() else file.size
    return known
