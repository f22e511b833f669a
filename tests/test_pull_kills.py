"""One pull, killed at many moments: each time the store tells the truth, and little is fetched twice."""

import contextlib
import random
import signal
import subprocess

import pytest

from tests.command import Command
from tests.hub import faults
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import MIB, NAME, await_word, blobs_are_true, content, content_of, leftovers, until
from tests.test_pull_crashes import safetensors

KILLS = 30
# What an interruption may cost for each file in flight.
AGAIN = 16 * MIB
CDN = "/_cdn/*"


def three_large_files() -> dict[str, bytes]:
    """More than a pull gets before it is killed, so that what it does not keep shows in what is fetched in all."""
    shards = {f"model-{at}-of-3.safetensors": safetensors(64 * MIB + at) for at in (1, 2, 3)}
    return {"config.json": b'{"architectures": ["LlamaForCausalLM"]}', "tokenizer.json": b"{}", **shards}


@pytest.mark.sweep
def test_killed_at_thirty_random_moments(run: Command, hub: Hub, store: StoreBuilder) -> None:
    files = three_large_files()
    commit, size = hub.add(NAME, files=files), sum(map(len, files.values()))
    # So fast that a pull that began anew each time would soon have fetched more than the bound allows.
    hub.fault(faults.slow(rate=24 * MIB), path=CDN, times=None)
    moments, killed, killed_of_this = random.Random(30), 0, 0  # noqa: S311 - test data
    while killed < KILLS:
        pull = run.start("pull", NAME, "--max-workers", "3", env=hub.environ)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # From before its first file to when much has come.
            pull.wait(moments.uniform(0.1, 2.5))
        if pull.poll() is None:
            killed, killed_of_this = killed + 1, killed_of_this + 1
        pull.send_signal(signal.SIGKILL)
        pull.communicate(timeout=10)
        assert pull.returncode in {0, -signal.SIGKILL}
        assert hub.bodies() <= size + killed_of_this * 3 * AGAIN
        listed = run("list", "--json")
        assert listed.code == 0, listed
        for model in listed.json["models"]:
            if model["state"] == "ready":
                assert content_of(store.paths(NAME).snapshot(commit)) == files, killed
        if store.paths(NAME).ref("main").exists():
            assert content(store) == files
            # It came to its end: what is killed from here on is the next one.
            assert run("rm", NAME, "--yes").code == 0
            hub.asked.clear()
            killed_of_this = 0
    hub.faults.clear()
    assert run("pull", NAME, env=hub.environ).code == 0
    assert content(store) == files
    assert blobs_are_true(store)
    assert leftovers(store) == []


@pytest.mark.sweep
def test_who_waits_takes_over_from_one_that_is_killed(run: Command, hub: Hub, store: StoreBuilder) -> None:
    files = three_large_files()
    hub.add(NAME, files=files)
    # The first one is at work on it until it is killed.
    slow = hub.fault(faults.slow(rate=2 * MIB), path=CDN, times=None)
    first = run.start("pull", NAME, env=hub.environ)
    until(lambda: bool(list(store.paths(NAME).partials.glob("*.json"))))
    second = run.start("pull", NAME, env=hub.environ)
    await_word(second, "waiting for it")
    slow.times = 0
    first.kill()
    first.communicate(timeout=10)
    _, stderr = second.communicate(timeout=60)
    assert second.returncode == 0, stderr
    assert content(store) == files
    assert hub.bodies() <= sum(map(len, files.values())) + 3 * AGAIN
    assert leftovers(store) == []


@pytest.mark.sweep
def test_killed_between_two_contents_of_a_branch(run: Command, hub: Hub, store: StoreBuilder) -> None:
    """The branch moves while nobody pulls: what is there of the old commit is not taken for the new one's."""
    old, new = three_large_files(), {**three_large_files(), "model-2-of-3.safetensors": safetensors(64 * MIB - 5)}
    hub.add(NAME, files=old)
    hub.fault(faults.slow(rate=4 * MIB), path=CDN, times=None)
    pull = run.start("pull", NAME, env=hub.environ)
    until(lambda: len(list(store.paths(NAME).partials.glob("*.json"))) == 3)
    pull.kill()
    pull.communicate(timeout=10)
    hub.faults.clear()
    hub.add(NAME, files=new)
    assert run("pull", NAME, env=hub.environ).code == 0
    assert content(store) == new
    assert blobs_are_true(store)
    assert {model["state"] for model in run("list", "--json").json["models"]} == {"ready"}
    # What is left of the old content is known, for as long as a pull of the old commit could go on with it.
    (left,) = run("prune", "--dry-run", "--json").json["staying"]
    assert (left["kind"], left["id"]) == ("pull", NAME)
    assert left["size"] > 0
