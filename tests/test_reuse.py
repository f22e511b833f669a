"""A pull takes what the disk has already, from wherever it lies, but only what is proven."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelctl.hub import plan as planning
from modelctl.hub import pull
from modelctl.hub.client import Hub as Remote
from modelctl.hub.plan import Choice
from modelctl.hub.workers import Limits
from modelctl.progress import Silence
from modelctl.ref import ModelRef
from modelctl.store import twins
from modelctl.store.twins import Twin
from tests.command import NOBODY, Command
from tests.disks import small_disk
from tests.hub.loopback import Hub
from tests.stores import Layout, StoreBuilder
from tests.test_pull import MIB, NAME, blobs_are_true, content, leftovers, weights

SIZE = 5 * MIB
FILES = {"config.json": b"{}", "tokenizer.json": b'{"a": 1}', "model.safetensors": weights(SIZE)}


def sources(run: Command, hub: Hub, *argv: str) -> dict[str, str]:
    """Where a pull would have each file from."""
    planned = run("pull", NAME, "--dry-run", "--json", *argv, env=hub.environ).json["models"][0]
    return {file["name"]: file["source"] for file in planned["files"]}


@pytest.mark.parametrize("kind", ["links", "shared", "copies"])
def test_what_the_users_cache_has_is_not_fetched(
    run: Command, hub: Hub, store: StoreBuilder, cache: StoreBuilder, kind: Layout
) -> None:
    hub.add(NAME, files=FILES)
    cache.add(NAME, files=FILES, kind=kind)
    before = sorted(cache.hub.rglob("*"))
    assert sources(run, hub) == dict.fromkeys(FILES, "reuse")
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0, done.stderr
    assert hub.bodies("*.json") + hub.bodies("model.safetensors") == 0
    assert "  to reuse: 3 files, 5.2 MB that the disk has already, once proven\n" in done.stderr
    assert f"  `modelctl migrate --from-cache {NAME}` moves what your own cache has of it here" in done.stderr
    assert done.stdout.endswith("; nothing to fetch, reused 5.2 MB)\n")
    assert content(store) == FILES
    assert blobs_are_true(store)
    assert leftovers(store) == []
    # One content on the disk, under two names.
    assert cache.blob(NAME, "model.safetensors").samefile(store.blob(NAME, "model.safetensors"))
    assert sorted(cache.hub.rglob("*")) == before


def test_large_contents_are_found_in_other_models(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=FILES)
    store.add("acme/other", files={**FILES, "config.json": b'{"other": 1}'})
    assert sources(run, hub) == {name: "reuse" if name == "model.safetensors" else "fetch" for name in FILES}
    planned = run("pull", NAME, "--dry-run", "--json", env=hub.environ).json["models"][0]
    origins = {file["name"]: file["origin"] for file in planned["files"]}
    assert origins["model.safetensors"] == str(store.blob("acme/other", "model.safetensors"))
    assert origins["config.json"] is None
    done = run("pull", NAME, "--json", env=hub.environ)
    assert done.events[-1]["models"][0]["reused"] == SIZE
    assert "migrate" not in done.stderr
    assert content(store) == FILES


def test_no_reuse_fetches_all(run: Command, hub: Hub, store: StoreBuilder, cache: StoreBuilder) -> None:
    hub.add(NAME, files=FILES)
    cache.add(NAME, files=FILES)
    assert sources(run, hub, "--no-reuse") == dict.fromkeys(FILES, "fetch")
    assert run("pull", NAME, "--no-reuse", env=hub.environ).code == 0
    assert not cache.blob(NAME, "model.safetensors").samefile(store.blob(NAME, "model.safetensors"))


def test_a_damaged_twin_is_found_out_and_fetched(
    run: Command, hub: Hub, store: StoreBuilder, cache: StoreBuilder
) -> None:
    hub.add(NAME, files=FILES)
    cache.add(NAME, files=FILES)
    twin = cache.blob(NAME, "model.safetensors")
    twin.write_bytes(weights(SIZE, seed=2))
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0, done.stderr
    assert f"`{twin}` is not what `model.safetensors` should be, so that is fetched\n" in done.stderr
    assert content(store) == FILES
    assert leftovers(store) == []
    assert twin.read_bytes() == weights(SIZE, seed=2)


def test_what_another_revision_holds_is_proven_before_the_new_one_shows_it(
    run: Command, hub: Hub, store: StoreBuilder
) -> None:
    hub.add(NAME, files=FILES)
    assert run("pull", NAME, env=hub.environ).code == 0
    hub.add(NAME, files={**FILES, "config.json": b'{"new": 1}'})
    store.blob(NAME, "model.safetensors").write_bytes(weights(SIZE, seed=2))
    assert sources(run, hub) == {name: "fetch" if name == "config.json" else "reuse" for name in FILES}
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0, done.stderr
    assert "is not what `model.safetensors` should be" in done.stderr
    assert content(store)["model.safetensors"] == FILES["model.safetensors"]
    assert blobs_are_true(store)


def test_on_another_file_system_it_is_copied(run: Command, hub: Hub, cache: StoreBuilder, elsewhere: Path) -> None:
    hub.add(NAME, files=FILES)
    cache.add(NAME, files=FILES)
    done = run("pull", NAME, "--models-dir", elsewhere, env=hub.environ)
    assert done.code == 0, done.stderr
    assert "reused 5.2 MB" in done.stdout
    assert content(StoreBuilder(elsewhere / "hub")) == FILES


def test_of_anothers_file_a_copy_is_made(run: Command, hub: Hub, store: StoreBuilder, cache: StoreBuilder) -> None:
    hub.add(NAME, files=FILES)
    cache.add(NAME, files=FILES)
    os.chown(run.project / "models", NOBODY, NOBODY)
    done = run("pull", NAME, "--no-use", env=hub.environ, user=NOBODY)
    assert done.code == 0, done.stderr
    assert "reused" in done.stdout
    assert {path.stat().st_uid for path in store.paths(NAME).blobs.iterdir()} == {NOBODY}


def test_a_cached_commit_needs_no_hub(run: Command, cache: StoreBuilder, store: StoreBuilder) -> None:
    commit = cache.add(NAME, files=FILES)
    done = run("pull", f"{NAME}@{commit}", "--no-use", env={"HF_HUB_OFFLINE": "1"})
    assert done.code == 0, done.stderr
    assert {path.name for path in store.paths(NAME).snapshot(commit).iterdir()} == set(FILES)
    branch = run("pull", "acme/tiny@main", env={"HF_HUB_OFFLINE": "1"})
    assert branch.code == 7


def test_offline_a_cached_branch_names_migrate(run: Command, cache: StoreBuilder) -> None:
    cache.add(NAME, files=FILES)
    done = run("pull", NAME, env={"HF_HUB_OFFLINE": "1"})
    assert done.code == 7
    assert f"hint: what your cache has of it can be brought here: `modelctl migrate --from-cache {NAME}`" in done.stderr


def test_models_that_fit_one_by_one_and_not_together_are_refused_beforehand(
    run: Command, hub: Hub, tmp_path: Path
) -> None:
    hub.add("acme/one", files={**FILES, "model.safetensors": weights(20 * MIB)})
    hub.add("acme/two", files={**FILES, "model.safetensors": weights(20 * MIB, seed=2)})
    with small_disk(tmp_path / "small", 48 * MIB) as disk:
        dry = run("pull", "acme/one", "acme/two", "--dry-run", "--models-dir", disk, env=hub.environ)
        assert dry.code == 0
        assert ": that is too little\n" in dry.stderr
        done = run("pull", "acme/one", "acme/two", "--models-dir", disk, env=hub.environ)
        assert done.code == 5
        assert "`acme/one` and `acme/two` need " in done.stderr
        assert hub.bodies("model.safetensors") == 0
        assert run("pull", "acme/one", "--models-dir", disk, env=hub.environ).code == 0


def _go(blob: Path) -> None:
    blob.unlink()


def _lead_elsewhere(blob: Path) -> None:
    """As tools do that keep one blob for several models: the link leads somewhere from its own folder alone."""
    blob.rename(blob.parent.parent / blob.name)
    blob.symlink_to(f"../{blob.name}")


@pytest.mark.parametrize("change", [_go, pytest.param(_lead_elsewhere, marks=pytest.mark.sweep)])
def test_a_twin_that_changes_meanwhile_is_fetched(
    hub: Hub, store: StoreBuilder, cache: StoreBuilder, change: Callable[[Path], None]
) -> None:
    hub.add(NAME, files=FILES)
    cache.add(NAME, files=FILES)
    remote = Remote(hub.url)
    planned = planning.plan(remote, store.hub, ModelRef(NAME), choice=Choice(), caches=[cache.hub])
    assert {file.source for file in planned.files} == {"reuse"}
    for blob in list(cache.paths(NAME).blobs.iterdir()):
        change(blob)
    result = pull.execute(planned, remote, Silence(), limits=Limits())
    assert (result.reused, result.fetched) == (0, planned.size)
    assert content(store) == FILES
    assert not any(blob.is_symlink() for blob in store.paths(NAME).blobs.iterdir())


def test_a_twin_that_cannot_be_read_is_none(store: StoreBuilder) -> None:
    # A file like any other that fails at the first byte, as on a failing disk.
    broken = Twin("a" * 64, SIZE, Path("/proc/self/mem"), "copy")
    assert twins.bring(store.paths(NAME), [broken], Silence(), base=0) == frozenset()
    assert list(store.paths(NAME).partials.iterdir()) == []
