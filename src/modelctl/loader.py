"""What vLLM's own loader takes from a folder, where nobody chose for it (pure).

`selection.py` says what it should be given; a folder with more in it, as other tools leave it, is another matter. The
rule is that of `model_loader/default_loader.py`, and is tested with it, shape by shape.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from modelctl.selection import MISTRAL_INDEX, SAFETENSORS_INDEX

_PATTERNS = (".safetensors", ".bin", ".pt")
# What training leaves beside a model, and no part of it: as vLLM's, a list of endings.
_STATE = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")


class Taken(NamedTuple):
    """The files that vLLM loads, or why it loads none: `refused`, the end of a sentence that begins with its name.

    `culprits` are files without which it would not refuse.
    """

    names: tuple[str, ...]
    refused: str | None = None
    culprits: tuple[str, ...] = ()


def take(names: Collection[str], documents: Mapping[str, object]) -> Taken:
    """What vLLM loads of all files of a folder; `documents` holds the parsed JSON of the indexes that can be read."""
    root = sorted(name for name in names if "/" not in name and not name.startswith("."))
    mistral = sorted(name for name in names if _is_consolidated(name))
    if mistral:
        found = [name for name in mistral if "/" not in name]
        if not found:
            return Taken((), f"looks for `consolidated*` at the root because of `{mistral[0]}`", tuple(mistral))
        return _indexed(found, names, documents, MISTRAL_INDEX)
    for ending in _PATTERNS:
        found = [name for name in root if name.endswith(ending)]
        if ending == ".safetensors" and found:
            return _indexed(found, names, documents, SAFETENSORS_INDEX)
        if found:
            return _without_state(found, root)
    return Taken((), "finds no weights")


def _is_consolidated(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.startswith("consolidated") and base.endswith(".safetensors")


def _indexed(found: list[str], names: Collection[str], documents: Mapping[str, object], index: str) -> Taken:
    if index not in names:
        return Taken(tuple(found))
    document = documents.get(index)
    if not isinstance(document, dict):
        return Taken((), f"reads `{index}`, which is no JSON object")
    weight_map = document.get("weight_map")
    named = (
        {shard for shard in weight_map.values() if isinstance(shard, str)} if isinstance(weight_map, dict) else set()
    )
    absent = sorted(named - set(found))
    if absent:
        return Taken((), f"looks for `{absent[0]}`, which `{index}` names, at the root")
    if not named:
        return Taken((), f"follows `{index}`, which names no file")
    return Taken(tuple(name for name in found if name in named))


def _without_state(found: list[str], root: list[str]) -> Taken:
    weights = [name for name in found if not name.endswith(_STATE)]
    if not weights:
        more = [name for name in root if name.endswith(_PATTERNS) and not name.endswith(_STATE)]
        why = f"looks no further than `{found[0]}`, which is no weights" if more else "finds no weights"
        return Taken((), why, tuple(found) if more else ())
    return Taken(tuple(weights))
