"""Which files of a repository vLLM will load (pure).

Here and not in `hub`: a pull fetches these files, and a scan calls a model whole when they are there. The rule follows
vLLM's own loader (`model_loader/default_loader.py`), but for what breaks it there: nested `consolidated*`, an adapter
beside a base model, other precisions of the same weights and files of other programs are left out, and an index never
comes without its shards. `tests/test_engine_selection.py` asks the loader itself, shape by shape.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from modelctl import quantisations

SAFETENSORS_INDEX = "model.safetensors.index.json"
MISTRAL_INDEX = "consolidated.safetensors.index.json"
MODULES = "modules.json"

# By their beginning and end and not by patterns: a dozen patterns cost a listing 3 ms at every start.
_CONFIGURATION_ENDS = (
    *(".json", ".jinja", ".txt", ".yaml", ".py"),
    *(".model", ".tiktoken", ".spm", ".bpe", ".codes", ".vocab"),  # of tokenizers
)
_CONFIGURATION_STARTS = ("LICENSE", "tokenizer.model.v")
# Checkpoints of training, which match the patterns of weights and are none; as vLLM's, a list of endings.
_TRAINING_STATE = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")
# Weights of other programs under an ending of PyTorch's.
_FOREIGN = ("openvino_", "ggml-")
# In vLLM's order.
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
# The names that transformers gives to whole models: beside them an adapter is not what the repository is.
_MODELS = ("model.", "model-", "pytorch_model")
_PRECISION = r"(?:bf|fp|f|bfloat|float|int|q)\d+[A-Za-z0-9_]*"
# What single architectures load beside the weights that the rule finds: root files and whole folders.
_EXTRA_FILES = {
    "sparse_linear.pt",  # BGE-M3
    "colbert_linear.pt",  # BGE-M3
    "mask_embedding.pt",  # Qwen3 DFlash
    "joint_head.safetensors",  # Clef-Omni
    "readout.safetensors",
}
_EXTRA_FOLDERS = {
    "KimiAudioForConditionalGeneration": "whisper-large-v3",
    "MoonshotKimiaForCausalLM": "whisper-large-v3",
    "FunAudioChatForConditionalGeneration": "speech_tokenizer",
    "MiMoV2OmniForCausalLM": "audio_tokenizer",
    "JinaEmbeddingsV5Model": "adapters/*",
    "Cosmos3ForConditionalGeneration": "[tv]*er",
    "Cosmos3EdgeForConditionalGeneration": "[tv]*er",
}
# What single architectures load instead of the root's weights.
_INSTEAD = {
    "Cosmos3ForConditionalGeneration": "[tv]*er/*.safetensors",
    "Cosmos3EdgeForConditionalGeneration": "[tv]*er/*.safetensors",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """The files that vLLM loads, and how it will take them.

    `names` holds all of them, `weights` those with the tensors. `missing` are weights that an index names and the
    repository lacks. `choices` are the quantisations of a GGUF repository, of which `names` holds at most the one asked
    for. `note` is a sentence for the user, where the selection is not what one would expect.
    """

    names: frozenset[str]
    weights: tuple[str, ...]
    format: Literal["safetensors", "gguf", "pickle"] | None
    kind: Literal["model", "lora", "gguf", "unservable"]
    missing: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str | None = None


def deciding(names: Iterable[str]) -> tuple[str, ...]:
    """The small JSON files of a repository whose content decides the selection."""
    present = set(names)
    return tuple(name for name in ("config.json", SAFETENSORS_INDEX, MISTRAL_INDEX, MODULES) if name in present)


def select(  # noqa: PLR0911 - one line for each kind of repository, in the order in which vLLM asks
    sizes: Mapping[str, int | None], documents: Mapping[str, object], *, variant: str | None = None
) -> Selection:
    """Choose among the files of one commit.

    `sizes` names every file with its bytes; `documents` holds the parsed JSON of the `deciding` files, as far as it
    could be read; `variant` is the quantisation wanted of a GGUF repository, in any case.
    """
    root = [name for name in sizes if "/" not in name and not name.startswith(".")]
    tensors = [name for name in root if name.endswith(".safetensors") and name not in _EXTRA_FILES]
    consolidated = [name for name in tensors if name.startswith("consolidated")]
    adapters = [name for name in _ADAPTERS if name in sizes]
    plain = [name for name in tensors if not name.startswith(("consolidated", "adapter_model"))]
    pickles = [name for name in root if name.endswith(".bin") and _is_weight(name)]
    torch_files = [name for name in root if name.endswith(".pt") and _is_weight(name)]

    if instead := _instead(sizes, documents):
        return _model(sizes, documents, _Weights(instead))
    if consolidated and "params.json" in sizes:
        return _model(sizes, documents, _indexed(sizes, documents, MISTRAL_INDEX, otherwise=consolidated), mistral=True)
    if adapters and "adapter_config.json" in sizes and not any(name.startswith(_MODELS) for name in plain + pickles):
        return _lora(sizes, documents, adapters[0])
    if "model_index.json" in sizes and "config.json" not in sizes:
        return _unservable(sizes, documents)
    if plain:
        otherwise = _once(plain, "model", ".safetensors")
        return _model(sizes, documents, _indexed(sizes, documents, SAFETENSORS_INDEX, otherwise=otherwise))
    if consolidated:
        return _model(sizes, documents, _indexed(sizes, documents, MISTRAL_INDEX, otherwise=consolidated))
    if pickles:
        named = [name for name in pickles if name.startswith("pytorch_model")]
        return _pickle(sizes, documents, _once(named, "pytorch_model", ".bin") or pickles)
    if torch_files:
        return _pickle(sizes, documents, torch_files)
    if choices := quantisations.choices(sizes):
        return _gguf(sizes, documents, choices, variant)
    return _unservable(sizes, documents)


class _Weights(NamedTuple):
    names: list[str]
    missing: tuple[str, ...] = ()
    index_file: str | None = None


def _model(
    sizes: Mapping[str, int | None], documents: Mapping[str, object], weights: _Weights, *, mistral: bool = False
) -> Selection:
    names = _configuration(sizes, documents, mistral=mistral) | set(weights.names)
    if weights.index_file:
        names.add(weights.index_file)
    chosen = tuple(sorted(weights.names))
    return Selection(frozenset(names), chosen, "safetensors", "model", missing=weights.missing)


def _pickle(sizes: Mapping[str, int | None], documents: Mapping[str, object], weights: list[str]) -> Selection:
    names = _configuration(sizes, documents, mistral=False) | set(weights)
    names |= {name for name in ("pytorch_model.bin.index.json",) if name in sizes}
    note = "its only weights are pickle files, which can run code when they are loaded"
    return Selection(frozenset(names), tuple(sorted(weights)), "pickle", "model", note=note)


def _lora(sizes: Mapping[str, int | None], documents: Mapping[str, object], weight: str) -> Selection:
    names = _configuration(sizes, documents, mistral=False) | {weight}
    is_safe = weight.endswith(".safetensors")
    return Selection(frozenset(names), (weight,), "safetensors" if is_safe else "pickle", "lora")


def _unservable(sizes: Mapping[str, int | None], documents: Mapping[str, object]) -> Selection:
    names = _configuration(sizes, documents, mistral=False)
    return Selection(frozenset(names), (), None, "unservable", note=_why_unservable(sizes))


def _gguf(
    sizes: Mapping[str, int | None],
    documents: Mapping[str, object],
    choices: dict[str, tuple[str, ...]],
    variant: str | None,
) -> Selection:
    names = _configuration(sizes, documents, mistral=False)
    if variant is None and len(choices) > 1:
        note = "it has several quantisations, of which one has to be chosen"
        return Selection(frozenset(names), (), "gguf", "gguf", choices=choices, note=note)
    label = next(iter(choices)) if variant is None else variant.upper()
    by_label = {known.upper(): files for known, files in choices.items()}
    weights = by_label.get(label.upper(), ())
    projectors = quantisations.projectors(sizes) if weights else ()
    return Selection(frozenset({*names, *weights, *projectors}), weights, "gguf", "gguf", choices=choices)


def _configuration(sizes: Mapping[str, int | None], documents: Mapping[str, object], *, mistral: bool) -> set[str]:
    """The text files beside the weights, the modules of sentence-transformers, what single architectures add."""
    root = {name for name in sizes if "/" not in name or name.startswith("additional_chat_templates/")}
    root = {name for name in root if not name.startswith(".")}
    names = {name for name in root if name.endswith(_CONFIGURATION_ENDS) or name.startswith(_CONFIGURATION_STARTS)}
    names |= {"README.md"} & root
    names = {name for name in names if ".index." not in name} | (_EXTRA_FILES & root)
    if not mistral:
        names.discard("params.json")
    config = documents.get("config.json")
    extra = [_EXTRA_FOLDERS[name] for name in _architectures(config) if name in _EXTRA_FOLDERS]
    return names | _parts(sizes, _modules(documents.get(MODULES)), extra) | _own_code(sizes, config)


def _modules(modules: object) -> set[str]:
    """The folders of sentence-transformers' modules (`1_Pooling`, a Dense layer with its weights)."""
    paths = [module.get("path") for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []
    return {path.strip("/") for path in paths if isinstance(path, str)}


def _parts(sizes: Mapping[str, int | None], folders: set[str], patterns: list[str]) -> set[str]:
    """The files of folders that are models of their own, by the same rule."""
    parts: dict[str, dict[str, int | None]] = {}
    for name, size in sizes.items() if folders or patterns else ():
        folder, _, file = name.rpartition("/")
        if folder and (folder in folders or any(_is_like(folder, pattern) for pattern in patterns)):
            parts.setdefault(folder, {})[file] = size
    return {f"{folder}/{name}" for folder, inside in parts.items() for name in select(inside, {}).names}


def _own_code(sizes: Mapping[str, int | None], config: object) -> set[str]:
    """The Python files of the folders in which a configuration places the model's classes (`code/modeling_x.Model`)."""
    classes = config.get("auto_map") if isinstance(config, dict) else None
    values = classes.values() if isinstance(classes, dict) else ()
    named = [name for value in values for name in (value if isinstance(value, list) else [value])]
    # `org/name--module.Class` lies in another repository.
    folders = {name.rpartition("/")[0] for name in named if isinstance(name, str) and "--" not in name} - {""}
    return {name for name in sizes if name.endswith(".py") and name.rpartition("/")[0] in folders}


def _architectures(config: object) -> list[str]:
    found = config.get("architectures") if isinstance(config, dict) else None
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _instead(sizes: Mapping[str, int | None], documents: Mapping[str, object]) -> list[str]:
    """The weights of an architecture that looks for them in folders and not at the root."""
    patterns = [_INSTEAD[name] for name in _architectures(documents.get("config.json")) if name in _INSTEAD]
    return [name for name in sizes if any(_is_like(name, pattern) for pattern in patterns)]


def _is_like(name: str, pattern: str) -> bool:
    """Whether a path fits a pattern as for `glob`, whose stars do not reach into folders."""
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def _is_weight(name: str) -> bool:
    """Whether a file with an ending of PyTorch's may hold a model's weights."""
    if name in _EXTRA_FILES or name in _ADAPTERS:
        return False
    return not name.endswith(_TRAINING_STATE) and not name.startswith(_FOREIGN)


def _indexed(
    sizes: Mapping[str, int | None], documents: Mapping[str, object], index: str, *, otherwise: list[str]
) -> _Weights:
    """The shards that an index names and those of them that are not there; without an index, `otherwise`.

    An index that names nothing is left out, for it would keep vLLM from loading anything.
    """
    if index not in sizes:
        return _Weights(otherwise)
    document = documents.get(index)
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    named = weight_map.values() if isinstance(weight_map, dict) else ()
    shards = {shard for shard in named if isinstance(shard, str)}
    if not shards:
        return _Weights(otherwise, index_file=None if isinstance(document, dict) else index)
    return _Weights(sorted(shards & set(sizes)), tuple(sorted(shards - set(sizes))), index)


def _once(names: list[str], stem: str, end: str) -> list[str]:
    """Leave out what holds the tensors of `model.safetensors` again: another precision, its shards. vLLM loads all."""
    if stem + end not in names or len(names) == 1:
        return names
    again = rf"{stem}(?:\.{_PRECISION})?(?:-\d{{5}}-of-\d{{5}})?{re.escape(end)}"
    return [name for name in names if name == stem + end or not re.fullmatch(again, name)]


def _why_unservable(sizes: Mapping[str, int | None]) -> str:
    if "model_index.json" in sizes:
        return "it has no weights that vLLM loads, only a diffusers pipeline"
    kinds = (
        ("*.onnx", "ONNX files"),
        ("*openvino_model.xml", "OpenVINO files"),
        ("ggml-*.bin", "GGML files"),
        ("*.h5", "TensorFlow weights"),
        ("*.msgpack", "Flax weights"),
        ("*.pth", "PyTorch files that vLLM does not read"),
        ("adapter_model.*", "an adapter without its `adapter_config.json`"),
        ("*/*.safetensors", "weights in subfolders"),
    )
    found = [what for pattern, what in kinds if any(fnmatchcase(name, pattern) for name in sizes)]
    return f"it has no weights that vLLM loads, only {' and '.join(found)}" if found else "it has no weights"
