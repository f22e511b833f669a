"""Whether a model fits this machine, with what context, and on which terms (pure)."""

import math
from dataclasses import dataclass, replace

from modelctl.engine import memory
from modelctl.engine.dimensions import number
from modelctl.engine.layers import completed
from modelctl.engine.machine import Machine
from modelctl.engine.memory import Device, Estimate, Need, Terms

# A context with which nobody can do anything is none.
LEAST_CONTEXT = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How a model fits: `context` is the longest that does, `flags` are those of `modelctl serve` that it takes.

    `fits` is `None` where nothing tells; then there may be no `estimate` either, and `why` says so.
    """

    fits: bool | None
    context: int | None
    estimate: Estimate | None
    flags: tuple[str, ...] = ()
    why: str | None = None


def fit(need: Need | None, machine: Machine, terms: Terms = Terms()) -> Fit:  # noqa: B008 - frozen
    """Judge a model on this machine: on as few GPUs as hold its whole context, else on those that hold most of it."""
    if machine.gpus is None:
        return Fit(fits=None, context=None, estimate=None, why="nothing tells how much memory the GPUs have")
    if need is None:
        return Fit(fits=None, context=None, estimate=None, why="nothing tells how large its weights are")
    tried = counts(need, machine, pipeline=terms.pipeline)
    found = [_on(need, machine, replace(terms, tensor=count)) for count in tried]
    known = [each for each in found if each is not None]
    if not known:
        return _without_cache(need, machine)
    best = next((each for each in known if each.context >= each.wanted), None)
    best = best or max(known, key=lambda each: (each.context, each.cache))
    fits = best.context >= min(best.wanted, LEAST_CONTEXT)
    return Fit(fits=fits, context=best.context if fits else 0, estimate=best, flags=_flags(best, terms) if fits else ())


def devices(machine: Machine, count: int) -> Device:
    """What each of so many devices can be given: of unequal GPUs, what the smallest has."""
    if not machine.gpus:
        return Device(total=machine.memory, free=machine.available, is_cpu=True)
    first = machine.gpus[:count]
    return Device(total=min(gpu.total for gpu in first), free=min(gpu.free for gpu in first))


def _on(need: Need, machine: Machine, terms: Terms) -> Estimate | None:
    device = devices(machine, terms.tensor * terms.pipeline)
    return memory.estimate(need, device, replace(terms, utilization=min(terms.utilization, _share(device))))


def _share(device: Device) -> float:
    """The most that vLLM can be told to take: it refuses to start where less is free than it may take."""
    if device.is_cpu or device.free >= device.total * memory.UTILIZATION:
        return memory.UTILIZATION
    return math.floor(device.free / device.total * 100) / 100


def counts(need: Need, machine: Machine, *, pipeline: int = 1) -> list[int]:
    """How many of the GPUs each stage of a pipeline can have: powers of two by which the model's heads can be divided.

    At least one, also where there are fewer GPUs than stages.
    """
    there = (len(machine.gpus or ()) or 1) // pipeline
    heads = number(completed(need.config), "num_attention_heads", "n_head", "n_heads") or 0
    powers = [2**at for at in range(there.bit_length()) if 2**at <= there]
    return [count for count in powers if heads and heads % count == 0] or [1]


def _without_cache(need: Need, machine: Machine) -> Fit:
    """A model whose cache nothing tells: at most that its weights alone are too large."""
    there = sum(gpu.total for gpu in machine.gpus or ()) or machine.available
    why = "its configuration does not tell how large its KV cache is"
    if need.weights > there:
        return Fit(fits=False, context=0, estimate=None, why=f"{why}, but its weights alone are too large")
    return Fit(fits=None, context=None, estimate=None, why=why)


def _flags(best: Estimate, terms: Terms) -> tuple[str, ...]:
    flags: list[str] = []
    tensor = best.devices // terms.pipeline
    # Said also where it is one: more may have been asked for.
    if tensor > 1 or terms.tensor > 1:
        flags += ["--tensor-parallel-size", str(tensor)]
    if best.context < best.wanted:
        flags += ["--max-model-len", str(rounded(best.context))]
    if (share := _share(best.device)) < memory.UTILIZATION:
        flags += ["--gpu-memory-utilization", f"{share:.2f}"]
    return tuple(flags)


def rounded(tokens: int) -> int:
    """A context that people would type: a multiple of the largest step that takes less than a tenth away."""
    step = next((step for step in (16384, 4096, 1024, 256, 128) if step * 10 <= tokens), 16)
    return max(step, tokens // step * step)
