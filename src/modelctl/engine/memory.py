"""How much memory vLLM needs for a model, and how long a context a device has room for (pure).

The KV cache is counted as vLLM counts it. What it takes beside weights and cache is an estimate: it knows only after it
has run the model once.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelctl.engine import dimensions, kv_cache, layers
from modelctl.engine.layers import Layers, Shares

MIB, GIB = 2**20, 2**30
UTILIZATION = 0.92
# Of a model that does not say how long a text it takes, as vLLM presumes.
DEFAULT_CONTEXT = 2048
_LEAST, _MOST = 64 * MIB, 4 * GIB
# Python, torch and vLLM: on a GPU CUDA's own share, on the CPU three processes.
_RUNTIME_ON_GPU, _RUNTIME_ON_CPU = 750 * MIB, 1800 * MIB
_GRAPHS = 600 * MIB
_SEQUENCES_ON_CPU = 128
# Of numbers on vLLM's command line.
_SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What decides how much memory a model needs: bytes of its weights, its configuration, its own context length.

    The weights include those of a draft beside it, of which `draft` is the configuration.
    """

    weights: int
    config: Mapping[str, Any]
    context: int | None
    draft: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One GPU, or the RAM of a machine without one: bytes it has, and that are free."""

    total: int
    free: int
    is_cpu: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """On which terms vLLM is to run it; what is `None` is vLLM's own choice for the device."""

    tensor: int = 1
    pipeline: int = 1
    utilization: float = UTILIZATION
    context: int | None = None
    batch: int | None = None
    sequences: int | None = None
    cache_width: int | None = None
    # Bytes that the user gives the cache, whatever vLLM would.
    cache: int | None = None
    eager: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What each of `devices` devices has to hold, in bytes, and what that leaves.

    `usable` is what vLLM may take of a device. `per_token` and `request` (one of `wanted` tokens) are of the KV cache,
    for which `cache` bytes are left: room for requests of up to `context` tokens, 0 where for none. `tokens` is what
    vLLM reports as the size of the cache at that context; `None` for a model that keeps none.
    """

    device: Device
    devices: int
    usable: int
    weights: int
    activations: int
    sampler: int
    runtime: int
    graphs: int
    per_token: int
    request: int
    cache: int
    wanted: int
    context: int
    tokens: int | None

    @property
    def rest(self) -> int:
        """What is needed beside weights and cache."""
        return self.activations + self.sampler + self.runtime + self.graphs

    @property
    def needed(self) -> int:
        """For one request of `wanted` tokens."""
        return self.weights + self.rest + self.request


def estimate(need: Need, device: Device, terms: Terms) -> Estimate | None:
    """What vLLM needs on one device of its share; `None` where the model's configuration does not tell its cache."""
    shares = Shares(
        tensor=terms.tensor,
        pipeline=terms.pipeline,
        cache_width=terms.cache_width or cache_width(need.config),
        is_cpu=device.is_cpu,
    )
    found = _layers(need.config, need.draft, shares)
    if found is None:
        return None
    pool = kv_cache.pool(found, is_cpu=device.is_cpu)
    devices = terms.tensor * terms.pipeline
    wanted = terms.context or need.context or DEFAULT_CONTEXT
    batch, sequences = _defaults(device, devices)
    batch, sequences = terms.batch or batch, terms.sequences or sequences
    config = layers.completed(need.config)
    is_all_usable = device.is_cpu or terms.cache is not None
    usable = device.free if is_all_usable else min(math.floor(device.total * terms.utilization), device.free)
    weights = -(-need.weights // devices)
    activations = _activations(config, batch, tensor=terms.tensor)
    sampler = 3 * sequences * (dimensions.vocabulary(config) or 0) * 4 if pool.groups else 0
    runtime = _RUNTIME_ON_CPU if device.is_cpu else _RUNTIME_ON_GPU
    graphs = 0 if device.is_cpu or terms.eager else _GRAPHS
    cache = usable - weights - activations - sampler - runtime - graphs
    cache = cache if terms.cache is None else min(cache, terms.cache)
    longest = pool.longest(cache, context=wanted, batch=batch) if cache >= 0 else 0
    is_dealt = device.is_cpu and terms.cache is None
    dealt = min(cache, _dealt_on_cpu(pool.request(longest, batch=batch), device.free)) if is_dealt else cache
    return Estimate(
        device=device,
        devices=devices,
        usable=usable,
        weights=weights,
        activations=activations,
        sampler=sampler,
        runtime=runtime,
        graphs=graphs,
        per_token=pool.bytes_per_token,
        request=pool.request(wanted, batch=batch),
        cache=cache,
        wanted=wanted,
        context=longest,
        tokens=pool.capacity(dealt, context=longest, batch=batch) if longest else None,
    )


def cache_width(config: Mapping[str, Any]) -> int:
    """Bytes of a number in the cache: two, but one where the checkpoint was quantised with its cache."""
    quantization = config.get("quantization_config")
    own = quantization if isinstance(quantization, Mapping) else {}
    scheme = own.get("kv_cache_scheme")
    is_small = isinstance(scheme, Mapping) and scheme.get("num_bits") == 8
    return 1 if is_small or str(own.get("kv_cache_quant_algo")).upper() == "FP8" else 2


def kv_cache_on_cpu(
    config: Mapping[str, Any], *, context: int | None, available: int, draft: Mapping[str, Any] | None = None
) -> int:
    """Bytes for the KV cache on the CPU, where vLLM's own default is nearly all memory of a NUMA node.

    A quarter of the memory that is `available`, at most 4 GiB and what all requests of `context` tokens fill that are
    served at a time, but room for one.
    """
    one_request = 0
    found = _layers(config, draft, Shares(cache_width=cache_width(config), is_cpu=True))
    if context and found:
        batch = _defaults(Device(total=0, free=0, is_cpu=True), 1)[0]
        one_request = kv_cache.pool(found, is_cpu=True).request(context, batch=batch)
    return _dealt_on_cpu(one_request, available)


def _layers(config: Mapping[str, Any], draft: Mapping[str, Any] | None, shares: Shares) -> tuple[Layers, ...] | None:
    """The layers of a model and of the one that drafts for it, which no stages of a pipeline share."""
    found = layers.of(config, shares)
    return None if found is None else found + (layers.of(draft or {}, shares._replace(pipeline=1)) or ())


def context_length(text: str) -> int | None:
    """The tokens that a `--max-model-len` asks for: `8192`, `8k` (thousands), `8K` (1024s); `auto` says none.

    As vLLM reads them: parts of a number only before thousands, `1.5k` and not `1.5K`. Nothing has a number of more
    than 18 digits.
    """
    match = re.fullmatch(r"([\d_]{1,18})(\.\d{1,18})?([kKmMgGtT]?)", text.strip())
    if match is None or (match[2] and not match[3].islower()):
        return None
    scale = _SCALES[match[3]]
    try:
        tokens = int(float(match[1] + match[2]) * scale) if match[2] else int(match[1]) * scale
    except ValueError:
        return None
    return tokens if tokens > 0 else None


def _defaults(device: Device, devices: int) -> tuple[int, int]:
    """The tokens that vLLM's server computes in one step, and the requests that it serves at a time."""
    if device.is_cpu:
        return 2048 * devices, _SEQUENCES_ON_CPU * devices
    if device.total >= 160 * GIB:
        return 16384, 1024
    return (8192, 1024) if device.total >= 70 * GIB else (2048, 256)


def _activations(config: Mapping[str, Any], batch: int, *, tensor: int) -> int:
    """The numbers between two layers, and inside the widest."""
    hidden = dimensions.hidden_size(config) or 0
    inner = dimensions.intermediate_size(config) or 0
    return batch * (2 * hidden + 3 * -(-inner // tensor)) * 2


def _dealt_on_cpu(one_request: int, available: int) -> int:
    # All of it is written to at the start: more than the requests that are served at a time can fill only takes time.
    filled = (one_request or _MOST) * _SEQUENCES_ON_CPU
    return max(_LEAST, one_request, min(_MOST, available // 4, filled))
