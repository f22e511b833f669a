"""Requests and answers of HTTP/1.1 on a socket that somebody else has connected, bodies read into the caller's buffers.

The standard library reads the head of an answer as if it were a mail: 120 microseconds, against 10 here. That is more
than all else which a small file costs this side.
"""

import math
import re
import socket
from collections.abc import Mapping

from modelctl.hub.flow import Flow

_BUFFER = 64 * 1024
_STATUS = re.compile(r"HTTP/1\.([0-9]) ([0-9]{3})(?: |$)")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LENGTH = re.compile(r"[0-9]{1,18}")
_WITHOUT_BODY = {204, 304}
# Servers send one or two before an answer.
_MOST_INTERIM = 16


class BrokenResponseError(OSError):
    """The other side spoke no HTTP, or not all of it."""


class Wire:
    """A connected socket, read through a small buffer, and past it where much is wanted."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._flow = Flow(self._stall)

    @property
    def _stall(self) -> float:
        return self._socket.gettimeout() or math.inf

    def ask(self, request: bytes, *, method: str) -> "Answer":
        """Send a request and read the head of its answer. `ConnectionError` where the other side has hung up."""
        if self._start < self._end:
            raise ConnectionResetError("more came than was asked for")
        self._socket.sendall(request)
        self._flow = Flow(self._stall)
        for _ in range(_MOST_INTERIM):
            version, status, headers = self._head()
            if status >= 200:
                return Answer(self, status, headers, method=method, is_old=version == "0")
        raise BrokenResponseError("broken answer: interim ones without an end")

    def read_into(self, view: memoryview) -> int:
        """Read some bytes, 0 where the other side has ended."""
        held = self._end - self._start
        if not held:
            return self._receive(view)
        count = min(held, len(view))
        view[:count] = self._view[self._start : self._start + count]
        self._start += count
        return count

    def line(self) -> bytes:
        """Read a line, without what ends it."""
        while (end := self._buffer.find(b"\n", self._start, self._end)) < 0:
            self._more("it ended within a line")
        line = bytes(self._view[self._start : end])
        self._start = end + 1
        return line.removesuffix(b"\r")

    def _head(self) -> tuple[str, int, dict[str, str]]:
        is_first = self._start == self._end
        while (end := _END_OF_HEAD.search(self._buffer, self._start, self._end)) is None:
            self._more("it ended within its head", is_first=is_first)
            is_first = False
        lines = bytes(self._view[self._start : end.start()]).decode("latin-1").replace("\r\n", "\n").split("\n")
        self._start = end.end()
        match = _STATUS.match(lines[0])
        if match is None:
            raise BrokenResponseError("broken answer: it is not HTTP")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), value.strip())
        return match[1], int(match[2]), headers

    def _more(self, reason: str, *, is_first: bool = False) -> None:
        """Read on behind what is held."""
        if self._start:
            held = self._end - self._start
            self._view[:held] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, held
        if self._end == _BUFFER:
            raise BrokenResponseError("broken answer: a line or head without an end")
        count = self._receive(self._view[self._end :])
        if not count:
            raise ConnectionResetError("the other side hung up") if is_first else BrokenResponseError(reason)
        self._end += count

    def _receive(self, view: memoryview) -> int:
        count = self._socket.recv_into(view)
        self._flow.count(count)
        return count


class Answer:
    """The answer to one request: `status`, `headers` by lowercase names, and a body that is read piece by piece."""

    def __init__(self, wire: Wire, status: int, headers: Mapping[str, str], *, method: str, is_old: bool) -> None:
        self.status = status
        self.headers = headers
        self._wire = wire
        connection = headers.get("connection", "").lower()
        self._closes = "close" in connection or (is_old and "keep-alive" not in connection)
        self._is_chunked = False
        # What is left of the body, or of its current chunk; without a limit where its end is that of the connection.
        self._left: int | None = None
        self._is_over = method == "HEAD" or status in _WITHOUT_BODY
        if not self._is_over:
            self._frame(headers)

    @property
    def can_follow(self) -> bool:
        """Whether another request may follow on this connection now."""
        return self._is_over and not self._closes

    def read_into(self, view: memoryview) -> int:
        """Read some of the body, 0 at its end, which may come before the length that was announced."""
        if self._is_chunked and self._left == 0 and not self._is_over:
            self._next_chunk()
        if self._is_over or not view:
            return 0
        count = self._wire.read_into(view if self._left is None else view[: self._left])
        if not count:
            self._closes = True
            self._is_over = self._left is None
            return 0
        if self._left is not None:
            self._left -= count
            if self._left == 0:
                self._end_part()
        return count

    def read(self, limit: int) -> bytes:
        """Read the body, of which `limit` bytes at most."""
        pieces, left = [], limit
        view = memoryview(bytearray(min(limit, _BUFFER)))
        while left and (count := self.read_into(view[:left])):
            pieces.append(bytes(view[:count]))
            left -= count
        return b"".join(pieces)

    def _frame(self, headers: Mapping[str, str]) -> None:
        length = headers.get("content-length")
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._is_chunked, self._left = True, 0
        elif length is None:
            self._closes = True
        elif _LENGTH.fullmatch(length) is None:
            raise BrokenResponseError("broken answer: its length is no number")
        else:
            self._left = int(length)
            self._is_over = self._left == 0

    def _end_part(self) -> None:
        if not self._is_chunked:
            self._is_over = True
        elif self._wire.line():
            raise BrokenResponseError("broken answer: a piece is longer than it says")

    def _next_chunk(self) -> None:
        match = _CHUNK_SIZE.match(self._wire.line())
        if match is None:
            raise BrokenResponseError("broken answer: a piece without a length")
        self._left = int(match[0], 16)
        if self._left == 0:
            # What may follow the last piece are headers that nobody needs.
            while self._wire.line():
                pass
            self._is_over = True
