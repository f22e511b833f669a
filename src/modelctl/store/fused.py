"""Tensors that vLLM loads as one: where one of them is missing it does not notice, and serves what is left."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

# Those that a layer has together, or not at all. A layer may share its keys and values with another, and so have
# none, and values that are its keys: only what no model leaves out is asked for.
_GATED = ({"gate_proj", "up_proj"}, {"w1", "w3"})
_ATTENTION = {"q_proj", "k_proj", "v_proj"}
_PART = re.compile(r"(?:(.*)\.)?(gate_proj|up_proj|w1|w3|q_proj|k_proj|v_proj)\.(\w+)")


def lacking(names: Iterable[str]) -> tuple[str, ...]:
    """The tensors that are missing beside others which make no sense without them, as other layers show."""
    layers: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in names:
        if (match := _PART.fullmatch(name)) is not None:
            prefix, part, what = match[1] or "", match[2], match[3]
            layers[re.sub(r"\d+", "#", prefix), what][prefix].add(part)
    return tuple(sorted(name for (_, what), found in layers.items() for name in _lacking(found, what)))


def _lacking(layers: dict[str, set[str]], what: str) -> Iterator[str]:
    for together in _GATED:
        having = {prefix: parts & together for prefix, parts in layers.items() if parts & together}
        whole = sum(parts == together for parts in having.values())
        if whole * 2 >= len(having):
            yield from (f"{prefix}.{part}.{what}" for prefix, parts in having.items() for part in together - parts)
    having = {prefix: parts & _ATTENTION for prefix, parts in layers.items() if parts & _ATTENTION}
    if sum(parts == _ATTENTION for parts in having.values()) * 2 >= len(having):
        for prefix, parts in having.items():
            yield from (f"{prefix}.{part}.{what}" for part in sorted(_needed(parts) - parts))


def _needed(parts: set[str]) -> set[str]:
    return {"q_proj", "k_proj"} if "v_proj" in parts else {"q_proj"}
