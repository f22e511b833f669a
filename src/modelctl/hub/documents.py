"""The small files of a repository that decide which of its files vLLM loads."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelctl import selection
from modelctl.errors import NotWholeError
from modelctl.hub import client, small
from modelctl.hub.client import Hub
from modelctl.hub.patience import passing
from modelctl.hub.source import Blob, WrongBytesError, blob_target, not_whole
from modelctl.ref import ModelRef
from modelctl.store import digest, reading
from modelctl.store.layout import RepoPaths
from modelctl.store.tree import TreeFile


def read(
    hub: Hub,
    places: Sequence[RepoPaths],
    ref: ModelRef,
    commit: str,
    listing: Mapping[str, TreeFile],
    *,
    offline: bool,
) -> dict[str, Any] | None:
    """They as JSON values by name, from where the model lies, else from the Hub; `None` where that may not be asked."""
    documents: dict[str, Any] = {}
    for name in selection.deciding(listing):
        file = listing[name]
        if file.size > reading.MAX_JSON:
            raise NotWholeError(
                f"`{name}` of `{ref.id}` is said to have {file.size:,} bytes, too many for what it should hold",
                hint="do not use this repository; nothing of it was written",
            )
        content = _read(places, commit, name, file)
        if content is None and offline:
            return None
        if content is None:
            content = _ask_for(hub, ref, commit, name, file)
        with contextlib.suppress(ValueError, RecursionError):
            documents[name] = json.loads(content)
    return documents


def _read(places: Sequence[RepoPaths], commit: str, name: str, file: TreeFile) -> bytes | None:
    for paths in places:
        for path in (paths.blob(file.digest), paths.entry(commit, name)):
            content = reading.head(path, file.size + 1)
            if content is not None and digest.is_proven(content, file.digest):
                return content
    return None


def _ask_for(hub: Hub, ref: ModelRef, commit: str, name: str, file: TreeFile) -> bytes:
    from modelctl.hub.connection import Connections

    blob = Blob(name, file.digest, file.size, blob_target(hub.endpoint, ref.id, commit, name, hub.token))
    connections = Connections(timeout=hub.patience.stall)

    def attempt() -> bytes:
        try:
            return bytes(small.fetch(connections, blob, lambda status, code: client.failure(hub, ref, status, code)))
        except OSError as exc:
            raise passing(exc) from exc

    def persist() -> bytes:
        return hub.patience.persist(f"`{name}`: ", attempt)

    try:
        with contextlib.suppress(WrongBytesError):
            return persist()
        return persist()
    except WrongBytesError as exc:
        raise not_whole(blob) from exc
    finally:
        connections.close()
