"""The record of a pull that runs or was interrupted, and how far it has come."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from modelctl import quantisations
from modelctl.store import journal, reading, tree
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Download
from modelctl.store.tree import TreeFile

if TYPE_CHECKING:
    from modelctl.process import Owner


class PullRecord(NamedTuple):
    """What a pull wrote down at its start: the commit, the files it is to bring, who does it.

    `mends`: it brings files once more that a verification has found to be wrong.
    """

    commit: str
    revision: str
    files: tuple[str, ...]
    total: int
    done_before: int
    owner: "Owner | None"
    mends: bool = False

    @property
    def variant(self) -> str | None:
        """The quantisation that it is to bring, where it brings one of a GGUF repository."""
        choices = quantisations.choices(self.files)
        return next(iter(choices)) if len(choices) == 1 else None


def command(paths: RepoPaths, revision: str, variant: str | None = None) -> str:
    """The command that fetches a revision, or one quantisation of it."""
    at = "" if revision == "main" else f"@{revision}"
    return f"modelctl pull {paths.id}{at}{f':{variant}' if variant else ''}"


def again(paths: RepoPaths, pull: PullRecord) -> str:
    """The command that goes on with an interrupted pull."""
    return mending(paths) if pull.mends else command(paths, pull.revision, pull.variant)


def mending(paths: RepoPaths, revision: str | None = None, *, in_cache: bool = False) -> str:
    """The command that proves a model, or one revision, and fetches again what is wrong with it."""
    at = "" if revision in {None, "main"} else f"@{revision}"
    return f"modelctl verify --repair {'--cache ' if in_cache else ''}{paths.id}{at}"


def record(paths: RepoPaths) -> PullRecord | None:
    """The record of the model's pull, `None` where there is none that can be read."""
    match reading.document(paths.pull_record):
        case {"commit": str(commit), "revision": str(revision), "files": list(files), "total": int(total), **rest}:
            # Not at the top: it costs `list` 5 ms, and nearly never is there a record.
            from modelctl import process

            before = rest.get("done_before")
            names = tuple(name for name in files if isinstance(name, str))
            owner = process.from_json(rest.get("owner"))
            before = before if isinstance(before, int) else 0
            return PullRecord(commit, revision, names, total, before, owner, rest.get("mends") is True)
        case _:
            return None


def progress(paths: RepoPaths, pull: PullRecord) -> Download:
    """How far a pull has come: whole blobs, and of unfinished ones what their journals vouch for."""
    from modelctl import process

    done = received(paths, pull.files, tree.read(paths, pull.commit))
    active = pull.owner is not None and process.is_alive(pull.owner)
    rate = None
    if active and pull.owner is not None:
        seconds = time.time() - pull.owner.since.timestamp()
        rate = max(0, done - pull.done_before) / seconds if seconds > 0 else None
    return Download(paths.id, paths.folder, pull.commit, min(done, pull.total), pull.total, rate, active)


def received(paths: RepoPaths, names: tuple[str, ...], listing: Mapping[str, TreeFile] | None) -> int:
    """The bytes of these files that are on the disk, a content that several of them share counted once."""
    wanted = {listing[name].digest: listing[name].size for name in names if listing and name in listing}
    done = 0
    for digest, size in wanted.items():
        try:
            done += min(size, paths.blob(digest).stat().st_size)
        except OSError:
            done += min(size, journal.received(paths, digest))
    return done
