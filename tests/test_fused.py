"""A tensor that is missing beside its kin is found before vLLM serves the model without it."""

import pytest

from modelctl.share import samples
from modelctl.share.safetensors import encode
from modelctl.store import fused
from tests.command import Command, Finished
from tests.stores import StoreBuilder, tiny_model

TENSORS = samples._weights(0)


def layers(count: int, *parts: str, prefix: str = "model.layers.{}.mlp", what: str = "weight") -> set[str]:
    return {f"{prefix.format(at)}.{part}.{what}" for at in range(count) for part in parts}


GATED = layers(4, "gate_proj", "up_proj", "down_proj")
ATTENTION = layers(4, "q_proj", "k_proj", "v_proj", prefix="layers.{}.self_attn")


@pytest.mark.parametrize(
    "names",
    [
        set(),
        GATED | ATTENTION,
        # Not gated at all.
        layers(4, "up_proj", "down_proj"),
        # Experts, of which each layer has its own, and a layer without any.
        layers(8, "w1", "w2", "w3", prefix="layers.1.moe.experts.{}") | layers(1, "w1", "w2", "w3", prefix="layers.{}"),
        # Layers that take keys and values from another, or have values that are their keys.
        ATTENTION | {"layers.9.self_attn.q_proj.weight"},
        ATTENTION | {f"layers.9.self_attn.{part}.weight" for part in ("q_proj", "k_proj")},
        # Whisper's keys have no bias; scales belong to one alone.
        layers(4, "q_proj", "v_proj", what="bias") | ATTENTION,
        layers(4, "k_proj", what="k_scale") | layers(4, "v_proj", what="v_scale") | ATTENTION,
    ],
)
def test_what_models_leave_out_is_not_missed(names: set[str]) -> None:
    assert fused.lacking(names) == ()


@pytest.mark.parametrize(
    ("names", "gone"),
    [
        (GATED, "model.layers.2.mlp.up_proj.weight"),
        (GATED, "model.layers.0.mlp.gate_proj.weight"),
        (ATTENTION, "layers.3.self_attn.q_proj.weight"),
        (ATTENTION, "layers.3.self_attn.k_proj.weight"),
        (layers(2, "gate_proj", "up_proj", what="qweight"), "model.layers.1.mlp.up_proj.qweight"),
        (layers(8, "w1", "w2", "w3", prefix="layers.1.moe.experts.{}"), "layers.1.moe.experts.7.w3.weight"),
    ],
)
def test_what_is_missing_is_named(names: set[str], gone: str) -> None:
    assert fused.lacking(names - {gone}) == (gone,)


def test_serve_refuses_it(run: Command, store: StoreBuilder) -> None:
    gone = "model.layers.0.mlp.up_proj.weight"
    weights = encode({name: tensor for name, tensor in TENSORS.items() if name != gone})
    store.add("acme/tiny", files=tiny_model(**{"model.safetensors": weights}))
    assert run("serve", "acme/tiny") == Finished(
        6,
        "",
        f"error: the weights of `acme/tiny` lack `{gone}`, and vLLM would serve it without a word\n"
        "hint: `modelctl verify acme/tiny` tells whether they are as they were published\n",
    )
