"""`modelctl.toml`, read and checked: what makes no sense in it is refused with line and key."""

import errno
import json
import os
import re
import stat
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelctl import ref as refs
from modelctl.engine import flags
from modelctl.engine.profile import OWN, Profiles, Value
from modelctl.errors import NotAllowedError, UsageError
from modelctl.project import Project
from modelctl.store import reading

_KEY = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", re.IGNORECASE)
_MODELS = "models"
# Bytes of a file, and parts of a key, of which the library takes the square of the time: with more it takes seconds.
_MOST, _DEEPEST = 1 << 16, 500
# Seconds of computing after which the line of a mistake is not looked for any longer.
_PATIENCE = 0.3
_REFUSED = {
    "model": "the table's name says which model it is for",
    "help": "`modelctl serve --help` tells of ours; vLLM's own are those of `vllm serve`",
    "uds": "`modelctl serve` listens on a port",
    "api-key": "name a file with `api-key-file`: this one is read by everybody who reads the project",
    "hf-token": "`modelctl` finds your own token by itself",
    "node-rank": "it differs from machine to machine: give `--node-rank` on the command line",
    "headless": "`--node-rank` decides it",
    "lora-modules": "`lora` names adapters of the store",
}


def read(project: Project) -> Profiles:
    """Read the project's `modelctl.toml`: `UsageError` with line and key where it cannot mean anything."""
    path = project.settings_file
    try:
        text = _text_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return Profiles(project.folder, {}, {})
    except OSError as exc:
        raise NotAllowedError(f"cannot read `{path}`: {exc.strerror}", hint=f"see `ls -l {path}`") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"`{path}` is no UTF-8 text: byte {exc.start}", hint="save it as UTF-8") from exc
    try:
        return _checked(project.folder, _parsed(text))
    except _TooDottedError:
        hint = "a key with that many parts is none; a long text stands in a file of its own"
        raise UsageError(f"`{path}` has a line with more than {_DEEPEST} points", hint=hint) from None
    except RecursionError as exc:
        raise UsageError(f"`{path}` is nested too deeply", hint="no flag needs so many tables in tables") from exc
    except ValueError as exc:
        # Also of a number with more digits than Python reads.
        raise UsageError(
            f"`{path}` is no TOML: {_lowered(exc)}", hint="https://toml.io shows how it is written"
        ) from exc
    except _WrongError as wrong:
        line = _line(text, wrong.keys)
        where = f"`{path}`, line {line}" if line else f"`{path}`"
        raise UsageError(f"{where}: `{_dotted(wrong.keys)}` {wrong.message}", hint=wrong.hint) from None


def _text_of(path: Path) -> str:
    descriptor = reading.opened(path)
    with open(descriptor, "rb", closefd=True) as file:  # noqa: PTH123 - it is open already
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        content = file.read(_MOST + 1) if stat.S_ISREG(status.st_mode) else b""
    if not stat.S_ISREG(status.st_mode) or len(content) > _MOST:
        what = "larger than any settings are" if content else "no file"
        raise UsageError(f"`{path}` is {what}", hint="the settings of `serve` stand in it, in TOML")
    return content.decode("utf-8-sig")


def _parsed(text: str) -> dict[str, Any]:
    if max(line.count(".") for line in text.split("\n")) > _DEEPEST:
        raise _TooDottedError
    return tomllib.loads(text)


class _TooDottedError(Exception):
    pass


class _WrongError(Exception):
    def __init__(self, keys: Sequence[str], message: str, hint: str) -> None:
        super().__init__(message)
        self.keys = tuple(keys)
        self.message = message
        self.hint = hint


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_port(value: object) -> bool:
    return type(value) is int and 0 <= value <= 65535


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_word(value)


def _is_word(value: str) -> bool:
    """Whether a command line can hold it, as Linux takes words."""
    return "\0" not in value


def _are_names(value: object) -> bool:
    return _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))


def _are_loras(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(each) for each in value.values())


# What a value of the keys that modelctl acts on has to be.
_FITS: dict[str, tuple[Callable[[object], bool], str]] = {
    "host": (_is_text, 'an address, as in `host = "0.0.0.0"`'),
    "port": (_is_port, "a number from 0 to 65535"),
    "served-model-name": (_are_names, "a name or a list of names"),
    "api-key-file": (_is_text, "a path"),
    "lora": (_are_loras, 'a table, as in `lora = {sql = "acme/sql-lora"}`'),
    "image": (_is_text, 'an image, as in `image = "vllm/vllm-openai:v0.33.0"`'),
    "nnodes": (_is_whole, "a whole number"),
    "master-addr": (_is_text, "an address"),
    "ray": (lambda value: isinstance(value, bool), "`true` or `false`"),
}


def _checked(folder: Path, document: Mapping[str, Any]) -> Profiles:
    for name in document:
        if name != "serve":
            raise _WrongError([name], "is no table that modelctl knows", "the settings of `serve` stand in `[serve]`")
    tables = _table(document.get("serve", {}), ["serve"])
    models = _table(tables.get(_MODELS, {}), ["serve", _MODELS])
    defaults = {key: value for key, value in tables.items() if key != _MODELS}
    own: dict[str, Mapping[str, Value]] = {}
    for name, table in models.items():
        keys = ["serve", _MODELS, name]
        if not refs.is_model_id(name):
            raise _WrongError(keys, "is no model", 'a table is named as in `[serve.models."org/name"]`')
        own[name] = _flags(_table(table, keys), keys)
    return Profiles(folder, _flags(defaults, ["serve"]), own)


def _table(value: object, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _WrongError(keys, "is no table", f"write it as `[{_dotted(keys)}]`")
    return value


def _flags(table: Mapping[str, Any], above: Sequence[str]) -> dict[str, Value]:
    """The keys of a table as vLLM spells them, each with a value that a flag can have."""
    found: dict[str, Value] = {}
    for written, value in table.items():
        keys, key = [*above, written], written.replace("_", "-")
        if not _KEY.fullmatch(written):
            is_part = "." in written
            hint = "without its quotes it sets a part" if is_part else "a key is a flag of vLLM without its dashes"
            raise _WrongError(keys, "is no name of a flag", hint)
        _check_name(key, keys)
        if key in found:
            raise _WrongError(keys, "is there twice", "write it once, with dashes or with underscores")
        if key in _FITS:
            fits, what = _FITS[key]
            if not fits(value):
                raise _WrongError(keys, f"is not {what}", f"it is {_shown(value)}")
        elif not _can_be_given(value):
            raise _WrongError(keys, "has a value that no flag can have", "text, numbers, true, false, lists and tables")
        found[key] = value
    return found


def _check_name(key: str, keys: Sequence[str]) -> None:
    """Refuse what has no place in the file, also where it is shortened, as vLLM's parser lets it be.

    In whichever case: what vLLM would not take either may be a key that must not be shown.
    """
    if key in OWN:
        return
    if (refused := next((each for each in _REFUSED if flags.means(key.lower(), each)), None)) is not None:
        raise _WrongError(keys, "cannot stand in this file", _REFUSED[refused])
    if (meant := next((each for each in OWN if flags.means(key.lower(), each)), None)) is not None:
        raise _WrongError(keys, "is no name of a flag", f"write it in full: `{meant}`")


def _can_be_given(value: object) -> bool:
    match value:
        case list():
            return bool(value) and all(_can_be_given(each) and not isinstance(each, list) for each in value)
        case dict():
            return all(map(_is_json, value.values()))
        case float():
            return value == value and abs(value) != float("inf")  # noqa: PLR0124 - asks whether it is a number
        case str():
            return _is_word(value)
        case _:
            return _is_count(value)


def _is_count(value: object) -> bool:
    # No flag of vLLM's takes more.
    return isinstance(value, int) and abs(value) < 1 << 64


def _is_json(value: object) -> bool:
    match value:
        case list():
            return all(map(_is_json, value))
        case dict():
            return all(map(_is_json, value.values()))
        case _:
            return isinstance(value, (str, float)) or _is_count(value)


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return f"`{text if len(text) <= 60 else text[:60] + '...'}`"


def _dotted(keys: Sequence[str]) -> str:
    return ".".join(key if re.fullmatch(r"[\w-]+", key) else json.dumps(key, ensure_ascii=False) for key in keys)


def _line(text: str, keys: Sequence[str]) -> int | None:
    """The line on which a key stands, counted from 1: the first after all that can be read without it.

    The library tells no lines, and any way of writing a key is found so; `None` where that would take long.
    """
    lines = [f"{line}\n" for line in text.split("\n")]
    without, end, deadline = 0, len(lines), time.thread_time() + _PATIENCE
    while without + 1 < end:
        middle = (without + end) // 2
        for count in range(middle, end):
            if time.thread_time() > deadline:
                return None
            if (has := _has(lines[:count], keys)) is not None:
                break
        else:
            has = True
        without, end = (without, middle) if has else (count, end)
    return without + 1


def _has(lines: Sequence[str], keys: Sequence[str]) -> bool | None:
    """Whether the beginning of a document has a key; `None` where it ends in the middle of something."""
    try:
        value: Any = tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value is not None


def _lowered(exc: Exception) -> str:
    text = str(exc)
    return text[:1].lower() + text[1:]
