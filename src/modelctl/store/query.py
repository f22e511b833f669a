"""Which models are asked for, and in what order: `size>10GB`, `state=partial`, `used>30d`; `size:asc` (pure).

What is not known of a model fits `=none` and `!=` anything, and stands last in every order.
"""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Literal, get_args

from modelctl.errors import UsageError
from modelctl.store.model import Format, Location, Model, State

Value = str | float | datetime | None
Kind = Literal["text", "bytes", "count", "tokens", "time"]

_COMPARES: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"\s*(?P<key>[\w-]+?)\s*(?P<sign>!=|>=|<=|=|>|<)\s*(?P<value>.*?)\s*", re.DOTALL)
_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)")
_NONE = "none"
_EQUALITY = {"=", "!="}

# Units by what they count: sizes in decimal ones, as `list` shows them, and in the binary ones of other tools.
_UNITS: dict[Kind, dict[str, float]] = {
    "bytes": {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    | {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
    "count": {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12},
    # As `list` shows a context length: 128K is 131,072.
    "tokens": {"": 1, "k": 2**10, "m": 2**20},
    "time": {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400},
}
_EXAMPLES: dict[Kind, str] = {
    "bytes": "`size>10GB`; there are kB, MB, GB, TB, and KiB, MiB, GiB, TiB",
    "count": "`params<8B`; there are K, M, B, T",
    "tokens": "`context>=32K`; there are K and M, of 1024 each",
    "time": "`used>30d`; there are s, min, h, d, w, y",
}


@dataclass(frozen=True, slots=True)
class Key:
    """Something that models are asked by: what it counts, how it is read, and the words that it can be."""

    kind: Kind
    read: Callable[[Model], Value]
    words: tuple[str, ...] = ()


KEYS: dict[str, Key] = {
    "name": Key("text", lambda model: model.id),
    "size": Key("bytes", lambda model: model.held),
    "params": Key("count", lambda model: model.facts.parameters),
    "dtype": Key("text", lambda model: model.facts.dtype),
    "quant": Key("text", lambda model: model.facts.quantization),
    "context": Key("tokens", lambda model: model.facts.context_length),
    "state": Key("text", lambda model: model.state, get_args(State)),
    "used": Key("time", lambda model: model.used),
    "modified": Key("time", lambda model: model.modified),
    "format": Key("text", lambda model: model.facts.format, get_args(Format)),
    "task": Key("text", lambda model: model.facts.task),
    "arch": Key("text", lambda model: model.facts.architecture),
    "license": Key("text", lambda model: model.facts.license),
    "servable": Key("text", lambda model: {True: "yes", False: "no", None: None}[model.servable], ("yes", "no")),
    "location": Key("text", lambda model: model.location, get_args(Location)),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One `--filter`. `wanted` is a glob for texts, seconds of age for times, `None` for what nobody knows."""

    key: str
    sign: str
    wanted: str | float | None

    def fits(self, model: Model, *, now: datetime) -> bool:
        """Whether a model is one of those asked for."""
        value = KEYS[self.key].read(model)
        if self.wanted is None:
            return (value is None) == (self.sign == "=")
        if value is None:
            return self.sign == "!="
        if isinstance(self.wanted, str):
            return fnmatchcase(str(value).casefold(), self.wanted) == (self.sign == "=")
        number = (now - value).total_seconds() if isinstance(value, datetime) else float(value)
        return _COMPARES[self.sign](number, self.wanted)


@dataclass(frozen=True, slots=True)
class Order:
    """One `--sort`: by what, and which end first."""

    key: str
    descending: bool


def condition(text: str) -> Condition:
    """Read `KEY OPERATOR VALUE`; `UsageError` says what exists."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(f"`{text}` is no filter", hint="write it as in `size>10GB`, `state=partial` or `license!=mit`")
    name, sign, value = match["key"].casefold(), match["sign"], match["value"]
    key = KEYS.get(name)
    if key is None:
        raise UsageError(f"there is no `{name}` to filter by", hint=f"there are {_listed(KEYS)}")
    if value.casefold() == _NONE and sign in _EQUALITY:
        return Condition(name, sign, None)
    if key.kind == "text":
        return Condition(name, sign, _word(name, key, sign, value))
    if key.kind == "time" and sign in _EQUALITY:
        raise UsageError(f"`{text}` asks for one very second", hint=f"write `{name}<{value}` or `{name}>{value}`")
    return Condition(name, sign, _quantity(name, key.kind, value))


def order(text: str) -> Order:
    """Read `KEY[:asc|desc]`; numbers and times begin with the largest and newest where nothing else is said."""
    name, _, direction = text.strip().casefold().partition(":")
    key = KEYS.get(name)
    if key is None:
        raise UsageError(f"there is no `{name}` to sort by", hint=f"there are {_listed(KEYS)}")
    if direction not in {"", "asc", "desc"}:
        raise UsageError(f"`{direction}` is no order", hint=f"write `{name}:asc` or `{name}:desc`")
    return Order(name, direction == "desc" if direction else key.kind != "text")


def chosen(
    models: Iterable[Model],
    conditions: Sequence[Condition],
    orders: Sequence[Order] = (),
    *,
    now: datetime | None = None,
) -> list[Model]:
    """The models that fit every condition, in the order asked for; those that are equal in it stay as they were."""
    now = now or datetime.now(UTC)
    found = [model for model in models if all(one.fits(model, now=now) for one in conditions)]
    # The last key first: each sort leaves what is equal as the one before has put it.
    for one in reversed(orders):
        read = KEYS[one.key].read
        known = [(value, model) for model in found if (value := read(model)) is not None]
        unknown = [model for model in found if read(model) is None]
        known.sort(key=lambda pair: _sortable(pair[0]), reverse=one.descending)
        found = [model for _, model in known] + unknown
    return found


def _sortable(value: Value) -> str | float:
    if isinstance(value, datetime):
        return value.timestamp()
    return value.casefold() if isinstance(value, str) else value or 0.0


def _word(name: str, key: Key, sign: str, value: str) -> str:
    if sign not in _EQUALITY:
        raise UsageError(f"`{name}` is a word: `{sign}` says nothing of it", hint=f"write `{name}={value or 'WORD'}`")
    word = value.casefold()
    if not word:
        raise UsageError(f"`{name}{sign}` names no word", hint=f"`{name}{sign}none` asks for what is not known")
    if key.words and not any(fnmatchcase(known, word) for known in key.words):
        raise UsageError(f"`{name}` is never `{value}`", hint=f"it is {_listed(key.words, 'or')}")
    return word


def _quantity(name: str, kind: Kind, value: str) -> float:
    match = _QUANTITY.fullmatch(value)
    units = _UNITS[kind]
    scale = units.get(match["unit"].casefold()) if match else None
    if match is None or scale is None:
        raise UsageError(f"`{value}` is nothing that `{name}` can be", hint=f"write it as in {_EXAMPLES[kind]}")
    return float(match["number"]) * scale


def _listed(names: Iterable[str], word: str = "and") -> str:
    *most, last = [f"`{name}`" for name in names]
    return f"{', '.join(most)} {word} {last}" if most else last
