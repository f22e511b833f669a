"""Which files of a repository vLLM will load (pure).

Here and not in `hub`: a pull fetches these files, and a scan calls a model whole when they are there. The rule follows
vLLM's own loader (`model_loader/default_loader.py`), but for what breaks it there: nested `consolidated*`, an adapter
beside a base model, and `model.<variant>.safetensors` are left out, and an index never comes without its shards.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

SAFETENSORS_INDEX = "model.safetensors.index.json"
MISTRAL_INDEX = "consolidated.safetensors.index.json"
MODULES = "modules.json"

# By their beginning and end and not by patterns: a dozen patterns cost a listing 3 ms at every start.
_CONFIGURATION_ENDS = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".spm", ".yaml", ".py")
_CONFIGURATION_STARTS = ("LICENSE", "tokenizer.model.v")
# Checkpoints of training, which match the patterns of weights and are none.
_TRAINING_STATE = {"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"}
# What single architectures load beside the weights that the rule finds: root files and whole folders.
_EXTRA_FILES = {
    "sparse_linear.pt",  # BGE-M3
    "colbert_linear.pt",  # BGE-M3
    "mask_embedding.pt",  # Qwen3 DFlash
    "joint_head.safetensors",
    "readout.safetensors",
}
_EXTRA_FOLDERS = {
    "KimiAudioForConditionalGeneration": ("whisper-large-v3/*",),
    "MoonshotKimiaForCausalLM": ("whisper-large-v3/*",),
    "FunAudioChatForConditionalGeneration": ("speech_tokenizer/*",),
    "MiMoV2OmniForCausalLM": ("audio_tokenizer/*",),
    "JinaEmbeddingsV5Model": ("adapters/*",),
    "Cosmos3ForConditionalGeneration": ("[tv]*er/*.safetensors", "[tv]*er/*.json"),
}
_QUANTISATION = r"(?i)(?:^|[-._])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|BF16|F16|F32|MXFP4(?:_[A-Z]+)*|TQ\d_\d))(?=[-._])"


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
    root = [name for name in sizes if "/" not in name]
    tensors = [name for name in root if name.endswith(".safetensors")]
    consolidated = [name for name in tensors if name.startswith("consolidated")]
    adapters = [name for name in root if name.startswith("adapter_model.")]
    plain = [name for name in tensors if name not in {*consolidated, *adapters, *_EXTRA_FILES}]
    pickles = [name for name in root if name.endswith(".bin") and name not in {*_TRAINING_STATE, *adapters}]
    torch_files = [name for name in root if name.endswith(".pt") and name not in {*_TRAINING_STATE, *_EXTRA_FILES}]

    if consolidated and "params.json" in sizes:
        weights, missing = _indexed(sizes, documents, MISTRAL_INDEX, otherwise=consolidated)
        return _model(sizes, documents, weights, missing=missing, mistral=True)
    if plain:
        weights, missing = _indexed(sizes, documents, SAFETENSORS_INDEX, otherwise=_without_variants(plain))
        return _model(sizes, documents, weights, missing=missing)
    if pickles:
        named = [name for name in pickles if name.startswith("pytorch_model")]
        return _pickle(sizes, documents, named or pickles)
    if adapters and "adapter_config.json" in sizes:
        return _lora(sizes, documents, adapters)
    if torch_files:
        return _pickle(sizes, documents, torch_files)
    if choices := gguf_choices(sizes):
        return _gguf(sizes, documents, choices, variant)
    names = _configuration(sizes, documents, mistral=False)
    return Selection(frozenset(names), (), None, "unservable", note=_why_unservable(sizes))


def gguf_choices(sizes: Mapping[str, int | None]) -> dict[str, tuple[str, ...]]:
    """The GGUF files by quantisation, as `Q4_K_M`; parts of one model together, projectors of images left out.

    A file without a recognisable quantisation is its own choice, under its name.
    """
    choices: dict[str, list[str]] = {}
    for name in sorted(sizes):
        if name.endswith(".gguf") and not _is_projector(name):
            found = re.findall(_QUANTISATION, name.rsplit("/", 1)[-1])
            label = found[-1].upper() if found else name.rsplit("/", 1)[-1].removesuffix(".gguf")
            choices.setdefault(label, []).append(name)
    return {label: tuple(names) for label, names in choices.items()}


def _model(
    sizes: Mapping[str, int | None],
    documents: Mapping[str, object],
    weights: list[str],
    *,
    missing: tuple[str, ...],
    mistral: bool = False,
) -> Selection:
    names = _configuration(sizes, documents, mistral=mistral) | set(weights)
    index = MISTRAL_INDEX if mistral else SAFETENSORS_INDEX
    if index in sizes:
        names.add(index)
    return Selection(frozenset(names), tuple(sorted(weights)), "safetensors", "model", missing=missing)


def _pickle(sizes: Mapping[str, int | None], documents: Mapping[str, object], weights: list[str]) -> Selection:
    names = _configuration(sizes, documents, mistral=False) | set(weights)
    names |= {name for name in ("pytorch_model.bin.index.json",) if name in sizes}
    note = "its only weights are pickle files, which can run code when they are loaded"
    return Selection(frozenset(names), tuple(sorted(weights)), "pickle", "model", note=note)


def _lora(sizes: Mapping[str, int | None], documents: Mapping[str, object], adapters: list[str]) -> Selection:
    by_preference = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
    weight = next((name for name in by_preference if name in adapters), adapters[0])
    names = _configuration(sizes, documents, mistral=False) | {weight}
    is_safe = weight.endswith(".safetensors")
    return Selection(frozenset(names), (weight,), "safetensors" if is_safe else "pickle", "lora")


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
    projectors = {name for name in sizes if name.endswith(".gguf") and _is_projector(name)} if weights else set()
    return Selection(frozenset(names | set(weights) | projectors), weights, "gguf", "gguf", choices=choices)


def _configuration(sizes: Mapping[str, int | None], documents: Mapping[str, object], *, mistral: bool) -> set[str]:
    """The text files beside the weights, the modules of sentence-transformers, what single architectures add."""
    root = {name for name in sizes if "/" not in name or name.startswith("additional_chat_templates/")}
    names = {name for name in root if name.endswith(_CONFIGURATION_ENDS) or name.startswith(_CONFIGURATION_STARTS)}
    names |= {"README.md"} & root
    names = {name for name in names if not name.endswith(".index.json")} | (_EXTRA_FILES & root)
    if not mistral:
        names.discard("params.json")
    names |= _modules(sizes, documents.get(MODULES))
    for architecture in _architectures(documents.get("config.json")):
        patterns = _EXTRA_FOLDERS.get(architecture, ())
        names |= {name for name in sizes if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return names


def _modules(sizes: Mapping[str, int | None], modules: object) -> set[str]:
    """The files of sentence-transformers' modules (`1_Pooling/config.json`, a Dense layer's weights)."""
    names: set[str] = set()
    for module in modules if isinstance(modules, list) else []:
        path = module.get("path") if isinstance(module, dict) else None
        if isinstance(path, str) and path.strip("/"):
            folder = path.strip("/")
            names |= {name for name in sizes if fnmatchcase(name, f"{folder}/*.json")}
            weights = (f"{folder}/model.safetensors", f"{folder}/pytorch_model.bin")
            names |= set([name for name in weights if name in sizes][:1])
    return names


def _architectures(config: object) -> list[str]:
    found = config.get("architectures") if isinstance(config, dict) else None
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _indexed(
    sizes: Mapping[str, int | None], documents: Mapping[str, object], index: str, *, otherwise: list[str]
) -> tuple[list[str], tuple[str, ...]]:
    """The shards that an index names and those of them that are not there; without an index, `otherwise`."""
    document = documents.get(index) if index in sizes else None
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    named = weight_map.values() if isinstance(weight_map, dict) else ()
    shards = {shard for shard in named if isinstance(shard, str)}
    if not shards:
        return otherwise, ()
    return sorted(shards & set(sizes)), tuple(sorted(shards - set(sizes)))


def _without_variants(names: list[str]) -> list[str]:
    """Leave out `model.fp16.safetensors` where `model.safetensors` is there: vLLM would load both."""
    if "model.safetensors" not in names:
        return names
    return [name for name in names if not re.fullmatch(r"model\.[^.]+\.safetensors", name)]


def _is_projector(name: str) -> bool:
    return "mmproj" in name.rsplit("/", 1)[-1].lower()


def _why_unservable(sizes: Mapping[str, int | None]) -> str:
    kinds = (
        ("model_index.json", "a diffusers pipeline"),
        ("*.onnx", "ONNX files"),
        ("*.h5", "TensorFlow weights"),
        ("*.msgpack", "Flax weights"),
        ("*.pth", "PyTorch files that vLLM does not read"),
        ("*.safetensors", "weights in subfolders only"),
    )
    found = [what for pattern, what in kinds if any(fnmatchcase(name, pattern) for name in sizes)]
    return f"it has no weights that vLLM loads, only {' and '.join(found)}" if found else "it has no weights"
