"""`modelctl pull --transport xet`: hf_xet against Xet storage on loopback, and nothing of it believed unproven."""

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from modelctl.store.measuring import measured
from tests.command import Command
from tests.disks import small_disk
from tests.hub import faults
from tests.hub.cas import TOKEN
from tests.hub.loopback import READER, Hub
from tests.stores import StoreBuilder
from tests.test_pull import BIN, MIB, NAME, blobs_are_true, content, leftovers, masked, until, weights

SWEEP = pytest.mark.sweep
XORBS, FILES = "/xet/xorbs/*", "/xet/v?/reconstructions/*"
SIZE = 24 * MIB + 1
SMALL: dict[str, bytes] = {"config.json": b"{}", "tokenizer.json": b"{}"}
WEIGHTS = {"model.safetensors": weights(SIZE)}
BY_HTTP = "hint: `--transport http` fetches the same files in modelctl's own way"


def pull(run: Command, hub: Hub, *argv: str | Path, **env: str) -> tuple[int, list[str]]:
    """A pull by Xet: its exit code, and stderr without what differs from run to run."""
    done = run("pull", NAME, "--transport", "xet", *argv, env={**hub.environ, **env})
    return done.code, masked(done.stderr).splitlines()


def grant(**changed: object) -> faults.Act:
    """A leave to fetch from a storage that nobody is to ask."""
    given = {"casUrl": "http://127.0.0.1:9", "accessToken": TOKEN, "exp": 2**31, **changed}
    return faults.status(200, body=json.dumps(given).encode(), headers={"content-type": "application/json"})


def by_http(hub: Hub) -> int:
    """The bytes of weights that came by our own transfer."""
    return sum(asked.sent for asked in hub.asked if asked.path.startswith("/_cdn/"))


def held_back(store: StoreBuilder) -> None:
    """Nothing of the weights can be taken for whole, and no ref names the commit."""
    assert [blob.name for blob in store.paths(NAME).blobs.glob("*") if len(blob.name) == 64] == []
    assert not store.paths(NAME).ref("main").exists()


def test_what_lies_in_xet_storage_comes_from_there_and_is_a_blob_like_all_others(
    run: Command, hub: Hub, store: StoreBuilder, home: Path
) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True, private=True)
    models = run.project / "models"
    # As the older arrangement has it: hf_xet would keep its logs there.
    code, said = pull(run, hub, HF_HOME=str(models), HF_TOKEN=READER)
    assert (code, said) == (
        0,
        [
            f"{NAME} at main ({store.paths(NAME).ref('main').read_text()[:12]})",
            "  3 files, 25.2 MB",
            "  to fetch: 2 files, 25.2 MB",
            f"pulling {NAME} 25.2 MB",
            f"`{NAME}` is now the default model of this project (`.env`)",
        ],
    )
    assert content(store) == {**SMALL, **WEIGHTS}
    assert blobs_are_true(store)
    assert leftovers(store) == []
    assert all(blob.is_file() and not blob.is_symlink() for blob in store.paths(NAME).blobs.iterdir())
    assert {path.name for path in models.iterdir()} == {".gitkeep", "hub"}
    assert not (models / "hub" / "blobs").exists()
    assert by_http(hub) == 0
    assert {asked.token for asked in hub.asked if asked.path.startswith("/xet/v")} == {TOKEN}
    assert all(asked.token != READER for asked in hub.asked if asked.path.startswith("/xet/") or asked.is_cdn)
    logs = [path.read_text() for path in (home / ".cache/modelctl/xet").rglob("*.log")]
    assert logs
    assert not [log for log in logs if READER in log]


@SWEEP
def test_what_was_begun_is_ended_by_ctrl_c_at_once_and_finished_by_http(
    run: Command, hub: Hub, store: StoreBuilder
) -> None:
    interrupted = started(run, hub, store)
    os.kill(interrupted.pid, signal.SIGINT)
    began = time.monotonic()
    stdout, stderr = interrupted.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert (interrupted.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-2:] == [
        f"error: the pull of `{NAME}` was interrupted",
        "hint: what has arrived is kept: run the same command again and it goes on from there",
    ]
    held_back(store)
    finish(run, hub, store, "--transport", "http")


@SWEEP
def test_after_a_kill_the_same_command_goes_on(run: Command, hub: Hub, store: StoreBuilder) -> None:
    killed = started(run, hub, store)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=10)
    held_back(store)
    (download,) = run("status", "--json").json["downloads"]
    assert 0 < download["done"] < download["total"]
    said = finish(run, hub, store, "--transport", "xet")
    assert "`model.safetensors` was begun before: what is missing of it comes by HTTP" in said


def started(run: Command, hub: Hub, store: StoreBuilder) -> subprocess.Popen[str]:
    """A pull that has written and recorded a part of the weights."""
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    # Two parts of the weights come, and the others are waited for, however many are asked for at once.
    hub.fault(faults.hold(threading.Event()), path="/xet/xorbs/*/[2-9]", times=None)
    running = run.start("pull", NAME, "--transport", "xet", env=hub.environ)
    until(lambda: any(json.loads(path.read_text())["received"] for path in journals(store)))
    return running


def journals(store: StoreBuilder) -> list[Path]:
    return list(store.paths(NAME).partials.glob("*.json"))


def finish(run: Command, hub: Hub, store: StoreBuilder, *argv: str) -> str:
    """Pull again, without a fault; what was said."""
    hub.faults.clear()
    done = run("pull", NAME, *argv, env=hub.environ)
    assert done.code == 0, done.stderr
    assert 0 < by_http(hub) < SIZE
    assert content(store) == {**SMALL, **WEIGHTS}
    assert leftovers(store) == []
    return done.stderr


@pytest.mark.parametrize(
    ("act", "path", "times"),
    [
        pytest.param(faults.flip(at=MIB), XORBS, 1, id="wrong bytes once", marks=SWEEP),
        pytest.param(faults.unavailable(503), XORBS, 2, id="503", marks=SWEEP),
        pytest.param(faults.expired(), XORBS, 1, id="a signed address that expired", marks=SWEEP),
        pytest.param(faults.drop(after=MIB), XORBS, 2, id="closed in the middle", marks=SWEEP),
        pytest.param(faults.reset(after=MIB), XORBS, 2, id="reset in the middle", marks=SWEEP),
        pytest.param(faults.stall(seconds=30, after=MIB), XORBS, 1, id="stall", marks=SWEEP),
        pytest.param(faults.short(by=100), XORBS, 1, id="short body", marks=SWEEP),
        pytest.param(faults.unavailable(500), FILES, 2, id="500 for a file", marks=SWEEP),
        pytest.param(faults.too_many(retry_after=1), "*/xet-read-token/*", 1, id="429 for the grant", marks=SWEEP),
    ],
)
def test_a_passing_fault_is_outlasted(
    run: Command, hub: Hub, store: StoreBuilder, act: faults.Act, path: str, times: int
) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    fault = hub.fault(act, path=path, times=times)
    code, said = pull(run, hub, "--stall-after", "1")
    assert (code, fault.count) == (0, times), said
    assert content(store) == {**SMALL, **WEIGHTS}
    assert leftovers(store) == []
    assert by_http(hub) == 0


@pytest.mark.parametrize(
    ("act", "path", "code", "message"),
    [
        pytest.param(
            faults.flip(at=MIB),
            XORBS,
            6,
            [
                "error: `model.safetensors` arrived twice with bytes that do not match its hash",
                f"hint: Xet storage is damaged; {BY_HTTP[6:]}",
            ],
            id="wrong bytes for ever",
        ),
        pytest.param(faults.status(404), FILES, 7, ["404", BY_HTTP], id="404 for the file", marks=SWEEP),
        pytest.param(faults.status(404), XORBS, 7, ["404", BY_HTTP], id="404 for a xorb", marks=SWEEP),
        pytest.param(
            faults.unavailable(500),
            FILES,
            7,
            ["nothing has come from Xet storage for", BY_HTTP],
            id="500 for the file",
            marks=SWEEP,
        ),
        pytest.param(
            faults.unavailable(503),
            XORBS,
            7,
            ["nothing has come from Xet storage for", BY_HTTP],
            id="503 for a xorb",
            marks=SWEEP,
        ),
        pytest.param(
            faults.silence(), XORBS, 7, ["nothing has come from Xet storage for", BY_HTTP], id="silence", marks=SWEEP
        ),
        pytest.param(
            faults.status(404),
            "*/xet-read-token/*",
            7,
            ["error: the Hub at `http://HUB` has no Xet storage for `acme/tiny`", BY_HTTP],
            id="no grant",
            marks=SWEEP,
        ),
        pytest.param(
            grant(accessToken="two\nlines"),
            "*/xet-read-token/*",
            7,
            ["error: the Hub at `http://HUB` has no Xet storage for `acme/tiny`", BY_HTTP],
            id="a grant that no header can hold",
            marks=SWEEP,
        ),
        pytest.param(
            grant(exp=10**30),
            "*/xet-read-token/*",
            7,
            ["error: the Hub at `http://HUB` has no Xet storage for `acme/tiny`", BY_HTTP],
            id="a grant for ever",
            marks=SWEEP,
        ),
        pytest.param(
            faults.status(401),
            "*/xet-read-token/*",
            4,
            ["error: the Hub wants a login for `acme/tiny`", "hint: log in with `hf auth login`, or give `--token`"],
            id="no leave",
            marks=SWEEP,
        ),
    ],
)
def test_a_lasting_fault_ends_it_and_http_still_brings_it(
    run: Command, hub: Hub, store: StoreBuilder, act: faults.Act, path: str, code: int, message: list[str]
) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    hub.fault(act, path=path, times=None)
    began = time.monotonic()
    ended, said = pull(run, hub, "--retry-for", "4", "--stall-after", "1")
    # Without `--retry-for`, two minutes.
    assert time.monotonic() - began < 40
    assert ended == code, said
    assert message[0] in said[-2]
    assert said[-1] == message[1]
    held_back(store)
    hub.faults.clear()
    done = run("pull", NAME, env=hub.environ)
    assert (done.code, leftovers(store)) == (0, []), done.stderr
    assert content(store) == {**SMALL, **WEIGHTS}


@SWEEP
def test_the_older_protocol(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    hub.xet_versions.remove("2")
    assert pull(run, hub)[0] == 0
    assert by_http(hub) == 0
    assert content(store) == {**SMALL, **WEIGHTS}


@SWEEP
def test_the_storage_is_one_that_hf_takes_for_its_own(run: Command, hub: Hub, home: Path) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    done = run.program([BIN / "hf", "download", NAME], env=hub.environ)
    assert done.code == 0, done.stderr
    # It keeps what comes from there in the store of the whole cache, and by HTTP nothing of it came.
    (payload,) = (path for path in (home / ".cache/huggingface/hub/blobs").rglob("*") if len(path.name) == 64)
    assert payload.read_bytes() == WEIGHTS["model.safetensors"]
    assert by_http(hub) == 0


@SWEEP
def test_many_files_some_at_a_time_and_equal_ones_once(run: Command, hub: Hub, store: StoreBuilder) -> None:
    shards = {f"extra/{at:02}.bin": weights(3 * MIB, seed=at % 9) for at in range(12)}
    hub.add(NAME, files=SMALL, lfs={**WEIGHTS, **shards}, xet=True)
    done = run("pull", NAME, "--all-files", "--transport", "xet", "--max-workers", "3", "--json", env=hub.environ)
    assert done.code == 0
    assert content(store) == {**SMALL, **WEIGHTS, **shards}
    assert by_http(hub) == 0
    events = done.events
    assert [event["event"] for event in events if event["event"] not in {"progress", "file"}] == [
        "plan",
        "stage",
        "done",
    ]
    total = SIZE + 9 * 3 * MIB + 4
    assert sum(event["size"] for event in events if event["event"] == "file") == total - 2
    assert [event["done"] for event in events if event["event"] == "progress"][-1] == total - 2
    assert events[-1]["models"][0]["fetched"] >= SIZE + 9 * 3 * MIB


@SWEEP
def test_what_is_not_in_xet_storage_comes_by_http(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS)
    code, said = pull(run, hub)
    assert (code, said[4]) == (0, "none of it lies in Xet storage: it comes by HTTP")
    assert by_http(hub) == SIZE
    assert content(store) == {**SMALL, **WEIGHTS}
    assert not [asked.path for asked in hub.asked if "xet" in asked.path]


@SWEEP
def test_force_fetches_again_what_is_here(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    assert pull(run, hub)[0] == 0
    before = hub.bodies()
    assert pull(run, hub)[0] == 0
    assert hub.bodies() - before < MIB
    assert pull(run, hub, "--force")[0] == 0
    assert hub.bodies() - before >= SIZE
    assert blobs_are_true(store)
    assert leftovers(store) == []


def test_without_hf_xet_it_says_what_to_install(run: Command, hub: Hub, store: StoreBuilder, tmp_path: Path) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "hf_xet.py").write_text("raise ImportError('No module named hf_xet')\n")
    code, said = pull(run, hub, PYTHONPATH=f"{run.guard}{os.pathsep}{hidden}")
    assert (code, said[-2:]) == (
        1,
        [
            "error: `--transport xet` needs the package `hf_xet`, which cannot be loaded",
            "hint: `pip install hf_xet` where modelctl is, or leave `--transport xet` out",
        ],
    )
    held_back(store)
    assert hub.bodies("config.json") == 2


@SWEEP
def test_another_tool_that_fetches_the_same_file_is_waited_for(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    digest = measured(hub.store.blob(NAME, "model.safetensors"), "model.safetensors").sha256
    lock = store.paths(NAME).blob_lock(digest or "")
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = run.start("pull", NAME, "--transport", "xet", "--retry-for", "0", env=hub.environ)
        assert waiting.stderr
        said = ""
        while "another tool is fetching it; waiting for that" not in said:
            said += waiting.stderr.readline()
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert content(store) == {**SMALL, **WEIGHTS}


@SWEEP
def test_a_disk_that_is_full_is_named(run: Command, hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, files=SMALL, lfs=WEIGHTS, xet=True)
    with small_disk(tmp_path / "small", SIZE + 20 * MIB) as small:
        # What is free goes between the look at the disk and the last byte.
        hub.fault(faults.slow(rate=2 * MIB), path=XORBS, times=None)
        running = run.start("pull", NAME, "--transport", "xet", "--models-dir", small, env=hub.environ)
        until(lambda: any(small.rglob("pull.json")))
        with (small / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, 36 * MIB)
        _, said = running.communicate(timeout=40)
        assert running.returncode == 5, said
        assert "cannot write" in said


def test_a_transport_that_there_is_not(run: Command) -> None:
    done = run("pull", NAME, "--transport", "ftp")
    assert (done.code, done.stdout) == (2, "")
    assert "'ftp'" in done.stderr.replace("`", "'")
