"""What the weights of a checkpoint take in memory once vLLM has loaded them."""

from collections.abc import Iterable, Mapping
from typing import Any

from modelctl.store import context, presumed
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.header import Damage, Header

# vLLM runs what was trained in single precision in half of it.
_HALVED = {"F64", "F32", "F16", "BF16"}
_HEADS = {"lm_head.weight", "language_model.lm_head.weight", "model.lm_head.weight"}


def size(found: Checkpoint, config: Mapping[str, Any], *, is_quantized: bool) -> int | None:
    """Bytes, of all devices together; `None` where there are none, or a file of them cannot be read."""
    chosen = found.selection
    files = [found.files.get(name) for name in chosen.weights]
    sizes = [file.size for file in files if file is not None and file.size is not None]
    headers = [found.headers.get(name) for name in chosen.weights]
    if chosen.missing or not sizes or len(sizes) < len(chosen.weights):
        return None
    if any(isinstance(header, Damage) for header in headers):
        return None
    if chosen.format == "pickle":
        # Of which only the configuration says how wide its numbers are.
        return sum(sizes) // (2 if "32" in str(_dtype(config)) and not is_quantized else 1)
    halved = set() if is_quantized else _HALVED
    total = 0
    for header, on_disk in zip(headers, sizes, strict=True):
        is_read = isinstance(header, Header) and header.is_read
        total += _of_header(header, halved) if isinstance(header, Header) and is_read else on_disk
    return max(0, total - _tied(config, (header for header in headers if isinstance(header, Header))))


def _of_header(header: Header, halved: set[str]) -> int:
    return sum(
        header.elements.get(dtype, 0) * 2 if dtype in halved else stored for dtype, stored in header.bytes.items()
    )


def _tied(config: Mapping[str, Any], headers: Iterable[Header]) -> int:
    """The output's weights where a file holds them and the model takes those of its input instead."""
    text = presumed.completed({**config, **context.text_config(config)})
    if text.get("tie_word_embeddings") is not True or not any(_HEADS & header.names for header in headers):
        return 0
    tokens, width = text.get("vocab_size"), text.get("hidden_size")
    return tokens * width * 2 if type(tokens) is int and type(width) is int and 0 < tokens * width < 1 << 40 else 0


def _dtype(config: Mapping[str, Any]) -> object:
    text = context.text_config(config)
    return text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype")
