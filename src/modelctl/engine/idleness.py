"""How long a server has had nothing to do."""

import time

from modelctl.engine import probing

# How often an idle server is asked whether it still is one.
_POLL = 10.0


class Idleness:
    """Whether the server at `url` has had no request for `ttl` seconds; `None`: it may be idle for as long as it is."""

    def __init__(self, url: str, ttl: float | None) -> None:
        self._url = url
        self._ttl = ttl
        self._since = time.monotonic()
        self._before = None if ttl is None else probing.load(url)
        self.step = None if ttl is None else min(_POLL, ttl / 10)

    def is_over(self) -> bool:
        """Ask it, and tell whether its time without a request is over."""
        if self._ttl is None:
            return False
        now = probing.load(self._url)
        # A server that does not tell is not known to be idle.
        if now is None or now.requests or self._before is None or now.work != self._before.work:
            self._since = time.monotonic()
        self._before = now
        return time.monotonic() - self._since >= self._ttl
