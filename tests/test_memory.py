"""How much memory a model needs: against what vLLM itself said, and on machines of every kind."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelctl.cli import memory as told
from modelctl.engine import fitting, kv_cache, layers, memory
from modelctl.engine.gpus import Gpu
from modelctl.engine.kv_cache import Pool
from modelctl.engine.layers import Layers, Shares
from modelctl.engine.machine import Machine
from modelctl.engine.memory import GIB, MIB, Device, Need, Terms
from modelctl.store.model import Facts, Model

Config = Mapping[str, Any]
LLAMA: Config = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
LATENT: Config = {
    "model_type": "deepseek_v2",
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
}
QWEN: Config = {
    "model_type": "qwen2",
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 256,
    "sliding_window": 131072,
}
GEMMA: Config = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "sliding_window": 512,
}
# What vLLM's server computes in one step on the CPU.
BATCH = 2048


def pool(config: Config, *, is_cpu: bool = True, **shares: int) -> Pool:
    found = layers.of(config, Shares(is_cpu=is_cpu, **shares))
    assert found is not None
    return kv_cache.pool(found, is_cpu=is_cpu)


def capacity(config: Config, memory: int, context: int) -> int | None:
    return pool(config).capacity(memory, context=context, batch=BATCH)


def test_what_vllm_said_of_its_cache() -> None:
    assert pool(LLAMA).bytes_per_token == 8192
    assert capacity(LLAMA, GIB, 131072) == 131072
    assert 131072 * pool(LLAMA).bytes_per_token == GIB
    assert pool(LATENT).bytes_per_token == 4608
    assert capacity(LATENT, GIB, 2048) == 233_008 // 2048 * 2048 + 1584
    assert capacity(LATENT, GIB, 16) == 233_008
    # 152 blocks, of which one is never given away.
    assert capacity(QWEN, 40_000_000, 128) == 19456
    assert pool(QWEN).longest(40_000_000, context=32768, batch=BATCH) == 19328
    gemma = pool(GEMMA)
    request = gemma.blocks(16384, batch=BATCH) * gemma.bytes
    assert round(request / 1e6, 1) == 30.5
    assert round(GIB // gemma.bytes / gemma.blocks(16384, batch=BATCH), 2) == 35.16


LAYERS: dict[str, tuple[Config, Shares, tuple[Layers, ...] | None]] = {
    "as many keys as heads": (
        {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 64},
        Shares(),
        (Layers(3, "full", 4 * 16 * 2 * 2),),
    ),
    "inside a multimodal model": ({"text_config": LLAMA, "hidden_size": 5}, Shares(), (Layers(2, "full", 4096),)),
    "a head of its own size": ({**LLAMA, "head_dim": 64}, Shares(), (Layers(2, "full", 2048),)),
    "values narrower than keys": ({**LLAMA, "v_head_dim": 64}, Shares(), (Layers(2, "full", 8 * 192 * 2),)),
    "in bytes": (LLAMA, Shares(cache_width=1), (Layers(2, "full", 2048),)),
    "on four GPUs": (LLAMA, Shares(tensor=4), (Layers(2, "full", 1024),)),
    "on more GPUs than heads": (LLAMA, Shares(tensor=16), (Layers(2, "full", 512),)),
    "in two stages": ({**LLAMA, "num_hidden_layers": 5}, Shares(pipeline=2), (Layers(3, "full", 4096),)),
    "latent, whole on every GPU": (LATENT, Shares(tensor=8), (Layers(4, "latent", 1152),)),
    "latent with an indexer": (
        {**LATENT, "model_type": "deepseek_v32", "index_head_dim": 128},
        Shares(),
        (Layers(4, "latent", 1152), Layers(4, "latent", 132)),
    ),
    "latent in a model that unfolds it": (
        {**LATENT, "model_type": "minicpm3", "qk_nope_head_dim": 64},
        Shares(),
        (Layers(4, "full", 16 * 128 * 2 * 2),),
    ),
    "a window in all": ({**LLAMA, "sliding_window": 4096}, Shares(), (Layers(2, "window", 4096, 4096),)),
    "a window that is not used": ({**QWEN, "use_sliding_window": False}, Shares(), (Layers(4, "full", 512),)),
    "a window that is used": (
        {**QWEN, "use_sliding_window": True},
        Shares(),
        (Layers(4, "window", 512, 131072),),
    ),
    "a window in some": (GEMMA, Shares(), (Layers(5, "window", 1024, 512), Layers(1, "full", 1024))),
    "a window in the layers that are named": (
        {**GEMMA, "layer_types": ["full_attention"] * 4 + ["sliding_attention"] * 2},
        Shares(),
        (Layers(4, "full", 1024), Layers(2, "window", 1024, 512)),
    ),
    "layers that share what others keep": (
        {**GEMMA, "model_type": "gemma3n_text", "num_kv_shared_layers": 2},
        Shares(),
        (Layers(4, "window", 1024, 512),),
    ),
    "wider heads in the layers that see all": (
        {**GEMMA, "model_type": "gemma4_text", "global_head_dim": 256, "num_global_key_value_heads": 1},
        Shares(),
        (Layers(5, "window", 1024, 512), Layers(1, "full", 1024)),
    ),
    "one head for all": (
        {"model_type": "falcon", "num_hidden_layers": 2, "num_attention_heads": 71, "hidden_size": 4544},
        Shares(),
        (Layers(2, "full", 256),),
    ),
    "chunks": (
        {**LLAMA, "model_type": "llama4_text", "num_hidden_layers": 4, "attention_chunk_size": 8192},
        Shares(),
        (Layers(3, "chunk", 4096, 8192), Layers(1, "full", 4096)),
    ),
    "a decoder beside an encoder": (
        {
            "model_type": "whisper",
            "is_encoder_decoder": True,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "d_model": 64,
            "max_source_positions": 1500,
        },
        Shares(),
        (Layers(2, "full", 256), Layers(2, "cross", 256, 1500)),
    ),
    "an encoder": ({"model_type": "bert", "num_hidden_layers": 6}, Shares(), ()),
    "made to see both ways": ({**LLAMA, "is_causal": False}, Shares(), ()),
    "Mistral's own words": (
        {"n_layers": 2, "n_heads": 32, "n_kv_heads": 8, "head_dim": 128, "dim": 4096},
        Shares(),
        (Layers(2, "full", 4096),),
    ),
    "a part that says nothing of itself": (
        {"model_type": "llava", "text_config": {"model_type": "llama"}},
        Shares(),
        (Layers(32, "full", 32 * 128 * 4),),
    ),
    "Mamba beside attention": (
        {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-", "num_attention_heads": 4, "head_dim": 8}
        | {"num_key_value_heads": 2, "mamba_num_heads": 8, "mamba_head_dim": 4, "ssm_state_size": 16},
        Shares(),
        (Layers(2, "state", (32 + 32) * 3 * 2 + 8 * 4 * 16 * 4, 3), Layers(1, "full", 64)),
    ),
    "nothing": ({}, Shares(), None),
    "words for numbers": ({**LLAMA, "num_hidden_layers": "two"}, Shares(), None),
    "layers of a kind that nobody knows": ({**LLAMA, "layer_types": ["new_attention"] * 2}, Shares(), None),
    "more layers than there can be": ({**LLAMA, "num_hidden_layers": 10**9}, Shares(), None),
    "layers that differ one by one": ({**LLAMA, "block_configs": []}, Shares(), None),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_that_keep_a_cache(name: str) -> None:
    config, shares, expected = LAYERS[name]
    assert layers.of(config, shares) == expected


def test_a_request_holds_whole_blocks_of_every_kind() -> None:
    both = pool(GEMMA, is_cpu=False)
    assert both.bytes == 16 * 1024
    assert [group.kind for group in both.groups] == ["window"] * 5 + ["full"]
    # The window, what one step computes, and a block more, for the window may begin inside of one.
    assert both.blocks(100_000, batch=2048) == 5 * (-(-(511 + 2048) // 16) + 1) + 6250
    assert both.blocks(100, batch=2048) == 5 * 8 + 7
    assert both.request(100, batch=2048) == 48 * 16 * 1024
    mixed = kv_cache.pool([Layers(12, "window", 1024, 64), Layers(13, "full", 1024)], is_cpu=False)
    assert len(mixed.groups) == 2
    states = kv_cache.pool([Layers(3, "state", 70_000, 2), Layers(1, "full", 512)], is_cpu=True)
    assert (states.groups[-1].block, states.bytes) == (256, 256 * 512)
    assert states.blocks(2048, batch=2048) == 3 * 2 + 8
    for nothing in ([], [Layers(3, "state", 0)]):
        assert kv_cache.pool(nothing, is_cpu=True).capacity(GIB, context=512, batch=2048) is None


def need(billions: float, *, depth: int = 32, context: int = 131072, **more: object) -> Need:
    return Need(weights=int(billions * 2e9), config={**LLAMA, "num_hidden_layers": depth, **more}, context=context)


def gpus(count: int, gigabytes: int, *, free: float = 1.0) -> Machine:
    total = gigabytes * GIB
    each = Gpu("GPU-1", "NVIDIA Test", total, int(total * free))
    return Machine((each,) * count, 64 * GIB, 60 * GIB)


RAM = Machine((), 16 * GIB, 14 * GIB)
NOBODY_TELLS = Machine(None, 64 * GIB, 60 * GIB)


def judged(found: fitting.Fit) -> tuple[bool | None, int, tuple[str, ...]]:
    return found.fits, found.estimate.devices if found.estimate else 0, found.flags


def test_on_as_few_gpus_as_hold_the_whole_context() -> None:
    assert judged(fitting.fit(need(8, context=8192), gpus(1, 24))) == (True, 1, ())
    assert judged(fitting.fit(need(8, context=131072), gpus(1, 80))) == (True, 1, ())
    assert judged(fitting.fit(need(70, depth=80), gpus(8, 80))) == (True, 4, ("--tensor-parallel-size", "4"))
    assert fitting.fit(need(70, depth=80), gpus(8, 80)).context == 131072


def test_with_less_context_where_the_whole_has_no_room() -> None:
    found = fitting.fit(need(8), gpus(1, 24))
    assert found.fits is True
    assert found.context is not None
    assert 30_000 < found.context < 50_000
    flag, value = found.flags
    assert flag == "--max-model-len"
    assert found.context * 0.9 < int(value) <= found.context
    # And so it is: with that context it fits whole.
    again = fitting.fit(dataclasses.replace(need(8), context=int(value)), gpus(1, 24))
    assert judged(again) == (True, 1, ())


def test_not_at_all() -> None:
    found = fitting.fit(need(70, depth=80), gpus(1, 24))
    assert judged(found) == (False, 1, ())
    assert found.context == 0
    assert found.estimate is not None
    assert found.estimate.needed > found.estimate.usable
    assert judged(fitting.fit(need(70, depth=80), RAM)) == (False, 1, ())


def test_vllm_takes_no_more_than_is_free() -> None:
    found = fitting.fit(need(1, depth=16, context=8192), gpus(1, 24, free=0.75))
    assert judged(found) == (True, 1, ("--gpu-memory-utilization", "0.75"))
    assert found.estimate is not None
    assert found.estimate.usable == int(24 * GIB * 0.75)


def test_of_unequal_gpus_the_smallest_counts() -> None:
    machine = gpus(2, 24)
    assert machine.gpus is not None
    small = machine._replace(gpus=(machine.gpus[0], Gpu("GPU-2", "small", 8 * GIB, 8 * GIB)))
    assert judged(fitting.fit(need(14, context=8192), machine))[0] is True
    assert judged(fitting.fit(need(14, context=8192), small))[0] is False


def test_a_model_is_not_divided_where_its_heads_cannot_be() -> None:
    odd = need(20, num_attention_heads=31, num_key_value_heads=31, head_dim=64)
    assert judged(fitting.fit(odd, gpus(8, 24))) == (False, 1, ())


def test_on_the_cpu() -> None:
    found = fitting.fit(need(1, depth=16, context=8192), RAM)
    assert judged(found) == (True, 1, ())
    assert found.estimate is not None
    assert found.estimate.graphs == 0
    # What `serve` gives the cache: a quarter of what is free.
    assert found.estimate.tokens == 14 * GIB // 4 // (128 * 65536) * 128


def test_a_model_that_keeps_no_cache() -> None:
    found = fitting.fit(Need(weights=90 * MIB, config={"model_type": "bert"}, context=512), RAM)
    assert judged(found) == (True, 1, ())
    assert found.estimate is not None
    assert (found.estimate.request, found.estimate.tokens, found.context) == (0, None, 512)


def test_a_draft_keeps_a_cache_beside_that_of_its_model() -> None:
    device = Device(total=80 * GIB, free=80 * GIB)

    def tokens(draft: Config | None, **terms: Any) -> tuple[int, int]:  # noqa: ANN401
        found = memory.estimate(dataclasses.replace(need(8), draft=draft), device, Terms(**terms))
        assert found is not None
        return found.per_token, found.devices

    alone, _ = tokens(None)
    assert tokens(LLAMA)[0] == alone + 8192
    # Each stage has a part of the model, and the last one all of the draft.
    assert tokens(LLAMA, pipeline=2) == (alone // 2 + 8192, 2)
    assert tokens({}) == tokens({"model_type": "medusa"}) == (alone, 1)
    given = [memory.kv_cache_on_cpu(LLAMA, context=512, available=64 * GIB, draft=draft) for draft in (None, LLAMA)]
    assert given[1] == 2 * given[0]


def test_where_nothing_tells() -> None:
    assert fitting.fit(need(1), NOBODY_TELLS).fits is None
    assert fitting.fit(None, RAM).fits is None
    unknown = Need(weights=GIB, config={}, context=None)
    assert fitting.fit(unknown, RAM).fits is None
    assert fitting.fit(dataclasses.replace(unknown, weights=99 * GIB), RAM).fits is False


def test_terms_change_what_is_needed() -> None:
    device = Device(total=80 * GIB, free=80 * GIB)

    def needed(**terms: Any) -> memory.Estimate:  # noqa: ANN401
        found = memory.estimate(need(8), device, Terms(**terms))
        assert found is not None
        return found

    plain = needed()
    assert plain.weights == 16_000_000_000
    assert (plain.sampler, plain.graphs > 0) == (3 * 1024 * 128256 * 4, True)
    assert needed(eager=True).graphs == 0
    assert needed(cache_width=1).per_token * 2 == plain.per_token
    assert needed(tensor=2).weights * 2 == plain.weights
    assert needed(context=1024).request < plain.request
    small = {"quantization_config": {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}}
    assert memory.cache_width(small) == 1
    assert memory.cache_width({"quantization_config": {"kv_cache_quant_algo": "FP8"}}) == 1


def test_the_example_of_the_documentation() -> None:
    config = {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 12288,
        "vocab_size": 151936,
    }
    parameters = 8_190_735_360
    name, nowhere = "Qwen/Qwen3-8B", Path("/nowhere")
    facts = Facts(parameters=parameters)
    model = Model(name, "project", nowhere, "ready", True, 0, 0, 0, None, (), None, None, facts, ())
    card = Gpu("GPU-0", "NVIDIA GeForce RTX 4090", 24564 * MIB, 24210 * MIB)
    machine = Machine((card,), 64 * GIB, 60 * GIB)
    found = fitting.fit(Need(weights=parameters * 2, config=config, context=40960), machine)
    page = (Path(__file__).parent.parent / "docs" / "memory.md").read_text(encoding="utf-8")
    lines = "\n".join(told.lines(model, found, machine))
    assert f"$ modelctl show qwen3-8b --memory\n{lines}\n```" in page


KEYS = st.sampled_from(
    [
        *("model_type", "text_config", "num_hidden_layers", "n_layer", "num_attention_heads", "num_key_value_heads"),
        *("head_dim", "hidden_size", "sliding_window", "use_sliding_window", "layer_types", "layers_block_type"),
        *("hybrid_override_pattern", "full_attn_idxs", "kv_lora_rank", "qk_rope_head_dim", "is_encoder_decoder"),
        *("vocab_size", "quantization_config", "kv_cache_scheme", "attn_config", "multi_query", "no_rope_layers"),
        *("mamba_num_heads", "mamba_d_head", "mamba_d_state", "attn_layer_period", "attn_layer_offset", "conv_L_cache"),
    ]
)
WORDS = st.sampled_from(
    ["llama", "qwen2", "gemma3_text", "nemotron_h", "jamba", "lfm2", "falcon_h1", "deepseek_v3", "llama4_text"]
)
NUMBERS = st.integers(-2, 64) | st.sampled_from([10**6, 10**12, 10**30])
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | WORDS | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=24,
)


@settings(max_examples=60)
@given(
    config=st.dictionaries(KEYS, JUNK, max_size=14),
    draft=st.none() | st.dictionaries(KEYS, JUNK, max_size=14),
    context=st.none() | st.integers(1, 1 << 40),
)
def test_no_configuration_raises(config: dict[str, Any], draft: dict[str, Any] | None, context: int | None) -> None:
    found = Need(weights=GIB, config=config, context=context, draft=draft)
    for machine in (RAM, gpus(8, 80), NOBODY_TELLS):
        assert fitting.fit(found, machine).fits in {True, False, None}
