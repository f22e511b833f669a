"""The default model of a project in its `.env`, one line among others that are somebody else's (pure)."""

import re

_MODEL_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?MODELCTL_MODEL[ \t]*=[ \t]*(?P<value>[^\r\n]*)", re.MULTILINE)


def default_model(text: str) -> str | None:
    """The model that the content of `.env` sets, without its quotes; the last line that sets one counts."""
    values = [match["value"] for match in _MODEL_LINE.finditer(text)]
    return (_unquoted(values[-1]) or None) if values else None


def with_default_model(text: str, model: str) -> str:
    """The content of `.env` with `MODELCTL_MODEL=model`, every other line as it was.

    The last line that sets it is the one that counts and is rewritten; earlier ones are left alone.
    """
    line = f"MODELCTL_MODEL={model}"
    matches = list(_MODEL_LINE.finditer(text))
    if not matches:
        newline = "\r\n" if "\r\n" in text else "\n"
        gap = "" if not text or text.endswith("\n") else newline
        return f"{text}{gap}{line}{newline}"
    last = matches[-1]
    prefix = "export " if last[0].lstrip().startswith("export") else ""
    return f"{text[: last.start()]}{prefix}{line}{text[last.end() :]}"


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] in "\"'" and value[0] in value[1:]:
        return value[1 : value.index(value[0], 1)]
    return value.split(" #", 1)[0].strip()
