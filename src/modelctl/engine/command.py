"""vLLM's command line and environment (pure)."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelctl.engine import flags, memory
from modelctl.errors import UsageError
from modelctl.ref import ModelRef

LAUNCHER = Path(__file__).with_name("launcher.py")
# What vLLM gives to requests in flight after a request to stop; its own default is to drop them without an answer.
DRAIN_SECONDS = 30
_DRAIN_SINCE = (0, 18)

# As of `ssl.CERT_REQUIRED`, without loading the library.
_CERT_REQUIRED = 2
# Who starts the processes of vLLM.
EXECUTOR = "--distributed-executor-backend"

# Flags that decide where and under which name modelctl finds the server again: after `--` they would contradict it.
_OURS = {
    "--model": "name the model before `--`",
    "--host": "give `--host` before `--`",
    "--port": "give `--port` before `--`",
    "--served-model-name": "give `--served-model-name` before `--`",
    "--help": "`modelctl serve --help` tells of ours; vLLM's own are those of `vllm serve`",
    "--uds": "`modelctl serve` listens on a port; run vLLM itself for a socket file",
    "--api-key": "set `VLLM_API_KEY` in the environment: what stands on a command line is seen by every user",
}


@dataclass(frozen=True, kw_only=True)
class Lora:
    """An adapter by the name that requests call it: its folder, where in the store that is, and its rank."""

    name: str
    path: Path
    id: str | None = None
    commit: str | None = None
    rank: int | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user wants of vLLM. `extra` is handed on as it is.

    `nnodes`, `node_rank` and `master_addr` divide the model among machines; `ray` leaves that to a Ray cluster.
    `api_key_file` is where the key was read that stands in the environment, `kv_cache` the bytes that the KV cache gets
    where the user leaves that open. `configured` are the words that the file of a `--config` in `extra` stands for.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    served_names: tuple[str, ...] = ()
    max_model_len: str | None = None
    gpu_memory_utilization: float | None = None
    tensor_parallel_size: int | None = None
    loras: tuple[Lora, ...] = ()
    max_lora_rank: int | None = None
    nnodes: int | None = None
    node_rank: int | None = None
    master_addr: str | None = None
    ray: bool = False
    api_key_file: Path | None = None
    kv_cache: int | None = None
    extra: tuple[str, ...] = ()
    configured: tuple[str, ...] = field(default=(), repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """All of vLLM's own flags, in the order in which the last one holds."""
        return (*self.configured, *self.extra)

    @property
    def is_headless(self) -> bool:
        """Whether this machine only computes: of several, the first one answers requests."""
        return bool(self.node_rank) or flags.given(self.words, "--headless") is not None

    @property
    def is_tls(self) -> bool:
        """Whether vLLM was given a certificate, so that it speaks https."""
        return flags.given(self.words, "--ssl-certfile") is not None

    @property
    def drain(self) -> float:
        """Seconds that requests in flight get after a request to stop."""
        value = flags.given(self.words, "--shutdown-timeout")
        return float(value) if value and re.fullmatch(r"\d{1,18}(\.\d+)?", value) else DRAIN_SECONDS


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, and its environment, without what holds for one run only (`private`)."""

    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)


def check(settings: Settings) -> None:
    """Refuse what contradicts itself, before anything starts: `UsageError`."""
    if settings.extra and not settings.extra[0].startswith("-"):
        raise UsageError(
            f"`{settings.extra[0]}` after `--` is no flag of vLLM", hint="name the model before `--`, flags after it"
        )
    for flag, hint in _OURS.items():
        if flags.given(settings.extra, flag) is not None:
            raise UsageError(f"`{flag}` cannot stand after `--`", hint=hint)
    for flag, value in _wanted(settings):
        if value is not None and flags.given(settings.extra, flag) is not None:
            raise UsageError(f"`{flag}` is given twice", hint="give it before `--` or after it")
    _check_values(settings)
    _check_nodes(settings)
    _check_reach(settings)


def served_names(model_id: str, typed: str, wanted: Iterable[str] = ()) -> tuple[str, ...]:
    """The names under which the server knows the model: those wanted, else its id and what was typed for it."""
    names = tuple(dict.fromkeys(wanted))
    if names:
        return names
    return (model_id,) if "://" in typed or not typed else tuple(dict.fromkeys((model_id, typed)))


def typed_name(ref: ModelRef, typed: str) -> str:
    """What was typed, where it can name a model in a request; else the name in full."""
    return str(ref) if "://" in typed else typed


def serve(
    python: Path,
    snapshot: Path,
    settings: Settings,
    *,
    version: str = "unknown",
) -> tuple[str, ...]:
    """The command line that serves a snapshot by the interpreter `python`.

    By its path and not by its id: a folder of that name in the working directory would come first, the path needs no
    ref, and no file beyond those that were pulled is asked for.
    """
    argv = [str(python), str(LAUNCHER), "serve", str(snapshot)]
    argv += ["--served-model-name", *settings.served_names]
    argv += ["--host", settings.host, "--port", str(settings.port)]
    for flag, value in _wanted(settings):
        if value is not None:
            argv += [flag, value]
    argv += _beyond(settings)
    if flags.given(settings.words, "--shutdown-timeout") is None and _knows_drain(version):
        argv += ["--shutdown-timeout", str(DRAIN_SECONDS)]
    if settings.kv_cache is not None:
        argv += ["--kv-cache-memory-bytes", str(settings.kv_cache)]
    return (*argv, *settings.extra)


def sizes_kv_cache(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether the user said how much memory the KV cache takes, in whichever of vLLM's ways."""
    ways = ("--kv-cache-memory-bytes", "--gpu-memory-utilization", "--num-gpu-blocks-override")
    return (
        any(flags.given(settings.words, flag) is not None for flag in ways)
        or settings.gpu_memory_utilization is not None
        or bool(environ.get("VLLM_CPU_KVCACHE_SPACE"))
    )


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """What vLLM needs beside what the store needs (`inherited`): no usage report, no crash on an empty variable."""
    environ = dict(inherited)
    if "VLLM_NO_USAGE_STATS" not in environ and "DO_NOT_TRACK" not in environ:
        environ |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    # vLLM reads an empty one as a number and dies of it.
    if not environ.get("VLLM_CPU_KVCACHE_SPACE", "-"):
        del environ["VLLM_CPU_KVCACHE_SPACE"]
    return environ


def private(folder: Path, *, supervisor: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """What holds for one run: sockets and temporary files in `folder`, no process that outlives `supervisor`."""
    return {
        "TMPDIR": str(folder),
        "VLLM_RPC_BASE_PATH": inherited.get("VLLM_RPC_BASE_PATH") or str(folder),
        "MODELCTL_DIE_WITH_PARENT": "1",
        "MODELCTL_SUPERVISOR": str(supervisor),
    }


def difference(environ: Mapping[str, str], inherited: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """What is set anew or otherwise, and the names of what is taken away. Inherited secrets are in neither."""
    new = {name: value for name, value in sorted(environ.items()) if inherited.get(name) != value}
    return new, tuple(sorted(inherited.keys() - environ.keys()))


def base_url(host: str, port: int, *, is_tls: bool = False) -> str:
    """Where this machine reaches a server that listens on `host`."""
    reachable = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not a bind
    bracketed = f"[{reachable}]" if ":" in reachable else reachable
    return f"{'https' if is_tls else 'http'}://{bracketed}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    return host in {"localhost", "::1"} or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _wanted(settings: Settings) -> tuple[tuple[str, str | None], ...]:
    utilization, parallel = settings.gpu_memory_utilization, settings.tensor_parallel_size
    return (
        ("--max-model-len", settings.max_model_len),
        ("--gpu-memory-utilization", None if utilization is None else f"{utilization:g}"),
        ("--tensor-parallel-size", None if parallel is None else str(parallel)),
        ("--nnodes", None if settings.nnodes is None else str(settings.nnodes)),
        ("--node-rank", None if settings.node_rank is None else str(settings.node_rank)),
        ("--master-addr", settings.master_addr),
        ("--max-lora-rank", None if settings.max_lora_rank is None else str(settings.max_lora_rank)),
    )


def _beyond(settings: Settings) -> Iterator[str]:
    """The flags of adapters and of other machines that do not stand for one value."""
    if settings.loras:
        yield from ("--enable-lora", "--lora-modules")
        # As JSON, which alone can say which model an adapter is for; and a path may have a `=` in it.
        for lora in settings.loras:
            yield json.dumps({"name": lora.name, "path": str(lora.path)}, ensure_ascii=False)
    if settings.ray:
        yield from (EXECUTOR, "ray")
    if settings.node_rank:
        yield "--headless"


def _check_values(settings: Settings) -> None:
    """Refuse what vLLM's parser would refuse, ten seconds later."""
    length = settings.max_model_len
    length = flags.given(settings.extra, "--max-model-len") if length is None else length
    if length is not None and length.strip().lower() not in {"auto", "-1"} and not memory.context_length(length):
        raise UsageError(
            f"`--max-model-len` is no number of tokens: `{length}`",
            hint="write it as 8192, 8k (thousands), 8K (1024s) or auto",
        )
    share = settings.gpu_memory_utilization
    if share is not None and not 0 < share <= 1:
        raise UsageError(f"`--gpu-memory-utilization` is no share: `{share}`", hint="it is more than 0, and at most 1")
    for flag, words in (("--host", (settings.host,)), ("--served-model-name", settings.served_names)):
        if wrong := [word for word in words if word.startswith("-") or (not word.strip() and flag != "--host")]:
            raise UsageError(f"`{flag}` cannot be `{wrong[0]}`", hint="vLLM would take it for a flag, or for nothing")


def _check_reach(settings: Settings) -> None:
    """Refuse what would never be seen to be ready: it is asked for `/health` over HTTP, without a certificate."""
    if flags.given(settings.configured, "--uds") is not None:
        raise UsageError("`uds` cannot stand in the file of `--config`", hint=_OURS["--uds"])
    if flags.given(settings.words, "--grpc") is not None:
        raise UsageError("with `--grpc` vLLM answers no HTTP request", hint="leave it away, or run vLLM itself")
    servers = flags.given(settings.words, "--api-server-count") or ""
    if re.fullmatch(r"0+|-\d+", servers) and not settings.is_headless:
        raise UsageError(
            f"with `--api-server-count {servers}` vLLM answers nobody",
            hint="`-- --headless` is for a machine that computes for another one",
        )
    if settings.is_tls and flags.whole(flags.given(settings.words, "--ssl-cert-reqs") or "") == _CERT_REQUIRED:
        raise UsageError(
            "with `--ssl-cert-reqs 2` vLLM answers nobody without a certificate, also not modelctl",
            hint="1 asks for one and takes none; `--api-key-file` has requests bring a key",
        )


def _check_nodes(settings: Settings) -> None:
    nodes, rank = settings.nnodes, settings.node_rank
    if settings.ray and (backend := flags.given(settings.extra, EXECUTOR)) not in {None, "ray"}:
        raise UsageError(
            f"`--ray` and `{EXECUTOR} {backend}` contradict each other",
            hint="leave one of them away, here or in `modelctl.toml`",
        )
    if settings.ray and (nodes or rank is not None or settings.master_addr):
        raise UsageError("`--ray` and `--nnodes` contradict each other", hint="Ray knows its machines by itself")
    if nodes is None or nodes == 1:
        if rank or (nodes is None and settings.master_addr):
            raise UsageError(
                "`--node-rank` and `--master-addr` need `--nnodes`", hint="say how many machines there are"
            )
        return
    if nodes < 1 or rank is None or not settings.master_addr:
        raise UsageError(
            f"`--nnodes {nodes}` needs `--node-rank` and `--master-addr`",
            hint="the ranks count from 0; the address is that of the machine with rank 0",
        )
    if not 0 <= rank < nodes:
        raise UsageError(f"there is no rank {rank} among {nodes} machines", hint=f"the ranks are 0 to {nodes - 1}")


def _knows_drain(version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= _DRAIN_SINCE
