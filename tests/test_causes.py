"""Why vLLM failed, told from its log. The logs are those of vLLM 0.32, without the frames of tracebacks."""

from pathlib import Path

import pytest

from modelctl.engine import diagnosis
from modelctl.engine.causes import Cause
from modelctl.engine.symptom import Kind

_LOGS = Path(__file__).parent / "logs"
LESS = "a smaller `--max-model-len`, a quantised model, or more GPUs with `--tensor-parallel-size`"
MEND = "`modelctl verify --repair acme/tiny`"
COMPARE = "`modelctl verify acme/tiny` tells whether they are as they were published"
NEWER = "a newer vLLM may know it: `modelctl engine install`, or `--python` names another"
OTHER = "an adapter made for this model; `modelctl show` names the model that one was made for"
BUILD = "`--python` names a vLLM that is built for this machine; `modelctl engine status` shows this one"
ERROR = "(EngineCore pid=7) ERROR 11-22 21:52:07 [core.py:1] "


def lines_of(name: str) -> list[str]:
    return (_LOGS / f"{name}.log").read_text(encoding="utf-8").replace("\r", "\n").split("\n")


def cause_of(*lines: str) -> Cause | None:
    return diagnosis.cause(lines, model="acme/tiny")


def test_a_start_that_succeeds_has_no_cause() -> None:
    assert cause_of(*lines_of("ready")) is None


WHOLE = [
    (
        "adapter-of-another-model",
        Cause(
            "model",
            "the adapter in `/models/sql` does not fit the model, which has no `model.layers.0.attention.wq` "
            "and 1 more",
            OTHER,
        ),
    ),
    (
        "adapter-of-another-size",
        Cause(
            "model",
            "an adapter does not fit the model: The size of tensor a (128) must match the size of tensor b "
            "(256) at non-singleton dimension 1",
            OTHER,
        ),
    ),
    (
        "adapter-rank",
        Cause("arguments", "an adapter has rank 64, and vLLM is told to take at most 8", "`-- --max-lora-rank 64`"),
    ),
    ("bad-config", Cause("model", "the model's configuration `/models/badjson/config.json` is no JSON", MEND)),
    ("bad-header", Cause("model", "a file of its weights is damaged: header too large", MEND)),
    (
        "bad-number",
        Cause(
            "arguments",
            "`--max-num-seqs` is not right: invalid int value: 'many'",
            "`--max-num-seqs` with another value, or without it vLLM's own",
        ),
    ),
    (
        "bad-value",
        Cause(
            "arguments",
            "`--dtype` cannot be 'nope'",
            "one of 'auto', 'bfloat16', 'float', 'float16', 'float32', 'half'",
        ),
    ),
    (
        "broken-environment",
        Cause("unknown", "ImportError: libacme.so.1: cannot open shared object file: No such file or directory", None),
    ),
    (
        "context-too-long",
        Cause("arguments", "a context of 100000 tokens is more than the model's own 512", "`--max-model-len 512`"),
    ),
    ("dangling-weights", Cause("model", "there is no file `/models/tiny/model.safetensors`", MEND)),
    ("empty-weights", Cause("model", "a file of its weights is damaged: header too small", MEND)),
    (
        "foreign-tensor",
        Cause("model", "its weights hold `layers.1.mlp.down_other`, for which LlamaModel has no place", COMPARE),
    ),
    (
        "heads-not-divisible",
        Cause(
            "parallel",
            "2 attention heads cannot be divided among 3 devices",
            "`--tensor-parallel-size 2`: they can be divided among 2",
        ),
    ),
    (
        "kv-cache-too-big",
        Cause(
            "memory",
            "the KV cache would take 838.19 GiB, and 7.76 GiB of memory are free",
            "`-- --kv-cache-memory-bytes 7151M` at most, or a smaller `--max-model-len`",
        ),
    ),
    (
        "kv-cache-too-small",
        Cause(
            "memory",
            "nothing is left for the KV cache",
            "a greater `--gpu-memory-utilization` or `-- --kv-cache-memory-bytes`; `modelctl show acme/tiny "
            "--memory` tells how much it needs",
        ),
    ),
    (
        "missing-shard",
        Cause("model", "files of its weights are missing: `/models/tiny/model-00002-of-00002.safetensors`", MEND),
    ),
    ("missing-tensor", Cause("model", "its weights lack `model.norm.weight`", COMPARE)),
    ("no-config", Cause("model", "there is no `config.json` in `/models/tiny`", MEND)),
    (
        "no-draft-model",
        Cause(
            "offline",
            "it asks for `acme/draft`, which it does not find, and it runs without the network",
            "`modelctl pull acme/draft`, or give the folder that it is in",
        ),
    ),
    (
        "no-such-path",
        Cause("model", "there is no folder `/models/nothere`", "`modelctl list` shows whether the model is still here"),
    ),
    (
        "no-tokenizer",
        Cause(
            "model",
            "the model has no tokenizer that can be loaded",
            "`modelctl pull acme/tiny --all-files`, or `-- --tokenizer` with the folder of one",
        ),
    ),
    ("no-weights", Cause("model", "there are no weights in `/models/noweights`", MEND)),
    (
        "one-request-too-big",
        Cause(
            "memory",
            "a context of 131072 tokens needs 0.12 GiB of KV cache, and there are 0.06 GiB",
            "`--max-model-len 65408` fits",
        ),
    ),
    (
        "port-taken",
        Cause("port", "its port was taken while it loaded", "another `--port`, or `--port 0` for a free one"),
    ),
    (
        "remote-code",
        Cause(
            "model",
            "the model brings Python code of its own, which vLLM runs only when told",
            "read that code, then add `-- --trust-remote-code`",
        ),
    ),
    (
        "shared-memory",
        Cause(
            "memory",
            "its processes need 160 MiB of shared memory, and `/dev/shm` has 0 MiB free",
            "a container gets more by `--shm-size 1g` or `--ipc=host`, a machine by `mount -o remount,size=1g "
            "/dev/shm`",
        ),
    ),
    (
        "sleep-mode",
        Cause("arguments", "vLLM cannot put a model to sleep on this device", "the same without `--enable-sleep-mode`"),
    ),
    (
        "too-few-numa-nodes",
        Cause(
            "parallel",
            "the model is to be divided among 2 processors, and the NUMA nodes are [0]",
            "`--tensor-parallel-size 1`",
        ),
    ),
    (
        "truncated-weights",
        Cause("model", "a file of its weights is damaged: incomplete metadata, file not fully covered", MEND),
    ),
    ("unknown-architecture", Cause("model", "this vLLM does not know models of type `nope`", NEWER)),
    (
        "unknown-flag",
        Cause(
            "arguments",
            "it knows no argument `--foo 1`",
            "see `modelctl serve --help` for what stands before `--`; after it stand vLLM's own",
        ),
    ),
    ("unsupported-architecture", Cause("model", "this vLLM does not know the architecture `NopeForCausalLM`", NEWER)),
    (
        "utilization-too-large",
        Cause(
            "memory",
            "only 20.96 of 23.54 GiB of memory are free, less than vLLM was told to take",
            "`--gpu-memory-utilization 0.80`, or `-- --kv-cache-memory-bytes 19316M`",
        ),
    ),
    (
        "utilization-too-small",
        Cause(
            "memory",
            "its share of the memory, 0.24 GiB, is used up before the KV cache gets any",
            "a greater `--gpu-memory-utilization`, or `-- --kv-cache-memory-bytes 15722M` at most",
        ),
    ),
    (
        "wrong-shape",
        Cause(
            "model",
            "its weights have other shapes than its configuration says: start (0) + length (512) exceeds "
            "dimension size (384)",
            COMPARE,
        ),
    ),
]


@pytest.mark.parametrize(("log", "expected"), WHOLE, ids=[log for log, _ in WHOLE])
def test_the_cause_in_a_whole_log(log: str, expected: Cause) -> None:
    assert cause_of(*lines_of(log)) == expected


def test_every_log_is_asked() -> None:
    assert {path.stem for path in _LOGS.glob("*.log")} - {"ready"} == {log for log, _ in WHOLE}


LINES: list[tuple[str, Kind, str, str | None]] = [
    (
        "ValueError: To serve at least one request with the model's max seq len (131072), (1.0 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (0.46 GiB). Based on the available memory, the estimated "
        "maximum model length is 60800.",
        "memory",
        "a context of 131072 tokens needs 1.0 GiB of KV cache, and there are 0.46 GiB",
        "`--max-model-len 60800` fits",
    ),
    (
        "ValueError: To serve at least one request with the model's max seq len (131072), (1.0 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (0.0 GiB). Try increasing `gpu_memory_utilization`",
        "memory",
        "a context of 131072 tokens needs 1.0 GiB of KV cache, and there are 0.0 GiB",
        "`-- --kv-cache-memory-bytes 1035M` would hold it, or a smaller `--max-model-len`",
    ),
    (
        "ValueError: Free memory on device cuda:0 (50.1/79.1 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 72.8 GiB).",
        "memory",
        "only 50.1 of 79.1 GiB of the GPU are free, less than vLLM was told to take",
        "`--gpu-memory-utilization 0.63`, or end what else uses the GPU (`nvidia-smi` names it)",
    ),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried", "memory", "it ran out of memory", LESS),
    (
        "RuntimeError: Engine core initialization failed. See root cause above. "
        "Failed core proc(s): {'EngineCore': -9}",
        "engine",
        "its process `EngineCore` was killed",
        "`dmesg` may say by whom",
    ),
    (
        "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.",
        "engine",
        "its process `VllmWorker-0` was killed",
        "`dmesg` may say by whom",
    ),
    (
        "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for "
        "root cause.",
        "engine",
        "one of its processes ended without saying why",
        None,
    ),
    (
        "RuntimeError: Engine core initialization failed. See root cause above. "
        "Failed core proc(s): {'EngineCore': -7}",
        "memory",
        "the shared memory `/dev/shm` is too small for what its processes hand to each other",
        "`df -h /dev/shm` shows it; a container gets more by `--shm-size 8g` or `--ipc=host`",
    ),
    (
        "Worker proc VllmWorker-0 died unexpectedly (exit code: -4), shutting down executor.",
        "device",
        "this build of vLLM has no code for this machine's processor or GPU",
        BUILD,
    ),
    ("OSError: [Errno 28] No space left on device", "memory", "a disk, or the shared memory `/dev/shm`, is full", None),
    (
        "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`",
        "device",
        "this build of vLLM finds no device that it can use",
        "`modelctl engine install --cpu` puts the build for the CPU into an environment of its own",
    ),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).",
        "device",
        "the NVIDIA driver is too old for this build of vLLM",
        "a newer driver, or `--python` names a vLLM built for an older CUDA",
    ),
    (
        "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
        "device",
        "the library `libcudart.so.13` of another device is not here, for which this build of vLLM was made",
        BUILD,
    ),
    (
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "device",
        "this build of vLLM has no code for this machine's processor or GPU",
        BUILD,
    ),
    (
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has "
        "compute capability 7.5. You can use float16 instead by explicitly setting the `dtype` flag",
        "arguments",
        "the GPU, Tesla T4, does not compute in bfloat16",
        "`-- --dtype half`",
    ),
    (
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. Current "
        "capability: 75.",
        "device",
        "its quantisation `fp8` needs a GPU of compute capability 8.9, and this one has 7.5",
        "the same model in another quantisation",
    ),
    (
        "ValueError: torch.bfloat16 is not supported for quantization method gptq. Supported dtypes: [torch.float16]",
        "arguments",
        "its quantisation `gptq` does not compute in bfloat16",
        "`-- --dtype float16`",
    ),
    (
        "ValueError: Unknown quantization method: bitsandbytes. Must be one of ['awq'].",
        "model",
        "this vLLM does not know the quantisation `bitsandbytes`",
        None,
    ),
    (
        "ValueError: current platform cpu does not support ray.",
        "parallel",
        "vLLM cannot use Ray on this device",
        "the same without `--ray`",
    ),
    (
        "ValueError: World size (4) is larger than the number of available GPUs (3) in this node.",
        "parallel",
        "4 devices are asked for, and this machine has 3",
        "`--tensor-parallel-size 2`, or more machines with `--nnodes` or `--ray`",
    ),
    (
        "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).",
        "parallel",
        "28 attention heads cannot be divided among 8 devices",
        "`--tensor-parallel-size 7`: they can be divided among 2, 4, 7, 14, 28",
    ),
    (
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 29501, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
        "port",
        "port 29501, by which its processes speak to each other, is taken",
        "`-- --master-port` with a free one",
    ),
    (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder",
        "offline",
        "it asks for a file that was not pulled, and it runs without the network",
        "pull what it names, or set `HF_HUB_OFFLINE=0`",
    ),
    (
        "huggingface_hub.errors.IncompleteSnapshotError: The snapshot is incomplete.",
        "offline",
        "it asks by its name for a model of which not every file was pulled",
        "give its folder instead of its name, or pull it with `--all-files`",
    ),
    (
        "OSError: You are trying to access a gated repo.",
        "access",
        "it asks the Hub for something to which there is no access",
        "pull what it names with `modelctl pull`, which says how to get access",
    ),
    (
        "ModuleNotFoundError: No module named 'flash_attn'",
        "engine",
        "its environment has no Python package `flash_attn`",
        None,
    ),
    ("OSError: [Errno 24] Too many open files", "engine", "it may not open as many files as it needs", None),
]


@pytest.mark.parametrize(("line", "kind", "message", "remedy"), LINES)
def test_the_cause_in_a_line(line: str, kind: Kind, message: str, remedy: str | None) -> None:
    for told in (line, f"{ERROR}{line}"):
        cause = cause_of("Traceback (most recent call last):", told)
        assert cause is not None
        assert (cause.kind, cause.message) == (kind, message)
        assert remedy is None or cause.remedy == remedy


def test_the_engines_first_error_comes_before_all_others() -> None:
    cause = cause_of(
        "(APIServer pid=1) WARNING 11-22 21:52:07 [system_utils.py:255] errors like `OSError: [Errno 24] Too many`",
        "(Worker pid=3) ERROR 11-22 21:52:07 [x.py:1] Traceback (most recent call last):",
        "(Worker pid=3) ERROR 11-22 21:52:07 [x.py:1] ZeroDivisionError: the first",
        "(EngineCore pid=2) ERROR 11-22 21:52:08 [x.py:1] RuntimeError: the second",
        "(EngineCore pid=2) ERROR 11-22 21:52:08 [x.py:1] Worker proc 0 died unexpectedly (exit code: 1), "
        "shutting down",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    )
    assert cause == Cause("unknown", "ZeroDivisionError: the first")


def test_a_long_sentence_is_cut() -> None:
    cause = cause_of(f"ValueError: {'x' * 1000}")
    assert cause is not None
    assert (len(cause.message), cause.message[-4:]) == (303, "x...")


def test_a_request_that_failed_long_before_is_not_the_cause() -> None:
    cause = cause_of(
        "(APIServer pid=1) ERROR 11-22 21:52:07 [serving.py:1] ValueError: a request asked for too much",
        "(EngineCore pid=2) ERROR 11-22 23:00:00 [core.py:1] RuntimeError: the engine is gone",
    )
    assert cause == Cause("unknown", "RuntimeError: the engine is gone")
    request = "(APIServer pid=1) ERROR 11-22 21:52:07 [serving.py:1] ModuleNotFoundError: No module named 'av'"
    cause = cause_of(request, "(EngineCore pid=2) ERROR 11-22 23:00:00 [core.py:1] RuntimeError: the engine is gone")
    assert cause == Cause("unknown", "RuntimeError: the engine is gone")
    cause = cause_of(request)
    assert cause is not None
    assert cause.kind == "engine"
