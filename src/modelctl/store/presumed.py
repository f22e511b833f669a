"""What transformers presumes of a configuration that does not say it.

A file on the Hub names what its author changed. Parts of multimodal models leave out even heads and layers:
`text_config` may hold no more than a `model_type`.
"""

from collections.abc import Mapping
from typing import Any

_LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
_QWEN = {
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
}
_GEMMA = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": True}
# By `model_type`; `tests/test_engine_memory.py` asks transformers itself.
BY_TYPE: Mapping[str, Mapping[str, Any]] = {
    "llama": _LLAMA,
    "mistral": {
        **_LLAMA,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "mixtral": {
        **_LLAMA,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
    },
    "qwen2": _QWEN,
    "qwen3": {**_QWEN, "head_dim": 128},
    "gemma": {**_GEMMA, "num_attention_heads": 16, "num_key_value_heads": 16, "max_position_embeddings": 8192},
    "gemma2": {**_GEMMA, "max_position_embeddings": 8192, "sliding_window": 4096, "hidden_size": 2304},
    "gemma3_text": {
        **_GEMMA,
        "hidden_size": 2304,
        "num_hidden_layers": 26,
        "intermediate_size": 9216,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "cohere": {"tie_word_embeddings": True},
    "cohere2": {"tie_word_embeddings": True, "sliding_window": 4096},
    "gpt2": {"tie_word_embeddings": True},
    "opt": {"tie_word_embeddings": True},
    "bloom": {"tie_word_embeddings": True},
    "falcon": {"tie_word_embeddings": True, "multi_query": True},
    "gpt_bigcode": {"tie_word_embeddings": True, "multi_query": True},
}


def completed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration with what its `model_type` presumes where it is silent."""
    presumed = BY_TYPE.get(str(config.get("model_type")))
    return {**presumed, **config} if presumed else config
