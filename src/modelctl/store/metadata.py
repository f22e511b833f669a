"""What a model is: format, task, architecture, parameters, dtype, quantisation, context length, licence.

Everything comes from files that other people wrote: what makes no sense is unknown, never an exception.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from modelctl.store import card, checkpoint, context, footprint, servability
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.header import Header
from modelctl.store.model import Facts, Problem, Revision

# By the end of the architecture's name, as vLLM decides (`config/model.py`).
_TASKS_BY_SUFFIX = (
    ("ForCausalLM", "generate"),
    ("ForConditionalGeneration", "generate"),
    ("ChatModel", "generate"),
    ("LMHeadModel", "generate"),
    ("ForTextEncoding", "embed"),
    ("EmbeddingModel", "embed"),
    ("ForSequenceClassification", "classify"),
    ("ForTokenClassification", "classify"),
    ("ForAudioClassification", "classify"),
    ("ForImageClassification", "classify"),
    ("ForVideoClassification", "classify"),
    ("ClassificationModel", "classify"),
    ("ForRewardModeling", "reward"),
    ("RewardModel", "reward"),
    ("Model", "embed"),
)
_TASKS_BY_TAG = {
    "text-generation": "generate",
    "image-text-to-text": "generate",
    "any-to-any": "generate",
    "text2text-generation": "generate",
    "feature-extraction": "embed",
    "sentence-similarity": "embed",
    "text-ranking": "rerank",
    "text-classification": "classify",
    "token-classification": "classify",
    "automatic-speech-recognition": "transcribe",
}
# A card knows of these what the architecture does not tell.
_CARD_KNOWS_BETTER = {"embed", "rerank", "transcribe"}
_DTYPES = {"float32": "F32", "float": "F32", "float16": "F16", "half": "F16", "bfloat16": "BF16"}
_SENTENCE_CONFIGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Four-bit parameters lie packed in integers: eight in an I32, two in a U8.
_PACKED_BITS = {"I32": 32, "U8": 8}


class Description(NamedTuple):
    """The facts of a revision, whether vLLM can serve it (`None`: not known), and why not."""

    facts: Facts
    servable: bool | None
    problems: tuple[Problem, ...]


def facts(revision: Revision) -> Facts:
    """The facts of a revision on disk."""
    return describe(checkpoint.read(revision)).facts


def describe(found: Checkpoint) -> Description:
    """The facts of a checkpoint, and whether vLLM can serve it."""
    config = _mapping(document(found, "config.json"))
    mistral = _mapping(document(found, "params.json")) if not config else {}
    headers = [header for header in found.headers.values() if isinstance(header, Header)]
    about = _about_gguf(headers) if found.selection.format == "gguf" else {}
    fields = _card(found)
    task = _task(found, config, mistral or about, fields)
    quantization = _gguf_quantization(about) if about else _quantization(found, config)
    described = Facts(
        format=found.selection.format,
        task=task,
        architecture=_architecture(config) or _text(about.get("general.architecture")),
        parameters=_parameters(headers, _bits(found, config)) if _has_all_weights(found) else None,
        dtype=_dtype(headers, config),
        quantization=quantization,
        context_length=_context_length(found, config or mistral, about, task),
        license=_license(found, fields),
        weights=footprint.size(found, config, is_quantized=quantization is not None),
    )
    servable, problems = servability.of(found, described)
    return Description(described, servable, problems)


def document(found: Checkpoint, name: str) -> Any:  # noqa: ANN401 - JSON values
    """The JSON value of a file of the checkpoint, read once."""
    if name in found.documents:
        return found.documents[name]
    return checkpoint.document(found.files, name)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _architecture(config: Mapping[str, Any]) -> str | None:
    match config.get("architectures"):
        case [str(name), *_]:
            return name
        case _:
            return None


def _task(
    found: Checkpoint, config: Mapping[str, Any], other: Mapping[str, Any], fields: Mapping[str, str]
) -> str | None:
    """What the model is for: sentence-transformers' modules, then the card, then the architecture tell it."""
    tagged = _TASKS_BY_TAG.get(fields.get("pipeline_tag", ""))
    if "modules.json" in found.files and tagged != "rerank":
        return "embed"
    if tagged in _CARD_KNOWS_BETTER:
        return tagged
    architecture = _architecture(config) or ""
    by_name = next((task for suffix, task in _TASKS_BY_SUFFIX if architecture.endswith(suffix)), None)
    if by_name == "classify" and len(_mapping(config.get("id2label"))) == 1:
        # A cross-encoder: one score for a pair of texts.
        return "rerank"
    return by_name or tagged or ("generate" if other else None)


def _has_all_weights(found: Checkpoint) -> bool:
    headers = [found.headers.get(name) for name in found.selection.weights]
    return not found.selection.missing and all(isinstance(header, Header) and header.is_read for header in headers)


def _parameters(headers: Sequence[Header], bits: int | None) -> int | None:
    """The model's parameters; those of a quantised model are counted unpacked, its scales not at all."""
    if not headers:
        return None
    total = 0
    for header in headers:
        for dtype, count in header.elements.items():
            own = count if bits is None else count - header.auxiliary.get(dtype, 0)
            packed = _PACKED_BITS.get(dtype, 0)
            total += own * packed // bits if bits and bits < packed else own
    return total


def _dtype(headers: Iterable[Header], config: Mapping[str, Any]) -> str | None:
    """The dtype of most of the bytes, as safetensors spells it; without headers what the configuration says."""
    sizes: dict[str, int] = {}
    for header in headers:
        for dtype, size in header.bytes.items():
            sizes[dtype] = sizes.get(dtype, 0) + size
    if sizes:
        return max(sizes, key=lambda dtype: (sizes[dtype], dtype))
    text = context.text_config(config)
    named = text.get("dtype") or text.get("torch_dtype")
    return _DTYPES.get(named) if isinstance(named, str) else None


def _quantization_config(found: Checkpoint, config: Mapping[str, Any]) -> Mapping[str, Any]:
    for part in (config, context.text_config(config)):
        for name in ("quantization_config", "compression_config"):
            if own := _mapping(part.get(name)):
                return own
    if optimizer := _mapping(_mapping(document(found, "hf_quant_config.json")).get("quantization")):
        return {"quant_method": optimizer.get("quant_algo")}
    if old := _mapping(document(found, "quantize_config.json")):
        return {"quant_method": "gptq", **old}
    return {}


def _quantization(found: Checkpoint, config: Mapping[str, Any]) -> str | None:
    own = _quantization_config(found, config)
    method = own.get("quant_method")
    if not isinstance(method, str):
        return None
    bits = _bits(found, config)
    plain = method.lower()
    return f"{plain}-{bits}bit" if bits and not any(letter.isdigit() for letter in plain) else plain


def _bits(found: Checkpoint, config: Mapping[str, Any]) -> int | None:
    own = _quantization_config(found, config)
    if own.get("load_in_4bit") or str(own.get("quant_method")).lower() in {"mxfp4", "nvfp4"}:
        return 4
    if own.get("load_in_8bit"):
        return 8
    groups = [_mapping(group) for group in _mapping(own.get("config_groups")).values()]
    named = [own.get("bits"), own.get("w_bit"), *(_mapping(group.get("weights")).get("num_bits") for group in groups)]
    return next((bits for bits in named if isinstance(bits, int) and 0 < bits <= 16), None)


def _about_gguf(headers: Iterable[Header]) -> Mapping[str, Any]:
    return next((header.metadata for header in headers if header.metadata), {})


def _gguf_quantization(about: Mapping[str, Any]) -> str | None:
    from modelctl.store import gguf

    kind = about.get("general.file_type")
    return gguf.FILE_TYPES.get(kind) if isinstance(kind, int) else None


def _context_length(
    found: Checkpoint, config: Mapping[str, Any], about: Mapping[str, Any], task: str | None
) -> int | None:
    if about and not config:
        told = about.get(f"{about.get('general.architecture')}.context_length")
        return told if isinstance(told, int) else None
    sentence = next((name for name in _SENTENCE_CONFIGS if name in found.files), None)
    return context.length(
        config,
        sentence=document(found, sentence) if sentence else None,
        tokenizer=None if task == "generate" else document(found, "tokenizer_config.json"),
    )


def _card(found: Checkpoint) -> Mapping[str, str]:
    readme = found.files.get("README.md")
    return card.fields(readme.content) if readme and readme.content else {}


def _license(found: Checkpoint, fields: Mapping[str, str]) -> str | None:
    named = fields.get("license")
    if named and named != "other":
        return named
    if own := fields.get("license_name"):
        return own
    texts = sorted(name for name in found.files if name.upper().startswith(("LICENSE", "LICENCE")) and "/" not in name)
    contents = [content for name in texts if (content := found.files[name].content)]
    return next((known for content in contents if (known := card.license_of(content))), named)
