"""Leave to fetch from Xet storage: the Hub gives it for one commit and a short while."""

import re
from dataclasses import dataclass, field

from modelctl.errors import UnreachableError
from modelctl.hub.client import Hub
from modelctl.ref import ModelRef

# What has a place in a header and in an address; hf_xet, which is given both, breaks down over anything else.
_PLAIN = re.compile(r"[\x21-\x7e]+")
# 64 bits are what it has for a moment.
_LAST = 2**63 - 1
BY_HTTP = "`--transport http` fetches the same files in modelctl's own way"


@dataclass(frozen=True, slots=True)
class Grant:
    """Where the storage is and the token for it, valid until `expires` (seconds since 1970).

    `renewal` is where the Hub gives the next one, to whoever asks with `headers`: these hold the user's own token and
    go there alone.
    """

    storage: str
    token: str = field(repr=False)
    expires: int
    renewal: str
    headers: dict[str, str] = field(repr=False)


def ask(hub: Hub, ref: ModelRef, commit: str) -> Grant:
    """Ask the Hub for leave to fetch a commit's files."""
    address = f"{hub.endpoint}/api/models/{ref.id}/xet-read-token/{commit}"
    match hub.ask(ref, address):
        case {"casUrl": str(storage), "accessToken": str(token), "exp": int(expires)} if (
            _PLAIN.fullmatch(storage) and _PLAIN.fullmatch(token) and 0 <= expires <= _LAST
        ):
            return Grant(storage, token, expires, address, hub.headers)
        case _:
            raise UnreachableError(f"the Hub at `{hub.endpoint}` has no Xet storage for `{ref.id}`", hint=BY_HTTP)
