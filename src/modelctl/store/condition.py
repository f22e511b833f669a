"""The condition of a model: that of its default revision, a pull that runs or was interrupted, what else is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from modelctl.ref import is_model_id
from modelctl.store import checkpoint, deletion, metadata, pulls, tree, wholeness
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.contents import Contents
from modelctl.store.layout import RepoPaths
from modelctl.store.metadata import Description
from modelctl.store.model import Facts, Location, Problem, Revision, State
from modelctl.store.pulls import PullRecord
from modelctl.store.tree import TreeFile
from modelctl.store.wholeness import Verdict

_SHORT = 12
_UNKNOWN = Description(Facts(), None, ())


class Condition(NamedTuple):
    """What `store.model.Model` says of wholeness and content, and the checkpoint that it was read from."""

    state: State
    done: int
    total: int | None
    description: Description
    problems: tuple[Problem, ...]
    checkpoint: Checkpoint | None = None


def default_of(revisions: Sequence[Revision]) -> Revision | None:
    """The revision that counts: that of `main`, else the only one, else the newest (they come newest first)."""
    named = (revision for revision in revisions if "main" in revision.refs)
    return next(named, revisions[0] if revisions else None)


def pull_command(paths: RepoPaths, read: Checkpoint | None = None) -> str | None:
    """The command that fetches what was read of a model; `None` for a folder whose name is no model's."""
    if not is_model_id(paths.id):
        return None
    if read is None:
        return f"modelctl pull {paths.id}"
    revision, chosen = read.revision, read.selection
    labels = [label for label, files in chosen.choices.items() if files == chosen.weights]
    # Where there are several quantisations a pull has to be told which one.
    return pulls.command(paths, _name(revision), labels[0] if labels and len(chosen.choices) > 1 else None)


def commands(
    paths: RepoPaths, read: Checkpoint, location: Location, *, has_private: bool = True
) -> tuple[str | None, str | None]:
    """The commands that bring what was read, from where it came, and that mend what is wrong with it.

    `has_private`: modelctl keeps something of its own beside the model, which may tell of an import.
    """
    if has_private:
        # Not at the top: most models were never imported.
        from modelctl.store import imports

        if record := imports.of(paths, read.revision):
            again = imports.command(paths, record)
            return again, f"{again.removesuffix(' --force')} --force"
    if not is_model_id(paths.id):
        return None, None
    mend = pulls.mending(paths, _name(read.revision), in_cache=location == "cache")
    return pull_command(paths, read), mend


def _name(revision: Revision) -> str:
    """What a revision is asked for by."""
    return "main" if "main" in revision.refs else revision.refs[0] if revision.refs else revision.commit


def assess(paths: RepoPaths, found: Contents, revisions: Sequence[Revision], location: Location) -> Condition:
    """Judge a model by its default revision; the others only add their problems."""
    pull = pulls.record(paths) if found.has_private else None
    default = default_of(revisions)
    others = [revision for revision in revisions if revision is not default]
    beside = (*_ref_problems(paths, found), *_other_problems(paths, found, others, pull, location))
    if default is None:
        return _without_revision(paths, found, pull, beside)
    listing = tree.read(paths, default.commit)
    read = checkpoint.read(default, listing=listing)
    if pull and pull.commit == default.commit:
        verdict = _verdict(paths, found, read, location, listing=listing, wanted=pull.files)
        if verdict.missing:
            return _pulled(paths, pull, read, verdict, beside)
    verdict = _verdict(paths, found, read, location, listing=listing, wanted=None)
    if pull and pull.commit != default.commit:
        beside = (*_pull_problems(paths, pull), *beside)
    return _whole_or_not(paths, found, read, listing, verdict, beside)


def _verdict(
    paths: RepoPaths,
    found: Contents,
    read: Checkpoint,
    location: Location,
    *,
    listing: Mapping[str, TreeFile] | None,
    wanted: Sequence[str] | None,
) -> Verdict:
    pull, mend = commands(paths, read, location, has_private=found.has_private)
    return wholeness.judge(
        read, listing=listing, wanted=wanted, unfinished=bool(found.unfinished), pull=pull, mend=mend
    )


def _whole_or_not(
    paths: RepoPaths,
    found: Contents,
    read: Checkpoint,
    listing: Mapping[str, TreeFile] | None,
    verdict: Verdict,
    beside: tuple[Problem, ...],
) -> Condition:
    done = verdict.done + pulls.received(paths, verdict.missing, listing)
    if listing is None and verdict.state == "partial":
        done += sum(status.st_size for status in found.unfinished.values())
    if verdict.state != "ready":
        description = Description(metadata.describe(read).facts, None, ())
    else:
        description = metadata.describe(read)
    problems = (*verdict.problems, *description.problems, *beside, *_listing_problems(paths, read, listing))
    return Condition(verdict.state, done, verdict.total, description, problems, read)


def _pulled(
    paths: RepoPaths, pull: PullRecord, read: Checkpoint, verdict: Verdict, beside: tuple[Problem, ...]
) -> Condition:
    """A revision that a pull has begun to publish: what is missing is on its way, or waits for the next pull."""
    download = pulls.progress(paths, pull)
    wrong = tuple(problem for problem in verdict.problems if problem.kind != "missing")
    description = Description(metadata.describe(read).facts, None, ())
    problems = (*wrong, *_pull_problems(paths, pull), *beside)
    state: State = "broken" if verdict.state == "broken" else "partial"
    return Condition(state, download.done, download.total, description, problems, read)


def _without_revision(
    paths: RepoPaths, found: Contents, pull: PullRecord | None, beside: tuple[Problem, ...]
) -> Condition:
    if pull:
        download = pulls.progress(paths, pull)
        return Condition("partial", download.done, download.total, _UNKNOWN, (*_pull_problems(paths, pull), *beside))
    command = pull_command(paths)
    if found.unfinished:
        problem = Problem("unfinished", "its download was interrupted before a file was whole, or still runs", command)
        done = sum(status.st_size for status in found.unfinished.values())
        return Condition("partial", done, None, _UNKNOWN, (problem,))
    if found.has_private and (begun := _import_problem(paths) or _migration_problem(paths)):
        return Condition("partial", 0, None, _UNKNOWN, (begun, *beside))
    if any(oddity.kind == "unreadable" for oddity in found.oddities):
        # There may be one, and refs may be right: what lets somebody look is told with what cannot be read.
        return Condition("broken", 0, None, _UNKNOWN, tuple(problem for problem in beside if problem.kind != "ref"))
    what = "contents, but no revision that names them" if found.blobs else "no revision"
    return Condition("broken", 0, None, _UNKNOWN, (Problem("no_revision", f"it has {what}", command), *beside))


def _import_problem(paths: RepoPaths) -> Problem | None:
    # Not at the top: nearly never is there such a record.
    from modelctl.store import imports

    record = imports.record(paths)
    if record is None:
        return None
    message = f"its import from `{record.path}` was interrupted, or still runs"
    return Problem("interrupted", message, imports.command(paths, record))


def _migration_problem(paths: RepoPaths) -> Problem | None:
    if not deletion.is_folder(paths.incoming):
        return None
    # Where it comes from is not written down.
    message = "its migration was interrupted, or still runs: the same `modelctl migrate` goes on with it"
    return Problem("interrupted", message, None)


def _pull_problems(paths: RepoPaths, pull: PullRecord) -> Iterator[Problem]:
    download = pulls.progress(paths, pull)
    if download.active:
        yield Problem("pulling", f"{pull.owner} is fetching commit {pull.commit[:_SHORT]}")
        return
    at = f" at {download.done * 100 // download.total} %" if download.total else ""
    message = f"the pull of commit {pull.commit[:_SHORT]} was interrupted{at}"
    yield Problem("interrupted", message, pulls.again(paths, pull))


def _ref_problems(paths: RepoPaths, found: Contents) -> Iterator[Problem]:
    for name, commit in sorted(found.refs.items()):
        if commit not in found.snapshots:
            command = pull_command(paths)
            fix = command if name == "main" or command is None else f"{command}@{name}"
            yield Problem("ref", f"`{name}` names commit {commit[:_SHORT]}, which is not here", fix)


def _other_problems(
    paths: RepoPaths, found: Contents, others: Sequence[Revision], pull: PullRecord | None, location: Location
) -> Iterator[Problem]:
    """What is wrong with revisions beside the default one, without a look into their weights."""
    for revision in others:
        if pull and pull.commit == revision.commit:
            continue
        listing = tree.read(paths, revision.commit)
        read = checkpoint.read(revision, listing=listing, headers=False)
        fix, mend = commands(paths, read, location, has_private=found.has_private)
        verdict = wholeness.judge(read, listing=listing, wanted=None, unfinished=False, pull=fix, mend=mend)
        for problem in verdict.problems:
            yield Problem(problem.kind, f"commit {revision.commit[:_SHORT]}: {problem.message}", problem.fix)


def _listing_problems(paths: RepoPaths, read: Checkpoint, listing: Mapping[str, TreeFile] | None) -> Iterator[Problem]:
    """A file list that is there and tells nothing: then nobody knows offline what the commit should hold."""
    commit = read.revision.commit
    if listing is None and tree.is_there(paths, commit):
        message = f"`trees/{commit[:_SHORT]}….json` cannot be read, so nothing tells whether files are missing"
        yield Problem("listing", message, pull_command(paths, read))
