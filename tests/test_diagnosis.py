"""What vLLM's log lines mean. The logs are those of vLLM 0.32, without the frames of tracebacks."""

from pathlib import Path

import pytest

from modelctl.engine import diagnosis
from modelctl.engine.diagnosis import Cause, Kind

_LOGS = Path(__file__).parent / "logs"
LESS = "a smaller `--max-model-len`, a quantised model, or more GPUs with `--tensor-parallel-size`"
MEND = "`modelctl verify --repair acme/tiny`"


def lines_of(name: str) -> list[str]:
    return (_LOGS / f"{name}.log").read_text(encoding="utf-8").replace("\r", "\n").split("\n")


def test_a_start_that_succeeds_has_no_cause() -> None:
    assert diagnosis.cause(lines_of("ready"), model="acme/tiny") is None


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "unknown-flag",
            Cause(
                "arguments",
                "it knows no argument `--foo 1`",
                "see `modelctl serve --help` for what stands before `--`; after it stand vLLM's own",
            ),
        ),
        ("port-taken", Cause("port", "its port is taken", "another `--port`, or `--port 0` for a free one")),
        (
            "no-such-path",
            Cause(
                "unknown",
                "HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': "
                "'/models/nothere'. Use `repo_type` argument if needed.",
            ),
        ),
        (
            "context-too-long",
            Cause("arguments", "a context of 100000 tokens is more than the model's own 512", "`--max-model-len 512`"),
        ),
        (
            "kv-cache-too-big",
            Cause(
                "memory",
                "the KV cache would take 838.19 GiB, and 7.76 GiB of memory are free",
                "a smaller `--max-model-len`, or `-- --kv-cache-memory-bytes BYTES`",
            ),
        ),
        (
            "kv-cache-too-small",
            Cause(
                "memory",
                "the weights leave no memory for the KV cache",
                "a greater `--gpu-memory-utilization`, or `-- --kv-cache-memory-bytes BYTES`",
            ),
        ),
        (
            "heads-not-divisible",
            Cause(
                "parallel",
                "2 attention heads cannot be divided among 3 devices",
                "a `--tensor-parallel-size` that divides 2",
            ),
        ),
        (
            "no-tokenizer",
            Cause(
                "model",
                "the model has no tokenizer that can be loaded",
                "`modelctl pull acme/tiny --all-files`, or `-- --tokenizer` with the folder of one",
            ),
        ),
        ("truncated-weights", Cause("model", "the model's weights are missing or damaged", MEND)),
        ("no-weights", Cause("model", "the model's weights are missing or damaged", MEND)),
        ("bad-config", Cause("model", "the model's configuration `/models/badjson/config.json` is no JSON", MEND)),
        (
            "unknown-architecture",
            Cause("model", "this vLLM does not know models of type `nope`", "a newer vLLM: `modelctl engine install`"),
        ),
    ],
)
def test_the_cause_in_a_whole_log(log: str, expected: Cause) -> None:
    assert diagnosis.cause(lines_of(log), model="acme/tiny") == expected


@pytest.mark.parametrize(
    ("line", "kind", "message", "remedy"),
    [
        (
            "(Worker_TP0 pid=7) ERROR 11-22 21:52:07 [multiproc_executor.py:1] ValueError: To serve at least one "
            "request with the model's max seq len (131072), (1.0 GiB KV cache is needed, which is larger than the "
            "available KV cache memory (0.46 GiB). Based on the available memory, the estimated maximum model length "
            "is 60800.",
            "memory",
            "a context of 131072 tokens needs 1.0 GiB of KV cache, and there are 0.46 GiB",
            "`--max-model-len 60800` fits",
        ),
        (
            "(EngineCore pid=7) ERROR 11-22 21:52:07 [core.py:1] ValueError: Free memory on device cuda:0 "
            "(2.1/79.1 GiB) on startup is less than desired GPU memory utilization (0.92, 72.8 GiB).",
            "memory",
            "only 2.1 of 79.1 GiB of the GPU are free, less than vLLM was told to take",
            "end what else uses the GPU (`nvidia-smi` names it), or a smaller `--gpu-memory-utilization`",
        ),
        (
            "(EngineCore pid=7) ERROR 11-22 21:52:07 [core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried",
            "memory",
            "it ran out of memory",
            LESS,
        ),
        (
            "RuntimeError: Engine core initialization failed. See root cause above. "
            "Failed core proc(s): {'EngineCore': -9}",
            "engine",
            "its process `EngineCore` was killed",
            None,
        ),
        (
            "(EngineCore pid=7) ERROR 11-22 21:52:07 [core.py:1] Exception: WorkerProc initialization failed due to an "
            "exception in a background process. See stack trace for root cause.",
            "engine",
            "one of its processes ended without saying why",
            None,
        ),
        (
            "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`",
            "device",
            "this build of vLLM finds no device that it can use",
            "`modelctl engine install --cpu` puts the build for the CPU into an environment of its own",
        ),
        (
            "ValueError: World size (4) is larger than the number of available GPUs (1) in this node.",
            "parallel",
            "4 devices are asked for, and this machine has 1",
            "`--tensor-parallel-size 1`",
        ),
        (
            "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder",
            "offline",
            "it asks for a file that was not pulled, and it runs without the network",
            "pull what it names, or set `HF_HUB_OFFLINE=0`",
        ),
        (
            "OSError: [Errno 28] No space left on device",
            "memory",
            "a disk, or the shared memory `/dev/shm`, is full",
            None,
        ),
    ],
)
def test_the_cause_in_a_line(line: str, kind: Kind, message: str, remedy: str | None) -> None:
    cause = diagnosis.cause(["Traceback (most recent call last):", line], model="acme/tiny")
    assert cause is not None
    assert (cause.kind, cause.message) == (kind, message)
    assert remedy is None or cause.remedy == remedy


def test_the_engines_first_error_comes_before_all_others() -> None:
    cause = diagnosis.cause(
        [
            "(APIServer pid=1) WARNING 11-22 21:52:07 [system_utils.py:255] errors like `OSError: [Errno 24] Too many`",
            "(Worker pid=3) ERROR 11-22 21:52:07 [x.py:1] Traceback (most recent call last):",
            "(Worker pid=3) ERROR 11-22 21:52:07 [x.py:1] ZeroDivisionError: the first",
            "(EngineCore pid=2) ERROR 11-22 21:52:08 [x.py:1] RuntimeError: the second",
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
        ],
        model="acme/tiny",
    )
    assert cause == Cause("unknown", "ZeroDivisionError: the first")


def test_a_long_sentence_is_cut() -> None:
    cause = diagnosis.cause([f"ValueError: {'x' * 1000}"], model="acme/tiny")
    assert cause is not None
    assert (len(cause.message), cause.message[-4:]) == (303, "x...")


def test_a_request_that_failed_long_before_is_not_the_cause() -> None:
    cause = diagnosis.cause(
        [
            "(APIServer pid=1) ERROR 11-22 21:52:07 [serving.py:1] ValueError: a request asked for too much",
            "(EngineCore pid=2) ERROR 11-22 23:00:00 [core.py:1] RuntimeError: the engine is gone",
        ],
        model="acme/tiny",
    )
    assert cause == Cause("unknown", "RuntimeError: the engine is gone")
