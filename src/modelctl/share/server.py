"""Serving an app on this machine, in a thread or as a process of its own."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

# How long a server that stops waits for answers that are being sent.
_GRACE = 1
_STEPS = 5


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket, on any free port with 0: from now on clients connect, whether the server runs yet or not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=512)
    # Connections inherit it. Without it the body of a small answer waits 40 ms for the client to confirm the headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address(listener: socket.socket) -> str:
    """The URL under which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A uvicorn that says nothing on its own and stops when told, not at its next look."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_GRACE,
                timeout_keep_alive=60,
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait to be stopped, keeping the Date header; uvicorn's own loop wakes up ten times a second."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is being sent, or cut it where the stop is forced."""
        if not self.force_exit:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        # A connection that was just accepted shows up some steps of the loop later.
        for _ in range(_STEPS):
            await asyncio.sleep(0)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        # Each answer sees that its client has gone and ends by itself.
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=_GRACE)

    def stop(self, *, force: bool = False) -> None:
        """End from any thread; `force` cuts the answers that are being sent."""
        self.should_exit = True
        self.force_exit = self.force_exit or force
        if self._loop:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)


@contextlib.contextmanager
def serving(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve an app from a thread for as long as the context lasts; its URL."""
    with listen(host, port) as listener, running(Server(app), listener):
        yield address(listener)


@contextlib.contextmanager
def running(server: Server, listener: socket.socket) -> Iterator[None]:
    """Run a server on a listening socket in a thread; at the end it has stopped."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="share", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.stop(force=True)
        thread.join()
