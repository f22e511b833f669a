"""Whether vLLM can serve a model on this machine as it is asked to, told before it is started.

What a start would take half a minute to find out is known from the model's configuration, the machine's memory and the
flags. Where nothing tells, nothing is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelctl.engine import architectures, command, fitting, flags, limits, memory, misfit
from modelctl.engine.command import Settings
from modelctl.engine.dimensions import number
from modelctl.engine.discovery import Engine
from modelctl.engine.layers import completed
from modelctl.engine.limits import FORCE
from modelctl.engine.machine import Machine
from modelctl.engine.memory import Estimate, Need, Terms
from modelctl.errors import ModelctlError, NoRoomError, UsageError

# With these the configuration or the weights are others than the files say, or not all of them come here.
_BEYOND_US = (
    *("--hf-overrides", "--quantization", "--cpu-offload-gb", "--cpu-offload-params", "--num-gpu-blocks-override"),
    *("--config", "--hf-config-path", "--data-parallel-size", "--data-parallel-rank", "--nnodes", "--load-format"),
    *("--enable-expert-parallel", "--decode-context-parallel-size", "--prefill-context-parallel-size"),
    *("--offload-group-size", "--offload-params"),
)


_SPACE = "VLLM_CPU_KVCACHE_SPACE"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
# Of the types that a cache can have, those that keep a byte a number.
_BYTES = ("fp8", "int8")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is known of the model: its id, as typed, and what decides over memory and architecture."""

    id: str
    need: Need | None
    architecture: str | None
    context: int | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of the settings, what stands in the way (`None`: nothing), and what is worth a line.

    `estimate` is what vLLM needs, where that is known and fits.
    """

    settings: Settings
    refusal: ModelctlError | None = None
    note: str | None = None
    estimate: Estimate | None = field(default=None, compare=False)


def judge(model: Model, engine: Engine, settings: Settings, machine: Machine, *, environ: Mapping[str, str]) -> Verdict:
    """Judge a start, and settle the context and the cache where the user left them open."""
    verdict = _judged(model, engine, settings, machine, environ)
    if engine.device != "cpu" or command.sizes_kv_cache(verdict.settings, environ):
        return verdict
    cache = _kv_cache_on_cpu(model, verdict, machine.available)
    return replace(verdict, settings=replace(verdict.settings, kv_cache=cache))


def _judged(model: Model, engine: Engine, settings: Settings, machine: Machine, environ: Mapping[str, str]) -> Verdict:
    refusal = _unknown(model, engine, settings) or _contradiction(model, settings, environ)
    refusal = refusal or limits.of_ray(settings, engine, environ=environ)
    if refusal is None and engine.device == "cpu" and not _is_beyond_us(settings):
        refusal = limits.of_cpu(
            settings, devices=(_tensor(settings) or 1) * _pipeline(settings), nodes=machine.nodes, environ=environ
        )
    refusal = refusal or _no_gpu(engine, settings, machine, environ)
    if refusal is not None:
        return Verdict(settings=settings, refusal=refusal)
    if model.need is None or _is_beyond_us(settings):
        return Verdict(settings=settings)
    need = _as_asked(model.need, settings)
    if engine.device == "cpu":
        machine = machine._replace(gpus=())
    elif engine.device != "cuda" or not machine.gpus:
        # Without a GPU such a build is refused elsewhere; of other makers' nothing is known.
        return Verdict(settings=settings)
    terms = _terms(settings, environ)
    if (too_few := _too_few_gpus(need, terms, machine)) is not None:
        return Verdict(settings=settings, refusal=too_few)
    estimate = memory.estimate(need, fitting.devices(machine, terms.tensor * terms.pipeline), terms)
    if estimate is None:
        fit = fitting.fit(need, machine, terms)
        refusal = misfit.told(model.id, None, (), why=fit.why) if fit.fits is False else None
        return Verdict(settings=settings, refusal=refusal)
    verdict = _by_memory(replace(model, need=need), engine, settings, machine, terms=terms, estimate=estimate)
    if verdict.refusal is not None and engine.device == "cpu" and flags.whole(environ.get(_SPACE, "")):
        # It would win over the flag.
        verdict.refusal.hint = f"unset `{_SPACE}`; {verdict.refusal.hint}"
    return verdict


def _by_memory(
    model: Model, engine: Engine, settings: Settings, machine: Machine, *, terms: Terms, estimate: Estimate
) -> Verdict:
    asked = _asked_context(settings)
    least = min(estimate.wanted, fitting.LEAST_CONTEXT) if terms.context is None else estimate.wanted
    is_short = terms.cache is not None and estimate.cache < terms.cache
    if estimate.context < least or is_short or misfit.wants_more_than_is_free(estimate, terms):
        remedy = misfit.flags(model.need, machine, terms)
        return Verdict(settings=settings, refusal=misfit.told(model.id, estimate, remedy, terms=terms))
    note = None
    if asked is None and estimate.context < estimate.wanted:
        settings = replace(settings, max_model_len=_auto(engine, estimate))
        note = (
            f"its whole context of {estimate.wanted:,} tokens does not fit: `--max-model-len {settings.max_model_len}`"
            f" leaves what does, about {estimate.context:,}"
        )
    return Verdict(settings=settings, note=note, estimate=estimate)


def _kv_cache_on_cpu(model: Model, verdict: Verdict, available: int) -> int:
    """What the KV cache gets: vLLM's own choice would be nearly all memory of the machine."""
    estimate, context = verdict.estimate, model.context
    if (asked := _asked_context(verdict.settings)) is not None:
        context = memory.context_length(asked)
    config, draft = (model.need.config, model.need.draft) if model.need else ({}, None)
    dealt = memory.kv_cache_on_cpu(config, context=context, available=available, draft=draft)
    if estimate is None:
        return dealt
    # One request of full length may take more than the configuration says, and the weights may leave less.
    return min(max(dealt, 0 if context is None else estimate.request), estimate.cache)


def _unknown(model: Model, engine: Engine, settings: Settings) -> ModelctlError | None:
    """A vLLM that does not have the architecture; a plugin, the user's code or another one may."""
    answer = architectures.asked(engine, model.architecture)
    others = ("--hf-overrides", "--model-impl", "--trust-remote-code", "--hf-config-path", "--config")
    if answer.knows is not False or _is_any_given(settings, others):
        return None
    if engine.package is not None and _has_plugins(engine.package.parent):
        return None
    hint = f"another vLLM may know it: `--python` names one; {FORCE}"
    if model.need is not None and model.need.config.get("auto_map"):
        hint = f"it brings Python code of its own: read that, then add `-- --trust-remote-code`; {FORCE}"
    return ModelctlError(f"`{model.id}` cannot be served: {answer.note}", hint=hint, cause="model")


def _has_plugins(site: Path) -> bool:
    """Whether something beside vLLM registers models with it."""
    for path in site.glob("*.dist-info/entry_points.txt"):
        if path.parent.name.startswith("vllm-") or path.parent.name.startswith("vllm_cpu-"):
            continue
        try:
            if "[vllm.general_plugins]" in path.read_text(encoding="utf-8", errors="replace"):
                return True
        except OSError:
            continue
    return False


def _contradiction(model: Model, settings: Settings, environ: Mapping[str, str]) -> ModelctlError | None:
    """Flags that the model's own dimensions forbid."""
    if _is_any_given(settings, ("--hf-overrides", "--hf-config-path", "--config")):
        return None
    asked, own = memory.context_length(_asked_context(settings) or ""), model.context
    is_allowed = environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "").strip().lower() in {"1", "true"}
    if asked and own and asked > own and not is_allowed:
        return UsageError(
            f"`--max-model-len` asks for {asked:,} tokens, and `{model.id}` takes {own:,}",
            hint=f"`--max-model-len {own}`; {FORCE}",
            cause="arguments",
        )
    tensor = _tensor(settings)
    config = completed(model.need.config) if model.need else {}
    heads = number(config, "num_attention_heads", "n_head", "n_heads")
    if tensor and heads and heads % tensor:
        sizes = [str(count) for count in range(2, min(heads, 16) + 1) if heads % count == 0]
        hint = f"it can be divided among {', '.join(sizes)}; {FORCE}" if sizes else FORCE
        return UsageError(
            f"the {heads} attention heads of `{model.id}` cannot be divided among {tensor} devices",
            hint=hint,
            cause="parallel",
        )
    return None


def _no_gpu(engine: Engine, settings: Settings, machine: Machine, environ: Mapping[str, str]) -> ModelctlError | None:
    """GPUs that are hidden, or gone; a machine without a driver is told of elsewhere."""
    if engine.device != "cuda" or machine.gpus != () or _has_others(settings):
        return None
    why, hint = "NVIDIA's driver tells of none", "`nvidia-smi -L` lists those that there are"
    if _VISIBLE in environ:
        why, hint = f"`{_VISIBLE}` is `{environ[_VISIBLE]}`", "unset it, or name GPUs as `nvidia-smi -L` does"
    return NoRoomError(f"vLLM would see no GPU: {why}", hint=f"{hint}; {FORCE}", cause="device")


def _too_few_gpus(need: Need, terms: Terms, machine: Machine) -> ModelctlError | None:
    wanted, there = terms.tensor * terms.pipeline, len(machine.gpus or ())
    if not machine.gpus or wanted <= there:
        return None
    most = max(fitting.counts(need, machine))
    sizes = "`--tensor-parallel-size`" if terms.pipeline == 1 else "the parallel sizes"
    return NoRoomError(
        f"{sizes} {'ask' if terms.pipeline > 1 else 'asks'} for {wanted} GPUs, and this machine has {there}",
        hint=f"`--tensor-parallel-size {most}`, or more machines with `--nnodes` or `--ray`; {FORCE}",
        cause="parallel",
    )


def _terms(settings: Settings, environ: Mapping[str, str]) -> Terms:
    """What the flags say of memory."""
    share = settings.gpu_memory_utilization or _share(settings)
    cache = memory.context_length(flags.given(settings.extra, "--kv-cache-memory-bytes") or "")
    if space := flags.whole(environ.get(_SPACE, "")):
        cache = space * memory.GIB
    return Terms(
        tensor=_tensor(settings) or 1,
        pipeline=_pipeline(settings),
        utilization=share or memory.UTILIZATION,
        context=memory.context_length(_asked_context(settings) or ""),
        batch=_whole(settings, "--max-num-batched-tokens"),
        sequences=_whole(settings, "--max-num-seqs"),
        cache_width=_cache_width(settings),
        cache=cache,
        eager=flags.given(settings.extra, "--enforce-eager") is not None,
    )


def _cache_width(settings: Settings) -> int | None:
    """Bytes of a number in the cache, where a flag says them."""
    width = _cache_type(settings)
    if width != "auto":
        return 1 if width.startswith(_BYTES) else 2
    return 4 if _is_single(settings) else None


def _cache_type(settings: Settings) -> str:
    return flags.given(settings.extra, "--kv-cache-dtype") or "auto"


def _is_single(settings: Settings) -> bool:
    """Whether all numbers are asked for in single precision, which takes twice the room."""
    return flags.given(settings.extra, "--dtype") in {"float32", "float"}


def _as_asked(need: Need, settings: Settings) -> Need:
    if not _is_single(settings) or need.config.get("quantization_config"):
        return need
    return replace(need, weights=2 * need.weights)


def _asked_context(settings: Settings) -> str | None:
    return settings.max_model_len or flags.given(settings.extra, "--max-model-len")


def _share(settings: Settings) -> float | None:
    text = flags.given(settings.extra, "--gpu-memory-utilization") or ""
    share = float(text) if re.fullmatch(r"\d*\.?\d+", text) else 0.0
    return share if 0 < share <= 1 else None


def _whole(settings: Settings, flag: str, own: int | None = None) -> int | None:
    return own or memory.context_length(flags.given(settings.extra, flag) or "")


def _tensor(settings: Settings) -> int | None:
    return _whole(settings, "--tensor-parallel-size", settings.tensor_parallel_size)


def _pipeline(settings: Settings) -> int:
    return _whole(settings, "--pipeline-parallel-size") or 1


def _is_any_given(settings: Settings, wanted: tuple[str, ...]) -> bool:
    return flags.mentions(settings.extra, wanted)


def _is_beyond_us(settings: Settings) -> bool:
    # Of the other caches, some keep less than a byte a number.
    is_odd = not _cache_type(settings).startswith(("auto", "float16", "bfloat16", *_BYTES))
    return _has_others(settings) or is_odd or _is_any_given(settings, _BEYOND_US)


def _has_others(settings: Settings) -> bool:
    """Whether other machines take part."""
    return limits.asks_for_ray(settings) or (settings.nnodes or 1) > 1


def _auto(engine: Engine, estimate: Estimate) -> str:
    """`auto` where this vLLM has it, else a number."""
    try:
        source = (engine.package or Path("/nonexistent")) / "engine" / "arg_utils.py"
        has_auto = "human_readable_int_or_auto" in source.read_text(encoding="utf-8", errors="replace")
    except OSError:
        has_auto = True
    return "auto" if has_auto else str(fitting.rounded(estimate.context))
