"""Pruning at the level of the store: what goes, what stays and why, what a kill leaves."""

import fcntl
import json
import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from modelctl import process, project
from modelctl.progress import Silence
from modelctl.store import lock, pruning, shared, standing, trash
from modelctl.store.pruning import PruningPlan, PruningResult
from modelctl.store.superseded import Choice
from tests.checkpoints import generator
from tests.command import Command
from tests.crashes import Crashes, held
from tests.disks import disk_use
from tests.second_opinion import accepted
from tests.stores import Layout, StoreBuilder

NAME = "acme/tiny"
WEIGHTS = b"w" * 300_000
WEEK = timedelta(days=7)
SHA = "a" * 64
DAY = 86_400
SAMPLE = [pytest.param(3), pytest.param(None, marks=pytest.mark.sweep)]
# The process that was killed: no other has this start time.
DEAD = {**process.to_json(process.this_process("pull")), "started": 1}


def planned(
    store: StoreBuilder, *, patience: timedelta = WEEK, revisions: Choice | None = None
) -> tuple[list[str], list[str]]:
    """What goes, and what stays: the kinds of both."""
    plan = pruning.plan(store.hub, patience=patience, revisions=revisions)
    return [left.kind for left in plan.going], [left.kind for left in plan.staying]


def prune(store: StoreBuilder, *, patience: timedelta = WEEK, revisions: Choice | None = None) -> PruningResult:
    plan = pruning.plan(store.hub, patience=patience, revisions=revisions)
    return pruning.execute(plan, Silence())


def put(path: Path, content: bytes = b"x" * 10_000, *, days: float = 1) -> Path:
    """A file that was last touched so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    aged(path, days)
    return path


def aged(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    for each in (path, *path.rglob("*")):
        os.utime(each, (then, then), follow_symlinks=False)


def interrupt(store: StoreBuilder, name: str = NAME, *, days: float = 1, update: bool = False) -> str:
    """A pull that was killed: one blob whole, one in part. With `update`, of a model that is here as it was before."""
    if update:
        store.add(name, files={"config.json": "old"})
    commit = store.add(name, files={"config.json": "{}"}, lfs={"model.safetensors": WEIGHTS}, revision="new")
    paths = store.paths(name)
    blob = store.blob(name, "model.safetensors", revision=commit)
    shutil.rmtree(paths.snapshot(commit))
    paths.ref("new").unlink()
    put(paths.partial(blob.name), WEIGHTS, days=days)
    blob.unlink()
    put(paths.journal(blob.name), json.dumps({"size": len(WEIGHTS), "received": [[0, 100]]}).encode(), days=days)
    record = {"schema": 1, "commit": commit, "revision": "main", "files": ["config.json"], "total": 300_002}
    put(paths.pull_record, json.dumps({**record, "done_before": 0, "owner": DEAD}).encode(), days=days)
    aged(paths.private, days)
    aged(paths.folder, days)
    if not update:
        for folder in (paths.snapshots, paths.refs):
            shutil.rmtree(folder)
    return commit


def update(store: StoreBuilder, *texts: str, name: str = NAME) -> list[str]:
    """A branch that moved on with each of these texts, as a pull does it, a day apart. Returns the commits."""
    commits: list[str] = []
    paths = store.paths(name)
    for text in texts:
        old = commits[-1] if commits else None
        commits.append(store.add(name, files=generator() | {"README.md": text.encode()}))
        standing.leave_behind(paths, old, ref="main", successor=commits[-1])
    for days, commit in enumerate(reversed(commits)):
        if paths.standing(commit).exists():
            aged(paths.standing(commit), days)
    return commits


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_store_with_nothing_to_prune(store: StoreBuilder) -> None:
    store.add(NAME)
    store.add("acme/shared", kind="shared")
    store.add("acme/copies", kind="copies")
    before = everything(store.hub)
    assert planned(store, patience=timedelta(0), revisions=Choice()) == ([], [])
    assert everything(store.hub) == before


def test_no_store_at_all(store: StoreBuilder) -> None:
    assert planned(store, revisions=Choice()) == ([], [])


class TestPulls:
    def test_a_young_one_stays_with_the_command_that_goes_on(self, store: StoreBuilder) -> None:
        interrupt(store)
        plan = pruning.plan(store.hub, patience=WEEK)
        assert plan.going == ()
        (left,) = plan.staying
        assert left.stays == f"`modelctl pull {NAME}` goes on with it"
        assert pruning.execute(plan, Silence()) == PruningResult((), (), 0)
        assert store.paths(NAME).pull_record.exists()

    @pytest.mark.parametrize(("days", "patience"), [(8, WEEK), (1, timedelta(0))])
    def test_an_old_one_goes_with_all_it_brought(self, store: StoreBuilder, days: float, patience: timedelta) -> None:
        interrupt(store, days=days)
        before = disk_use(store.paths(NAME).folder)
        result = prune(store, patience=patience)
        assert not result.failures
        assert result.freed == before
        assert not [name for name in everything(store.hub) if "tiny" in name]

    def test_of_an_update_the_model_stays_as_it_was(self, store: StoreBuilder) -> None:
        interrupt(store, days=8, update=True)
        paths = store.paths(NAME)
        result = prune(store)
        assert [left.kind for left in result.pruned] == ["pull"]
        assert not paths.private.exists()
        assert len(list(paths.blobs.iterdir())) == 1
        assert len(list((paths.folder / "trees").iterdir())) == 1
        assert len(accepted(store.hub)[NAME]) == 1

    def test_a_running_one_stays_however_old(self, store: StoreBuilder) -> None:
        interrupt(store, days=8)
        record = json.loads(store.paths(NAME).pull_record.read_text())
        record["owner"] = _parent()
        put(store.paths(NAME).pull_record, json.dumps(record).encode(), days=8)
        plan = pruning.plan(store.hub, patience=timedelta(0))
        assert plan.going == ()
        assert [left.stays for left in plan.staying] == [f"`modelctl pull` (pid {os.getppid()}) is at work on it"]

    def test_a_model_that_is_locked_stays(self, store: StoreBuilder) -> None:
        interrupt(store, days=8)
        plan = pruning.plan(store.hub, patience=WEEK)
        paths = store.paths(NAME)
        paths.lock.parent.mkdir(parents=True, exist_ok=True)
        with paths.lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(_parent()))
            file.flush()
            assert planned(store) == ([], ["pull"])
            result = pruning.execute(plan, Silence())
        assert [failure.id for failure in result.failures] == [NAME]
        assert paths.pull_record.exists()
        paths.lock.write_text("")
        assert prune(store).pruned

    def test_one_that_has_gone_on_in_the_meantime_stays(self, store: StoreBuilder) -> None:
        interrupt(store, days=8)
        plan = pruning.plan(store.hub, patience=WEEK)
        aged(store.paths(NAME).private, 0)
        assert pruning.execute(plan, Silence()) == PruningResult((), (), 0)
        assert store.paths(NAME).pull_record.exists()

    def test_one_of_another_machine_may_run_while_it_is_young(self, store: StoreBuilder) -> None:
        interrupt(store, days=0)
        record = store.paths(NAME).pull_record
        record.write_text(record.read_text().replace(DEAD["host"], "elsewhere"))
        (left,) = pruning.plan(store.hub, patience=timedelta(0)).staying
        assert left.stays == f"`modelctl pull` (pid {DEAD['pid']} on elsewhere) may be at work on it"

    def test_a_lock_of_a_process_that_nobody_sees(self, store: StoreBuilder) -> None:
        interrupt(store, days=8)
        with put(store.paths(NAME).lock, b"").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            (left,) = pruning.plan(store.hub, patience=WEEK).staying
        assert left.stays == "another process is at work on it"

    def test_partials_that_nothing_vouches_for_go(self, store: StoreBuilder) -> None:
        store.add(NAME)
        put(store.paths(NAME).partial(SHA), days=0)
        assert planned(store) == (["temporary"], [])
        prune(store)
        assert not store.paths(NAME).private.exists()

    def test_partials_without_a_record_wait_as_well(self, store: StoreBuilder) -> None:
        store.add(NAME)
        put(store.paths(NAME).partial(SHA), days=1)
        put(store.paths(NAME).journal(SHA), b'{"size": 10000, "received": [[0, 10]]}')
        aged(store.paths(NAME).private, 1)
        assert planned(store) == ([], ["pull"])
        assert planned(store, patience=timedelta(0)) == (["pull"], [])

    def test_a_migration_waits_as_well(self, store: StoreBuilder) -> None:
        store.add(NAME)
        paths = store.paths(NAME)
        put(paths.private / "incoming" / SHA)
        put(paths.blob("b" * 64))
        aged(paths.private, 1)
        assert planned(store) == ([], ["migration", "orphan"])
        assert planned(store, patience=timedelta(0)) == (["migration", "orphan"], [])
        prune(store, patience=timedelta(0))
        assert not paths.private.exists()


class TestDownloads:
    """Those of huggingface_hub, of which nothing is ever used again."""

    @pytest.mark.parametrize("name", [f"{SHA}.incomplete", f"{SHA}.0a1b2c3d.incomplete"])
    def test_one_whose_lock_is_free_goes_at_once(self, store: StoreBuilder, name: str) -> None:
        store.add(NAME)
        paths = store.paths(NAME)
        left = put(paths.blobs / name, days=0)
        put(paths.blob_lock(SHA), b"")
        assert prune(store).freed == 12288
        assert not left.exists()
        assert accepted(store.hub)

    @pytest.mark.parametrize("name", [f"{SHA}.incomplete", f"{SHA}.0a1b2c3d.incomplete"])
    def test_one_that_is_in_flight_stays(self, store: StoreBuilder, name: str) -> None:
        store.add(NAME)
        paths = store.paths(NAME)
        left = put(paths.blobs / name, days=30)
        plan = pruning.plan(store.hub, patience=WEEK)
        put(paths.blob_lock(SHA), b"")
        with paths.blob_lock(SHA).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert planned(store, patience=timedelta(0)) == ([], ["download"])
            result = pruning.execute(plan, Silence())
            assert [failure.id for failure in result.failures] == [NAME]
            assert left.exists()

    def test_a_lock_of_an_old_client_counts(self, store: StoreBuilder) -> None:
        store.add(NAME)
        paths = store.paths(NAME)
        put(paths.blobs / f"{SHA}.incomplete")
        with put(paths.blobs / f"{SHA}.lock", b"").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert planned(store) == ([], ["download"])
        assert planned(store) == (["download"], [])

    def test_without_a_lock_a_young_one_stays(self, store: StoreBuilder) -> None:
        store.add(NAME)
        left = put(store.paths(NAME).blobs / f"{SHA}.incomplete", days=0)
        (staying,) = pruning.plan(store.hub, patience=WEEK).staying
        assert staying.stays == "no lock tells whether it is in use, and it is young"
        aged(left, 0.1)
        assert planned(store) == (["download"], [])

    def test_a_young_one_beside_an_old_one(self, store: StoreBuilder) -> None:
        store.add(NAME)
        paths = store.paths(NAME)
        old, young = put(paths.blobs / f"{SHA}.incomplete"), put(paths.blobs / f"{'b' * 64}.incomplete", days=0)
        prune(store)
        assert (old.exists(), young.exists()) == (False, True)


class TestTemporaries:
    def test_what_our_own_killed_writers_left(self, store: StoreBuilder) -> None:
        store.add(NAME)
        paths = store.paths(NAME)
        put(paths.private / ".pull.json.0a1b2c3d.tmp", days=0)
        (paths.private / ".0a1b2c3d.tmp").symlink_to("nowhere")
        put(paths.standing("b" * 40), days=0)
        assert planned(store) == (["temporary"], [])
        prune(store)
        assert not paths.private.exists()

    def test_what_others_left_when_it_is_old(self, store: StoreBuilder) -> None:
        commit = store.add(NAME, kind="shared")
        paths = store.paths(NAME)
        names = [
            paths.folder / "trees" / "tmpab12cd_3.tmp",
            paths.refs / "main.0a1b2c3d.tmp",
            paths.blobs / "tmp_00000000-0000-0000-0000-000000000000",
            store.hub / ".locks" / ".CACHEDIR.TAG.0a1b2c3d.tmp",
            next((store.hub / "blobs").glob("*/*.refs")).parent / f"{SHA}.refs.0a1b2c3d.tmp",
        ]
        for path in names:
            put(path, days=0)
        names.append(paths.blobs / f".{SHA}.0a1b2c3d.shared")
        names[-1].symlink_to(next(path for path in paths.blobs.iterdir() if path.is_symlink()).readlink())
        assert planned(store)[0] == []
        for path in names:
            aged(path, 1)
        assert planned(store) == (["temporary", "temporary"], [])
        prune(store)
        assert not [path for path in names if path.is_symlink() or path.exists()]
        assert accepted(store.hub) == {NAME: {commit}}
        assert all(path.exists() for path in paths.snapshot(commit).iterdir())


class TestOrphans:
    def test_what_no_revision_uses_goes(self, store: StoreBuilder) -> None:
        commit = store.add(NAME)
        before = disk_use(store.hub)
        put(store.paths(NAME).blob(SHA))
        put(store.paths(NAME).blobs / "notes.txt")
        assert prune(store).freed == 12288
        assert disk_use(store.hub) == before + 12288
        assert accepted(store.hub) == {NAME: {commit}}

    def test_where_a_revision_cannot_be_told_nothing_goes(self, store: StoreBuilder) -> None:
        store.add(NAME)
        put(store.paths(NAME).blob(SHA))
        put(store.paths(NAME).snapshots / "odd" / "deep")
        (store.paths(NAME).folder / "snapshots" / "link").symlink_to(store.hub)
        assert planned(store) == ([], [])

    def test_a_young_one_without_a_lock_stays(self, store: StoreBuilder) -> None:
        store.add(NAME)
        put(store.paths(NAME).blob(SHA), days=0)
        assert planned(store) == ([], ["orphan"])
        put(store.paths(NAME).blob_lock(SHA), b"")
        assert planned(store) == (["orphan"], [])

    def test_a_payload_that_no_model_uses(self, store: StoreBuilder) -> None:
        store.add(NAME, files=generator(), lfs={"weights": WEIGHTS}, kind="shared")
        store.add("acme/other", files=generator(), lfs={"weights": b"other"}, kind="shared")
        payload = store.blob(NAME, "weights")
        shutil.rmtree(store.paths(NAME).folder)
        result = prune(store)
        assert [left.id for left in result.pruned] == [None]
        assert result.freed >= len(WEIGHTS)
        assert not payload.exists()
        assert set(shared.contents(store.hub)) == shared.users(store.hub).by_payload.keys()

    def test_a_link_to_a_payload_frees_it_with_the_last_one(self, store: StoreBuilder) -> None:
        store.add(NAME, files=generator(), lfs={"weights": WEIGHTS}, kind="shared")
        payload = store.blob(NAME, "weights")
        store.paths(NAME).entry(_main(store), "weights").unlink()
        aged(store.paths(NAME).blobs, 1)
        assert prune(store).freed >= len(WEIGHTS)
        assert not payload.exists()


class TestFolders:
    def test_an_empty_one_goes(self, store: StoreBuilder) -> None:
        store.add("acme/other")
        folder = store.paths(NAME).folder
        put(folder / "trees" / f"{'a' * 40}.json")
        for name in ("blobs", "snapshots/" + "a" * 40, "refs"):
            (folder / name).mkdir(parents=True)
        aged(folder, 1)
        assert planned(store) == (["empty"], [])
        prune(store)
        assert not folder.exists()
        assert set(accepted(store.hub)) == {"acme/other"}

    def test_a_young_one_stays(self, store: StoreBuilder) -> None:
        store.paths(NAME).blobs.mkdir(parents=True)
        assert planned(store) == ([], ["empty"])

    @pytest.mark.parametrize("name", ["refs/main", "blobs/odd", "snapshots/x/file", "what"])
    def test_one_with_anything_in_it_stays(self, store: StoreBuilder, name: str) -> None:
        put(store.paths(NAME).folder / name)
        aged(store.paths(NAME).folder, 1)
        assert planned(store) == ([], [])

    def test_a_link_is_left_alone(self, store: StoreBuilder, tmp_path: Path) -> None:
        (tmp_path / "away" / "blobs").mkdir(parents=True)
        store.hub.mkdir()
        store.paths(NAME).folder.symlink_to(tmp_path / "away")
        aged(store.hub, 1)
        assert planned(store) == ([], [])

    def test_the_locks_of_models_that_are_gone(self, store: StoreBuilder) -> None:
        store.add("acme/other")
        for name in (NAME, "acme/other", "acme/busy"):
            put(store.paths(name).blob_lock(SHA), b"")
        with store.paths("acme/busy").blob_lock(SHA).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert planned(store) == (["locks"], [])
            prune(store)
        left = {path.name for path in (store.hub / ".locks").iterdir()}
        assert left == {"models--acme--other", "models--acme--busy"}

    def test_other_kinds_of_repositories_are_left_alone(self, store: StoreBuilder) -> None:
        put(store.hub / "datasets--acme--data" / "blobs" / f"{SHA}.incomplete")
        put(store.hub / ".locks" / "datasets--acme--gone" / f"{SHA}.lock")
        assert planned(store) == ([], [])


class TestRemoved:
    def test_what_an_interrupted_removal_left(self, store: StoreBuilder) -> None:
        store.add(NAME)
        store.add("acme/other")
        aside = trash.set_aside(store.hub, store.paths(NAME).folder)
        assert planned(store) == ([], [])
        size = disk_use(aside.path)
        aside.path.rename(aside.path.with_name("models--acme--tiny.4194999-1.00000000"))
        result = prune(store)
        assert ([left.kind for left in result.pruned], result.freed) == (["removed"], size)
        assert everything(store.hub / ".locks") == []


class TestRevisions:
    def test_what_a_branch_has_left_behind_goes(self, store: StoreBuilder) -> None:
        old, new = update(store, "1", "2")
        assert planned(store) == ([], [])
        before = disk_use(store.paths(NAME).folder)
        result = prune(store, revisions=Choice())
        (left,) = result.pruned
        assert (left.commits, left.why) == ((old,), f"`main` has moved on to {new[:12]}")
        assert result.freed == before - disk_use(store.paths(NAME).folder) > 0
        assert accepted(store.hub) == {NAME: {new}}
        assert not store.paths(NAME).private.exists()

    def test_the_newest_are_kept(self, store: StoreBuilder) -> None:
        first, second, third, new = update(store, "1", "2", "3", "4")
        plan = pruning.plan(store.hub, patience=WEEK, revisions=Choice(keep=1))
        assert [set(left.commits) for left in plan.going] == [{first, second}]
        assert [(left.commits, left.stays) for left in plan.staying] == [((third,), "`--keep 1`")]
        pruning.execute(plan, Silence())
        assert accepted(store.hub) == {NAME: {third, new}}

    def test_one_that_was_pulled_by_its_commit_stays(self, store: StoreBuilder) -> None:
        pinned = store.add(NAME, files=generator() | {"README.md": b"pinned"}, revision=None)
        standing.pin(store.paths(NAME), pinned)
        update(store, "1")
        assert _reasons(store) == {pinned: "it was pulled by its commit"}

    def test_a_pin_outlives_the_branch_that_named_it_too(self, store: StoreBuilder) -> None:
        old = store.add(NAME, files=generator())
        standing.pin(store.paths(NAME), old)
        new = store.add(NAME, files=generator() | {"README.md": b"2"})
        standing.leave_behind(store.paths(NAME), old, ref="main", successor=new)
        assert _reasons(store) == {old: "it was pulled by its commit"}

    def test_one_of_which_nothing_is_known_stays(self, store: StoreBuilder) -> None:
        old = store.add(NAME, files=generator())
        update(store, "1")
        assert _reasons(store) == {
            old: f"nothing tells that a ref has left it behind; `modelctl rm {NAME}@{old[:12]}` takes it"
        }

    def test_one_whose_branch_is_gone_stays(self, store: StoreBuilder) -> None:
        old, _ = update(store, "1", "2")
        store.paths(NAME).ref("main").rename(store.paths(NAME).ref("other"))
        assert set(_reasons(store)) == {old}

    def test_without_any_ref_all_stay(self, store: StoreBuilder) -> None:
        commits = update(store, "1", "2")
        store.paths(NAME).ref("main").unlink()
        assert _reasons(store) == dict.fromkeys(commits, "no ref names any revision of it")

    def test_the_only_one_is_not_even_spoken_of(self, store: StoreBuilder) -> None:
        store.add(NAME, revision=None)
        assert planned(store, revisions=Choice()) == ([], [])

    @pytest.mark.parametrize("content", ["", "main", "\0"])
    def test_where_a_ref_cannot_be_read_all_stay(self, store: StoreBuilder, content: str) -> None:
        old, _ = update(store, "1", "2")
        store.paths(NAME).ref("v1").write_text(content)
        assert _reasons(store) == {old: "its refs cannot all be read"}

    def test_of_a_model_that_is_not_whole_all_stay(self, store: StoreBuilder) -> None:
        old, _ = update(store, "1", "2")
        store.blob(NAME, "config.json").unlink()
        assert _reasons(store) == {old: "the model is not whole without it"}

    def test_of_a_model_that_is_served_all_stay(self, store: StoreBuilder) -> None:
        old, _ = update(store, "1", "2")
        choice = Choice(busy={NAME: "`modelctl serve` (pid 7)"})
        assert _reasons(store, choice) == {old: "it is being served by `modelctl serve` (pid 7)"}

    @pytest.mark.parametrize("length", [7, 12, 40])
    @pytest.mark.parametrize("name", [".env", "modelctl.toml", "modelctl.lock"])
    def test_one_that_the_settings_name_stays(self, store: StoreBuilder, name: str, length: int) -> None:
        old, _ = update(store, "1", "2")
        settings = store.hub.parent.parent / name
        settings.write_text(f"MODELCTL_MODEL={NAME}@{old[:length]}\n")
        found = project.locate(store.hub.parent, environ={}, cwd=settings.parent)
        choice = Choice(named=project.named_commits(found))
        assert _reasons(store, choice) == {old: "the project's settings name it"}

    def test_a_branch_that_comes_back_takes_it_up_again(self, store: StoreBuilder) -> None:
        old, new = update(store, "1", "2")
        plan = pruning.plan(store.hub, patience=WEEK, revisions=Choice())
        store.paths(NAME).ref("main").write_text(old)
        assert pruning.execute(plan, Silence()) == PruningResult((), (), 0)
        assert accepted(store.hub) == {NAME: {old, new}}


@pytest.mark.parametrize("what", ["blobs", "refs", ".modelctl"])
def test_what_lies_behind_a_link_is_left_alone(store: StoreBuilder, tmp_path: Path, what: str) -> None:
    interrupt(store, days=8, update=True)
    folder = store.paths(NAME).folder
    shutil.move(folder / what, tmp_path / "away")
    put(tmp_path / "away" / f"{SHA}.incomplete")
    before = everything(tmp_path / "away")
    (folder / what).symlink_to(tmp_path / "away")
    prune(store, patience=timedelta(0), revisions=Choice())
    assert everything(tmp_path / "away") == before


class TestKilled:
    """Killed before any of its changes: what is whole stays whole, and once more finishes it."""

    @pytest.mark.parametrize("count", SAMPLE)
    @pytest.mark.parametrize("kind", ["links", pytest.param("shared", marks=pytest.mark.sweep)])
    def test_every_step(self, run: Command, store: StoreBuilder, kind: Layout, count: int | None) -> None:
        def prepare() -> None:
            shutil.rmtree(store.hub, ignore_errors=True)
            for text in ("1", "2"):
                store.add("acme/kept", files={**generator(), "README.md": text}, lfs={"weights": text * 9}, kind=kind)
                standing.leave_behind(paths, old[0], ref="main", successor=_main(store, "acme/kept"))
                old[0] = _main(store, "acme/kept")
            put(paths.blob(SHA))
            put(paths.blobs / f"{SHA}.incomplete")
            put(paths.private / ".x.tmp")
            interrupt(store, "acme/half", days=8)
            interrupt(store, "acme/old", days=8, update=True)
            put(store.paths("acme/gone").blob_lock(SHA), b"")

        paths, old = store.paths("acme/kept"), [""]
        prepare()
        kept = {content for content in held(store.hub) if content[1] in {old[0], _main(store, "acme/old")}}
        crashes = Crashes(run, roots=(store.hub,))
        for killed in crashes.each("prune", "--revisions", "--yes", prepare=prepare, count=count):
            assert held(store.hub) >= kept, killed
            assert {repo.repo_id for repo in scan_cache_dir(store.hub).repos} >= {"acme/kept", "acme/old"}, killed
            assert run("list", "--json").code == 0, killed
            assert run("rm", "acme/*", "--dry-run").code == 0, killed
            done = run("prune", "--revisions", "--older-than", "0", "--yes")
            assert done.code == 0, (killed, done)
            assert held(store.hub) == kept, killed
            assert not store.paths("acme/half").folder.exists(), killed
            again = pruning.plan(store.hub, patience=timedelta(0), revisions=Choice())
            assert not again.going, (killed, again)
            assert not again.staying, (killed, again)


def _reasons(store: StoreBuilder, choice: Choice | None = None) -> dict[str, str | None]:
    """Why each revision stays; none goes."""
    plan: PruningPlan = pruning.plan(store.hub, patience=WEEK, revisions=choice or Choice())
    assert not plan.going
    return {left.commits[0]: left.stays for left in plan.staying}


def _main(store: StoreBuilder, name: str = NAME) -> str:
    return store.paths(name).ref("main").read_text()


def _parent() -> dict[str, object]:
    """A process that lives and is not this one, as the owner of a pull."""
    pid = os.getppid()
    return {**process.to_json(process.this_process("pull")), "pid": pid, "started": process.start_time(pid)}


def test_it_holds_its_own_lock_while_it_works(store: StoreBuilder) -> None:
    interrupt(store, days=8)
    prune(store)
    assert lock.holder(store.paths(NAME)) is None
