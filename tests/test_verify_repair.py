"""`modelctl verify --repair` where something goes wrong: what is here stays, and the next one mends it."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command
from tests.crashes import Crashes
from tests.damages import NAME, WEIGHTS, entry, flip
from tests.disks import bind_mount, small_disk
from tests.hub import faults
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import MIB, blobs_are_true, content, content_of, leftovers, until, written
from tests.test_pull_crashes import FILES

REPAIR = ("verify", "--repair", NAME)


@pytest.fixture(name="damaged")
def _damaged(hub: Hub, store: StoreBuilder) -> dict[str, bytes]:
    """A model with large weights of which one byte is wrong, a small file that is empty, one that is missing."""
    hub.add(NAME, files=FILES)
    store.add(NAME, files=FILES)
    flip(store.blob(NAME, WEIGHTS), 3 * MIB)
    store.blob(NAME, "tokenizer.json").write_bytes(b"")
    store.blob(NAME, "1/deep.json").unlink()
    return shown(store)


def shown(store: StoreBuilder) -> dict[str, bytes]:
    paths = store.paths(NAME)
    return content_of(paths.snapshot(paths.ref("main").read_text()))


def mended(run: Command, hub: Hub, store: StoreBuilder) -> None:
    done = run(*REPAIR, env=hub.environ)
    assert done.code == 0, done
    assert content(store) == FILES
    assert blobs_are_true(store)
    assert leftovers(store) == []


@pytest.mark.sweep
@pytest.mark.parametrize(
    "fault",
    [faults.drop(after=MIB), faults.reset(after=MIB), faults.flip(at=2 * MIB), faults.unavailable()],
    ids=["dropped", "reset", "wrong once", "unavailable"],
)
def test_a_hub_that_fails_once(
    run: Command, hub: Hub, store: StoreBuilder, damaged: dict[str, bytes], fault: faults.Act
) -> None:
    assert damaged != FILES
    struck = hub.fault(fault, path="/_cdn/*")
    mended(run, hub, store)
    assert struck.count == 1


@pytest.mark.sweep
def test_wrong_bytes_again_and_again_are_never_shown(
    run: Command, hub: Hub, store: StoreBuilder, damaged: dict[str, bytes]
) -> None:
    hub.fault(faults.flip(at=2 * MIB), path="/_cdn/*", times=None)
    done = run(*REPAIR, env=hub.environ)
    assert (done.code, done.stderr.splitlines()[-2]) == (
        6,
        f"error: `{NAME}` is not repaired: `{WEIGHTS}` arrived twice with bytes that do not match its hash",
    )
    assert shown(store)[WEIGHTS] == damaged[WEIGHTS]
    hub.faults.clear()
    mended(run, hub, store)


@pytest.mark.sweep
def test_a_hub_that_does_not_have_it_any_more(
    run: Command, hub: Hub, store: StoreBuilder, damaged: dict[str, bytes]
) -> None:
    shutil.rmtree(hub.store.paths(NAME).folder)
    done = run(*REPAIR, env=hub.environ)
    assert done.code == 3, done
    assert shown(store) == damaged


@pytest.mark.sweep
def test_a_gated_model_takes_a_token(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=FILES, gated=True)
    store.add(NAME, files=FILES)
    flip(store.blob(NAME, WEIGHTS), 0)
    assert run(*REPAIR, env=hub.environ).code == 4
    assert run(*REPAIR, "--token", hub.reader, env=hub.environ).code == 0


@pytest.mark.sweep
def test_several_models_of_which_one_cannot_be_mended(run: Command, hub: Hub, store: StoreBuilder) -> None:
    for name in ("acme/a", "acme/b", "acme/c"):
        store.add(name, files=FILES)
        flip(store.blob(name, WEIGHTS), 7)
    hub.add("acme/a", files=FILES)
    hub.add("acme/c", files=FILES)
    done = run("verify", "--repair", "--all", "--json", env=hub.environ)
    assert done.code == 3, done
    values = done.events[-1]["error"]["verified"]
    assert [(one["state"], len(one["repaired"])) for one in values] == [("whole", 1), ("damaged", 0), ("whole", 1)]
    assert values[1]["error"]["kind"] == "not_found"


@pytest.mark.sweep
def test_a_full_disk(run: Command, hub: Hub, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 8 * MIB) as disk:
        store = StoreBuilder(disk / "models" / "hub")
        store.hub.parent.mkdir()
        hub.add(NAME, files=FILES)
        store.add(NAME, files=FILES)
        flip(store.blob(NAME, WEIGHTS), 9)
        before = shown(store)
        done = run(*REPAIR, "--models-dir", disk / "models", env=hub.environ)
        assert done.code == 5, done
        assert shown(store) == before
        assert run("verify", NAME, "--models-dir", disk / "models").stderr.endswith(
            f"hint: `modelctl verify --repair --models-dir {disk}/models {NAME}`\n"
        )


@pytest.mark.sweep
def test_a_store_that_may_only_be_read(run: Command, hub: Hub, store: StoreBuilder, damaged: dict[str, bytes]) -> None:
    with bind_mount(store.hub, store.hub, read_only=True):
        assert run("verify", NAME).code == 6
        assert run(*REPAIR, env=hub.environ).code == 4
    assert shown(store) == damaged
    mended(run, hub, store)


@pytest.mark.sweep
def test_ctrl_c_keeps_what_has_arrived(run: Command, hub: Hub, store: StoreBuilder, damaged: dict[str, bytes]) -> None:
    slow = hub.fault(faults.slow(rate=2 * MIB), path="/_cdn/*", times=None)
    process = run.start(*REPAIR, env=hub.environ)
    until(lambda: written(process.pid) > MIB)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr.splitlines()[-2]) == (130, f"error: the repair of `{NAME}` was interrupted")
    assert shown(store)[WEIGHTS] == damaged[WEIGHTS]
    slow.times = 0
    before = hub.bodies()
    mended(run, hub, store)
    assert hub.bodies() - before < len(FILES[WEIGHTS])


@pytest.mark.sweep
@pytest.mark.usefixtures("damaged")
def test_two_at_once(run: Command, hub: Hub, store: StoreBuilder) -> None:
    held = hub.fault(faults.stall(seconds=20, after=MIB), path="/_cdn/*")
    first = run.start(*REPAIR, "--json", env=hub.environ)
    until(lambda: held.count > 0)
    # It is at work on the model: that is no time to look.
    second = run(*REPAIR, env=hub.environ)
    assert second.code == 8
    assert "`modelctl verify --repair` (pid" in second.stderr
    hub.restart()
    stdout, _ = first.communicate(timeout=60)
    assert json.loads(stdout.splitlines()[-1])["event"] == "done"
    mended(run, hub, store)


@pytest.mark.sweep
def test_an_interrupted_pull_comes_to_its_end_first(run: Command, hub: Hub, store: StoreBuilder) -> None:
    commit = store.add(NAME, files=FILES)
    hub.add(NAME, files=FILES)
    paths = store.paths(NAME)
    paths.private.mkdir()
    names = [*FILES]
    paths.pull_record.write_text(
        json.dumps({"schema": 1, "commit": commit, "revision": "main", "files": names, "total": 1, "done_before": 0})
    )
    entry(store, WEIGHTS).unlink()
    paths.ref("main").unlink()
    done = run(*REPAIR, env=hub.environ)
    assert (done.code, done.stderr.splitlines()[-1]) == (6, f"hint: `modelctl pull {NAME}`")
    assert hub.asked == []
    assert run("pull", NAME, env=hub.environ).code == 0
    mended(run, hub, store)


@pytest.mark.sweep
def test_what_was_imported_is_imported_again(run: Command, hub: Hub, store: StoreBuilder, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, data in FILES.items():
        if "/" not in name:
            (folder / name).write_bytes(data)
    assert run("import", folder, "--as", NAME, "--force").code == 0
    flip(store.blob(NAME, WEIGHTS), 11)
    done = run(*REPAIR, env=hub.environ)
    fix = f"modelctl import {folder} --as {NAME} --force"
    assert (done.code, done.stderr.splitlines()[-1]) == (6, f"hint: `{fix}`")
    assert hub.asked == []
    assert run(*fix.split()[1:]).code == 0
    assert run("verify", NAME).code == 0


def states(run: Command, hub: Hub, store: StoreBuilder, *, count: int | None) -> Iterator[None]:
    hub.add(NAME, files=FILES)
    store.add(NAME, files=FILES)
    flip(store.blob(NAME, WEIGHTS), 3 * MIB)
    store.blob(NAME, "tokenizer.json").write_bytes(b"")
    entry(store, "config.json").unlink()
    damaged = shown(store)
    shutil.copytree(store.hub, store.hub.with_name("before"), symlinks=True)

    def prepare() -> None:
        shutil.rmtree(store.hub)
        shutil.copytree(store.hub.with_name("before"), store.hub, symlinks=True)

    crashes = Crashes(run, (store.hub,), env=hub.environ, may_vary=True)
    for killed in crashes.each(*REPAIR, prepare=prepare, count=count):
        for name, data in shown(store).items():
            assert data in {damaged.get(name, FILES[name]), FILES[name]}, (killed, name)
        assert set(shown(store)) >= set(damaged), killed
        listed = run("list", "--json")
        assert listed.code == 0, (killed, listed)
        (model,) = listed.json["models"]
        for problem in model["problems"]:
            # Where it was interrupted, the same command is named.
            assert problem["kind"] != "interrupted" or problem["fix"] == f"modelctl verify --repair {NAME}", killed
        assert [path.name for path in store.paths(NAME).refs.iterdir()] == ["main"], killed
        mended(run, hub, store)
        yield


@pytest.mark.sweep
def test_every_kill(run: Command, hub: Hub, store: StoreBuilder) -> None:
    assert len(list(states(run, hub, store, count=None))) > 10


def test_a_sample_of_kills(run: Command, hub: Hub, store: StoreBuilder) -> None:
    assert list(states(run, hub, store, count=1))
