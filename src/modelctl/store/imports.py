"""The records of imports: of one that runs or was interrupted, and of those that have brought a revision."""

import json
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from modelctl.store import reading, standing
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Revision


class ImportRecord(NamedTuple):
    """What an import wrote down at its start: the path that it reads, as a full one, and the ref that it is to make."""

    path: str
    ref: str


def record(paths: RepoPaths) -> ImportRecord | None:
    """The record of the model's import, `None` where there is none that can be read."""
    match reading.document(paths.import_record):
        case {"path": str(path), "ref": str(ref)}:
            return ImportRecord(path, ref)
        case _:
            return None


def write(paths: RepoPaths, record: ImportRecord) -> None:
    """Say in the store what is being imported."""
    # Not at the top: a listing of models only reads.
    from modelctl.store import changes

    changes.write_file(paths.import_record, json.dumps({"schema": 1, "path": record.path, "ref": record.ref}))


def of(paths: RepoPaths, revision: Revision) -> ImportRecord | None:
    """The import that has brought a revision, `None` where none has."""
    return of_commit(paths, revision.commit, revision.refs)


def of_commit(paths: RepoPaths, commit: str, refs: Sequence[str]) -> ImportRecord | None:
    """The same of a commit that these refs name."""
    path = standing.imported_from(paths, commit)
    return None if path is None else ImportRecord(path, "main" if "main" in refs else next(iter(refs), "main"))


def command(paths: RepoPaths, record: ImportRecord) -> str:
    """The command that goes on with it."""
    at = "" if record.ref == "main" else f"@{record.ref}"
    return f"modelctl import {shlex.quote(record.path)} --as {paths.id}{at}"
