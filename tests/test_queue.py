"""In which order a pull fetches: small files, then a few large ones at once, each from its start on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.errors import ModelctlError
from modelctl.hub.connection import Target
from modelctl.hub.queue import Job, Queue
from modelctl.hub.source import Blob
from modelctl.hub.transfer import SEGMENT, Transfer
from modelctl.store.layout import RepoPaths

SMALL = [Blob(f"small-{at}", f"{at:040}", 10, Target("http://127.0.0.1/", None)) for at in range(2)]
LARGE = [Blob(f"large-{at}", f"{at:064}", 3 * SEGMENT - 1, Target("http://127.0.0.1/", None)) for at in range(6)]


def refuse(status: int, _: str | None) -> ModelctlError:
    return ModelctlError(f"status {status}")


@pytest.fixture
def paths(tmp_path: Path) -> RepoPaths:
    return RepoPaths(tmp_path, "acme/tiny")


def work_off(queue: Queue, paths: RepoPaths, *, width: int) -> Iterator[Job]:
    """All jobs as one worker takes them; large blobs are opened and closed again."""
    while job := queue.take(width=width):
        yield job
        if job.transfer is None and job.blob in LARGE:
            one = Transfer(job.blob, paths, refuse)
            queue.divide(one)
            queue.opened(job.blob)
            one.partial.close()


def shown(jobs: Iterator[Job]) -> list[str]:
    return [f"{job.blob.name} {'' if job.span is None else job.span[0] // SEGMENT}".strip() for job in jobs]


def test_one_connection_takes_one_file_after_the_other(paths: RepoPaths) -> None:
    order = shown(work_off(Queue([*SMALL, *LARGE[:2]]), paths, width=1))
    large = [f"large-{at} {part}".strip() for at in (0, 1) for part in ("", 0, 1, 2)]
    assert order == ["small-0", "small-1", *large]


def test_many_connections_spread_over_four_files(paths: RepoPaths) -> None:
    order = shown(work_off(Queue([*SMALL, *LARGE]), paths, width=16))
    assert order[:10] == [
        "small-0",
        "small-1",
        *(f"large-{at}" for at in range(4)),
        *(f"large-{at} 0" for at in range(4)),
    ]
    for blob in LARGE:
        assert [at for at in order if at.startswith(f"{blob.name} ")] == [f"{blob.name} {part}" for part in range(3)]
    assert len(order) == 2 + 6 * 4


def test_what_is_being_opened_counts_as_open() -> None:
    queue = Queue(LARGE)
    assert [job.blob for job in iter(lambda: queue.take(width=16), None)] == LARGE[:4]
    queue.opened(LARGE[0])
    assert [job.blob for job in iter(lambda: queue.take(width=16), None)] == LARGE[4:5]


def test_what_is_postponed_comes_when_nothing_else_is_left(paths: RepoPaths) -> None:
    queue = Queue([SMALL[0]])
    queue.postpone(LARGE[0])
    assert shown(work_off(queue, paths, width=4))[:2] == ["small-0", "large-0"]


def test_parts_that_are_dropped_are_gone(paths: RepoPaths) -> None:
    queue, ones = Queue([]), [Transfer(blob, paths, refuse) for blob in LARGE[:2]]
    for one in ones:
        queue.divide(one)
    queue.drop(ones[0])
    assert {job.blob.name for job in iter(lambda: queue.take(width=4), None)} == {"large-1"}
    for one in ones:
        one.partial.close()
