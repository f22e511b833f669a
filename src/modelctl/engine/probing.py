"""What a running server answers when it is asked how it does."""

import http.client
import json
import re
import ssl
from urllib.parse import urlsplit

_PATIENCE = 1.0
_IN_FLIGHT = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? (?P<count>\S+)$", re.MULTILINE)


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


def requests_in_flight(url: str) -> int | None:
    """How many requests run or wait; `None` where the server does not tell."""
    answer = _get(url, "/metrics")
    if answer is None or answer[0] != 200:
        return None
    counts = _IN_FLIGHT.findall(answer[1].decode("utf-8", "replace"))
    return sum(int(float(count)) for count in counts) if counts else None


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
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
