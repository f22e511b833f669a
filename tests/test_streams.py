"""stdout and stderr that are closed, full, or that nobody reads: no traceback, and no success without its result."""

import os
import subprocess
import sys

import pytest

from tests.command import Command, Finished
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import NAME, content

ELSEWHERE = "hint: let it be written elsewhere; what was done until then stays done\n"
FULL = f"error: the result cannot be written: No space left on device\n{ELSEWHERE}"
CLOSED = f"error: the result cannot be written: Bad file descriptor\n{ELSEWHERE}"


def shell(run: Command, streams: str, *argv: str, env: dict[str, str] | None = None) -> Finished:
    """Run a command with its streams as the shell is told: `>&-` closes one, `>/dev/full` is a full disk."""
    return run.program(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "modelctl", *argv], env=env
    )


@pytest.mark.matrix(2)
@pytest.mark.parametrize(
    "argv",
    [("list",), ("list", "--json"), ("list", "-q"), ("status",), ("--help",), ("pull", "--help"), ("--version",)],
)
@pytest.mark.parametrize("stdout", ["full", "closed"])
def test_a_result_that_cannot_be_written_is_no_success(
    run: Command, store: StoreBuilder, argv: tuple[str, ...], stdout: str
) -> None:
    store.add(NAME)
    done = shell(run, ">&-" if stdout == "closed" else ">/dev/full", *argv)
    assert done == Finished(1, "", CLOSED if stdout == "closed" else FULL)


def test_a_failure_keeps_its_code_and_is_told_where_it_can_be(run: Command) -> None:
    done = shell(run, ">/dev/full", "show", "acme/none", "--json")
    assert done.code == 3
    assert done.stderr.startswith("error: no model `acme/none` here\nhint: ")


def test_without_stderr_and_stdin_a_command_does_its_work(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME)
    assert shell(run, "<&- 2>&-", "pull", NAME, "-q", env=hub.environ) == Finished(0, f"{NAME}\n", "")
    assert content(store)
    # Nobody can be asked.
    assert shell(run, "<&-", "rm", NAME).code == 2


@pytest.mark.sweep
def test_without_any_stream_no_file_is_taken_for_one(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME)
    # All of it is there, but for the line that says so.
    assert shell(run, "<&- >&- 2>&-", "pull", NAME, env=hub.environ).code == 1
    assert content(store)
    written = [path for path in store.hub.rglob("*") if path.is_file() and b"pulled" in path.read_bytes()]
    assert written == []


@pytest.mark.sweep
def test_where_nobody_reads_to_the_end_a_listing_is_a_success_and_work_is_none(
    run: Command, hub: Hub, store: StoreBuilder
) -> None:
    hub.add(NAME)
    for argv, code in (
        (("pull", NAME, "--json"), 1),
        (("list",), 0),
        (("list", "--json"), 0),
        (("--help",), 0),
        (("pull", "--help"), 0),
    ):
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.run(
            [sys.executable, "-m", "modelctl", *argv],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=run.project,
            env=run.environment(hub.environ),
            check=False,
        )
        os.close(writer)
        assert process.returncode == code
        assert b"Traceback" not in process.stderr
        store.add("acme/other")
