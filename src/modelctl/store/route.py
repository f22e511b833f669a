"""How one model comes from one hub folder to another: by which way, what that costs, what is there already."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelctl.errors import ModelctlError, NotFoundError
from modelctl.store import disk, disposal, links, moving, obstacles
from modelctl.store.layout import RepoPaths
from modelctl.store.links import Links
from modelctl.store.moving import Content, Refs, Way
from modelctl.store.removal import Target

# `move` lets the source go, the others leave it as it is: `link` gives its files second names, `symlink` its folders.
Mode = Literal["move", "copy", "link", "symlink"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all models of a migration.

    `overwrite`: a ref that names another revision in the target is made to name the source's. `verify`: contents are
    hashed also where none of them is read on its way.
    """

    mode: Mode = "move"
    overwrite: bool = False
    verify: bool = False

    @property
    def keeps(self) -> bool:
        """Whether the source stays as it is."""
        return self.mode != "move"


@dataclass(frozen=True, slots=True)
class Move:
    """How one model comes to the target: all of it (`whole`), or these commits with the refs that name them.

    Bytes: `size` of content, `already` of it in the target, `writes` that have to be written, `reads` that are hashed,
    `shared` with models of the source that stay whole, of these `payloads`; `frees` are given back at the source.
    `merges`: the target has the model already; `refs_kept` are refs that name another commit there, and go on doing so,
    `refs_overwritten` those that will not. `left_out` are bytes of downloads that another tool never finished.
    """

    source: RepoPaths
    target: RepoPaths
    way: Way
    whole: bool
    commits: tuple[str, ...]
    refs: Refs
    merges: bool
    size: int
    already: int
    writes: int
    reads: int
    payloads: Mapping[Path, int]
    refs_kept: tuple[str, ...]
    refs_overwritten: tuple[str, ...]
    new: tuple[str, ...]
    left_out: int
    shared: int = 0
    frees: int = 0


def plan(there: Links, wanted: Target, hub: Path, *, terms: Terms, begun: Mapping[str, str]) -> Move | None:
    """The way of one model to the hub folder. `NotFoundError` for a revision that is not there.

    `begun` are the refs, with their commits, that an interrupted move has taken out of the source already; `None` where
    all that is left of it is to free what it has set aside.
    """
    target = RepoPaths(hub, wanted.paths.id, wanted.paths.found)
    here = links.read(target)
    commits, refs = _chosen(there, wanted, begun)
    if not commits:
        return None
    whole = commits == set(there.snapshots)
    is_linked = terms.mode == "symlink" and disposal.exists(target.folder) and _is_same(target.folder, there)
    merges = disposal.exists(target.folder) and not is_linked
    if merges:
        obstacles.refuse_target(here, there)
    place = target.folder if merges else hub
    way = _way(there, place, terms.mode, whole=whole, merges=merges)
    if way not in {"rename", "symlink"}:
        obstacles.refuse_taking_apart(there, keep=terms.keeps)
    differing = tuple(sorted(name for name in refs if _differs(name, there, here)))
    contents = moving.contents(there, commits)
    size = sum(content.size for content in contents)
    missing = [content for content in contents if not content.is_in(here)]
    if way in {"link", "move"} and (foreign := next((one for one in missing if not disk.may_link(one.path)), None)):
        if way == "link":
            raise obstacles.not_linkable(foreign.path)
        way = "clone" if disk.can_clone(there.paths.folder, place) else "copy"
    coming = sum(content.size for content in missing)
    by_reference = way in {"rename", "symlink"}
    return Move(
        there.paths,
        target,
        way,
        whole,
        tuple(sorted(commits)),
        Refs(tuple(sorted(refs)), overwrite=terms.overwrite),
        merges,
        size=size,
        already=size - coming,
        writes=coming - _begun(target, missing) if way == "copy" else 0,
        reads=(size if terms.verify else 0) if by_reference else coming,
        payloads={named: blob.size or 0 for named, blob in there.payloads.items()},
        refs_kept=() if terms.overwrite else differing,
        refs_overwritten=differing if terms.overwrite else (),
        new=tuple(sorted(commits if is_linked else commits - set(here.snapshots))),
        left_out=_left_out(there, by_reference=by_reference, whole=whole),
    )


def _begun(target: RepoPaths, missing: Sequence[Content]) -> int:
    """Bytes of contents that an interrupted copy has written already: with them it goes on."""
    begun = 0
    for content in missing:
        spare = target.incoming / "blobs" / content.digest
        with contextlib.suppress(OSError):
            begun += min(content.size, spare.stat().st_size) if spare.is_file() else 0
    return begun


def _is_same(folder: Path, there: Links) -> bool:
    """Whether a folder is a link to the model's own."""
    return folder.is_symlink() and folder.exists() and folder.samefile(there.paths.folder)


def _differs(name: str, there: Links, here: Links) -> bool:
    """Whether both sides give a name to a revision of theirs, and not to the same."""
    one, other = there.refs[name], here.refs.get(name)
    return one != other and one in there.snapshots and other in here.snapshots


def _left_out(there: Links, *, by_reference: bool, whole: bool) -> int:
    size = sum(path.lstat().st_size for path in there.unfinished)
    if whole and not by_reference:
        unused = set(there.blobs) - disposal.used(there)
        size += sum(there.blobs[name].size or 0 for name in unused if there.blobs[name].kind == "file")
    return size


def _way(there: Links, place: Path, mode: Mode, *, whole: bool, merges: bool) -> Way:
    is_near = disk.is_one_mount(there.paths.folder, place)
    match mode:
        case "move" if is_near:
            return "rename" if whole and not merges and not obstacles.needs_own_links(there) else "move"
        case "link" if not is_near:
            raise ModelctlError(
                f"`{there.paths.id}` cannot be given second names: `{place}` is on another file system",
                hint="`--copy` copies it, `--symbolic-link` leaves it where it is and leads there",
            )
        case "link":
            return "link"
        case "symlink" if merges:
            raise ModelctlError(
                f"`{there.paths.id}` is in `{place.parent}` already, and only a whole model can be a link",
                hint="`--copy` or `--hard-link` brings what is missing",
            )
        case "symlink" if not whole:
            raise ModelctlError(
                f"only some revisions of `{there.paths.id}` are named, and only a whole model can be a link",
                hint="leave out the revision",
            )
        case "symlink":
            return "symlink"
        case _:
            return "clone" if disk.can_clone(there.paths.folder, place) else "copy"


def _chosen(there: Links, wanted: Target, begun: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """The commits and refs that are to come."""
    if not wanted.revisions:
        return set(there.snapshots), set(there.refs)
    commits: set[str] = set()
    for name in wanted.revisions:
        commit = there.refs.get(name) or begun.get(name)
        found = ({commit} if commit else links.commits(there, name)) & set(there.snapshots)
        if not found and name not in {*begun, *begun.values()}:
            raise NotFoundError(
                f"`{there.paths.id}@{name}` is not in `{there.paths.hub}`",
                hint=f"`modelctl show {there.paths.id}` shows the revisions that are there",
            )
        commits |= found
    return commits, {name for name, commit in there.refs.items() if commit in commits}
