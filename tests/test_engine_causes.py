"""Why the real vLLM fails, told whole: each cause that a CPU can have. What is refused before a start is forced."""

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modelctl.share.safetensors import Tensor, encode
from tests.command import Command, Finished
from tests.engines import FAST, START, UNI
from tests.serving import serving
from tests.stores import StoreBuilder, tiny_model
from tests.test_refusals import changed

pytestmark = pytest.mark.engine

TINY, SQL, DRAFT = "acme/tiny", "acme/tiny-sql", "acme/draft"
WEIGHTS = "model.safetensors"
MEND = f"`modelctl verify --repair {TINY}`"
NEWER = "a newer vLLM may know it: `modelctl engine install`, or `--python` names another"
EAGER = ("--", "--enforce-eager", "--kv-cache-memory-bytes", "67108864")
Do = Callable[[StoreBuilder], object]


def whole(store: StoreBuilder) -> None:
    store.add(TINY)


def folder(store: StoreBuilder, name: str = TINY) -> Path:
    paths = store.paths(name)
    return paths.snapshot(paths.ref("main").read_text(encoding="ascii"))


def gone(name: str) -> Do:
    return lambda store: (folder(store) / name).unlink()


def replaced(name: str, content: bytes) -> Do:
    """Another content in its place, in a file of its own."""

    def do(store: StoreBuilder) -> None:
        path = folder(store) / name
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    return do


def adapted(rank: int, *, module: str) -> Do:
    """The model, and an adapter of so high a rank for a part of it."""

    def do(store: StoreBuilder) -> None:
        store.add(TINY)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "bias": "none", "target_modules": ["q_proj"]}
        part = f"base_model.model.model.layers.0.{module}"
        tensors = {
            f"{part}.lora_A.weight": Tensor("BF16", (rank, 128), bytes(rank * 256)),
            f"{part}.lora_B.weight": Tensor("BF16", (128, rank), bytes(rank * 256)),
        }
        files: dict[str, bytes | str] = {
            "adapter_config.json": json.dumps(config),
            "adapter_model.safetensors": encode(tensors),
        }
        store.add(SQL, files=files)

    return do


def drafted(store: StoreBuilder) -> None:
    store.add(TINY)
    store.add(DRAFT)


def own_code(store: StoreBuilder) -> None:
    auto_map = {"AutoConfig": "acme.AcmeConfig", "AutoModelForCausalLM": "acme.AcmeForCausalLM"}
    changed(model_type="acme", architectures=["AcmeForCausalLM"], auto_map=auto_map)(store)


@dataclass(frozen=True)
class Row:
    """A start that fails: of which model, with which words, and what changes `meanwhile`; and what is said of it.

    `{folder}` in a message stands for the model's own folder, `N` for a number of this machine.
    """

    error: str
    hint: str
    words: tuple[str, ...] = FAST
    do: Do = whole
    meanwhile: Do | None = None
    code: int = 1
    engine_exit: int = 1
    env: dict[str, str] = field(default_factory=dict)


CONTENT = tiny_model()[WEIGHTS]
assert isinstance(CONTENT, bytes)
INDEX = json.dumps({"weight_map": {"lm_head.weight": "model-2.safetensors"}}).encode()
ROWS = {
    "unknown flag": Row(
        "it knows no argument `--foo 1`",
        "see `modelctl serve --help` for what stands before `--`; after it stand vLLM's own",
        (*FAST, "--foo", "1"),
        engine_exit=2,
    ),
    "bad value": Row(
        "`--dtype` cannot be 'nope'",
        "one of 'auto', 'bfloat16', 'float', 'float16', 'float32', 'half'",
        (*FAST, "--dtype", "nope"),
        engine_exit=2,
    ),
    "folder gone": Row(
        "there is no folder `{folder}`",
        "`modelctl list` shows whether the model is still here",
        meanwhile=lambda store: shutil.rmtree(folder(store)),
    ),
    "no configuration": Row("there is no `config.json` in `{folder}`", MEND, meanwhile=gone("config.json")),
    "broken configuration": Row(
        "the model's configuration `{folder}/config.json` is no JSON", MEND, meanwhile=replaced("config.json", b"{")
    ),
    "unknown architecture": Row(
        "this vLLM does not know models of type `nope`",
        NEWER,
        ("--force", *FAST),
        changed(model_type="nope", architectures=["NopeForCausalLM"]),
    ),
    "code of its own": Row(
        "the model brings Python code of its own, which vLLM runs only when told",
        "read that code, then add `-- --trust-remote-code`",
        ("--force", *FAST),
        own_code,
    ),
    "no tokenizer": Row(
        "the model has no tokenizer that can be loaded",
        f"`modelctl pull {TINY} --all-files`, or `-- --tokenizer` with the folder of one",
        meanwhile=gone("tokenizer.json"),
    ),
    "context": Row(
        "a context of 100000 tokens is more than the model's own 2048",
        "`--max-model-len 2048`",
        ("--max-model-len", "100000", "--force", *FAST),
    ),
    "sleep": Row(
        "vLLM cannot put a model to sleep on this device",
        "the same without `--enable-sleep-mode`",
        ("--force", *FAST, "--enable-sleep-mode"),
    ),
    "no ray": Row(
        "its environment has no Python package `ray`",
        "`modelctl engine status` names the environment, and `pip` of that environment installs it",
        ("--ray", "--force", *EAGER),
    ),
    "draft": Row(
        f"it asks for `{DRAFT}`, which it does not find, and it runs without the network",
        f"`modelctl pull {DRAFT}`, or give the folder that it is in",
        (*FAST, "-sc", json.dumps({"model": DRAFT, "num_speculative_tokens": 2, "method": "draft_model"})),
        drafted,
        lambda store: shutil.rmtree(store.paths(DRAFT).folder),
    ),
    "no weights": Row("there are no weights in `{folder}`", MEND, meanwhile=gone(WEIGHTS)),
    "truncated": Row(
        "a file of its weights is damaged: incomplete metadata, file not fully covered",
        MEND,
        meanwhile=replaced(WEIGHTS, CONTENT[:500_000]),
    ),
    "missing shard": Row(
        "files of its weights are missing: `{folder}/model-2.safetensors`",
        MEND,
        meanwhile=replaced("model.safetensors.index.json", INDEX),
    ),
    "cache too big": Row(
        "the KV cache would take 900.0 GiB, and N GiB of memory are free",
        "`-- --kv-cache-memory-bytes NM` at most, or a smaller `--max-model-len`",
        ("--force", *UNI, "--kv-cache-memory-bytes", "900G"),
        code=5,
    ),
    "cache too small": Row(
        "a context of 131072 tokens needs 0.12 GiB of KV cache, and there are 0.06 GiB",
        "`--max-model-len 65408` fits",
        ("--max-model-len", "131072", "--force", *FAST),
        changed(max_position_embeddings=131072),
        code=5,
    ),
    "share too small": Row(
        "its share of the memory, N GiB, is used up before the KV cache gets any",
        "a greater `--gpu-memory-utilization`, or `-- --kv-cache-memory-bytes NM` at most",
        ("--gpu-memory-utilization", "0.01", *UNI),
        code=5,
    ),
    "NUMA nodes": Row(
        "the model is to be divided among 2 processors, and the NUMA nodes are [0]",
        "`--tensor-parallel-size 1`",
        ("--tensor-parallel-size", "2", "--force", *EAGER),
        env={"CPU_VISIBLE_MEMORY_NODES": "0"},
    ),
    "rank": Row(
        "an adapter has rank 64, and vLLM is told to take at most 8",
        "`-- --max-lora-rank 64`",
        (*FAST, "--enable-lora", "--max-lora-rank", "8", "--lora-modules", "sql={adapter}"),
        adapted(64, module="self_attn.q_proj"),
    ),
    "adapter of another model": Row(
        "the adapter in `{adapter}` does not fit the model, which has no `model.layers.0.attention.wq`",
        "an adapter made for this model; `modelctl show` names the model that one was made for",
        ("--lora", f"sql={SQL}", *FAST),
        adapted(8, module="attention.wq"),
    ),
}


@pytest.mark.parametrize("name", list(ROWS))
def test_the_cause(run: Command, store: StoreBuilder, vllm_env: dict[str, str], name: str) -> None:
    row = ROWS[name]
    row.do(store)
    places = {
        "{folder}": str(folder(store)),
        "{adapter}": str(folder(store, SQL)) if store.paths(SQL).folder.exists() else "",
    }
    words = [_put(word, places) for word in row.words]
    done = _failed(run, words, env={**vllm_env, **row.env}, meanwhile=lambda: row.meanwhile and row.meanwhile(store))
    assert "the last lines of the log:" not in done.stderr
    error, hint, _ = _told(done, with_numbers=re.search(r"\bN\b", row.error) is None)
    assert (done.code, done.stdout) == (row.code, "")
    ended = f"(vLLM ended with exit code {row.engine_exit})"
    assert error == f"error: vLLM cannot serve `{TINY}`: {_put(row.error, places)} {ended}"
    assert hint == f"hint: {row.hint}; the whole log is `LOG`"


def test_a_port_that_somebody_takes_meanwhile(run: Command, store: StoreBuilder, vllm_env: dict[str, str]) -> None:
    store.add(TINY)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with socket.socket() as listener:

        def take() -> None:
            listener.bind(("127.0.0.1", port))
            listener.listen()

        done = _failed(run, FAST, port=port, env=vllm_env, meanwhile=take)
    assert _told(done)[:2] == (
        f"error: vLLM cannot serve `{TINY}`: its port was taken while it loaded (vLLM ended with exit code 1)",
        "hint: another `--port`, or `--port 0` for a free one; the whole log is `LOG`",
    )
    assert (done.code, done.stdout) == (1, "")


def test_an_error_object(run: Command, store: StoreBuilder, vllm_env: dict[str, str]) -> None:
    store.add(TINY)
    words = ("--tensor-parallel-size", "3", "--force", "--json", *EAGER)
    done = run("serve", TINY, "--port", "0", *words, env=vllm_env, timeout=START)
    assert (done.code, done.stderr) == (1, "")
    event = done.events[-1]
    log, tail = event["error"]["log"], event["error"].pop("tail")
    assert event == {
        "schema": 1,
        "event": "error",
        "error": {
            "kind": "failed",
            "message": f"vLLM cannot serve `{TINY}`: 2 attention heads cannot be divided among 3 devices "
            "(vLLM ended with exit code 1)",
            "hint": f"`--tensor-parallel-size 2`: they can be divided among 2; the whole log is `{log}`",
            "engine_exit": 1,
            "cause": "parallel",
            "log": log,
        },
    }
    assert len(tail) == 10
    assert "Total number of attention heads (2) must be divisible by tensor parallel size (3)" in "\n".join(tail)


def test_shared_memory_that_is_too_small(run: Command, store: StoreBuilder, vllm_env: dict[str, str]) -> None:
    """In a mount namespace of its own, as a container has it."""
    store.add(TINY)
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    small = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    serve = [sys.executable, "-m", "modelctl", "serve", TINY, "--port", "0", *EAGER]
    # With one process for all there is no memory to share.
    env = {**vllm_env, "VLLM_ENABLE_V1_MULTIPROCESSING": None}
    done = run.program([*unshare, "sh", "-c", small, "sh", *serve], env=env, timeout=START)
    assert _told(done)[:2] == (
        f"error: vLLM cannot serve `{TINY}`: its processes need 160 MiB of shared memory, and `/dev/shm` has 1 MiB "
        "free (vLLM ended with exit code 1)",
        "hint: a container gets more by `--shm-size 1g` or `--ipc=host`, a machine by "
        "`mount -o remount,size=1g /dev/shm`; the whole log is `LOG`",
    )
    assert (done.code, done.stdout) == (5, "")


def test_what_nobody_knows(run: Command, store: StoreBuilder, vllm_env: dict[str, str], tmp_path: Path) -> None:
    """A package of vLLM's environment that is broken: its first exception, and the last lines of the log."""
    store.add(TINY)
    package = tmp_path / "broken" / "uvloop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('libacme.so.1: wrong ELF class: ELFCLASS32')\n")
    path = f"{package.parent}{os.pathsep}{run.environment()['PYTHONPATH']}"
    done = _failed(run, FAST, env={**vllm_env, "PYTHONPATH": path})
    error, hint, before = _told(done)
    exception = "ImportError: libacme.so.1: wrong ELF class: ELFCLASS32"
    assert error == f"error: vLLM cannot serve `{TINY}`: {exception} (vLLM ended with exit code 1)"
    assert hint == "hint: the whole log is `LOG`"
    last = before[before.index("the last lines of the log:") + 1 :]
    assert (len(last), last[-1]) == (10, f"  {exception}")
    assert (done.code, done.stdout) == (1, "")


def _failed(
    run: Command,
    words: Sequence[str],
    *,
    env: dict[str, str],
    port: int = 0,
    meanwhile: Callable[[], object] = lambda: None,
) -> Finished:
    """A `serve` to its end; `meanwhile` is done when vLLM has been started and has not read anything."""
    with serving(run, TINY, "--port", str(port), *words, env=env) as server:
        server.until(lambda: "\nlog: " in server.stderr)
        meanwhile()
        return server.finish(seconds=START)


def _told(done: Finished, *, with_numbers: bool = True) -> tuple[str, str, list[str]]:
    """The error, the hint with the path of the log replaced, and the lines before."""
    *before, error, hint = done.stderr.splitlines()
    log = next(line.removeprefix("log: ") for line in before if line.startswith("log: "))
    assert Path(log).is_file()
    hint = hint.replace(f"`{log}`", "`LOG`")
    if not with_numbers:
        error = re.sub(r"(?<!take )\b\d+\.\d+ GiB", "N GiB", error)
        hint = re.sub(r"\d+M\b", "NM", hint)
    return error, hint, before


def _put(text: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        text = text.replace(name, place)
    return text
