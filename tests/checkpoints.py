"""Small model files of every format, as bytes: well formed, and easy to damage."""

import json
import struct
from collections.abc import Mapping

from modelctl.share.safetensors import Tensor, encode

_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "U8": 1, "F8_E4M3": 1}
CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


def weights(shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> bytes:
    """A safetensors file with tensors of these shapes."""
    return encode({name: tensor(dtype, shape) for name, shape in shapes.items()})


def tensor(dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of zeros."""
    size = _WIDTHS[dtype]
    for length in shape:
        size *= length
    return Tensor(dtype, shape, bytes(size))


def generator(**changed: bytes | str | None) -> dict[str, bytes | str]:
    """The files of a model that generates text, in 300 bytes; `None` leaves one out."""
    files: dict[str, bytes | str | None] = {
        "README.md": "---\nlicense: mit\n---\n",
        "config.json": json.dumps(CONFIG),
        "model.safetensors": weights({"a": (4, 8), "b": (10,)}),
        "tokenizer.json": "{}",
        **{name.replace("__", "."): content for name, content in changed.items()},
    }
    return {name: content for name, content in files.items() if content is not None}


def sharded() -> dict[str, bytes | str]:
    """A model in two shards, with their index."""
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1], "c": shards[1]}}
    return {
        **generator(model__safetensors=None),
        shards[0]: weights({"a": (4, 8)}),
        shards[1]: weights({"b": (10,), "c": (2,)}),
        "model.safetensors.index.json": json.dumps(index),
    }


def gguf(
    tensors: Mapping[str, tuple[int, tuple[int, ...], int]],
    *,
    metadata: Mapping[str, str | int] | None = None,
    vocabulary: int = 3,
) -> bytes:
    """A GGUF file; each tensor is ggml's type, its dimensions and its bytes. `vocabulary` strings come before them."""
    pairs = b"".join(_pair(key, value) for key, value in (metadata or {"general.architecture": "llama"}).items())
    words = b"".join(_string(f"word{number}") for number in range(vocabulary))
    pairs += _string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, vocabulary) + words
    infos, at = b"", 0
    for name, (kind, dimensions, size) in tensors.items():
        shape = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        infos += _string(name) + shape + struct.pack("<IQ", kind, at)
        at += -(-size // 32) * 32
    count = len(metadata or {"general.architecture": "llama"}) + 1
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count) + pairs + infos
    return head + bytes(-len(head) % 32) + bytes(at)


def _pair(key: str, value: str | int) -> bytes:
    if isinstance(value, str):
        return _string(key) + struct.pack("<I", 8) + _string(value)
    return _string(key) + struct.pack("<II", 4, value)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
