"""What a pull will do: which commit, which files, from where, how many bytes."""

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from modelctl import selection
from modelctl.errors import ModelctlError, NotFoundError, NotWholeError, UnreachableError
from modelctl.hub import client, transfer
from modelctl.hub.client import Hub
from modelctl.hub.partial import journalled
from modelctl.hub.transfer import Blob
from modelctl.ref import ModelRef, is_commit
from modelctl.selection import Selection
from modelctl.store import disk, layout, reading, tree
from modelctl.store.layout import RepoPaths
from modelctl.store.tree import TreeFile

_SHORTEST_COMMIT = 7


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user wants of a repository beside the rule: all of it, or what patterns say."""

    all_files: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of a pull: `source` is where its bytes come from."""

    name: str
    size: int
    digest: str
    source: Literal["fetch", "present"]


@dataclass(frozen=True)
class PullPlan:
    """What a pull will do. Sizes in bytes.

    `ref` is the branch or tag that will name the commit, `None` for a pull of a bare commit. `to_fetch` counts each
    blob once and without what an interrupted pull has left, `resumed`. `old_commits` stay beside the new one, with
    `old_size` bytes that are theirs alone. `kind` is the selection's, or `part` where patterns chose.
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
    def skipped_size(self) -> int:
        """Bytes that are left out."""
        return sum(size for _, size in self.skipped)

    @property
    def snapshot(self) -> Path:
        """Where the model will be."""
        return self.paths.snapshot(self.commit)


def plan(hub: Hub, folder: Path, ref: ModelRef, *, choice: Choice, offline: bool = False) -> PullPlan:
    """Find out what is to be fetched into the hub folder. Writes nothing.

    A commit whose listing is cached needs no request; a branch needs one, and a new commit one for its listing.
    """
    paths = RepoPaths(folder, ref.id)
    commit = ref.revision if ref.revision and is_commit(ref.revision) else None
    listing = tree.read(paths, commit) if commit else None
    if commit and listing is not None:
        planned = _planned(hub, paths, ref, commit, listing, choice=choice, offline=offline)
        if planned is not None and (not offline or planned.to_fetch == 0):
            return planned
    if offline:
        raise _offline(paths, ref)
    if commit is None or listing is None:
        asked, commit = commit, hub.resolve(ref).commit
        if asked not in {None, commit}:
            raise client.unreachable(hub, f"it answers with the commit `{commit}` where `{asked}` was asked for")
        listing = tree.read(paths, commit)
    has_tree = listing is not None
    if listing is None:
        listing = hub.files(ref, commit)
    planned = _planned(hub, paths, ref, commit, listing, choice=choice, offline=False, has_tree=has_tree)
    if planned is None:
        raise client.unreachable(hub, "a file that decides what to fetch cannot be had")
    return planned


def _planned(
    hub: Hub,
    paths: RepoPaths,
    ref: ModelRef,
    commit: str,
    listing: Mapping[str, TreeFile],
    *,
    choice: Choice,
    offline: bool,
    has_tree: bool = True,
) -> PullPlan | None:
    """The plan for a known listing; `None` where that needs the Hub and it may not be asked."""
    sizes = {name: file.size for name, file in listing.items()}
    documents = _documents(hub, paths, ref, commit, listing, offline=offline)
    if documents is None:
        return None
    found = selection.select(sizes, documents, variant=ref.variant)
    names = _chosen(ref, found, listing, choice)
    files = tuple(
        PlannedFile(name, listing[name].size, listing[name].digest, _source(paths, commit, name, listing, choice))
        for name in sorted(names)
    )
    missing = {file.digest: file.size for file in files if file.source == "fetch"}
    resumed = {digest: done for digest, size in missing.items() if (done := _resumed(paths, digest, size))}
    revision = ref.revision or "main"
    return PullPlan(
        id=ref.id,
        revision=revision,
        ref=None if _is_abbreviated(revision, commit) else revision,
        commit=commit,
        paths=paths,
        files=files,
        skipped=tuple((name, sizes[name]) for name in sorted(set(listing) - names)),
        to_fetch=sum(missing.values()) - sum(resumed.values()),
        resumed=resumed,
        free=disk.free(paths.hub),
        format=found.format,
        kind="part" if choice.include else found.kind,
        note=found.note,
        old_commits=tuple(sorted(_commits(paths) - {commit})),
        old_size=_size_beside(paths, {file.digest for file in listing.values()}),
        force=choice.force,
        tree=listing,
        has_tree=has_tree,
    )


def _is_abbreviated(revision: str, commit: str) -> bool:
    """Whether a revision is the commit itself, in full or in git's short form, and so no name that may be a ref."""
    return len(revision) >= _SHORTEST_COMMIT and commit.startswith(revision)


def _chosen(ref: ModelRef, found: Selection, listing: Mapping[str, TreeFile], choice: Choice) -> set[str]:
    """The names to bring: by the rule, all, or what the patterns leave."""
    by_pattern = choice.all_files or choice.include
    if not by_pattern:
        _refuse_unloadable(ref, found)
    names = set(listing) if by_pattern else set(found.names)
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


def _refuse_unloadable(ref: ModelRef, found: Selection) -> None:
    """Stop where vLLM would find nothing to load, or where a choice is the user's."""
    if found.missing:
        raise NotFoundError(
            f"`{ref.id}` lacks weights that its index names: `{found.missing[0]}`",
            hint=f"`modelctl pull {ref} --all-files` fetches what there is",
        )
    if found.weights:
        return
    if found.choices:
        labels = ", ".join(f"`{label}`" for label in found.choices)
        raise NotFoundError(
            f"`{ref.id}` has these quantisations to choose from: {labels}",
            hint=f"`modelctl pull {ref.id}:{next(iter(found.choices))}` fetches one",
        )
    raise NotFoundError(
        f"vLLM cannot load `{ref.id}`: {found.note}", hint=f"`modelctl pull {ref} --all-files` fetches it all the same"
    )


def _documents(
    hub: Hub, paths: RepoPaths, ref: ModelRef, commit: str, listing: Mapping[str, TreeFile], *, offline: bool
) -> dict[str, Any] | None:
    """The small files that decide the selection, from the store, else from the Hub."""
    documents: dict[str, Any] = {}
    for name in selection.deciding(listing):
        file = listing[name]
        if file.size > reading.MAX_JSON:
            raise NotWholeError(
                f"`{name}` of `{ref.id}` is said to have {file.size:,} bytes, too many for what it should hold",
                hint="do not use this repository; nothing of it was written",
            )
        content = _read_blob(paths, commit, name, file)
        if content is None and offline:
            return None
        if content is None:
            content = _ask_for(hub, ref, commit, name, file)
        with contextlib.suppress(ValueError, RecursionError):
            documents[name] = json.loads(content)
    return documents


def _read_blob(paths: RepoPaths, commit: str, name: str, file: TreeFile) -> bytes | None:
    for path in (paths.blob(file.digest), paths.entry(commit, name)):
        content = reading.head(path, file.size + 1)
        if content is not None and len(content) == file.size:
            return content
    return None


def _ask_for(hub: Hub, ref: ModelRef, commit: str, name: str, file: TreeFile) -> bytes:
    from modelctl.hub.connection import Connections

    blob = Blob(name, file.digest, file.size, transfer.blob_target(hub.endpoint, ref.id, commit, name, hub.token))
    connections = Connections(timeout=client.ANSWER_SECONDS)
    try:
        return transfer.fetch_small(connections, blob, lambda status, code: client.failure(hub, ref, status, code))
    except (transfer.TryAgainError, transfer.WrongBytesError, OSError) as exc:
        raise client.unreachable(hub, f"`{name}`: {exc}") from exc
    finally:
        connections.close()


def _source(
    paths: RepoPaths, commit: str, name: str, listing: Mapping[str, TreeFile], choice: Choice
) -> Literal["fetch", "present"]:
    file = listing[name]
    here = PlannedFile(name, file.size, file.digest, "present")
    return "present" if not choice.force and is_present(paths, commit, here) else "fetch"


def is_present(paths: RepoPaths, commit: str, file: PlannedFile) -> bool:
    """Whether the blob is there with its size, or the entry itself is the file, as on systems without links."""
    with contextlib.suppress(OSError):
        return _is_file_of(paths.blob(file.digest), file.size)
    return is_plain_entry(paths, commit, file)


def is_plain_entry(paths: RepoPaths, commit: str, file: PlannedFile) -> bool:
    """Whether the snapshot entry is the file itself, with its size."""
    entry = paths.entry(commit, file.name)
    with contextlib.suppress(OSError):
        return not entry.is_symlink() and _is_file_of(entry, file.size)
    return False


def _is_file_of(path: Path, size: int) -> bool:
    """Whether a path leads to a file of that size; a folder or a pipe has a size too."""
    status = path.stat()
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def _resumed(paths: RepoPaths, digest: str, size: int) -> int:
    """Bytes of an interrupted blob that its journal vouches for."""
    return sum(end - start for start, end in journalled(paths, digest, size))


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


def _offline(paths: RepoPaths, ref: ModelRef) -> UnreachableError:
    """The error for a pull that needs the Hub while the network is forbidden."""
    here = _commits(paths)
    hint = "unset `HF_HUB_OFFLINE` to pull it"
    if here:
        hint = f"what is here can be served: `modelctl serve {ref.id}`"
    return UnreachableError(f"`{ref}` cannot be pulled: `HF_HUB_OFFLINE` forbids the network", hint=hint)
