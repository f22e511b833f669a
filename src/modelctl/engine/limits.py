"""What a build of vLLM for the CPU cannot do, told before it is started (pure)."""

from collections.abc import Mapping

from modelctl.engine import flags
from modelctl.engine.command import Settings
from modelctl.errors import ModelctlError, NoRoomError, UsageError

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
