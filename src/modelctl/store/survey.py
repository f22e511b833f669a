"""The models of many folders, read by as many processes as there are processors: each folder is a thing of its own."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from modelctl.store import contents, inventory, layout
from modelctl.store.model import Location, Model

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

# Below this, starting processes takes longer than it saves.
_WORTH_IT = 600
_MOST = 8
_ENDS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)

T = TypeVar("T")


class Place(NamedTuple):
    """A model to be read: its repository folder, the location that this is in, and the folders of its other copies."""

    folder: Path
    location: Location
    others: tuple[Path, ...] = ()


def each(places: Sequence[Place], take: Callable[[Model], T]) -> list[T]:
    """What `take` makes of the models of these places, in their order, without those that are gone by now.

    Several processes do it where there are many; what it returns should be small, such as the `brief` of a model, since
    the files of ten thousand models fill the memory.
    """
    processors = min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if processors < 2 or len(places) < _WORTH_IT:
        return [take(model) for model in models(places)]
    size = -(-len(places) // processors)
    workers: list[_Worker[T]] = []
    try:
        # A process begins with our handlers, which would have it say that it was interrupted; and who is interrupted
        # here knows all that were started. Blocked, a signal waits for either.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        try:
            for at in range(0, len(places), size):
                workers.append(_Worker(take, places[at : at + size], beside=workers))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return [value for worker in workers for value in worker.values()]
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[T]):
    """A process that reads some of the models. Where it cannot be started, or is killed, they are read here."""

    def __init__(self, take: Callable[[Model], T], places: Sequence[Place], *, beside: Sequence["_Worker[T]"]) -> None:
        # Not at the top: few stores are that large.
        import multiprocessing

        self._take = take
        self._places = places
        # Forked, since nothing of ours has threads by now, and a fresh interpreter would have to load it all again.
        context = multiprocessing.get_context("fork")
        self._answer, question = context.Pipe(duplex=False)
        answers = [*(worker._answer for worker in beside), self._answer]  # noqa: SLF001 - of its own kind
        process = context.Process(target=_send, args=(question, answers, take, places), daemon=True)
        self._process: ForkProcess | None = process
        try:
            process.start()
        except OSError:
            # No more processes are allowed.
            self._process = None
        finally:
            # The end of the only process that has the other end is the end of what it says.
            question.close()

    def values(self) -> list[T]:
        try:
            values: list[T] = self._answer.recv()
        except EOFError:
            return [self._take(model) for model in models(self._places)]
        return values

    def end(self) -> None:
        self._answer.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _send(
    question: "Connection", answers: Sequence["Connection"], take: Callable[[Model], T], places: Sequence[Place]
) -> None:
    # Whoever has both ends of a pipe waits for ever for room in it, where nobody else is left to read.
    for answer in answers:
        answer.close()
    # Ctrl-C is for the process that shows something; it ends this one.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
    # Nobody may be left to read it.
    with contextlib.suppress(BrokenPipeError):
        question.send([take(model) for model in models(places)])


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
