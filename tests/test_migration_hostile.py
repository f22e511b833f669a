"""Migration where a store is not what a tool would leave: links that lead astray, changes in between, foreign files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelctl.errors import BusyError, ModelctlError
from modelctl.progress import Silence
from modelctl.store import layout, migration, naming, trash
from modelctl.store.layout import RepoPaths
from modelctl.store.migration import MigrationPlan, MigrationResult
from modelctl.store.route import Mode, Terms
from tests.command import Command
from tests.crashes import Crashes, held
from tests.disks import bind_mount
from tests.second_opinion import accepted, loads
from tests.stores import StoreBuilder

WEIGHTS = {"model.safetensors": b"w" * 300_000}
BOTH_SIDES = pytest.mark.parametrize("place", ["near", "far"])


@pytest.fixture
def there(place: str, request: pytest.FixtureRequest) -> StoreBuilder:
    """A project's store, on the file system of the cache or on another one."""
    if place == "near":
        return StoreBuilder(request.getfixturevalue("project") / "models" / "hub")
    return StoreBuilder(request.getfixturevalue("elsewhere") / "models" / "hub")


def plan(cache: StoreBuilder, store: StoreBuilder, *names: str, mode: Mode = "move") -> MigrationPlan:
    targets = naming.targets(cache.hub, names, parts=False) if names else naming.all_targets(cache.hub)
    return migration.plan(cache.hub, store.hub, targets, terms=Terms(mode))


def migrate(cache: StoreBuilder, store: StoreBuilder, *names: str, mode: Mode = "move") -> MigrationResult:
    return migration.execute(plan(cache, store, *names, mode=mode), Silence())


def errors(result: MigrationResult) -> list[str]:
    return [failure.error.message for failure in result.failures]


class TestLinksBetweenTheStores:
    """What the target seems to have is the source's own: letting the source go would lose it."""

    @BOTH_SIDES
    @pytest.mark.parametrize("mode", ["move", "copy", "link"])
    def test_the_targets_model_is_a_link_to_the_source(
        self, cache: StoreBuilder, there: StoreBuilder, mode: Mode
    ) -> None:
        cache.add("acme/tiny")
        before = held(cache.hub)
        assert not migrate(cache, there, mode="symlink").failures
        result = migrate(cache, there, mode=mode)
        assert ["is a link to" in message for message in errors(result)] == [True]
        assert held(cache.hub) == held(there.hub) == before

    @BOTH_SIDES
    def test_the_link_is_there_already(self, cache: StoreBuilder, there: StoreBuilder) -> None:
        cache.add("acme/tiny")
        for _ in range(2):
            result = migrate(cache, there, mode="symlink")
            assert (len(result.moved), result.failures) == (1, ())
        assert held(cache.hub) == held(there.hub)

    @BOTH_SIDES
    @pytest.mark.parametrize("what", ["blobs", "entries"])
    def test_the_targets_files_are_links_to_the_source(
        self, cache: StoreBuilder, there: StoreBuilder, what: str
    ) -> None:
        commit = cache.add("acme/tiny")
        there.add("acme/tiny")
        before = held(cache.hub)
        folders = {
            "blobs": lambda one: one.paths("acme/tiny").blobs,
            "entries": lambda one: one.paths("acme/tiny").snapshot(commit),
        }
        for path in folders[what](cache).iterdir():
            place = folders[what](there) / path.name
            place.unlink()
            place.symlink_to(path)
        result = migrate(cache, there)
        assert not result.failures
        assert held(there.hub) == before
        assert not cache.paths("acme/tiny").folder.exists()
        loads(there.hub, "acme/tiny")

    @BOTH_SIDES
    @pytest.mark.parametrize("what", ["blob", "entry"])
    @pytest.mark.parametrize("mode", ["move", "copy"])
    def test_a_model_that_leads_into_another_one(
        self, cache: StoreBuilder, there: StoreBuilder, what: str, mode: Mode
    ) -> None:
        """A cache whose owner has replaced equal files by links from one model to the other."""
        for name in ("acme/a", "acme/b"):
            commit = cache.add(name, files={"config.json": name}, lfs=WEIGHTS)
            if name == "acme/a":
                continue
            theirs = cache.blob("acme/a", "model.safetensors")
            entry = cache.paths(name).entry(commit, "model.safetensors")
            own = cache.blob(name, "model.safetensors") if what == "blob" else entry
            own.unlink()
            own.symlink_to(os.path.relpath(theirs, own.parent))
        before = held(cache.hub)
        # The one that is led to goes first.
        result = migrate(cache, there, "acme/a", "acme/b", mode=mode)
        assert mode == "copy" or held(there.hub) == before or held(cache.hub, there.hub) == before, result
        if mode == "copy":
            shutil.rmtree(cache.hub)
        assert held(cache.hub, there.hub) == before

    @BOTH_SIDES
    @pytest.mark.parametrize("case", ["not named", "held up", "in a circle"])
    def test_what_another_one_needs_stays(self, cache: StoreBuilder, there: StoreBuilder, case: str) -> None:
        commits = {name: cache.add(name, files={"config.json": name}, lfs=WEIGHTS) for name in ("acme/a", "acme/b")}
        theirs = {name: cache.blob(name, "model.safetensors") for name in commits}
        for name, other in {"acme/b": "acme/a", **({"acme/a": "acme/b"} if case == "in a circle" else {})}.items():
            file = "config.json" if name == "acme/a" else "model.safetensors"
            entry = cache.paths(name).entry(commits[name], file)
            entry.unlink()
            entry.symlink_to(theirs[other])
        before = held(cache.hub)
        names = ("acme/a",) if case == "not named" else ("acme/a", "acme/b")
        busy = {"acme/b": "somebody"} if case == "held up" else {}
        result = migration.execute(plan(cache, there, *names), Silence(), busy=busy)
        assert any("lead into" in message for message in errors(result)), result
        assert held(cache.hub, there.hub) == before

    def test_a_chain_goes_from_its_end(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        theirs = Path()
        for at, name in enumerate(("acme/b", "acme/c", "acme/a")):
            commit = cache.add(name, files={"config.json": name, f"{at}.bin": f"{at}"}, tree=False)
            if at:
                own = cache.paths(name).entry(commit, f"{at - 1}.bin")
                own.symlink_to(theirs)
            theirs = cache.blob(name, f"{at}.bin")
        before = held(cache.hub)
        planned = plan(cache, store)
        assert [move.source.id for move in planned.moves] == ["acme/a", "acme/c", "acme/b"]
        assert not migration.execute(planned, Silence()).failures
        assert held(store.hub) == before


class TestLinksFromOtherStores:
    """What somebody else's links lead into stays, or they would lead nowhere."""

    @pytest.fixture(params=["target", "third"])
    def other(self, request: pytest.FixtureRequest, store: StoreBuilder, tmp_path: Path) -> StoreBuilder:
        return store if request.param == "target" else StoreBuilder(tmp_path / "third" / "hub")

    @pytest.mark.matrix(4)
    @pytest.mark.parametrize("what", ["entry", "blob", "folder", "revision", "chain", "payload"])
    def test_held_back(self, cache: StoreBuilder, store: StoreBuilder, other: StoreBuilder, what: str) -> None:
        cache.add("acme/a", files={"config.json": "a"}, lfs=WEIGHTS, kind="shared" if what == "payload" else "links")
        cache.add("acme/b", files={"config.json": "b"})
        other.hub.mkdir(parents=True, exist_ok=True)
        paths = other.paths("acme/c")
        theirs = cache.paths("acme/a").blob(cache.blob("acme/a", "config.json").name)
        if what == "folder":
            paths.folder.symlink_to(cache.paths("acme/a").folder)
        else:
            commit = other.add("acme/c", files={"config.json": "c"}, lfs=WEIGHTS)
            places = {"blob": other.blob("acme/c", "model.safetensors"), "revision": paths.snapshot("f" * 40)}
            place = places.get(what, paths.entry(commit, "w.txt"))
            place.unlink(missing_ok=True)
            goals = {"revision": next(cache.paths("acme/a").snapshots.iterdir()), "chain": Path("../../../chain")}
            goals["payload"] = cache.blob("acme/a", "model.safetensors")
            place.symlink_to(goals.get(what, theirs))
            (other.hub / "chain").symlink_to(theirs)
        seen = {path for path in other.hub.rglob("*") if path.exists()}
        planned = migration.plan(
            cache.hub, store.hub, naming.all_targets(cache.hub), terms=Terms(), others=(cache.hub, other.hub)
        )
        assert [move.source.id for move in planned.moves] == ["acme/b"]
        (held_back,) = planned.skipped
        assert held_back.error.message.startswith(
            f"links in `{paths.folder}` lead into `{cache.paths('acme/a').folder}`"
        )
        migration.execute(planned, Silence())
        assert seen <= {path for path in other.hub.rglob("*") if path.exists()}
        assert not migrate(cache, store, "acme/a", mode="copy").failures

    def test_of_the_very_model_what_it_gets_anew_is_no_hindrance(
        self, cache: StoreBuilder, store: StoreBuilder
    ) -> None:
        cache.add("acme/a", files={"config.json": "a"}, lfs=WEIGHTS)
        old = store.add("acme/a", files={"config.json": "old"}, lfs=WEIGHTS, revision="v0")
        blob = store.blob("acme/a", "model.safetensors", revision=old)
        blob.unlink()
        blob.symlink_to(cache.blob("acme/a", "model.safetensors"))
        assert not migrate(cache, store).failures
        loads(store.hub, "acme/a", "v0")
        # A revision that does not come with it would keep its link.
        cache.add("acme/b", files={"config.json": "b"})
        store.add("acme/b", files={"config.json": "old"}, revision="v0")
        entry = store.paths("acme/b").entry(old, "w.txt")
        entry.parent.mkdir()
        entry.symlink_to(cache.blob("acme/b", "config.json"))
        assert ["links in" in message for message in errors(migrate(cache, store))] == [True]

    def test_as_the_command_says_it(self, run: Command, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/a", files={"config.json": "a"})
        store.hub.mkdir()
        store.paths("acme/c").folder.symlink_to(cache.paths("acme/a").folder)
        done = run("migrate", "--from-cache", "--to", store.hub.parent.parent / "shelf", "--yes")
        assert done.code == 1
        assert f"links in `{store.paths('acme/c').folder}` lead into `{cache.paths('acme/a').folder}`" in done.stderr
        loads(store.hub, "acme/c")


class TestOneFolderAtTwoPlaces:
    """The target's model is the source's own: what is let go of there would be gone from both."""

    @pytest.mark.parametrize("part", [".", "blobs", "snapshots"])
    def test_a_bind_mount(self, cache: StoreBuilder, store: StoreBuilder, part: str) -> None:
        cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS)
        before = held(cache.hub)
        place = store.paths("acme/tiny").folder / part
        with bind_mount(cache.paths("acme/tiny").folder / part, place):
            result = migrate(cache, store)
            assert ["are one folder" in message for message in errors(result)] == [True]
            assert not cache.paths("acme/tiny").private.exists()
        assert held(cache.hub) == before

    def test_a_file_system_with_two_numbers(
        self, cache: StoreBuilder, store: StoreBuilder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS)
        before = held(cache.hub)
        with bind_mount(cache.paths("acme/tiny").folder, store.paths("acme/tiny").folder):
            monkeypatch.setattr(Path, "samefile", lambda *_: False)
            assert ["are one folder" in message for message in errors(migrate(cache, store))] == [True]
        assert held(cache.hub) == before
        assert not cache.paths("acme/tiny").private.exists()


class TestLinksAstray:
    @BOTH_SIDES
    @pytest.mark.parametrize("side", ["source", "target"])
    @pytest.mark.parametrize("part", [".modelctl", "trees", ".no_exist"])
    def test_nothing_is_written_or_deleted_behind_a_link(
        self, cache: StoreBuilder, there: StoreBuilder, tmp_path: Path, side: str, part: str
    ) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        there.add("acme/tiny", files={"config.json": "0"})
        (cache.paths("acme/tiny").folder / ".no_exist" / commit).mkdir(parents=True)
        (cache.paths("acme/tiny").folder / ".no_exist" / commit / "x.json").touch()
        victim = tmp_path / "victim"
        (victim / "incoming").mkdir(parents=True)
        (victim / "incoming" / "mine.txt").write_text("mine")
        folder = (cache if side == "source" else there).paths("acme/tiny").folder / part
        if folder.exists():
            shutil.rmtree(folder)
        folder.symlink_to(victim)
        before = held(cache.hub, there.hub)
        migrate(cache, there)
        assert sorted(path.name for path in victim.rglob("*")) == ["incoming", "mine.txt"]
        assert held(cache.hub, there.hub) >= before

    def test_the_own_folder_of_a_source_that_is_renamed(
        self, cache: StoreBuilder, store: StoreBuilder, tmp_path: Path
    ) -> None:
        cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS, kind="shared")
        victim = tmp_path / "victim"
        (victim / "incoming").mkdir(parents=True)
        cache.paths("acme/tiny").private.symlink_to(victim)
        before = held(cache.hub)
        migrate(cache, store)
        assert (victim / "incoming").is_dir()
        assert held(cache.hub, store.hub) == before

    @BOTH_SIDES
    def test_a_folder_of_the_targets_revision_is_a_link(
        self, cache: StoreBuilder, there: StoreBuilder, tmp_path: Path
    ) -> None:
        files = {"config.json": "{}", "sub/a.txt": "a"}
        commit = cache.add("acme/tiny", files=files)
        there.add("acme/tiny", files=files)
        (tmp_path / "victim").mkdir()
        folder = there.paths("acme/tiny").snapshot(commit) / "sub"
        shutil.rmtree(folder)
        folder.symlink_to(tmp_path / "victim")
        before = held(cache.hub, there.hub)
        migrate(cache, there)
        assert list((tmp_path / "victim").iterdir()) == []
        assert held(cache.hub, there.hub) == before

    @BOTH_SIDES
    def test_a_link_to_a_folder_of_the_model(self, cache: StoreBuilder, there: StoreBuilder) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "{}", "sub/a.txt": "a"})
        snapshot = cache.paths("acme/tiny").snapshot(commit)
        (snapshot / "same").symlink_to("sub")
        result = migrate(cache, there)
        hub = cache.hub if result.failures else there.hub
        (found,) = hub.glob("models--*/snapshots/*/same/a.txt")
        assert found.read_text() == "a"

    @BOTH_SIDES
    def test_a_link_to_a_folder_outside(self, cache: StoreBuilder, there: StoreBuilder, tmp_path: Path) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "{}"})
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.txt").write_text("a")
        entry = cache.paths("acme/tiny").entry(commit, "data")
        entry.symlink_to(os.path.relpath(tmp_path / "data", entry.parent))
        assert not migrate(cache, there).failures
        assert (there.paths("acme/tiny").entry(commit, "data") / "a.txt").read_text() == "a"

    @BOTH_SIDES
    @pytest.mark.parametrize("merges", [True, False])
    def test_links_to_a_disk_that_is_not_mounted(
        self, cache: StoreBuilder, there: StoreBuilder, *, merges: bool
    ) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS, tree=False)
        if merges:
            there.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS, tree=False)
        paths = cache.paths("acme/tiny")
        paths.blob("a" * 64).symlink_to("/nowhere/blob")
        paths.entry(commit, "by-blob.bin").symlink_to(layout.link_target("by-blob.bin", "a" * 64))
        paths.entry(commit, "direct.bin").symlink_to("/nowhere/direct.bin")
        for _ in range(2):
            assert not migrate(cache, there, mode="copy").failures
            come = there.paths("acme/tiny")
            assert os.path.realpath(come.entry(commit, "by-blob.bin")) == "/nowhere/blob"
            assert os.path.realpath(come.entry(commit, "direct.bin")) == "/nowhere/direct.bin"


class TestRefs:
    @BOTH_SIDES
    @pytest.mark.parametrize("mode", ["move", "copy"])
    @pytest.mark.parametrize("theirs", ["a", "a/b"])
    def test_names_that_exclude_each_other(
        self, cache: StoreBuilder, there: StoreBuilder, mode: Mode, theirs: str
    ) -> None:
        """A branch `a` here and a branch `a/b` there: one is a file where the other needs a folder."""
        cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS)
        there.add("acme/tiny", files={"config.json": "0"})
        for builder, name in ((cache, theirs), (there, "a/b" if theirs == "a" else "a")):
            paths = builder.paths("acme/tiny")
            paths.ref(name).parent.mkdir(exist_ok=True)
            paths.ref("main").rename(paths.ref(name))
        before = held(cache.hub, there.hub)
        result = migrate(cache, there, mode=mode)
        assert len(result.failures) == 1
        assert held(cache.hub) == held(cache.hub) & before
        assert held(cache.hub, there.hub) == before
        assert accepted(there.hub)
        for entry in there.hub.glob("models--*/snapshots/*/*"):
            assert entry.exists(), entry

    def test_a_ref_of_the_target_that_names_nothing_is_not_kept(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        new = cache.add("acme/tiny", files={"config.json": "1"})
        store.add("acme/tiny", files={"config.json": "0"}, revision="v0")
        store.paths("acme/tiny").ref("main").write_text("f" * 40)
        planned = plan(cache, store)
        assert planned.moves[0].refs_kept == ()
        migration.execute(planned, Silence())
        assert store.paths("acme/tiny").ref("main").read_text() == new


class Meanwhile(Silence):
    """Somebody else who changes the stores after the plan was made, or while it is carried out."""

    def __init__(self, change: Callable[[], object], *, at: str = "begin") -> None:
        self.change = change
        self.at = at

    def begin(self, what: str, *, total: int | None) -> None:
        del what, total
        if self.at == "begin":
            self.change()

    def advance(self, done: int) -> None:
        del done
        if self.at == "advance":
            self.at = ""
            self.change()


class TestTakenBack:
    """What failed after some of it had come: nothing that the target shows goes with what is taken back."""

    @BOTH_SIDES
    def test_what_has_healed_the_target_stays(self, cache: StoreBuilder, there: StoreBuilder) -> None:
        cache.add("acme/tiny", files={"config.json": "damaged", "good.txt": "good"})
        there.add("acme/tiny", files={"config.json": "0", "good.txt": "good"})
        cache.blob("acme/tiny", "config.json").write_text("DAMAGED")
        there.blob("acme/tiny", "good.txt").write_text("cut")
        before = held(cache.hub)
        assert errors(migrate(cache, there)) != []
        assert held(cache.hub) == before
        assert there.blob("acme/tiny", "good.txt").read_text() in {"good", "cut"}
        assert not there.paths("acme/tiny").private.exists()

    def test_what_another_tool_has_begun_there_stays(self, cache: StoreBuilder, elsewhere: Path) -> None:
        cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS)
        weights = cache.blob("acme/tiny", "model.safetensors")
        weights.write_bytes(b"X" + weights.read_bytes()[1:])
        paths = RepoPaths(elsewhere / "hub", "acme/tiny")
        begun = paths.blobs / f"{'a' * 64}.01234567.incomplete"

        def download() -> None:
            begun.parent.mkdir(parents=True, exist_ok=True)
            begun.write_text("half of it")

        planned = plan(cache, StoreBuilder(paths.hub))
        assert errors(migration.execute(planned, Meanwhile(download, at="advance"))) != []
        assert begun.read_text() == "half of it"
        assert list(paths.blobs.iterdir()) == [begun]
        assert not paths.private.exists()


class TestChangesInBetween:
    @BOTH_SIDES
    @pytest.mark.parametrize("at", ["begin", "advance"])
    def test_a_revision_that_came_after_the_plan_is_not_lost(
        self, cache: StoreBuilder, there: StoreBuilder, at: str
    ) -> None:
        cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS, revision="v1")
        there.add("acme/tiny", files={"config.json": "0"}, revision="v0")
        planned = plan(cache, there)
        late: list[str] = []
        change = lambda: late.append(cache.add("acme/tiny", files={"config.json": "2"}))  # noqa: E731
        migration.execute(planned, Meanwhile(change, at=at))
        assert late
        contents = held(cache.hub, there.hub)
        assert {content[1] for content in contents} >= set(late)
        assert not migrate(cache, there).failures
        assert len({content[1] for content in held(there.hub)}) == 3

    @BOTH_SIDES
    def test_a_file_that_came_while_it_was_copied_is_not_lost(self, cache: StoreBuilder, there: StoreBuilder) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS)
        there.add("acme/tiny", files={"config.json": "0"}, revision="v0")
        entry = cache.paths("acme/tiny").entry(commit, "late.txt")
        result = migration.execute(plan(cache, there), Meanwhile(lambda: entry.write_text("late"), at="advance"))
        assert [type(failure.error) for failure in result.failures] == [BusyError]
        assert entry.read_text() == "late"
        assert not migrate(cache, there).failures
        assert there.paths("acme/tiny").entry(commit, "late.txt").read_text() == "late"

    @BOTH_SIDES
    def test_a_revision_that_is_gone(self, cache: StoreBuilder, there: StoreBuilder) -> None:
        for at in ("1", "2"):
            cache.add("acme/tiny", files={"config.json": at}, revision=f"v{at}")
        there.add("acme/tiny", files={"config.json": "0"}, revision="v0")
        planned = plan(cache, there)

        def change() -> None:
            shutil.rmtree(cache.paths("acme/tiny").snapshot(cache.paths("acme/tiny").ref("v1").read_text()))
            cache.paths("acme/tiny").ref("v1").unlink()

        result = migration.execute(planned, Meanwhile(change))
        assert [failure.error.kind for failure in result.failures] == ["not_found"]
        assert not migrate(cache, there).failures


class TestForeignFiles:
    @BOTH_SIDES
    def test_what_a_user_has_put_beside_the_revisions_is_not_deleted(
        self, cache: StoreBuilder, there: StoreBuilder
    ) -> None:
        cache.add("acme/tiny", files={"config.json": "1"}, lfs=WEIGHTS)
        notes = cache.paths("acme/tiny").folder / "notes"
        notes.mkdir()
        (notes / "mine.txt").write_text("mine")
        before = held(cache.hub)
        assert not migrate(cache, there).failures
        assert held(there.hub) == before
        assert [path.read_text() for hub in (cache.hub, there.hub) for path in hub.rglob("mine.txt")] == ["mine"]

    @pytest.mark.parametrize("name", ["entry", "link", "not a commit", "ünïcode", "x" * 40])
    @BOTH_SIDES
    def test_a_revision_with_any_name(self, cache: StoreBuilder, there: StoreBuilder, name: str) -> None:
        commit = cache.add("acme/tiny", files={"config.json": "1"}, tree=False)
        snapshot = cache.paths("acme/tiny").snapshot(commit)
        snapshot.rename(snapshot.with_name(name))
        before = held(cache.hub)
        there.add("acme/tiny", files={"config.json": "0"})
        assert not migrate(cache, there).failures
        assert held(there.hub) >= before

    @BOTH_SIDES
    @pytest.mark.parametrize("name", ["models--a b", "models----x", "models--acme--a--b", "models--ünï", "models--a@b"])
    def test_a_model_with_any_name(self, run: Command, cache: StoreBuilder, there: StoreBuilder, name: str) -> None:
        cache.add("acme/tiny", files={"config.json": "1"})
        cache.paths("acme/tiny").folder.rename(cache.hub / name)
        before = held(cache.hub)
        done = run("migrate", "--from-cache", "--yes", "--models-dir", there.hub.parent)
        assert done.code == 0, done
        assert held(there.hub) == before
        assert held(cache.hub) == set()


class TestDatasets:
    def test_an_interrupted_move_of_one_revision_is_finished(
        self, run: Command, cache: StoreBuilder, store: StoreBuilder
    ) -> None:
        for at in ("1", "2"):
            cache.add("acme/data", files={"config.json": at}, lfs=WEIGHTS, revision=f"v{at}")
        cache.paths("acme/data").folder.rename(cache.hub / "datasets--acme--data")
        shutil.move(cache.hub, cache.hub.with_name("before"))
        argv = ("migrate", "--from-cache", "--include-datasets", "datasets/acme/data@v1", "--yes")

        def prepare() -> None:
            for hub in (cache.hub, store.hub):
                shutil.rmtree(hub, ignore_errors=True)
            shutil.copytree(cache.hub.with_name("before"), cache.hub, symlinks=True)

        prepare()
        calls = Crashes(run, (cache.hub,)).calls(*argv)
        asides = [at for at, call in enumerate(calls, 1) if call.startswith("os.rename") and ".modelctl-trash" in call]
        prepare()
        Crashes(run, (cache.hub,)).kill_before(asides[-1] + 1, *argv)
        assert trash.leftovers(cache.hub)
        assert run("migrate", "--from-cache", "--include-datasets", "--yes").code == 0
        assert not trash.leftovers(cache.hub)
        assert not (cache.hub / "datasets--acme--data").exists()


def test_a_broken_thing_names_its_repair(cache: StoreBuilder, store: StoreBuilder) -> None:
    cache.add("acme/tiny")
    cache.paths("acme/tiny").refs.joinpath("main").unlink()
    shutil.rmtree(cache.paths("acme/tiny").snapshots)
    with pytest.raises(ModelctlError, match="has no revision") as caught:
        raise plan(cache, store).skipped[0].error
    assert caught.value.hint
