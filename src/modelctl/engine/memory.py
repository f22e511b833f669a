"""How much memory vLLM needs (pure)."""

from collections.abc import Mapping

MIB, GIB = 2**20, 2**30
_LEAST, _MOST = 64 * MIB, 4 * GIB
# The model runs in two bytes a number: vLLM turns float32 checkpoints into a half-width type.
_BYTES_A_NUMBER = 2
# The cache is dealt out in blocks of this many tokens on the CPU, and one block is never given to a request.
_BLOCK = 128


def kv_cache_on_cpu(config: Mapping[str, object], *, context: int | None, available: int) -> int:
    """Bytes for the KV cache on the CPU, where vLLM's own default is nearly all memory of a NUMA node.

    A quarter of the memory that is `available`, at most 4 GiB, but room for one request of `context` tokens.
    """
    tokens = (-(-context // _BLOCK) + 1) * _BLOCK if context else 0
    one_request = (bytes_per_token(config) or 0) * tokens
    return max(_LEAST, one_request, min(_MOST, available // 4))


def bytes_per_token(config: Mapping[str, object]) -> int | None:
    """What one token takes in the KV cache of a model with plain or latent attention in all layers."""
    nested = config.get("text_config")
    config = {**config, **nested} if isinstance(nested, Mapping) else config
    layers = _number(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    if layers is None:
        return None
    if (rank := _number(config, "kv_lora_rank")) is not None:
        return layers * (rank + (_number(config, "qk_rope_head_dim") or 0)) * _BYTES_A_NUMBER
    heads = _number(config, "num_attention_heads", "n_head", "n_heads")
    hidden = _number(config, "hidden_size", "n_embd", "d_model")
    kv_heads = (
        _number(
            config, "num_key_value_heads", "n_head_kv", "num_kv_heads", "multi_query_group_num", "num_attention_groups"
        )
        or heads
    )
    head_dim = _number(config, "head_dim") or (hidden // heads if hidden and heads else None)
    if kv_heads is None or head_dim is None:
        return None
    return layers * 2 * kv_heads * head_dim * _BYTES_A_NUMBER


def context_length(text: str) -> int | None:
    """The tokens that a `--max-model-len` asks for: `8192`, `8k` (thousands), `8K` (1024s); `auto` says none."""
    scale = {"k": 1000, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
    digits = text[:-1] if scale != 1 else text
    try:
        tokens = int(float(digits) * scale)
    except (ValueError, OverflowError):
        return None
    return tokens if tokens > 0 else None


def _number(config: Mapping[str, object], *names: str) -> int | None:
    """The first of these keys that holds a positive whole number."""
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)
