"""What is refused before a start, and what is settled for it: told from files, flags and memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelctl import project as projects
from modelctl.cli import fitting
from modelctl.engine import preflight
from modelctl.engine.command import Settings
from modelctl.engine.discovery import Device, Engine
from modelctl.engine.gpus import Gpu
from modelctl.engine.images import Image, Tool
from modelctl.engine.limits import FORCE
from modelctl.engine.machine import Machine
from modelctl.engine.memory import GIB, MIB, Need
from modelctl.engine.preflight import Verdict
from modelctl.errors import ModelctlError, NoRoomError, UsageError
from tests.test_architectures import write
from tests.test_gpus import Play, play, row  # noqa: F401 - a fixture

NAME = "acme/llama"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
KNOWN = "LlamaForCausalLM"
Judged = Callable[..., Verdict]


def engine(device: Device | None, package: Path | None = None) -> Engine:
    return Engine(Path("/python"), "0.33.0", device, "vllm", "", package)


def judged(
    *extra: str,
    machine: Machine,
    billions: float = 8,
    context: int | None = 131072,
    package: Path | None = None,
    architecture: str = KNOWN,
    environ: dict[str, str] | None = None,
    config: dict[str, Any] = LLAMA,
    **settings: Any,  # noqa: ANN401
) -> Verdict:
    need = Need(weights=int(billions * 2e9), config=config, context=context)
    model = preflight.Model(id=NAME, need=need, architecture=architecture, context=context)
    device: Device = "cuda" if machine.gpus else "cpu"
    wanted = Settings(extra=extra, **settings)
    return preflight.judge(model, engine(device, package), wanted, machine, environ=environ or {})


def gpus(count: int, gib: int, *, free: int | None = None) -> Machine:
    card = Gpu("GPU-0", "H100", gib * GIB, (free or gib) * GIB)
    return Machine((card,) * count, 512 * GIB, 500 * GIB)


def ram(gib: int) -> Machine:
    return Machine((), gib * GIB, gib * GIB)


def told(verdict: Verdict) -> ModelctlError:
    assert verdict.refusal is not None
    return verdict.refusal


def test_what_fits_is_let_alone() -> None:
    assert judged(machine=gpus(1, 80)) == Verdict(settings=Settings())
    assert judged("--dtype", "half", machine=ram(64)).refusal is None


def test_a_context_that_does_not_fit_whole_is_left_to_vllm() -> None:
    verdict = judged(machine=gpus(1, 24))
    assert verdict.settings.max_model_len == "auto"
    assert verdict.refusal is None
    assert verdict.note == (
        "its whole context of 131,072 tokens does not fit: `--max-model-len auto` leaves what does, about 43,376"
    )
    # What the user said is not changed.
    assert judged("--max-model-len=auto", machine=gpus(1, 24)).settings.max_model_len is None
    assert judged(machine=gpus(1, 24), max_model_len="8k").settings.max_model_len == "8k"


def test_a_vllm_from_before_auto_gets_a_number(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    source = tmp_path / "engine" / "arg_utils.py"
    source.write_text("def human_readable_int(): ...")
    assert judged(machine=gpus(1, 24), package=tmp_path).settings.max_model_len == "40960"
    source.write_text("def human_readable_int_or_auto(): ...")
    assert judged(machine=gpus(1, 24), package=tmp_path).settings.max_model_len == "auto"


REFUSED = [
    (
        {"machine": gpus(1, 12)},
        f"`{NAME}` does not fit: it takes 35.2 GB on the GPU (16.0 GB of weights, "
        "17.2 GB of KV cache of 131,072 tokens, 2.0 GB beside them), and 11.9 GB are there",
        "a smaller model, a quantised one or more GPUs would fit",
    ),
    ({"machine": gpus(2, 12)}, None, "`--tensor-parallel-size 2 --max-model-len 28672` makes it fit"),
    ({"machine": gpus(8, 12)}, None, "`--tensor-parallel-size 4` makes it fit"),
    (
        {"machine": gpus(1, 24), "max_model_len": "64K"},
        f"`{NAME}` does not fit: it takes 26.6 GB on the GPU (16.0 GB of weights, 8.6 GB of KV cache of 65,536 tokens, "
        "2.0 GB beside them), and 23.7 GB are there",
        "`--max-model-len 40960` makes it fit",
    ),
    (
        {"machine": gpus(1, 80, free=40), "max_model_len": "8k"},
        f"`{NAME}` does not fit: vLLM would take 79.0 GB on the GPU, and 42.9 GB are free",
        "`--gpu-memory-utilization 0.50` makes it fit",
    ),
    (
        {"machine": gpus(1, 80), "gpu_memory_utilization": 0.2},
        None,
        "`--gpu-memory-utilization 0.92` makes it fit",
    ),
    ({"machine": ram(12)}, None, "a smaller model, a quantised one or more GPUs would fit"),
]


@pytest.mark.parametrize(("given", "message", "hint"), REFUSED)
def test_what_cannot_fit_is_refused_with_the_numbers(given: dict[str, Any], message: str | None, hint: str) -> None:
    error = told(judged(**given))
    assert isinstance(error, NoRoomError)
    assert message in {None, error.message}
    assert error.hint == f"{hint}; `modelctl show {NAME} --memory` has the reasoning; `--force` starts it anyway"
    assert error.details["cause"] == "memory"


def test_the_flags_that_are_named_make_it_fit() -> None:
    for machine in (gpus(2, 12), gpus(8, 12), gpus(1, 80, free=40)):
        flags = told(judged(machine=machine, max_model_len="8k" if len(machine.gpus or ()) == 1 else None)).details[
            "flags"
        ]
        assert judged(*flags, machine=machine).refusal is None


def test_terms_of_the_user_count() -> None:
    assert judged("--kv-cache-memory-bytes", "1G", machine=gpus(1, 24)).settings.max_model_len == "auto"
    assert told(judged("--kv-cache-memory-bytes", "20G", machine=gpus(1, 24))).exit_code == 5
    small = judged("--kv-cache-memory-bytes=64M", machine=ram(64), max_model_len="8k")
    assert "1.1 GB of KV cache of 8,000 tokens" in told(small).message
    assert judged("--kv-cache-dtype", "fp8", machine=gpus(1, 24)).note != judged(machine=gpus(1, 24)).note
    assert judged(machine=ram(64), environ={"VLLM_CPU_KVCACHE_SPACE": "1"}).settings.max_model_len == "auto"


def test_the_cache_on_the_cpu_leaves_room_for_the_weights() -> None:
    # A quarter of the memory is more than what the weights leave.
    verdict = judged(machine=ram(22), context=8192, billions=8.9)
    cache = verdict.settings.kv_cache
    assert verdict.refusal is None
    assert cache is not None
    assert GIB < cache < 22 * GIB // 4
    assert judged(machine=ram(64), context=8192).settings.kv_cache == 4 * GIB
    assert judged("--kv-cache-memory-bytes=1G", machine=ram(64), context=8192).settings.kv_cache is None
    assert judged(machine=gpus(1, 80)).settings.kv_cache is None


@pytest.mark.parametrize(
    "flag",
    [
        "--hf-overrides={}",
        "--quantization=fp8",
        "-q=fp8",
        "--cpu-offload-gb=10",
        "--data-parallel-size=2",
        "--config=x",
        "--quant=fp8",
        "-qfp8",
        "--hf-overrides.rope_theta=1",
        "-dcp=2",
        "--kv-cache-dtype=nvfp4",
    ],
)
def test_what_nobody_can_tell_is_not_refused(flag: str) -> None:
    assert judged(flag, machine=gpus(1, 12)) == Verdict(settings=Settings(extra=(flag,)))


def test_a_context_of_overridden_dimensions_is_not_judged() -> None:
    verdict = judged("--hf-overrides.max_position_embeddings=1048576", machine=ram(64), max_model_len="512k")
    assert (verdict.refusal, verdict.note) == (None, None)


def test_single_precision_takes_twice_the_room() -> None:
    half, single = (judged("--dtype", dtype, machine=ram(24), max_model_len="8k") for dtype in ("half", "float32"))
    assert half.refusal is None
    assert "32.0 GB of weights, 2.1 GB of KV cache of 8,000 tokens" in told(single).message
    # A quarter of the memory would not hold one request.
    cache = judged("--dtype=float32", machine=ram(50), billions=1, context=65536).settings.kv_cache
    assert cache is not None
    assert cache > 16 * GIB


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, "vLLM would see no GPU: `CUDA_VISIBLE_DEVICES` is ``"),
        ({}, "vLLM would see no GPU: NVIDIA's driver tells of none"),
    ],
)
def test_gpus_that_are_not_seen(environ: dict[str, str], message: str) -> None:
    model = preflight.Model(id=NAME, need=None, architecture=None, context=None)
    refused = told(preflight.judge(model, engine("cuda"), Settings(), ram(64), environ=environ))
    assert (refused.message, refused.exit_code) == (message, 5)
    elsewhere = preflight.judge(model, engine("cuda"), Settings(ray=True), ram(64), environ=environ)
    assert elsewhere.refusal is None


HINTS: list[tuple[Machine, tuple[str, ...], dict[str, Any], str]] = [
    # The second GPU is in use: one of them is what fits.
    (
        Machine((Gpu("a", "x", 24 * GIB, 24 * GIB), Gpu("b", "x", 24 * GIB, GIB)), 64 * GIB, 64 * GIB),
        (),
        {"tensor_parallel_size": 2, "billions": 4, "context": 8192},
        "--tensor-parallel-size 1",
    ),
    (gpus(4, 24), ("-pp", "2"), {"billions": 35, "context": 8192}, "--tensor-parallel-size 2"),
    (gpus(1, 80), (), {"billions": 1, "context": None, "max_model_len": "64M"}, "--max-model-len 2048"),
    (
        gpus(1, 24),
        ("--kv-cache-memory-bytes", "20G"),
        {"context": 1 << 40},
        "--max-model-len 40960 --kv-cache-memory-bytes 5425M",
    ),
]


@pytest.mark.parametrize(("machine", "extra", "wanted", "flags"), HINTS)
def test_flags_that_are_named_fit_as_they_stand(
    machine: Machine, extra: tuple[str, ...], wanted: dict[str, Any], flags: str
) -> None:
    named = told(judged(*extra, machine=machine, **wanted)).details["flags"]
    assert " ".join(named) == flags
    left = {key: value for key, value in wanted.items() if f"--{key.replace('_', '-')}" not in named}
    others = extra if extra[:1] == ("-pp",) else ()
    assert judged(*others, *named, machine=machine, **left).refusal is None


def test_nothing_is_said_of_other_machines() -> None:
    assert judged(machine=gpus(1, 12), ray=True).refusal is None
    many: dict[str, Any] = {"nnodes": 2, "node_rank": 0, "master_addr": "10.0.0.1", "tensor_parallel_size": 16}
    assert judged(machine=gpus(8, 12), **many).refusal is None
    unknown = Machine(None, 64 * GIB, 60 * GIB)
    model = preflight.Model(id=NAME, need=None, architecture=None, context=None)
    assert preflight.judge(model, engine("rocm"), Settings(), unknown, environ={}).refusal is None


def test_more_gpus_than_there_are() -> None:
    error = told(judged(machine=gpus(2, 80), tensor_parallel_size=4))
    assert error.message == "`--tensor-parallel-size` asks for 4 GPUs, and this machine has 2"
    assert error.hint == (
        "`--tensor-parallel-size 2`, or more machines with `--nnodes` or `--ray`; `--force` starts it anyway"
    )
    # Of three, what its heads can be divided among.
    three = told(judged(machine=gpus(3, 80), tensor_parallel_size=4))
    assert three.hint is not None
    assert three.hint.startswith("`--tensor-parallel-size 2`, ")
    both = told(judged("-pp", "2", machine=gpus(2, 80), tensor_parallel_size=2))
    assert both.message == "the parallel sizes ask for 4 GPUs, and this machine has 2"
    assert both.exit_code == 5


def test_what_the_model_forbids() -> None:
    error = told(judged(machine=gpus(1, 80), max_model_len="256k"))
    assert isinstance(error, UsageError)
    assert error.message == f"`--max-model-len` asks for 256,000 tokens, and `{NAME}` takes 131,072"
    for yes in ("1", "true"):
        allowed = judged(machine=gpus(1, 80), max_model_len="132k", environ={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": yes})
        assert allowed.refusal is None
    heads = told(judged("-tp=3", machine=gpus(4, 80)))
    assert heads.message == f"the 32 attention heads of `{NAME}` cannot be divided among 3 devices"
    assert heads.hint == "it can be divided among 2, 4, 8, 16; `--force` starts it anyway"


def test_an_architecture_that_this_vllm_does_not_know(tmp_path: Path) -> None:
    package = write(tmp_path)
    strange: dict[str, Any] = {"machine": gpus(1, 80), "package": package, "architecture": "Nope"}
    error = told(judged(**strange))
    assert error.message == f"`{NAME}` cannot be served: vLLM 0.33.0 does not know `Nope`"
    assert error.hint == "another vLLM may know it: `--python` names one; `--force` starts it anyway"
    assert judged("--trust-remote-code", **strange).refusal is None
    assert judged("--model-impl", "transformers", **strange).refusal is None
    own = tmp_path / "vllm-0.33.0.dist-info" / "entry_points.txt"
    plugin = tmp_path / "acme_models-1.0.dist-info" / "entry_points.txt"
    for path in (own, plugin):
        path.parent.mkdir()
    own.write_text("[vllm.general_plugins]\nlora = vllm.plugins:lora\n")
    assert judged(**strange).refusal is not None
    plugin.write_text("[vllm.general_plugins]\nnope = acme:register\n")
    assert judged(**strange).refusal is None


def test_a_configuration_that_tells_no_cache() -> None:
    strange: dict[str, Any] = {"model_type": "strange"}
    assert judged(machine=gpus(1, 24), config=strange).refusal is None
    assert told(judged(machine=gpus(1, 12), config=strange)).message == (
        f"`{NAME}` does not fit: its configuration does not tell how large its KV cache is, "
        "but its weights alone are too large"
    )


@pytest.mark.parametrize(("count", "code"), [(1, 5), (8, None)])
def test_the_gpus_are_those_that_nvidias_tool_tells_of(
    play: Play,  # noqa: F811
    tmp_path: Path,
    count: int,
    code: int | None,
) -> None:
    driver = tmp_path / "root" / "dev" / "nvidiactl"
    driver.parent.mkdir(parents=True)
    driver.touch()
    rows = [row(at, name="RTX", total="24564", free="24210") for at in range(count)]
    project = projects.locate(environ=play(*rows), cwd=tmp_path)
    with fitting.asked(project, root=tmp_path / "root") as here:
        verdict = judged(machine=here.machine, tensor_parallel_size=count, billions=70)
    assert (verdict.refusal and verdict.refusal.exit_code) == code


def test_a_driver_that_hangs_refuses_nobody(play: Play, tmp_path: Path) -> None:  # noqa: F811
    driver = tmp_path / "root" / "dev" / "nvidiactl"
    driver.parent.mkdir(parents=True)
    driver.touch()
    project = projects.locate(environ=play(row(0), does="sleep 60"), cwd=tmp_path)
    with fitting.asked(project, root=tmp_path / "root", patience=0.2) as here:
        machine = here.machine
    need = Need(weights=900 * GIB, config=LLAMA, context=8192)
    model = preflight.Model(id=NAME, need=need, architecture=KNOWN, context=8192)
    assert preflight.judge(model, engine("cuda"), Settings(), machine, environ={}).refusal is None


def test_what_the_cpu_cannot_do() -> None:
    one = ram(64)._replace(nodes=1)
    assert told(judged(machine=one, tensor_parallel_size=2)).exit_code == 5
    assert told(judged("-pp", "2", machine=one)).exit_code == 5
    assert judged(machine=one._replace(nodes=2), tensor_parallel_size=2, context=8192).refusal is None
    assert told(judged("--enable-sleep-mode", machine=one)).exit_code == 2
    assert judged("--enable-sleep-mode", machine=gpus(1, 80)).refusal is None


RAY = ("--distributed-executor-backend", "ray")


@pytest.mark.parametrize(
    "asked",
    [
        {"ray": True},
        {"extra": ("-cc", "{}", "--distributed-executor-backend=ray")},
        {"configured": RAY},
        {"ray": True, "configured": ("--distributed-executor-backend", "mp")},
        {"extra": ("--distributed-executor-backend", "mp", "--data-parallel-backend", "ray")},
    ],
)
def test_a_vllm_without_ray(asked: dict[str, Any], tmp_path: Path) -> None:
    settings, cards = Settings(**asked), gpus(1, 80)
    model = preflight.Model(id=NAME, need=None, architecture=KNOWN, context=8192)

    def refusal(**changed: Any) -> ModelctlError | None:  # noqa: ANN401
        return preflight.judge(
            model, replace(engine("cuda"), **changed), settings, cards, environ={"PATH": str(tmp_path)}
        ).refusal

    assert refusal() is refusal(has_ray=True) is None
    error = refusal(has_ray=False, python=Path("/my venv/bin/python"))
    assert error is not None
    assert (error.exit_code, error.message) == (
        3,
        "the vLLM of `/my venv/bin/python` has no Ray beside it",
    )
    assert error.hint == f"`'/my venv/bin/python' -m pip install ray`; {FORCE}"
    (tmp_path / "uv").touch(mode=0o755)
    error = refusal(has_ray=False)
    assert error is not None
    assert error.hint == f"`uv pip install --python /python ray`; {FORCE}"
    enclosed = refusal(has_ray=False, image=Image("acme/vllm", "1", Tool(Path("/docker"), "docker", rootless=False)))
    assert enclosed is not None
    assert enclosed.message == "the vLLM of the image `acme/vllm` has no Ray beside it"
    assert enclosed.hint == f"`--image` names one that has it; {FORCE}"


def test_a_cache_that_is_too_large_is_told_what_is_left() -> None:
    error = told(judged("--kv-cache-memory-bytes", "900G", machine=ram(64), context=8192))
    assert error.hint is not None
    assert error.hint.startswith("`-- --kv-cache-memory-bytes 46G` makes it fit; ")
    flags = error.details["flags"]
    assert judged(*flags, machine=ram(64), context=8192).refusal is None
    error = told(judged(machine=ram(64), context=8192, environ={"VLLM_CPU_KVCACHE_SPACE": "900"}))
    assert error.hint is not None
    assert error.hint.startswith("unset `VLLM_CPU_KVCACHE_SPACE`; `-- --kv-cache-memory-bytes 46G` makes it fit; ")


def test_a_cache_of_so_many_bytes_is_what_is_left_over() -> None:
    assert told(judged("--kv-cache-memory-bytes", str(64 * MIB), machine=ram(64), max_model_len="8k")).details["needed"]
