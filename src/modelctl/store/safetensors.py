"""Headers of safetensors files, checked as the safetensors library checks them before it loads a tensor.

Eight bytes of length, little-endian; that many bytes of JSON, `{name: {"dtype", "shape", "data_offsets"}}`; the data.
"""

import os
from math import prod
from typing import Any

from modelctl.store import reading
from modelctl.store.header import Damage, Header, TornError

MAX_READ = 25_000_000 - 8
# The library refuses headers above this.
_MAX_HEADER = 100_000_000
_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}
# Tensors of quantised layers that hold no parameters of their own.
_AUXILIARY = (
    "scales",
    "scale",
    "scale_inv",
    "scale_2",
    "zeros",
    "zero_point",
    "weight_shape",
    "g_idx",
    "absmax",
    "quant_map",
    "bitsandbytes__nf4",
    "bitsandbytes__fp4",
)
_INTEGERS = {int}
_UNREAD = Header(frozenset(), {}, {}, {}, {}, is_read=False)


def read(path: str | os.PathLike[str], size: int) -> Header | Damage:
    """The header of a file of `size` bytes, or what is wrong with the file."""
    try:
        length = _length(reading.head(path, 8), size)
        if length > MAX_READ:
            return _UNREAD
        return _header(reading.parsed(reading.part(path, 8, length) or b""), size - 8 - length)
    except TornError as torn:
        return Damage(str(torn))


def _length(start: bytes | None, size: int) -> int:
    if start is None:
        raise TornError("cannot be read")
    if len(start) < 8:
        raise TornError("is too short for a safetensors file")
    length = int.from_bytes(start, "little")
    if length > _MAX_HEADER:
        raise TornError("is no safetensors file: the length of its header makes no sense")
    if length + 8 > size:
        raise TornError("ends inside its header")
    return length


def _header(document: object, space: int) -> Header:
    if not isinstance(document, dict):
        raise TornError("has a header that is no JSON object")
    metadata = document.pop("__metadata__", None)
    elements: dict[str, int] = {}
    sizes: dict[str, int] = {}
    auxiliary: dict[str, int] = {}
    spans = []
    for name, tensor in document.items():
        dtype, count, begin, end = _tensor(name, tensor)
        elements[dtype] = elements.get(dtype, 0) + count
        sizes[dtype] = sizes.get(dtype, 0) + end - begin
        if name.endswith(_AUXILIARY):
            auxiliary[dtype] = auxiliary.get(dtype, 0) + count
        spans.append((begin, end))
    _check_cover(spans, space)
    return Header(frozenset(document), elements, sizes, auxiliary, metadata if isinstance(metadata, dict) else {})


def _tensor(name: str, tensor: Any) -> tuple[str, int, int, int]:  # noqa: ANN401 - JSON values
    """Dtype, number of elements, first and last byte of a tensor whose description agrees with itself."""
    try:
        dtype, shape, (begin, end) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    except (KeyError, TypeError, ValueError) as exc:
        raise TornError(f"has a header that does not describe `{name}`") from exc
    # Not by isinstance: `true` is an integer to Python and none to JSON.
    if type(dtype) is not str or type(shape) is not list or type(begin) is not int or type(end) is not int:
        raise TornError(f"has a header that does not describe `{name}`")
    if not {*map(type, shape)} <= _INTEGERS or min(shape, default=0) < 0:
        raise TornError(f"has a header that gives `{name}` a shape that makes no sense")
    count = prod(shape)
    bits = _BITS.get(dtype)
    if begin < 0 or begin > end or (bits is not None and count * bits != (end - begin) * 8):
        raise TornError(f"has a header that contradicts itself about `{name}`")
    return dtype, count, begin, end


def _check_cover(spans: list[tuple[int, int]], space: int) -> None:
    """The tensors fill the file: no gap, no overlap, nothing cut off."""
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise TornError("has a header whose tensors overlap or leave gaps")
        reached = end
    if reached > space:
        raise TornError(f"is cut off: {reached - space} bytes of its tensors are missing")
    if reached < space:
        raise TornError(f"has {space - reached} bytes too many at its end")
