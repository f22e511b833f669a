"""The Hub of the benchmarks: on loopback, in a process of its own, as far away as it is told, counting its requests.

    python benchmarks/hub.py HUB_FOLDER --latency 50

Prints its URL. `/_count` answers with the number of requests since it was last asked.
"""

import argparse
import asyncio
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from modelctl.share import app, server


class Meter:
    """An app in front of the Hub: it counts, and lets every answer wait as a long way would."""

    def __init__(self, hub: ASGIApp, *, latency: float) -> None:
        self._hub = hub
        self._latency = latency
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] == "/_count":
            body, self._count = str(self._count).encode(), 0
            headers = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        self._count += 1
        if self._latency:
            await asyncio.sleep(self._latency)
        await self._hub(scope, receive, send)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a hub folder")
    parser.add_argument("--latency", type=float, default=0, help="milliseconds that every request waits")
    parser.add_argument("--port", type=int, default=0, help="the port (default: any free one)")
    wanted = parser.parse_args()
    meter = Meter(app.build([wanted.folder]), latency=wanted.latency / 1000)
    with server.listen(port=wanted.port) as listener:
        sys.stdout.write(f"{server.address(listener)}\n")
        sys.stdout.flush()
        uvicorn.Server(
            uvicorn.Config(meter, lifespan="off", ws="none", log_config=None, access_log=False, timeout_keep_alive=60)
        ).run(sockets=[listener])


if __name__ == "__main__":
    main()
