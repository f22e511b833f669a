"""Xet storage beside the loopback Hub: as much of its protocol as hf_xet asks for to download a file.

A file lies in xorbs of many chunks, none of them compressed or shared. hf_xet verifies no hash on the way, so a file's
Xet hash is any 64 digits.
"""

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.hub.wire import decoded, encoded
from tests.stores import StoreBuilder, xet_hash

# What the Hub gives for asking the storage, which takes no other token.
TOKEN = "xet-token"
CHUNK = 64 * 1024
_HEADER = 8
# The real ones hold 64 MiB.
_CHUNKS = 64
_TREE = re.compile(r"/api/models/(?P<id>.+)/tree/.+")
_GRANT = re.compile(r"/api/models/(?P<id>.+)/xet-read-token/[0-9a-f]{40}")
_FILE = re.compile(r"/xet/v(?P<version>[12])/reconstructions/(?P<hash>[0-9a-f]{64})")
_XORB = re.compile(r"/xet/xorbs/(?P<hash>[0-9a-f]{64})/(?P<number>\d+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Cas:
    """Stands before the Hub's app and answers for the models in `backed`; everything else is the app's.

    `versions` are those of the protocol that it speaks.
    """

    app: ASGIApp
    store: StoreBuilder
    backed: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=lambda: {"1", "2"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], decoded(scope["headers"])
        if (match := _TREE.fullmatch(path)) and match["id"] in self.backed:
            await self.app(scope, receive, _Rewritten(send))
        elif (match := _GRANT.fullmatch(path)) and match["id"] in self.backed:
            await self._grant(send, headers)
        elif match := _FILE.fullmatch(path):
            await self._reconstruction(send, headers, match["hash"], version=match["version"])
        elif match := _XORB.fullmatch(path):
            await self._xorb(send, headers, match["hash"], int(match["number"]))
        else:
            await self.app(scope, receive, send)

    async def _grant(self, send: Send, headers: dict[str, str]) -> None:
        # By another name of this machine, as at the real Hub: no token of the user's own may go there.
        storage = f"http://localhost:{headers['host'].rpartition(':')[2]}/xet"
        expires = int(time.time()) + 3600
        # huggingface_hub reads the headers, hf_xet the body.
        told = {"x-xet-cas-url": storage, "x-xet-access-token": TOKEN, "x-xet-token-expiration": str(expires)}
        await _answer(send, 200, {"casUrl": storage, "accessToken": TOKEN, "exp": expires}, headers=told)

    async def _reconstruction(self, send: Send, headers: dict[str, str], file: str, *, version: str) -> None:
        path = self._blob(file)
        if headers.get("authorization") != f"Bearer {TOKEN}":
            await _answer(send, 401, {"error": "Unauthorized"})
        elif path is None or version not in self.versions:
            await _answer(send, 404, {"error": "Not Found"})
        else:
            size = path.stat().st_size
            asked = _RANGE.fullmatch(headers.get("range", ""))
            start, stop = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked else (0, size)
            address = f"http://{headers['host']}/xet/xorbs/{file}"
            await _answer(send, 200, _recipe(file, start, stop, size, address=address, version=version))

    async def _xorb(self, send: Send, headers: dict[str, str], file: str, number: int) -> None:
        path, asked = self._blob(file), _RANGE.fullmatch(headers.get("range", ""))
        if path is None or asked is None:
            await _answer(send, 404, {"error": "Not Found"})
            return
        first, last = int(asked[1]), int(asked[2])
        body = b"".join(
            _chunk(path, number * _CHUNKS + at)
            for at in range(first // (CHUNK + _HEADER), last // (CHUNK + _HEADER) + 1)
        )
        told = {"content-length": str(len(body)), "content-range": f"bytes {first}-{last}/*"}
        await send({"type": "http.response.start", "status": 206, "headers": encoded(told)})
        await send({"type": "http.response.body", "body": body})

    def _blob(self, file: str) -> Path | None:
        """The file whose Xet hash that is."""
        blobs = (blob for model_id in self.backed for blob in self.store.paths(model_id).blobs.iterdir())
        return next((blob for blob in blobs if xet_hash(blob.name) == file), None)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Chunks `first` to `last` of one xorb, `length` bytes of the file."""

    xorb: int
    first: int
    last: int
    length: int

    @property
    def chunks(self) -> dict[str, int]:
        """Which chunks, the end not among them."""
        return {"start": self.first, "end": self.last}

    @property
    def bytes(self) -> dict[str, int]:
        """Where they lie in the xorb, the end among them."""
        start = self.first * (CHUNK + _HEADER)
        return {"start": start, "end": start + (self.last - self.first) * _HEADER + self.length - 1}

    def hash(self, file: str) -> str:
        """The xorb's name."""
        return xet_hash(f"{file}/{self.xorb}")


def _recipe(file: str, start: int, stop: int, size: int, *, address: str, version: str) -> dict[str, object]:
    """How a part of a file is put together, in one of the protocol's two versions."""
    terms: list[object] = []
    places: dict[str, object] = {}
    for piece in _pieces(start, stop, size):
        name, url = piece.hash(file), f"{address}/{piece.xorb}"
        terms.append({"hash": name, "unpacked_length": piece.length, "range": piece.chunks})
        if version == "2":
            places[name] = [{"url": url, "ranges": [{"chunks": piece.chunks, "bytes": piece.bytes}]}]
        else:
            places[name] = [{"url": url, "range": piece.chunks, "url_range": piece.bytes}]
    return {
        "offset_into_first_range": start % CHUNK,
        "terms": terms,
        "xorbs" if version == "2" else "fetch_info": places,
    }


def _pieces(start: int, stop: int, size: int) -> Iterable[_Piece]:
    """The chunks that hold a part of a file, xorb by xorb."""
    begin, end = start // CHUNK, -(-stop // CHUNK)
    for xorb in range(begin // _CHUNKS, -(-end // _CHUNKS)):
        first, last = max(begin, xorb * _CHUNKS), min(end, (xorb + 1) * _CHUNKS)
        yield _Piece(xorb, first - xorb * _CHUNKS, last - xorb * _CHUNKS, min(last * CHUNK, size) - first * CHUNK)


def _chunk(path: Path, number: int) -> bytes:
    """A chunk as it lies in a xorb: version, length, no compression, length again, the bytes."""
    with path.open("rb") as file:
        file.seek(number * CHUNK)
        data = file.read(CHUNK)
    length = len(data).to_bytes(3, "little")
    return b"\0" + length + b"\0" + length + data


class _Rewritten:
    """A listing on its way to the client, with the Xet hashes of the files that lie in LFS."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        listed = json.loads(self._body)
        if isinstance(listed, list):
            for entry in listed:
                if "lfs" in entry:
                    entry["xetHash"] = xet_hash(entry["lfs"]["oid"])
        body = json.dumps(listed).encode()
        headers = decoded(self._start["headers"]) | {"content-length": str(len(body))}
        await self._send({**self._start, "headers": encoded(headers)})
        await self._send({"type": "http.response.body", "body": body})


async def _answer(send: Send, status: int, told: object, *, headers: Mapping[str, str] | None = None) -> None:
    body = json.dumps(told).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": encoded(headers)})
    await send({"type": "http.response.body", "body": body})
