"""What a pull will do: which commit, which files, from where, how many bytes."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from modelctl import selection
from modelctl.errors import ModelctlError, NotFoundError, UnreachableError
from modelctl.hub import client, documents
from modelctl.hub.client import Hub, Resolved
from modelctl.hub.file import PlannedFile, is_present, is_shown
from modelctl.ref import ModelRef, is_commit
from modelctl.selection import Selection
from modelctl.store import disk, journal, layout, scan, tree, twins
from modelctl.store.layout import RepoPaths
from modelctl.store.tree import TreeFile
from modelctl.store.twins import Twin

_SHORTEST_COMMIT = 7


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user wants of a repository beside the rule: all of it, or what patterns say.

    `force` fetches also what is there, `reuse` takes from the disk what other models, or the user's cache, have of it.
    For another commit of what is here: `only` are the names that are wanted at most, `beside` names and `variants`
    quantisations that are wanted too, where the commit has them.
    """

    all_files: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    force: bool = False
    reuse: bool = True
    only: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class PullPlan:
    """What a pull will do. Sizes in bytes.

    `ref` is the branch or tag that will name the commit, `None` for a pull of a bare commit. `to_fetch` counts each
    blob once and without what an interrupted pull has left, `resumed`, or what lies on the disk elsewhere, `twins`
    (both by digest). `old_commits` stay beside the new one, with `old_size` bytes that are theirs alone. `kind` is the
    selection's, or `part` where patterns chose.
    """

    id: str
    revision: str
    ref: str | None
    commit: str
    paths: RepoPaths
    files: tuple[PlannedFile, ...]
    skipped: tuple[tuple[str, int], ...]
    to_fetch: int
    resumed: Mapping[str, int]
    twins: Mapping[str, Twin]
    caches: Sequence[Path]
    free: int
    format: str | None
    kind: str
    note: str | None
    old_commits: tuple[str, ...]
    old_size: int
    force: bool
    tree: Mapping[str, TreeFile] = field(repr=False)
    has_tree: bool = field(repr=False, default=False)

    @property
    def size(self) -> int:
        """Bytes of the selected files, each blob once."""
        return sum({file.digest: file.size for file in self.files}.values())

    @property
    def needed(self) -> int:
        """Bytes that the disk has to have for it."""
        return self.to_fetch + sum(twin.size for twin in self.twins.values() if twin.way == "copy")

    @property
    def skipped_size(self) -> int:
        """Bytes that are left out."""
        return sum(size for _, size in self.skipped)

    @property
    def snapshot(self) -> Path:
        """Where the model will be."""
        return self.paths.snapshot(self.commit)


def plan(
    hub: Hub,
    folder: Path,
    ref: ModelRef,
    *,
    choice: Choice,
    caches: Sequence[Path] = (),
    offline: bool = False,
    resolved: Resolved | None = None,
) -> PullPlan:
    """Find out what is to be fetched into the hub folder. Writes nothing.

    `caches` are hub folders beside it whose contents may be used. A commit whose listing is cached needs no request; a
    branch needs one, unless the Hub has just said what it is (`resolved`), and a new commit one for its listing.
    """
    paths = RepoPaths(folder, ref.id)
    planner = _Planner(hub, paths, ref, choice, caches)
    commit = ref.revision if ref.revision and is_commit(ref.revision) else None
    listing = planner.known_listing(commit) if commit else None
    if commit and listing is not None:
        planned = planner.plan(commit, listing, offline=offline)
        if planned is not None and (not offline or planned.to_fetch == 0):
            return planned
    if offline:
        raise _offline(paths, ref, caches)
    is_gated = False
    if commit is None or listing is None:
        asked, answer = commit, resolved or hub.resolve(ref, known=_names(folder, *caches))
        commit, is_gated = answer.commit, answer.gated
        if asked not in {None, commit}:
            raise client.unreachable(hub, f"it answers with the commit `{commit}` where `{asked}` was asked for")
        listing = planner.known_listing(commit)
    planned = planner.plan(commit, hub.files(ref, commit) if listing is None else listing, offline=False)
    if planned is None:
        raise client.unreachable(hub, "a file that decides what to fetch cannot be had")
    if is_gated and planned.to_fetch:
        # What it lists everybody may see: that its files may not be had is found out before the first one.
        hub.check_access(ref)
    return planned


def _names(*hubs: Path) -> list[str]:
    """The models that are here, for whoever has mistyped one."""
    found: list[str] = []
    for folder in hubs:
        with contextlib.suppress(ModelctlError):
            found += scan.names(folder)
    return found


@dataclass(frozen=True, slots=True)
class _Planner:
    """What is the same for every commit that a pull may turn out to be about."""

    hub: Hub
    paths: RepoPaths
    ref: ModelRef
    choice: Choice
    caches: Sequence[Path]

    def known_listing(self, commit: str) -> Mapping[str, TreeFile] | None:
        """The listing of a commit, as far as the disk has it."""
        for there in (self.paths, *self._cached()):
            if (listing := tree.read(there, commit)) is not None:
                return listing
        return None

    def plan(self, commit: str, listing: Mapping[str, TreeFile], *, offline: bool) -> PullPlan | None:
        """The plan for a known listing; `None` where that needs the Hub and it may not be asked."""
        paths, ref, choice = self.paths, self.ref, self.choice
        known = documents.read(self.hub, (paths, *self._cached()), ref, commit, listing, offline=offline)
        if known is None:
            return None
        found = selection.select({name: file.size for name, file in listing.items()}, known, variant=ref.variant)
        names = _chosen(ref, found, listing, choice)
        others = _commits(paths) - {commit}
        files, reused = self._files(commit, {name: listing[name] for name in sorted(names)}, is_alone=not others)
        missing = {file.digest: file.size for file in files if file.source == "fetch"}
        resumed = {
            digest: done for digest, size in missing.items() if (done := journal.received(paths, digest, size=size))
        }
        revision = ref.revision or "main"
        return PullPlan(
            id=ref.id,
            revision=revision,
            ref=None if is_abbreviated(revision, commit) else revision,
            commit=commit,
            paths=paths,
            files=files,
            skipped=tuple((name, listing[name].size) for name in sorted(set(listing) - names)),
            to_fetch=sum(missing.values()) - sum(resumed.values()),
            resumed=resumed,
            twins=reused,
            caches=self.caches,
            free=disk.free(paths.folder),
            format=found.format,
            kind="part" if choice.include or choice.only else found.kind,
            note=found.note,
            old_commits=tuple(sorted(others)),
            old_size=_size_beside(paths, {file.digest for file in listing.values()}),
            force=choice.force,
            tree=listing,
            has_tree=tree.read(paths, commit) is not None,
        )

    def _files(
        self, commit: str, wanted: Mapping[str, TreeFile], *, is_alone: bool
    ) -> tuple[tuple[PlannedFile, ...], dict[str, Twin]]:
        """The files with where their bytes come from, and what the disk has of them elsewhere, by digest."""
        here = [PlannedFile(name, file.size, file.digest, "present") for name, file in wanted.items()]
        missing, reused = {}, {}
        for file in here:
            if self.choice.force or not is_present(self.paths, commit, file):
                missing[file.digest] = file.size
            elif not is_alone and not is_shown(self.paths, commit, file):
                # What another revision holds is new to this one, and so believed by nothing but its hash.
                reused[file.digest] = twins.own(self.paths, file.digest, file.size)
        if missing and self.choice.reuse and not self.choice.force:
            reused |= twins.find(self.paths, missing, self.caches)

        def source(file: PlannedFile) -> Literal["fetch", "reuse", "present"]:
            return "reuse" if file.digest in reused else "fetch" if file.digest in missing else "present"

        return tuple(replace(file, source=source(file)) for file in here), reused

    def _cached(self) -> list[RepoPaths]:
        return [RepoPaths(cache, self.ref.id) for cache in self.caches]


def is_abbreviated(revision: str, commit: str) -> bool:
    """Whether a revision is the commit itself, in full or in git's short form, and so no name that may be a ref."""
    return len(revision) >= _SHORTEST_COMMIT and commit.startswith(revision)


def _chosen(ref: ModelRef, found: Selection, listing: Mapping[str, TreeFile], choice: Choice) -> set[str]:
    """The names to bring: by the rule, all, or what the patterns leave."""
    by_pattern = choice.all_files or choice.include or choice.only
    if not by_pattern:
        _refuse_unloadable(ref, found, listing)
    names = set(choice.only or listing) if by_pattern else set(found.names) | choice.beside
    names &= set(listing)
    names.update(*(found.choices.get(label, ()) for label in choice.variants))
    if choice.include:
        names = {name for name in names if any(fnmatchcase(name, pattern) for pattern in choice.include)}
    names = {name for name in names if not any(fnmatchcase(name, pattern) for pattern in choice.exclude)}
    _refuse_unwritable(names)
    if not names:
        raise NotFoundError(
            f"no file of `{ref.id}` is left to pull",
            hint=f"see them all with `modelctl pull {ref} --all-files --dry-run`",
        )
    return names


def _refuse_unwritable(names: Iterable[str]) -> None:
    """Stop where the locale's encoding has no bytes for a name, before anything is fetched."""
    for name in names:
        try:
            os.fsencode(name)
        except UnicodeEncodeError as exc:
            raise ModelctlError(
                f"the encoding of this locale, `{exc.encoding}`, has no way to write `{name}`",
                hint="set `LC_ALL=C.UTF-8`, then run the same command again",
            ) from exc


def _refuse_unloadable(ref: ModelRef, found: Selection, listing: Mapping[str, TreeFile]) -> None:
    """Stop where vLLM would find nothing to load, or where a choice is the user's: `choices` tells of it."""
    if found.missing:
        raise NotFoundError(
            f"`{ref.id}` lacks weights that its index names: `{found.missing[0]}`",
            hint=f"`modelctl pull {ref} --all-files` fetches what there is",
        )
    if found.weights:
        return
    if found.choices:
        labels = ", ".join(f"`{label}`" for label in found.choices)
        choices = [
            {"variant": label, "size": sum(listing[name].size for name in names)}
            for label, names in found.choices.items()
        ]
        raise NotFoundError(
            f"`{ref.id}` has {len(choices)} quantisations to choose from: {labels}",
            hint=f"`modelctl pull {ref.id}:{next(iter(found.choices))}` fetches one",
            choices=choices,
        )
    raise NotFoundError(
        f"vLLM cannot load `{ref.id}`: {found.note}", hint=f"`modelctl pull {ref} --all-files` fetches it all the same"
    )


def _commits(paths: RepoPaths) -> set[str]:
    with contextlib.suppress(OSError):
        return {folder.name for folder in paths.snapshots.iterdir() if is_commit(folder.name)}
    return set()


def _size_beside(paths: RepoPaths, digests: set[str]) -> int:
    """Bytes of the blobs that are none of these: what older revisions have for themselves."""
    with contextlib.suppress(OSError):
        blobs = [blob for blob in paths.blobs.iterdir() if layout.is_digest(blob.name) and blob.name not in digests]
        return sum(blob.stat().st_size for blob in blobs)
    return 0


def _offline(paths: RepoPaths, ref: ModelRef, caches: Sequence[Path]) -> UnreachableError:
    """The error for a pull that needs the Hub while the network is forbidden."""
    hint = "unset `HF_HUB_OFFLINE` to pull it"
    if any(_commits(RepoPaths(cache, ref.id)) for cache in caches):
        hint = f"what your cache has of it can be brought here: `modelctl migrate --from-cache {ref.id}`"
    if _commits(paths):
        hint = f"what is here can be served: `modelctl serve {ref.id}`"
    return UnreachableError(f"`{ref}` cannot be pulled: `HF_HUB_OFFLINE` forbids the network", hint=hint)
