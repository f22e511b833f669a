"""`modelctl rm` as a person and as a program meet it."""

import fcntl
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelctl import process
from modelctl.cli.output import size
from modelctl.engine import servers
from modelctl.engine.servers import ServerRecord
from modelctl.store import trash
from tests.command import NOBODY, Command, Finished
from tests.disks import disk_use
from tests.second_opinion import accepted
from tests.stores import Files, Layout, StoreBuilder

FILES = {"config.json": "{}"}
WEIGHTS = {"model.safetensors": b"w" * 100_000}


@pytest.fixture
def two(store: StoreBuilder) -> StoreBuilder:
    for name in ("acme/one", "acme/two"):
        store.add(name, files={"config.json": name}, lfs=WEIGHTS)
    return store


def on_disk(store: StoreBuilder, *names: str) -> str:
    """What models take of the disk, as the command shows it."""
    return size(sum(disk_use(store.paths(name).folder) for name in names))


class TestPlain:
    def test_removes_and_says_what_was_freed(self, run: Command, two: StoreBuilder) -> None:
        freed = on_disk(two, "acme/one")
        done = run("rm", "acme/one", "--yes")
        assert done == Finished(
            0, f"removed acme/one, freed {freed}\n", f"acme/one: 100.4 kB, frees {freed}\nremoving {freed}\n"
        )
        assert set(accepted(two.hub)) == {"acme/two"}

    def test_a_dry_run_is_dry(self, run: Command, two: StoreBuilder) -> None:
        before = sorted(two.hub.rglob("*"))
        one, both = on_disk(two, "acme/one"), on_disk(two, "acme/one", "acme/two")
        done = run("rm", "acme/one", "acme/two", "--dry-run")
        assert done == Finished(
            0,
            "NAME      REVISIONS      SIZE     FREES\n"
            f"acme/one  all        100.4 kB  {one}\n"
            f"acme/two  all        100.4 kB  {one}\n"
            f"2 models, frees {both}\n",
            "",
        )
        assert sorted(two.hub.rglob("*")) == before

    def test_a_revision(self, run: Command, store: StoreBuilder) -> None:
        old = store.add("acme/one", files={"config.json": "1"}, lfs=WEIGHTS, revision="v1")
        new = store.add("acme/one", files={"config.json": "2"}, lfs=WEIGHTS)
        before = disk_use(store.hub)
        done = run("rm", "acme/one@v1", "--yes")
        assert done.code == 0
        assert done.stdout == f"removed acme/one v1, {old[:12]}, freed {size(before - disk_use(store.hub))}\n"
        assert "  stays: 100.0 kB of `acme/one`, since other revisions use it too\n" in done.stderr
        assert accepted(store.hub) == {"acme/one": {new}}

    def test_the_option_names_the_revision_of_each(self, run: Command, two: StoreBuilder) -> None:
        for name in ("acme/one", "acme/two"):
            two.add(name, files={"config.json": f"{name} old"}, revision="v1")
        assert run("rm", "acme/one", "acme/two", "--revision", "v1", "--yes").code == 0
        assert [len(revisions) for revisions in accepted(two.hub).values()] == [1, 1]

    def test_globs(self, run: Command, two: StoreBuilder) -> None:
        two.add("other/model", files=FILES)
        assert run("rm", "acme/*", "--yes").code == 0
        assert set(accepted(two.hub)) == {"other/model"}

    def test_a_name_twice_goes_once(self, run: Command, two: StoreBuilder) -> None:
        freed = on_disk(two, "acme/one")
        done = run("rm", "acme/one", "hf://acme/one", "acme/one@main", "--yes")
        assert (done.code, done.stdout) == (0, f"removed acme/one, freed {freed}\n")
        assert set(accepted(two.hub)) == {"acme/two"}


class TestAsking:
    def test_without_a_terminal(self, run: Command, two: StoreBuilder) -> None:
        done = run("rm", "acme/one")
        assert done.code == 2
        assert done.stderr.endswith(
            "error: there is no terminal to ask for confirmation\nhint: add `--yes` to go on without asking\n"
        )
        assert len(accepted(two.hub)) == 2

    @pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 1), ("n", 1, 2), ("", 1, 2)])
    def test_on_a_terminal(self, run: Command, two: StoreBuilder, answer: str, code: int, left: int) -> None:
        told, ended = _on_a_terminal(run, answer, "rm", "one")
        assert f"Remove 1 model from `{two.hub}`? [y/N]" in told
        assert ended == code
        assert len(accepted(two.hub)) == left
        assert ("nothing was done" in told) == (code == 1)


class TestNames:
    def test_unknown_ones_are_reported_and_nothing_goes(self, run: Command, two: StoreBuilder) -> None:
        done = run("rm", "acme/one", "acme/no", "acme/none", "--yes")
        assert (done.code, done.stdout) == (3, "")
        assert re.search(r"error: .*`acme/no`.*`acme/none`", done.stderr)
        assert len(accepted(two.hub)) == 2

    def test_an_unknown_revision(self, run: Command, two: StoreBuilder) -> None:
        done = run("rm", "acme/one@v9", "--yes")
        assert done == Finished(
            3,
            "",
            f"error: not in `{two.hub}`: `acme/one@v9`\n"
            "hint: `modelctl list` shows what is there, `modelctl show` the revisions of a model\n",
        )

    def test_parts_of_names_only_where_it_asks(self, run: Command, two: StoreBuilder) -> None:
        assert run("rm", "one", "--dry-run").stdout.splitlines()[1].startswith("acme/one ")
        done = run("rm", "one", "--yes")
        assert done == Finished(
            3,
            "",
            f"error: no model `one` in `{two.hub}`\nhint: with `--yes` a full name or a glob is needed: `acme/one`\n",
        )

    def test_an_ambiguous_part(self, run: Command, two: StoreBuilder) -> None:
        done = run("rm", "acme", "--dry-run")
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr.endswith("hint: give more of the name: `acme/one`, `acme/two`\n")
        assert len(accepted(two.hub)) == 2

    @pytest.mark.parametrize("name", ["../../etc", "acme/..", "..", "/etc/passwd", "acme/one/../two", "--", ""])
    def test_what_is_no_name(self, run: Command, two: StoreBuilder, name: str) -> None:
        assert run("rm", "--yes", name).code in {2, 3}
        assert len(accepted(two.hub)) == 2

    def test_a_variant_is_no_revision(self, run: Command, two: StoreBuilder) -> None:
        done = run("rm", "acme/one:Q4_K_M", "--yes")
        assert (done.code, done.stderr.splitlines()[-1]) == (2, "hint: leave out `:Q4_K_M`")
        assert len(accepted(two.hub)) == 2

    def test_nothing_there_at_all(self, run: Command, project: Path) -> None:
        assert run("rm", "acme/one", "--yes").code == 3
        assert sorted(path.name for path in (project / "models").iterdir()) == [".gitkeep"]


class TestServed:
    @pytest.mark.parametrize("argv", [("rm", "acme/one"), ("rm", "acme/two", "acme/one")])
    def test_a_model_in_use_is_named_with_its_server(
        self, run: Command, two: StoreBuilder, home: Path, argv: tuple[str, ...]
    ) -> None:
        record = ServerRecord(
            id="abcd1234",
            model="acme/one",
            revision="a" * 40,
            path=two.paths("acme/one").folder,
            url="http://127.0.0.1:8000",
            pid=os.getpid(),
            started=process.start_time(os.getpid()) or 0,
            engine_pid=None,
            state="ready",
            stage="ready",
            since=datetime.now(UTC),
            requests=None,
            log=home / "log",
            run_folder=home / "run",
        )
        servers.write(record)
        done = run(*argv, "--yes")
        assert (done.code, done.stdout) == (8, "")
        assert done.stderr.endswith(
            f"error: `acme/one` is being served by `modelctl serve acme/one` (pid {os.getpid()}, "
            "http://127.0.0.1:8000)\nhint: `modelctl stop acme/one` ends that; then run the same command again\n"
        )
        assert len(accepted(two.hub)) == 2


class TestBothPlaces:
    def test_the_copy_in_the_cache_stays_and_is_named(
        self, run: Command, two: StoreBuilder, cache: StoreBuilder
    ) -> None:
        cache.add("acme/one", files=FILES)
        done = run("rm", "acme/one", "--yes")
        assert done.code == 0
        assert done.stderr.endswith(
            "note: `acme/one` is still listed from the user cache; `modelctl rm --cache acme/one` removes it there\n"
        )
        assert (set(accepted(two.hub)), set(accepted(cache.hub))) == ({"acme/two"}, {"acme/one"})

    def test_only_in_the_cache(self, run: Command, cache: StoreBuilder) -> None:
        cache.add("acme/one", files=FILES)
        done = run("rm", "acme/one", "--yes")
        assert done == Finished(
            3,
            "",
            "error: `acme/one` is not in the project, but in the user cache\n"
            "hint: `modelctl rm --cache acme/one` removes it there\n",
        )
        assert set(accepted(cache.hub)) == {"acme/one"}

    def test_what_is_in_the_project_is_not_said_to_be_elsewhere(
        self, run: Command, two: StoreBuilder, cache: StoreBuilder
    ) -> None:
        for name in ("acme/one", "acme/cached"):
            cache.add(name, files=FILES)
        done = run("rm", "acme/on*", "acme/cache*", "--dry-run")
        assert (done.code, done.stdout) == (3, "")
        assert done.stderr == (
            "error: `acme/cached` is not in the project, but in the user cache\n"
            "hint: `modelctl rm --cache 'acme/cache*'` removes it there\n"
        )
        unknown = run("rm", "acme/one@v9", "--dry-run")
        assert (unknown.code, unknown.stderr.splitlines()[0]) == (3, f"error: not in `{two.hub}`: `acme/one@v9`")

    def test_out_of_the_cache_when_told(self, run: Command, two: StoreBuilder, cache: StoreBuilder) -> None:
        cache.add("acme/one", files=FILES)
        assert run("rm", "--cache", "acme/one", "--yes").code == 0
        assert (len(accepted(two.hub)), accepted(cache.hub)) == (2, {})
        done = run("rm", "--cache", "acme/one", "--yes")
        assert done.stderr.splitlines()[0] == "error: `acme/one` is not in the user cache, but in the project"

    def test_one_folder_for_both(self, run: Command, two: StoreBuilder) -> None:
        done = run("rm", "acme/one", "--yes", env={"HF_HOME": str(two.hub.parent)})
        assert (done.code, "note:" in done.stderr) == (0, False)


class TestDefaultModel:
    def test_it_says_so_when_the_default_is_gone(self, run: Command, two: StoreBuilder, project: Path) -> None:
        (project / ".env").write_text("MODELCTL_MODEL=acme/one@main\n")
        done = run("rm", "acme/one", "--yes")
        assert done.stderr.endswith(
            "note: `acme/one` is the default model, and not here any more; `modelctl use` chooses another\n"
        )
        assert "note" not in run("rm", "acme/two", "--yes").stderr
        assert (project / ".env").read_text() == "MODELCTL_MODEL=acme/one@main\n"
        assert two.hub.is_dir()


class TestJson:
    def test_the_plan(self, run: Command, two: StoreBuilder) -> None:
        done = run("rm", "acme/one", "--dry-run", "--json")
        folder = two.paths("acme/one").folder
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        assert done.json == {
            "schema": 1,
            "hub": str(two.hub),
            "models": [
                {
                    "id": "acme/one",
                    "path": str(folder),
                    "whole": True,
                    "commits": [],
                    "refs": [],
                    "size": size,
                    "frees": done.json["frees"],
                    "kept": [],
                }
            ],
            "size": size,
            "frees": done.json["frees"],
            "leftovers": {"count": 0, "size": 0},
        }
        assert done.json["frees"] > size

    def test_the_lines(self, run: Command, store: StoreBuilder) -> None:
        old = store.add("acme/one", files={"config.json": "1"}, revision="v1")
        store.add("acme/one", files={"config.json": "2"})
        done = run("rm", "acme/one@v1", "--yes", "--json")
        assert done.code == 0
        assert done.stderr == ""
        assert done.events[0]["event"] == "plan"
        last = done.events[-1]
        assert (last["event"], last["notes"]) == ("done", [])
        (removed,) = last["removed"]
        assert (removed["id"], removed["commits"], removed["refs"]) == ("acme/one", [old], ["v1"])
        assert removed["freed"] == last["freed"] == removed["frees"] > 0

    def test_done_in_part(self, run: Command, two: StoreBuilder) -> None:
        paths = two.paths("acme/one")
        paths.locks.mkdir(parents=True)
        with paths.blob_lock("a" * 40).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            done = run("rm", "acme/*", "--yes", "--json")
        error = done.events[-1]["error"]
        assert (done.code, error["kind"], error["message"]) == (1, "failed", "1 of 2 models could not be removed")
        assert [removed["id"] for removed in error["removed"]] == ["acme/two"]
        assert [(failed["id"], failed["error"]["kind"]) for failed in error["failed"]] == [("acme/one", "busy")]
        assert error["freed"] == error["removed"][0]["freed"] > 0

    def test_errors(self, run: Command, two: StoreBuilder) -> None:
        done = run("rm", "acme/no", "--yes", "--json")
        assert done.code == 3
        assert done.events[-1]["event"] == "error"
        assert done.events[-1]["error"]["kind"] == "not_found"
        done = run("rm", "acme/one", "--json")
        assert (done.code, done.events[-1]["error"]["kind"]) == (2, "usage")
        assert len(accepted(two.hub)) == 2


class TestRights:
    """Run by a user who may not do everything."""

    @pytest.fixture(autouse=True)
    def _mine(self, two: StoreBuilder, project: Path) -> None:
        for path in (project, *project.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
        self.hub = two.hub
        self.folder = two.paths("acme/one").folder
        self.freed = on_disk(two, "acme/one")

    @pytest.mark.parametrize("mode", [0o500, 0o400, 0o100, 0])
    @pytest.mark.parametrize("kind", ["links", "shared"])
    def test_folders_that_forbid_their_owner(self, run: Command, two: StoreBuilder, kind: Layout, mode: int) -> None:
        two.add("acme/three", files={"config.json": "3"}, lfs={"model.safetensors": b"3" * 100_000}, kind=kind)
        folder = two.paths("acme/three").folder
        for path in (self.hub, *self.hub.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                path.chmod(mode)
        before = disk_use(self.hub)
        done = run("rm", "acme/three", "--yes", user=NOBODY)
        assert done.code == 0, done
        assert done.stdout == f"removed acme/three, freed {size(before - disk_use(self.hub))}\n"
        assert not trash.leftovers(self.hub)
        assert not [path for path in self.hub.glob("blobs/*/*") if not path.suffix]
        assert set(accepted(self.hub)) == {"acme/one", "acme/two"}

    def test_a_folder_of_somebody_else(self, run: Command) -> None:
        os.chown(self.folder, 0, 0)
        done = run("rm", "acme/one", "acme/two", "--yes", user=NOBODY)
        assert done.code == 1
        assert done.stdout == f"removed acme/two, freed {self.freed}\n"
        assert f"cannot remove `{self.folder}`: Permission denied" in done.stderr
        assert done.stderr.endswith(f"hint: `sudo rm -rf {self.folder}` removes it\n")
        assert set(accepted(self.hub)) == {"acme/one"}
        assert run("rm", "acme/one", "--yes", user=NOBODY).code == 4

    def test_a_folder_of_somebody_else_inside(self, run: Command) -> None:
        os.chown(self.folder / "blobs", 0, 0)
        done = run("rm", "acme/one", "--yes", user=NOBODY)
        assert done.code == 4
        (left,) = trash.leftovers(self.hub)
        assert done.stderr.endswith(f"hint: `sudo rm -rf {left.path}` frees it; nothing lists it any more\n")
        assert set(accepted(self.hub)) == {"acme/two"}

    def test_a_hub_that_only_can_be_read(self, run: Command) -> None:
        for path in (self.hub, *self.hub.iterdir()):
            os.lchown(path, 0, 0)
        done = run("rm", "acme/one", "--yes", user=NOBODY)
        assert (done.code, done.stdout) == (4, "")
        assert len(accepted(self.hub)) == 2


def _on_a_terminal(run: Command, answer: str, *argv: str) -> tuple[str, int]:
    """What the command writes to a terminal, and how it ends."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "modelctl", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=run.project,
        env=run.environment(),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        told = b""
        while b"[y/N]" not in told:
            told += os.read(ours, 4096)
        os.write(ours, answer.encode() + b"\n")
        try:
            while chunk := os.read(ours, 4096):
                told += chunk
        except OSError:
            pass  # the other side has hung up
    os.close(ours)
    return told.decode(), process.returncode


class TestHardLinks:
    """A content that two models have by two names, as a pull leaves it that found it on the disk."""

    LENGTH = 1_000_000

    @pytest.fixture(autouse=True)
    def _models(self, store: StoreBuilder) -> None:
        files: Files = {"config.json": "{}", "big.bin": b"x" * self.LENGTH}
        for name in ("acme/one", "acme/two"):
            store.add(name, files=files)
        one, two = (store.blob(name, "big.bin") for name in ("acme/one", "acme/two"))
        two.unlink()
        two.hardlink_to(one)

    def test_one_of_them_frees_nothing_of_it_and_says_so(self, run: Command) -> None:
        done = run("rm", "acme/one", "--dry-run")
        assert done.code == 0
        stays = "stays: 1.0 MB of `acme/one`, since its content has another name elsewhere, a hard link"
        assert stays in done.stdout + done.stderr
        (removal,) = run("rm", "acme/one", "--dry-run", "--json").json["models"]
        assert removal["frees"] < self.LENGTH
        assert removal["kept"] == [{"size": self.LENGTH, "why": "its content has another name elsewhere, a hard link"}]

    def test_both_free_it_once(self, run: Command) -> None:
        plan = run("rm", "acme/one", "acme/two", "--dry-run", "--json").json
        assert self.LENGTH < plan["frees"] < 2 * self.LENGTH
        assert [removal["kept"] for removal in plan["models"]] == [[], []]
