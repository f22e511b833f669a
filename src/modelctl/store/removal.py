"""Removing models and revisions: plan, execute."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelctl.errors import BusyError, ModelctlError, NotFoundError
from modelctl.progress import Progress
from modelctl.store import deletion, disposal, downloads, layout, links, lock, pulls, shared, trash
from modelctl.store.disposal import Failure
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Links
from modelctl.store.trash import Aside


@dataclass(frozen=True, slots=True)
class Target:
    """A model, or some of its revisions by ref, commit or the beginning of one."""

    paths: RepoPaths
    revisions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes that stay though what goes uses them, and why."""

    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes of one model: all of it (`whole`), or these commits and refs with the blobs that are theirs alone.

    `size` are bytes of content, `frees` those that the disk gives back. Where nothing goes, an interrupted removal of
    the same is finished.
    """

    paths: RepoPaths
    whole: bool = False
    commits: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    blobs: tuple[Path, ...] = ()
    kept: tuple[Kept, ...] = ()
    size: int = 0
    frees: int = 0


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What a removal will do, and what an interrupted one has left to be freed with it."""

    hub: Path
    removals: tuple[Removal, ...]
    leftovers: tuple[Aside, ...]
    leftover_size: int

    @property
    def size(self) -> int:
        """Bytes of content that go."""
        return sum(removal.size for removal in self.removals)

    @property
    def frees(self) -> int:
        """Bytes that the disk gives back."""
        return sum(removal.frees for removal in self.removals) + self.leftover_size


@dataclass(frozen=True, slots=True)
class Removed:
    """A removal that happened, and the bytes that the disk gave back for it, counted as they went."""

    removal: Removal
    freed: int


@dataclass(frozen=True, slots=True)
class RemovalResult:
    """What a removal did."""

    removed: tuple[Removed, ...]
    failures: tuple[Failure, ...]
    leftovers_freed: int

    @property
    def freed(self) -> int:
        """Bytes that the disk gave back, those of interrupted removals among them."""
        return sum(removed.freed for removed in self.removed) + self.leftovers_freed


def plan(hub: Path, targets: Sequence[Target]) -> RemovalPlan:
    """Find out what goes. `NotFoundError` names every target that is not there."""
    leftovers = trash.leftovers(hub)
    unknown: list[str] = []
    removals: list[Removal] = []
    for target in targets:
        there = links.read(target.paths)
        asides = [aside for aside in leftovers if aside.name == target.paths.folder.name]
        if not disposal.exists(target.paths.folder) and not asides:
            unknown.append(f"`{target.paths.id}`")
            continue
        if target.revisions and target.paths.folder.is_symlink():
            raise ModelctlError(
                f"`{target.paths.folder}` is a link to `{target.paths.folder.readlink()}`: its revisions lie elsewhere",
                hint=f"`modelctl rm {target.paths.id}` removes the link",
            )
        missing = [name for name in target.revisions if not _is_known(there, name, asides)]
        unknown += [f"`{target.paths.id}@{name}`" for name in missing]
        removals.append(_chosen(there, target, asides))
    if unknown:
        raise NotFoundError(
            f"not in `{hub}`: {', '.join(unknown)}",
            hint="`modelctl list` shows what is there, `modelctl show` the revisions of a model",
        )
    return RemovalPlan(hub, _weighed(hub, removals), leftovers, deletion.weigh(aside.path for aside in leftovers)[1])


def execute(plan: RemovalPlan, progress: Progress, *, busy: Mapping[str, str] | None = None) -> RemovalResult:
    """Remove what the plan names. What cannot be removed is a failure beside the rest.

    `busy` says of ids by whom they are being served: then `BusyError`, before anything is touched.
    """
    refuse_busy(plan, busy or {})
    removed: list[Removed] = []
    failures: list[Failure] = []
    done = 0
    progress.begin("removing", total=plan.frees)
    users = shared.users_if_any(plan.hub)
    for removal in plan.removals:
        before = done

        def tell(size: int, before: int = before) -> None:
            progress.advance(before + size)

        try:
            freed = sum(disposal.finish(plan.hub, aside, tell, users=users) for aside in _set_aside(removal))
        except ModelctlError as error:
            failures.append(Failure(removal.paths.id, error))
            done += error.details.get("freed", 0)
        else:
            removed.append(Removed(removal, freed))
            done += freed
            progress.file(removal.paths.id, size=removal.size, source="removed")
    shared.trim(plan.hub, users)
    leftovers = disposal.finish_leftovers(plan.hub, lambda size: progress.advance(done + size))
    return RemovalResult(tuple(removed), (*failures, *leftovers.failures), leftovers.freed)


def refuse_busy(plan: RemovalPlan, busy: Mapping[str, str]) -> None:
    """`BusyError` for the first model that is being served; `busy` says by whom."""
    for removal in plan.removals:
        if removal.paths.id in busy:
            raise BusyError(
                f"`{removal.paths.id}` is being served by {busy[removal.paths.id]}",
                hint=f"`modelctl stop {removal.paths.id}` ends that; then run the same command again",
            )


def _set_aside(removal: Removal) -> Iterator[Aside]:
    """What the removal takes out of sight; the lock is held no longer than that takes."""
    paths = removal.paths
    if not (removal.whole or removal.commits or removal.refs):
        return
    with lock.held(paths, "rm"):
        downloads.refuse(paths)
        if not disposal.exists(paths.folder):
            downloads.discard_locks(paths)
            raise NotFoundError(f"`{paths.id}` has gone in the meantime", hint="`modelctl list` shows what is there")
        if removal.whole:
            aside = disposal.set_model_aside(paths)
        else:
            aside = disposal.set_revisions_aside(paths, removal.commits, removal.refs)
    yield aside


def _is_known(there: Links, name: str, asides: Sequence[Aside]) -> bool:
    return name in there.refs or bool(links.commits(there, name)) or any(_is_in(aside, name) for aside in asides)


def _is_in(aside: Aside, name: str) -> bool:
    """Whether an interrupted removal was about this revision."""
    gone = links.read(aside.paths)
    return name in gone.refs or bool(links.commits(gone, name))


def _chosen(there: Links, target: Target, asides: Sequence[Aside]) -> Removal:
    """What goes of one model, not yet weighed."""
    if not target.revisions:
        return _whole(there) if disposal.exists(target.paths.folder) else Removal(target.paths)
    refs = {name for name in target.revisions if name in there.refs}
    commits: set[str] = set()
    for name in set(target.revisions) - refs:
        commits |= links.commits(there, name)
        commits |= {links.read(aside.paths).refs.get(name, "") for aside in asides} & set(there.snapshots)
    refs |= {name for name, commit in there.refs.items() if commit in commits}
    # A commit that another ref still names stays: only the name goes.
    kept = []
    for name in sorted(refs):
        commit = there.refs[name]
        others = sorted(other for other, named in there.refs.items() if named == commit and other not in refs)
        if not others:
            commits |= {commit} & links.all_commits(there)
        elif commit in there.snapshots:
            kept.append(Kept(_size(there, {commit}), f"`{others[0]}` names the same revision"))
    pull = pulls.record(target.paths)
    has_pull = pull is not None and pull.commit not in commits
    if commits and commits >= set(there.snapshots) and not has_pull:
        return _whole(there)
    unused = disposal.unused(there, commits)
    used = {digest for commit in commits for digest in links.digests(there.snapshots.get(commit, ()))} - unused
    if used:
        size = sum(there.blobs[digest].size or 0 for digest in used if digest in there.blobs)
        kept.append(Kept(size, "other revisions use it too"))
    blobs = tuple(there.blobs[digest].path for digest in sorted(unused) if digest in there.blobs)
    return Removal(
        target.paths, commits=tuple(sorted(commits)), refs=tuple(sorted(refs)), blobs=blobs, kept=tuple(kept)
    )


def _whole(there: Links) -> Removal:
    # Where the folder is a link, only the link goes, and nothing that it leads to.
    blobs = () if there.paths.folder.is_symlink() else tuple(blob.path for blob in there.blobs.values())
    return Removal(there.paths, whole=True, blobs=blobs)


def _size(there: Links, commits: set[str]) -> int:
    blobs = {digest for commit in commits for digest in links.digests(there.snapshots.get(commit, ()))}
    return sum(there.blobs[digest].size or 0 for digest in blobs if digest in there.blobs)


def _weighed(hub: Path, removals: Sequence[Removal]) -> tuple[Removal, ...]:
    """The removals with their bytes. A content is freed when all who use it go, and counted once."""
    files = {
        removal.paths.folder: deletion.inodes(
            [removal.paths.folder] if removal.whole else [*removal.blobs, *_other_parts(removal)]
        )
        for removal in removals
    }
    # Models that share a content by hard links may all go.
    names = Counter[tuple[int, int]]()
    for found in files.values():
        names.update({inode: one.seen for inode, one in found.items()})
    freed_before: set[tuple[int, int]] = set()
    links_to = {removal.paths.folder: _payloads(hub, removal) for removal in removals}
    going = frozenset(blob for removal in removals for blob in removal.blobs)
    users = shared.users(hub) if any(links_to.values()) else None
    counted: set[Path] = set()
    staying: dict[Path, frozenset[Path] | None] = {}
    weighed = []
    for removal in removals:
        found = files[removal.paths.folder]
        going_now = {inode for inode, one in found.items() if names[inode] >= one.names}
        size = sum(one.size for one in found.values())
        frees = sum(found[inode].allocated for inode in going_now - freed_before)
        freed_before |= going_now
        kept = list(removal.kept)
        if elsewhere := sum(one.size for inode, one in found.items() if inode not in going_now):
            kept.append(Kept(elsewhere, "its content has another name elsewhere, a hard link"))
        for named in sorted(set(links_to[removal.paths.folder].values()) - counted):
            of_payload, freed = deletion.weigh([named])
            of_list = deletion.weigh([shared.list_of(named)])[1]
            if named not in staying:
                left = shared.references(hub, named, users) if users is not None else None
                staying[named] = None if left is None else left - going
            left = staying[named]
            if left is None:
                kept.append(Kept(of_payload, "nobody can tell who else uses it"))
            elif left:
                users_left = _names(left)
                verb = "uses" if len(users_left) == 1 else "use"
                kept.append(Kept(of_payload, f"{', '.join(users_left)} {verb} it too"))
            else:
                counted.add(named)
                size, frees = size + of_payload, frees + freed + of_list
        weighed.append(replace(removal, size=size, frees=frees, kept=tuple(kept)))
    return tuple(weighed)


def _payloads(hub: Path, removal: Removal) -> dict[Path, Path]:
    """The payloads that the blobs lead to, none where they cannot be looked at: then less is promised than goes."""
    try:
        return shared.payloads(hub, removal.blobs)
    except OSError:
        return {}


def _other_parts(removal: Removal) -> list[Path]:
    refs = [removal.paths.ref(name) for name in removal.refs]
    return refs + [part for commit in removal.commits for part in disposal.parts(removal.paths, commit)]


def _names(blobs: frozenset[Path]) -> list[str]:
    folders = {blob.parent.parent.name for blob in blobs}
    return sorted(f"`{layout.repository_id(folder) or folder}`" for folder in folders)
