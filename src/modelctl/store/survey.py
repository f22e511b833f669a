"""The models of many folders, read by as many processes as there are processors: each folder is a thing of its own."""

import os
import signal
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from modelctl.store import contents, inventory, layout
from modelctl.store.model import Location, Model

# Below this, starting processes takes longer than it saves.
_WORTH_IT = 600
_MOST = 8


class Place(NamedTuple):
    """A model to be read: its repository folder, the location that this is in, and the folders of its other copies."""

    folder: Path
    location: Location
    others: tuple[Path, ...] = ()


def models(places: Sequence[Place], *, brief: bool = False) -> list[Model]:
    """The models of these places, in their order, without those that are gone by now.

    `brief` leaves out the files of the revisions: those of ten thousand models fill the memory.
    """
    processors = min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if not brief or processors < 2 or len(places) < _WORTH_IT:
        return _read(places, brief=brief)
    # Not at the top: few stores are that large.
    import multiprocessing

    # By turns, so that all are done at about the same time; more parts than processors, since models differ.
    parts = processors * 8
    size = -(-len(places) // parts)
    chunks = [places[at : at + size] for at in range(0, len(places), size)]
    try:
        # Forked, since nothing of ours has threads by now, and a fresh interpreter would have to load it all again.
        pool = multiprocessing.get_context("fork").Pool(processors, _leave_signals_to_the_parent)
    except (OSError, ImportError):
        # No more processes allowed, or no shared memory for what they have in common.
        return _read(places, brief=True)
    with pool:
        return [*chain.from_iterable(pool.imap(_read_briefly, chunks))]


def _leave_signals_to_the_parent() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


def _read_briefly(places: Sequence[Place]) -> list[Model]:
    return _read(places, brief=True)


def _read(places: Sequence[Place], *, brief: bool) -> list[Model]:
    hubs = {hub: contents.place(str(hub)) for hub in {place.folder.parent for place in places}}
    found = []
    for folder, location, others in places:
        model = inventory.take(hubs[folder.parent], layout.paths_at(folder), location)
        if model is not None:
            model = model._replace(other_copies=others) if others else model
            found.append(_brief(model) if brief else model)
    return found


def _brief(model: Model) -> Model:
    return model._replace(revisions=tuple(revision._replace(files=()) for revision in model.revisions))
