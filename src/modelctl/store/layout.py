"""Names and paths of a hub folder, in both blob layouts (pure).

hub/models--ORG--NAME/blobs/<git SHA-1 | SHA-256>
                      snapshots/<commit>/path/to/file   ->  ../../blobs/<...>
                      refs/<branch or tag>              the commit, 40 hex digits
                      trees/<commit>.json               the file list of a whole commit
                      .no_exist/<commit>/<file>
                      .modelctl/                        ours: what is unfinished, and how revisions stand
hub/blobs/<2 hex>/<xet hash>                            the cache-wide store; blobs are then links into it
hub/.locks/models--ORG--NAME/<blob>.lock
                             modelctl.lock              ours
hub/.locks/.modelctl-trash/                             ours: set aside, not yet freed
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from modelctl.errors import NotFoundError
from modelctl.ref import is_commit, is_model_id, is_revision

MODEL_PREFIX = "models--"
_DATASET_PREFIX = "datasets--"
SHARED_MARKER = ".huggingface-shared-blobs"
CACHE_TAG = "CACHEDIR.TAG"
CACHE_TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file is a cache directory tag created by modelctl.\n"
    "# For information about cache directory tags, see:\n"
    "#\thttps://bford.info/cachedir/\n"
)
# A terminal would obey some of these, and half of a surrogate pair is no character.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# What every file system takes, with room for the folders above it.
_LONGEST_NAME, _LONGEST_PART = 1024, 255
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RepoPaths:
    """The paths of one model's repository folder in a hub folder.

    `found` is the folder's name on disk where the id does not give it (see `paths_at`). The folders are put together
    once: thousands of files may be asked for.
    """

    hub: Path
    id: str
    found: str | None = None

    @cached_property
    def folder(self) -> Path:
        """`models--ORG--NAME`, the repository folder."""
        return self.hub / (self.found or folder_name(self.id))

    @cached_property
    def blobs(self) -> Path:
        """The folder of the contents."""
        return self.folder / "blobs"

    @cached_property
    def snapshots(self) -> Path:
        """The folder of the revisions."""
        return self.folder / "snapshots"

    @cached_property
    def refs(self) -> Path:
        """The folder of branches and tags."""
        return self.folder / "refs"

    @cached_property
    def private(self) -> Path:
        """The folder that is modelctl's own; other tools leave it alone."""
        return self.folder / ".modelctl"

    @cached_property
    def partials(self) -> Path:
        """The folder of unfinished blobs.

        Not `blobs/*.incomplete`: `hf cache prune` deletes those, also while they are being written.
        """
        return self.private / "partial"

    @property
    def pull_record(self) -> Path:
        """The record of a running or interrupted pull."""
        return self.private / "pull.json"

    @cached_property
    def incoming(self) -> Path:
        """The folder of what a migration is bringing."""
        return self.private / "incoming"

    @cached_property
    def imported(self) -> Path:
        """The folder of what an import is bringing."""
        return self.private / "import"

    @cached_property
    def import_record(self) -> Path:
        """The record of a running or interrupted import."""
        return self.imported / "record.json"

    @cached_property
    def standings(self) -> Path:
        """The folder of what is known of revisions that no ref names."""
        return self.private / "revisions"

    def standing(self, commit: str) -> Path:
        """What is known of one revision beside its refs."""
        return self.standings / f"{commit}.json"

    @cached_property
    def locks(self) -> Path:
        """The folder of this model's locks."""
        return self.hub / ".locks" / (self.found or folder_name(self.id))

    @property
    def lock(self) -> Path:
        """The lock of modelctl's own writers."""
        return self.locks / "modelctl.lock"

    def blob(self, digest: str) -> Path:
        """The blob of this hash."""
        return self.blobs / digest

    def blob_lock(self, digest: str) -> Path:
        """The lock that huggingface_hub takes while it fetches this blob."""
        return self.locks / f"{digest}.lock"

    def partial(self, digest: str) -> Path:
        """The unfinished blob of this hash."""
        return self.partials / digest

    def journal(self, digest: str) -> Path:
        """What of the unfinished blob is known to be on the disk."""
        return self.partials / f"{digest}.json"

    def snapshot(self, commit: str) -> Path:
        """The folder of one revision."""
        return self.snapshots / commit

    def entry(self, commit: str, name: str) -> Path:
        """The snapshot entry of one file; `name` has passed `is_file_name`."""
        return self.snapshots.joinpath(commit, name)

    def ref(self, name: str) -> Path:
        """The file that holds the commit of a branch or tag."""
        return self.refs / name

    def tree(self, commit: str) -> Path:
        """The cached file list of one commit."""
        return self.folder / "trees" / f"{commit}.json"


def folder_name(model_id: str) -> str:
    """`org/name` as a folder name. What is not an id never becomes a path."""
    if not is_model_id(model_id):
        raise NotFoundError(f"`{model_id}` is not a model name", hint="a name looks like `org/name`")
    return MODEL_PREFIX + model_id.replace("/", "--")


def model_id(folder: str) -> str | None:
    """The id that a repository folder's name stands for, `None` if it is no model's.

    The way back loses something: `--` was either a slash or part of an old name. As huggingface_hub reads it.
    """
    rest = folder.removeprefix(MODEL_PREFIX)
    return rest.replace("--", "/") if rest and rest != folder else None


def repository_id(folder: str) -> str | None:
    """The id of a model or, as `datasets/ORG/NAME`, of a dataset; `None` for the folder of anything else."""
    if folder.startswith(_DATASET_PREFIX) and len(folder) > len(_DATASET_PREFIX):
        return f"datasets/{folder.removeprefix(_DATASET_PREFIX).replace('--', '/')}"
    return model_id(folder)


def model_within(path: Path) -> str | None:
    """The id of the model in whose folder a path lies, `None` where in none."""
    return next((found for part in path.parts if (found := model_id(part))), None)


def paths_at(folder: Path) -> RepoPaths:
    """The paths of a repository folder as it lies on disk, also where its name is one that no id gives."""
    found = model_id(folder.name)
    if found is None:
        raise NotFoundError(f"`{folder}` is not a model's folder", hint="such a folder is called `models--ORG--NAME`")
    return RepoPaths(folder.parent, found, None if is_model_id(found) else folder.name)


def trash(hub: Path) -> Path:
    """Where what is removed is set aside by one rename before it is freed.

    Below `.locks`, where no other tool looks or warns.
    """
    return hub / ".locks" / ".modelctl-trash"


def shared_blobs(hub: Path) -> Path:
    """The cache-wide blob store of huggingface_hub 2.3 and newer; a `blobs/` without its marker is not one."""
    return hub / "blobs"


@lru_cache(1 << 12)
def is_file_name(name: str) -> bool:
    """Whether a file name that the Hub gave stays inside a snapshot folder; disks and terminals have to bear it too."""
    # In bytes, so that it means the same in every locale.
    data = name.encode("utf-8", "surrogatepass")
    return (
        len(data) <= _LONGEST_NAME
        and _UNPRINTABLE.search(name) is None
        and "\\" not in name
        and all(part not in {b"", b".", b".."} and len(part) <= _LONGEST_PART for part in data.split(b"/"))
    )


def is_digest(name: str) -> bool:
    """Whether a blob's name says what its content must hash to."""
    return is_git_sha1(name) or is_sha256(name)


def is_git_sha1(name: str) -> bool:
    """Whether a blob's name is git's hash of an ordinary file: SHA-1 over `blob <size>`, a zero byte, the content."""
    return _SHA1.fullmatch(name) is not None


def is_sha256(name: str) -> bool:
    """Whether a blob's name is the SHA-256 of its content, as for LFS and Xet files."""
    return _SHA256.fullmatch(name) is not None


def link_target(name: str, digest: str) -> str:
    """What the snapshot entry of `name` links to: a relative path, so that the folder can be moved and copied."""
    return "../" * (name.count("/") + 2) + f"blobs/{digest}"


def is_ref_path(name: str) -> bool:
    """Whether a ref may be written at `refs/<name>`."""
    return is_revision(name) and not is_commit(name)
