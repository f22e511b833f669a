"""Lines of a log in which a hostile model has a hand: whatever they hold, they are read, and soon."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelctl.engine import container, diagnosis, faults, logs, shortages
from modelctl.engine.stages import Course
from modelctl.engine.standstill import Standstill
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
    """A log full of lines that begin again and again takes less than five seconds of computing.

    A bound against work that grows with the square of a length, no measure of speed: the best of some tries counts.
    """
    for end in (match.end() for match in re.finditer(r"\w+|\W", begins)):
        line = (begins[:end] * logs.LONGEST)[: logs.LONGEST]
        assert any((took := seconds(line) * OF_A_LOG) < 5 or took < 5 * slowness() for _ in range(8)), begins[:end]


def slowness() -> float:
    """How many times as long this processor takes just now as the one on which the bound was set."""
    begun = time.thread_time()
    re.search(r"(\d+)\s*b", "1" * 2048)
    return (time.thread_time() - begun) / 0.03


def seconds(line: str) -> float:
    """How long it takes to read out of a line all that there is."""
    begun = time.thread_time()
    diagnosis.cause([line, f"ValueError: {line}"], model=TINY)
    Course().heard(line, at=0.0)
    return time.thread_time() - begun


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
    done = yard("serve", TINY, "--port", "0", env={"STANDIN_SAY": said, "STANDIN_EXIT": "1"})
    assert (done.code, "max seq len (1)" in done.stderr) == (1, True)
    assert max(map(len, done.stderr.splitlines())) < 10_000


# What stands where vLLM writes a number of its own.
NUMBERS = (
    "",
    "0",
    "0.0",
    ",",
    "1,",
    ".",
    "1.",
    "1.2.3",
    "-1",
    "1e9",
    "nan",
    "\u0663",
    "\u00b2",
    "99999",
    "9" * 9,
    "9" * 400,
)
LONG = ("9" * 5000, f"0.{'0' * 300}1", f"{'9' * 9}.{'9' * 400}", f"9{',9' * 3000}")

# Lines that a start is followed by.
OF_A_START = (
    "Loading safetensors checkpoint shards: 50% Completed | 1/2 [00:00<00:00, 1.2it/s]",
    "Loading weights took 1.25 seconds",
    "KV cache size: 19,456 tokens, Maximum concurrency for 2,048 tokens per request: 9.50x",
    "Maximum concurrency for 2,048 tokens per request: 9.50x",
    "Capturing CUDA graphs (decode, FULL):  10%|x   | 3/35 [00:01<00:09]",
    "Supported tasks: ['generate']",
    "(modelctl pid=1) INFO 11-22 21:52:07 [serve] ready after 1.5 s",
)
OF_A_PATTERN = sorted({each.pattern.pattern for each in (*shortages.TABLE, *faults.TABLE)})


def read(folder: Path, *lines: str) -> None:
    """Have every reader read a log, which lies in a folder of its own and ends with these lines."""
    path = folder / "acme--tiny.20261123T000000Z.00000001.log"
    path.write_text("\n".join(["KV cache size: 1 tokens", *lines, ""]), encoding="utf-8", errors="replace")
    (log,) = logs.kept(folder)
    assert len(list(logs.lines(log))) >= len(lines)
    logs.last_start(folder, TINY)
    course, standstill = Course(weights=10**9), Standstill(0, members=lambda _: ())
    for at, line in enumerate(logs.LogReader(path).lines()):
        standstill.heard([line], got_further=course.heard(line, at=float(at)))
        assert len(course.stage.text) < 2 * logs.LONGEST
    diagnosis.cause(logs.last_lines(path), model=TINY)
    container.refusal(logs.last_lines(path))


@pytest.mark.parametrize(
    "line",
    [
        "KV cache size: , tokens",
        "KV cache size: 5 tokens, Maximum concurrency for 1 tokens per request: 1.2.3x",
        f"Loading pt checkpoint shards: 1% Completed | {LONG[0]}/1",
        "Loading pt checkpoint shards: 1% Completed | 1/0",
        f"Supported tasks: [{'(' * 5000}]",
        "Supported tasks: [{{}: 1}]",
        "ValueError: Free memory on device cuda:0 (0.0/0.0 GiB) on startup is less than",
        "ValueError: Free memory on device cuda:0 (1.2.3/1 GiB) on startup is less than",
        f"ValueError: Free memory on device cuda:0 ({'9' * 9}/{LONG[1]} GiB) on startup is less than",
        "ValueError: Total number of attention heads (0) must be divisible by tensor parallel size (2)",
        f"ValueError: LoRA rank {LONG[0]} is greater than max_lora_rank 1",
        f"(modelctl pid=1) INFO 11-22 21:52:07 [serve] ready after {'9' * 400}.0 s",
    ],
)
def test_what_makes_no_sense_is_passed_over(line: str, tmp_path: Path) -> None:
    read(tmp_path, line)


def test_heads_beyond_number_are_not_counted(tmp_path: Path) -> None:
    begun = time.thread_time()
    read(
        tmp_path,
        f"ValueError: Total number of attention heads ({'9' * 12}) must be divisible by tensor parallel size (2)",
    )
    assert time.thread_time() - begun < 5 * max(1, slowness())


@pytest.mark.parametrize("said", [*OF_A_START, *(line for line, *_ in LINES)])
@settings(max_examples=15)
@given(data=st.data())
def test_whatever_stands_where_a_number_stood_is_read(said: str, tmp_path: Path, data: st.DataObject) -> None:
    number = st.sampled_from((*NUMBERS, *LONG))
    read(tmp_path, re.sub(r"\d[\d.,]*", lambda _: data.draw(number), said))


@pytest.mark.parametrize("pattern", OF_A_PATTERN)
@settings(max_examples=10)
@given(data=st.data())
def test_whatever_fits_a_row_of_a_table_is_read(pattern: str, tmp_path: Path, data: st.DataObject) -> None:
    line = data.draw(st.from_regex(pattern))
    number = st.sampled_from(NUMBERS)
    read(
        tmp_path, line, f"ValueError: {line}", re.sub(r"\d[\d.,]*", lambda _: data.draw(number), f"ValueError: {line}")
    )


def test_a_server_is_not_ended_for_what_its_log_says(yard: Yard) -> None:
    record = yard.detach(STANDIN_SAY="KV cache size: , tokens\nKV cache size: 5 tokens\nSupported tasks: [{{}: 1}]")
    assert yard("stop").code == 0
    yard.assert_nothing_is_left(record)
