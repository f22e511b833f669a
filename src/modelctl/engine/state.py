"""Layers that keep a state of one size instead of every token: Mamba, linear attention, short convolutions (pure)."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelctl.engine.dimensions import MOST, hidden_size, number

# One letter a layer, as Nemotron-H writes them; what is neither keeps nothing.
_LETTERS = {"M": ("mamba",), "*": ("attention",)}


def named_layers(config: Mapping[str, Any]) -> Sequence[str]:
    """What each layer is, in the words of `layer_types`, of models that tell it elsewhere; empty for the others."""
    words: Sequence[str] = []
    match config.get("model_type"):
        case "mamba" | "mamba2" | "falcon_mamba":
            words = ["mamba"] * _count(config)
        case "falcon_h1":
            words = ["mamba", "attention"] * _count(config)
        case "jamba":
            words = _every(config, "attn_layer_period", "attn_layer_offset", default=(8, 4))
        case "nemotron_h":
            pattern = str(config.get("hybrid_override_pattern") or "")
            words = [word for letter in pattern[: MOST + 1] for word in _LETTERS.get(letter, ())]
        case "lfm2" | "lfm2_moe" if isinstance(full := config.get("full_attn_idxs"), list):
            chosen = {at for at in full if type(at) is int}
            words = ["attention" if at in chosen else "conv" for at in range(_count(config))]
        case "qwen3_next" | "qwen3_5_text" | "qwen3_5_moe_text" if not config.get("layer_types"):
            every = number(config, "full_attention_interval") or 4
            words = ["linear_attention" if (at + 1) % every else "attention" for at in range(_count(config))]
        case _ if isinstance(listed := config.get("layers_block_type"), list):
            words = [str(word) for word in listed[: MOST + 1]]
    return words


def blocks(config: Mapping[str, Any], *, beside_attention: bool) -> int:
    """The states that one request holds: beside attention vLLM keeps those at which another may begin."""
    if not beside_attention:
        return 1
    return 3 if _is_second_mamba(config) else 2


def size(config: Mapping[str, Any], *, tensor: int, width: int, is_cpu: bool) -> int | None:
    """Bytes of one sequence's state in one layer; `None` where the configuration does not tell."""
    model_type = str(config.get("model_type"))
    named = (config.get("mamba_ssm_dtype"), config.get("mamba_ssm_cache_dtype"))
    wide = 4 if is_cpu or "float32" in named or (model_type == "nemotron_h" and not any(named)) else width
    if model_type in {"mamba", "falcon_mamba", "jamba"}:
        return _first_mamba(config, tensor=tensor, width=width)
    if model_type.startswith(("qwen3_next", "qwen3_5")):
        return _delta(config, tensor=tensor, width=width, wide=wide)
    if not _is_second_mamba(config):
        inner = number(config, "conv_dim") or hidden_size(config)
        kernel = number(config, "conv_L_cache") or 3
        return inner // tensor * (kernel - 1) * width if inner else None
    return _second_mamba(config, tensor=tensor, width=width, wide=wide)


def _is_second_mamba(config: Mapping[str, Any]) -> bool:
    model_type = str(config.get("model_type"))
    return model_type not in {"mamba", "falcon_mamba", "jamba"} and not model_type.startswith(("qwen3", "lfm2"))


def _first_mamba(config: Mapping[str, Any], *, tensor: int, width: int) -> int | None:
    hidden = hidden_size(config)
    inner = number(config, "intermediate_size") if config.get("model_type") != "jamba" else None
    inner = inner or (number(config, "mamba_expand", "expand") or 2) * (hidden or 0)
    state = number(config, "mamba_d_state", "state_size") or 16
    kernel = number(config, "mamba_d_conv", "conv_kernel") or 4
    return inner // tensor * (kernel - 1 + state) * width if inner else None


def _second_mamba(config: Mapping[str, Any], *, tensor: int, width: int, wide: int) -> int | None:
    heads = number(config, "mamba_n_heads", "n_mamba_heads", "mamba_num_heads", "num_heads")
    head = number(config, "mamba_d_head", "mamba_headdim", "mamba_head_dim", "head_dim")
    state = number(config, "mamba_d_state", "ssm_state_size", "state_size")
    if heads is None or head is None or state is None:
        return None
    groups = number(config, "mamba_n_groups", "mamba_ngroups", "n_groups") or 1
    # A group that all heads of a device need lies on each of them.
    groups += 0 if groups % tensor == 0 else tensor - groups
    kernel = number(config, "mamba_d_conv", "conv_kernel") or 4
    inner = number(config, "mamba_d_ssm") or heads * head
    return (inner + 2 * groups * state) // tensor * (kernel - 1) * width + heads // tensor * head * state * wide


def _delta(config: Mapping[str, Any], *, tensor: int, width: int, wide: int) -> int | None:
    keys, values = number(config, "linear_num_key_heads"), number(config, "linear_num_value_heads")
    key, value = number(config, "linear_key_head_dim"), number(config, "linear_value_head_dim")
    if keys is None or values is None or key is None or value is None:
        return None
    kernel = number(config, "linear_conv_kernel_dim") or 4
    return (2 * keys * key + values * value) // tensor * (kernel - 1) * width + values // tensor * value * key * wide


def _count(config: Mapping[str, Any]) -> int:
    return min(number(config, "num_hidden_layers", "n_layer") or 0, MOST + 1)


def _every(config: Mapping[str, Any], period: str, offset: str, *, default: tuple[int, int]) -> list[str]:
    step, start = number(config, period) or default[0], config.get(offset, default[1])
    return ["attention" if at % step == start else "mamba" for at in range(_count(config))]
