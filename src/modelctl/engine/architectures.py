"""Which architectures a vLLM knows, read from its source: importing it would take ten seconds."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from modelctl.engine.discovery import Engine

_REGISTRY = Path("model_executor", "models", "registry.py")
# Beside vLLM's own: what it hands to transformers' implementation, where that has the class.
_TRANSFORMERS = Path("transformers", "models", "auto", "modeling_auto.py")
_GONE = "_PREVIOUSLY_SUPPORTED_MODELS"
_ELSEWHERE = "_OOT_SUPPORTED_MODELS"
# vLLM converts between the heads of one model: `LlamaModel` is made from `LlamaForCausalLM`.
_SUFFIXES = (
    *("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel", "ForTextEncoding", "EmbeddingModel"),
    *("ForSequenceClassification", "ForTokenClassification", "ForAudioClassification", "ForImageClassification"),
    *("ForVideoClassification", "ClassificationModel", "ForRewardModeling", "RewardModel", "Model"),
)


class Registry(NamedTuple):
    """What one vLLM says: the architectures it has, those it had and until which version, those that a plugin has."""

    known: frozenset[str]
    gone: Mapping[str, str]
    elsewhere: Mapping[str, str]


class Answer(NamedTuple):
    """Whether an architecture can be served (`None`: nothing tells), and a sentence where there is more to say."""

    knows: bool | None
    note: str | None = None


def registry(package: Path) -> Registry | None:
    """The registry of the vLLM in this folder; `None` where there is none that can be read."""
    try:
        tree = ast.parse((package / _REGISTRY).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    tables = dict(_tables(tree))
    gone, elsewhere = tables.pop(_GONE, {}), tables.pop(_ELSEWHERE, {})
    known = frozenset(name for table in tables.values() for name in table)
    return Registry(known, gone, elsewhere) if known else None


def asked(engine: Engine, architecture: str | None) -> Answer:
    """Whether this vLLM knows an architecture."""
    if architecture is None or engine.package is None or (found := registry(engine.package)) is None:
        return Answer(None)
    if _base(architecture, found.known):
        return Answer(True)
    if architecture in found.gone:
        return Answer(False, f"vLLM gave `{architecture}` up after {found.gone[architecture]}")
    if architecture in found.elsewhere:
        return Answer(False, f"vLLM needs a plugin for `{architecture}`: {found.elsewhere[architecture]}")
    if f'"{architecture}"' in _text(engine.package.parent / _TRANSFORMERS):
        return Answer(None, f"vLLM does not know `{architecture}`, and may run it by way of transformers")
    return Answer(False, f"vLLM {engine.version} does not know `{architecture}`")


def _base(architecture: str, known: frozenset[str]) -> bool:
    if architecture in known:
        return True
    suffix = next((suffix for suffix in _SUFFIXES if architecture.endswith(suffix)), None)
    return suffix is not None and any(architecture.replace(suffix, other) in known for other in _SUFFIXES)


def _tables(tree: ast.Module) -> Iterator[tuple[str, dict[str, str]]]:
    """The dictionaries at the top of the module that are named after models, their values as text."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict() as table):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict() as table):
                pass
            case _:
                continue
        if name.startswith("_") and name.endswith("_MODELS"):
            yield name, dict(_entries(table))


def _entries(table: ast.Dict) -> Iterator[tuple[str, str]]:
    for key, value in zip(table.keys, table.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value, value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
