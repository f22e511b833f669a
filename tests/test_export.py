"""`modelctl export`: a model becomes the plain folder that it was, and nothing else is touched."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from modelctl.errors import ModelctlError, UsageError
from modelctl.progress import Silence
from modelctl.ref import parse
from modelctl.store import delivery, exporting, importing, scan
from modelctl.store.exporting import ExportPlan
from modelctl.store.importing import Choice
from modelctl.store.intake import ImportResult
from tests.checkpoints import generator, gguf, weights
from tests.command import NOBODY, Command, Finished
from tests.crashes import Crashes
from tests.disks import small_disk
from tests.guard import linkless
from tests.serving import struck
from tests.stores import Layout, StoreBuilder
from tests.test_import import as_bytes, lay, state

NAME = "acme/tiny"
FILES = {**generator(), "1_Pooling/config.json": "[]"}


def found(folder: Path) -> dict[str, bytes]:
    """The files of a folder, which are files and no links."""
    paths = [path for path in folder.rglob("*") if not path.is_dir()]
    assert not any(path.is_symlink() for path in paths)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def plan(store: StoreBuilder, text: str, folder: Path, *, force: bool = False) -> ExportPlan:
    model, ref = scan.find(scan.scan_hub(store.hub, "project"), text)
    return exporting.plan(model, scan.revision_of(model, ref.revision), ref, folder, way="clone", force=force)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.matrix(2)
@pytest.mark.parametrize("kind", ["links", "shared", "copies"])
def test_every_layout(run: Command, store: StoreBuilder, out: Path, kind: Layout) -> None:
    commit = store.add(NAME, files=FILES, kind=kind)
    before = state(store.hub)
    done = run("export", "tiny", out)
    assert (done.code, done.stdout) == (0, f"exported acme/tiny@{commit[:12]} to `{out}` (368 B; copy)\n")
    assert done.stderr == (
        f"acme/tiny@{commit[:12]} to `{out}`\n  5 files, 368 B, of which 368 B to write\nexporting acme/tiny 368 B\n"
    )
    assert found(out) == as_bytes(FILES)
    assert state(store.hub) == before


def test_what_was_imported_comes_out_the_same(store: StoreBuilder, tmp_path: Path, out: Path) -> None:
    def taken_in(folder: Path) -> ImportResult:
        planned = importing.plan(folder, store.hub, parse(NAME), choice=Choice(all_files=True))
        return importing.execute(planned, Silence())

    folder = lay(tmp_path / "mine", FILES)
    os.utime(folder / "config.json", ns=(10**18, 10**18))
    first = taken_in(folder)
    exporting.execute(plan(store, NAME, out), Silence())
    assert found(out) == as_bytes(FILES)
    assert (out / "config.json").stat().st_mtime_ns == 10**18
    again = taken_in(out)
    assert (again.commit, again.way) == (first.commit, None)


def test_twice_writes_nothing(run: Command, store: StoreBuilder, out: Path) -> None:
    store.add(NAME, files=FILES)
    lay(out, {"mine.txt": "stays"})
    exporting.execute(plan(store, NAME, out), Silence())
    before = state(out)
    done = run("export", NAME, out, "--json")
    assert (done.code, done.events[-1]["how"], done.events[-1]["written"]) == (0, None, 0)
    assert state(out) == before
    assert (out / "mine.txt").read_text() == "stays"


def test_a_dry_run_is_dry(run: Command, store: StoreBuilder, out: Path) -> None:
    commit = store.add(NAME, files=FILES)
    told = run("export", NAME, out, "--dry-run", "--json").json
    assert (told["id"], told["commit"], told["to_write"], told["how"]) == (NAME, commit, 368, "reflink")
    assert run("export", NAME, out, "--dry-run").stdout.splitlines()[1].split() == [
        "1_Pooling/config.json",
        "2",
        "B",
        *("reflink,", "else", "copy"),
    ]
    assert not out.exists()


def test_what_differs_is_not_overwritten(run: Command, store: StoreBuilder, out: Path) -> None:
    store.add(NAME, files=FILES)
    lay(out, {"config.json": "mine", "tokenizer.json": "{]"})
    before = state(out)
    done = run("export", NAME, out)
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: `{out}/config.json` has another content than the model's file, and so do 1 more\n"
        "hint: `--force` overwrites what differs\n"
    )
    assert state(out) == before
    done = run("export", NAME, out, "--force")
    assert (done.code, found(out)) == (0, as_bytes(FILES))
    assert "  overwritten: 2 files with another content\n" in done.stderr


def test_hard_links(run: Command, store: StoreBuilder, out: Path, elsewhere: Path) -> None:
    store.add(NAME, files=FILES)
    assert run("export", NAME, out, "-L").code == 0
    assert (out / "model.safetensors").samefile(store.blob(NAME, "model.safetensors"))
    done = run("export", NAME, elsewhere / "x", "-L")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.endswith("hint: leave out `--hard-link`, and it is copied\n")
    assert run("export", NAME, out, "-L", "-c").code == 2


@pytest.mark.sweep
def test_another_revision(run: Command, store: StoreBuilder, cache: StoreBuilder, out: Path) -> None:
    store.add(NAME, files=FILES)
    cache.add("acme/cached", files=generator(), revision="v1")
    assert run("export", "acme/cached@v1", out).code == 0
    assert found(out) == as_bytes(generator())
    assert run("export", NAME, out, "--revision", "v9").code == 3
    assert run("export", "acme/none", out).code == 3


def test_one_quantisation(run: Command, store: StoreBuilder, out: Path) -> None:
    files = {
        "m-Q4_K_M.gguf": gguf({}),
        "m-Q8_0.gguf": gguf({}, vocabulary=4),
        "mmproj-F16.gguf": gguf({}, vocabulary=5),
    }
    store.add(NAME, files=files)
    assert run("export", f"{NAME}:q8_0", out).code == 0
    assert found(out).keys() == {"m-Q8_0.gguf", "mmproj-F16.gguf"}
    done = run("export", f"{NAME}:Q2_K", out)
    assert (done.code, done.stderr.splitlines()[1]) == (3, "hint: here are `Q4_K_M`, `Q8_0`")


class TestNotWhole:
    def test_what_is_missing(self, run: Command, store: StoreBuilder, out: Path) -> None:
        store.add(NAME, files=FILES)
        store.blob(NAME, "tokenizer.json").unlink()
        done = run("export", NAME, out)
        assert (done.code, done.stdout) == (6, "")
        assert done.stderr.endswith("hint: `--force` exports what is there\n")
        assert not out.exists()
        exporting.execute(plan(store, NAME, out, force=True), Silence())
        assert found(out).keys() == FILES.keys() - {"tokenizer.json"}

    def test_what_is_damaged_gets_no_name(self, run: Command, store: StoreBuilder, out: Path) -> None:
        store.add(NAME, files=FILES)
        blob = store.blob(NAME, "model.safetensors")
        blob.write_bytes(weights({"a": (4, 8), "b": (10,)})[:-1] + b"x")
        done = run("export", NAME, out)
        assert (done.code, done.stdout) == (6, "")
        assert "`model.safetensors` of `acme/tiny` is damaged: its content does not match its name" in done.stderr
        assert found(out).keys() == {"1_Pooling/config.json", "README.md", "config.json"}
        blob.write_bytes(weights({"a": (4, 8), "b": (10,)}))
        exporting.execute(plan(store, NAME, out), Silence())
        assert found(out) == as_bytes(FILES)


class TestPlaces:
    def test_inside_of_a_store(self, run: Command, store: StoreBuilder) -> None:
        store.add(NAME, files=FILES)
        for folder in (store.hub, store.hub / "plain", store.paths(NAME).blobs):
            with pytest.raises(UsageError, match="lies inside of the store"):
                plan(store, NAME, folder)
        done = run("export", NAME, store.hub)
        assert (done.code, done.stdout) == (2, "")

    def test_what_is_in_the_way(self, store: StoreBuilder, tmp_path: Path) -> None:
        store.add(NAME, files=FILES)
        lay(tmp_path, {"file": "x", "a/1_Pooling": "x", "b/config.json/x": "x"})
        (tmp_path / "target").mkdir()
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "1_Pooling").symlink_to(tmp_path / "target")
        told = {
            "file": "file` is no folder",
            "a": "1_Pooling` is no folder",
            "b": r"config\.json` is a folder where a file should be",
            "c": "1_Pooling` is no folder",
        }
        for name, message in told.items():
            with pytest.raises(ModelctlError, match=message):
                plan(store, NAME, tmp_path / name, force=True)

    def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(
        self, store: StoreBuilder, out: Path, tmp_path: Path
    ) -> None:
        store.add(NAME, files=FILES)
        (tmp_path / "mine").write_text("mine")
        out.mkdir()
        (out / "config.json").symlink_to(tmp_path / "mine")
        with pytest.raises(ModelctlError, match="has another content"):
            plan(store, NAME, out)
        exporting.execute(plan(store, NAME, out, force=True), Silence())
        assert found(out) == as_bytes(FILES)
        assert (tmp_path / "mine").read_text() == "mine"

    def test_where_this_user_may_not_write(self, run: Command, store: StoreBuilder, out: Path) -> None:
        store.add(NAME, files=FILES)
        out.mkdir(mode=0o755)
        done = run("export", NAME, out, user=NOBODY)
        assert (done.code, done.stdout) == (4, "")
        assert "Permission denied" in done.stderr

    def test_too_little_room(self, run: Command, store: StoreBuilder, tmp_path: Path) -> None:
        store.add(NAME, files={**FILES, "model.safetensors": weights({"a": (1024, 1024)})})
        with small_disk(tmp_path / "disk", 2 * 1024 * 1024) as disk:
            done = run("export", NAME, disk / "x", "--json")
            assert (done.code, done.events[-1]["error"]["kind"]) == (5, "no_room")
            assert done.events[-1]["error"]["needed"] > 2_000_000
            assert not list(disk.rglob("*.safetensors"))

    def test_a_link_where_it_writes_aside_is_not_followed(self, store: StoreBuilder, out: Path, tmp_path: Path) -> None:
        store.add(NAME, files=FILES)
        lay(tmp_path / "mine" / "files", {"config.json": "mine"})
        out.mkdir()
        for link, target in ((delivery.ASIDE, "mine"), (f"{delivery.ASIDE}/files", "mine/files")):
            (out / link).parent.mkdir(exist_ok=True)
            (out / link).symlink_to(tmp_path / target)
            with pytest.raises(ModelctlError, match=f"{link}` is no folder"):
                plan(store, NAME, out)
            (out / link).unlink()
        assert found(tmp_path / "mine") == {"files/config.json": b"mine"}

    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize("link", [False, True])
    def test_what_appears_meanwhile(self, store: StoreBuilder, out: Path, *, force: bool, link: bool) -> None:
        store.add(NAME, files=FILES)

        class Meanwhile(Silence):
            def advance(self, done: int) -> None:
                del done
                if link and not (out / "config.json").exists():
                    (out / "config.json").symlink_to("mine")
                (out / ("mine" if link else "config.json")).write_text("mine")

        planned = plan(store, NAME, out, force=force)
        if force:
            exporting.execute(planned, Meanwhile())
            assert (out / "config.json").read_bytes() == as_bytes(FILES)["config.json"]
            return
        with pytest.raises(ModelctlError, match="has appeared meanwhile"):
            exporting.execute(planned, Meanwhile())
        assert (out / "config.json").read_text() == "mine"
        assert not (out / delivery.ASIDE).exists()

    def test_a_folder_that_becomes_a_link_meanwhile(self, store: StoreBuilder, out: Path, tmp_path: Path) -> None:
        store.add(NAME, files=FILES)
        (tmp_path / "mine").mkdir()

        class Meanwhile(Silence):
            def advance(self, done: int) -> None:
                del done
                if not (out / "1_Pooling").exists():
                    (out / "1_Pooling").symlink_to(tmp_path / "mine")

        with pytest.raises(ModelctlError, match="1_Pooling` is no folder"):
            exporting.execute(plan(store, NAME, out, force=True), Meanwhile())
        assert list((tmp_path / "mine").iterdir()) == []

    @pytest.mark.sweep
    def test_without_hard_links(self, run: Command, store: StoreBuilder, out: Path) -> None:
        store.add(NAME, files=FILES)
        assert run("export", NAME, out, env={linkless.FOLDER: str(out)}).code == 0
        assert found(out) == as_bytes(FILES)

    @pytest.mark.sweep
    def test_many_files_are_made_durable_together(self, run: Command, store: StoreBuilder, out: Path) -> None:
        store.add(NAME, files={**FILES, **{f"data/{at}.json": str(at) for at in range(150)}})
        calls = Crashes(run, (out.parent,)).calls("export", NAME, out)
        assert len([call for call in calls if "sync" in call]) < 10
        assert len(found(out)) == len(FILES) + 150

    def test_two_at_once(self, run: Command, store: StoreBuilder, out: Path) -> None:
        store.add(NAME, files=FILES)
        told: list[Finished] = []

        class Meanwhile(Silence):
            def advance(self, done: int) -> None:
                del done
                if not told:
                    told.append(run("export", NAME, out, "--force"))

        exporting.execute(plan(store, NAME, out), Meanwhile())
        assert (told[0].code, told[0].stdout) == (8, "")
        assert f"error: `{out}` is in use by `modelctl export`" in told[0].stderr
        assert found(out) == as_bytes(FILES)


class TestInterrupted:
    @pytest.mark.sweep
    def test_ctrl_c(self, run: Command, store: StoreBuilder, out: Path) -> None:
        store.add(NAME, files=FILES, lfs={"big.bin": b""})
        blob = store.blob(NAME, "big.bin")
        os.truncate(blob, 400 * 1024 * 1024)
        # On a busy machine it may be over before we are told of its beginning.
        for _ in range(20):
            process = run.start("export", NAME, out, "--json", "--force")
            assert process.stdout is not None
            next(line for line in process.stdout if '"progress"' in line and "present" not in line)
            was_there = struck(process, signal.SIGINT, where=lambda: not (out / "big.bin").exists())
            process.communicate(timeout=60)
            if was_there:
                break
            shutil.rmtree(out)
        assert process.returncode == 130
        assert not (out / "big.bin").exists()

    @pytest.mark.parametrize("count", [pytest.param(2), pytest.param(None, marks=pytest.mark.sweep)])
    def test_killed_anywhere(self, run: Command, store: StoreBuilder, out: Path, count: int | None) -> None:
        store.add(NAME, files=FILES)
        before = state(store.hub)
        whole = as_bytes(FILES)
        crashes = Crashes(run, (out.parent,))
        argv = ("export", NAME, out)
        for killed in crashes.each(*argv, prepare=lambda: shutil.rmtree(out, ignore_errors=True), count=count):
            shown = {name: data for name, data in found(out).items() if not name.startswith(delivery.ASIDE)}
            assert shown.items() <= whole.items(), killed
            assert run(*argv).code == 0, killed
            assert found(out) == whole, killed
        assert state(store.hub) == before

    def test_what_has_arrived_is_not_written_again(self, store: StoreBuilder, out: Path) -> None:
        store.add(NAME, files=FILES)
        data = as_bytes(FILES)["model.safetensors"]
        lay(out / delivery.ASIDE / "files", {"model.safetensors": data[:50], "config.json": b"?" * 900})
        inode = (out / delivery.ASIDE / "files" / "model.safetensors").stat().st_ino
        exporting.execute(plan(store, NAME, out), Silence())
        assert found(out) == as_bytes(FILES)
        assert (out / "model.safetensors").stat().st_ino == inode
