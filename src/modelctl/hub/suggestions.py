"""What a name that the Hub does not know may have meant."""

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MOST = 3
_ASKED_FOR = 50
_CLOSE = 0.6


def models(api: "HfApi", wanted: str, known: Sequence[str]) -> tuple[str, ...]:
    """The closest of the known names, and of those that the Hub's search offers for the name or its owner."""
    owner, _, name = wanted.rpartition("/")
    offered = [model.id for model in api.list_models(search=name, limit=_ASKED_FOR)]
    if not offered and owner:
        offered = [model.id for model in api.list_models(author=owner, limit=_ASKED_FOR)]
    return closest(wanted, [*known, *offered])


def revisions(api: "HfApi", model_id: str, wanted: str) -> tuple[str, ...]:
    """The closest branches and tags, else the first of them."""
    refs = api.list_repo_refs(model_id)
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return closest(wanted, names) or tuple(names[:_MOST])


def closest(wanted: str, names: Iterable[str]) -> tuple[str, ...]:
    """Up to three names like the wanted one, the closest first.

    What follows the slash has to be alike: the owner alone says little, and may be the mistake.
    """

    def likeness(name: str) -> tuple[float, float]:
        return _likeness(_short(wanted), _short(name)), _likeness(wanted, name)

    rated = {name: likeness(name) for name in {*names} - {wanted}}
    close = [name for name, (short, _) in rated.items() if short >= _CLOSE]
    return tuple(sorted(close, key=lambda name: (*(-rate for rate in rated[name]), name))[:_MOST])


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio()
