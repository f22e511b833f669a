"""A verification that is stopped, killed, or runs beside others: it goes on, and says nothing that is not so."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.command import Command
from tests.damages import NAME, entry
from tests.serving import is_held
from tests.stores import StoreBuilder
from tests.test_pull import MIB, until

if TYPE_CHECKING:
    import subprocess

SIZES = [600 * MIB + 1, 200 * MIB + 2, 100 * MIB + 3]
# What takes longer to read than to see a signal.
ENOUGH = 200 * MIB


def sparse(store: StoreBuilder, sizes: list[int]) -> list[Path]:
    """A model of zeros, whose contents take some time to read and no room; its blobs, by the order of the sizes."""
    store.add(NAME, files={"config.json": "{}"})
    blobs = []
    for at, size in enumerate(sizes):
        hashed = hashlib.sha256()
        for _ in range(size // MIB):
            hashed.update(bytes(MIB))
        hashed.update(bytes(size % MIB))
        blob = store.paths(NAME).blob(hashed.hexdigest())
        with blob.open("wb") as file:
            file.truncate(size)
        entry(store, f"{at}.bin").symlink_to(f"../../blobs/{blob.name}")
        blobs.append(blob)
    return blobs


def settled(blobs: list[Path]) -> None:
    """Wait until what was written last can be told from what is written now."""
    until(lambda: time.time() - max(blob.stat().st_ctime for blob in blobs) > 2.1)


def records(run: Command) -> list[Path]:
    return sorted((run.home / ".cache" / "modelctl" / "verify").glob("*"))


def stopped(run: Command, blob: Path, *, after_a_file: bool = False) -> "subprocess.Popen[str]":
    """A verification that is held within `blob`, the largest: of it a good part is read, and a good part is not.

    It is let go on for a moment at a time until it is there. On a busy machine a moment may be too long: then another
    is begun.
    """
    for _ in range(20):
        process = run.start("verify", NAME, "--json")
        while is_held(process):
            left = left_to_read(process.pid, blob)
            if ENOUGH <= left < blob.stat().st_size and (records(run) or not after_a_file):
                return process
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.005)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    raise AssertionError("it is never held in time")


def left_to_read(pid: int, blob: Path) -> int:
    """Bytes that a process has not read of a file; 0 where it has not opened it."""
    folder = Path("/proc") / str(pid)
    for link in (folder / "fd").glob("*"):
        if link.readlink() == blob.resolve():
            at = (folder / "fdinfo" / link.name).read_text().split()[1]
            return blob.stat().st_size - int(at)
    return 0


def ended(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    """What it still says when it goes on."""
    os.kill(process.pid, signal.SIGCONT)
    return [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]


@pytest.mark.sweep
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_goes_on_where_it_was_stopped(run: Command, store: StoreBuilder, number: signal.Signals, code: int) -> None:
    blobs = sparse(store, SIZES)
    settled(blobs)
    process = stopped(run, blobs[0], after_a_file=True)
    process.send_signal(number)
    said = ended(process)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert said[-1]["error"]["kind"] == "interrupted"
        assert said[-1]["error"]["hint"] == "run the same command again: what is proven is not read once more"
    assert len(records(run)) == 1
    again = run("verify", NAME, "--json").events
    assert again[-1]["event"] == "done"
    plan = again[0]
    assert 0 < plan["to_read"] < plan["size"]
    # Not a word of it outlives its use.
    assert records(run) == []
    third = run("verify", NAME, "--json").events[0]
    assert third["to_read"] == third["size"]


@pytest.mark.sweep
def test_what_has_changed_since_is_read_again(run: Command, store: StoreBuilder) -> None:
    blobs = sparse(store, SIZES)
    settled(blobs)
    process = stopped(run, blobs[0], after_a_file=True)
    process.kill()
    ended(process)
    before = [blob.stat() for blob in blobs]
    for blob, status in zip(blobs, before, strict=True):
        with blob.open("r+b") as file:
            file.write(b"x")
        # Whoever sets the time back is seen all the same.
        os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = run("verify", NAME, "--json").events
    assert done[0]["to_read"] == done[0]["size"]
    assert len(done[-1]["error"]["verified"][0]["damaged"]) == len(SIZES)


@pytest.mark.sweep
def test_records_that_are_old_torn_or_foreign_are_not_believed(run: Command, store: StoreBuilder) -> None:
    blobs = sparse(store, SIZES[::2])
    settled(blobs)
    process = stopped(run, blobs[0], after_a_file=True)
    process.kill()
    ended(process)
    (record,) = records(run)
    text = record.read_text()
    record.write_text(text[:-20])
    assert run("verify", NAME, "--json").events[0]["to_read"] == sum(SIZES[::2]) + 2
    record.parent.mkdir(exist_ok=True)
    record.write_text(text)
    os.utime(record, (1, 1))
    assert run("verify", NAME, "--json").events[0]["to_read"] == sum(SIZES[::2]) + 2
    assert not record.exists()
    for rubbish in ("", "\0\xff", "[1]\n{}\n", '{"command": 1}\n[1, 2]\n'):
        record.parent.mkdir(exist_ok=True)
        record.write_text(rubbish)
        assert run("verify", NAME).code == 0


@pytest.mark.sweep
def test_a_record_that_cannot_be_written_costs_time_alone(run: Command, store: StoreBuilder) -> None:
    settled(sparse(store, SIZES[2:]))
    (run.home / ".cache").mkdir(exist_ok=True)
    (run.home / ".cache" / "modelctl").write_text("no folder")
    assert run("verify", NAME).code == 0


@pytest.mark.sweep
def test_two_at_once(run: Command, store: StoreBuilder) -> None:
    blobs = sparse(store, SIZES)
    settled(blobs)
    process = stopped(run, blobs[0], after_a_file=True)
    # The record of one that runs is its own.
    done = run("verify", NAME, "--json").events
    assert (done[0]["to_read"], done[-1]["event"]) == (done[0]["size"], "done")
    assert ended(process)[-1]["event"] == "done"
    assert records(run) == []


@pytest.mark.sweep
def test_a_file_that_changes_meanwhile(run: Command, store: StoreBuilder) -> None:
    blob = sparse(store, SIZES)[0]
    process = stopped(run, blob)
    with blob.open("r+b") as file:
        file.seek(SIZES[0] - 1)
        file.write(b"x")
    (verified,) = ended(process)[-1]["error"]["verified"]
    # It is read again, and as it is now it is wrong.
    assert [damage["path"] for damage in verified["damaged"]] == [str(blob)]


@pytest.mark.sweep
def test_a_file_that_goes_meanwhile(run: Command, store: StoreBuilder) -> None:
    blob = sparse(store, SIZES)[0]
    process = stopped(run, blob)
    blob.unlink()
    (verified,) = ended(process)[-1]["error"]["verified"]
    assert [(one["path"], one["kind"]) for one in verified["damaged"]] == [(str(blob), "dangling")]
    assert verified["files"] == 3


@pytest.mark.sweep
def test_a_model_that_goes_meanwhile(run: Command, store: StoreBuilder) -> None:
    blob = sparse(store, SIZES)[0]
    process = stopped(run, blob)
    assert run("rm", NAME, "--yes").code == 0
    error = ended(process)[-1]["error"]
    assert (error["kind"], error["message"]) == ("not_found", f"`{NAME}` is not here any more")
    assert process.returncode == 3


@pytest.mark.sweep
def test_a_reader_that_goes_away(run: Command, store: StoreBuilder) -> None:
    sparse(store, SIZES)
    process = run.start("verify", NAME, "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 1
