"""The models of many folders, read by as many processes as there are processors: each folder is a thing of its own."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from modelctl.store import contents, inventory, layout
from modelctl.store.model import Location, Model

# Below this, starting processes takes longer than it saves.
_WORTH_IT = 600
_MOST = 8

T = TypeVar("T")


class Place(NamedTuple):
    """A model to be read: its repository folder, the location that this is in, and the folders of its other copies."""

    folder: Path
    location: Location
    others: tuple[Path, ...] = ()


def each(places: Sequence[Place], take: Callable[[Model], T]) -> list[T]:
    """What `take` makes of the models of these places, in their order, without those that are gone by now.

    It is a function of a module, which other processes find by its name; what it returns should be small, such as the
    `brief` of a model: the files of ten thousand models fill the memory.
    """
    processors = min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if processors < 2 or len(places) < _WORTH_IT:
        return [take(model) for model in models(places)]
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
        return [take(model) for model in models(places)]
    with pool:
        return [*chain.from_iterable(pool.imap(partial(_each, take), chunks))]


def _leave_signals_to_the_parent() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


def _each(take: Callable[[Model], T], places: Sequence[Place]) -> list[T]:
    return [take(model) for model in models(places)]


def models(places: Sequence[Place]) -> Iterator[Model]:
    """The models of these places, read one by one, without those that are gone by now."""
    hubs = {hub: contents.place(str(hub)) for hub in {place.folder.parent for place in places}}
    for folder, location, others in places:
        model = inventory.take(hubs[folder.parent], layout.paths_at(folder), location)
        if model is not None:
            yield model._replace(other_copies=others) if others else model


def brief(model: Model) -> Model:
    """The model without the files of its revisions."""
    return model._replace(revisions=tuple(revision._replace(files=()) for revision in model.revisions))
