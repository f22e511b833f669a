"""The HTTP client under huggingface_hub: patient within bounds, and its token never leaves the Hub."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from modelctl.errors import UnreachableError
from modelctl.hub.flow import Flow, TooSlowError
from modelctl.hub.patience import KEEP_GOING, Patience, TryAgainError, retry_after

CONNECT_SECONDS = 10.0
_PASSING = {408, 429, 500, 502, 503, 504}


class PatientClient(httpx2.Client):
    """Asks again what may pass, where huggingface_hub would give up at once, or go on unseen and for how long it likes.

    Raises `UnreachableError` when patience ends. What cannot be connected to at all is not asked again.
    """

    def __init__(self, endpoint: str, token: str | None, patience: Callable[[], Patience]) -> None:
        # Without time limits huggingface_hub waits for ever.
        super().__init__(follow_redirects=True, timeout=CONNECT_SECONDS, event_hooks={"request": [self._keep_token]})
        self._home = _origin(httpx2.URL(endpoint))
        self._secret = f"Bearer {token}"
        self._name = f"the Hub at `{endpoint}`"
        self._patience = patience

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401 - those of httpx2
        """Send it, until there is an answer."""
        patience = self._patience()
        stall = min(patience.stall, patience.silence)
        return patience.persist(f"{self._name} ", lambda: self._attempt(request, stall, options))

    def _attempt(self, request: httpx2.Request, stall: float, options: dict[str, Any]) -> httpx2.Response:
        limits = httpx2.Timeout(stall, connect=min(CONNECT_SECONDS, stall))
        request.extensions = {**request.extensions, "timeout": limits.as_dict()}
        try:
            response = super().send(request, **{**options, "stream": True})
            if response.status_code in _PASSING:
                response.close()
                wait = retry_after(response.headers.get("Retry-After"), now=response.headers.get("Date"))
                raise TryAgainError(f"answers with status {response.status_code}", wait=wait)
            response.stream = _Flowing(response.stream, stall=stall)
            if not options.get("stream"):
                response.read()
        except (httpx2.ReadTimeout, httpx2.WriteTimeout) as exc:
            raise TryAgainError("does not answer in time", is_silence=True) from exc
        except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError, TooSlowError) as exc:
            raise TryAgainError(f"breaks off: {str(exc) or type(exc).__name__}") from exc
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
            # As an error of ours: huggingface_hub would ask for the next page again, and again, with words of its own.
            raise UnreachableError(f"{self._name} cannot be reached: {exc}", hint=KEEP_GOING) from exc
        return response

    def _keep_token(self, request: httpx2.Request) -> None:
        # huggingface_hub follows the next page of a listing with the token to whatever address that names.
        if _origin(request.url) != self._home and request.headers.get("Authorization") == self._secret:
            del request.headers["Authorization"]


class _Flowing(httpx2.SyncByteStream):
    """A body that must not drip."""

    def __init__(self, stream: Any, *, stall: float) -> None:  # noqa: ANN401 - of one of two kinds
        self._stream = stream
        self._flow = Flow(stall)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._flow.count(len(piece))
            yield piece

    def close(self) -> None:
        self._stream.close()


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
