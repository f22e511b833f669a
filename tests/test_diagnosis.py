"""What vLLM's log lines mean. The logs are those of vLLM 0.32, without the frames of tracebacks."""

from pathlib import Path

import pytest

from modelctl.engine import diagnosis

_LOGS = Path(__file__).parent / "logs"


def lines_of(name: str) -> list[str]:
    return (_LOGS / f"{name}.log").read_text(encoding="utf-8").replace("\r", "\n").split("\n")


def test_the_stages_of_a_start() -> None:
    stages = [stage for line in lines_of("ready") if (stage := diagnosis.stage(line)) is not None]
    assert [stage.text for stage in dict.fromkeys(stages)] == [
        "reading the arguments",
        "reading the model's configuration (BertModel)",
        "reading the model's configuration",
        "starting the engine",
        "loading the weights",
        "loading the weights (0/1)",
        "loading the weights (1/1)",
        "warming up",
        "starting the server",
    ]
    assert [stage.order for stage in stages] == sorted(stage.order for stage in stages)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00, 1.2it/s]",
            "loading the weights (1/2)",
        ),
        ("Loading pt checkpoint shards: 100% Completed | 2/2 [00:00<00:00, 1.2it/s]", "loading the weights (2/2)"),
        ("INFO [kv_cache_utils.py:1] GPU KV cache size: 19,456 tokens", "setting up the KV cache (19,456 tokens)"),
        ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  10%|", "capturing CUDA graphs"),
        ("INFO [backends.py:1] Dynamo bytecode transform time: 4.2 s", "compiling the model"),
        ("INFO [core.py:1] init engine (profile, create kv cache, warmup model) took 1.2 s", "warming up"),
    ],
)
def test_single_lines_of_a_start(line: str, text: str) -> None:
    stage = diagnosis.stage(line)
    assert stage is not None
    assert stage.text == text


def test_what_the_server_can_be_asked_for() -> None:
    told = [tasks for line in lines_of("ready") if (tasks := diagnosis.tasks(line)) is not None]
    assert told == [("token_embed", "embed")]
    assert diagnosis.tasks("Supported tasks: [broken") is None
    assert diagnosis.tasks("Supported tasks: [broken]") is None
