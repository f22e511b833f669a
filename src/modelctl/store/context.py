"""The longest sequence that a model takes, derived from its configuration as vLLM derives it (`config/model.py`)."""

from collections.abc import Mapping
from typing import Any

from modelctl.store import presumed

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "thinker_config")
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# These leave `max_position_embeddings` already scaled, or scale it by rules of their own.
_SCALED_ALREADY = {
    "default",
    "su",
    "longrope",
    "llama3",
    "yarn",
    "deepseek_yarn",
    "deepseek_llama_scaling",
    "mrope",
}


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a multimodal configuration that speaks of the language model, else the whole."""
    for name in _TEXT_CONFIGS:
        if isinstance(part := config.get(name), Mapping) and part:
            return text_config(part)
    return config


def length(config: Mapping[str, Any], *, sentence: Any = None, tokenizer: Any = None) -> int | None:  # noqa: ANN401
    """The tokens of one sequence, `None` where nothing tells.

    `sentence` is the content of sentence-transformers' `sentence_bert_config.json`, `tokenizer` that of
    `tokenizer_config.json` where the model embeds.
    """
    if isinstance(sentence, Mapping) and (own := _count(sentence.get("max_seq_length"))):
        return own
    text = presumed.completed(text_config(config))
    known = [count for name in _LENGTHS if (count := _count(text.get(name)))]
    if not known:
        return None
    derived = _count(text.get("model_max_length")) or min(known)
    if isinstance(tokenizer, Mapping) and config.get("position_embedding_type") == "absolute":
        derived = min(derived, _count(tokenizer.get("model_max_length")) or derived)
    if "gemma3" not in str(text.get("model_type")):
        derived = int(derived * _rope_factor(text))
    return derived


def _rope_factor(text: Mapping[str, Any]) -> float:
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return 1.0
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    factor = rope.get("factor")
    if kind in _SCALED_ALREADY or not isinstance(factor, (int, float)):
        return 1.0
    return float(factor) if 0 < factor < 1e6 else 1.0


def _count(value: object) -> int | None:
    """A sensible number of tokens: `tokenizer_config.json` is known to say 10 to the 30th for "no limit"."""
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1 << 40 else None
