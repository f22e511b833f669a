"""The locks under which huggingface_hub fetches blobs: held by us too, so that nobody fetches one beside us."""

import errno
import os

from modelctl.store import changes, lock
from modelctl.store.layout import RepoPaths


class BlobLocks:
    """The blob locks that one pull holds in one model. The files stay, as huggingface_hub leaves them."""

    def __init__(self, paths: RepoPaths) -> None:
        self._paths = paths
        self._held: dict[str, int] = {}

    def take(self, digest: str) -> bool:
        """Hold a blob's lock, without waiting; `False` while another tool has it."""
        if digest in self._held:
            return True
        path = self._paths.blob_lock(digest)
        changes.make_folder(path.parent)
        try:
            descriptor = changes.open_lock(path)
        except OSError as exc:
            raise changes.translated(exc, doing="lock") from exc
        try:
            lock.take(descriptor)
        except OSError as exc:
            os.close(descriptor)
            if exc.errno in {errno.EAGAIN, errno.EACCES}:
                return False
            raise changes.translated(exc, doing="lock") from exc
        self._held[digest] = descriptor
        return True

    def release(self) -> None:
        """Let all of them go."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()
