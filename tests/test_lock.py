"""The lock of a model's writers: who holds it is said, and whoever waits gets it."""

import contextlib
import fcntl
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl import process
from modelctl.errors import BusyError, NotAllowedError
from modelctl.process import Owner
from modelctl.store import downloads, lock
from modelctl.store.layout import RepoPaths
from tests.command import NOBODY, Command
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder

_HOLD = """
import sys
from pathlib import Path
from modelctl.store import lock
from modelctl.store.layout import RepoPaths
with lock.held(RepoPaths(Path(sys.argv[1]), "acme/tiny"), "pull"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def paths(tmp_path: Path) -> RepoPaths:
    return RepoPaths(tmp_path / "hub", "acme/tiny")


@contextlib.contextmanager
def held_by_another(paths: RepoPaths) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lock until a line is written to it, or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, paths.hub], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield other
        finally:
            other.kill()


def test_it_names_who_holds_it(paths: RepoPaths) -> None:
    with held_by_another(paths) as other:
        owner = lock.holder(paths)
        assert owner is not None
        assert (owner.command, owner.pid) == ("pull", other.pid)
        with (
            pytest.raises(BusyError, match=rf"`acme/tiny` is in use by `modelctl pull` \(pid {other.pid}\)"),
            lock.held(paths, "rm"),
        ):
            pass
    assert lock.holder(paths) is None


def test_a_holder_that_was_killed_holds_nothing(paths: RepoPaths) -> None:
    with held_by_another(paths) as other:
        other.kill()
        other.wait()
        assert json.loads(paths.lock.read_text())["pid"] == other.pid
        with lock.held(paths, "rm"):
            pass


def test_who_waits_is_told_once_and_gets_it(paths: RepoPaths) -> None:
    told: list[Owner | None] = []
    with held_by_another(paths) as other:

        def let_go() -> None:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()

        def wait(owner: Owner | None) -> None:
            told.append(owner)
            threading.Timer(0.3, let_go).start()

        with lock.held(paths, "rm", wait=wait):
            assert other.wait(timeout=30) == 0
    assert [owner.pid for owner in told if owner] == [other.pid]


def test_one_process_does_not_take_it_twice(paths: RepoPaths) -> None:
    with lock.held(paths, "pull"), pytest.raises(BusyError), lock.held(paths, "rm"):
        pass


def test_it_is_free_after_a_failure(paths: RepoPaths) -> None:
    with pytest.raises(ValueError, match="boom"), lock.held(paths, "pull"):
        raise ValueError("boom")
    with lock.held(paths, "rm"):
        pass
    assert paths.lock.read_bytes() == b""


def test_a_lock_that_was_removed_meanwhile_is_made_anew(paths: RepoPaths) -> None:
    """Two writers, one of which removes the model and its locks: never both at once."""
    order: list[str] = []

    def second() -> None:
        with lock.held(paths, "pull", wait=lambda _: order.append("waits")):
            order.append("second")
            assert paths.lock.exists()

    waiter = threading.Thread(target=second)
    with lock.held(paths, "rm"):
        waiter.start()
        while not order:
            pass
        downloads.discard_locks(paths)
        assert not paths.locks.exists()
        order.append("first")
    waiter.join(timeout=10)
    assert order == ["waits", "first", "second"]


def test_a_record_of_a_process_that_is_another_now(paths: RepoPaths) -> None:
    paths.locks.mkdir(parents=True)
    record = process.to_json(process.this_process("pull")) | {"started": 1}
    paths.lock.write_text(json.dumps(record))
    assert lock.holder(paths) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"pid": "x"}'])
def test_a_torn_record_is_nobody(paths: RepoPaths, content: bytes) -> None:
    paths.locks.mkdir(parents=True)
    paths.lock.write_bytes(content)
    assert lock.holder(paths) is None
    with lock.held(paths, "rm"):
        pass


def test_no_right_to_lock(run: Command, project: Path) -> None:
    folder = project / "models" / "hub" / "models--acme--tiny" / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    done = run("rm", "acme/tiny", "--yes", user=NOBODY)
    assert (done.code, done.stdout) == (NotAllowedError.exit_code, "")
    assert folder.is_dir()


def test_a_lock_of_hf_that_is_held_keeps_its_file(paths: RepoPaths) -> None:
    paths.locks.mkdir(parents=True)
    paths.blob_lock("a" * 40).touch()
    with paths.blob_lock("b" * 40).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="is being downloaded by another Hugging Face tool"):
            downloads.refuse(paths)
        with lock.held(paths, "rm"):
            downloads.discard_locks(paths)
            assert sorted(path.name for path in paths.locks.iterdir()) == [f"{'b' * 40}.lock", "modelctl.lock"]
    downloads.refuse(paths)


WITHOUT_LOCKS = """
import errno, fcntl, os, sys
ERROR = getattr(errno, sys.argv.pop(1))
def flock(*_):
    raise OSError(ERROR, os.strerror(ERROR))
fcntl.flock = flock
from modelctl.cli.app import main
main()
"""


@pytest.mark.sweep
@pytest.mark.parametrize("error", ["ENOLCK", "ENOTSUP"])
def test_a_file_system_without_locks_has_the_record(run: Command, hub: Hub, store: StoreBuilder, error: str) -> None:
    hub.add("acme/tiny")
    lockless = [sys.executable, "-c", WITHOUT_LOCKS, error]
    done = run.program([*lockless, "pull", "acme/tiny"], env=hub.environ)
    assert done.code == 0, done.stderr
    with held_by_another(store.paths("acme/tiny")) as other:
        done = run.program([*lockless, "rm", "acme/tiny", "--yes"])
        assert done.code == 8
        assert f"`acme/tiny` is in use by `modelctl pull` (pid {other.pid})" in done.stderr
    assert run.program([*lockless, "rm", "acme/tiny", "--yes"]).code == 0
