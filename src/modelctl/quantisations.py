"""The quantisations of a GGUF repository, told apart by the names of its files (pure)."""

import re
from collections.abc import Iterable

_LABEL = r"(?i)(?:^|[-._])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|BF16|F16|F32|MXFP4(?:_[A-Z]+)*|TQ\d_\d))(?=[-._])"
# Of a projector of images or sounds, in the order of preference: what every backend can work with comes first.
_PROJECTOR_PRECISIONS = ("F16", "BF16", "F32")


def choices(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The GGUF files by quantisation, as `Q4_K_M`; parts of one model together, projectors left out.

    A file without a recognisable quantisation is its own choice, under its name, but for the matrix by which the
    others were quantised.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        base = name.rsplit("/", 1)[-1]
        if not name.endswith(".gguf") or _is_projector(base):
            continue
        label = _label(base)
        if label or "imatrix" not in base.lower():
            found.setdefault(label or base.removesuffix(".gguf"), []).append(name)
    return {label: tuple(files) for label, files in found.items()}


def projectors(names: Iterable[str]) -> set[str]:
    """The projectors that go with any quantisation, each in one precision."""
    found: dict[str, tuple[int, str]] = {}
    for name in names:
        base = name.rsplit("/", 1)[-1]
        if name.endswith(".gguf") and _is_projector(base):
            label = _label(base)
            rank = _PROJECTOR_PRECISIONS.index(label) if label in _PROJECTOR_PRECISIONS else len(_PROJECTOR_PRECISIONS)
            kind = name.upper().replace(label, "")
            found[kind] = min(found.get(kind, (rank, name)), (rank, name))
    return {name for _, name in found.values()}


def _label(base: str) -> str:
    labels = re.findall(_LABEL, base)
    return labels[-1].upper() if labels else ""


def _is_projector(base: str) -> bool:
    return "mmproj" in base.lower()
