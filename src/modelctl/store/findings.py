"""What a verification looks at and what it finds, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelctl.errors import ModelctlError
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Location
from modelctl.store.proof import Stamp

# `content`: other bytes than its hash says. `size`: too many or too few of them. `missing`: no entry. `dangling`: an
# entry that leads to no content of this store. `swapped`: one that leads to another content than the commit has there.
# `folder`: one in the place of a file. `odd`: neither file, folder nor link. `header`: nothing tells the hash, and the
# header is none.
Kind = Literal["content", "size", "missing", "dangling", "swapped", "folder", "odd", "header"]


@dataclass(frozen=True, slots=True)
class Use:
    """An entry of a snapshot: one name in one commit."""

    commit: str
    name: str


@dataclass(frozen=True, slots=True)
class Content:
    """A content that can be proven: its file, the hash that it has to have, and what shows it.

    `expected` are the bytes that the commit's list names, where there is one. `payload`: it lies in the store that
    several models share.
    """

    path: Path
    digest: str
    stamp: Stamp
    uses: tuple[Use, ...]
    expected: int | None = None
    payload: Path | None = None

    @property
    def key(self) -> tuple[int, int, str]:
        """The same for all names of one file that should be one content: it is read once."""
        return self.stamp.device, self.stamp.inode, self.digest


@dataclass(frozen=True, slots=True)
class Damage:
    """Something wrong: what was expected and found, hashes and bytes, as far as either is known.

    `stamp` is the state of the file with the wrong bytes. `others` are models that show the same file.
    """

    kind: Kind
    path: Path
    uses: tuple[Use, ...] = ()
    expected: str | None = None
    found: str | None = None
    expected_size: int | None = None
    found_size: int | None = None
    stamp: Stamp | None = None
    payload: Path | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A file of which nothing tells what it should hold, and why."""

    path: Path
    uses: tuple[Use, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or folder that cannot be looked into."""

    path: Path
    uses: tuple[Use, ...]
    error: ModelctlError


@dataclass(frozen=True, slots=True)
class Inspected:
    """One model before a content of it has been read.

    `contents` are to be proven; `damages`, `unchecked` and `unreadable` show already. `error` is why it is not looked
    at as a whole. `commits` are the revisions that are meant, with the refs that name them, and `revisions` the names
    by which they were asked for: none of them is all.
    """

    paths: RepoPaths
    location: Location
    commits: Mapping[str, tuple[str, ...]]
    revisions: tuple[str, ...] = ()
    contents: tuple[Content, ...] = ()
    damages: tuple[Damage, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    error: ModelctlError | None = None

    @property
    def size(self) -> int:
        """Bytes that can be proven."""
        return sum(content.stamp.size for content in self.contents)


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of one model. `proven` are the contents that are what they should be."""

    model: Inspected
    proven: tuple[Content, ...]
    damages: tuple[Damage, ...]
    unreadable: tuple[Unreadable, ...]
    error: ModelctlError | None

    @property
    def size(self) -> int:
        """Bytes that are proven."""
        return sum(content.stamp.size for content in self.proven)

    @property
    def errors(self) -> tuple[ModelctlError, ...]:
        """What kept the model, or some of it, from being looked at."""
        whole = () if self.error is None else (self.error,)
        return (*whole, *(one.error for one in self.unreadable))
