"""The model card: what the front matter of README.md, or else a licence text, says."""

import os
import re

from modelctl.store import reading

_MAX_CARD = 64 * 1024
_FIELD = re.compile(r"^(license|license_name|pipeline_tag|base_model):[ \t]*(.*)$")
_LICENSES = (
    (b"Apache License", "apache-2.0"),
    (b"MIT License", "mit"),
    (b"GNU AFFERO GENERAL PUBLIC LICENSE", "agpl-3.0"),
    (b"GNU LESSER GENERAL PUBLIC LICENSE", "lgpl"),
    (b"GNU GENERAL PUBLIC LICENSE", "gpl"),
    (b"LLAMA 2 COMMUNITY LICENSE", "llama2"),
    (b"META LLAMA 3 COMMUNITY LICENSE", "llama3"),
    (b"LLAMA 3.1 COMMUNITY LICENSE", "llama3.1"),
    (b"LLAMA 3.2 COMMUNITY LICENSE", "llama3.2"),
    (b"LLAMA 3.3 COMMUNITY LICENSE", "llama3.3"),
    (b"Gemma Terms of Use", "gemma"),
    (b"BSD 3-Clause", "bsd-3-clause"),
)


def fields(path: str | os.PathLike[str]) -> dict[str, str]:
    """`license`, `license_name`, `pipeline_tag` and `base_model` of a card's front matter, as far as they are there.

    Of a list it takes the first entry. This is the little of YAML that cards are written in; the rest is left alone.
    """
    text = (reading.head(path, _MAX_CARD) or b"").decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.splitlines()
    found: dict[str, str] = {}
    if not lines or lines[0].strip() != "---":
        return found
    waiting = None
    for line in lines[1:]:
        if line.strip() == "---":
            return found
        match = _FIELD.match(line)
        if match:
            waiting = None if _scalar(match[2]) else match[1]
            found |= {match[1]: _scalar(match[2])} if waiting is None else {}
        elif waiting and line.lstrip().startswith("- "):
            found[waiting] = _scalar(line.lstrip()[2:])
            waiting = None
        elif line.strip():
            waiting = None
    # Without its end the front matter is none.
    return {}


def license_of(path: str | os.PathLike[str]) -> str | None:
    """The licence that a LICENSE file holds, by the Hub's name for it; `None` where it is none of the usual ones."""
    start = reading.head(path, 2000) or b""
    return next((name for text, name in _LICENSES if text.lower() in start.lower()), None)


def _scalar(text: str) -> str:
    text = re.sub(r"[ \t]+#.*$", "", text.strip()).strip("[]").split(",")[0].strip()
    return text.strip("\"'")
