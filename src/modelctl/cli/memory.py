"""How it is told whether a model fits this machine, and why: a line, a table, an object under `--json`."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelctl.cli import output as show

if TYPE_CHECKING:
    from modelctl.engine.fitting import Fit
    from modelctl.engine.machine import Machine
    from modelctl.engine.memory import Estimate
    from modelctl.store.model import Model

_COLUMNS = (show.Column(""), show.Column("BYTES", "right"), show.Column("HOW"))


def fits_object(fit: "Fit", machine: "Machine") -> dict[str, Any]:
    """The `memory` object of `show --json`; its numbers are `null` where nothing tells them."""
    estimate = fit.estimate
    return {
        "fits": fit.fits,
        "why": fit.why,
        "device": estimate and ("cpu" if estimate.device.is_cpu else "gpu"),
        "gpus": None if machine.gpus is None else len(machine.gpus),
        "devices": estimate and estimate.devices,
        "total": estimate and estimate.device.total,
        "free": estimate and estimate.device.free,
        "usable": estimate and estimate.usable,
        "weights": estimate and estimate.weights,
        "activations": estimate and estimate.activations,
        "sampler": estimate and estimate.sampler,
        "runtime": estimate and estimate.runtime,
        "graphs": estimate and estimate.graphs,
        "bytes_per_token": estimate and estimate.per_token,
        "request": estimate and estimate.request,
        "needed": estimate and estimate.needed,
        "cache": estimate and max(0, estimate.cache),
        "wanted_context": estimate and estimate.wanted,
        "context": fit.context,
        "tokens": estimate and estimate.tokens,
        "flags": list(fit.flags),
    }


def sentence(fit: "Fit") -> str | None:
    """Whether it fits, in a line; `None` where there is nothing to say."""
    estimate = fit.estimate
    if estimate is None or fit.fits is None:
        return f"no, {fit.why}" if fit.fits is False else None
    if not fit.fits:
        return (
            f"no: it takes {show.size(estimate.needed)} {_each(estimate)}, and {show.size(estimate.usable)} are there"
        )
    if estimate.context >= estimate.wanted:
        how = f"yes, with its whole context of {estimate.wanted:,} tokens"
    else:
        how = f"yes, with {estimate.context:,} of its {estimate.wanted:,} tokens"
    return f"{how}: `{' '.join(fit.flags)}`" if fit.flags else how


def lines(model: "Model", fit: "Fit", machine: "Machine") -> Iterator[str]:
    """The reasoning of `show --memory`."""
    estimate = fit.estimate
    yield f"{model.id} on {_described(machine)}"
    if estimate is None:
        yield f"  {fit.why}"
        return
    rows = [(label, show.size(count), how) for label, count, how in _rows(model, estimate)]
    yield from (f"  {line}" for line in show.table_lines(_COLUMNS, rows))
    yield ""
    yield f"fits: {sentence(fit)}"
    if estimate.tokens is not None and fit.fits:
        yield f"room for {estimate.tokens:,} tokens in all requests together"
    if fit.flags:
        yield f"modelctl serve {shlex.join([model.id, *fit.flags])}"


def _rows(model: "Model", estimate: "Estimate") -> Iterator[tuple[str, int, str]]:
    numbers = f"{show.count(model.facts.parameters)} parameters, " if model.facts.parameters else ""
    kind = model.facts.quantization or "as vLLM loads them"
    divided = f", divided among {estimate.devices}" if estimate.devices > 1 else ""
    yield "weights", estimate.weights, f"{numbers}{kind}{divided}"
    yield "runtime", estimate.runtime, "Python, torch and vLLM; an estimate"
    yield "activations", estimate.activations, "what one step computes; an estimate"
    if estimate.sampler:
        yield "sampler", estimate.sampler, "as many requests at a time as vLLM allows; an estimate"
    if estimate.graphs:
        yield "CUDA graphs", estimate.graphs, "none with --enforce-eager; an estimate"
    if estimate.request:
        each = f", {estimate.per_token:,} bytes for each" if estimate.per_token else ""
        yield "one request", estimate.request, f"KV cache of {estimate.wanted:,} tokens{each}"
    else:
        yield "KV cache", 0, "the model keeps none"
    yield "needed", estimate.needed, "for one request of full length"
    yield "usable", estimate.usable, _usable(estimate)
    yield "for the cache", max(0, estimate.cache), "usable without all but the request"


def _usable(estimate: "Estimate") -> str:
    device = estimate.device
    if device.is_cpu:
        return f"what is free of {show.size(device.total)} RAM"
    return f"of {show.size(device.total)} {_each(estimate)}, {show.size(device.free)} are free"


def _described(machine: "Machine") -> str:
    if machine.gpus is None:
        return "GPUs whose memory nothing tells"
    if not machine.gpus:
        return f"the CPU, with {show.size(machine.available)} of {show.size(machine.memory)} RAM free"
    names = ", ".join(f"{gpu.name} with {show.size(gpu.total)}" for gpu in machine.gpus[:1])
    return f"{len(machine.gpus)} x {names}" if len(machine.gpus) > 1 else names


def _each(estimate: "Estimate") -> str:
    if estimate.device.is_cpu:
        return "of RAM"
    return "on each GPU" if estimate.devices > 1 else "on the GPU"
