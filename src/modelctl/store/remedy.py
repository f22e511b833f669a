"""What mends a damage: a Hub that has the file, or another command."""

import shlex

from modelctl.ref import is_commit, is_model_id
from modelctl.store import imports, pulls, standing
from modelctl.store.findings import Damage, Use, Verified


def from_hub(verified: Verified, damage: Damage) -> tuple[Use, ...]:
    """The entries for which a Hub has to bring the content once more; none where it cannot.

    That is where a file was imported, where no file of a commit shows it, where a folder is in the way, and where a
    pull was interrupted, which has to come to its end first. One entry will do where all of them lead to the blob that
    bears the hash: best one that a branch or tag names.
    """
    model = verified.model
    paths = model.paths
    uses = [use for use in damage.uses if is_commit(use.commit) and standing.imported_from(paths, use.commit) is None]
    if not uses or not is_model_id(paths.id) or damage.kind == "folder" or _pull(verified):
        return ()
    if damage.path == paths.blob(damage.expected or ""):
        return (max(uses, key=lambda use: bool(model.commits.get(use.commit))),)
    return tuple(uses)


def otherwise(verified: Verified, damage: Damage) -> str | None:
    """The command that mends what no Hub can, `None` where there is none."""
    model = verified.model
    if pull := _pull(verified):
        return pull
    if damage.kind == "folder":
        return f"rm -r {shlex.quote(str(damage.path))}"
    if not damage.uses:
        return "modelctl prune" if model.location == "project" else "modelctl prune --cache"
    records = (imports.of_commit(model.paths, use.commit, model.commits.get(use.commit, ())) for use in damage.uses)
    return next((imports.command(model.paths, record) for record in records if record is not None), None)


def _pull(verified: Verified) -> str | None:
    """The command that goes on with a pull that was interrupted."""
    pull = pulls.record(verified.model.paths)
    return None if pull is None or pull.mends else pulls.again(verified.model.paths, pull)
