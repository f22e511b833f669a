"""How far a start is, by the lines of its log. Those of the file are vLLM 0.32's."""

from pathlib import Path

import pytest

from modelctl.engine import stages
from modelctl.engine.stages import Course

GB = 10**9
SHARDS = "Loading safetensors checkpoint shards:  {} Completed | {} [00:00<00:00, 1.2it/s]"
TOOK = "(Worker pid=7) INFO 11-22 21:52:21 [default_loader.py:430] Loading weights took {} seconds"
CACHE = "(EngineCore pid=6) INFO 11-22 21:52:22 [kv_cache_utils.py:2327] CPU KV cache size: 19,456 tokens, "
LENGTH = "Maximum concurrency for 2,048 tokens per request: 9.50x"


def log() -> list[str]:
    text = (Path(__file__).parent / "logs" / "ready.log").read_text(encoding="utf-8")
    return text.replace("\r", "\n").split("\n")


def course(lines: list[str], *, weights: int | None = None) -> list[str]:
    """What a start says to a person, with one second between its lines."""
    start = Course(weights=weights)
    return [start.stage.text for at, line in enumerate(lines) if start.heard(line, at=float(at))]


def test_a_start_of_the_real_vllm() -> None:
    told = [
        "reading the arguments",
        "reading the model's configuration (BertModel)",
        "reading the model's configuration",
        "starting the engine",
        "loading the weights",
        "loading the weights (0/1)",
        "loading the weights (1/1)",
        "loaded the weights",
        "warming up",
        "starting the server",
    ]
    assert course(log()) == told
    whole = Course()
    for line in log():
        whole.heard(line, at=0.0)
    assert whole.tasks == ("token_embed", "embed")
    assert whole.stage.order == 90


def test_weights_are_told_in_shards_bytes_and_speed() -> None:
    lines = [SHARDS.format("0%", "0/4"), SHARDS.format("50%", "2/4"), SHARDS.format("75%", "3/4"), TOOK.format("8.00")]
    assert course(lines, weights=16 * GB) == [
        "loading the weights (0/4, 0 B of 16.0 GB)",
        "loading the weights (2/4, 8.0 GB of 16.0 GB, 8.0 GB/s)",
        "loading the weights (3/4, 12.0 GB of 16.0 GB, 6.0 GB/s)",
        "loaded the weights (16.0 GB at 2.0 GB/s)",
    ]
    start = Course(weights=16 * GB)
    for at, line in enumerate(lines):
        start.heard(line, at=float(at))
    stage = start.stage
    assert (stage.name, stage.done, stage.total, stage.rate, stage.sums_up) == (
        "weights",
        16 * GB,
        16 * GB,
        2 * GB,
        True,
    )


def test_no_speed_is_told_of_what_was_too_quick_to_measure() -> None:
    lines = [SHARDS.format("100%", "1/1"), TOOK.format("0.03")]
    assert course(lines, weights=GB)[-1] == "loaded the weights (1.0 GB)"


def test_the_weights_of_several_processes_are_summed_up_once() -> None:
    lines = [TOOK.format("2.00"), TOOK.format("2.50"), SHARDS.format("100%", "1/1")]
    assert course(lines, weights=GB) == ["loaded the weights (1.0 GB at 500.0 MB/s)"]


@pytest.mark.parametrize(
    "lines", [[CACHE + LENGTH], [CACHE, f"INFO [kv_cache_utils.py:1] {LENGTH}"]], ids=["0.32", "0.11"]
)
def test_the_cache_is_told_in_tokens_and_requests(lines: list[str]) -> None:
    start = Course()
    assert all(start.heard(line, at=0.0) for line in lines)
    stage = start.stage
    assert stage.text == "setting up the KV cache (19,456 tokens, 9.5 requests of 2,048)"
    assert (stage.kv_tokens, stage.kv_requests) == (19_456, 9.5)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Loading pt checkpoint shards: 100% Completed | 2/2 [00:00<00:00, 1.2it/s]", "loading the weights (2/2)"),
        ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  10%|", "capturing CUDA graphs"),
        (
            "Capturing CUDA graphs (decode, FULL):  10%|█   | 3/35 [00:01<00:09]",
            "capturing CUDA graphs (3/35)",
        ),
        ("INFO [backends.py:1] Dynamo bytecode transform time: 4.2 s", "compiling the model"),
        ("INFO [cpu_model_runner.py:87] Warming up model for the compilation...", "compiling the model"),
        ("INFO [core.py:1] init engine (profile, create kv cache, warmup model) took 1.2 s", "warming up"),
    ],
)
def test_single_lines_of_a_start(line: str, text: str) -> None:
    assert course([line]) == [text]


def test_what_stands_before_in_the_course_is_not_gone_back_to() -> None:
    start = Course()
    assert start.heard(CACHE, at=0.0)
    assert not start.heard("Starting to load model x", at=0.0)
    assert not start.heard(LENGTH.replace("concurrency", "patience"), at=0.0)


def test_silence_is_told_with_the_stage() -> None:
    assert stages.silent(stages.STARTING, 120.4).text == "importing vLLM, nothing new for 120 s"


def test_tasks_are_those_of_the_list() -> None:
    line = (
        "(APIServer pid=1) INFO 11-22 21:52:21 [entry.py:136] Supported tasks: ['token_embed', 'embed&token_classify']"
    )
    assert stages.tasks(line) == ("token_embed", "embed&token_classify")


@pytest.mark.parametrize("line", ["Supported tasks: [broken", "Supported tasks: [broken]", "no such thing"])
def test_tasks_that_make_no_sense_are_none(line: str) -> None:
    assert stages.tasks(line) is None
