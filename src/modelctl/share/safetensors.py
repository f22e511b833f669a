"""Safetensors files, written with the standard library: a length, a JSON header, the tensors."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1, "F8_E4M3": 1}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor: its type in the format's spelling, its shape, its little-endian values."""

    dtype: str
    shape: tuple[int, ...]
    values: bytes


def encode(tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a safetensors file. The header is padded so that the tensors begin at a multiple of 8."""
    header: dict[str, object] = {"__metadata__": dict(metadata or {"format": "pt"})}
    at = 0
    for name, tensor in tensors.items():
        expected = math.prod(tensor.shape) * _WIDTHS[tensor.dtype]
        if len(tensor.values) != expected:
            raise ValueError(f"{name}: {len(tensor.values)} bytes for a tensor of {expected}")
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + expected]}
        at += expected
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.values for tensor in tensors.values())
