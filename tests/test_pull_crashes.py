"""A pull killed before any of its changes to the disk: what is left is understood, and the next pull completes it."""

import json
import shutil
from collections.abc import Mapping

import pytest

from tests.command import Command
from tests.crashes import Crashes
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import BIN, MIB, NAME, blobs_are_true, content, content_of, leftovers, weights


def safetensors(size: int) -> bytes:
    """A well-formed file with one tensor of `size` bytes."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + weights(size)


FILES: Mapping[str, bytes] = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b"{}",
    "1/deep.json": b"[]",
    "model.safetensors": safetensors(5 * MIB),
}
OLD: Mapping[str, bytes] = {**FILES, "config.json": b"{}", "model.safetensors": safetensors(100)}


def sweep(
    run: Command, hub: Hub, store: StoreBuilder, *, count: int | None, update: bool, cache: StoreBuilder | None = None
) -> None:
    if cache:
        # One that a second name is given to, one that is damaged, and a small one.
        cache.add(NAME, files=FILES)
        cache.blob(NAME, "tokenizer.json").write_bytes(b"[]")
    old = hub.add(NAME, files=OLD) if update else None
    if update:
        assert run("pull", NAME, "--all-files", "--no-use", env=hub.environ).code == 0
        shutil.copytree(store.hub, store.hub.with_name("before"), symlinks=True)
    new = hub.add(NAME, files=FILES)

    def prepare() -> None:
        shutil.rmtree(store.hub, ignore_errors=True)
        if update:
            shutil.copytree(store.hub.with_name("before"), store.hub, symlinks=True)

    argv = ("pull", NAME, "--all-files", "--no-use", "--max-workers", "1")
    crashes = Crashes(run, (store.hub,), env=hub.environ, may_vary=True)
    ls = [str(BIN / "hf"), "cache", "ls", "--format", "json"]
    for killed in crashes.each(*argv, prepare=prepare, count=count):
        named = store.paths(NAME).ref("main")
        assert not named.exists() or named.read_text() in {old, new}, killed
        if named.exists():
            assert content(store) == (OLD if named.read_text() == old else FILES), killed
        listed = run("list", "--json")
        assert listed.code == 0, (killed, listed)
        models = [model for model in listed.json["models"] if model["location"] == "project"]
        for model in models:
            # Before its first record is there, a pull has left an empty folder and nothing else.
            empty = [problem["kind"] for problem in model["problems"]] == ["no_revision"]
            # Only the ref may be missing from what is called whole.
            whole = model["state"] == "ready" and content_of(store.paths(NAME).snapshot(new)) == FILES
            told = model["state"] == "partial" or named.exists() or empty or whole
            assert told, (killed, model["state"], model["problems"])
        if models:
            assert run("rm", NAME, "--dry-run").code == 0, killed
        if store.hub.exists():
            seen = run.program(ls, env={**hub.environ, "HF_HUB_CACHE": str(store.hub)})
            assert seen.code == 0, (killed, seen)
            # What was whole before stays so for every other tool.
            assert not update or NAME in seen.stdout, (killed, seen)
        done = run(*argv, env=hub.environ)
        assert done.code == 0, (killed, done)
        assert content(store) == FILES, killed
        assert blobs_are_true(store), killed
        assert leftovers(store) == [], (killed, done)


@pytest.mark.parametrize("update", ["fresh", "update"])
def test_a_sample_of_kills(run: Command, hub: Hub, store: StoreBuilder, update: str) -> None:
    sweep(run, hub, store, count=2, update=update == "update")


def test_a_sample_of_kills_while_a_cache_is_reused(
    run: Command, hub: Hub, store: StoreBuilder, cache: StoreBuilder
) -> None:
    sweep(run, hub, store, count=1, update=False, cache=cache)


@pytest.mark.sweep
def test_every_kill_while_a_cache_is_reused(run: Command, hub: Hub, store: StoreBuilder, cache: StoreBuilder) -> None:
    sweep(run, hub, store, count=None, update=False, cache=cache)


@pytest.mark.sweep
@pytest.mark.parametrize("update", ["fresh", "update"])
def test_every_kill(run: Command, hub: Hub, store: StoreBuilder, update: str) -> None:
    sweep(run, hub, store, count=None, update=update == "update")
