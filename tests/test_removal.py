"""Removal at the level of the store: what goes, what stays, what a kill leaves."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir
from huggingface_hub.utils import _shared_blobs

from modelctl.errors import BusyError, ModelctlError, NotFoundError
from modelctl.progress import Silence
from modelctl.store import deletion, layout, links, lock, removal, scan, shared, trash
from modelctl.store.removal import RemovalResult, Target
from tests.command import Command
from tests.crashes import Content, Crashes, Killed, held
from tests.disks import disk_use
from tests.second_opinion import accepted, loads
from tests.stores import StoreBuilder

WEIGHTS = {"model.safetensors": b"w" * 300_000}
SAMPLE = [pytest.param(3), pytest.param(None, marks=pytest.mark.sweep)]


# What lies in the place of a part of a model.
DAMAGE: dict[str, dict[str, Callable[[Path], None]]] = {
    "file": {"": Path.touch},
    "nothing in it": {"": Path.mkdir},
    "link to nowhere": {"": lambda path: path.symlink_to("nowhere")},
    "fifo": {"": os.mkfifo},
    "no blobs": {"blobs": lambda _: None},
    "no snapshots": {"snapshots": lambda _: None},
    "file for snapshots": {"snapshots": Path.touch},
    "fifo for a ref": {"refs/main": os.mkfifo},
    "folder for a ref": {"refs/main": Path.mkdir},
    "link for a ref": {"refs/main": lambda path: path.symlink_to("/etc/passwd")},
    "file among snapshots": {"snapshots/odd": Path.touch},
    "fifo among snapshots": {"snapshots/odd": os.mkfifo},
    "name that is no text": {os.fsdecode(b"\xff\xfe"): Path.mkdir},
}


def remove(store: StoreBuilder, model_id: str, *revisions: str) -> RemovalResult:
    plan = removal.plan(store.hub, [Target(store.paths(model_id), revisions)])
    return removal.execute(plan, Silence())


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestWhole:
    def test_nothing_is_left_of_it(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        result = remove(store, "acme/tiny")
        assert not result.failures
        assert everything(store.hub) == [".locks", "CACHEDIR.TAG"]

    def test_freed_is_what_the_disk_got_back(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        store.add("acme/other")
        before = disk_use(store.hub)
        result = remove(store, "acme/tiny")
        assert result.freed == before - disk_use(store.hub) > 0

    def test_a_content_with_another_name_outside_is_not_counted(self, store: StoreBuilder, tmp_path: Path) -> None:
        store.add("acme/tiny", files={"config.json": "{}"}, lfs=WEIGHTS)
        os.link(store.blob("acme/tiny", "model.safetensors"), tmp_path / "kept")
        plan = removal.plan(store.hub, [Target(store.paths("acme/tiny"))])
        assert plan.size > 300_000 > plan.frees
        assert removal.execute(plan, Silence()).freed == plan.frees

    def test_the_planned_bytes_are_those_of_the_disk(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        plan = removal.plan(store.hub, [Target(store.paths("acme/tiny"))])
        assert plan.frees == disk_use(store.paths("acme/tiny").folder)

    def test_a_plan_writes_nothing(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        before = everything(store.hub)
        removal.plan(store.hub, [Target(store.paths("acme/tiny"))])
        assert everything(store.hub) == before

    def test_unknown_models_are_all_named_and_nothing_goes(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        targets = [Target(store.paths(name)) for name in ("acme/tiny", "acme/no", "acme/none")]
        with pytest.raises(NotFoundError, match=r"`acme/no`, `acme/none`"):
            removal.plan(store.hub, targets)
        assert accepted(store.hub)


class TestRevision:
    @pytest.fixture
    def two(self, store: StoreBuilder) -> tuple[str, str]:
        """Two revisions that share one of their contents."""
        old = store.add("acme/tiny", files={"config.json": "{}", "old.txt": "old"}, lfs=WEIGHTS, revision="v1")
        new = store.add("acme/tiny", files={"config.json": "{}", "new.txt": "new"}, lfs=WEIGHTS)
        return old, new

    @pytest.mark.parametrize("named", ["v1", "commit", "short"])
    def test_only_what_is_its_own_goes(self, store: StoreBuilder, two: tuple[str, str], named: str) -> None:
        old, new = two
        before = disk_use(store.paths("acme/tiny").folder)
        result = remove(store, "acme/tiny", {"v1": "v1", "commit": old, "short": old[:7]}[named])
        assert accepted(store.hub) == {"acme/tiny": {new}}
        assert {path.name for path in loads(store.hub, "acme/tiny").iterdir()} == {
            "config.json",
            "new.txt",
            "model.safetensors",
        }
        assert len(list(store.paths("acme/tiny").blobs.iterdir())) == 3
        assert not store.paths("acme/tiny").tree(old).exists()
        assert result.freed == before - disk_use(store.paths("acme/tiny").folder) > 0

    def test_what_others_use_is_named(self, store: StoreBuilder, two: tuple[str, str]) -> None:
        (planned,) = removal.plan(store.hub, [Target(store.paths("acme/tiny"), ("v1",))]).removals
        assert [(kept.size, kept.why) for kept in planned.kept] == [(300_002, "other revisions use it too")]
        assert planned.commits == two[:1]

    def test_a_tag_of_what_another_ref_names_goes_alone(self, store: StoreBuilder, two: tuple[str, str]) -> None:
        paths = store.paths("acme/tiny")
        paths.ref("latest").write_text(two[1])
        (planned,) = removal.plan(store.hub, [Target(paths, ("latest",))]).removals
        assert (planned.refs, planned.commits, planned.whole) == (("latest",), (), False)
        assert planned.kept[0].why == "`main` names the same revision"
        remove(store, "acme/tiny", "latest")
        assert accepted(store.hub) == {"acme/tiny": set(two)}
        assert not paths.ref("latest").exists()

    def test_a_commit_takes_all_its_refs(self, store: StoreBuilder, two: tuple[str, str]) -> None:
        paths = store.paths("acme/tiny")
        paths.ref("refs/pr").mkdir(parents=True)
        paths.ref("refs/pr/1").write_text(two[0])
        remove(store, "acme/tiny", two[0])
        assert set(links.read(paths).refs) == {"main"}
        assert accepted(store.hub) == {"acme/tiny": {two[1]}}

    def test_the_last_revision_takes_the_model(self, store: StoreBuilder, two: tuple[str, str]) -> None:
        remove(store, "acme/tiny", *two)
        assert everything(store.hub) == [".locks", "CACHEDIR.TAG"]

    def test_both_refs_of_one_revision_take_it(self, store: StoreBuilder, two: tuple[str, str]) -> None:
        store.paths("acme/tiny").ref("latest").write_text(two[1])
        remove(store, "acme/tiny", "latest", "main")
        assert accepted(store.hub) == {"acme/tiny": {two[0]}}

    @pytest.mark.usefixtures("two")
    def test_blobs_that_an_interrupted_pull_brought_stay(self, store: StoreBuilder) -> None:
        paths = store.paths("acme/tiny")
        store.add("acme/tiny", files={"config.json": "{}", "old.txt": "old"}, revision="v3")
        third = paths.ref("v3").read_text()
        shutil.rmtree(paths.snapshot(third))
        paths.ref("v3").unlink()
        paths.private.mkdir()
        record = f'{{"commit":"{third}","revision":"v3","files":["old.txt"],"total":3,"owner":null}}'
        paths.pull_record.write_text(record)
        remove(store, "acme/tiny", "v1")
        assert {blob.read_bytes()[:3] for blob in paths.blobs.iterdir()} >= {b"old", b"new"}

    @pytest.mark.usefixtures("two")
    def test_unknown_revisions_are_named(self, store: StoreBuilder) -> None:
        with pytest.raises(NotFoundError, match=r"`acme/tiny@v9`, `acme/tiny@abc`"):
            removal.plan(store.hub, [Target(store.paths("acme/tiny"), ("v9", "v1", "abc"))])

    @pytest.mark.parametrize("content", ["", "../../../..", "../../blobs", "\n", "main"])
    def test_what_a_ref_says_never_becomes_a_path(self, store: StoreBuilder, content: str) -> None:
        commit = store.add("acme/tiny")
        store.add("acme/other")
        store.paths("acme/tiny").ref("bad").write_text(content)
        remove(store, "acme/tiny", "bad")
        assert accepted(store.hub) == {"acme/tiny": {commit}, "acme/other": {commit}}
        loads(store.hub, "acme/tiny")


class TestShared:
    def test_the_payload_goes_with_its_last_user(self, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        store.add("acme/two", files={"config.json": "2"}, lfs=WEIGHTS, kind="shared")
        payload = store.blob("acme/one", "model.safetensors")
        refs = payload.with_name(f"{payload.name}.refs")
        plan = removal.plan(store.hub, [Target(store.paths("acme/one"))])
        assert plan.frees < 300_000
        assert [kept.why for kept in plan.removals[0].kept] == ["`acme/two` uses it too"]
        removal.execute(plan, Silence())
        assert refs.read_text() == f"models--acme--two/blobs/{_digest(store, 'acme/two')}\n"
        loads(store.hub, "acme/two")
        assert set(accepted(store.hub)) == {"acme/two"}
        result = remove(store, "acme/two")
        assert result.freed >= 300_000
        assert not payload.exists()
        assert not refs.exists()
        assert accepted(store.hub) == {}

    def test_both_at_once_free_it_once(self, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        store.add("acme/two", files={"config.json": "2"}, lfs=WEIGHTS, kind="shared")
        before = disk_use(store.hub)
        plan = removal.plan(store.hub, [Target(store.paths(name)) for name in ("acme/one", "acme/two")])
        result = removal.execute(plan, Silence())
        assert plan.frees == result.freed
        assert result.freed == before - disk_use(store.hub)

    def test_of_one_revision(self, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, revision="v1", kind="shared")
        new = store.add(
            "acme/one", files={"config.json": "2"}, lfs={"model.safetensors": b"n" * 200_000}, kind="shared"
        )
        payload = store.blob("acme/one", "model.safetensors", revision="v1")
        result = remove(store, "acme/one", "v1")
        assert result.freed >= 300_000
        assert not payload.exists()
        assert accepted(store.hub) == {"acme/one": {new}}
        loads(store.hub, "acme/one")

    def test_a_link_that_no_list_names_counts(self, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        shutil.copytree(store.paths("acme/one").folder, store.paths("acme/two").folder, symlinks=True)
        remove(store, "acme/one")
        loads(store.hub, "acme/two")

    def test_an_unreadable_list_keeps_the_payload(self, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        payload = store.blob("acme/one", "model.safetensors")
        payload.with_name(f"{payload.name}.refs").write_bytes(b"\xff\xfe")
        plan = removal.plan(store.hub, [Target(store.paths("acme/one"))])
        assert [kept.why for kept in plan.removals[0].kept] == ["nobody can tell who else uses it"]
        removal.execute(plan, Silence())
        assert payload.exists()

    def test_a_missing_list_keeps_nothing_that_nobody_uses(self, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        payload = store.blob("acme/one", "model.safetensors")
        payload.with_name(f"{payload.name}.refs").unlink()
        remove(store, "acme/one")
        assert not payload.exists()

    def test_it_waits_for_whoever_holds_the_payload(self, store: StoreBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shared, "_LONGEST_WAIT", 0.2)
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        payload = store.blob("acme/one", "model.safetensors")
        with shared.locked(payload):
            result = remove(store, "acme/one")
        assert [type(failure.error) for failure in result.failures] == [BusyError]
        assert payload.exists()
        assert accepted(store.hub) == {}

    def test_a_foreign_blobs_folder_is_left_alone(self, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        payload = store.blob("acme/one", "model.safetensors")
        (store.hub / "blobs" / layout.SHARED_MARKER).unlink()
        remove(store, "acme/one")
        assert payload.exists()


class TestSecondOpinion:
    """huggingface_hub's own housekeeping finds nothing to do after ours, and ours waits for it."""

    def test_nothing_is_left_for_it(self, store: StoreBuilder) -> None:
        for name in ("acme/one", "acme/two"):
            store.add(name, files={"config.json": name}, lfs=WEIGHTS, kind="shared")
        remove(store, "acme/one")
        assert _shared_blobs.unreferenced_shared_blobs(store.hub) == {}
        payload = store.blob("acme/two", "model.safetensors")
        (commit,) = accepted(store.hub)["acme/two"]
        scan_cache_dir(store.hub).delete_revisions(commit).execute()
        assert not payload.exists()

    def test_what_it_shares_is_understood(self, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS)
        blob, xet = store.blob("acme/one", "model.safetensors"), "ab" * 32
        done = _shared_blobs.publish_blob_to_shared_store(
            blob_path=str(blob), xet_hash=xet, cache_dir=store.hub, expected_size=blob.stat().st_size
        )
        assert (done, blob.is_symlink()) == (True, True)
        assert links.read(store.paths("acme/one")).payloads.keys() == {store.hub / "blobs" / "ab" / xet}
        assert remove(store, "acme/one").freed >= 300_000
        assert _shared_blobs.shared_store_blob_paths(store.hub) == set()

    def test_its_lock_is_ours(self, store: StoreBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shared, "_LONGEST_WAIT", 0.2)
        store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        payload = store.blob("acme/one", "model.safetensors")
        with _shared_blobs._shared_blob_lock(payload), pytest.raises(BusyError), shared.locked(payload):
            pass


class TestDamage:
    """Whatever lies there can be removed, and nothing outside of the store goes with it."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "precious").write_text("keep me")
        return folder

    def test_links_are_never_followed(self, store: StoreBuilder, outside: Path) -> None:
        commit = store.add("acme/tiny")
        paths = store.paths("acme/tiny")
        (paths.snapshot(commit) / "to-file").symlink_to(outside / "precious")
        (paths.snapshot(commit) / "to-folder").symlink_to(outside)
        (paths.blobs / "odd").symlink_to(outside / "precious")
        remove(store, "acme/tiny", commit)
        assert everything(outside) == ["precious"]
        assert not paths.folder.exists()

    def test_a_snapshot_that_is_a_link(self, store: StoreBuilder, outside: Path) -> None:
        commit = store.add("acme/tiny", revision="v1")
        store.add("acme/tiny", files={"a": "a"})
        paths = store.paths("acme/tiny")
        shutil.rmtree(paths.snapshot(commit))
        paths.snapshot(commit).symlink_to(outside)
        remove(store, "acme/tiny", "v1")
        assert everything(outside) == ["precious"]
        assert set(links.read(paths).refs) == {"main"}

    @pytest.mark.parametrize("part", ["blobs", "snapshots", "refs"])
    def test_a_part_that_is_a_link(self, store: StoreBuilder, outside: Path, part: str) -> None:
        store.add("acme/tiny")
        folder = store.paths("acme/tiny").folder / part
        shutil.rmtree(folder)
        folder.symlink_to(outside)
        remove(store, "acme/tiny")
        assert everything(outside) == ["precious"]
        assert everything(store.hub) == [".locks", "CACHEDIR.TAG"]

    def test_a_model_that_is_a_link(self, store: StoreBuilder, outside: Path) -> None:
        store.add("acme/tiny")
        paths = store.paths("acme/tiny")
        shutil.move(paths.folder, outside / "moved")
        paths.folder.symlink_to(outside / "moved")
        with pytest.raises(ModelctlError, match="is a link to"):
            removal.plan(store.hub, [Target(paths, ("main",))])
        result = remove(store, "acme/tiny")
        assert result.freed == 0
        assert not paths.folder.is_symlink()
        assert (outside / "moved" / "snapshots").is_dir()

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_damaged(self, store: StoreBuilder, damage: str) -> None:
        store.add("acme/tiny")
        for part, now in DAMAGE[damage].items():
            path = store.paths("acme/tiny").folder / part
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            now(path)
        assert not remove(store, "acme/tiny").failures
        assert everything(store.hub) == [".locks", "CACHEDIR.TAG"]

    def test_a_folder_whose_name_is_no_id(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        odd = store.hub / "models--acme--name--with--dashes"
        store.paths("acme/tiny").folder.rename(odd)
        plan = removal.plan(store.hub, [Target(layout.paths_at(odd))])
        removal.execute(plan, Silence())
        assert everything(store.hub) == [".locks", "CACHEDIR.TAG"]

    def test_other_kinds_of_repositories_stay(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        shutil.copytree(store.paths("acme/tiny").folder, store.hub / "datasets--acme--tiny", symlinks=True)
        remove(store, "acme/tiny")
        assert (store.hub / "datasets--acme--tiny").is_dir()

    def test_locks_on_another_file_system(self, store: StoreBuilder, elsewhere: Path) -> None:
        store.add("acme/tiny")
        shutil.rmtree(store.hub / ".locks", ignore_errors=True)
        (store.hub / ".locks").symlink_to(elsewhere)
        assert not remove(store, "acme/tiny").failures
        assert everything(store.hub) == [".locks", "CACHEDIR.TAG"]


class TestBusy:
    def test_a_model_that_is_being_pulled(self, store: StoreBuilder, run: Command) -> None:
        store.add("acme/tiny")
        program = (
            "import sys; from pathlib import Path\n"
            "from modelctl.store import lock; from modelctl.store.layout import RepoPaths\n"
            "with lock.held(RepoPaths(Path(sys.argv[1]), 'acme/tiny'), 'pull'): print('held', flush=True); input()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, store.hub], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None
            assert other.stdin is not None
            assert other.stdout.readline() == "held\n"
            done = run("rm", "acme/tiny", "--yes")
            other.stdin.write("\n")
        assert (done.code, done.stdout) == (8, "")
        assert f"error: `acme/tiny` is in use by `modelctl pull` (pid {other.pid})" in done.stderr
        assert accepted(store.hub)

    def test_a_model_that_hf_is_downloading(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        paths = store.paths("acme/tiny")
        paths.locks.mkdir(parents=True)
        with paths.blob_lock("a" * 40).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            result = remove(store, "acme/tiny")
            assert [type(failure.error) for failure in result.failures] == [BusyError]
            assert accepted(store.hub)
        assert not remove(store, "acme/tiny").failures
        assert everything(store.hub) == [".locks", "CACHEDIR.TAG"]

    def test_a_model_that_is_being_served(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        store.add("acme/other")
        plan = removal.plan(store.hub, [Target(store.paths(name)) for name in ("acme/other", "acme/tiny")])
        with pytest.raises(BusyError, match="`acme/tiny` is being served by pid 7"):
            removal.execute(plan, Silence(), busy={"acme/tiny": "pid 7"})
        assert len(accepted(store.hub)) == 2

    def test_one_that_is_busy_does_not_hold_up_the_rest(self, store: StoreBuilder) -> None:
        store.add("acme/one")
        store.add("acme/two")
        plan = removal.plan(store.hub, [Target(store.paths(name)) for name in ("acme/one", "acme/two")])
        store.paths("acme/one").locks.mkdir(parents=True)
        with store.paths("acme/one").blob_lock("a" * 40).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            result = removal.execute(plan, Silence())
        assert [failure.id for failure in result.failures] == ["acme/one"]
        assert set(accepted(store.hub)) == {"acme/one"}


class TestLeftovers:
    def test_those_of_a_process_that_lives_are_left_alone(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        store.add("acme/other")
        aside = trash.set_aside(store.hub, store.paths("acme/tiny").folder)
        assert trash.leftovers(store.hub) == ()
        remove(store, "acme/other")
        assert aside.path.is_dir()

    def test_those_of_a_process_that_is_gone_are_freed_and_counted(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        store.add("acme/other")
        aside = trash.set_aside(store.hub, store.paths("acme/tiny").folder)
        size = disk_use(aside.path)
        aside.path.rename(aside.path.with_name("models--acme--tiny.4194999-1.00000000"))
        plan = removal.plan(store.hub, [Target(store.paths("acme/other"))])
        assert plan.leftover_size == size
        assert removal.execute(plan, Silence()).leftovers_freed == size
        assert everything(store.hub) == [".locks", "CACHEDIR.TAG"]

    def test_what_is_no_entry_of_ours_stays(self, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        layout.trash(store.hub).mkdir(parents=True)
        (layout.trash(store.hub) / "notes.txt").write_text("?")
        remove(store, "acme/tiny")
        assert everything(store.hub) == [
            ".locks",
            ".locks/.modelctl-trash",
            ".locks/.modelctl-trash/notes.txt",
            "CACHEDIR.TAG",
        ]


class TestKilled:
    """Killed before any of its changes: no half model shows, nothing else is touched, and once more finishes it."""

    @pytest.fixture
    def crashes(self, run: Command, store: StoreBuilder) -> Crashes:
        return Crashes(run, roots=(store.hub,))

    @pytest.mark.parametrize("count", SAMPLE)
    @pytest.mark.parametrize("kind", ["links", "shared", pytest.param("copies", marks=pytest.mark.sweep)])
    def test_whole(self, store: StoreBuilder, crashes: Crashes, run: Command, kind: str, count: int | None) -> None:
        def prepare() -> None:
            shutil.rmtree(store.hub, ignore_errors=True)
            store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, kind=kind)  # type: ignore[arg-type]
            store.add("acme/two", files={"config.json": "2"}, lfs=WEIGHTS, kind=kind)  # type: ignore[arg-type]

        prepare()
        others = {content for content in held(store.hub) if content[0] == "models--acme--two"}
        for killed in crashes.each("rm", "acme/one", "--yes", prepare=prepare, count=count):
            _check_honest(store, others, killed.call)
            _finish(run, store, "acme/one", killed)
            assert held(store.hub) == others, killed
            _check_payloads(store, used=kind == "shared")
            assert accepted(store.hub)

    @pytest.mark.parametrize("count", SAMPLE)
    @pytest.mark.parametrize("kind", ["links", "shared"])
    def test_revision(self, store: StoreBuilder, crashes: Crashes, run: Command, kind: str, count: int | None) -> None:
        def prepare() -> None:
            shutil.rmtree(store.hub, ignore_errors=True)
            old = {"config.json": "1", "same": "same"}
            store.add("acme/one", files=old, lfs=WEIGHTS, revision="v1", kind=kind)  # type: ignore[arg-type]
            store.add("acme/one", files={"config.json": "2", "same": "same"}, kind=kind)  # type: ignore[arg-type]

        prepare()
        old = store.paths("acme/one").ref("v1").read_text()
        others = {content for content in held(store.hub) if content[1] != old}
        for killed in crashes.each("rm", "acme/one@v1", "--yes", prepare=prepare, count=count):
            _check_honest(store, others, killed.call)
            accepted(store.hub)
            _finish(run, store, "acme/one@v1", killed)
            assert held(store.hub) == others, killed
            assert len(list(store.paths("acme/one").blobs.iterdir())) == 2, killed
            _check_payloads(store, used=False)
            loads(store.hub, "acme/one")


def _check_honest(store: StoreBuilder, others: set[Content], call: str) -> None:
    """What is listed as whole is whole, and what was not to be removed is."""
    there = held(store.hub)
    assert there >= others, call
    for model in scan.scan_hub(store.hub, "project"):
        for revision in model.revisions:
            dangling = [file.name for file in revision.files if file.blob is None]
            assert not dangling, (call, model.id, dangling)


def _finish(run: Command, store: StoreBuilder, name: str, killed: Killed) -> None:
    """Run the same command again: it finishes what there is to finish, and calls unknown what is all gone."""
    done = run("rm", name, "--yes")
    if done.code == 3:
        assert deletion.weigh(aside.path for aside in trash.leftovers(store.hub)) == (0, 0), killed
    else:
        assert (done.code, trash.leftovers(store.hub)) == (0, ()), killed


def _check_payloads(store: StoreBuilder, *, used: bool) -> None:
    payloads = [path for path in store.hub.glob("blobs/*/*") if not path.suffix]
    assert len(payloads) == used
    assert len(list(store.hub.glob("blobs/*/*.refs"))) == used


def _digest(store: StoreBuilder, model_id: str) -> str:
    return next(blob.name for blob in store.paths(model_id).blobs.iterdir() if layout.is_sha256(blob.name))


def test_the_lock_outlives_its_folder(store: StoreBuilder) -> None:
    store.add("acme/tiny")
    with lock.held(store.paths("acme/other"), "pull"):
        remove(store, "acme/tiny")
    assert lock.holder(store.paths("acme/other")) is None
