"""The quantisations of a GGUF repository, told apart by the names of its files (pure)."""

import re
from collections.abc import Iterable

_LABEL = r"(?i)(?:^|[-._])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|BF16|F16|F32|(?:MX|NV)FP4(?:_[A-Z]+)*|TQ\d_\d))(?=[-._])"
_PART = re.compile(r"-\d{5}-of-\d{5}$")
# Of a projector of images or sounds, in the order of preference: what every backend can work with comes first.
_PROJECTOR_PRECISIONS = ("F16", "BF16", "F32")


def choices(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The GGUF files by quantisation, as `Q4_K_M`; parts of one model together, projectors left out.

    What has no recognisable quantisation is a choice under its own name, but for the matrix by which the others were
    quantised.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        base = name.rsplit("/", 1)[-1]
        if not name.endswith(".gguf") or is_projector(base):
            continue
        known = label(base)
        if known or "imatrix" not in base.lower():
            found.setdefault(known or _PART.sub("", base.removesuffix(".gguf")), []).append(name)
    return {known: tuple(files) for known, files in found.items()}


def projectors(names: Iterable[str]) -> set[str]:
    """The projectors that go with any quantisation, each in one precision."""
    found: dict[str, tuple[int, str]] = {}
    for name in names:
        base = name.rsplit("/", 1)[-1]
        if name.endswith(".gguf") and is_projector(base):
            known = label(base)
            rank = _PROJECTOR_PRECISIONS.index(known) if known in _PROJECTOR_PRECISIONS else len(_PROJECTOR_PRECISIONS)
            kind = name.upper().replace(known, "")
            found[kind] = min(found.get(kind, (rank, name)), (rank, name))
    return {name for _, name in found.values()}


def label(base: str) -> str:
    """The quantisation that the name of a GGUF file tells, empty where it tells none."""
    labels = re.findall(_LABEL, base)
    return labels[-1].upper() if labels else ""


def is_projector(base: str) -> bool:
    """Whether a file's name says that it turns images or sounds into tokens, for a model beside it."""
    return "mmproj" in base.lower()
