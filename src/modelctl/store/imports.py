"""The records of imports: of one that runs or was interrupted, and of those that have brought a revision."""

import json
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from modelctl.ref import ModelRef
from modelctl.store import reading, standing
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Revision

# The options that decide what an import brings, and how.
OPTIONS = ("--copy", "--hard-link", "--all-files", "--follow-links", "--force")


class ImportRecord(NamedTuple):
    """What an import wrote down at its start: the path that it reads, as a full one, and the ref that it is to make.

    `variant` is the one quantisation that was asked for, `options` are those of `OPTIONS` that were given.
    """

    path: str
    ref: str
    variant: str | None = None
    options: tuple[str, ...] = ()


def record(paths: RepoPaths) -> ImportRecord | None:
    """The record of the model's import, `None` where there is none that can be read."""
    match reading.document(paths.import_record):
        case {"path": str(path), "ref": str(ref), **rest}:
            return ImportRecord(path, ref, *standing.wishes(rest))
        case _:
            return None


def write(paths: RepoPaths, record: ImportRecord) -> None:
    """Say in the store what is being imported."""
    # Not at the top: a listing of models only reads.
    from modelctl.store import changes

    changes.write_file(paths.import_record, json.dumps({"schema": 1, **record._asdict()}))


def of(paths: RepoPaths, revision: Revision) -> ImportRecord | None:
    """The import that has brought a revision, `None` where none has."""
    return of_commit(paths, revision.commit, revision.refs)


def of_commit(paths: RepoPaths, commit: str, refs: Sequence[str]) -> ImportRecord | None:
    """The same of a commit that these refs name."""
    known = standing.read(paths, commit)
    if known is None or known.imported is None:
        return None
    ref = "main" if "main" in refs else next(iter(refs), "main")
    return ImportRecord(known.imported, ref, known.variant, known.options)


def command(paths: RepoPaths, record: ImportRecord) -> str:
    """The command that goes on with it, or does it once more."""
    # What was read from a file may be anything, and what is printed is typed.
    ref = ModelRef(paths.id, None if record.ref == "main" else record.ref, record.variant)
    options = [option for option in OPTIONS if option in record.options]
    return shlex.join(["modelctl", "import", record.path, "--as", str(ref), *options])
