"""`modelctl migrate` as a person and as a program meet it."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from modelctl.errors import NotFoundError
from modelctl.store import migration, naming
from modelctl.store.route import Terms
from tests.command import NOBODY, Command, Finished
from tests.crashes import held
from tests.disks import small_disk
from tests.second_opinion import accepted, loads
from tests.stores import Layout, StoreBuilder

WEIGHTS = {"model.safetensors": b"w" * 100_000}


@pytest.fixture
def two(cache: StoreBuilder) -> StoreBuilder:
    for name in ("acme/one", "acme/two"):
        cache.add(name, files={"config.json": name}, lfs=WEIGHTS)
    return cache


def lines_without_free(text: str) -> str:
    return re.sub(r"\d+\.\d [kMGT]B( free|$)", r"N\1", text, flags=re.MULTILINE)


class TestPlain:
    def test_moves_everything(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        before = held(two.hub)
        done = run("migrate", "--from-cache", "--yes")
        assert done.code == 0
        assert done.stdout == "moved acme/one (100.0 kB, rename)\nmoved acme/two (100.0 kB, rename)\n"
        assert lines_without_free(done.stderr) == (
            f"from `{two.hub}` to `{store.hub}`:\n"
            "  acme/one: 100.0 kB, rename\n"
            "  acme/two: 100.0 kB, rename\n"
            "moving\n"
            "free now: N\n"
            "undo: `modelctl migrate --to-cache acme/one acme/two`\n"
        )
        assert held(store.hub) == before
        assert accepted(two.hub) == {}
        for name in ("acme/one", "acme/two"):
            loads(store.hub, name)

    def test_a_dry_run_is_dry(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        before = sorted(two.hub.rglob("*"))
        done = run("migrate", "--from-cache", "--dry-run")
        assert (done.code, done.stderr) == (0, "")
        assert lines_without_free(done.stdout) == (
            "NAME      REVISIONS      SIZE  HOW     WRITES  FREES\n"
            "acme/one          1  100.0 kB  rename     0 B    0 B\n"
            "acme/two          1  100.0 kB  rename     0 B    0 B\n"
            "2 models, 200.0 kB, writes 0 B of N free\n"
        )
        assert sorted(two.hub.rglob("*")) == before
        assert not store.hub.exists()

    def test_only_those_that_are_named(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        assert run("migrate", "--from-cache", "acme/*e", "--yes").code == 0
        assert (set(accepted(store.hub)), set(accepted(two.hub))) == ({"acme/one"}, {"acme/two"})

    def test_a_copy_asks_nothing_and_leaves_the_cache(
        self, run: Command, two: StoreBuilder, store: StoreBuilder
    ) -> None:
        before = held(two.hub)
        done = run("migrate", "--from-cache", "--copy")
        assert (done.code, done.stdout.splitlines()[0]) == (0, "copied acme/one (100.0 kB, copy)")
        assert held(two.hub) == held(store.hub) == before
        again = run("migrate", "--from-cache", "--copy")
        assert (again.code, held(store.hub)) == (0, before)

    def test_across_file_systems(self, run: Command, two: StoreBuilder, elsewhere: Path) -> None:
        before = held(two.hub)
        done = run("migrate", "--from-cache", "--yes", "--models-dir", elsewhere / "models")
        assert (done.code, done.stdout.splitlines()[0]) == (0, "moved acme/one (100.0 kB, copy)")
        assert "acme/one: 100.0 kB, copy, 100.0 kB to write, frees " in done.stderr
        assert re.search(r"\nfree now: .* at `.*`, .* at `.*`\n", done.stderr)
        undo = f"undo: `modelctl migrate --models-dir {elsewhere}/models --to-cache acme/one acme/two`\n"
        assert done.stderr.endswith(undo)
        assert held(elsewhere / "models" / "hub") == before
        assert accepted(two.hub) == {}

    def test_what_is_there_already(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        store.add("acme/one", files={"config.json": "mine"})
        (two.paths("acme/one").blobs / "x.incomplete").write_bytes(b"12")
        done = run("migrate", "--from-cache", "acme/one", "--yes")
        assert (done.code, done.stdout) == (0, "moved acme/one (100.0 kB, hard link)\n")
        assert (
            "`acme/one`: `main` names another revision in the target, and goes on doing so (`--overwrite-refs`)\n"
            in done.stderr
        )
        assert "`acme/one`: 2 B that no revision uses are left out\n" in done.stderr
        assert len(accepted(store.hub)["acme/one"]) == 2


class TestNothingToDo:
    def test_no_cache_at_all(self, run: Command, home: Path) -> None:
        done = run("migrate", "--from-cache", "--yes")
        assert done == Finished(0, f"no models in `{home}/.cache/huggingface/hub`\n", "")

    def test_one_folder_for_both(self, run: Command, store: StoreBuilder) -> None:
        store.add("acme/tiny")
        done = run("migrate", "--from-cache", env={"HF_HOME": str(store.hub.parent)})
        assert done == Finished(0, f"`{store.hub}` is your own cache too: there is nothing to move\n", "")
        done = run("migrate", "--from-cache", "--json", env={"HF_HOME": str(store.hub.parent)})
        assert (done.code, done.events[-1]["event"], done.events[-1]["moved"]) == (0, "done", [])

    def test_it_does_not_know_where_from(self, run: Command) -> None:
        assert run("migrate") == Finished(
            2,
            "",
            "error: `migrate` needs to know where the models come from\n"
            "hint: `modelctl migrate --from-cache` moves those of your own cache\n",
        )

    def test_without_a_terminal(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        done = run("migrate", "--from-cache")
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr.endswith("hint: add `--yes` to go on without asking\n")
        assert len(accepted(two.hub)) == 2
        assert not store.hub.exists()

    def test_unknown_names(self, run: Command, two: StoreBuilder) -> None:
        done = run("migrate", "--from-cache", "acme/one", "acme/no", "--yes")
        assert (done.code, done.stdout) == (3, "")
        assert run("migrate", "--from-cache", "acme/one@v9", "--yes").code == 3
        assert len(accepted(two.hub)) == 2


class TestJson:
    def test_the_plan(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        done = run("migrate", "--from-cache", "acme/one", "--dry-run", "--json")
        commit = two.paths("acme/one").ref("main").read_text()
        assert {**done.json, "free": None} == {
            "schema": 1,
            "source": str(two.hub),
            "target": str(store.hub),
            "mode": "move",
            "models": [
                {
                    "id": "acme/one",
                    "path": str(two.paths("acme/one").folder),
                    "target": str(store.paths("acme/one").folder),
                    "how": "rename",
                    "commits": [commit],
                    "refs": ["main"],
                    "merges": False,
                    "size": 100_008,
                    "already": 0,
                    "shared": 0,
                    "frees": 0,
                    "writes": 0,
                    "refs_kept": [],
                    "refs_overwritten": [],
                    "left_out": 0,
                }
            ],
            "skipped": [],
            "size": 100_008,
            "writes": 0,
            "free": None,
            "frees": 0,
        }
        assert done.json["free"] > 0

    def test_the_lines(self, run: Command, two: StoreBuilder, elsewhere: Path) -> None:
        done = run("migrate", "--from-cache", "--yes", "--json", "--models-dir", elsewhere / "models")
        assert (done.code, done.stderr) == (0, "")
        assert {event["event"] for event in done.events} == {"plan", "stage", "progress", "file", "done"}
        assert [event["name"] for event in done.events if event["event"] == "file"] == ["acme/one", "acme/two"]
        last = done.events[-1]
        assert [(moved["id"], moved["how"]) for moved in last["moved"]] == [("acme/one", "copy"), ("acme/two", "copy")]
        assert last["free"]["target"] > 0
        assert accepted(two.hub) == {}


class TestFailures:
    def test_damage_is_reported_and_the_rest_goes_on(self, run: Command, two: StoreBuilder, elsewhere: Path) -> None:
        two.blob("acme/one", "model.safetensors").write_bytes(b"x" * 100_000)
        done = run("migrate", "--from-cache", "--yes", "--models-dir", elsewhere / "models")
        assert done.code == 1
        assert done.stdout == "moved acme/two (100.0 kB, copy)\n"
        assert "`acme/one` is not moved: `" in done.stderr
        assert "is damaged: its content does not match its name\n" in done.stderr
        assert "error: 1 of 2 models could not be moved\n" in done.stderr
        assert (set(accepted(two.hub)), set(accepted(elsewhere / "models" / "hub"))) == ({"acme/one"}, {"acme/two"})
        done = run("migrate", "--from-cache", "--yes", "--json", "--models-dir", elsewhere / "models")
        error = done.events[-1]["error"]
        assert (done.code, error["kind"]) == (6, "not_whole")
        mend = f"modelctl verify --repair --models-dir {elsewhere}/models --cache acme/one"
        assert error["hint"] == f"`{mend}` fetches what is damaged again"

    def test_too_little_room(self, run: Command, two: StoreBuilder, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", 1024 * 1024) as disk:
            done = run("migrate", "--from-cache", "--yes", "--models-dir", disk)
            assert done.code == 5
            assert "which is too little" in run("migrate", "--from-cache", "--dry-run", "--models-dir", disk).stdout
            assert re.search(r"error: 200,016 bytes have to be written to .*, which has [\d,]+ free\n", done.stderr)
            assert sorted(disk.iterdir()) == []
            done = run("migrate", "--from-cache", "--yes", "--json", "--models-dir", disk)
            assert done.events[-1]["error"]["needed"] == 200_016
        assert len(accepted(two.hub)) == 2


class TestSaid:
    def test_what_stays_and_what_becomes_free_before_the_question(
        self, run: Command, two: StoreBuilder, elsewhere: Path
    ) -> None:
        (two.paths("acme/two").folder / "snapshots").rename(two.hub / "away")
        done = run("migrate", "--from-cache", "--models-dir", elsewhere / "models")
        assert (done.code, done.stdout) == (2, "")
        said = done.stderr.splitlines()
        assert re.fullmatch(r"  acme/one: 100\.0 kB, copy, 100\.0 kB to write, frees 1\d\d\.\d kB", said[1])
        assert re.fullmatch(r"  in all: writes 100\.0 kB of .* free, frees 1\d\d\.\d kB at the source", said[2])
        assert said[3].startswith("`acme/two` cannot be moved: `acme/two` has no revision in ")

    @pytest.mark.sweep
    def test_where_nothing_can_come_nothing_else_is_said(self, run: Command, two: StoreBuilder) -> None:
        for name in ("acme/one", "acme/two"):
            shutil.rmtree(two.paths(name).snapshots)
        done = run("migrate", "--from-cache", "--yes")
        assert (done.code, done.stdout) == (1, "")
        said = [line.split(" ")[0] for line in done.stderr.splitlines()]
        assert said == ["`acme/one`", "`acme/two`", "error:", "hint:"], done.stderr

    def test_names_that_are_not_there(self, two: StoreBuilder) -> None:
        shutil.copytree(two.paths("acme/one").folder, two.hub / "datasets--acme--data", symlinks=True)
        hints = {
            "acme/none": "see `modelctl list`",
            "one": "with `--yes` a full name or a glob is needed: `acme/one`",
            "datasets/acme/data": "`migrate` takes it with `--include-datasets`",
            "datasets/*": "`migrate` takes it with `--include-datasets`",
        }
        for name, hint in hints.items():
            with pytest.raises(NotFoundError) as caught:
                naming.targets(two.hub, [name], parts=False)
            assert caught.value.hint == hint
        assert len(naming.targets(two.hub, ["datasets/acme/data"], parts=False, datasets=True)) == 1

    def test_shared_is_what_those_share_that_stay(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        for name in ("acme/one", "acme/two"):
            cache.add(name, files={"config.json": name}, lfs=WEIGHTS, kind="shared")
        for names, shared in ((["acme/*"], [0, 0]), (["acme/one"], [100_000])):
            targets = naming.targets(cache.hub, names, parts=False)
            planned = migration.plan(cache.hub, store.hub, targets, terms=Terms())
            assert [move.shared for move in planned.moves] == shared
        planned = migration.plan(cache.hub, store.hub, naming.all_targets(cache.hub), terms=Terms("copy"))
        assert [move.shared for move in planned.moves] == [100_000, 100_000]


class TestArrived:
    def test_what_an_earlier_migration_has_brought(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        assert run("migrate", "--from-cache", "acme/one", "--yes").code == 0
        told = f"`acme/one` is in `{store.hub}` already, and not in `{two.hub}` any more\n"
        assert run("migrate", "--from-cache", "acme/one", "--yes") == Finished(0, told, "")
        # A typo is none.
        assert run("migrate", "--from-cache", "acme/oen", "--yes").code == 3

    @pytest.mark.sweep
    @pytest.mark.usefixtures("two")
    def test_beside_others(self, run: Command, store: StoreBuilder) -> None:
        assert run("migrate", "--from-cache", "acme/one", "--yes").code == 0
        done = run("migrate", "--from-cache", "acme/o*", "acme/two", "--yes")
        assert (done.code, done.stdout) == (0, "moved acme/two (100.0 kB, rename)\n")
        assert done.stderr.startswith("`acme/one` is in ")
        done = run("migrate", "--from-cache", "acme/one", "--json")
        assert (done.code, done.events[-1]["moved"], "any more" in done.events[-1]["message"]) == (0, [], True)
        assert run("migrate", "--from-cache", "acme/one", "--copy").code == 3
        # What is not whole has not come.
        store.blob("acme/one", "model.safetensors").unlink()
        assert run("migrate", "--from-cache", "acme/one", "--yes").code == 3

    @pytest.mark.sweep
    def test_a_revision(self, run: Command, cache: StoreBuilder) -> None:
        commit = cache.add("acme/one", files={"config.json": "1"}, revision="v1")
        cache.add("acme/one", files={"config.json": "2"})
        argv = ("migrate", "--from-cache", "--yes", "acme/one@v1")
        assert run(*argv).code == 0
        for name in ("v1", commit, commit[:9]):
            done = run(*argv[:-1], f"acme/one@{name}")
            assert (done.code, f"`acme/one@{name}` is in `" in done.stdout) == (0, True), done
        assert run(*argv[:-1], "acme/one@v2").code == 3


class TestRights:
    """Run by a user to whom the cache does not belong."""

    @pytest.fixture(autouse=True)
    def _rights(self, two: StoreBuilder, project: Path) -> None:
        for path in (project, *project.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
        self.before = held(two.hub)
        self.cache = two

    def test_what_cannot_be_taken_away_can_be_copied(self, run: Command, store: StoreBuilder) -> None:
        done = run("migrate", "--from-cache", "--yes", user=NOBODY)
        assert (done.code, done.stdout) == (4, "")
        assert f"`{self.cache.hub}` cannot be changed by this user, so nothing can be moved out of it" in done.stderr
        assert "hint: `--copy` leaves it as it is" in done.stderr
        assert held(self.cache.hub) == self.before
        done = run("migrate", "--from-cache", "--copy", user=NOBODY)
        assert (done.code, held(store.hub)) == (0, self.before), done
        assert {path.stat().st_uid for path in store.hub.rglob("*")} == {NOBODY}

    def test_one_model_of_somebody_else(self, run: Command, store: StoreBuilder) -> None:
        for path in (self.cache.hub, self.cache.hub / ".locks", self.cache.paths("acme/two").folder):
            os.chown(path, NOBODY, NOBODY)
        done = run("migrate", "--from-cache", "--yes", user=NOBODY)
        assert (done.code, done.stdout) == (1, "moved acme/two (100.0 kB, rename)\n"), done
        assert f"`acme/one` is not moved: `{self.cache.paths('acme/one').folder}` cannot be changed" in done.stderr
        assert held(self.cache.hub, store.hub) == self.before

    def test_one_that_cannot_be_read(self, run: Command, store: StoreBuilder) -> None:
        self.cache.blob("acme/one", "model.safetensors").chmod(0)
        done = run("migrate", "--from-cache", "--copy", user=NOBODY)
        assert (done.code, done.stdout) == (1, "copied acme/two (100.0 kB, copy)\n")
        assert "model.safetensors" not in done.stderr
        assert set(accepted(store.hub)) == {"acme/two"}

    @pytest.mark.parametrize("mode", [0o400, 0o100, 0])
    def test_a_cache_that_cannot_be_looked_into(self, run: Command, mode: int) -> None:
        self.cache.hub.chmod(mode)
        done = run("migrate", "--from-cache", "--copy", user=NOBODY)
        assert (done.code, done.stdout) in {(4, ""), (0, f"no models in `{self.cache.hub}`\n")}, done
        assert "Traceback" not in done.stderr
        self.cache.hub.chmod(0o755)
        for folder in self.cache.hub.glob("models--*/*"):
            folder.chmod(mode)
        done = run("migrate", "--from-cache", "--copy", user=NOBODY)
        assert (done.code, done.stdout) == (4, ""), done
        assert "cannot be read" in done.stderr

    def test_a_place_that_cannot_be_looked_at(self, run: Command, tmp_path: Path) -> None:
        (tmp_path / "closed").mkdir(mode=0o700)
        done = run("migrate", "--from-cache", "--copy", "--models-dir", tmp_path / "closed" / "models", user=NOBODY)
        assert (done.code, done.stdout) == (4, ""), done
        assert "Permission denied" in done.stderr

    @pytest.mark.sweep
    def test_files_that_get_no_second_name(self, run: Command, store: StoreBuilder, project: Path) -> None:
        """`fs.protected_hardlinks`, which is on nearly everywhere: the plan says it."""
        done = run("migrate", "--from-cache", "-L", "--dry-run", user=NOBODY)
        assert "cannot be linked: `" in done.stderr
        assert "is another user's, and this system lets nobody give such a file a second name\n" in done.stderr
        assert "hint: `--copy` copies it\n" in done.stderr
        assert done.stdout.startswith("0 models")
        # Of the own folder a move takes what it must copy, and says so.
        for path in (self.cache.hub, *self.cache.hub.rglob("*")):
            if path.is_dir() or path.is_symlink():
                os.lchown(path, NOBODY, NOBODY)
        store.add("acme/one", files={"config.json": "other"})
        for path in (project, *project.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
        done = run("migrate", "--from-cache", "acme/one", "--yes", user=NOBODY)
        assert (done.code, done.stdout) == (0, "moved acme/one (100.0 kB, copy)\n"), done
        assert "acme/one: 100.0 kB, copy, 100.0 kB to write, frees" in done.stderr

    def test_a_project_that_cannot_be_written(self, run: Command, project: Path) -> None:
        shutil.chown(project / "models", 0, 0)
        done = run("migrate", "--from-cache", "--copy", user=NOBODY)
        assert (done.code, done.stdout) == (4, "")
        assert f"error: cannot create `{project}/models/hub`: Permission denied\n" in done.stderr


class TestEnds:
    def test_there_and_back(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        before = held(two.hub)
        done = run("migrate", "--from-cache", "--yes")
        undo = done.stderr.splitlines()[-1].removeprefix("undo: `modelctl ").removesuffix("`").split()
        back = run(*undo, "--yes")
        assert back.code == 0, back.stderr
        assert held(two.hub) == before
        assert accepted(store.hub) == {}

    @pytest.mark.parametrize("flag", ["--yes", "--copy"])
    def test_what_was_there_before_stays_there_when_it_is_undone(
        self, run: Command, cache: StoreBuilder, store: StoreBuilder, flag: str
    ) -> None:
        old = cache.add("acme/one", files={"config.json": "old"}, revision="v0")
        new = cache.add("acme/one", files={"config.json": "new"}, lfs=WEIGHTS)
        store.add("acme/one", files={"config.json": "old"}, revision="v0")
        before = held(cache.hub, store.hub), held(store.hub)
        done = run("migrate", "--from-cache", flag)
        assert done.code == 0, done
        undo = done.stderr.splitlines()[-1].removeprefix("undo: `modelctl ").removesuffix("`").split()
        assert undo[-1] == f"acme/one@{new}"
        assert run(*undo, "--yes").code == 0
        assert (held(cache.hub, store.hub), held(store.hub)) == before
        assert accepted(store.hub) == {"acme/one": {old}}
        assert store.paths("acme/one").ref("v0").read_text() == old
        # Where nothing new has come, there is nothing to undo.
        store.add("acme/one", files={"config.json": "new"}, lfs=WEIGHTS)
        assert "undo: " not in run("migrate", "--from-cache", flag).stderr

    @pytest.mark.parametrize("flag", ["--yes", "--copy"])
    def test_odd_names_are_undone_in_a_shell(
        self, run: Command, cache: StoreBuilder, flag: str, tmp_path: Path
    ) -> None:
        cache.add("acme/one", files={"config.json": "{}"})
        for name in ("models---dash", "models--a@b--c", "models--x:y--z", "models--[ab]--$(touch x)", "models--q'b--é"):
            shutil.copytree(cache.paths("acme/one").folder, cache.hub / name, symlinks=True)
        before = held(cache.hub)
        shelf = tmp_path / "a shelf's"
        done = run("migrate", "--from-cache", "--to", shelf, flag)
        assert done.code == 0, done
        undo = done.stderr.splitlines()[-1].removeprefix("undo: `modelctl ").removesuffix("`")
        command, words = undo.split(" ", 1)
        undone = run.program(["sh", "-c", f"{sys.executable} -m modelctl {command} --yes {words}"])
        assert undone.code == 0, (undo, undone)
        assert held(cache.hub) == before
        assert held(shelf / "hub") == set()

    def test_what_would_come_back_without_its_name_is_not_undone(
        self, run: Command, cache: StoreBuilder, store: StoreBuilder
    ) -> None:
        commit = cache.add("acme/one", files={"config.json": "1"})
        store.add("acme/one", files={"config.json": "0"})
        copied = run("migrate", "--from-cache", "--copy")
        assert copied.stderr.endswith(f"undo: `modelctl rm acme/one@{commit}`\n")
        assert run("rm", "--yes", f"acme/one@{commit}").code == 0
        done = run("migrate", "--from-cache", "--yes")
        assert (done.code, "`main` names another revision" in done.stderr) == (0, True)
        assert "undo: " not in done.stderr

    @pytest.mark.parametrize("form", ["hub", "models", "relative", "project"])
    def test_from_any_folder(self, run: Command, store: StoreBuilder, tmp_path: Path, form: str) -> None:
        old = StoreBuilder(tmp_path / "old" / "models" / "hub")
        old.hub.mkdir(parents=True)
        old.add("acme/tiny")
        before = held(old.hub)
        forms = {"hub": old.hub, "models": old.hub.parent, "relative": Path("../old/models"), "project": Path("../old")}
        folder = forms[form]
        done = run("migrate", "--from", folder, "--yes")
        assert done.code == 0, done.stderr
        assert held(store.hub) == before
        assert done.stderr.endswith(f"undo: `modelctl migrate --to {old.hub} acme/tiny`\n")

    def test_to_a_new_folder(self, run: Command, store: StoreBuilder, tmp_path: Path) -> None:
        store.add("acme/tiny")
        before = held(store.hub)
        done = run("migrate", "--to", tmp_path / "shelf", "--copy")
        assert done.code == 0, done.stderr
        assert held(tmp_path / "shelf" / "hub") == before == held(store.hub)
        assert done.stderr.endswith(f"undo: `modelctl rm --models-dir {tmp_path}/shelf acme/tiny`\n")
        undo = done.stderr.splitlines()[-1].removeprefix("undo: `modelctl ").removesuffix("`").split()
        assert run(*undo, "--yes").code == 0
        assert accepted(tmp_path / "shelf" / "hub") == {}

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--from-cache", "--from", "x"], "`--from-cache` and `--from` contradict each other"),
            (["--to-cache", "--to", "x"], "`--to-cache` and `--to` contradict each other"),
            (["--from-cache", "-c", "-L"], "`--copy` and `--hard-link` contradict each other"),
            (["--from-cache", "--revision", "v1"], "`--revision` needs the model that it is one of"),
        ],
    )
    def test_contradictions(self, run: Command, argv: list[str], message: str) -> None:
        done = run("migrate", *argv)
        assert (done.code, done.stderr.splitlines()[0]) == (2, f"error: {message}")

    def test_a_folder_without_models(self, run: Command, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        done = run("migrate", "--from", tmp_path / "empty")
        assert (done.code, "holds no models" in done.stderr) == (3, True)
        assert run("migrate", "--from", tmp_path / "none").code == 3

    def test_one_inside_the_other(self, run: Command, two: StoreBuilder) -> None:
        done = run("migrate", "--from-cache", "--to", two.paths("acme/one").snapshots / "hub", "--yes")
        assert (done.code, "lie one in the other" in done.stderr) == (2, True)
        assert len(accepted(two.hub)) == 2


class TestModes:
    def test_hard_links(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        before = held(two.hub)
        done = run("migrate", "--from-cache", "-L")
        assert (done.code, done.stdout.splitlines()[0]) == (0, "linked acme/one (100.0 kB, hard link)")
        assert held(two.hub) == held(store.hub) == before
        assert two.blob("acme/one", "model.safetensors").samefile(store.blob("acme/one", "model.safetensors"))
        # Both are whole without the other.
        shutil.rmtree(two.hub)
        loads(store.hub, "acme/one")

    @pytest.mark.usefixtures("two")
    def test_hard_links_lead_to_no_other_file_system(self, run: Command, elsewhere: Path) -> None:
        done = run("migrate", "--from-cache", "-L", "--models-dir", elsewhere)
        assert done.code == 1
        assert "`--copy` copies it" in done.stderr
        assert not list(elsewhere.glob("hub/models--*"))

    @pytest.mark.parametrize("kind", ["links", "shared", "copies"])
    def test_symbolic_links(self, run: Command, cache: StoreBuilder, store: StoreBuilder, kind: Layout) -> None:
        commit = cache.add("acme/tiny", kind=kind)
        before = held(cache.hub)
        done = run("migrate", "--from-cache", "-l")
        assert (done.code, "symbolic link)" in done.stdout) == (0, True)
        assert f"what is removed from `{cache.hub}` is gone from `{store.hub}` too" in done.stderr
        assert store.paths("acme/tiny").folder.is_symlink()
        assert accepted(store.hub) == {"acme/tiny": {commit}}
        listed = run("list", "--json").json["models"]
        assert [(model["id"], model["location"], model["state"]) for model in listed] == [
            ("acme/tiny", "project", "ready")
        ]
        # What removes it here takes the link alone.
        assert run("rm", "acme/tiny", "--yes").code == 0
        assert held(cache.hub) == before
        assert not store.paths("acme/tiny").folder.is_symlink()

    @pytest.mark.usefixtures("two")
    def test_a_link_is_for_whole_models_that_are_not_there(self, run: Command, store: StoreBuilder) -> None:
        store.add("acme/one")
        done = run("migrate", "--from-cache", "-l")
        assert done.code == 1
        assert "only a whole model can be a link" in done.stderr
        assert store.paths("acme/two").folder.is_symlink()


class TestRefs:
    def test_overwritten_where_asked_for(self, run: Command, cache: StoreBuilder, store: StoreBuilder) -> None:
        theirs = cache.add("acme/one", files={"config.json": "theirs"})
        mine = store.add("acme/one", files={"config.json": "mine"})
        before = held(cache.hub, store.hub)
        done = run("migrate", "--from-cache", "--overwrite-refs", "--yes")
        assert done.code == 0, done.stderr
        assert "`acme/one`: `main` names another revision in the target, and will name this one\n" in done.stderr
        assert store.paths("acme/one").ref("main").read_text() == theirs
        assert held(store.hub) == before
        assert store.paths("acme/one").standing(mine).exists()
        # Nobody knows any more what the ref named, so no command claims to bring it back.
        assert "undo: " not in done.stderr

    def test_one_revision_by_the_option(self, run: Command, cache: StoreBuilder, store: StoreBuilder) -> None:
        old = cache.add("acme/one", files={"config.json": "1"}, revision="v1")
        new = cache.add("acme/one", files={"config.json": "2"})
        assert run("migrate", "--from-cache", "acme/one", "--revision", "v1", "--yes").code == 0
        assert (accepted(store.hub), accepted(cache.hub)) == ({"acme/one": {old}}, {"acme/one": {new}})


class TestVerify:
    def test_a_rename_is_verified_where_asked_for(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        two.blob("acme/one", "model.safetensors").write_bytes(b"x" * 100_000)
        done = run("migrate", "--from-cache", "--verify", "--yes")
        assert done.code == 1
        assert "is damaged: its content does not match its name" in done.stderr
        assert (set(accepted(store.hub)), set(accepted(two.hub))) == ({"acme/two"}, {"acme/one"})
        # Without, it comes as it is.
        assert run("migrate", "--from-cache", "--yes").code == 0
        assert accepted(two.hub) == {}


class TestDatasets:
    def test_they_stay_unless_asked_for(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        folder = two.hub / "datasets--acme--data"
        shutil.copytree(two.paths("acme/one").folder, folder, symlinks=True)
        done = run("migrate", "--from-cache", "--yes")
        assert f"1 dataset in `{two.hub}` stay there (`--include-datasets`)\n" in done.stderr
        assert folder.is_dir()
        done = run("migrate", "--from-cache", "--include-datasets", "--yes")
        assert done.code == 0, done.stderr
        assert done.stdout == "moved datasets/acme/data (100.0 kB, rename)\n"
        assert (store.hub / folder.name / "snapshots").is_dir()
        undo = done.stderr.splitlines()[-1].removeprefix("undo: `modelctl ").removesuffix("`").split()
        assert run(*undo, "--yes").code == 0
        assert folder.is_dir()
