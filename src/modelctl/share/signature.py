"""Addresses that are valid for a while: the redirect targets of LFS files."""

import hashlib
import hmac
import secrets
import time
from urllib.parse import quote, urlencode

from modelctl.share.policy import Refusal

CDN_PATH = "/_cdn"


class Signer:
    """Signs addresses of files with a key of its own, and knows them again until they expire."""

    def __init__(self, *, lifetime: int) -> None:
        self._key = secrets.token_bytes(32)
        self._lifetime = lifetime

    def address(self, folder: str, commit: str, name: str) -> str:
        """The path and query under which a file can be fetched without a token for `lifetime` seconds."""
        expires = str(int(time.time()) + self._lifetime)
        path = "/".join((CDN_PATH, quote(folder), commit, quote(name)))
        query = {"Expires": expires, "Signature": self._signature(folder, commit, name, expires)}
        return f"{path}?{urlencode(query)}"

    def check(self, folder: str, commit: str, name: str, *, expires: str, signature: str) -> None:
        """Refuse what was not signed here, or has expired."""
        if not hmac.compare_digest(self._signature(folder, commit, name, expires).encode(), signature.encode()):
            raise Refusal(403, "Access denied: the signature does not match")
        if int(expires) <= time.time():
            raise Refusal(403, "Access denied: the request has expired")

    def _signature(self, *parts: str) -> str:
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()
