"""What can go wrong between a Hub and its client, as scripts that a test gives to the loopback Hub.

`hub.fault(drop(after=1000), path="*.safetensors", nth=2)` drops the connection of the second request for weights; the
fault counts how often it struck.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.hub.wire import Answer, Call, HungUp

Act = Callable[[Call], Awaitable[None]]
# Nothing in a test waits longer for a client that should have given up.
_PATIENCE = 30.0


@dataclass
class Fault:
    """What happens, to which requests: from the `nth` that matches on, `times` of them (`None`: all).

    `seen` matched, `count` were struck. A request is struck by one fault, the first one due; the others wait for the
    next.
    """

    act: Act
    path: str = "*"
    method: str | None = None
    nth: int = 1
    times: int | None = 1
    seen: int = 0
    count: int = 0

    def is_due(self, method: str, path: str) -> bool:
        """Whether this request may be struck; counts what matches."""
        if not fnmatchcase(path, self.path) or (self.method and method != self.method):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.count < self.times)


def drop(*, after: int = 0) -> Act:
    """Close the connection properly (FIN) after so many bytes of the body; before the headers with 0."""
    return _cut(after=after, reset=False)


def reset(*, after: int = 0) -> Act:
    """Cut the connection (RST) after so many bytes of the body; before the headers with 0."""
    return _cut(after=after, reset=True)


def short(*, by: int) -> Act:
    """Keep the last bytes of the body back and close, whatever the length in the headers says."""

    class Short(Answer):
        async def piece(self, body: bytes, *, more: bool) -> None:
            left = max(0, self.length - by - self.sent)
            await self.write(body[:left], more=True)
            if len(body) >= left or not more:
                await self.call.hang_up()

    return _through(Short)


def wrong_length(*, by: int) -> Act:
    """Say a length that is wrong: too much, then the body ends early; too little, then its end is missing."""

    class WrongLength(Answer):
        def head(self, headers: dict[str, str]) -> dict[str, str]:
            return headers | {"content-length": str(self.length + by)}

        async def piece(self, body: bytes, *, more: bool) -> None:
            left = self.length + by - self.sent
            await self.write(body[: max(0, left)], more=more or by > 0)
            if by > 0 and not more:
                await self.call.hang_up()

    return _through(WrongLength)


def longer(*, by: int) -> Act:
    """Send more bytes than the file has, and say so in the length."""

    class Longer(Answer):
        def head(self, headers: dict[str, str]) -> dict[str, str]:
            return headers | {"content-length": str(self.length + by)}

        async def piece(self, body: bytes, *, more: bool) -> None:
            await self.write(body if more else body + b"x" * by, more=more)

    return _through(Longer)


def whole_for_range() -> Act:
    """Answer a range with the whole file and 200, as proxies that compress do."""

    async def act(call: Call) -> None:
        headers = [(name, value) for name, value in call.scope["headers"] if name != b"range"]
        await call.app({**call.scope, "headers": headers}, call.receive, call.send)

    return act


def stall(*, seconds: float, after: int = 0) -> Act:
    """Send so many bytes of the body, then nothing for so long, then the rest."""

    class Stall(Answer):
        async def piece(self, body: bytes, *, more: bool) -> None:
            left = after - self.sent
            if 0 <= left <= len(body):
                await self.write(body[:left], more=True)
                if await self.call.gone(seconds=seconds):
                    await self.call.hang_up()
                body = body[left:]
            await self.write(body, more=more)

    return _through(Stall)


def hold(released: threading.Event) -> Act:
    """The app's own answer, but not until a test says so."""

    async def act(call: Call) -> None:
        while not released.is_set():
            if await call.gone(seconds=0.02):
                await call.hang_up()
        await call.app(call.scope, call.receive, call.send)

    return act


def silence(*, seconds: float = _PATIENCE) -> Act:
    """Never answer; after so long, hang up."""

    async def act(call: Call) -> None:
        await call.gone(seconds=seconds)
        await call.hang_up()

    return act


def portal() -> Act:
    """The log-in page of a hotel: 200 and HTML, whatever was asked."""
    page = b"<!DOCTYPE html><html><title>Welcome</title><body>Please log in to use the network.</body></html>"
    return status(200, body=page, headers={"content-type": "text/html"})


def status(code: int, *, body: bytes = b"", headers: dict[str, str] | None = None) -> Act:
    """An answer in the app's place."""

    async def act(call: Call) -> None:
        await call.answer(code, body=body, headers=headers)

    return act


def too_many(*, retry_after: int) -> Act:
    """429, with the seconds to wait."""
    return status(429, body=b'{"error":"Too Many Requests"}', headers={"retry-after": str(retry_after)})


def unavailable(code: int = 503) -> Act:
    """A server's own failure."""
    return status(code, body=b'{"error":"Service Unavailable"}')


def expired() -> Act:
    """What storage says of an address whose time is over."""
    page = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    return status(403, body=page, headers={"content-type": "application/xml"})


def flip(*, at: int) -> Act:
    """One byte of the file is another one."""

    class Flip(Answer):
        start = 0

        def head(self, headers: dict[str, str]) -> dict[str, str]:
            told = headers.get("content-range", "bytes 0-")
            self.start = int(told.removeprefix("bytes ").partition("-")[0])
            return headers

        async def piece(self, body: bytes, *, more: bool) -> None:
            where = at - self.start - self.sent
            if 0 <= where < len(body):
                body = body[:where] + bytes([body[where] ^ 0xFF]) + body[where + 1 :]
            await self.write(body, more=more)

    return _through(Flip)


def headers(**changed: str | None) -> Act:
    """Other headers: `headers(etag='"other"', x_repo_commit=None)`; `None` takes one away."""
    named = {name.replace("_", "-"): value for name, value in changed.items()}

    class Headers(Answer):
        def head(self, headers: dict[str, str]) -> dict[str, str]:
            return {name: value for name, value in {**headers, **named}.items() if value is not None}

    return _through(Headers)


def slow(*, rate: int) -> Act:
    """So many bytes a second."""

    class Slow(Answer):
        async def piece(self, body: bytes, *, more: bool) -> None:
            step = max(1, rate // 20)
            for at in range(0, len(body), step):
                if await self.call.gone(seconds=len(body[at : at + step]) / rate):
                    await self.call.hang_up()
                await self.write(body[at : at + step], more=more or at + step < len(body))

    return _through(Slow)


def kill(*, after: int = 0) -> Act:
    """The server dies: every connection is cut and the port is closed (`hub.restart()` opens it again)."""

    class Kill(Answer):
        async def piece(self, body: bytes, *, more: bool) -> None:
            left = after - self.sent
            if left <= len(body):
                await self.write(body[: max(0, left)], more=True)
                await _drained(self.call)
                self.call.kill_server()
                await self.call.gone()
                raise HungUp
            await self.write(body, more=more)

    return _through(Kill)


def _cut(*, after: int, reset: bool) -> Act:
    class Cut(Answer):
        async def piece(self, body: bytes, *, more: bool) -> None:
            left = after - self.sent
            if left <= len(body):
                await self.write(body[: max(0, left)], more=True)
                if reset:
                    # What was sent has to arrive before the cut: a reset throws away what still is on its way.
                    await _drained(self.call)
                await self.call.hang_up(reset=reset)
            await self.write(body, more=more)

    async def act(call: Call) -> None:
        if after == 0:
            await call.hang_up(reset=reset)
        await _through(Cut)(call)

    return act


async def _drained(call: Call) -> None:
    async with asyncio.timeout(_PATIENCE):
        while call.transport.get_write_buffer_size():  # noqa: ASYNC110 - a transport has no event for it
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)


def _through(answer: type[Answer]) -> Act:
    async def act(call: Call) -> None:
        await call.app(call.scope, call.receive, answer(call))

    return act
