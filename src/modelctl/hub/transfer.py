"""One blob: ranged, resumable, hashed beside the transfer."""

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelctl.errors import ModelctlError
from modelctl.hub.answer import Answer
from modelctl.hub.connection import MAX_REDIRECTS, Connections, Target, is_redirect
from modelctl.hub.partial import Partial
from modelctl.store import changes
from modelctl.store.layout import RepoPaths, is_sha256

SEGMENT = 32 * 1024 * 1024
SMALL = 4 * 1024 * 1024
_BUFFER = 1024 * 1024
_FIRST_READ = 64 * 1024
_SAVE_BYTES = 8 * 1024 * 1024
_SAVE_SECONDS = 2.0
_HASH_STEP = 1024 * 1024
_PARTIAL = 206
_CONTENT = {200, _PARTIAL}
_PASSING = {408, 429}
_REFUSED = {401, 403, 404, 410}
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


class TryAgainError(Exception):
    """A failure that may pass: the reason, and how long the server asks to wait."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class NoRangesError(Exception):
    """The server sent the whole file where a part was asked for."""


@dataclass(frozen=True, slots=True)
class Blob:
    """What is to be fetched: the file's name for people, its size and hash, and where the Hub offers it."""

    name: str
    digest: str
    size: int
    target: Target


Refusal = Callable[[int, str | None], ModelctlError]


class Source:
    """Where a blob's bytes really are: found out once, renewed when a signed address has expired."""

    def __init__(self, blob: Blob, refusal: Refusal) -> None:
        self._blob = blob
        self._refusal = refusal
        self._lock = threading.Lock()
        self._target: Target | None = None

    def target(self, connections: Connections) -> Target:
        """The address to ask for ranges."""
        with self._lock:
            if self._target is None:
                self._target = self._locate(connections)
            return self._target

    def move(self, target: Target, location: str) -> None:
        """Go on to where storage sends, as a mirror does; back at the Hub's own address, ask the Hub."""
        there = target.follow(location)
        with self._lock:
            if self._target == target:
                self._target = None if self.is_hub(target) or self.is_hub(there) else there

    def expire(self, target: Target) -> None:
        """Ask the Hub again next time, unless somebody has already."""
        with self._lock:
            if self._target == target:
                self._target = None

    def is_hub(self, target: Target) -> bool:
        """Whether the bytes come from the Hub's own address, so that its refusals are final."""
        return target.origin == self._blob.target.origin

    def _locate(self, connections: Connections) -> Target:
        target = self._blob.target
        for _ in range(MAX_REDIRECTS):
            answer = connections.request(target, method="HEAD")
            connections.finish(target, answer)
            if is_redirect(answer):
                following = target.follow(answer.headers["location"])
                if not self.is_hub(following):
                    return following
                target = following
                continue
            check(answer, self._refusal)
            return target
        raise TryAgainError("it redirects in a circle")


class Transfer:
    """One large blob on its way: several workers fetch its segments, one hashes what is there without a gap."""

    def __init__(self, blob: Blob, paths: RepoPaths, refusal: Refusal) -> None:
        self.blob = blob
        self.partial = Partial(paths, blob.digest, blob.size)
        self.source = Source(blob, refusal)
        self._refusal = refusal
        self._hash = new_hash(blob.digest, blob.size)
        self._saved_at = time.monotonic()
        self.hashed = 0
        self.hashing = threading.Lock()
        # Set once the server has shown that it knows no ranges: one worker alone then fetches the whole.
        self.as_whole = False

    @property
    def is_complete(self) -> bool:
        """Whether every byte has arrived."""
        return self.partial.received == self.blob.size

    def fetch(self, connections: Connections, span: tuple[int, int], stop: threading.Event) -> int:
        """Fetch what is left of a range, and return where it ended.

        Raises `TryAgainError` for what may pass, `NoRangesError` where only the whole can be had.
        """
        start, end = span
        target, answer = self._ask(connections, headers={"Range": f"bytes={start}-{end - 1}"})
        try:
            if answer.status == _PARTIAL:
                self._check_range(answer, start)
            elif start > 0 or end < self.blob.size:
                raise NoRangesError
            return self._receive(answer, span, stop)
        finally:
            connections.release(target, answer)

    def fetch_whole(self, connections: Connections, stop: threading.Event) -> None:
        """Fetch everything in one answer, from a server that knows no ranges."""
        target, answer = self._ask(connections)
        try:
            at = self._receive(answer, (0, self.blob.size), stop)
        finally:
            connections.drop(target)
        if at < self.blob.size and not stop.is_set():
            raise TryAgainError("the connection ended early")

    def _ask(
        self, connections: Connections, *, headers: Mapping[str, str] | None = None
    ) -> tuple[Target, Answer]:
        """Ask for content where it is; an address that moved or expired is renewed by the next try."""
        target = self.source.target(connections)
        answer = connections.request(target, headers=headers)
        if is_redirect(answer):
            connections.finish(target, answer)
            self.source.move(target, answer.headers["location"])
            raise TryAgainError("its address has moved", wait=0)
        if answer.status in _REFUSED and not self.source.is_hub(target):
            connections.finish(target, answer)
            self.source.expire(target)
            raise TryAgainError("its signed address has expired", wait=0)
        _check_or_finish(connections, target, answer, self._refusal)
        return target, answer

    def hash_more(self) -> bool:
        """Hash what has arrived without a gap; whether there was anything. Called under `hashing`."""
        upto = self.partial.prefix
        if upto == self.hashed:
            return False
        buffer = memoryview(bytearray(min(_HASH_STEP, upto - self.hashed)))
        while self.hashed < upto:
            step = os.preadv(self.partial.descriptor, [buffer[: upto - self.hashed]], self.hashed)
            if step == 0:
                break
            self._hash.update(buffer[:step])
            self.hashed += step
        return True

    def is_proven(self) -> bool:
        """Whether the content is what its name says. Called when all of it is hashed."""
        return self._hash.hexdigest() == self.blob.digest

    def restart(self) -> None:
        """Forget everything, after the whole turned out to be wrong."""
        self.partial.discard()
        self._hash = new_hash(self.blob.digest, self.blob.size)
        self.hashed = 0

    def save(self) -> None:
        """Record what has arrived."""
        if self.partial.unsaved:
            self._saved_at = time.monotonic()
            self.partial.save()

    def _receive(self, answer: Answer, span: tuple[int, int], stop: threading.Event) -> int:
        at, end = span
        buffer = memoryview(bytearray(min(_BUFFER, max(end - at, 1))))
        # Small reads on a slow line, so that progress shows and little is lost; large ones on a fast line.
        length = _FIRST_READ
        while at < end and not stop.is_set():
            began = time.monotonic()
            count = answer.read_into(buffer[: min(length, end - at)])
            if count == 0:
                break
            self.partial.write(at, buffer[:count])
            at += count
            took = time.monotonic() - began
            length = min(length * 2, _BUFFER) if took < 0.05 else max(length // 2, 4096) if took > 0.25 else length
            if self.partial.unsaved >= _SAVE_BYTES or began - self._saved_at >= _SAVE_SECONDS:
                self.save()
        return at

    def _check_range(self, answer: Answer, start: int) -> None:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if match is None or int(match[1]) != start or match[3] not in {"*", str(self.blob.size)}:
            found = answer.headers.get("content-range")
            raise TryAgainError(f"the server answers with another part than asked for ({found})")


def fetch_small(connections: Connections, blob: Blob, refusal: Refusal) -> bytes:
    """Fetch a blob that fits into memory, in one request, and prove its hash."""
    target = blob.target
    for _ in range(MAX_REDIRECTS):
        answer = connections.request(target)
        if not is_redirect(answer):
            break
        connections.finish(target, answer)
        target = target.follow(answer.headers["location"])
    _check_or_finish(connections, target, answer, refusal if target.origin == blob.target.origin else _not_final)
    buffer = bytearray(blob.size + 1)
    view, at = memoryview(buffer), 0
    try:
        while at <= blob.size and (count := answer.read_into(view[at:])):
            at += count
    finally:
        connections.release(target, answer)
    content = bytes(view[:at])
    if at < blob.size:
        raise TryAgainError("the connection ended early")
    if not is_proven(content, blob.digest):
        raise WrongBytesError(blob)
    return content


class WrongBytesError(Exception):
    """The content of a blob is not what its name says."""

    def __init__(self, blob: Blob) -> None:
        super().__init__(blob.name)
        self.blob = blob


def check(answer: Answer, refusal: Refusal) -> None:
    """Pass an answer that carries content; others are refused for good, or to be tried again."""
    status = answer.status
    if status in _CONTENT:
        return
    if status in _PASSING or status >= 500:
        raise TryAgainError(f"the server answers with status {status}", wait=_retry_after(answer))
    raise refusal(status, answer.headers.get("x-error-code"))


def _check_or_finish(
    connections: Connections, target: Target, answer: Answer, refusal: Refusal
) -> None:
    """`check`, after which a refused answer does not stand before the next one on its connection."""
    try:
        check(answer, refusal)
    except TryAgainError:
        connections.finish(target, answer)
        raise


def new_hash(digest: str, size: int) -> "hashlib._Hash":
    """The hash that gives a blob its name: SHA-256, or git's SHA-1 with its header."""
    if is_sha256(digest):
        return hashlib.sha256()
    git = hashlib.sha1(usedforsecurity=False)
    git.update(b"blob %d\0" % size)
    return git


def is_proven(content: bytes, digest: str) -> bool:
    """Whether a content is what its blob's name says."""
    proof = new_hash(digest, len(content))
    proof.update(content)
    return proof.hexdigest() == digest


def _retry_after(answer: Answer) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None


def _not_final(status: int, _code: str | None) -> ModelctlError:
    raise TryAgainError(f"the address it is sent to answers with status {status}")


def blob_target(endpoint: str, model_id: str, commit: str, name: str, token: str | None) -> Target:
    """Where the Hub offers a file of a commit."""
    from urllib.parse import quote

    return Target(f"{endpoint}/{model_id}/resolve/{commit}/{quote(name)}", token)


def write_small(paths: RepoPaths, digest: str, content: bytes) -> None:
    """Put proven content under its name by one rename; `changes.make_durable` makes many of them durable at once."""
    temporary = paths.partial(digest)
    try:
        descriptor = _open_new(temporary)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        temporary.replace(paths.blob(digest))
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
