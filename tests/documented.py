"""What docs/json.md says of every JSON value, read from its tables, and what a value itself shows.

A table has the columns key, type and meaning, and before them event where a command prints lines. A type is a word, a
link to the table of a shape (`[problem](#problem)`), or `list of` one of these; what it may be besides follows a comma.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "json.md"
# A heading, an event (none where the command prints one object), a key.
Row = tuple[str, str, str]

_SECTION = re.compile(r"^###? (?P<title>.+)\n(?P<text>(?:(?!###? ).*\n)*)", re.MULTILINE)
_HEADER = re.compile(r"^\| (?:event \| )?key \| type \| meaning \|$", re.MULTILINE)
_ROW = re.compile(r"^\|(?: `(?P<event>\w+)` \|)? `(?P<key>[\w.\[\]]+|\*)` \| (?P<type>[^|]+) \|[^|]*\|$")
_EXAMPLE = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHAPE = re.compile(r"\[([\w ]+)\]\(#[\w-]+\)")
# The key of the row that stands for all keys of the table it links to.
_ALL = "*"
# What is in a map is not ours to list: names of variables, the output of another command.
MAP = "map"
# Keys that a shape may have besides its own.
_BESIDES = {"error": "error details"}


@dataclass(frozen=True)
class Section:
    """One heading of the page: the types of its rows, its examples."""

    rows: Mapping[Row, str]
    examples: tuple[Any, ...]


@dataclass
class Said:
    """What the page says of one path in a value: the types that may stand there, and the rows that tell of it."""

    types: set[str] = field(default_factory=set)
    rows: set[Row] = field(default_factory=set)


Paths = dict[str, Said]


def sections() -> dict[str, Section]:
    """The sections of the page by their titles."""
    return {match["title"]: _section(match) for match in _SECTION.finditer(PAGE.read_text(encoding="utf-8"))}


def paths(page: Mapping[str, Section], title: str, event: str = "", *, inside: frozenset[str] = frozenset()) -> Paths:
    """Every path of the values that a section describes. A shape does not hold itself: `inside` are those around it."""
    kinds = {key: kind for (_, of, key), kind in page[title].rows.items() if of == event}
    found: Paths = {}
    around = inside | {title}
    if title in _BESIDES and title not in inside:
        _join(found, "", paths(page, _BESIDES[title], inside=around))
    for key, kind in kinds.items():
        # A row of its own says more than the shape around it.
        said = _typed(page, kind, "" if key == _ALL else key, inside=around)
        mine = {path: one for path, one in said.items() if _owner(path, kinds) == key}
        for one in mine.values():
            one.rows.add((title, event, key))
        _join(found, "", mine)
    return found


def shown(value: Any, path: str = "", *, maps: frozenset[str] = frozenset()) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - JSON
    """The paths in a JSON value, each with the type of what stands there; into `maps` it does not look."""
    match value:
        case dict() if path in maps:
            yield path, MAP
        case dict():
            for key, inner in value.items():
                yield from shown(inner, f"{path}.{key}" if path else key, maps=maps)
        case list():
            yield path, "list"
            for inner in value:
                yield from shown(inner, f"{path}[]", maps=maps)
        case _:
            words = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
            yield path, words[type(value)]


def _section(match: re.Match[str]) -> Section:
    title, text = match["title"], match["text"]
    rows: dict[Row, str] = {}
    for line in text.splitlines() if _HEADER.search(text) else ():
        if line.startswith("| `"):
            row = _ROW.match(line)
            assert row is not None, f"{title}: {line}"
            rows[title, row["event"] or "", row["key"]] = row["type"]
    return Section(rows, tuple(value for example in _EXAMPLE.findall(text) for value in _values(example)))


def _values(text: str) -> list[Any]:
    """An object over several lines, or one on every line."""
    return [json.loads(line) for line in text.splitlines()] if text.startswith('{"') else [json.loads(text)]


def _typed(page: Mapping[str, Section], kind: str, path: str, *, inside: frozenset[str]) -> Paths:
    """What a type says of a path and of all below it."""
    found: Paths = {}
    for one in kind.split(", "):
        if one.startswith("list of "):
            _join(found, path, {"": Said({"list"})})
            _join(found, "", _typed(page, one.removeprefix("list of "), f"{path}[]", inside=inside))
        elif shape := _SHAPE.fullmatch(one):
            _join(found, f"{path}." if path else "", paths(page, shape[1], inside=inside))
        else:
            # A whole number has no decimal point to tell it from an integer.
            _join(found, path, {"": Said({"number", "integer"} if one == "number" else {one})})
    return found


def _join(found: Paths, prefix: str, more: Paths) -> None:
    for path, said in more.items():
        one = found.setdefault(prefix + path, Said())
        one.types |= said.types
        one.rows |= said.rows


def _owner(path: str, keys: Mapping[str, str]) -> str:
    """The longest key of a table that a path lies under."""
    above = (key for key in keys if path == key or path.startswith((f"{key}.", f"{key}[")))
    return max(above, key=len, default=_ALL)
