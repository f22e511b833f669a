"""What a command over several models comes to: what failed is said model by model, and decides the exit code."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelctl.cli import output as show
from modelctl.cli.output import Output
from modelctl.errors import ModelctlError

if TYPE_CHECKING:
    from modelctl.store.disposal import Failure


def check(out: Output, failures: Sequence["Failure"], *, done: int, verb: str, **details: Any) -> None:  # noqa: ANN401
    """Raise what the failures come to: the one error where nothing was done, else a failure in part.

    `verb` is the participle of what was to be done, such as `removed`; `details` go into the error object.
    """
    if not failures:
        return
    first = failures[0].error
    failed = [{"id": failure.id, "error": show.error_object(failure.error)} for failure in failures]
    if done == 0 and len(failures) == 1:
        first.details = {**first.details, **details, "failed": failed}
        raise first
    if not out.json:
        for failure in failures:
            out.say(f"`{failure.id}` is not {verb}: {failure.error.message}")
    kinds = {type(failure.error) for failure in failures}
    kind = type(first) if done == 0 and len(kinds) == 1 else ModelctlError
    raise kind(
        f"{len(failures)} of {show.plural(done + len(failures), 'model')} could not be {verb}",
        hint=first.hint,
        **details,
        failed=failed,
    )


def busy() -> dict[str, str]:
    """The models that are being served, and by whom."""
    from modelctl.engine import servers

    return servers.busy(servers.running())
