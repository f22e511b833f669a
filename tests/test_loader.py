"""What vLLM's loader takes from a folder with everything in it: the table of shapes, which vLLM itself has judged."""

import json

import pytest

from modelctl import loader
from modelctl.share.safetensors import encode
from modelctl.store import metadata, scan
from tests.checkpoints import CONFIG, generator, sharded, tensor, weights
from tests.command import Command
from tests.shapes.table import SHAPES
from tests.stores import Files, StoreBuilder

# The loader takes no adapters, no GGUF files, and for single architectures it looks elsewhere.
PLAIN = [
    name
    for name, shape in SHAPES.items()
    if shape.kind != "lora" and not shape.unjudged and not any(ask.instead for ask in shape.asks)
]


@pytest.mark.parametrize("name", PLAIN)
def test_the_loader_takes_what_vllm_takes(name: str) -> None:
    shape = SHAPES[name]
    taken = loader.take(shape.all_files, shape.content)
    expected = (shape.refused or shape.weights) if shape.whole is None else shape.whole
    if isinstance(expected, str):
        assert taken.refused
        assert taken.names == ()
    else:
        assert (taken.refused, frozenset(taken.names)) == (None, expected)


INDEX = "model.safetensors.index.json"
BESIDE: dict[str, tuple[Files, str, list[str]]] = {
    "originals in a folder": (
        {**generator(), "original/consolidated.safetensors": weights({"a": (1,)})},
        "vLLM looks for `consolidated*` at the root because of `original/consolidated.safetensors`",
        ["original/consolidated.safetensors"],
    ),
    "an index that names nothing": (
        {**generator(), INDEX: json.dumps({"weight_map": {}})},
        f"vLLM follows `{INDEX}`, which names no file",
        [],
    ),
    "an adapter": (
        {**generator(), "adapter_config.json": "{}", "adapter_model.safetensors": weights({"a": (1,)})},
        "vLLM loads `adapter_model.safetensors` too, which is an adapter, and fails at the names of its tensors",
        ["adapter_model.safetensors"],
    ),
    "Mistral's format without its configuration": (
        {**generator(), "consolidated.safetensors": weights({"a": (1,)})},
        "vLLM loads `consolidated.safetensors` too, which is Mistral's own format, "
        "and fails at the names of its tensors",
        ["consolidated.safetensors"],
    ),
    "the state of training": (
        {**generator(model__safetensors=None), "model.pt": b"x", "training_args.bin": b"x", "optimizer.bin": b"x"},
        "vLLM looks no further than `optimizer.bin`, which is no weights",
        ["optimizer.bin", "training_args.bin"],
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_other_tools_leave_beside_a_model_keeps_vllm_from_it(store: StoreBuilder, name: str) -> None:
    files, message, culprits = BESIDE[name]
    commit = store.add("acme/tiny", files=files)
    (model,) = scan.scan_hub(store.hub, "project")
    assert (model.state, model.servable) == ("ready", False)
    (problem,) = model.problems
    entries = [store.paths("acme/tiny").entry(commit, culprit) for culprit in culprits]
    assert (problem.kind, problem.message) == ("beside", message)
    assert problem.fix == (f"rm {' '.join(map(str, entries))}" if entries else None)
    if not entries:
        return
    for entry in entries:
        entry.unlink()
    (mended,) = scan.scan_hub(store.hub, "project")
    assert (mended.state, mended.servable, mended.problems) == ("ready", True, ())


@pytest.mark.parametrize(
    "files",
    [
        {**sharded(), "model.fp16.safetensors": weights({"a": (1,)})},
        {**sharded(), "adapter_config.json": "{}", "adapter_model.safetensors": weights({"a": (1,)})},
        {**generator(), "model.fp16.safetensors": weights({"a": (1,)}), "pytorch_model.bin": b"x"},
        {**generator(), "checkpoint-1/model.safetensors": weights({"a": (1,)}), "training_args.bin": b"x"},
    ],
)
def test_what_does_no_harm_beside_a_model(store: StoreBuilder, files: Files) -> None:
    store.add("acme/tiny", files=files)
    (model,) = scan.scan_hub(store.hub, "project")
    assert (model.state, model.servable, model.problems) == ("ready", True, ())


def test_an_index_that_is_none_is_damage(store: StoreBuilder) -> None:
    store.add("acme/tiny", files={**sharded(), INDEX: "{"})
    (model,) = scan.scan_hub(store.hub, "project")
    (problem,) = model.problems
    assert (model.state, problem.message) == ("broken", f"`{INDEX}` is no JSON object")
    assert problem.fix == "modelctl verify --repair acme/tiny"


def test_serve_says_so_before_vllm_is_started(run: Command, store: StoreBuilder) -> None:
    files, message, _ = BESIDE["originals in a folder"]
    store.add("acme/tiny", files=files)
    done = run("serve", "acme/tiny")
    assert done.code == 1
    assert done.stderr.startswith(f"error: `acme/tiny` cannot be served: {message}\nhint: `rm ")


def config(**keys: object) -> str:
    return json.dumps({**CONFIG, "model_type": "llama", "vocab_size": 16, "hidden_size": 8, **keys})


HEAD = encode({"model.embed": tensor("F32", (16, 8)), "lm_head.weight": tensor("F32", (16, 8))})
LOADED: dict[str, tuple[Files, int | None]] = {
    "single precision, in half": (generator(config__json=config(), model__safetensors=HEAD), 512),
    "an output that is its input": (
        generator(config__json=config(tie_word_embeddings=True), model__safetensors=HEAD),
        256,
    ),
    "in bytes": (
        generator(
            config__json=config(quantization_config={"quant_method": "fp8"}),
            model__safetensors=encode({"a": tensor("F8_E4M3", (9, 1)), "b": tensor("F32", (1,))}),
        ),
        13,
    ),
    "a pickle": (generator(model__safetensors=None) | {"pytorch_model.bin": b"x" * 100}, 100),
    "a pickle in single precision": (
        generator(config__json=config(torch_dtype="float32"), model__safetensors=None)
        | {"pytorch_model.bin": b"x" * 100},
        50,
    ),
    "half of it": ({name: data for name, data in sharded().items() if "00001" not in name}, None),
    "nothing": ({"config.json": "{}", "tf_model.h5": "x"}, None),
}


@pytest.mark.parametrize("name", LOADED)
def test_the_memory_that_weights_take(store: StoreBuilder, name: str) -> None:
    files, expected = LOADED[name]
    store.add("acme/tiny", files=files, tree=False)
    (model,) = scan.scan_hub(store.hub, "project")
    assert metadata.facts(model.revisions[0]).weights == expected
