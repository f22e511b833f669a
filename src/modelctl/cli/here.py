"""Commands that are named to the user, as they have to be typed here.

Where this command was given `--models-dir`, the next one without it would mean another store.
"""

import re
import shlex
from collections.abc import Sequence
from typing import Any

_VERBS = "list|ls|show|status|pull|rm|prune|migrate|import|export-config|export|use|serve|verify"
# Compiled when they are asked for: nearly no command is given a place.
_NAMED = rf"`modelctl (?P<verb>{_VERBS})\b(?P<rest>[^`\n]*)`"
_ALONE = rf"modelctl (?P<verb>{_VERBS})\b(?P<rest>[^`\n]*)"
_OPTION = "--models-dir"


class Here:
    """The models directory that the command line names; empty where it names none."""

    def __init__(self, argv: Sequence[str] = ()) -> None:
        self._option = ""
        for at, word in enumerate(argv):
            name, has_value, value = word.partition("=")
            if name == _OPTION and (has_value or at + 1 < len(argv)):
                self._option = f"{_OPTION} {shlex.quote(value if has_value else argv[at + 1])}"

    def text(self, text: str) -> str:
        """A text for people, in which commands stand in backticks."""
        return re.sub(_NAMED, lambda match: f"`{self._completed(match)}`", text) if self._option else text

    def value(self, value: Any) -> Any:  # noqa: ANN401 - JSON values
        """A JSON value, in whose texts commands stand in backticks, or alone."""
        if not self._option:
            return value
        if isinstance(value, dict):
            return {key: self.value(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        if isinstance(value, str) and (match := re.fullmatch(_ALONE, value)):
            return self._completed(match)
        return self.text(value) if isinstance(value, str) else value

    def _completed(self, match: re.Match[str]) -> str:
        option = "" if _OPTION in match["rest"] else f" {self._option}"
        return f"modelctl {match['verb']}{option}{match['rest']}"
