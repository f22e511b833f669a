"""`modelctl import`: what lies outside of any store becomes a model, or nothing does."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelctl.errors import ModelctlError, NoRoomError, NotFoundError, NotWholeError, UsageError
from modelctl.progress import Silence
from modelctl.ref import parse
from modelctl.store import bringing, importing, imports, lock, scan, standing, tree
from modelctl.store.importing import Choice, ImportPlan
from modelctl.store.standing import Standing
from tests.checkpoints import generator, gguf, sharded, weights
from tests.command import NOBODY, Command
from tests.crashes import Crashes
from tests.disks import small_disk
from tests.hub.loopback import Hub
from tests.second_opinion import accepted, loads
from tests.serving import struck
from tests.stores import StoreBuilder

NAME = "acme/tune"
Q4: Mapping[str, str | int] = {"general.architecture": "llama", "general.file_type": 15}
SWEPT = [pytest.param(update, None, marks=pytest.mark.sweep) for update in ("fresh", "update")]
Files = Mapping[str, bytes | str]


def lay(folder: Path, files: Files) -> Path:
    """A plain folder with these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def as_bytes(files: Files) -> dict[str, bytes]:
    return {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}


def content(store: StoreBuilder, revision: str = "main", name: str = NAME) -> dict[str, bytes]:
    """What huggingface_hub finds offline under a revision."""
    folder = loads(store.hub, name, revision)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def state(folder: Path) -> dict[str, tuple[int, int, str]]:
    """All names below a folder with inode, time and target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        target = str(path.readlink()) if path.is_symlink() else ""
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mtime_ns, target)
    return found


def plan(store: StoreBuilder, path: Path, name: str = NAME, **choice: bool) -> ImportPlan:
    return importing.plan(path, store.hub, parse(name), choice=Choice(**choice))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as training leaves it."""
    training: Files = {
        "optimizer.pt": b"o" * 5000,
        "trainer_state.json": "{}",
        "runs/events.out": b"e",
        ".git/HEAD": "x",
    }
    return lay(tmp_path / "checkpoint-500", {**generator(), **training})


LOADED = {**as_bytes(generator()), "trainer_state.json": b"{}"}


class TestFolder:
    def test_what_vllm_loads_becomes_a_model(self, run: Command, folder: Path, store: StoreBuilder) -> None:
        before = state(folder)
        done = run("import", folder, "--as", NAME)
        assert done.code == 0, done.stderr
        commit = store.paths(NAME).ref("main").read_text()
        assert done.stdout == f"imported acme/tune@{commit[:12]} (368 B; copy)\n"
        assert done.stderr == (
            f"`{folder}` as acme/tune@main\n"
            "  5 files, 368 B, reflink, else copy\n"
            "  left out: 2 files, 5.0 kB (`--dry-run` shows them)\n"
            "importing acme/tune 368 B\n"
        )
        assert content(store) == LOADED
        assert accepted(store.hub) == {NAME: {commit}}
        assert state(folder) == before
        paths = store.paths(NAME)
        names = sorted(path.name for path in paths.folder.iterdir())
        assert names == [
            ".modelctl",
            "blobs",
            "refs",
            "snapshots",
            "trees",
        ]
        # Bytes of its own: who goes on training does not change the model.
        assert not store.blob(NAME, "model.safetensors").samefile(folder / "model.safetensors")
        (model,) = run("list", "--json").json["models"]
        assert (model["id"], model["state"], model["servable"]) == (NAME, "ready", True)

    def test_twice_is_a_no_op(self, run: Command, folder: Path, store: StoreBuilder) -> None:
        importing.execute(plan(store, folder), Silence())
        before = state(store.paths(NAME).folder)
        done = run("import", folder, "--as", NAME, "--json")
        assert done.code == 0
        assert (done.events[-1]["how"], done.events[-1]["written"], done.events[-1]["left"]) == (None, 0, None)
        assert {event["source"] for event in done.events if event["event"] == "file"} == {"present"}
        assert state(store.paths(NAME).folder) == before

    def test_the_commit_follows_from_the_files(self, folder: Path, store: StoreBuilder) -> None:
        ends = [importing.execute(plan(store, folder, name), Silence()) for name in (NAME, "acme/other@v1")]
        assert ends[0].commit == ends[1].commit
        assert store.paths("acme/other").ref("v1").read_text() == ends[0].commit
        assert not store.paths("acme/other").ref("main").exists()

    def test_a_ref_moves_on_and_its_old_revision_is_left_behind(
        self, run: Command, folder: Path, store: StoreBuilder
    ) -> None:
        old = importing.execute(plan(store, folder), Silence()).commit
        kept = store.blob(NAME, "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
        done = run("import", folder, "--as", NAME)
        new = store.paths(NAME).ref("main").read_text()
        assert new != old
        assert done.stderr.endswith(
            f"`main` has moved on from {old[:12]}, which stays; `modelctl rm acme/tune@{old[:12]}` removes it\n"
        )
        assert accepted(store.hub) == {NAME: {old, new}}
        # What both share is there once, and was proven, not written.
        assert store.blob(NAME, "model.safetensors") == kept
        (left,) = run("prune", "--revisions", "--dry-run", "--json").json["leftovers"]
        assert left["commits"] == [old]
        # Named again it is no garbage any more.
        lay(folder, generator())
        assert importing.execute(plan(store, folder), Silence()).commit == old
        assert standing.read(store.paths(NAME), old) == Standing(imported=str(folder))
        assert standing.read(store.paths(NAME), new) == Standing("main", old, str(folder))

    def test_all_files(self, folder: Path, store: StoreBuilder) -> None:
        importing.execute(plan(store, folder, all_files=True), Silence())
        assert content(store) == {**LOADED, "optimizer.pt": b"o" * 5000, "runs/events.out": b"e"}

    def test_a_dry_run_is_dry(self, run: Command, folder: Path, store: StoreBuilder) -> None:
        done = run("import", folder, "--as", f"{NAME}@v2", "--dry-run", "--json")
        assert done.code == 0
        assert not store.hub.exists()
        told = done.json
        assert (told["id"], told["ref"], told["kind"], told["how"]) == (NAME, "v2", "folder", "reflink")
        assert {file["name"] for file in told["files"]} == LOADED.keys()
        assert told["left_out"] == [
            {"name": "optimizer.pt", "size": 5000, "why": "vLLM does not load it"},
            {"name": "runs/events.out", "size": 1, "why": "vLLM does not load it"},
        ]
        assert run("import", folder, "--as", NAME, "--dry-run").stdout.splitlines()[-1].split() == [
            *("runs/events.out", "1", "B", "left", "out")
        ]

    def test_a_lora_is_a_model_too(self, store: StoreBuilder, tmp_path: Path) -> None:
        files: Files = {
            "adapter_config.json": '{"base_model_name_or_path": "acme/base"}',
            "adapter_model.safetensors": weights({"a": (2,)}),
        }
        importing.execute(plan(store, lay(tmp_path / "lora", files)), Silence())
        assert content(store) == as_bytes(files)

    def test_hard_links_share_the_bytes(self, run: Command, folder: Path, store: StoreBuilder) -> None:
        done = run("import", folder, "--as", NAME, "-L", "--json")
        assert (done.code, done.events[-1]["how"], done.events[-1]["written"]) == (0, "link", 0)
        assert store.blob(NAME, "model.safetensors").samefile(folder / "model.safetensors")
        assert content(store) == LOADED

    def test_across_file_systems(self, run: Command, folder: Path, elsewhere: Path) -> None:
        far = StoreBuilder(elsewhere / "hub")
        done = run("import", folder, "--as", NAME, "-L", "--models-dir", elsewhere)
        assert done.code == 2
        assert done.stderr.endswith("hint: leave out `--hard-link`, and it is copied\n")
        done = run("import", folder, "--as", NAME, "--models-dir", elsewhere, "--json")
        assert (done.events[0]["how"], done.events[-1]["how"]) == ("copy", "copy")
        assert content(far) == LOADED

    def test_into_a_model_that_came_from_the_hub(self, folder: Path, store: StoreBuilder) -> None:
        old = store.add(NAME)
        importing.execute(plan(store, folder, f"{NAME}@tuned"), Silence())
        assert content(store, "tuned") == LOADED
        assert store.paths(NAME).ref("main").read_text() == old

    def test_a_damaged_model_is_mended_by_importing_it_again(
        self, run: Command, folder: Path, store: StoreBuilder
    ) -> None:
        planned = plan(store, folder, f"{NAME}@v1")
        importing.execute(planned, Silence())
        blob = store.blob(NAME, "model.safetensors", revision=store.paths(NAME).ref("v1").read_text())
        blob.write_bytes(b"?" * blob.stat().st_size)
        (model,) = run("list", "--json").json["models"]
        (problem,) = model["problems"]
        assert problem["fix"] == f"modelctl import {folder} --as {NAME}@v1 --force"
        assert run(*problem["fix"].split()[1:]).code == 0
        assert content(store, "v1") == LOADED

    def test_it_follows_no_hub(self, run: Command, hub: Hub, folder: Path, store: StoreBuilder) -> None:
        """Under the same name the Hub may have a model of somebody else."""
        hub.add(NAME)
        importing.execute(plan(store, folder), Silence())
        done = run("pull", "--update", "--all", env=hub.environ)
        assert done.code == 0, done
        assert f"`{NAME}` is left alone: it was imported, and follows no Hub\n" in done.stderr
        assert f"hint: `modelctl import {folder} --as {NAME}`\n" in done.stderr
        assert hub.asked == []
        assert content(store) == LOADED

    @pytest.mark.sweep
    def test_it_follows_none_until_asked_to(self, run: Command, hub: Hub, folder: Path, store: StoreBuilder) -> None:
        hub.add(NAME)
        assert run("import", folder, "--as", NAME).code == 0
        assert "left alone" in run("pull", "--update", f"{NAME}@main", env=hub.environ).stderr
        assert run("list", "--outdated", env=hub.environ).code == 0
        assert hub.asked == []
        # Asked for by its name it comes, and what was imported stays beside it.
        old = store.paths(NAME).ref("main").read_text()
        assert run("pull", NAME, env=hub.environ).code == 0
        assert store.paths(NAME).snapshot(old).is_dir()
        assert run("pull", "--update", "--all", env=hub.environ).code == 0
        assert hub.asked
        done = run("import", folder, "--as", NAME, "--json")
        assert (done.events[-1]["commit"], done.events[-1]["how"]) == (old, None)
        assert content(store) == LOADED
        assert "left alone" in run("pull", "--update", "--all", env=hub.environ).stderr


class TestCheck:
    """What vLLM could not load is refused, with what is missing."""

    @pytest.mark.parametrize(
        ("files", "told"),
        [
            (
                {name: data for name, data in sharded().items() if name != "model-00002-of-00002.safetensors"},
                "`model-00002-of-00002.safetensors` is missing",
            ),
            (
                {**sharded(), "model-00002-of-00002.safetensors": weights({"b": (10,)})},
                "`model-00002-of-00002.safetensors` lacks `c`, which `model.safetensors.index.json` places there",
            ),
            (generator(model__safetensors=b"12345678901"), "`model.safetensors` is no safetensors file"),
            (generator(model__safetensors=None), "none of its weights is here"),
            (generator(tokenizer__json=None), "vLLM cannot serve it without a tokenizer"),
            (generator(config__json=None), "vLLM cannot serve it without a `config.json`"),
            ({"model.onnx": b"x"}, "it has no weights that vLLM loads, only ONNX files"),
            (
                {"a-00001-of-00003.gguf": gguf({}), "a-00003-of-00003.gguf": gguf({})},
                "`a-00002-of-00003.gguf` is missing",
            ),
        ],
    )
    def test_refused(self, store: StoreBuilder, tmp_path: Path, files: Files, told: str) -> None:
        folder = lay(tmp_path / "model", files)
        with pytest.raises(NotWholeError, match="vLLM could not load") as caught:
            plan(store, folder)
        assert told in caught.value.message
        assert caught.value.hint == "`--force` imports it all the same"
        assert not store.hub.exists()
        importing.execute(plan(store, folder, force=True), Silence())
        assert content(store) == as_bytes(files)

    def test_as_a_program_sees_it(self, run: Command, tmp_path: Path) -> None:
        files = {name: data for name, data in sharded().items() if name != "model-00001-of-00002.safetensors"}
        done = run("import", lay(tmp_path / "model", files), "--as", NAME, "--json")
        assert done.code == 6
        (last,) = done.events
        assert (last["event"], last["error"]["kind"]) == ("error", "not_whole")
        assert last["error"]["missing"] == ["model-00001-of-00002.safetensors"]


class TestWrongInput:
    def test_paths_that_are_nothing(self, run: Command, store: StoreBuilder, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "notes.txt").write_text("no model")
        (tmp_path / "circle").symlink_to("circle")
        os.mkfifo(tmp_path / "pipe")
        told: dict[str, tuple[type[ModelctlError], str]] = {
            "nothing": (NotFoundError, f"there is no file or folder `{tmp_path}/nothing`"),
            "empty": (NotFoundError, f"`{tmp_path}/empty` holds no files"),
            "notes.txt": (UsageError, f"`{tmp_path}/notes.txt` is no GGUF file"),
            "pipe": (UsageError, f"`{tmp_path}/pipe` is neither a file nor a folder"),
            "circle": (NotFoundError, f"`{tmp_path}/circle` is a link that leads in a circle"),
        }
        for name, (kind, message) in told.items():
            with pytest.raises(kind) as caught:
                plan(store, tmp_path / name)
            assert caught.value.message == message
        done = run("import", tmp_path / "nothing", "--as", NAME)
        assert (done.code, done.stdout) == (3, "")
        assert done.stderr.startswith(f"error: there is no file or folder `{tmp_path}/nothing`\nhint: ")

    @pytest.mark.matrix(2)
    @pytest.mark.parametrize(
        ("argv", "code", "told"),
        [
            (["--as", "no name"], 2, "`no name` is not a model name"),
            (["--as", f"acme/x@{'1' * 40}"], 2, "is a commit, which follows from the files"),
            (["--as", "acme/x:Q4_K_M"], 2, "is no GGUF model, so it has no `Q4_K_M`"),
            (["--as", "acme/x", "-c", "-L"], 2, "`--copy` and `--hard-link` contradict each other"),
            ([], 2, "missing option `--as`"),
        ],
    )
    def test_words_that_mean_nothing(self, run: Command, folder: Path, argv: list[str], code: int, told: str) -> None:
        done = run("import", folder, *argv)
        assert (done.code, done.stdout) == (code, "")
        assert told in done.stderr

    def test_links_that_lead_out(self, run: Command, folder: Path, store: StoreBuilder, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("key")
        lay(tmp_path / "modules", {"config.json": "{}"})
        (folder / "extra.json").symlink_to(tmp_path / "secret")
        (folder / "loop").symlink_to(folder)
        done = run("import", folder, "--as", NAME)
        assert (done.code, done.stdout) == (1, "")
        assert done.stderr == (
            f"error: `{folder}/extra.json` is a link that leads out of the folder, to `{tmp_path}/secret`\n"
            "hint: `--follow-links` takes what it leads to\n"
        )
        assert not store.hub.exists()
        done = run("import", folder, "--as", NAME, "--follow-links")
        assert (done.code, content(store)["extra.json"]) == (0, b"key")

    def test_links_inside_are_followed(self, folder: Path, store: StoreBuilder) -> None:
        (folder / "real").mkdir()
        (folder / "model.safetensors").rename(folder / "real" / "weights")
        (folder / "model.safetensors").symlink_to("real/weights")
        importing.execute(plan(store, folder), Silence())
        assert content(store) == LOADED

    def test_links_to_folders_are_followed_and_never_in_a_circle(self, folder: Path, store: StoreBuilder) -> None:
        lay(folder / "a" / "shared", {"config.json": "[]"})
        lay(folder / "z" / "shared", {"config.json": "{}"})
        (folder / "1_Pooling").symlink_to("a/shared")
        (folder / "2_Dense").symlink_to("z/shared")
        for name in ("a", "z"):
            (folder / name / "back").symlink_to("..")
            (folder / name / "beside").symlink_to(f"../{'z' if name == 'a' else 'a'}")
        found = {file.name: file.path for file in plan(store, folder, all_files=True).source.files}
        names = {"a/shared", "z/shared", "1_Pooling", "2_Dense", "a/beside/shared", "z/beside/shared"}
        assert {name.removesuffix("/config.json") for name in found if "/config.json" in name} >= names
        assert found["1_Pooling/config.json"] == found["a/shared/config.json"]

    def test_a_snapshot_of_a_cache_under_another_name(self, cache: StoreBuilder, store: StoreBuilder) -> None:
        commit = cache.add("acme/base", files=generator())
        importing.execute(plan(store, cache.paths("acme/base").snapshot(commit)), Silence())
        assert content(store) == as_bytes(generator())
        with pytest.raises(UsageError, match="is a model in the layout of a Hugging Face cache"):
            plan(store, cache.paths("acme/base").folder)

    @pytest.mark.parametrize("how", ["pipe", "dangling"])
    def test_a_file_that_is_none(self, folder: Path, store: StoreBuilder, how: str) -> None:
        (folder / "tokenizer.json").unlink()
        if how == "pipe":
            os.mkfifo(folder / "tokenizer.json")
        else:
            (folder / "tokenizer.json").symlink_to("gone")
        with pytest.raises(ModelctlError, match=r"tokenizer\.json` is (no file|a link to `gone`)"):
            plan(store, folder, force=True)

    def test_names_that_no_model_has(self, folder: Path, store: StoreBuilder) -> None:
        (folder / "a\\b.json").write_text("{}")
        with pytest.raises(ModelctlError, match="cannot be the name of a model's file") as caught:
            plan(store, folder)
        assert caught.value.hint == "rename it"
        (folder / "a\\b.json").rename(folder / "a\\b.bin2")
        assert [one.name for one in plan(store, folder).model.left_out][-1] == "a\\b.bin2"
        (folder / "a\\b.bin2").rename(folder / os.fsdecode(b"\xff.log"))
        importing.execute(plan(store, folder), Silence())
        assert content(store) == LOADED

    def test_what_another_user_may_not_read(self, run: Command, folder: Path, project: Path) -> None:
        for path in (project, *project.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        (folder / "model.safetensors").chmod(0)
        done = run("import", folder, "--as", NAME, user=NOBODY)
        assert (done.code, done.stdout) == (4, "")
        assert done.stderr.startswith(f"error: `{folder}/model.safetensors` cannot be read: Permission denied\n")
        (folder / "model.safetensors").chmod(0o644)
        (folder / "runs").chmod(0)
        done = run("import", folder, "--as", NAME, user=NOBODY)
        assert (done.code, done.stdout) == (4, "")
        assert f"cannot read `{folder}/runs`: Permission denied" in done.stderr
        (folder / "runs").chmod(0o755)
        (folder / "extra.json").symlink_to(project / "closed" / "secret")
        (project / "closed").mkdir(mode=0o700)
        (project / "closed" / "secret").write_text("key")
        done = run("import", folder, "--as", NAME, user=NOBODY)
        assert (done.code, "is a link that leads out of the folder" in done.stderr) == (1, True), done
        done = run("import", folder, "--as", NAME, "--follow-links", user=NOBODY)
        assert (done.code, f"`{folder}/extra.json` cannot be read: Permission denied" in done.stderr) == (4, True), done
        (folder / "extra.json").unlink()
        assert run("import", folder, "--as", NAME, user=NOBODY).code == 0

    def test_a_store_that_is_in_use(self, run: Command, folder: Path, store: StoreBuilder) -> None:
        with lock.held(store.paths(NAME), "pull"):
            done = run("import", folder, "--as", NAME)
        assert (done.code, done.stdout) == (8, "")

    def test_a_link_in_the_store_leads_nothing_out(self, folder: Path, store: StoreBuilder, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        paths = store.paths(NAME)
        planned = plan(store, folder)
        importing.execute(planned, Silence())
        shutil.rmtree(paths.snapshots)
        for place in (paths.imported, paths.blobs, paths.snapshots):
            shutil.rmtree(paths.folder)
            place.parent.mkdir(parents=True)
            place.symlink_to(tmp_path / "out")
            with pytest.raises(ModelctlError, match="is a link where a folder should be"):
                importing.execute(planned, Silence())
            assert list((tmp_path / "out").iterdir()) == []


class Changing(Silence):
    """Somebody who goes on training while the files are read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str, *, size: int, source: str) -> None:
        del size, source
        if name == "config.json":
            with self.path.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\t")


class TestChanges:
    @pytest.mark.parametrize("name", ["README.md", "model.safetensors"])
    @pytest.mark.parametrize("how", ["clone", "link"])
    def test_a_file_that_changes_while_it_is_read(
        self, folder: Path, store: StoreBuilder, name: str, how: bringing.Way
    ) -> None:
        """Before it is read and after, neither is half of one checkpoint and half of another ever a model."""
        planned = importing.plan(folder, store.hub, parse(NAME), choice=Choice(way=how))
        with pytest.raises(ModelctlError, match=f"{name}` was changed meanwhile") as caught:
            importing.execute(planned, Changing(folder / name))
        assert caught.value.exit_code == 8
        assert not store.paths(NAME).folder.exists()
        importing.execute(plan(store, folder), Silence())
        assert accepted(store.hub)

    def test_a_failure_leaves_a_model_as_it_was(self, folder: Path, store: StoreBuilder) -> None:
        store.add(NAME)
        before = state(store.paths(NAME).folder)
        with pytest.raises(ModelctlError, match="was changed meanwhile"):
            importing.execute(plan(store, folder), Changing(folder / "README.md"))
        assert state(store.paths(NAME).folder).keys() == before.keys()


class TestGguf:
    def test_a_name_that_tells(self, run: Command, store: StoreBuilder, tmp_path: Path) -> None:
        path = lay(tmp_path, {"Qwen3-8B-Q8_0.gguf": gguf({}, metadata=Q4)}) / "Qwen3-8B-Q8_0.gguf"
        done = run("import", path, "--as", "acme/qwen-GGUF")
        assert done.code == 0, done.stderr
        assert ", Q8_0, reflink" in done.stderr
        assert list(content(store, name="acme/qwen-GGUF")) == ["Qwen3-8B-Q8_0.gguf"]
        (model,) = run("list", "--json").json["models"]
        assert (model["state"], model["format"]) == ("ready", "gguf")

    def test_a_name_that_does_not_tell_gets_it_from_the_header(self, store: StoreBuilder, tmp_path: Path) -> None:
        lay(tmp_path, {"model.gguf": gguf({}, metadata=Q4), "other.gguf": gguf({})})
        assert plan(store, tmp_path / "model.gguf").model.quantizations == ("Q4_K_M",)
        importing.execute(plan(store, tmp_path / "model.gguf"), Silence())
        assert list(content(store)) == ["model-Q4_K_M.gguf"]
        # Where nothing tells, the user may.
        assert [file.name for file in plan(store, tmp_path / "other.gguf").model.files] == ["other.gguf"]
        named = plan(store, tmp_path / "other.gguf", f"{NAME}:Q5_K_S")
        assert [file.name for file in named.model.files] == ["other-Q5_K_S.gguf"]

    def test_all_parts_of_a_split_one_and_its_projector(self, store: StoreBuilder, tmp_path: Path) -> None:
        part, first = gguf({}), gguf({}, metadata=Q4)
        files = {"a-00001-of-00002.gguf": first, "a-00002-of-00002.gguf": part, "mmproj-a.gguf": gguf({}, vocabulary=1)}
        folder = lay(tmp_path / "downloads", files)
        names = ["a-Q4_K_M-00001-of-00002.gguf", "a-Q4_K_M-00002-of-00002.gguf", "mmproj-a.gguf"]
        assert [file.name for file in plan(store, folder / "a-00002-of-00002.gguf").model.files] == names
        assert [file.name for file in plan(store, folder).model.files] == names
        # Beside other models a projector is taken only where its name says whose it is.
        lay(folder, {"b-Q4_0.gguf": part, "mmproj-x.gguf": part})
        assert [file.name for file in plan(store, folder / "a-00001-of-00002.gguf").model.files] == names
        assert [file.name for file in plan(store, folder / "b-Q4_0.gguf").model.files] == ["b-Q4_0.gguf"]

    def test_a_folder_of_lm_studio(self, store: StoreBuilder, tmp_path: Path) -> None:
        files = {"Qwen3-Q4_K_M.gguf": gguf({}), "Qwen3-Q8_0.gguf": gguf({}, vocabulary=4), "mmproj-F16.gguf": gguf({})}
        folder = lay(tmp_path / ".lmstudio" / "models" / "acme" / "Qwen3-GGUF", files)
        assert plan(store, folder).model.quantizations == ("Q4_K_M", "Q8_0")
        one = plan(store, folder, f"{NAME}:q8_0").model
        assert [file.name for file in one.files] == ["Qwen3-Q8_0.gguf", "mmproj-F16.gguf"]
        assert [(left.name, left.why) for left in one.left_out] == [("Qwen3-Q4_K_M.gguf", "it is another quantisation")]
        with pytest.raises(NotFoundError, match="has no `Q2_K`"):
            plan(store, folder, f"{NAME}:Q2_K")
        importing.execute(plan(store, folder), Silence())
        assert content(store) == as_bytes(files)

    def test_a_damaged_one_among_several_is_found(self, store: StoreBuilder, tmp_path: Path) -> None:
        whole = gguf({"a": (0, (64,), 256)})
        folder = lay(tmp_path / "x", {"m-Q4_K_M.gguf": whole[:-100], "m-Q8_0.gguf": whole})
        with pytest.raises(NotWholeError, match=r"`m-Q4_K_M\.gguf` is cut off"):
            plan(store, folder)


class TestOllama:
    @pytest.fixture
    def models(self, tmp_path: Path) -> Path:
        """A store of Ollama with one model that sees."""
        model, projector = gguf({}, metadata=Q4), gguf({}, vocabulary=1)
        blobs = {f"blobs/sha256-{hashlib.sha256(data).hexdigest()}": data for data in (model, projector, b"template")}
        kinds = ("model", "projector", "template")
        layers = [
            {
                "mediaType": f"application/vnd.ollama.image.{kind}",
                "digest": name[6:].replace("-", ":"),
                "size": len(data),
            }
            for kind, (name, data) in zip(kinds, blobs.items(), strict=True)
        ]
        manifest = {"schemaVersion": 2, "config": {}, "layers": layers}
        place = "manifests/registry.ollama.ai/library/llava/7b"
        return lay(tmp_path / ".ollama" / "models", {**blobs, place: json.dumps(manifest)})

    @pytest.fixture
    def manifest(self, models: Path) -> Path:
        return models / "manifests" / "registry.ollama.ai" / "library" / "llava" / "7b"

    def test_a_manifest(self, run: Command, store: StoreBuilder, manifest: Path) -> None:
        done = run("import", manifest, "--as", "acme/llava-GGUF")
        assert done.code == 0, done.stderr
        assert set(content(store, name="acme/llava-GGUF")) == {"llava-GGUF-Q4_K_M.gguf", "mmproj-llava-GGUF.gguf"}

    def test_a_blob_by_its_path(self, store: StoreBuilder, models: Path, manifest: Path) -> None:
        digest = json.loads(manifest.read_text())["layers"][0]["digest"].replace(":", "-")
        importing.execute(plan(store, models / "blobs" / digest, "acme/llava"), Silence())
        assert list(content(store, name="acme/llava")) == ["llava-Q4_K_M.gguf"]

    def test_a_blob_that_is_not_what_its_name_says(self, store: StoreBuilder, models: Path, manifest: Path) -> None:
        digest = json.loads(manifest.read_text())["layers"][0]["digest"].replace(":", "-")
        (models / "blobs" / digest).write_bytes(gguf({}, metadata=Q4, vocabulary=9))
        with pytest.raises(NotWholeError, match="is damaged: its content does not match its name"):
            importing.execute(plan(store, manifest), Silence())
        assert not store.paths(NAME).folder.exists()

    def test_what_is_not_one_model(self, store: StoreBuilder, models: Path, manifest: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is a store of Ollama") as caught:
            plan(store, models)
        assert caught.value.hint == f"give the manifest of one model: `find {models}/manifests -type f`"
        shutil.copyfile(manifest, tmp_path / "alone")
        with pytest.raises(UsageError, match="does not lie in its store"):
            plan(store, tmp_path / "alone")
        layers = [{"mediaType": "application/vnd.ollama.image.tensor", "digest": f"sha256:{'1' * 64}"}]
        manifest.write_text(json.dumps({"layers": layers}))
        with pytest.raises(ModelctlError, match="names no GGUF files where one is expected"):
            plan(store, manifest)

    def test_a_blob_that_is_missing(self, store: StoreBuilder, models: Path, manifest: Path) -> None:
        shutil.rmtree(models / "blobs")
        with pytest.raises(ModelctlError, match="cannot be read: No such file or directory"):
            plan(store, manifest)


class TestRoom:
    def test_too_little_is_found_before_a_byte_is_written(self, run: Command, folder: Path, tmp_path: Path) -> None:
        lay(folder, {"model.safetensors": weights({"a": (1024, 1024)})})
        with small_disk(tmp_path / "disk", 2 * 1024 * 1024) as disk:
            done = run("import", folder, "--as", NAME, "--models-dir", disk, "--json")
            assert done.code == 5
            error = done.events[-1]["error"]
            assert (error["kind"], error["needed"] > 2_000_000, error["free"] < 2_200_000) == ("no_room", True, True)
            assert not list(disk.rglob("model.safetensors"))

    def test_a_disk_that_fills_up_on_the_way(self, folder: Path, tmp_path: Path) -> None:
        lay(folder, {"model.safetensors": weights({"a": (1024, 1024)})})
        with small_disk(tmp_path / "disk", 4 * 1024 * 1024) as disk:
            there = StoreBuilder(disk / "hub")
            with pytest.raises(NoRoomError):
                importing.execute(plan(there, folder), Filling(disk / "filler"))
            assert not list(there.hub.glob("models--*/snapshots/*"))
            (disk / "filler").unlink()
            importing.execute(plan(there, folder), Silence())
            assert content(there)["model.safetensors"] == (folder / "model.safetensors").read_bytes()


class Filling(Silence):
    """Somebody else who fills the disk while the import runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str, *, size: int, source: str) -> None:
        del size, source
        if name == "config.json":
            self.path.write_bytes(bytes(2_500_000))


class TestDeepFolders:
    def test_hundreds_of_folders_one_in_the_other(self, folder: Path, store: StoreBuilder) -> None:
        name = "d/" * 480 + "x.json"
        lay(folder, {name: "{}"})
        importing.execute(plan(store, folder, all_files=True), Silence())
        assert store.paths(NAME).entry(store.paths(NAME).ref("main").read_text(), name).read_text() == "{}"

    @pytest.mark.sweep
    def test_deeper_than_a_name_may_be(self, run: Command, folder: Path) -> None:
        deep = Path("d/" * 900)
        lay(folder, {"e/x.json": "{}"})
        os.chdir(folder / "e")
        for part in deep.parts:
            os.mkdir(part)  # noqa: PTH102 - the whole path is too long for the system
            os.chdir(part)
        os.chdir("/")
        done = run("import", folder, "--as", NAME, "--dry-run", "-q")
        assert (done.code, "Traceback" in done.stderr) == (0, False), done

    @pytest.mark.sweep
    def test_what_an_interrupted_import_of_them_left(self, run: Command, store: StoreBuilder) -> None:
        paths = store.paths(NAME)
        lay(paths.imported / "files", {"d/" * 480 + "x.json": "{}"})
        done = run("prune", "--dry-run", "--older-than", "0", "--json")
        assert (done.code, [left["kind"] for left in done.json["leftovers"]]) == (0, ["import"]), done


class TestInterrupted:
    def test_a_killed_first_import_is_no_inconsistency_for_others(self, folder: Path, store: StoreBuilder) -> None:
        planned = plan(store, folder)

        class Stop(Silence):
            def advance(self, done: int) -> None:
                del done
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            importing.execute(planned, Stop())
        assert imports.record(store.paths(NAME)) is not None
        assert accepted(store.hub) == {NAME: set()}

    def test_it_goes_on_without_writing_again(self, folder: Path, store: StoreBuilder) -> None:
        """What an interrupted import has left counts as far as it equals the source, and no further."""
        planned = plan(store, folder)
        data = (folder / "model.safetensors").read_bytes()
        paths = store.paths(NAME)
        imports.write(paths, imports.ImportRecord(str(folder), "main"))
        lay(paths.imported / "files", {"model.safetensors": data[:60], "config.json": b"?" * 900})
        spare = paths.imported / "files" / "model.safetensors"
        inode = spare.stat().st_ino
        importing.execute(planned, Silence())
        assert content(store) == LOADED
        assert store.blob(NAME, "model.safetensors").stat().st_ino == inode
        assert [path.name for path in paths.private.iterdir()] == ["revisions"]

    def test_the_command_that_goes_on_with_it_is_the_very_one(
        self, run: Command, folder: Path, store: StoreBuilder
    ) -> None:
        argv = ("import", str(folder), "--as", f"{NAME}@v2", "--hard-link", "--all-files", "--follow-links", "--force")
        (folder / "config.json").unlink()
        crashes = Crashes(run, (store.hub,))
        crashes.kill_before(30, *argv)
        assert imports.record(store.paths(NAME)) is not None
        (model,) = scan.scan_hub(store.hub, "project")
        assert [problem.fix for problem in model.problems] == [" ".join(("modelctl", *argv))]
        (left,) = run("prune", "--dry-run", "--json").json["staying"]
        assert left["stays"] == f"`{' '.join(('modelctl', *argv))}` goes on with it"
        # Other options bring other files: what has arrived counts all the same.
        spare = next(path for path in (store.paths(NAME).imported / "files").iterdir())
        importing.execute(plan(store, folder, f"{NAME}@v2", force=True), Silence())
        assert not spare.exists()

    def test_so_is_the_one_that_brings_it_once_more(self, folder: Path, store: StoreBuilder, tmp_path: Path) -> None:
        files = {"m-Q4_K_M.gguf": gguf({}), "m-Q8_0.gguf": gguf({}, vocabulary=4)}
        lay(tmp_path / "two", files)
        importing.execute(plan(store, tmp_path / "two", f"{NAME}:q8_0", all_files=True, force=True), Silence())
        store.blob(NAME, "m-Q8_0.gguf").unlink()
        (model,) = scan.scan_hub(store.hub, "project")
        command = f"modelctl import {tmp_path / 'two'} --as {NAME}:q8_0 --all-files --force"
        assert {problem.fix for problem in model.problems} == {command}
        # Also after another revision has the ref.
        importing.execute(plan(store, folder), Silence())
        (old,) = (one for one in scan.scan_hub(store.hub, "project")[0].revisions if not one.refs)
        known = standing.read(store.paths(NAME), old.commit)
        assert known is not None
        assert (known.variant, known.options) == ("q8_0", ("--all-files", "--force"))

    def test_a_record_that_is_anything(self, store: StoreBuilder) -> None:
        paths = store.paths(NAME)
        paths.imported.mkdir(parents=True)
        wrong = {"path": "/a b", "ref": "main", "variant": 1, "options": ["--all-files", "; rm -rf /", 3, None]}
        paths.import_record.write_text(json.dumps(wrong))
        record = imports.record(paths)
        assert record is not None
        assert imports.command(paths, record) == f"modelctl import '/a b' --as {NAME} --all-files"

    def test_a_second_name_of_the_source_is_never_written_to(self, folder: Path, store: StoreBuilder) -> None:
        paths = store.paths(NAME)
        imports.write(paths, imports.ImportRecord(str(folder), "main"))
        (paths.imported / "files").mkdir()
        os.link(folder / "optimizer.pt", paths.imported / "files" / "model.safetensors")
        before = (folder / "optimizer.pt").read_bytes()
        importing.execute(plan(store, folder), Silence())
        assert (folder / "optimizer.pt").read_bytes() == before
        assert content(store) == LOADED

    @pytest.mark.sweep
    def test_ctrl_c(self, run: Command, folder: Path, store: StoreBuilder) -> None:
        size = 400 * 1024 * 1024
        header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        with (folder / "model.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)
        # On a busy machine it may be over before we are told of its beginning.
        for _ in range(20):
            process = run.start("import", folder, "--as", NAME, "--json")
            assert process.stdout is not None
            next(line for line in process.stdout if '"progress"' in line)
            was_there = struck(process, signal.SIGINT, where=lambda: not store.paths(NAME).ref("main").exists())
            told, _ = process.communicate(timeout=60)
            if was_there:
                break
            assert run("rm", NAME, "--yes").code == 0
        assert process.returncode == 130
        assert json.loads(told.splitlines()[-1])["error"]["kind"] == "interrupted"
        (model,) = run("list", "--json").json["models"]
        assert model["state"] == "partial"
        (problem,) = model["problems"]
        assert problem["fix"] == f"modelctl import {folder} --as {NAME}"
        (left,) = run("prune", "--dry-run", "--json").json["staying"]
        assert (left["kind"], left["stays"]) == ("import", f"`modelctl import {folder} --as {NAME}` goes on with it")
        assert run("prune", "--older-than", "0", "--yes").code == 0
        assert not store.paths(NAME).imported.exists()

    @pytest.mark.parametrize(("update", "count"), [("fresh", 2), *SWEPT])
    def test_killed_anywhere(
        self, run: Command, folder: Path, store: StoreBuilder, count: int | None, update: str
    ) -> None:
        old = {**LOADED, "config.json": b'{"architectures": ["LlamaForCausalLM"], "old": 1}'}
        if update == "update":
            lay(folder, old)
            assert run("import", folder, "--as", NAME).code == 0
            shutil.copytree(store.hub, store.hub.with_name("before"), symlinks=True)
            lay(folder, generator())
        source = state(folder)

        def prepare() -> None:
            shutil.rmtree(store.hub, ignore_errors=True)
            if update == "update":
                shutil.copytree(store.hub.with_name("before"), store.hub, symlinks=True)

        crashes = Crashes(run, (store.hub,))
        for killed in crashes.each("import", folder, "--as", NAME, prepare=prepare, count=count):
            named = store.paths(NAME).ref("main").exists()
            assert named or update == "fresh", killed
            if named:
                assert content(store) in (LOADED, old), killed
            if store.hub.is_dir() and killed.number > 1:
                models = run("list", "--json").json["models"]
                told = [problem["fix"] for model in models for problem in model["problems"]]
                whole = [model for model in models if model["state"] == "ready"]
                assert not models or whole or any(told), (killed, models)
            done = run("import", folder, "--as", NAME)
            assert done.code == 0, (killed, done)
            assert content(store) == LOADED, killed
            accepted(store.hub)
            assert [path.name for path in store.paths(NAME).private.iterdir()] == ["revisions"], killed
            assert state(folder) == source, killed


def test_the_listing_tells_all_of_the_commit(folder: Path, store: StoreBuilder) -> None:
    result = importing.execute(plan(store, folder), Silence())
    listed = tree.read(store.paths(NAME), result.commit)
    assert listed is not None
    assert listed.keys() == LOADED.keys()
    assert listed["model.safetensors"].sha256 == hashlib.sha256(LOADED["model.safetensors"]).hexdigest()
    assert listed["config.json"].sha256 is None
    (model,) = scan.scan_hub(store.hub, "project")
    assert (model.state, model.problems) == ("ready", ())
