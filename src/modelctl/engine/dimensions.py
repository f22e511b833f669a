"""The dimensions of a model, under whichever names its configuration gives them (pure)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# Models that read a text at once and keep nothing of it.
_ENCODERS = {
    *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "esm", "gte", "mpnet"),
    *("gte_new", "jina_bert", "modernbert", "neobert", "new", "nomic_bert", "roberta", "siglip", "clip", "xlm-roberta"),
    *("siglip2", "snowflake_gte", "t5gemma_encoder", "vit", "xlm-roberta-xl", "xlm-roberta-flash", "eurobert"),
}
# More layers than any model has: a configuration that says so makes no sense, and would only take memory here.
MOST = 10_000
_KEY_HEADS = (
    "n_head_kv",
    "num_kv_heads",
    "num_key_value_heads",
    "n_kv_heads",
    "multi_query_group_num",
    "num_attention_groups",
)


class Heads(NamedTuple):
    """The heads that the cache keeps: how many, and the numbers of a key and of a value."""

    keys: int
    key_size: int
    value_size: int


def number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these keys that holds a positive whole number."""
    return first(config, names)


def first(config: Mapping[str, Any], names: Iterable[str]) -> int | None:
    """As `number`, of any names. A number that no model has is none: it would only make the arithmetic slow."""
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and 0 < value < 1 << 40), None)


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether the model attends to its whole text in both directions, and so keeps no cache."""
    return str(config.get("model_type")) in _ENCODERS or config.get("is_causal") is False


def hidden_size(config: Mapping[str, Any]) -> int | None:
    """The width of the model between its layers."""
    return number(config, "hidden_size", "n_embd", "d_model", "dim")


def vocabulary(config: Mapping[str, Any]) -> int | None:
    """The tokens that the model knows."""
    return number(config, "vocab_size", "padded_vocab_size")


def intermediate_size(config: Mapping[str, Any]) -> int | None:
    """The width of the model inside a layer; of a mixture, that of the experts that one token sees."""
    dense = number(
        config, "intermediate_size", "ffn_dim", "n_inner", "decoder_ffn_dim", "ffn_hidden_size", "hidden_dim"
    )
    expert = number(config, "moe_intermediate_size")
    if dense is None and expert is None and (hidden := hidden_size(config)):
        return 4 * hidden
    chosen = number(config, "num_experts_per_tok") or 1
    return max(dense or 0, (expert or 0) * chosen)


def heads(config: Mapping[str, Any], *, is_global: bool = False) -> Heads | None:
    """The heads of a layer; `is_global` asks for those of the layers that attend to everything, where they differ."""
    total = number(config, "num_attention_heads", "n_head", "n_heads", "decoder_attention_heads", "num_heads")
    if config.get("kv_lora_rank") and (rope := number(config, "qk_rope_head_dim")):
        # Keys and values out of a latent vector, kept unfolded and the values as wide as the keys.
        size = (number(config, "qk_nope_head_dim") or 0) + rope
        return Heads(total, size, size) if total else None
    size_ = _size(config, total, is_global=is_global)
    keys = (number(config, "num_global_key_value_heads") if is_global else None) or _keys(config, total)
    if keys is None or size_ is None:
        return None
    return Heads(keys, size_, size_ if is_global else number(config, "v_head_dim") or size_)


def _size(config: Mapping[str, Any], total: int | None, *, is_global: bool) -> int | None:
    if is_global and (size := number(config, "global_head_dim")):
        return size
    if size := number(config, "head_dim", "hidden_size_per_head", "kv_channels"):
        return size
    hidden = hidden_size(config)
    return hidden // total if hidden and total and hidden >= total else None


def _keys(config: Mapping[str, Any], total: int | None) -> int | None:
    if config.get("multi_query") is True and not config.get("new_decoder_architecture"):
        # Of ChatGLM `multi_query` is called something else, and says no number.
        return number(config, "multi_query_group_num") or 1
    attention = config.get("attn_config")
    if isinstance(attention, Mapping) and (keys := number(attention, "kv_n_heads")):
        return keys
    return first(config, _KEY_HEADS) or total
