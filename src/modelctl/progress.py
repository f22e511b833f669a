"""How long work tells of itself, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """The listener of one long piece of work. Called from one thread; `cli.output` has the two that exist."""

    def begin(self, what: str, *, total: int | None) -> None:
        """Start a phase of `total` bytes (`None`: not known)."""

    def advance(self, done: int) -> None:
        """`done` bytes of the phase are done in all; may go back when something has to be done again."""

    def file(self, name: str, *, size: int, source: str) -> None:
        """One file is done: `source` says how (`fetched`, `present`, `reused`, `moved`, `copied`, ...)."""

    def say(self, message: str) -> None:
        """One sentence for the user: a wait, a retry, a decision."""


class Silence:
    """A listener that shows nothing."""

    def begin(self, what: str, *, total: int | None) -> None:
        """Ignore it."""

    def advance(self, done: int) -> None:
        """Ignore it."""

    def file(self, name: str, *, size: int, source: str) -> None:
        """Ignore it."""

    def say(self, message: str) -> None:
        """Ignore it."""
