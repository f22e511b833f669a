"""What vLLM's log tells of a failure: why it failed, and what to do (pure).

The lines are those of vLLM 0.11 to 0.33. What is not recognised is shown as it stands.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["memory", "device", "port", "arguments", "model", "parallel", "offline", "engine", "unknown"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why vLLM failed: one sentence, and the command or flag to try, where one is known."""

    kind: Kind
    message: str
    remedy: str | None = None


_LESS = "a smaller `--max-model-len`, a quantised model, or more GPUs with `--tensor-parallel-size`"
KILLED_FOR_MEMORY = Cause("memory", "the system ran out of memory, and the kernel killed a process of it", _LESS)

# "(EngineCore pid=9240) ERROR 11-22 21:52:21 [core.py:1510] ValueError: ...": a process of the engine, its error.
_PREFIX = re.compile(r"^\((?P<process>\w+)[^)]*\)\s+")
_LOGGED = re.compile(r"^(?P<level>[A-Z]+) [\d-]+ [\d:]+ \[[^\]]*\] ?(?P<text>.*)$")
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*(?P<name>[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)|Exception|SystemExit)"
    r"(?:: (?P<text>.*))?$"
)
_PARSER_ERROR = re.compile(r"^\S+(?: \S+)?: error: (?P<text>.+)$")
_PYDANTIC = re.compile(r"^\s+(?:Value error, |Assertion failed, )?(?P<text>.+?)(?: \[type=.*)?$")
_SHADOWS = (
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "See root cause above",
    "WorkerProc initialization failed",
    "Executor failed.",
)


@dataclass(frozen=True, slots=True)
class _Known:
    kind: Kind
    pattern: re.Pattern[str]
    message: str
    remedy: str | None


_TABLE: tuple[tuple[Kind, str, str, str | None], ...] = (
    (
        "memory",
        r"max seq len \((?P<wanted>\d+)\).*?\((?P<needed>[\d.]+ \wiB) KV cache is needed.*?"
        r"available KV cache memory \((?P<given>[\d.]+ \wiB)\).*?estimated maximum model length is (?P<fits>\d+)",
        "a context of {wanted} tokens needs {needed} of KV cache, and there are {given}",
        "`--max-model-len {fits}` fits",
    ),
    (
        "memory",
        r"max seq len \((?P<wanted>\d+)\).*?KV cache is needed",
        "the KV cache has no room for one request of {wanted} tokens",
        "a smaller `--max-model-len`, or `--max-model-len auto`",
    ),
    (
        "memory",
        r"Free memory on device \S+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than desired",
        "only {free} of {total} GiB of the GPU are free, less than vLLM was told to take",
        "end what else uses the GPU (`nvidia-smi` names it), or a smaller `--gpu-memory-utilization`",
    ),
    (
        "memory",
        r"Available memory on node \d+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\).*requested memory for kv "
        r"\((?P<wanted>[\d.]+ GiB)\)",
        "the KV cache would take {wanted}, and {free} GiB of memory are free",
        "a smaller `--max-model-len`, or `-- --kv-cache-memory-bytes BYTES`",
    ),
    (
        "memory",
        r"No available memory for the cache blocks",
        "the weights leave no memory for the KV cache",
        "a greater `--gpu-memory-utilization`, or `-- --kv-cache-memory-bytes BYTES`",
    ),
    (
        "memory",
        r"OutOfMemoryError|CUDA out of memory|HIP out of memory|can't allocate memory|Cannot allocate memory|"
        r"\bMemoryError\b|std::bad_alloc",
        "it ran out of memory",
        _LESS,
    ),
    (
        # Often by the kernel for want of memory: its own count tells.
        "engine",
        r"Failed core proc\(s\): \{[^}]*'(?P<who>\w+)': -9\b",
        "its process `{who}` was killed",
        None,
    ),
    (
        "memory",
        r"No space left on device",
        "a disk, or the shared memory `/dev/shm`, is full",
        "`df -h /dev/shm /tmp` shows which; a container needs `--shm-size` or `--ipc=host`",
    ),
    (
        "device",
        r"Failed to infer device type",
        "this build of vLLM finds no device that it can use",
        "`modelctl engine install --cpu` puts the build for the CPU into an environment of its own",
    ),
    ("port", r"Address already in use", "its port is taken", "another `--port`, or `--port 0` for a free one"),
    (
        "arguments",
        r"unrecognized arguments: (?P<words>.+)$",
        "it knows no argument `{words}`",
        "see `modelctl serve --help` for what stands before `--`; after it stand vLLM's own",
    ),
    (
        "arguments",
        r"max_model_len \((?P<wanted>\d+)\) is greater than the derived max_model_len "
        r"\(\w+=(?P<most>\d+)",
        "a context of {wanted} tokens is more than the model's own {most}",
        "`--max-model-len {most}`",
    ),
    (
        "parallel",
        r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size "
        r"\((?P<size>\d+)\)",
        "{heads} attention heads cannot be divided among {size} devices",
        "a `--tensor-parallel-size` that divides {heads}",
    ),
    (
        "parallel",
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)",
        "{size} devices are asked for, and this machine has {gpus}",
        "`--tensor-parallel-size {gpus}`",
    ),
    (
        "parallel",
        r"Not enough allowed NUMA nodes",
        "the CPU has fewer NUMA nodes than devices are asked for",
        "`--tensor-parallel-size 1`",
    ),
    (
        "model",
        r"model type `(?P<type>[^`]+)` but Transformers does not recognize",
        "this vLLM does not know models of type `{type}`",
        "a newer vLLM: `modelctl engine install`",
    ),
    (
        "model",
        r"Model architectures \[?'?(?P<type>[\w, ']+?)'?\]? (?:are not supported|failed to be inspected)",
        "this vLLM does not know the architecture {type}",
        "a newer vLLM: `modelctl engine install`",
    ),
    (
        "model",
        r"trust_remote_code=True|--trust-remote-code",
        "the model brings Python code of its own, which vLLM runs only when told",
        "read that code, then add `-- --trust-remote-code`",
    ),
    (
        "model",
        r"Couldn't instantiate the backend tokenizer",
        "the model has no tokenizer that can be loaded",
        "`modelctl pull {model} --all-files`, or `-- --tokenizer` with the folder of one",
    ),
    (
        "model",
        r"Cannot find any model weights|SafetensorError|Weight files referenced in index but missing",
        "the model's weights are missing or damaged",
        "`modelctl verify --repair {model}`",
    ),
    (
        "model",
        r"config file at '(?P<path>[^']+)' is not a valid JSON file",
        "the model's configuration `{path}` is no JSON",
        "`modelctl verify --repair {model}`",
    ),
    (
        "offline",
        r"OfflineModeIsEnabled|LocalEntryNotFoundError|IncompleteSnapshotError|"
        r"Cannot find an appropriate cached snapshot|outgoing traffic has been disabled",
        "it asks for a file that was not pulled, and it runs without the network",
        "pull what it names, or set `HF_HUB_OFFLINE=0`",
    ),
)
_KNOWN = tuple(_Known(kind, re.compile(pattern), message, remedy) for kind, pattern, message, remedy in _TABLE)


def begins_traceback(line: str) -> bool:
    """Whether Python itself begins to tell of an exception here, which nobody caught: a logger would say who it is."""
    prefix = _PREFIX.match(line)
    return line[prefix.end() if prefix else 0 :].rstrip() == "Traceback (most recent call last):"


def is_ignored(line: str) -> bool:
    """Whether a line says of the exception that follows that Python goes on without minding it."""
    prefix = _PREFIX.match(line)
    return line[prefix.end() if prefix else 0 :].startswith("Exception ignored in")


def cause(lines: Sequence[str], *, model: str) -> Cause | None:
    """Why it failed: the first error of a process of the engine, else the last one of the server itself.

    Never the very last line: vLLM ends most failures with one that says to look above.
    """
    texts, shadows = _errors(lines)
    for text in (*texts, *shadows):
        for known in _KNOWN:
            if match := known.pattern.search(text):
                words = {**match.groupdict(), "model": model}
                return Cause(known.kind, known.message.format(**words), known.remedy and known.remedy.format(**words))
    if texts:
        return Cause("unknown", _shortened(texts[0]))
    return Cause("engine", "one of its processes ended without saying why") if shadows else None


def _errors(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the log tells of failures, the likeliest cause first, and what it says only in consequence of them."""
    engine: list[str] = []
    server: list[str] = []
    shadows: list[str] = []
    for at, raw in enumerate(lines):
        prefix = _PREFIX.match(raw)
        text = raw[prefix.end() :] if prefix else raw
        logged = _LOGGED.match(text)
        if logged and logged["level"] not in {"ERROR", "CRITICAL"}:
            continue
        text = logged["text"] if logged else text
        if parser := _PARSER_ERROR.match(text):
            server.append(parser["text"])
        if (found := _EXCEPTION.match(text)) is None:
            continue
        sentence = _sentence(found, lines[at + 1 : at + 2])
        if any(shadow in sentence for shadow in _SHADOWS):
            shadows.append(sentence)
        elif logged and prefix and prefix["process"] != "APIServer":
            engine.append(sentence)
        else:
            server.append(sentence)
    # An engine's first error is the cause of the others; of the server's own traceback the last exception is the one
    # that was raised at the end of a chain, and says most.
    return [*engine, *reversed(server)], shadows


def _sentence(found: re.Match[str], following: Iterable[str]) -> str:
    name, text = found["name"], found["text"] or ""
    # pydantic counts its errors in the first line and tells them in the next.
    if name == "ValidationError":
        for line in following:
            if inner := _PYDANTIC.match(line):
                return inner["text"]
    return f"{name}: {text}" if text else name


def _shortened(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else f"{text[:limit].rstrip()}..."
