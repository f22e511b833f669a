"""One request on its way through the loopback Hub, down to the connection it came on."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HungUp(BaseException):
    """The connection is closed: the answer that was being given ends here."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, the app that would answer it, and the connection: what a fault has in its hands."""

    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    transport: asyncio.Transport
    kill_server: Callable[[], None]

    def header(self, name: str) -> str | None:
        """A header of the request."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == wanted), None)

    async def answer(self, status: int, *, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Answer in the app's place."""
        told = {"content-length": str(len(body)), **(headers or {})}
        await self.send({"type": "http.response.start", "status": status, "headers": encoded(told)})
        await self.send({"type": "http.response.body", "body": body})

    async def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection after what was sent (FIN), or cut it (RST), and end the answer."""
        if reset:
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
        await self.gone()
        raise HungUp

    async def gone(self, *, seconds: float | None = None) -> bool:
        """Wait until the client has gone, `seconds` at most; whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (await self.receive())["type"] != "http.disconnect":
                    pass
                return True
        return False


class Answer:
    """The app's answer, message by message, as a fault lets it pass: override `head` and `piece`."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.length = 0
        self.sent = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = decoded(message["headers"])
            self.length = int(headers.get("content-length", 0))
            headers = self.head(headers)
            await self.call.send({**message, "headers": encoded(headers)})
            return
        body, more = bytes(message.get("body", b"")), message.get("more_body", False)
        await self.piece(body, more=more)
        self.sent += len(body)

    def head(self, headers: dict[str, str]) -> dict[str, str]:
        """The headers as they go out."""
        return headers

    async def piece(self, body: bytes, *, more: bool) -> None:
        """One piece of the body; `self.sent` bytes went before it."""
        await self.write(body, more=more)

    async def write(self, body: bytes, *, more: bool) -> None:
        """Send a piece."""
        await self.call.send({"type": "http.response.body", "body": body, "more_body": more})


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def decoded(headers: Any) -> dict[str, str]:  # noqa: ANN401 - pairs of bytes
    """Headers as a mapping with lowercase names."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
