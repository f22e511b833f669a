"""What an error line of vLLM looks like, and what it means."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from modelctl.engine import remedies
from modelctl.engine.remedies import Words

Kind = Literal["memory", "device", "port", "arguments", "model", "parallel", "offline", "access", "engine", "unknown"]

# A measure of vLLM's, as far as one can be: what has more digits, or more points, is none.
NUMBER = r"\d{1,9}(?:\.\d{1,9})?"


@dataclass(frozen=True, slots=True)
class Symptom:
    """An error line: what it means and what to try, both with the words of the line and those computed from them."""

    kind: Kind
    pattern: re.Pattern[str]
    message: str
    remedy: str
    more: Callable[[Words], Words]


def row(
    kind: Kind, pattern: str, message: str, remedy: str, *, more: Callable[[Words], Words] = remedies.nothing
) -> Symptom:
    """A row of a table of symptoms."""
    return Symptom(kind, re.compile(pattern), message, remedy, more)
