"""What a build of vLLM cannot do, told before it is started."""

import shlex
from collections.abc import Mapping

from modelctl.engine import flags, packages
from modelctl.engine.command import EXECUTOR, Settings
from modelctl.engine.discovery import Engine
from modelctl.errors import ModelctlError, NoRoomError, NotFoundError, UsageError

FORCE = "`--force` starts it anyway"


def of_cpu(settings: Settings, *, devices: int, nodes: int, environ: Mapping[str, str]) -> ModelctlError | None:
    """Refuse what needs a GPU: to sleep, and to divide a model among more `devices` than there are NUMA `nodes`."""
    if flags.given(settings.extra, "--enable-sleep-mode") is not None:
        return UsageError(
            "vLLM cannot put a model to sleep on the CPU",
            hint=f"leave `--enable-sleep-mode` away; {FORCE}",
            cause="arguments",
        )
    is_bound = environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto") != "auto" or environ.get("VLLM_CPU_SIM_MULTI_NUMA")
    if nodes and devices > nodes and not is_bound:
        there = "1 NUMA node" if nodes == 1 else f"{nodes} NUMA nodes"
        return NoRoomError(
            f"the model is to be divided among {devices} processors, and this machine has {there}",
            hint=f"`--tensor-parallel-size {nodes}`, or `VLLM_CPU_OMP_THREADS_BIND` with the cores of each; {FORCE}",
            cause="parallel",
        )
    return None


def of_ray(settings: Settings, engine: Engine, *, environ: Mapping[str, str]) -> ModelctlError | None:
    """Refuse Ray to a vLLM that cannot use it, or has none beside it."""
    if not asks_for_ray(settings):
        return None
    if engine.device == "cpu":
        return UsageError(
            "vLLM cannot use Ray on the CPU",
            hint=f"leave `--ray` away, or `ray` in `modelctl.toml`; {FORCE}",
            cause="parallel",
        )
    if engine.has_ray is not False:
        return None
    python = shlex.quote(str(engine.python))
    pip = f"uv pip install --python {python}" if packages.uv_of(environ) else f"{python} -m pip install"
    hint = f"`{pip} ray`" if engine.image is None else "`--image` names one that has it"
    return NotFoundError(f"the vLLM of {engine.place} has no Ray beside it", hint=f"{hint}; {FORCE}", cause="parallel")


def asks_for_ray(settings: Settings) -> bool:
    """Whether Ray is to start vLLM's processes: as the command line says, else as vLLM's own file does."""
    backend = flags.given(settings.extra, EXECUTOR)
    if backend is None:
        backend = "ray" if settings.ray else flags.given(settings.configured, EXECUTOR)
    return "ray" in {backend, flags.given(settings.words, "--data-parallel-backend")}
