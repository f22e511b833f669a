"""Kept HTTP connections for bodies, read straight into our own buffers.

The standard library's client and `readinto` move a gigabyte in a third of the time that httpx needs, and leave the
interpreter's lock free meanwhile. One instance serves one thread.
"""

import base64
import contextlib
import http.client
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from modelctl import __version__

MAX_REDIRECTS = 10
_REDIRECTS = {301, 302, 303, 307, 308}
# All that has a meaning in an address, and what is escaped already.
_IN_ADDRESSES = "%:/?#[]@!$&'()*+,;=~"
_DRAIN_LIMIT = 256 * 1024
USER_AGENT = f"modelctl/{__version__}"


class BrokenResponseError(OSError):
    """The other side spoke no HTTP, or not all of it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a body is, and the token that only this very origin gets."""

    url: str
    token: str | None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def follow(self, location: str) -> "Target":
        """The target that a redirect names; a foreign origin gets no token."""
        # The header's bytes come as Latin-1, and not every server escapes what an address may not hold.
        escaped = urllib.parse.quote(location.encode("latin-1"), safe=_IN_ADDRESSES)
        try:
            url = urllib.parse.urljoin(self.url, escaped)
            parts = urllib.parse.urlsplit(url)
            # Only asking for the port tells whether it is one.
            is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_address = False
        if not is_address:
            raise BrokenResponseError(f"it is sent to `{escaped[:200]}`, which is no HTTP address")
        there = Target(url, self.token)
        return there if there.origin == self.origin else Target(url, None)


class Connections:
    """The open connections of one thread, one an origin."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._open: dict[str, http.client.HTTPConnection] = {}
        self._proxies: dict[str, urllib.parse.SplitResult | None] = {}

    def request(
        self, target: Target, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send one request and read the head of its answer. Redirects are the caller's to follow.

        A kept connection that the server has closed meanwhile is opened anew, once. Raises `OSError` otherwise.
        """
        parts = urllib.parse.urlsplit(target.url)
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
        if target.token:
            sent["Authorization"] = f"Bearer {target.token}"
        was_kept = target.origin in self._open
        try:
            return self._send(target.origin, method, path, sent)
        except (ConnectionError, http.client.HTTPException) as exc:
            self.drop(target)
            if not was_kept:
                raise _as_os_error(exc) from exc
        except OSError:
            self.drop(target)
            raise
        try:
            return self._send(target.origin, method, path, sent)
        except http.client.HTTPException as exc:
            self.drop(target)
            raise _as_os_error(exc) from exc
        except OSError:
            self.drop(target)
            raise

    def drop(self, target: Target) -> None:
        """Close the connection to an origin: the rest of its answer is not wanted."""
        connection = self._open.pop(target.origin, None)
        if connection is not None:
            connection.close()

    def finish(self, target: Target, response: http.client.HTTPResponse) -> None:
        """Read what is left of a small answer, so that the connection can be used again."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            response.read(_DRAIN_LIMIT)
        if not response.isclosed() or response.will_close:
            self.drop(target)

    def close(self) -> None:
        """Close them all."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _send(self, origin: str, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = self._open.get(origin)
        if connection is None:
            self._proxies[origin] = _proxy(origin)
            connection = self._open[origin] = _connect(origin, self._proxies[origin], self._timeout)
        proxy = self._proxies[origin]
        if proxy is not None and origin.startswith("http://"):
            # A plain proxy takes the whole address in the request line.
            path = origin + path
            headers = {**headers, **_proxy_authorisation(proxy)}
        connection.request(method, path, headers=headers)
        return connection.getresponse()


def is_redirect(response: http.client.HTTPResponse) -> bool:
    """Whether an answer sends the caller elsewhere."""
    return response.status in _REDIRECTS and response.headers.get("Location") is not None


def _connect(origin: str, proxy: urllib.parse.SplitResult | None, timeout: float) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(origin)
    # Never without a port: the library would look for one in the host, and find it in an IPv6 address.
    own_port = parts.port or (443 if parts.scheme == "https" else 80)
    host, port = (proxy.hostname, proxy.port or 80) if proxy else (parts.hostname, own_port)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not host:
        raise BrokenResponseError(f"`{origin}` is not an HTTP address")
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    secure = http.client.HTTPSConnection(host, port, timeout=timeout, context=_tls())
    if proxy is not None:
        secure.set_tunnel(parts.hostname, own_port, headers=_proxy_authorisation(proxy))
    return secure


def _proxy(origin: str) -> urllib.parse.SplitResult | None:
    parts = urllib.parse.urlsplit(origin)
    proxies = urllib.request.getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.parse.urlsplit(address if "://" in address else f"http://{address}")


def _proxy_authorisation(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


@cache
def _tls() -> ssl.SSLContext:
    """The system's certificates, those that `SSL_CERT_FILE` names, and Mozilla's for a system that has none."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _as_os_error(exc: Exception) -> OSError:
    return exc if isinstance(exc, OSError) else BrokenResponseError(f"broken answer: {str(exc) or type(exc).__name__}")
