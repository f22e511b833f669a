"""Conditions that a migration meets in the world: each has an answer, and none costs a byte of content."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.store import layout
from tests.command import NOBODY, Command
from tests.crashes import Crashes, held
from tests.disks import bind_mount
from tests.guard import linkless
from tests.second_opinion import accepted, loads
from tests.stores import StoreBuilder
from tests.test_pull import until

WEIGHTS = {"model.safetensors": b"w" * 100_000}
MIB = 1024 * 1024
# What of a killed copy is done again, at most.
STEP = MIB
# A disk that takes a while for each step of a copy, so that a signal can be seen to end it within a few.
SLOWLY = """
import os, time
write = os.write
def slowly(*args):
    time.sleep(0.05)
    return write(*args)
os.write = slowly
"""


@pytest.fixture
def two(cache: StoreBuilder) -> StoreBuilder:
    for name in ("acme/one", "acme/two"):
        cache.add(name, files={"config.json": name}, lfs=WEIGHTS)
    return cache


@pytest.fixture
def far(elsewhere: Path) -> StoreBuilder:
    return StoreBuilder(elsewhere / "models" / "hub")


class TestReadOnly:
    def test_a_source_can_be_copied_from(self, run: Command, two: StoreBuilder, far: StoreBuilder) -> None:
        before = held(two.hub)
        with bind_mount(two.hub, two.hub, read_only=True):
            for argv in (("--yes",), ("--yes", "--dry-run")):
                done = run("migrate", "--from-cache", *argv, "--models-dir", far.hub.parent)
                assert done.code == (0 if "--dry-run" in argv else 4), done
                assert f"`{two.hub}` cannot be changed by this user, so nothing can be moved out of it" in done.stderr
                assert "hint: `--copy` leaves it as it is\n" in done.stderr
            done = run("migrate", "--from-cache", "--copy", "--models-dir", far.hub.parent)
            assert (done.code, held(far.hub), held(two.hub)) == (0, before, before), done

    def test_a_target_is_refused(self, run: Command, two: StoreBuilder, store: StoreBuilder) -> None:
        store.add("acme/other")
        before, theirs = held(two.hub), held(store.hub)
        with bind_mount(store.hub, store.hub, read_only=True):
            for argv in (("--yes",), ("--copy",)):
                done = run("migrate", "--from-cache", "acme/one", *argv)
                assert (done.code, done.stdout) == (4, ""), done
                assert "Read-only file system" in done.stderr
        assert (held(two.hub), held(store.hub)) == (before, theirs)


class TestLinkless:
    """A file system that has no links: the answer comes before the source is touched, and before much is copied."""

    @pytest.mark.parametrize("flag", ["--yes", "--copy", "--symbolic-link"])
    def test_a_target(self, run: Command, two: StoreBuilder, far: StoreBuilder, flag: str) -> None:
        before = held(two.hub)
        env = {linkless.FOLDER: str(far.hub.parent)}
        done = run("migrate", "--from-cache", "acme/one", flag, "--models-dir", far.hub.parent, env=env)
        assert (done.code, done.stdout) == (1, ""), done
        assert "is on a file system without symbolic links, which models are made of\n" in done.stderr
        assert "hint: name a folder on another file system\n" in done.stderr
        assert held(two.hub) == before
        assert not list(far.hub.glob("models--*"))

    def test_a_source_of_plain_copies(self, run: Command, cache: StoreBuilder, far: StoreBuilder) -> None:
        """What a tool has laid down without links comes to a place that has them, and is usual there."""
        cache.add("acme/tiny", kind="copies")
        before = held(cache.hub)
        env = {linkless.FOLDER: str(cache.hub.parent)}
        done = run("migrate", "--from-cache", "--yes", "--models-dir", far.hub.parent, env=env)
        assert (done.code, held(far.hub)) == (0, before), done
        loads(far.hub, "acme/tiny")

    def test_both_ends(self, run: Command, cache: StoreBuilder, store: StoreBuilder) -> None:
        cache.add("acme/tiny", kind="copies")
        before = held(cache.hub)
        done = run("migrate", "--from-cache", "--yes", env={linkless.FOLDER: str(cache.hub.parent.parent.parent)})
        assert (done.code, held(store.hub)) == (0, before), done


class TestOwners:
    def test_a_folder_of_root_inside_the_own_model(
        self, run: Command, cache: StoreBuilder, elsewhere: Path, project: Path
    ) -> None:
        """As a container leaves it that ran as root once: what could not be removed afterwards is not moved."""
        commit = cache.add("acme/tiny")
        for path in (project, *project.rglob("*"), cache.hub, *cache.hub.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
        elsewhere.chmod(0o777)
        snapshot = cache.paths("acme/tiny").snapshot(commit)
        os.chown(snapshot, 0, 0)
        before = held(cache.hub)
        argv = ("migrate", "--from-cache", "--models-dir", elsewhere / "models")
        done = run(*argv, "--yes", user=NOBODY)
        assert (done.code, done.stdout) == (4, ""), done
        assert f"`{snapshot}` cannot be changed by this user, so nothing can be moved out of it" in done.stderr
        assert "hint: `--copy` leaves it as it is; `sudo chown -R" in done.stderr
        assert (held(cache.hub), held(elsewhere / "models" / "hub")) == (before, set())
        # A rename needs no more than the folder itself.
        done = run("migrate", "--from-cache", "--yes", user=NOBODY)
        assert (done.code, held(project / "models" / "hub")) == (0, before), done

    def test_locks_of_somebody_else(
        self, run: Command, cache: StoreBuilder, project: Path, store: StoreBuilder
    ) -> None:
        cache.add("acme/tiny")
        for path in (project, *project.rglob("*"), cache.hub, *cache.hub.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
        os.chown(cache.hub / ".locks", 0, 0)
        before = held(cache.hub)
        done = run("migrate", "--from-cache", "--yes", user=NOBODY)
        assert (done.code, done.stdout) == (4, ""), done
        done = run("migrate", "--from-cache", "--copy", user=NOBODY)
        assert (done.code, held(store.hub), held(cache.hub)) == (0, before, before), done


class TestBusy:
    @pytest.mark.parametrize("side", ["source", "target"])
    def test_a_download_by_another_tool(self, run: Command, two: StoreBuilder, store: StoreBuilder, side: str) -> None:
        store.add("acme/one", files={"config.json": "mine"})
        before = held(two.hub, store.hub)
        locks = (two if side == "source" else store).paths("acme/one").locks
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / f"{'a' * 64}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            done = run("migrate", "--from-cache", "acme/one", "--yes")
            assert (done.code, held(two.hub, store.hub)) == (8, before), done
            assert "is being downloaded by another Hugging Face tool" in done.stderr
        assert run("migrate", "--from-cache", "acme/one", "--yes").code == 0

    def test_two_migrations_at_once(self, run: Command, two: StoreBuilder, far: StoreBuilder) -> None:
        for at in range(4):
            two.add(f"acme/more-{at}", files={"config.json": str(at)}, lfs={"a.safetensors": os.urandom(4 * MIB)})
        before = held(two.hub)
        argv = ("migrate", "--from-cache", "--yes", "--models-dir", far.hub.parent)
        both = [run.start(*argv) for _ in range(2)]
        ends = [(each.communicate(timeout=60), each.returncode) for each in both]
        assert held(two.hub, far.hub) == before, ends
        assert not any("Traceback" in said for (_, said), _ in ends), ends
        assert {code for _, code in ends} <= {0, 1, 3, 8}, ends
        last = run(*argv)
        assert last.code == 0, last
        assert held(far.hub) == before
        assert len(accepted(far.hub)) == 6


class TestInterrupted:
    """Ctrl-C in the middle of a large copy."""

    @pytest.fixture
    def large(self, cache: StoreBuilder) -> Path:
        """A file of a size that takes a while, and no room on the disk."""
        size = 512 * MIB
        hashed = hashlib.sha256()
        for _ in range(size // MIB):
            hashed.update(bytes(MIB))
        paths = cache.paths("acme/large")
        commit = cache.add("acme/large", files={"config.json": "{}"}, tree=False)
        blob = paths.blob(hashed.hexdigest())
        with blob.open("wb") as file:
            file.truncate(size)
        paths.entry(commit, "model.safetensors").symlink_to(layout.link_target("model.safetensors", blob.name))
        return blob

    def test_it_ends_at_once_and_goes_on(self, run: Command, large: Path, far: StoreBuilder) -> None:
        argv = ("migrate", "--from-cache", "--yes", "--json", "--models-dir", far.hub.parent)
        process = run.start(*argv, first=SLOWLY)
        spare = far.paths("acme/large").private / "incoming" / "blobs" / large.name
        with ended(process):
            until(lambda: spare.exists() and spare.stat().st_size > 8 * MIB)
            process.send_signal(signal.SIGINT)
            told, said = process.communicate(timeout=60)
        assert (process.returncode, '"kind": "interrupted"' in told) == (130, True), (told, said)
        # Two seconds of it: not the next step, on a machine that does other things, but long before the end.
        assert spare.stat().st_size < 64 * MIB
        assert large.exists()
        inode, size = spare.stat().st_ino, spare.stat().st_size
        assert 8 * MIB < size < large.stat().st_size
        done = run(*argv)
        assert done.code == 0, done
        assert not large.exists()
        assert far.paths("acme/large").blob(large.name).stat().st_ino == inode


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


def test_no_byte_is_copied_twice(run: Command, cache: StoreBuilder, far: StoreBuilder) -> None:
    """Killed in the middle of a file: of what it had written only the last step is written again."""
    cache.add("acme/tiny", files={"config.json": "{}"}, lfs={"model.safetensors": os.urandom(16 * MIB)})
    before = held(cache.hub)
    argv = ("migrate", "--from-cache", "--copy", "--models-dir", far.hub.parent)
    crashes = Crashes(run, roots=(far.hub.parent,), may_vary=True)
    calls = crashes.calls(*argv)
    writes = [at for at, call in enumerate(calls, 1) if call.startswith("os.write")]
    assert len(writes) >= 16 * MIB // STEP
    shutil.rmtree(far.hub.parent)
    crashes.kill_before(writes[len(writes) // 2], *argv)
    (spare,) = (far.paths("acme/tiny").incoming / "blobs").glob("?" * 64)
    written = spare.stat().st_size
    assert written >= 4 * MIB
    (listed,) = run("list", "--json", "--models-dir", far.hub.parent).json["models"]
    assert (listed["state"], [problem["kind"] for problem in listed["problems"]]) == ("partial", ["interrupted"])
    planned = run("migrate", "--from-cache", "--copy", "--dry-run", "--json", "--models-dir", far.hub.parent).json
    assert planned["writes"] == planned["size"] - planned["models"][0]["already"] - written
    again = [call for call in crashes.calls(*argv) if call.startswith("os.write")]
    assert len(again) <= len(writes) - written // STEP + 1
    assert held(far.hub) == before
