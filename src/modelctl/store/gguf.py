"""Headers of GGUF files: key-value metadata, then a description of every tensor, then the tensors.

All numbers little-endian; strings are a 64-bit length and that many bytes. Versions 2 and 3.
"""

import os
import struct
from math import prod

from modelctl.store import reading
from modelctl.store.header import Damage, Header, TornError

MAGIC = b"GGUF"
MAX_READ = 25_000_000
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 8
# Many times what any model has: a count beyond is none, and would be looked through entry by entry.
_MAX_PAIRS, _MAX_TENSORS = 1 << 16, 1 << 18
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# ggml's tensor types: the name, and how many elements one block of how many bytes holds.
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
# llama.cpp's names of `general.file_type`.
FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
}
_UNREAD = Header(frozenset(), {}, {}, {}, {}, is_read=False)


class _Cursor:
    """A place in the header's bytes; a read past them is a `struct.error`."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def number(self, code: str) -> int:
        value: int = struct.unpack_from(f"<{code}", self.data, self.at)[0]
        self.at += struct.calcsize(f"<{code}")
        return value

    def string(self) -> bytes:
        start = self.at + 8
        self.at = start + struct.unpack_from("<Q", self.data, self.at)[0]
        if self.at > len(self.data):
            raise struct.error
        return self.data[start : self.at]

    def skip(self, kind: int, count: int) -> None:
        """Step over an array, as fast as it goes: a vocabulary has hundreds of thousands of strings."""
        if kind != _STRING:
            self.at += struct.calcsize(f"<{_SCALARS[kind]}") * count
            return
        at, data, length_at = self.at, self.data, struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length_at(data, at)[0]
        self.at = at


def read(path: str | os.PathLike[str], size: int) -> Header | Damage:
    """The header of a file of `size` bytes, or what is wrong with the file."""
    # Nothing tells how long the header is; with a large vocabulary it takes some megabytes.
    data = b""
    for limit in (1 << 20, 8 << 20, MAX_READ):
        more = reading.part(path, len(data), limit - len(data))
        if more is None:
            return Damage("cannot be read")
        data += more
        try:
            return _header(data, size)
        except TornError as torn:
            return Damage(str(torn))
        except struct.error:
            if len(data) < limit:
                return Damage("ends inside its header")
        except (KeyError, ValueError, OverflowError):
            return Damage("has a header that makes no sense")
    return _UNREAD


def _header(data: bytes, size: int) -> Header:
    tensors, pairs = _counts(data)
    cursor = _Cursor(data, 24)
    metadata = dict(_pair(cursor) for _ in range(pairs))
    return _tensors(cursor, tensors, metadata, size)


def _counts(data: bytes) -> tuple[int, int]:
    """The number of tensors, and of pairs of metadata."""
    if len(data) < 24 or not data.startswith(MAGIC):
        raise TornError("is no GGUF file")
    version, tensors, pairs = struct.unpack_from("<IQQ", data, 4)
    if version not in _VERSIONS:
        raise TornError(f"has version {version} of the GGUF format, which is not known")
    if tensors > _MAX_TENSORS or pairs > _MAX_PAIRS:
        raise TornError("has a header that makes no sense")
    return tensors, pairs


def _pair(cursor: _Cursor) -> tuple[str, object]:
    key = cursor.string().decode("utf-8", "replace")
    kind = cursor.number("I")
    if kind == _STRING:
        return key, cursor.string().decode("utf-8", "replace")
    if kind == _ARRAY:
        kind = cursor.number("I")
        count = cursor.number("Q")
        cursor.skip(kind, count)
        return key, None
    return key, cursor.number(_SCALARS[kind])


def _tensors(cursor: _Cursor, count: int, metadata: dict[str, object], size: int) -> Header:
    names: set[str] = set()
    elements: dict[str, int] = {}
    sizes: dict[str, int] = {}
    reached = 0
    for _ in range(count):
        name = cursor.string().decode("utf-8", "replace")
        dimensions = cursor.number("I")
        if dimensions > _MAX_DIMENSIONS:
            raise ValueError
        number = prod(cursor.number("Q") for _ in range(dimensions))
        kind = cursor.number("I")
        label, per_block, block = _TYPES.get(kind, (f"type {kind}", 1, 0))
        span = number // per_block * block
        reached = max(reached, cursor.number("Q") + span)
        names.add(name)
        elements[label] = elements.get(label, 0) + number
        sizes[label] = sizes.get(label, 0) + span
    alignment = metadata.get("general.alignment", 32)
    step = alignment if isinstance(alignment, int) and alignment > 0 else 32
    data_start = -(-cursor.at // step) * step
    if count and data_start + reached > size:
        raise TornError(f"is cut off: {data_start + reached - size} bytes of its tensors are missing")
    return Header(frozenset(names), elements, sizes, {}, metadata)
