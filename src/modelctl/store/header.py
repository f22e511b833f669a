"""What the header of a weight file says, in whichever format."""

from collections.abc import Mapping
from typing import NamedTuple


class Header(NamedTuple):
    """The tensors of one weight file: their names, their elements and bytes by dtype, the metadata beside them.

    `auxiliary` counts the elements, by dtype, that only serve others: scales and zero points of quantised tensors.
    All are empty where a header is too large to be read (`is_read` is then false).
    """

    names: frozenset[str]
    elements: Mapping[str, int]
    bytes: Mapping[str, int]
    auxiliary: Mapping[str, int]
    metadata: Mapping[str, object]
    is_read: bool = True


class Damage(NamedTuple):
    """Why a weight file cannot be loaded: the end of a sentence that begins with its name."""

    message: str


class TornError(ValueError):
    """What is wrong with a header, on its way from where it is found to the `Damage` that tells of it."""
