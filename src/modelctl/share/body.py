"""A file, or one range of it, as an answer: in large pieces and without a thread hop for each."""

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modelctl.share.policy import Refusal

# Measured on loopback with one client: 128 kB pieces 2.5 GB/s, 512 kB pieces 5 GB/s, larger ones no better.
_PIECE = 512 * 1024
_AHEAD = 16 * _PIECE
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to `stop` of a file of `size`; `partial` where a range was asked for."""

    start: int
    stop: int
    size: int
    partial: bool


def span(size: int, *, requested: str | None, condition: str | None, etag: str) -> Span:
    """Which bytes a `Range` header asks for; the whole file where there is none or it says several.

    `condition` is `If-Range`: it names another content, the whole file is the answer. A range outside is refused.
    """
    match = _RANGE.fullmatch(requested.strip()) if requested else None
    if match is None or (condition is not None and condition.strip('"') != etag):
        return Span(0, size, size, partial=False)
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    elif last:
        start, stop = max(0, size - int(last)), size
    else:
        return Span(0, size, size, partial=False)
    if start >= stop:
        raise Refusal(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return Span(start, stop, size, partial=True)


class FileBody(Response):
    """The bytes of a span of a file; its length and range are told in the headers."""

    def __init__(self, path: Path, span: Span, *, headers: Mapping[str, str]) -> None:
        self._path = path
        self._span = span
        self.status_code = 206 if span.partial else 200
        self.background = None
        self.body = b""
        told = {"Accept-Ranges": "bytes", "Content-Length": str(span.stop - span.start), **headers}
        if span.partial:
            told["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{span.size}"
        self.init_headers(told)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; stop when the client has gone."""
        length = self._span.stop - self._span.start
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD" or not length:
                await send({"type": "http.response.body", "body": b""})
            elif length <= _PIECE:
                await send({"type": "http.response.body", "body": self._piece(descriptor, self._span.start)})
            else:
                gone = asyncio.create_task(_until_gone(receive))
                try:
                    await self._send_pieces(descriptor, send, gone=gone)
                finally:
                    gone.cancel()
        finally:
            os.close(descriptor)

    async def _send_pieces(self, descriptor: int, send: Send, *, gone: asyncio.Task[None]) -> None:
        at, ahead = self._span.start, self._span.start
        while at < self._span.stop and not gone.done():
            # Reading blocks the loop: the disk is told beforehand, so that the read finds the bytes in memory.
            if at >= ahead and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, at, 2 * _AHEAD, os.POSIX_FADV_WILLNEED)
                ahead = at + _AHEAD
            piece = self._piece(descriptor, at)
            at += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": at < self._span.stop})
            # A connection that takes all it is given never waits: others have their turn, and its end is heard of.
            await asyncio.sleep(0)

    def _piece(self, descriptor: int, at: int) -> bytes:
        piece = os.pread(descriptor, min(_PIECE, self._span.stop - at), at)
        if not piece:
            raise EOFError(f"{self._path} became shorter while it was sent")
        return piece


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
