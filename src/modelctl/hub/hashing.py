"""The threads that hash large blobs beside their transfer, and give names to those that are proven."""

import os
import threading
from collections.abc import Callable

from modelctl.hub.ledger import Ledger
from modelctl.hub.transfer import Transfer
from modelctl.store.layout import RepoPaths

_TICK = 0.1
_THREADS = min(4, os.cpu_count() or 1)


def threads(ledger: Ledger, paths: RepoPaths, start_again: Callable[[Transfer], None]) -> list[threading.Thread]:
    """As many as there are processors for, not yet started; `start_again` gets what arrived with wrong bytes."""
    return [threading.Thread(target=_work, args=(ledger, paths, start_again), daemon=True) for _ in range(_THREADS)]


def _work(ledger: Ledger, paths: RepoPaths, start_again: Callable[[Transfer], None]) -> None:
    try:
        while ledger.is_going_on:
            if not any(_hash(one, ledger, paths, start_again) for one in list(ledger.open.values())):
                with ledger.changed:
                    ledger.changed.wait(_TICK)
    except BaseException as exc:  # noqa: BLE001 - a thread's failure is the pull's, and is raised there
        ledger.fail(exc)


def _hash(one: Transfer, ledger: Ledger, paths: RepoPaths, start_again: Callable[[Transfer], None]) -> bool:
    """Hash what has arrived of one blob, unless another thread does; whether there was anything."""
    if one.blob.digest not in ledger.open or not one.hashing.acquire(blocking=False):
        return False
    try:
        if one.blob.digest not in ledger.open:
            return False
        worked = one.hash_more()
        if one.hashed == one.blob.size:
            if one.is_proven():
                one.partial.publish(paths.blob(one.blob.digest))
                ledger.finish(one.blob)
            else:
                start_again(one)
        return worked
    finally:
        one.hashing.release()
