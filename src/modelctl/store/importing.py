"""Importing a model that lies outside of any store, as a revision of its own: plan, execute.

The commit id follows from the names and contents of the files, so that importing twice changes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from modelctl.errors import ModelctlError, NoRoomError, NotFoundError, UsageError
from modelctl.progress import Progress
from modelctl.ref import ModelRef
from modelctl.store import borrowed, candidate, changes, disk, imports, layout, lock, obstacles, publishing, sources
from modelctl.store.bringing import Way
from modelctl.store.candidate import Candidate
from modelctl.store.imports import ImportRecord
from modelctl.store.intake import ImportResult, Intake
from modelctl.store.layout import RepoPaths
from modelctl.store.sources import Source


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user wants beside the rule: how, every file, a model that is not whole, links out of the folder."""

    way: Way = "clone"
    all_files: bool = False
    force: bool = False
    follow: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the command that say so."""
        given = (self.way == "copy", self.way == "link", self.all_files, self.follow, self.force)
        return tuple(name for name, is_given in zip(imports.OPTIONS, given, strict=True) if is_given)


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import will do. `named` is the commit that `ref` names now; what it will be only the contents tell.

    `record` is what it writes down of itself, `free` are bytes on the project's file system.
    """

    ref: str
    record: ImportRecord
    paths: RepoPaths
    source: Source
    model: Candidate
    way: Way
    named: str | None
    free: int

    @property
    def id(self) -> str:
        """The name that the model gets."""
        return self.paths.id


def plan(path: Path, hub: Path, ref: ModelRef, *, choice: Choice) -> ImportPlan:
    """Find out what of a path can be imported as `ref`, and whether vLLM could load it. Writes nothing."""
    name = ref.revision or "main"
    if not layout.is_ref_path(name):
        raise UsageError(f"`{name}` is a commit, which follows from the files", hint="name a branch or a tag")
    paths = RepoPaths(hub, ref.id)
    borrowed.refuse(paths)
    source = sources.find(path, ref.id.rpartition("/")[2], follow=choice.follow, label=ref.variant)
    if not source.files and not source.obstacles:
        raise NotFoundError(f"`{path}` holds no files", hint="name a folder with a model's files")
    model = candidate.judge(source, label=ref.variant, all_files=choice.all_files)
    if not choice.force:
        candidate.check(source, model)
    if not model.files:
        raise NotFoundError(f"`{path}` holds no file of a model", hint="name a folder with a model's files")
    way = choice.way
    if way != "copy" and not all(disk.is_one_mount(folder, paths.folder) for folder in _folders(model)):
        if way == "link":
            raise UsageError(
                f"`{path}` lies on another file system than `{hub}`, so it cannot be hard-linked",
                hint="leave out `--hard-link`, and it is copied",
            )
        way = "copy"
    if way == "link" and (foreign := next((file.path for file in model.files if not disk.may_link(file.path)), None)):
        raise obstacles.not_linkable(foreign, hint="leave out `--hard-link`, and it is copied")
    record = ImportRecord(str(path.absolute()), name, ref.variant, choice.options)
    return ImportPlan(name, record, paths, source, model, way, publishing.named(paths, name), disk.free(paths.folder))


def execute(plan: ImportPlan, progress: Progress) -> ImportResult:
    """Bring the files into the store and let them be seen as a revision that the ref names.

    What fails leaves no trace, but for a lack of room or an interrupt: then what has arrived waits for the next try.
    """
    paths = plan.paths
    changes.make_hub(paths.hub)
    with lock.held(paths, "import"):
        work = Intake(paths, plan.record, plan.model.files, plan.way, progress)
        changes.refuse_links(paths, work.written_to())
        try:
            return work.run()
        except NoRoomError:
            raise
        except ModelctlError:
            work.clear()
            raise


def _folders(model: Candidate) -> set[Path]:
    return {file.path.parent for file in model.files}
