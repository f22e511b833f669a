"""What a running server answers when it is asked how it does."""

import contextlib
import http.client
import json
import math
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

# For every piece of an answer, and for all of it: whoever else answers at a port may never come to an end.
_PATIENCE = 1.0
_PATIENCE_IN_ALL = 5.0
_LONGEST = 16 * 2**20
_IN_FLIGHT = ("num_requests_running", "num_requests_waiting")
# The second is what it was called before 0.10.
_KV_CACHE = ("kv_cache_usage_perc", "gpu_cache_usage_perc")
# What grows with every request, and while one is being answered.
_DONE = ("request_success_total", "prompt_tokens_total", "generation_tokens_total")


@dataclass(frozen=True, slots=True)
class Load:
    """What a server has to do: requests in flight, the share of the KV cache that they fill, and all that it ever did.

    Two looks with the same `work` had no request between them.
    """

    requests: int
    kv_cache: float | None
    work: tuple[float, ...]


def is_healthy(url: str) -> bool:
    """Whether the server says that it can serve."""
    answer = _get(url, "/health")
    return answer is not None and answer[0] == 200


def has_model(url: str) -> bool:
    """Whether the server has a model to answer with. One that wants a key for telling so is believed."""
    answer = _get(url, "/v1/models")
    if answer is None:
        return False
    status, body = answer
    if status != 200:
        return status in {401, 403}
    try:
        return bool(json.loads(body)["data"])
    except (ValueError, KeyError, TypeError):
        return False


def load(url: str) -> Load | None:
    """What the server has to do; `None` where it does not tell."""
    answer = _get(url, "/metrics")
    if answer is None or answer[0] != 200:
        return None
    text = answer[1].decode("utf-8", "replace")
    in_flight = [value for name in _IN_FLIGHT for value in _values(text, name)]
    used = [value for name in _KV_CACHE for value in _values(text, name)]
    if not in_flight:
        return None
    work = tuple(sum(_values(text, name)) for name in _DONE)
    return Load(int(sum(in_flight)), max(used, default=None), work)


def _values(text: str, name: str) -> list[float]:
    """The values of one metric, one for each engine and label."""
    found = re.findall(rf"^vllm:{name}(?:\{{[^\n]*\}})? (\S+)$", text, re.MULTILINE)
    values = []
    for word in found:
        # A page that is no vLLM's says nothing.
        with contextlib.suppress(ValueError):
            values.append(float(word))
    return [value for value in values if math.isfinite(value)]


def _get(url: str, path: str) -> tuple[int, bytes] | None:
    """Status and body of an answer; `None` if there is none. Never through a proxy: the server is on this machine."""
    address = urlsplit(url)
    host = address.hostname or ""
    connection = http.client.HTTPConnection(host, address.port, timeout=_PATIENCE)
    if address.scheme == "https":
        # The certificate is for those who come from elsewhere; what is asked here is no secret and not trusted.
        unverified = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection = http.client.HTTPSConnection(host, address.port, timeout=_PATIENCE, context=unverified)
    try:
        connection.connect()
        with _cut_off(connection.sock, _PATIENCE_IN_ALL) as is_cut:
            connection.request("GET", path)
            answer = connection.getresponse()
            found = answer.status, answer.read(_LONGEST)
        return None if is_cut.is_set() else found
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@contextlib.contextmanager
def _cut_off(connected: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """End a connection after so many seconds, and say so: what came of it until then is no answer."""
    is_cut = threading.Event()

    def cut() -> None:
        is_cut.set()
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield is_cut
    finally:
        timer.cancel()
