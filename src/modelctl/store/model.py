"""What lies in a store, as frozen values.

Named tuples, since every start of `list` pays for them: six frozen dataclasses cost 2.5 ms, these 0.5.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

Location = Literal["project", "cache"]
State = Literal["ready", "partial", "broken"]
Format = Literal["safetensors", "gguf", "pickle"]


class Problem(NamedTuple):
    """Something wrong with a model, and the command that mends it."""

    kind: str
    message: str
    fix: str | None = None


class StoredFile(NamedTuple):
    """One entry of a snapshot: its name in the repository, where it lies, and where its content lies.

    `content` is the file with the content, as the link chain ends (the entry itself where there are no links); `None`
    with `size` `None` where the entry leads nowhere or out of the store. Texts, since a listing asks for few of them.
    """

    name: str
    entry: str
    content: str | None
    size: int | None

    @property
    def path(self) -> Path:
        """The snapshot entry."""
        return Path(self.entry)

    @property
    def blob(self) -> Path | None:
        """The file with the content."""
        return None if self.content is None else Path(self.content)


class Revision(NamedTuple):
    """One commit of a model: its snapshot folder, the refs that name it, its files."""

    commit: str
    path: Path
    refs: tuple[str, ...]
    files: tuple[StoredFile, ...]
    size: int
    modified: datetime | None


class Facts(NamedTuple):
    """What config.json and the weights' headers say of a model; `None` is unknown.

    `weights` are the bytes that its weights take in memory, as vLLM loads them.
    """

    format: Format | None = None
    task: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    context_length: int | None = None
    license: str | None = None
    weights: int | None = None


class Extent(NamedTuple):
    """Bytes: how long a content is, and what the disk spends on it."""

    size: int
    allocated: int

    @property
    def held(self) -> int:
        """Bytes of the content that the disk holds: fewer than it is long, where it has holes."""
        return min(self.size, self.allocated)


class Model(NamedTuple):
    """One repository folder of a hub folder, in whatever condition.

    Sizes in bytes: `size` is what the blobs hold, `allocated` what the disk spends on them; `done` of `total` bytes of
    the selected files are there (`total` `None`: no listing tells). `shared` are those contents, by device and inode,
    that have another name outside of the model, or lie there.
    """

    id: str
    location: Location
    path: Path
    state: State
    servable: bool | None
    size: int
    allocated: int
    done: int
    total: int | None
    revisions: tuple[Revision, ...]
    modified: datetime | None
    used: datetime | None
    facts: Facts
    problems: tuple[Problem, ...]
    other_copies: tuple[Path, ...] = ()
    shared: Mapping[tuple[int, int], Extent] = MappingProxyType({})

    @property
    def held(self) -> int:
        """Bytes of its contents that the disk holds: fewer than `size`, where there are holes."""
        return min(self.size, self.allocated)


class Download(NamedTuple):
    """A pull that runs, or was interrupted, as the disk tells it. `rate` is bytes a second since it began."""

    id: str
    path: Path
    commit: str
    done: int
    total: int
    rate: float | None
    active: bool
