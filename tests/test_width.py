"""How many connections a pull opens: as many as bring more."""

import asyncio
from collections.abc import Callable

import pytest

from modelctl.hub.width import FILE, Pace, Width, after
from tests.command import Command
from tests.hub.loopback import Hub
from tests.hub.wire import Call
from tests.stores import StoreBuilder
from tests.test_pull import NAME, content


def settled(rate: Callable[[int], float], *, ceiling: int, looks: int = 12) -> list[int]:
    """The numbers that follow each other on a line where `n` connections bring `rate(n)`."""
    width, counts = Width(min(4, ceiling), ceiling), []
    for _ in range(looks):
        counts.append(width.count)
        width = after(width, rate=rate(width.count))
    return counts


@pytest.mark.parametrize(
    ("rate", "ceiling", "counts"),
    [
        pytest.param(lambda count: count * 10.0, 64, [4, 8, 16, 32, 64, 64], id="a long way: each brings more"),
        pytest.param(lambda count: count * 10.0, 16, [4, 8, 16, 16, 16, 16], id="a ceiling"),
        pytest.param(lambda _: 100.0, 16, [4, 8, 4, 4, 4, 4], id="a narrow line: more bring nothing"),
        pytest.param(lambda count: min(count, 16) * 10.0, 64, [4, 8, 16, 32, 16, 16], id="narrow from 16 on"),
        pytest.param(lambda count: 100.0 / count, 16, [4, 8, 4, 4, 4, 4], id="they hinder each other"),
        pytest.param(lambda count: count * 10.0, 1, [1, 1, 1, 1, 1, 1], id="one alone"),
        pytest.param(lambda count: count * 10.0, 6, [4, 6, 6, 6, 6, 6], id="a ceiling that is no power of two"),
        pytest.param(lambda _: 0.0, 16, [4, 4, 4, 4, 4, 4], id="nothing comes yet"),
    ],
)
def test_it_grows_while_that_brings_more(rate: Callable[[int], float], ceiling: int, counts: list[int]) -> None:
    assert settled(rate, ceiling=ceiling)[:6] == counts


def test_another_number_is_tried_again_after_a_while() -> None:
    counts = settled(lambda _: 100.0, ceiling=16, looks=40)
    assert [at for at, count in enumerate(counts) if count == 8] == [1, 19, 37]
    assert set(counts) == {4, 8}


def test_trouble_halves_it_for_a_while() -> None:
    width = after(Width(16, 16), rate=100.0, trouble=True)
    for _ in range(10):
        assert width.count == 8
        width = after(width, rate=100.0)
    assert after(Width(1, 16), rate=1.0, trouble=True).count == 1


def test_a_measurement_waits_until_there_is_something_to_see() -> None:
    pace = Pace(16)
    pace.begin(0, 100.0)
    pace.look(10 * FILE, 100.1)
    assert pace.count == 4, "too soon"
    pace.look(3 * FILE, 101.0)
    assert pace.count == 4, "not one file for each connection"
    pace.look(4 * FILE, 101.0)
    assert pace.count == 8
    pace.hinder()
    pace.look(4 * FILE, 101.3)
    assert pace.count == 4
    pace.look(2 * FILE, 110.0)
    assert pace.count == 4, "wrong bytes were thrown away"


def test_many_small_files_far_away_get_many_connections(run: Command, hub: Hub, store: StoreBuilder) -> None:
    files = {f"{at:03}.json": f'{{"at": {at}}}'.encode() for at in range(150)}
    hub.add(NAME, files={**files, "config.json": b"{}"})
    asked = Crowd(4, 8)
    hub.fault(asked, path="*/[0-9]*.json", times=None)
    done = run("pull", NAME, "--all-files", "--max-workers", "8", env=hub.environ)
    assert done.code == 0, done.stderr
    assert content(store) == {**files, "config.json": b"{}"}
    assert asked.seen == [4, 8]


class Crowd:
    """Lets answers wait until so many wait at once as are `expected`, one number after the other.

    `seen` are those that were waiting when no more came for a while. Nothing arrives meanwhile that could be measured.
    """

    def __init__(self, *expected: int) -> None:
        self.expected = [*expected]
        self.seen: list[int] = []
        self.waiting: list[asyncio.Event] = []

    async def __call__(self, call: Call) -> None:
        if self.expected:
            self.waiting.append(may_go := asyncio.Event())
            if len(self.waiting) == self.expected[0]:
                await asyncio.sleep(0.5)
                self.seen.append(len(self.waiting))
                del self.expected[0]
                for each in self.waiting:
                    each.set()
                self.waiting.clear()
            async with asyncio.timeout(30):
                await may_go.wait()
        await call.app(call.scope, call.receive, call.send)
