"""Files from outside of any store on their way into a model: brought aside and measured, then published.

Only when all of it is there do the blobs get their names, the snapshot appears, its listing, and last the ref.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelctl.errors import NoRoomError, NotWholeError
from modelctl.progress import Progress
from modelctl.store import bringing, changes, deletion, disk, imports, measuring, proof, publishing, standing, tree
from modelctl.store.bringing import Way
from modelctl.store.imports import ImportRecord
from modelctl.store.layout import RepoPaths
from modelctl.store.plain import PlainFile
from modelctl.store.tree import TreeFile

# What folders, links and refs need beside the blobs.
_MARGIN = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did. `written` are bytes that were copied; `way` is `None` where all of it was there already.

    `left` is the commit that the ref named before, where that was another one.
    """

    commit: str
    path: Path
    written: int
    way: Way | None
    left: str | None
    seconds: float


@dataclass(slots=True)
class Intake:
    """Files from outside that become a revision of a model, by one way, under the model's lock.

    `record` tells where they come from, and which ref is to name them. `known` are the contents that were measured, by
    the names of the files, `here` those of them that proved to be blobs already.
    """

    paths: RepoPaths
    record: ImportRecord
    files: tuple[PlainFile, ...]
    way: Way
    progress: Progress
    began: float = field(default_factory=time.monotonic)
    known: dict[str, TreeFile] = field(default_factory=dict)
    here: set[str] = field(default_factory=set)
    ways: set[Way] = field(default_factory=set)
    done: int = 0
    written: int = 0

    @property
    def commit(self) -> str:
        """The id of the revision, which the contents decide."""
        return measuring.commit_id({name: file.digest for name, file in self.known.items()})

    def written_to(self) -> Iterator[Path]:
        """A path in every folder of the model that is written into; that of the snapshot is not known yet."""
        paths = self.paths
        yield from (paths.blob("any"), paths.import_record, paths.tree("any"), paths.snapshot("any") / "any")
        yield from (paths.ref(self.record.ref), paths.standing("any"))
        yield from (self._spare(file) for file in self.files)

    def run(self) -> ImportResult:
        """Bring the files and let them be seen; nothing is written where that is so already."""
        self.progress.begin(f"importing {self.paths.id}", total=sum(file.size for file in self.files))
        self._measure_what_may_be_here()
        if len(self.here) == len(self.files) and self._is_settled():
            changes.tidy(self.paths)
            return self._result(None)
        self._begin()
        self._bring([file for file in self.files if file.name not in self.here])
        for file in self.files:
            bringing.check_unchanged(file.path, file.stamp)
        left = self._publish()
        self.clear()
        return self._result(left)

    def clear(self) -> None:
        """Take away what was brought and has no place, and the folders that nothing is in."""
        paths = self.paths
        deletion.delete(paths.imported)
        changes.tidy(paths)
        for folder in (paths.blobs, paths.folder / "trees", paths.refs, paths.snapshots, paths.folder):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _measure_what_may_be_here(self) -> None:
        """Measure those files that a blob of the model has the size of: nothing is written for what is here."""
        sizes = _sizes(self.paths)
        for file in self.files:
            if file.size not in sizes:
                continue
            listed = bringing.measure(file.path, file.stamp, lfs=_is_lfs(file), tell=self._tell)
            self._take(file, listed)
            if self._has_blob(file, listed):
                self.here.add(file.name)
            else:
                self.done -= file.size
        for file in self.files:
            if file.name in self.here:
                self.progress.file(file.name, size=file.size, source="present")

    def _begin(self) -> None:
        """Say in the store what is being imported. What an import of something else has left is of no use."""
        paths = self.paths
        # A model without this folder is an inconsistency for other tools, and so it would stay after a kill.
        changes.make_folder(paths.snapshots)
        old = imports.record(paths)
        if old is None or (old.path, old.ref) != (self.record.path, self.record.ref):
            deletion.delete(paths.imported)
        if old != self.record:
            imports.write(paths, self.record)

    def _bring(self, files: list[PlainFile]) -> None:
        if not files:
            return
        probe = self.paths.imported / "probe"
        changes.make_folder(probe.parent)
        way = bringing.possible(self.way, files[0].path, probe)
        if way == "copy":
            self._check_room(files)
        for file in files:
            spare = self._spare(file)
            changes.make_folder(spare.parent)
            brought = bringing.bring(file.path, spare, file.stamp, way=way, lfs=_is_lfs(file), tell=self._tell)
            self._take(file, brought.file)
            self.ways.add(brought.way)
            self.written += file.size if brought.way == "copy" else 0
            self.progress.file(file.name, size=file.size, source=bringing.SOURCES[brought.way])

    def _check_room(self, files: list[PlainFile]) -> None:
        """`NoRoomError` where what has to be written does not fit beside what an interrupted import has left."""
        there = sum(spare.stat().st_size for file in files if (spare := self._spare(file)).is_file())
        needed, free = max(0, sum(file.size for file in files) - there), disk.free(self.paths.folder)
        if needed + _MARGIN > free:
            path, hub = self.record.path, self.paths.hub
            raise NoRoomError(
                f"`{path}` needs {needed:,} bytes, and the file system of `{hub}` has {free:,} free",
                hint="make room with `modelctl rm`, or name another folder with `--models-dir`",
                needed=needed,
                free=free,
            )

    def _take(self, file: PlainFile, listed: TreeFile) -> None:
        if file.expected is not None and listed.sha256 != file.expected:
            raise NotWholeError(
                f"`{file.path}` is damaged: its content does not match its name",
                hint="fetch it again with the tool that it comes from",
            )
        self.known[file.name] = listed

    def _publish(self) -> str | None:
        """Blobs, the snapshot, its listing, the ref: each durable before the next."""
        paths, commit = self.paths, self.commit
        spares = {file.name: self._spare(file) for file in self.files if file.name not in self.here}
        changes.refuse_links(paths, [paths.entry(commit, name) for name in self.known])
        changes.make_folder(paths.blobs)
        try:
            changes.make_durable([*spares.values()])
            for name, spare in spares.items():
                spare.replace(paths.blob(self.known[name].digest))
            changes.sync_folder(paths.blobs)
        except OSError as exc:
            raise changes.translated(exc, doing="write") from exc
        publishing.show(paths, commit, {name: file.digest for name, file in self.known.items()})
        if tree.read(paths, commit) != self.known:
            tree.write(paths, commit, self.known)
        record = self.record
        standing.mark_imported(paths, commit, record.path, variant=record.variant, options=record.options)
        return publishing.name(paths, self.record.ref, commit)

    def _is_settled(self) -> bool:
        """Whether all of it is there to be seen already, and nothing of an unfinished import."""
        paths, commit = self.paths, self.commit
        return (
            tree.read(paths, commit) == self.known
            and all(publishing.is_shown(paths, commit, name, file.digest) for name, file in self.known.items())
            and publishing.named(paths, self.record.ref) == commit
            and standing.imported_from(paths, commit) is not None
            and not paths.imported.exists()
        )

    def _has_blob(self, file: PlainFile, listed: TreeFile) -> bool:
        """Whether a blob holds the content, which its name alone does not prove: nothing else can mend this model."""
        blob = self.paths.blob(listed.digest)
        if not blob.is_file():
            return False
        return blob.samefile(file.path) or proof.matches(blob, listed.digest)

    def _spare(self, file: PlainFile) -> Path:
        return self.paths.imported / "files" / file.name

    def _tell(self, count: int) -> None:
        self.done += count
        self.progress.advance(self.done)

    def _result(self, left: str | None) -> ImportResult:
        order: tuple[Way, ...] = ("copy", "link", "clone")
        way = next((way for way in order if way in self.ways), None)
        seconds = time.monotonic() - self.began
        return ImportResult(self.commit, self.paths.snapshot(self.commit), self.written, way, left, seconds)


def _is_lfs(file: PlainFile) -> bool:
    return measuring.is_lfs(file.name, size=file.size)


def _sizes(paths: RepoPaths) -> set[int]:
    """The sizes of the model's blobs."""
    with contextlib.suppress(OSError):
        return {blob.stat().st_size for blob in paths.blobs.iterdir() if blob.is_file()}
    return set()
