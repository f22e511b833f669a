"""Small blobs: each fetched into memory in one request, proven, and put under its name by one rename."""

import contextlib
import os
from pathlib import Path

from modelctl.errors import ModelctlError
from modelctl.hub.connection import MAX_REDIRECTS, Connections, is_redirect
from modelctl.hub.patience import TryAgainError
from modelctl.hub.source import Blob, Refusal, WrongBytesError, check_or_finish
from modelctl.store import changes, digest
from modelctl.store.layout import RepoPaths

# Up to this size a blob is a small one, so that a thread holds no more than this of it.
LARGEST = 4 * 1024 * 1024


def fetch(connections: Connections, blob: Blob, refusal: Refusal) -> bytearray:
    """Fetch a blob that fits into memory, in one request, and prove its hash."""
    target = blob.target
    for _ in range(MAX_REDIRECTS):
        answer = connections.request(target)
        if not is_redirect(answer):
            break
        connections.finish(target, answer)
        target = target.follow(answer.headers["location"])
    check_or_finish(connections, target, answer, refusal if target.origin == blob.target.origin else _not_final)
    # One byte more than it has, so that a longer body shows. Not copied: several threads hold one each.
    content, at = bytearray(blob.size + 1), 0
    try:
        with memoryview(content) as view:
            while at <= blob.size and (count := answer.read_into(view[at:])):
                at += count
    finally:
        connections.release(target, answer)
    del content[at:]
    if at < blob.size:
        raise TryAgainError("the connection ended early")
    if not digest.is_proven(content, blob.digest):
        raise WrongBytesError(blob)
    return content


def _not_final(status: int, _code: str | None) -> ModelctlError:
    raise TryAgainError(f"the address it is sent to answers with status {status}")


def write(paths: RepoPaths, name: str, content: bytes | bytearray) -> None:
    """Put proven content under its name by one rename; `changes.make_durable` makes many of them durable at once."""
    temporary = paths.partial(name)
    try:
        descriptor = _open_new(temporary)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        temporary.replace(paths.blob(name))
    except OSError as exc:
        exc.filename = exc.filename or temporary
        raise changes.translated(exc, doing="write") from exc


def _open_new(path: Path) -> int:
    """Open an empty file of our own; nearly always nothing has its name yet."""
    with contextlib.suppress(FileExistsError):
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    descriptor = changes.open_own(path, os.O_WRONLY)
    os.ftruncate(descriptor, 0)
    return descriptor
