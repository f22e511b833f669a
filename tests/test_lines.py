"""Lines of a log in which a hostile model has a hand: whatever they hold, they are read, and soon."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelctl.engine import diagnosis, logs
from modelctl.engine.stages import Course
from tests.standin.servers import TINY, Yard
from tests.test_causes import LINES, lines_of

NEEDED = "max seq len (1) (1 GiB KV cache is needed available KV cache memory (1 GiB "
# What has gaps in which the same may begin again.
GAPS = (
    NEEDED,
    "Available memory on node 1 (1/1 GiB) requested memory for kv (-",
    "Failed core proc(s): {'a': ",
    "libcublas.so",
    "Bfloat16 is only supported on GPUs Your a GPU",
    "Model architectures a, ",
    "start (1) + length ",
    "/a",
    "Repo id must be in the form : ",
    "While loading a, expected target modules in but received",
    "Supported tasks: [",
    "(aaaa",
    "(a pid=1) ",
)
# A log is read by its last 4 MiB.
OF_A_LOG = 4 * 2**20 // logs.LONGEST


def told() -> list[str]:
    """What vLLM says, in whole logs and in an example of every kind of error."""
    files = sorted((Path(__file__).parent / "logs").glob("*.log"))
    lines = {*(line for line, *_ in LINES), *(line for file in files for line in lines_of(file.stem))}
    return sorted({re.sub(r"\d+", "1", line)[:300] for line in lines if line.strip()})


def assert_soon(begins: str) -> None:
    """A log full of lines that begin again and again is read within five seconds.

    The best of some tries counts, since the machine may be busy.
    """
    for end in (match.end() for match in re.finditer(r"\w+|\W", begins)):
        line = (begins[:end] * logs.LONGEST)[: logs.LONGEST]
        assert any(seconds(line) * OF_A_LOG < 5 for _ in range(8)), begins[:end]


def seconds(line: str) -> float:
    """How long it takes to read out of a line all that there is."""
    begun = time.perf_counter()
    diagnosis.cause([line, f"ValueError: {line}"], model=TINY)
    Course().heard(line, at=0.0)
    return time.perf_counter() - begun


@pytest.mark.parametrize("line", GAPS)
def test_no_line_takes_long_to_read(line: str) -> None:
    assert_soon(line)


@pytest.mark.sweep
@pytest.mark.parametrize("line", told())
def test_nothing_like_what_is_told_takes_long_to_read(line: str) -> None:
    assert_soon(line)


def test_a_line_of_any_length_is_cut_for_who_reads_a_meaning_into_it(tmp_path: Path) -> None:
    path = tmp_path / "acme--tiny.20261123T000000Z.00000001.log"
    reader = logs.LogReader(path)
    whole = f"(a{'a' * 10**6}"
    path.write_text(f"one\n{whole}")
    assert reader.lines() == ["one"]
    with path.open("a") as file:
        file.write("bbb\ntwo\n")
    cut = f"{whole[: logs.LONGEST]}..."
    assert reader.lines() == [cut, "two"]
    assert logs.last_lines(path) == ["one", cut, "two", ""]
    # A person sees all of it.
    log = logs.Log(id="00000001", model=TINY, since=datetime(2026, 11, 23, tzinfo=UTC), path=path)
    assert [line.text for line in logs.lines(log)] == ["one", f"{whole}bbb", "two"]


def test_what_a_cut_line_lists_is_counted_as_far_as_it_goes() -> None:
    listed = ", ".join(f"'layers.{at}.weight'" for at in range(1000))
    line = f"ValueError: Following weights were not initialized from checkpoint: {{{listed}}}"
    for told, words in ((line, "999"), (f"{line[: logs.LONGEST]}...", "at least 391")):
        cause = diagnosis.cause([told], model=TINY)
        assert cause is not None
        assert cause.message == f"its weights lack `layers.0.weight` and {words} more"


def test_a_hostile_model_does_not_keep_serve_from_its_end(yard: Yard) -> None:
    """The quantisation of a model's configuration stands in an error of vLLM's as it is, however long."""
    said = f"ValueError: Unknown quantization method: {NEEDED * 800}. Must be one of [awq]"
    done = yard("serve", TINY, "--port", "0", env={"STANDIN_SAY": said, "STANDIN_EXIT": "1"}, timeout=30)
    assert (done.code, "max seq len (1)" in done.stderr) == (1, True)
    assert max(map(len, done.stderr.splitlines())) < 10_000
