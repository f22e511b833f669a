"""Small models of many architectures: what transformers makes them from."""

from dataclasses import dataclass, field
from typing import Any

_PLAIN = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
}
_LONG = {**_PLAIN, "max_position_embeddings": 8192, "sliding_window": 512}
_ENCODER = {key: value for key, value in _PLAIN.items() if key != "num_key_value_heads"}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model: transformers' names for its configuration and its class, and what is not as it presumes.

    `is_served` where vLLM is asked as well: it takes ten seconds and more to look at an architecture. `draft`: what is
    otherwise in a second one, which drafts for it.
    """

    model_type: str
    architecture: str
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "bfloat16"
    task: str = "generate"
    is_served: bool = True
    draft: dict[str, Any] | None = None


def _case(model_type: str, architecture: str, *parts: dict[str, Any], **more: Any) -> Case:  # noqa: ANN401
    config = {key: value for part in parts for key, value in part.items()}
    kinds = {key: more.pop(key) for key in ("dtype", "task", "is_served", "draft") if key in more}
    return Case(model_type=model_type, architecture=architecture, config={**config, **more}, **kinds)


CASES: dict[str, Case] = {
    "llama": _case("llama", "LlamaForCausalLM", _PLAIN),
    "llama in single precision, its output its input": _case(
        "llama", "LlamaForCausalLM", _PLAIN, tie_word_embeddings=True, dtype="float32"
    ),
    # Its draft has as many numbers in a layer as all of its own.
    "llama with a draft": _case(
        "llama", "LlamaForCausalLM", _PLAIN, draft={"num_hidden_layers": 1, "num_key_value_heads": 4}
    ),
    "qwen2": _case("qwen2", "Qwen2ForCausalLM", _PLAIN, is_served=False),
    "qwen3": _case("qwen3", "Qwen3ForCausalLM", _PLAIN, head_dim=64),
    "mistral with a window": _case("mistral", "MistralForCausalLM", _LONG),
    "gemma2": _case("gemma2", "Gemma2ForCausalLM", _LONG, num_hidden_layers=4, head_dim=64, is_served=False),
    "gemma3": _case("gemma3_text", "Gemma3ForCausalLM", _LONG, num_hidden_layers=7, head_dim=64),
    "deepseek": _case(
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        _PLAIN,
        num_key_value_heads=4,
        kv_lora_rank=512,
        q_lora_rank=64,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        moe_intermediate_size=64,
    ),
    "mixtral": _case("mixtral", "MixtralForCausalLM", _PLAIN, num_local_experts=4, num_experts_per_tok=2),
    "qwen2 of experts": _case(
        "qwen2_moe", "Qwen2MoeForCausalLM", _PLAIN, _EXPERTS, shared_expert_intermediate_size=64, is_served=False
    ),
    "phi3": _case("phi3", "Phi3ForCausalLM", _PLAIN, is_served=False),
    "gpt2": _case(
        "gpt2", "GPT2LMHeadModel", n_embd=128, n_layer=2, n_head=4, vocab_size=512, n_positions=1024, is_served=False
    ),
    "gpt-oss": _case(
        "gpt_oss",
        "GptOssForCausalLM",
        _LONG,
        num_hidden_layers=4,
        head_dim=64,
        num_local_experts=4,
        num_experts_per_tok=2,
        is_served=False,
    ),
    "qwen3-next": _case(
        "qwen3_next",
        "Qwen3NextForCausalLM",
        _PLAIN,
        _EXPERTS,
        num_hidden_layers=4,
        head_dim=64,
        shared_expert_intermediate_size=64,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
    ),
    "falcon-h1": _case(
        "falcon_h1",
        "FalconH1ForCausalLM",
        _PLAIN,
        mamba_d_ssm=256,
        mamba_n_heads=8,
        mamba_d_head=32,
        mamba_n_groups=1,
        mamba_d_state=64,
        is_served=False,
    ),
    "bert": _case("bert", "BertModel", _ENCODER, max_position_embeddings=512, dtype="float32", task="embed"),
}
