"""The layers of a model as its KV cache sees them, read from `config.json` as vLLM builds them (pure)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from modelctl.engine import state
from modelctl.engine.dimensions import MOST, first, heads, is_encoder, number
from modelctl.store import context, presumed

Kind = Literal["full", "latent", "window", "chunk", "cross", "state"]

# The model types for which vLLM keeps latent vectors instead of keys and values.
_LATENT = {
    *("axk1", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_mtp", "glm_moe_dsa", "glm4_moe_lite"),
    *("kimi_k2", "kimi_linear", "longcat_flash", "pangu_ultra_moe", "bailing_hybrid"),
}
# Every so many layers one attends to everything, where `layer_types` does not say which; the others look at a window.
_PATTERNS = {
    "gemma2": 2,
    "gpt_oss": 2,
    "gemma3_text": 6,
    "gemma3n_text": 5,
    "gemma4_text": 6,
    "cohere2": 4,
    "exaone4": 4,
    "olmo3": 4,
}
_BY_WORD: Mapping[str, Kind] = {
    "full_attention": "full",
    "attention": "full",
    "global_attention": "full",
    "indexed_attention": "latent",
    "sliding_attention": "window",
    "sliding_window": "window",
    "chunked_attention": "chunk",
    "linear_attention": "state",
    "mamba": "state",
    "conv": "state",
    "recurrent": "state",
}


class Layers(NamedTuple):
    """Layers of one kind on one device: how many, and what one of them keeps.

    `bytes` are those of one token, of a `state` those of one sequence. `reach` is how far back a `window` or `chunk`
    looks, how long the other sequence of a `cross` attention is, and how many states one request holds.
    """

    depth: int
    kind: Kind
    bytes: int
    reach: int | None = None


class Shares(NamedTuple):
    """How a model is divided, what a number of it takes, and one of its cache; whether it runs on the CPU."""

    tensor: int = 1
    pipeline: int = 1
    width: int = 2
    cache_width: int = 2
    is_cpu: bool = False


def of(config: Mapping[str, Any], shares: Shares = Shares()) -> tuple[Layers, ...] | None:  # noqa: B008 - frozen
    """The layers that need a cache, none for a model without one; `None` where the configuration does not tell."""
    text = completed(config)
    if is_encoder(text):
        return ()
    kinds = _kinds(text)
    if kinds is None:
        return None
    found: list[Layers] = []
    for kind, count in Counter(kinds).items():
        # Of a pipeline, the stage with the most layers decides.
        layers = _layers(text, kind, count=-(-count // shares.pipeline), shares=shares)
        if layers is None:
            return None
        found += layers
    attends = any(layers.kind != "state" for layers in found)
    reach = state.blocks(text, beside_attention=attends)
    return tuple(layers._replace(reach=reach) if layers.kind == "state" else layers for layers in found)


def completed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the language model, what the whole says beside it, and what both presume."""
    text = context.text_config(config)
    return presumed.completed({**config, **text})


def _kinds(config: Mapping[str, Any]) -> list[Kind] | None:
    """The kind of every layer; a layer may be of two (`falcon_h1`)."""
    count = number(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers")
    if "block_configs" in config or "compress_ratios" in config:
        return None
    named = state.named_layers(config)
    if (count is None and not named) or max(count or 0, len(named)) > MOST:
        return None
    words = named or _words(config, count or 0)
    shared = number(config, "num_kv_shared_layers") or 0
    kinds = [_BY_WORD.get(word) for word in words[: len(words) - shared]]
    if None in kinds:
        return None
    known = [kind for kind in kinds if kind is not None]
    return [*known, *(["cross"] * len(known) if config.get("is_encoder_decoder") else [])]  # type: ignore[list-item]


def _words(config: Mapping[str, Any], count: int) -> Sequence[str]:
    """What each layer is, in transformers' words."""
    model_type = str(config.get("model_type"))
    types = config.get("layer_types")
    if isinstance(types, list) and len(types) >= count:
        return [str(word) for word in types[:count]]
    if model_type == "llama4_text":
        steps = config.get("no_rope_layers")
        local = steps if isinstance(steps, list) and len(steps) == count else [(at + 1) % 4 for at in range(count)]
        return ["chunked_attention" if flag else "full_attention" for flag in local]
    if not number(config, "sliding_window") or not _uses_window(config, model_type):
        return ["full_attention"] * count
    every = number(config, "sliding_window_pattern", "_sliding_window_pattern") or _PATTERNS.get(model_type)
    if every is None:
        return ["sliding_window"] * count
    return ["sliding_window" if (at + 1) % every else "full_attention" for at in range(count)]


def _uses_window(config: Mapping[str, Any], model_type: str) -> bool:
    flag = config.get("use_sliding_window")
    return bool(flag) if flag is not None else not model_type.startswith(("qwen", "smollm"))


def _layers(config: Mapping[str, Any], kind: Kind, *, count: int, shares: Shares) -> list[Layers] | None:
    if kind == "state":
        size = state.size(config, tensor=shares.tensor, width=shares.width, is_cpu=shares.is_cpu)
        return None if size is None else [Layers(count, kind, size)]
    # Mistral's own configurations know no `model_type`.
    is_latent = str(config.get("model_type")) in _LATENT or "model_type" not in config
    if kind != "cross" and is_latent and (rank := number(config, "kv_lora_rank")):
        return _latent(config, rank, count=count, shares=shares)
    size = _per_token(config, kind, shares)
    if size is None:
        return None
    return [Layers(count, kind, size, _reach(config, kind))]


def _latent(config: Mapping[str, Any], rank: int, *, count: int, shares: Shares) -> list[Layers]:
    """One vector a token for all heads, whole on every device; and that of the indexer, where there is one."""
    layers = [Layers(count, "latent", (rank + (number(config, "qk_rope_head_dim") or 0)) * shares.cache_width)]
    if index := number(config, "index_head_dim"):
        # A byte a number, and a scale for each 128 of them.
        layers.append(Layers(count, "latent", index + -(-index // 128) * 4))
    return layers


def _per_token(config: Mapping[str, Any], kind: Kind, shares: Shares) -> int | None:
    """Bytes of one token's keys and values, on one of the devices that share the heads."""
    is_global = kind == "full" and number(config, "global_head_dim") is not None
    found = heads(config, is_global=is_global)
    if found is None:
        return None
    return max(1, found.keys // shares.tensor) * (found.key_size + found.value_size) * shares.cache_width


def _reach(config: Mapping[str, Any], kind: Kind) -> int | None:
    if kind == "chunk":
        return number(config, "attention_chunk_size") or 8192
    if kind == "cross":
        return first(config, ("max_source_positions",)) or 1500
    if kind != "window":
        return None
    # Cohere looks at its window and the token itself.
    return (number(config, "sliding_window") or 0) + (config.get("model_type") == "cohere2")
