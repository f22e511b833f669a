"""Models whose folder is a link into another hub folder, as `migrate --symbolic-link` makes it: read, never written.

A folder that somebody keeps elsewhere, on a larger disk perhaps and in no hub folder, is the project's own.
"""

from pathlib import Path

from modelctl.errors import ModelctlError
from modelctl.store import disposal, layout
from modelctl.store.layout import RepoPaths


def lender(paths: RepoPaths) -> Path | None:
    """The hub folder into which the model's folder leads, `None` where it does not lead into another one."""
    if not paths.folder.is_symlink():
        return None
    hub = paths.folder.resolve().parent
    is_hub = any(disposal.exists(hub / name) for name in (layout.CACHE_TAG, ".locks"))
    return hub if is_hub and not (paths.hub.is_dir() and hub.samefile(paths.hub)) else None


def refuse(paths: RepoPaths) -> None:
    """Raise where what is written into the model would be written into another hub folder."""
    if hub := lender(paths):
        raise ModelctlError(
            f"`{paths.folder}` is a link to the model in `{hub}`, and nothing is written there",
            hint=f"`modelctl rm {paths.id}` takes the link away, and nothing else; then run the same command again",
        )
