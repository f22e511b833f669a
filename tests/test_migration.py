"""Migration at the level of the store: how a model comes over, what stays, what a kill leaves."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from modelctl.errors import BusyError, ModelctlError, NoRoomError, NotWholeError
from modelctl.progress import Silence
from modelctl.store import imports, layout, lock, migration, naming, scan, shared
from modelctl.store.migration import MigrationPlan, MigrationResult
from modelctl.store.route import Terms
from tests.command import Command
from tests.crashes import Crashes, held
from tests.disks import bind_mount, small_disk
from tests.second_opinion import accepted, loads
from tests.stores import Layout, StoreBuilder

WEIGHTS = {"model.safetensors": b"w" * 300_000}


def plan(cache: StoreBuilder, store: StoreBuilder, *names: str, keep: bool = False) -> MigrationPlan:
    targets = naming.targets(cache.hub, names, parts=False) if names else naming.all_targets(cache.hub)
    return migration.plan(cache.hub, store.hub, targets, terms=Terms("copy" if keep else "move"))


def migrate(cache: StoreBuilder, store: StoreBuilder, *names: str, keep: bool = False) -> MigrationResult:
    return migration.execute(plan(cache, store, *names, keep=keep), Silence())


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def models_in(folder: Path) -> list[str]:
    return [name for name in everything(folder) if name.startswith("models--")]


@pytest.fixture
def far(elsewhere: Path) -> StoreBuilder:
    """A project's store on another file system than the cache."""
    return StoreBuilder(elsewhere / "models" / "hub")


class TestRename:
    def test_no_byte_is_written(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        commit = cache.add("acme/tiny")
        before = held(cache.hub)
        inode = cache.blob("acme/tiny", "model.safetensors").stat().st_ino
        planned = plan(cache, store)
        assert [(move.way, move.writes, move.merges) for move in planned.moves] == [("rename", 0, False)]
        result = migration.execute(planned, Silence())
        assert not result.failures
        assert held(store.hub) == before
        assert store.blob("acme/tiny", "model.safetensors").stat().st_ino == inode
        assert accepted(store.hub) == {"acme/tiny": {commit}}
        loads(store.hub, "acme/tiny")
        assert everything(cache.hub) == [".locks", "CACHEDIR.TAG"]

    def test_a_plan_writes_nothing(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny", kind="shared")
        before = everything(cache.hub)
        plan(cache, store)
        assert everything(cache.hub) == before
        assert not store.hub.exists()

    def test_unfinished_downloads_are_left_out(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny")
        (cache.paths("acme/tiny").blobs / f"{'a' * 64}.12345678.incomplete").write_bytes(b"x" * 1000)
        planned = plan(cache, store)
        assert planned.moves[0].left_out == 1000
        migration.execute(planned, Silence())
        assert not list(store.hub.rglob("*.incomplete"))
        assert accepted(store.hub)

    def test_one_revision_of_two(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        old = cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS, revision="v1")
        new = cache.add("acme/tiny", files={"config.json": "2"}, lfs=WEIGHTS)
        result = migrate(cache, store, "acme/tiny@v1")
        assert [moved.way for moved in result.moved] == ["move"]
        assert accepted(store.hub) == {"acme/tiny": {old}}
        assert accepted(cache.hub) == {"acme/tiny": {new}}
        loads(store.hub, "acme/tiny", "v1")
        loads(cache.hub, "acme/tiny")
        assert not store.paths("acme/tiny").ref("main").exists()

    def test_a_half_model_comes_as_it_is(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny")
        cache.blob("acme/tiny", "model.safetensors").unlink()
        before = held(cache.hub)
        assert not migrate(cache, store).failures
        assert held(store.hub) == before

    def test_other_kinds_of_repositories_stay(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny")
        shutil.copytree(cache.paths("acme/tiny").folder, cache.hub / "datasets--acme--tiny", symlinks=True)
        migrate(cache, store)
        assert everything(cache.hub)[2].startswith("datasets--acme--tiny")


class TestLinks:
    """What leads out of the model still leads there, and what it shares becomes its own."""

    def test_a_relative_link_to_the_outside(self, cache: StoreBuilder, store: StoreBuilder, tmp_path: Path) -> None:
        commit = cache.add("acme/tiny")
        (tmp_path / "extra").write_text("from outside")
        entry = cache.paths("acme/tiny").entry(commit, "extra.txt")
        entry.symlink_to(os.path.relpath(tmp_path / "extra", entry.parent))
        before = held(cache.hub)
        migrate(cache, store)
        assert held(store.hub) == before
        assert store.paths("acme/tiny").entry(commit, "extra.txt").readlink() == tmp_path / "extra"

    @pytest.mark.parametrize("target", ["near", "far"])
    def test_full_paths_to_its_own_blobs(
        self, cache: StoreBuilder, target: str, request: pytest.FixtureRequest
    ) -> None:
        there: StoreBuilder = request.getfixturevalue("store" if target == "near" else "far")
        commit = cache.add("acme/tiny")
        for entry in cache.paths("acme/tiny").snapshot(commit).iterdir():
            blob = entry.resolve()
            entry.unlink()
            entry.symlink_to(blob)
        before = held(cache.hub)
        migrate(cache, there)
        assert held(there.hub) == before
        assert not cache.paths("acme/tiny").folder.exists()
        loads(there.hub, "acme/tiny")

    def test_an_entry_that_leads_to_another_entry(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "{}"}, kind="copies", tree=False)
        entry = cache.paths("acme/tiny").entry(commit, "same.json")
        entry.symlink_to(entry.with_name("config.json").absolute())
        before = held(cache.hub)
        assert plan(cache, store).moves[0].way == "move"
        migrate(cache, store)
        assert held(store.hub) == before

    @pytest.mark.parametrize("part", ["", "blobs", "snapshots"])
    def test_a_folder_that_is_a_link_is_not_moved(
        self, cache: StoreBuilder, store: StoreBuilder, tmp_path: Path, part: str
    ) -> None:
        cache.add("acme/tiny")
        cache.add("acme/other")
        folder = cache.paths("acme/tiny").folder / part
        shutil.move(folder, tmp_path / "moved")
        folder.symlink_to(tmp_path / "moved")
        before = held(cache.hub)
        result = migrate(cache, store)
        assert [failure.id for failure in result.failures] == ["acme/tiny"]
        assert "link" in result.failures[0].error.message
        assert [moved.move.source.id for moved in result.moved] == ["acme/other"]
        assert held(cache.hub, store.hub) == before


class TestInterruptedAtTheSource:
    @pytest.mark.parametrize("what", ["import", "pull"])
    def test_what_could_go_on_there_stays(self, cache: StoreBuilder, far: StoreBuilder, what: str) -> None:
        """Neither is part of what comes over, and neither is lost."""
        cache.add("acme/tiny", files={"config.json": "{}"}, lfs=WEIGHTS)
        paths = cache.paths("acme/tiny")
        if what == "import":
            imports.write(paths, imports.ImportRecord("/home/ada/tune", "v2"))
        place = paths.imported / "files" / "x" if what == "import" else paths.partial("a" * 64)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"half")
        before = held(cache.hub)
        planned = plan(cache, far)
        assert planned.moves[0].left_out == 0
        assert not migration.execute(planned, Silence()).failures
        assert held(far.hub) == before
        assert place.read_bytes() == b"half"
        assert not paths.snapshots.exists() or not list(paths.snapshots.iterdir())
        if what == "import":
            (model,) = scan.scan_hub(cache.hub, "cache")
            fixes = [problem.fix for problem in model.problems]
            assert (model.state, fixes) == ("partial", ["modelctl import /home/ada/tune --as acme/tiny@v2"])


class TestShared:
    def test_a_payload_of_nobody_else_moves_in(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "{}"}, lfs=WEIGHTS, kind="shared")
        payload = cache.blob("acme/tiny", "model.safetensors")
        inode = payload.stat().st_ino
        result = migrate(cache, store)
        assert [moved.way for moved in result.moved] == ["rename"]
        assert store.blob("acme/tiny", "model.safetensors").stat().st_ino == inode
        assert store.blob("acme/tiny", "model.safetensors").parent == store.paths("acme/tiny").blobs.resolve()
        assert not payload.exists()
        assert not payload.with_name(f"{payload.name}.refs").exists()
        assert accepted(store.hub)
        loads(store.hub, "acme/tiny")

    @pytest.mark.sweep
    def test_a_list_is_written_once_for_all_who_leave_it(
        self, run: Command, cache: StoreBuilder, store: StoreBuilder, far: StoreBuilder
    ) -> None:
        """It has a line for each model: written for each of them, a thousand models would take a minute."""
        for at in range(12):
            cache.add(f"acme/m{at:02}", files={"config.json": f"{at}"}, lfs=WEIGHTS, kind="shared")
        payload = cache.blob("acme/m00", "model.safetensors")
        lines = payload.with_name(f"{payload.name}.refs")
        for there, glob, left in ((store, "acme/m0[0-4]", 7), (far, "acme/m0*", 2)):
            argv = ("migrate", "--from-cache", glob, "--yes", "--models-dir", there.hub.parent)
            calls = Crashes(run, (cache.hub, there.hub)).calls(*argv)
            assert len([call for call in calls if call.startswith("os.rename") and f"{payload.name}.refs" in call]) == 1
            assert len(lines.read_text().splitlines()) == left
        assert run("rm", "--cache", "acme/m10", "--yes").code == 0
        assert lines.read_text().split("/")[0] == "models--acme--m11"
        assert run("rm", "--cache", "acme/m11", "--yes").code == 0
        assert not payload.exists()
        assert not lines.exists()

    def test_a_payload_of_others_stays_theirs(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        for name in ("acme/one", "acme/two"):
            cache.add(name, files={"config.json": name}, lfs=WEIGHTS, kind="shared")
        payload = cache.blob("acme/one", "model.safetensors")
        before = held(cache.hub)
        migrate(cache, store, "acme/one")
        assert held(cache.hub, store.hub) == before
        refs = payload.with_name(f"{payload.name}.refs").read_text()
        assert [line.split("/")[0] for line in refs.splitlines()] == ["models--acme--two"]
        loads(cache.hub, "acme/two")
        loads(store.hub, "acme/one")
        assert store.blob("acme/one", "model.safetensors").parent.parent.name == "models--acme--one"
        # No byte twice, and none left behind when both are gone from the cache.
        assert store.blob("acme/one", "model.safetensors").samefile(payload)
        migrate(cache, store)
        assert held(store.hub) == before
        assert not payload.exists()
        assert accepted(cache.hub) == {}
        assert len(accepted(store.hub)) == 2

    def test_across_file_systems(self, cache: StoreBuilder, far: StoreBuilder) -> None:
        for name in ("acme/one", "acme/two"):
            cache.add(name, files={"config.json": name}, lfs=WEIGHTS, kind="shared")
        payload = cache.blob("acme/one", "model.safetensors")
        before = held(cache.hub)
        migrate(cache, far, "acme/one")
        assert held(cache.hub, far.hub) == before
        loads(far.hub, "acme/one")
        assert payload.exists()
        migrate(cache, far)
        assert held(far.hub) == before
        assert not payload.exists()
        assert accepted(cache.hub) == {}

    def test_a_copy_leaves_everything(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "{}"}, lfs=WEIGHTS, kind="shared")
        before, names = held(cache.hub), models_in(cache.hub)
        migrate(cache, store, keep=True)
        assert held(cache.hub) == held(store.hub) == before
        assert models_in(cache.hub) == names
        loads(store.hub, "acme/tiny")
        assert not store.blob("acme/tiny", "model.safetensors").samefile(cache.blob("acme/tiny", "model.safetensors"))

    def test_a_payload_that_is_missing_was_missing_before(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "{}"}, lfs=WEIGHTS, kind="shared")
        cache.blob("acme/tiny", "model.safetensors").unlink()
        before = held(cache.hub)
        assert not migrate(cache, store).failures
        assert held(store.hub) == before

    def test_it_waits_for_whoever_holds_the_payload(
        self, cache: StoreBuilder, store: StoreBuilder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shared, "_LONGEST_WAIT", 0.2)
        cache.add("acme/tiny", files={"config.json": "{}"}, lfs=WEIGHTS, kind="shared")
        before = held(cache.hub)
        with shared.locked(cache.blob("acme/tiny", "model.safetensors")):
            result = migrate(cache, store)
        assert [type(failure.error) for failure in result.failures] == [BusyError]
        assert held(cache.hub) == before
        assert not migrate(cache, store).failures


class TestCopy:
    @pytest.mark.parametrize("kind", ["links", "shared", "copies"])
    def test_all_of_it_arrives_and_leaves(self, cache: StoreBuilder, far: StoreBuilder, kind: Layout) -> None:
        commit = cache.add("acme/tiny", kind=kind)
        before = held(cache.hub)
        result = migrate(cache, far)
        assert [moved.way for moved in result.moved] == ["copy"]
        assert held(far.hub) == before
        assert models_in(cache.hub) == []
        assert accepted(far.hub) == {"acme/tiny": {commit}}
        loads(far.hub, "acme/tiny")
        assert [model.state for model in scan.scan_hub(far.hub, "project")] == ["ready"]
        assert far.paths("acme/tiny").tree(commit).is_file()
        # What the cache kept without links is in the usual layout now, each content once.
        assert all(path.is_symlink() for path in far.paths("acme/tiny").snapshot(commit).iterdir())

    def test_files_that_nothing_names_by_hash(self, cache: StoreBuilder, far: StoreBuilder) -> None:
        cache.add("acme/tiny", kind="copies", tree=False)
        before = held(cache.hub)
        migrate(cache, far)
        assert held(far.hub) == before
        assert models_in(cache.hub) == []

    def test_names_in_folders_and_what_the_hub_lacks(self, cache: StoreBuilder, far: StoreBuilder) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "{}", "a/b/c.txt": "deep"})
        absent = cache.paths("acme/tiny").folder / ".no_exist" / commit / "x" / "adapter_config.json"
        absent.parent.mkdir(parents=True)
        absent.touch()
        cache.paths("acme/tiny").ref("refs/pr").mkdir(parents=True)
        cache.paths("acme/tiny").ref("refs/pr/1").write_text(commit)
        before = held(cache.hub)
        migrate(cache, far)
        assert held(far.hub) == before
        assert (far.paths("acme/tiny").folder / ".no_exist" / commit / "x" / "adapter_config.json").is_file()
        assert far.paths("acme/tiny").ref("refs/pr/1").read_text() == commit
        loads(far.hub, "acme/tiny", "refs/pr/1")

    @pytest.mark.parametrize("how", ["altered", "cut"])
    @pytest.mark.parametrize("keep", [False, True])
    def test_a_damaged_blob_stops_its_model_only(
        self, cache: StoreBuilder, far: StoreBuilder, how: str, *, keep: bool
    ) -> None:
        for name in ("acme/bad", "acme/good"):
            cache.add(name, files={"config.json": name}, lfs=WEIGHTS)
        blob = cache.blob("acme/bad", "model.safetensors")
        blob.write_bytes(b"x" * 300_000 if how == "altered" else b"w" * 299_999)
        before = held(cache.hub)
        result = migrate(cache, far, keep=keep)
        assert [(failure.id, type(failure.error)) for failure in result.failures] == [("acme/bad", NotWholeError)]
        assert {content for content in held(cache.hub) if "bad" in content[0]} <= before
        assert set(accepted(far.hub)) == {"acme/good"}
        assert set(accepted(cache.hub)) == ({"acme/bad", "acme/good"} if keep else {"acme/bad"})
        assert not far.paths("acme/bad").folder.exists()
        assert held(cache.hub, far.hub) >= before

    def test_content_of_a_small_file_is_proven_too(self, cache: StoreBuilder, far: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "{}", "a.txt": "right"})
        cache.blob("acme/tiny", "a.txt").write_text("wrong")
        result = migrate(cache, far)
        assert "its content does not match its name" in result.failures[0].error.message

    def test_what_arrived_before_a_kill_is_not_copied_again(self, cache: StoreBuilder, far: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "{}"}, lfs={**WEIGHTS, "b.safetensors": b"b" * 100_000})
        blobs = far.paths("acme/tiny").blobs
        blobs.mkdir(parents=True)
        proven = cache.blob("acme/tiny", "model.safetensors")
        shutil.copyfile(proven, blobs / proven.name)
        inode = (blobs / proven.name).stat().st_ino
        planned = plan(cache, far)
        assert planned.writes == 100_002
        migration.execute(planned, Silence())
        assert far.blob("acme/tiny", "model.safetensors").stat().st_ino == inode
        loads(far.hub, "acme/tiny")

    def test_what_did_not_arrive_whole_is_copied_again(self, cache: StoreBuilder, far: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "{}"}, lfs=WEIGHTS)
        before = held(cache.hub)
        blobs = far.paths("acme/tiny").blobs
        blobs.mkdir(parents=True)
        (blobs / cache.blob("acme/tiny", "model.safetensors").name).write_bytes(b"?" * 300_000)
        assert not migrate(cache, far).failures
        assert held(far.hub) == before

    def test_the_time_of_a_blob_is_kept(self, cache: StoreBuilder, far: StoreBuilder) -> None:
        cache.add("acme/tiny")
        os.utime(cache.blob("acme/tiny", "config.json"), ns=(10**18, 10**18))
        migrate(cache, far)
        assert far.blob("acme/tiny", "config.json").stat().st_mtime_ns == 10**18

    def test_two_mounts_of_one_disk(self, cache: StoreBuilder, tmp_path: Path) -> None:
        cache.add("acme/tiny")
        before = held(cache.hub)
        (tmp_path / "behind").mkdir()
        with bind_mount(tmp_path / "behind", tmp_path / "a mount" / "models") as models:
            there = StoreBuilder(models / "hub")
            planned = plan(cache, there)
            assert [move.way for move in planned.moves] == ["copy"]
            migration.execute(planned, Silence())
            assert held(there.hub) == before


class Filler(Silence):
    """Somebody else who fills the disk while the migration runs."""

    def __init__(self, path: Path, *, size: int) -> None:
        self.path = path
        self.size = size

    def begin(self, what: str, *, total: int | None) -> None:
        del what, total
        self.path.write_bytes(b"x" * self.size)


class TestRoom:
    def test_too_little_is_found_before_anything_moves(self, cache: StoreBuilder, tmp_path: Path) -> None:
        for name in ("acme/one", "acme/two", "acme/three"):
            cache.add(name, files={"config.json": name}, lfs={"model.safetensors": name.encode() * 100_000})
        before = everything(cache.hub)
        with small_disk(tmp_path / "disk", 2 * 1024 * 1024) as disk:
            with pytest.raises(NoRoomError, match="bytes have to be written"):
                migrate(cache, StoreBuilder(disk / "hub"))
            assert everything(disk) == []
            assert everything(cache.hub) == before
            assert not migrate(cache, StoreBuilder(disk / "hub"), "acme/one").failures

    def test_a_disk_that_fills_up_on_the_way(self, cache: StoreBuilder, tmp_path: Path) -> None:
        for name in ("acme/one", "acme/two"):
            cache.add(name, files={"config.json": name}, lfs={"model.safetensors": name.encode() * 100_000})
        before = held(cache.hub)
        with small_disk(tmp_path / "disk", 4 * 1024 * 1024) as disk:
            there = StoreBuilder(disk / "hub")
            result = migration.execute(plan(cache, there), Filler(disk / "filler", size=2_700_000))
            assert [type(failure.error) for failure in result.failures] == [NoRoomError]
            assert held(cache.hub, there.hub) == before
            (disk / "filler").unlink()
            assert not migrate(cache, there).failures
            assert held(there.hub) == before
            assert models_in(cache.hub) == []


class TestMerge:
    def test_revisions_and_refs_are_united(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        one = cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS, revision="v1")
        two = store.add("acme/tiny", files={"config.json": "2"}, lfs=WEIGHTS)
        before = held(cache.hub, store.hub)
        inode = store.blob("acme/tiny", "model.safetensors").stat().st_ino
        planned = plan(cache, store)
        assert [(move.way, move.merges, move.writes) for move in planned.moves] == [("move", True, 0)]
        migration.execute(planned, Silence())
        assert held(store.hub) == before
        assert accepted(store.hub) == {"acme/tiny": {one, two}}
        assert store.blob("acme/tiny", "model.safetensors").stat().st_ino == inode
        assert models_in(cache.hub) == []
        assert all(blob.stat().st_nlink == 1 for blob in store.paths("acme/tiny").blobs.iterdir())

    def test_a_ref_that_differs_stays_and_is_named(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "1"})
        mine = store.add("acme/tiny", files={"config.json": "2"})
        planned = plan(cache, store)
        assert planned.moves[0].refs_kept == ("main",)
        migration.execute(planned, Silence())
        assert store.paths("acme/tiny").ref("main").read_text() == mine
        assert len(accepted(store.hub)["acme/tiny"]) == 2

    @pytest.mark.parametrize("target", ["near", "far"])
    def test_the_same_model_twice_becomes_one(
        self, cache: StoreBuilder, target: str, request: pytest.FixtureRequest
    ) -> None:
        there: StoreBuilder = request.getfixturevalue("store" if target == "near" else "far")
        for builder in (cache, there):
            builder.add("acme/tiny")
        before = held(cache.hub)
        planned = plan(cache, there)
        assert planned.writes == 0
        migration.execute(planned, Silence())
        assert held(there.hub) == before
        assert models_in(cache.hub) == []

    def test_a_half_revision_is_completed(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        commit = cache.add("acme/tiny")
        store.add("acme/tiny")
        store.paths("acme/tiny").entry(commit, "config.json").unlink()
        store.blob("acme/tiny", "model.safetensors").unlink()
        before = held(cache.hub)
        migrate(cache, store)
        assert held(store.hub) == before
        loads(store.hub, "acme/tiny")

    def test_a_damaged_blob_of_the_target_is_replaced(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny")
        store.add("acme/tiny")
        blob = store.blob("acme/tiny", "model.safetensors")
        blob.write_bytes(b"x" * blob.stat().st_size)
        before = held(cache.hub)
        migrate(cache, store)
        assert held(store.hub) == before

    def test_content_that_differs_where_it_must_not(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "{}", "a.txt": "right"})
        store.add("acme/tiny", files={"config.json": "{}", "a.txt": "right"})
        entry = store.paths("acme/tiny").entry(commit, "a.txt")
        entry.unlink()
        entry.write_text("mine!")
        before = held(cache.hub, store.hub)
        result = migrate(cache, store)
        assert "both should be the same file" in result.failures[0].error.message
        assert held(cache.hub, store.hub) == before

    def test_a_file_in_the_place_of_the_model(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny")
        cache.add("acme/other")
        store.hub.mkdir(parents=True)
        store.paths("acme/tiny").folder.touch()
        before = held(cache.hub)
        result = migrate(cache, store)
        assert [failure.id for failure in result.failures] == ["acme/tiny"]
        assert held(cache.hub, store.hub) == before

    def test_into_a_store_with_shared_blobs(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS, revision="v1")
        store.add("acme/tiny", files={"config.json": "2"}, lfs=WEIGHTS, kind="shared")
        before = held(cache.hub, store.hub)
        migrate(cache, store)
        assert held(store.hub) == before
        assert accepted(store.hub)
        loads(store.hub, "acme/tiny", "v1")


class TestBusy:
    def test_a_model_that_hf_is_downloading(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny")
        cache.add("acme/other")
        paths = cache.paths("acme/tiny")
        paths.locks.mkdir(parents=True)
        with paths.blob_lock("a" * 64).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            result = migrate(cache, store)
        assert [(failure.id, type(failure.error)) for failure in result.failures] == [("acme/tiny", BusyError)]
        assert set(accepted(cache.hub)) == {"acme/tiny"}
        assert set(accepted(store.hub)) == {"acme/other"}
        assert not migrate(cache, store).failures
        assert everything(cache.hub) == [".locks", "CACHEDIR.TAG"]

    @pytest.mark.parametrize("side", ["source", "target"])
    def test_a_model_that_another_process_changes(self, cache: StoreBuilder, store: StoreBuilder, side: str) -> None:
        cache.add("acme/tiny")
        store.hub.mkdir(parents=True)
        with lock.held((cache if side == "source" else store).paths("acme/tiny"), "pull"):
            result = migrate(cache, store)
        assert [type(failure.error) for failure in result.failures] == [BusyError]
        assert accepted(cache.hub)

    def test_a_model_that_is_being_served(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny")
        result = migration.execute(plan(cache, store), Silence(), busy={"acme/tiny": "pid 7"})
        assert [failure.error.message for failure in result.failures] == ["`acme/tiny` is being served by pid 7"]
        # A copy takes nothing away from it.
        result = migration.execute(plan(cache, store, keep=True), Silence(), busy={"acme/tiny": "pid 7"})
        assert not result.failures


class TestObstacles:
    @pytest.mark.parametrize("damage", ["no snapshots", "file"])
    def test_what_has_no_revision_is_reported(self, cache: StoreBuilder, store: StoreBuilder, damage: str) -> None:
        cache.add("acme/tiny")
        cache.add("acme/other")
        folder = cache.paths("acme/tiny").folder
        shutil.rmtree(folder if damage == "file" else folder / "snapshots")
        if damage == "file":
            folder.touch()
        result = migrate(cache, store)
        assert [failure.id for failure in result.failures] == ["acme/tiny"]
        assert set(accepted(store.hub)) == {"acme/other"}

    def test_the_models_folder_is_a_file(self, cache: StoreBuilder, tmp_path: Path) -> None:
        cache.add("acme/tiny")
        (tmp_path / "file").touch()
        with pytest.raises(ModelctlError, match="is a file where a folder should be"):
            migrate(cache, StoreBuilder(tmp_path / "file" / "hub"))
        assert accepted(cache.hub)


def test_names_of_targets(cache: StoreBuilder, store: StoreBuilder) -> None:
    cache.add("acme/tiny")
    (cache.hub / "models--acme--name--with--dashes").mkdir()
    assert [target.paths.folder.name for target in naming.all_targets(cache.hub)] == [
        "models--acme--name--with--dashes",
        "models--acme--tiny",
    ]
    assert layout.trash(store.hub).parent.name == ".locks"
