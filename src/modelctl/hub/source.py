"""Where a blob comes from: what is asked for, at which address, and what an answer means."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from modelctl.errors import ModelctlError, NotWholeError, UnreachableError
from modelctl.hub.answer import Answer
from modelctl.hub.connection import MAX_REDIRECTS, Connections, Target, is_redirect
from modelctl.hub.patience import TryAgainError, retry_after

PARTIAL = 206
_CONTENT = {200, PARTIAL}
_PASSING = {408, 429}
# What proxies do to bodies; storage may also name codings there that change no byte.
_COMPRESSED = {"gzip", "x-gzip", "deflate", "compress", "br", "zstd"}


class WrongBytesError(Exception):
    """The content of a blob is not what its name says."""

    def __init__(self, blob: "Blob") -> None:
        super().__init__(blob.name)
        self.blob = blob


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


def blob_target(endpoint: str, model_id: str, commit: str, name: str, token: str | None) -> Target:
    """Where the Hub offers a file of a commit."""
    return Target(f"{endpoint}/{model_id}/resolve/{commit}/{quote(name)}", token)


def check(answer: Answer, refusal: Refusal) -> None:
    """Pass an answer that carries content; others are refused for good, or to be tried again."""
    status = answer.status
    if status in _CONTENT:
        return
    if status in _PASSING or status >= 500:
        raise TryAgainError(f"the server answers with status {status}", wait=_wait(answer))
    raise refusal(status, answer.headers.get("x-error-code"))


def check_or_finish(connections: Connections, target: Target, answer: Answer, refusal: Refusal) -> None:
    """`check`, after which a refused answer does not stand before the next one on its connection."""
    try:
        check(answer, refusal)
    except TryAgainError:
        connections.finish(target, answer)
        raise
    if (coding := answer.headers.get("content-encoding", "").lower()) in _COMPRESSED:
        raise UnreachableError(
            f"the server at `{target.origin}` sends `{coding}` where the plain bytes were asked for",
            hint="a proxy in between may do that: go round it with `no_proxy`, or use another `HF_ENDPOINT`",
        )


def _wait(answer: Answer) -> float | None:
    return retry_after(answer.headers.get("retry-after"), now=answer.headers.get("date"))


def not_whole(blob: Blob) -> NotWholeError:
    """The error for a blob that was wrong, and again when it was fetched once more."""
    return NotWholeError(
        f"`{blob.name}` arrived twice with bytes that do not match its hash",
        hint="the source is damaged: try again later, or another `HF_ENDPOINT`",
    )
