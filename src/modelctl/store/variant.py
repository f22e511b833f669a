"""One of several quantisations that a revision holds, as GGUF repositories have them."""

from modelctl.errors import NotFoundError
from modelctl.ref import ModelRef
from modelctl.store import checkpoint
from modelctl.store.model import Revision


def of(revision: Revision, ref: ModelRef) -> Revision:
    """The revision with one quantisation alone, where one is named; `NotFoundError` where it is not there."""
    if ref.variant is None:
        return revision
    choices = checkpoint.read(revision, headers=False).selection.choices
    wanted = {label for label in choices if label.upper() == ref.variant.upper()}
    if not wanted:
        here = ", ".join(f"`{label}`" for label in choices)
        raise NotFoundError(
            f"`{ref.id}` has no quantisation `{ref.variant}` here",
            hint=f"here are {here}" if here else "it is no GGUF model: leave the name of a quantisation out",
        )
    others = {name for label in choices.keys() - wanted for name in choices[label]}
    return revision._replace(files=tuple(file for file in revision.files if file.name not in others))
