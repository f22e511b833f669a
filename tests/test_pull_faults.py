"""A pull against every fault that a network or a Hub can have: nothing wrong is ever seen as whole."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.command import Command
from tests.hub import faults
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import MIB, NAME, big_model, blobs_are_true, content, leftovers, until, weights

# The other origin, to which the Hub sends clients for the bytes of large files.
CDN = "/_cdn/*"
SIZE = 40 * MIB
# Rows that the plain run leaves to the sweep: each has a neighbour that takes the same way through the code.
SWEEP = pytest.mark.sweep
# Beside the model itself, what an interruption may cost: 16 MiB for each file in flight.
AGAIN = 16 * MIB


@pytest.mark.parametrize(
    ("act", "path", "cost"),
    [
        pytest.param(faults.drop(after=5 * MIB), CDN, 1, id="closed in the middle"),
        pytest.param(faults.reset(after=5 * MIB), CDN, 1, id="reset in the middle"),
        pytest.param(faults.drop(), CDN, 1, id="closed before the answer", marks=SWEEP),
        pytest.param(faults.short(by=3 * MIB), CDN, 1, id="short body", marks=SWEEP),
        pytest.param(faults.longer(by=MIB), CDN, 1, id="too long a body"),
        pytest.param(faults.wrong_length(by=-MIB), CDN, 1, id="a length too small", marks=SWEEP),
        pytest.param(faults.whole_for_range(), CDN, 3, id="the whole for a part"),
        pytest.param(faults.stall(seconds=20, after=MIB), CDN, 1, id="stall"),
        pytest.param(faults.too_many(retry_after=1), CDN, 1, id="429 for a file"),
        pytest.param(faults.too_many(retry_after=1), f"/api/models/{NAME}", 1, id="429 for the model", marks=SWEEP),
        pytest.param(faults.unavailable(503), CDN, 1, id="503 for a file", marks=SWEEP),
        pytest.param(faults.unavailable(500), f"/api/models/{NAME}", 1, id="500 for the model", marks=SWEEP),
        pytest.param(faults.unavailable(502), "*/tree/*", 1, id="502 for the listing", marks=SWEEP),
        pytest.param(faults.expired(), CDN, 1, id="a signed address that expired"),
        pytest.param(faults.flip(at=MIB), CDN, 3, id="wrong bytes once"),
        pytest.param(faults.flip(at=0), "*/tokenizer.json", 1, id="wrong bytes of a small file once"),
        pytest.param(faults.headers(etag='"other"'), CDN, 1, id="another etag", marks=SWEEP),
    ],
)
def test_a_passing_fault_is_outlasted(
    run: Command, hub: Hub, store: StoreBuilder, act: faults.Act, path: str, cost: int
) -> None:
    hub.add(NAME, files=big_model(SIZE))
    fault = hub.fault(act, path=path)
    done = run("pull", NAME, "--stall-after", "1", env=hub.environ)
    assert fault.count == 1, [asked.path for asked in hub.asked]
    assert done.code == 0, done.stderr
    assert content(store) == big_model(SIZE)
    assert blobs_are_true(store)
    assert leftovers(store) == []
    assert hub.bodies() <= SIZE * cost + AGAIN


@pytest.mark.parametrize(
    ("act", "path", "code", "message"),
    [
        pytest.param(faults.flip(at=MIB), CDN, 6, "arrived twice with bytes", id="wrong bytes for ever"),
        pytest.param(
            faults.flip(at=0), "*/tokenizer.json", 6, "arrived twice with bytes", id="in a small file", marks=SWEEP
        ),
        pytest.param(faults.unavailable(503), CDN, 7, "status 503", id="503 for ever"),
        pytest.param(faults.drop(), CDN, 7, "cannot be fetched", id="closed for ever", marks=SWEEP),
        pytest.param(
            faults.stall(seconds=9, after=0), CDN, 7, "no byte came in time", id="silent for ever", marks=SWEEP
        ),
        pytest.param(faults.portal(), f"/api/models/{NAME}", 7, "its answer is not that of a Hub", id="portal"),
        pytest.param(faults.expired(), CDN, 7, "its signed address has expired", id="expired for ever", marks=SWEEP),
        pytest.param(faults.status(404), "*/resolve/*model.safetensors", 3, "there is no model", id="404", marks=SWEEP),
        pytest.param(faults.kill(after=9 * MIB), CDN, 7, "cannot be fetched", id="the Hub dies"),
    ],
)
def test_a_lasting_fault_ends_it_and_leaves_nothing_that_looks_whole(
    run: Command, hub: Hub, store: StoreBuilder, act: faults.Act, path: str, code: int, message: str
) -> None:
    hub.add(NAME, files=big_model(SIZE))
    hub.fault(act, path=path, method="GET" if path == CDN else None, times=None)
    done = run("pull", NAME, "--stall-after", "1", "--retry-for", "2", env=hub.environ)
    assert done.code == code, done.stderr
    assert message in done.stderr
    assert not store.paths(NAME).ref("main").exists()
    assert run("list", "-q", "--json").json["models"] == [] or (
        run("list", "--json").json["models"][0]["state"] == "partial"
    )
    hub.faults.clear()
    if code == 7:
        hub.restart()
    assert run("pull", NAME, env=hub.environ).code == 0
    assert blobs_are_true(store)
    assert leftovers(store) == []


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: os.truncate(path, 5 * MIB), id="cut"),
        pytest.param(lambda path: os.truncate(path, SIZE + 5), id="extended", marks=SWEEP),
        pytest.param(lambda path: path.write_bytes(b"x" * SIZE), id="other bytes"),
        pytest.param(lambda path: path.with_suffix(".json").write_text("{"), id="a torn journal"),
        pytest.param(
            lambda path: path.with_suffix(".json").write_text('{"size": 1, "received": [[0, 1]]}'),
            id="lies",
            marks=SWEEP,
        ),
        pytest.param(
            lambda path: path.with_suffix(".json").write_text(f'{{"size": {SIZE}, "received": [[0, {SIZE}]]}}'),
            id="claims all",
        ),
        pytest.param(lambda path: path.unlink(), id="taken away", marks=SWEEP),
    ],
)
def test_a_spoilt_partial_is_found_out(
    run: Command, hub: Hub, store: StoreBuilder, spoil: Callable[[object], object]
) -> None:
    hub.add(NAME, files=big_model(SIZE))
    hub.fault(faults.slow(rate=40 * MIB), path=CDN, times=None)
    pull = run.start("pull", NAME, env=hub.environ)
    until(lambda: bool(list(store.paths(NAME).partials.glob("*.json"))))
    os.kill(pull.pid, signal.SIGKILL)
    pull.communicate(timeout=10)
    hub.faults.clear()
    partial = next(path for path in store.paths(NAME).partials.iterdir() if len(path.name) == 64)
    spoil(partial)
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0, done.stderr
    assert blobs_are_true(store)
    assert leftovers(store) == []


def test_many_small_files_and_equal_ones(run: Command, hub: Hub, store: StoreBuilder) -> None:
    files = {f"extra/{at:03}.json": f'{{"at": {at % 40}}}' for at in range(200)}
    hub.add(NAME, files={**big_model(64), **files, "model.safetensors": weights(100)})
    done = run("pull", NAME, "--all-files", env=hub.environ)
    assert done.code == 0
    assert len(content(store)) == 203
    assert sum(1 for asked in hub.asked if "/extra/" in asked.path) == 40


def test_a_server_without_ranges_still_gives_the_whole(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=big_model(SIZE))
    hub.fault(faults.whole_for_range(), path=CDN, method="GET", times=None)
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0, done.stderr
    assert "the server sends no parts, so the whole is fetched" in done.stderr
    assert blobs_are_true(store)


def test_wrong_bytes_from_a_server_without_ranges_are_fetched_once_more(
    run: Command, hub: Hub, store: StoreBuilder
) -> None:
    hub.add(NAME, files=big_model(SIZE))
    hub.fault(faults.flip(at=MIB), path=CDN, nth=3)
    hub.fault(faults.whole_for_range(), path=CDN, method="GET", times=None)
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0, done.stderr
    assert blobs_are_true(store)
