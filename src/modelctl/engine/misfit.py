"""A model that does not fit the memory as it is asked for: the numbers, and the flags that would make it fit (pure)."""

from dataclasses import replace

from modelctl.engine import fitting, memory
from modelctl.engine.fitting import Fit
from modelctl.engine.limits import FORCE
from modelctl.engine.machine import Machine
from modelctl.engine.memory import Estimate, Need, Terms
from modelctl.errors import NoRoomError
from modelctl.units import size


def wants_more_than_is_free(estimate: Estimate, terms: Terms) -> bool:
    """Whether vLLM would refuse at once, because less is free than it is to take."""
    device = estimate.device
    return not device.is_cpu and terms.cache is None and device.free < device.total * terms.utilization


def flags(need: Need | None, machine: Machine, terms: Terms) -> tuple[str, ...]:
    """The flags that would make it fit: with the context that was asked for, else with a shorter one."""
    if need is None:
        return ()
    open_terms = replace(terms, cache=None, utilization=memory.UTILIZATION)
    for tried in (open_terms, replace(open_terms, context=None)):
        fit = fitting.fit(need, machine, tried)
        if fit.fits and fit.estimate and (tried.context is None or fit.context == fit.estimate.wanted):
            shorter = _shorter(fit) if terms.context != tried.context else ()
            return (*fit.flags, *shorter, *_instead(terms, fit))
    return ()


def _shorter(fit: Fit) -> tuple[str, ...]:
    """The model's own context, where that is what fits in place of the one that was asked for."""
    return () if "--max-model-len" in fit.flags else ("--max-model-len", str(fit.context))


def _instead(terms: Terms, fit: Fit) -> tuple[str, ...]:
    """What the user's own terms have to be where they are what stands in the way."""
    estimate = fit.estimate
    if estimate is None:
        return ()
    if terms.cache is not None and not estimate.request <= terms.cache <= estimate.cache:
        most = min(max(terms.cache, estimate.request), estimate.cache)
        return ("--kv-cache-memory-bytes", _size(most, least=min(estimate.request, most), room=estimate.cache))
    is_least = terms.utilization < memory.UTILIZATION and "--gpu-memory-utilization" not in fit.flags
    if terms.cache is None and not estimate.device.is_cpu and is_least:
        return ("--gpu-memory-utilization", str(memory.UTILIZATION))
    return ()


def _size(count: int, *, least: int, room: int) -> str:
    """Bytes as people type them: in whole GiB where that is enough and not much less, else in MiB that have `room`."""
    whole = count // memory.GIB
    if whole >= 8 and whole * memory.GIB >= least:
        return f"{whole}G"
    return f"{min(max(count // memory.MIB, -(-least // memory.MIB)), room // memory.MIB)}M"


def told(
    model_id: str,
    estimate: Estimate | None,
    flags: tuple[str, ...],
    *,
    terms: Terms | None = None,
    why: str | None = None,
) -> NoRoomError:
    """The refusal; without an `estimate` it says `why`."""
    shown = " ".join(flags).replace("--kv-cache-memory-bytes", "-- --kv-cache-memory-bytes")
    instead = f"`{shown}` makes it fit" if flags else "a smaller model, a quantised one or more GPUs would fit"
    is_short = terms is not None and terms.cache is not None and terms.context is not None
    if flags and is_short and estimate is not None and 16 <= estimate.context < estimate.wanted:
        instead = f"`--max-model-len {fitting.rounded(estimate.context)}` or {instead}"
    hint = f"{instead}; `modelctl show {model_id} --memory` has the reasoning; {FORCE}"
    if estimate is None:
        return NoRoomError(f"`{model_id}` does not fit: {why}", hint=hint, cause="memory", flags=list(flags))
    where = "of RAM" if estimate.device.is_cpu else "on each GPU" if estimate.devices > 1 else "on the GPU"
    cache, tokens = estimate.request, f" of {estimate.wanted:,} tokens"
    if terms is not None and terms.cache is not None and terms.cache > cache:
        cache, tokens = terms.cache, ""
    needed = estimate.weights + estimate.rest + cache
    free, usable = estimate.device.free, estimate.usable
    if terms is not None and terms.cache is not None and terms.cache < estimate.request and needed <= usable:
        message = f"it takes {size(estimate.request)} of KV cache{tokens}, and is given {size(terms.cache)}"
    elif terms is not None and wants_more_than_is_free(estimate, terms) and needed <= usable:
        message = (
            f"vLLM would take {size(estimate.device.total * terms.utilization)} {where}, and {size(free)} are free"
        )
    else:
        message = (
            f"it takes {size(needed)} {where} ({size(estimate.weights)} of weights, {size(cache)} of KV cache{tokens},"
            f" {size(estimate.rest)} beside them), and {size(usable)} are there"
        )
    return NoRoomError(
        f"`{model_id}` does not fit: {message}",
        hint=hint,
        cause="memory",
        flags=list(flags),
        needed=needed,
        free=free,
    )
