"""A pull against every fault that a network or a Hub can have: nothing wrong is ever seen as whole."""

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.command import NOBODY, Command
from tests.hub import faults
from tests.hub.loopback import Hub
from tests.hub.wire import Call
from tests.stores import StoreBuilder
from tests.test_interruption import saved
from tests.test_pull import MIB, NAME, big_model, blobs_are_true, content, leftovers, until, weights

# The other origin, to which the Hub sends clients for the bytes of large files.
CDN = "/_cdn/*"
SIZE = 40 * MIB
# Rows that the plain run leaves to the sweep: each has a neighbour that takes the same way through the code.
SWEEP = pytest.mark.sweep
STALL = faults.stall(seconds=20, after=MIB)
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
        pytest.param(faults.wrong_length(by=MIB), CDN, 1, id="a length too large", marks=SWEEP),
        pytest.param(faults.wrong_length(by=1), "*/config.json", 1, id="of a small file", marks=SWEEP),
        pytest.param(faults.whole_for_range(), CDN, 3, id="the whole for a part"),
        pytest.param(STALL, CDN, 1, id="stall"),
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
    # So short a time is for what stalls: on any other connection it would be one fault more.
    patience = ["--stall-after", "3"] if act is STALL else []
    done = run("pull", NAME, *patience, env=hub.environ)
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
            faults.stall(seconds=20, after=0), CDN, 7, "no byte came in time", id="silent for ever", marks=SWEEP
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
    # So short a time is for who never answers; who answers may take longer on a busy machine.
    patience = ["--stall-after", "3", "--retry-for", "4"] if "in time" in message else ["--retry-for", "2"]
    done = run("pull", NAME, *patience, env=hub.environ)
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
    hub.fault(faults.slow(rate=10 * MIB), path=CDN, times=None)
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


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(CDN, id="file", marks=SWEEP),
        pytest.param(f"/api/models/{NAME}", id="model", marks=SWEEP),
        pytest.param("*/tree/*", id="listing", marks=SWEEP),
        pytest.param("*/config.json", id="small file", marks=SWEEP),
    ],
)
def test_a_burst_of_failures_is_outlasted(run: Command, hub: Hub, store: StoreBuilder, path: str) -> None:
    hub.add(NAME, files=big_model(5 * MIB))
    burst = hub.fault(faults.unavailable(500), path=path, times=3)
    done = run("pull", NAME, env=hub.environ)
    assert (done.code, burst.count) == (0, 3), done.stderr
    assert done.stderr.count("answers with status 500; trying again in ") == 3
    assert content(store) == big_model(5 * MIB)
    assert leftovers(store) == []


def after(change: Callable[[], object]) -> faults.Act:
    """The Hub's own answer, once something has changed there."""

    async def act(call: Call) -> None:
        change()
        await call.app(call.scope, call.receive, call.send)

    return act


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("*/tree/*", id="listing"),
        pytest.param("*/config.json", id="small file", marks=SWEEP),
        pytest.param(CDN, id="large file", marks=SWEEP),
    ],
)
def test_a_branch_that_moves_between_two_requests_gives_one_commit(
    run: Command, hub: Hub, store: StoreBuilder, path: str
) -> None:
    commit = hub.add(NAME, files=big_model(5 * MIB))
    moved: list[str] = []
    new = {**big_model(5 * MIB), "config.json": b'{"new": 1}'}
    hub.fault(after(lambda: moved.append(hub.add(NAME, files=new))), path=path)
    assert run("pull", NAME, env=hub.environ).code == 0
    assert store.paths(NAME).ref("main").read_text() == commit
    assert content(store) == big_model(5 * MIB)
    assert run("pull", NAME, env=hub.environ).code == 0
    assert store.paths(NAME).ref("main").read_text() == moved[0]
    assert content(store) == new


@pytest.mark.sweep
def test_bytes_that_change_at_the_hub_between_two_requests(run: Command, hub: Hub, store: StoreBuilder) -> None:
    commit = hub.add(NAME, files=big_model(SIZE))
    offered = hub.store.paths(NAME).entry(commit, "model.safetensors").resolve()
    before = offered.read_bytes()
    # The first part is what was listed, those that come later are of something else with the same length.
    hub.fault(after(lambda: offered.write_bytes(weights(SIZE, seed=2))), path=CDN, method="GET", nth=2)
    done = run("pull", NAME, "--max-workers", "1", env=hub.environ)
    assert done.code == 6
    assert "arrived twice with bytes that do not match its hash" in done.stderr
    assert not store.paths(NAME).ref("main").exists()
    assert [model["state"] for model in run("list", "--json").json["models"]] == ["partial"]
    offered.write_bytes(before)
    assert run("pull", NAME, env=hub.environ).code == 0
    assert blobs_are_true(store)
    assert leftovers(store) == []


@pytest.mark.sweep
def test_addresses_that_are_good_for_a_second(run: Command, make_hub: Callable[..., Hub], store: StoreBuilder) -> None:
    hub = make_hub(lifetime=1)
    hub.add(NAME, files=big_model(SIZE))
    # Each part outlives the address that it was asked for at; the next one is asked for at a new one.
    hub.fault(faults.slow(rate=16 * MIB), path=CDN, times=None)
    hub.fault(faults.drop(after=MIB), path=CDN, nth=2, times=3)
    done = run("pull", NAME, "--max-workers", "1", env=hub.environ)
    assert done.code == 0, done.stderr
    assert any(asked.status == 403 for asked in hub.asked if asked.is_cdn)
    assert hub.bodies() <= SIZE + AGAIN
    assert content(store) == big_model(SIZE)


@pytest.mark.sweep
def test_a_target_that_becomes_read_only(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=big_model(SIZE))
    slow = hub.fault(faults.slow(rate=8 * MIB), path=CDN, times=None)
    run.let_pass(NOBODY)
    for path in (run.project, *run.project.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    # A file system cannot be made read-only under an open file, but folders can.
    pull = run.start("pull", NAME, "--no-use", env=hub.environ, user=NOBODY, group=NOBODY, extra_groups=[])
    until(lambda: bool(list(store.paths(NAME).partials.glob("*.json"))))
    folders = [path for path in store.hub.rglob("*") if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    _, stderr = pull.communicate(timeout=60)
    assert pull.returncode == 4
    assert stderr.splitlines()[-2].endswith("Permission denied")
    for folder in folders:
        folder.chmod(0o755)
    assert [model["state"] for model in run("list", "--json").json["models"]] == ["partial"]
    slow.times = 0
    kept, sent = saved(store.paths(NAME)), hub.bodies()
    done = run("pull", NAME, "--no-use", env=hub.environ, user=NOBODY)
    assert done.code == 0, done.stderr
    assert kept > 0
    assert hub.bodies() - sent < SIZE - kept + MIB
    assert blobs_are_true(store)
    assert leftovers(store) == []


@pytest.mark.sweep
def test_a_limit_on_the_size_of_files_is_no_room(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=big_model(SIZE))
    limited = ["/bin/sh", "-c", 'ulimit -f 20480; exec "$@"', "sh", sys.executable, "-m", "modelctl"]
    done = run.program([*limited, "pull", NAME], env=hub.environ)
    assert done.code == 5
    (partial,) = (path for path in store.paths(NAME).partials.iterdir() if len(path.name) == 64)
    assert done.stderr.splitlines()[-2:] == [
        f"error: cannot write `{partial}`: File too large",
        "hint: its file system, or `ulimit -f`, allows no file so large: name another folder with `--models-dir`",
    ]
    assert [asked for asked in hub.asked if asked.is_cdn and asked.method == "GET"] == []
    assert run("pull", NAME, env=hub.environ).code == 0
    assert leftovers(store) == []


# A wall clock that is set back by a day whenever anybody looks at it, and one that is a year ahead.
CLOCKS = {
    "back": "time.time = lambda now=time.time, past=itertools.count(): now() - 86400 * next(past)",
    "ahead": "time.time = lambda now=time.time: now() + 86400 * 365",
}


@pytest.mark.sweep
@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS.keys())
def test_a_clock_that_is_set_changes_nothing(run: Command, hub: Hub, store: StoreBuilder, clock: str) -> None:
    hub.add(NAME, files=big_model(SIZE))
    hub.fault(faults.drop(after=5 * MIB), path=CDN, method="GET")
    hub.fault(faults.too_many(retry_after=1), path=f"/api/models/{NAME}")
    code = f"import itertools, time\n{clock}\nfrom modelctl.cli.app import main\nmain()"
    done = run.program([sys.executable, "-c", code, "pull", NAME], env=hub.environ)
    assert done.code == 0, done.stderr
    assert blobs_are_true(store)
    assert leftovers(store) == []


@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(timedelta(days=-400), id="in the past", marks=SWEEP),
        pytest.param(timedelta(days=400), id="in the future", marks=SWEEP),
    ],
)
def test_a_pull_that_began_at_a_time_that_cannot_be_is_shown(
    run: Command, hub: Hub, store: StoreBuilder, moved: timedelta
) -> None:
    hub.add(NAME, files=big_model(SIZE))
    # It lasts while some commands look at it.
    hub.fault(faults.slow(rate=MIB), path=CDN, times=None)
    pull = run.start("pull", NAME, env=hub.environ)
    until(lambda: hub.bodies() > MIB)
    record = store.paths(NAME).pull_record
    told = json.loads(record.read_text())
    told["owner"]["since"] = (datetime.now(UTC) + moved).isoformat()
    record.write_text(json.dumps(told))
    try:
        (download,) = run("status", "--json").json["downloads"]
        assert (download["active"], download["total"]) == (True, SIZE + 2)
        assert download["rate"] is None or 0 <= download["rate"] < 1
        assert NAME in run("status").stdout
        assert run("prune", "--dry-run").stdout == "nothing to prune\n"
        busy = run("rm", NAME, "--yes")
        assert (busy.code, f"(pid {pull.pid})" in busy.stderr) == (8, True)
    finally:
        pull.kill()
        pull.communicate(timeout=10)
    assert run("pull", NAME, "--dry-run", env=hub.environ).code == 0
