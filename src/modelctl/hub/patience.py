"""How long a Hub that fails is asked again: growing pauses, its own wishes honoured, and one bound for all of them."""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from modelctl.errors import UnreachableError

KEEP_GOING = "run the same command again: it goes on where it stopped"
_LONGEST_PAUSE = 30.0
_Got = TypeVar("_Got")


class TryAgainError(Exception):
    """A failure that may pass: the reason, how long the server asks to wait, and whether it said anything at all."""

    def __init__(self, reason: str, *, wait: float | None = None, is_silence: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.is_silence = is_silence

    def pause(self, tries: int) -> float:
        """How long to wait after so many tries."""
        return min(0.25 * 2**tries, _LONGEST_PAUSE) if self.wait is None else self.wait


def passing(exc: TryAgainError | OSError) -> TryAgainError:
    """A failure on the way as one that may pass."""
    if isinstance(exc, TryAgainError):
        return exc
    return TryAgainError("no byte came in time" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__)


def _say_nothing(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on, in seconds: while nothing comes of it, without a byte on one connection, without an answer.

    `say` is told of each wait.
    """

    seconds: float = 120.0
    stall: float = 20.0
    silence: float = math.inf
    say: Callable[[str], object] = _say_nothing

    def persist(self, subject: str, attempt: Callable[[], _Got]) -> _Got:
        """Attempt until it succeeds. Raises `UnreachableError`, whose message begins with `subject`."""
        heard = began = time.monotonic()
        for tries in itertools.count(1):
            try:
                return attempt()
            except TryAgainError as exc:
                heard = heard if exc.is_silence else time.monotonic()
                pause = exc.pause(tries)
                if pause >= self._left(began, heard):
                    why = reason(exc, patience=self.seconds)
                    raise UnreachableError(f"{subject}{why}", hint=KEEP_GOING) from exc
                self.say(f"{subject}{exc}; trying again in {pause:.1f} s")
                time.sleep(pause)
        raise AssertionError

    def _left(self, began: float, heard: float) -> float:
        now = time.monotonic()
        return min(self.seconds - (now - began), self.silence - (now - heard))


def reason(exc: TryAgainError, *, patience: float) -> str:
    """Why nobody waits any longer."""
    if exc.wait is None or exc.wait <= patience:
        return str(exc)
    return f"{exc} and asks to wait {exc.wait:.0f} s, more than the {patience:.0f} s of `--retry-for`"


def retry_after(asked: str | None, *, now: str | None) -> float | None:
    """The seconds that a `Retry-After` asks to wait, `None` where it asks for none.

    It may be a moment: then by the server's own clock, its `Date`, since ours may be wrong.
    """
    asked = (asked or "").strip()
    if asked.isdecimal():
        return float(asked) or None
    if (moment := _moment(asked)) is None:
        return None
    seconds = (moment - (_moment(now or "") or datetime.now(UTC))).total_seconds()
    return seconds if seconds > 0 else None


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
