"""The selection rule, over the shapes that repositories have."""

import pytest

from modelctl import quantisations, selection
from tests.shapes.shape import Shape
from tests.shapes.table import SHAPES
from tests.shapes.weights import INDEXED, SHARDS


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_rule_takes_what_vllm_loads_and_nothing_else(shape: Shape) -> None:
    sizes = dict.fromkeys(shape.all_files, 1)
    found = selection.select(sizes, shape.content, variant=shape.variant)
    assert found.names == shape.wanted
    assert set(found.weights) == shape.weights
    assert (found.format, found.kind) == (shape.format, shape.kind)
    assert set(found.missing) == shape.missing


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if not shape.missing])
def test_what_was_pulled_is_selected_again(name: str) -> None:
    """A store without the commit's listing judges a model by the files that are there."""
    shape = SHAPES[name]
    found = selection.select(dict.fromkeys(shape.all_files, 1), shape.content, variant=shape.variant)
    again = selection.select(dict.fromkeys(found.names, 1), shape.content)
    assert (again.names, again.weights) == (found.names, found.weights)


def test_there_are_enough_shapes() -> None:
    assert len(SHAPES) >= 25


def test_quantisations_are_told_apart_by_their_names() -> None:
    names = [
        "Qwen3-8B-Q4_K_M.gguf",
        "Qwen3-8B-UD-Q4_K_XL.gguf",
        "Q8_0/Qwen3-8B-Q8_0-00001-of-00002.gguf",
        "Q8_0/Qwen3-8B-Q8_0-00002-of-00002.gguf",
        "Qwen3-8B.IQ2_XXS.gguf",
        "Qwen3-8B-bf16.gguf",
        "gpt-oss-20b-MXFP4.gguf",
        "mmproj-Qwen3-8B-F16.gguf",
        "odd.gguf",
    ]
    choices = quantisations.choices(names)
    assert choices == {
        "Q4_K_M": ("Qwen3-8B-Q4_K_M.gguf",),
        "UD-Q4_K_XL": ("Qwen3-8B-UD-Q4_K_XL.gguf",),
        "Q8_0": ("Q8_0/Qwen3-8B-Q8_0-00001-of-00002.gguf", "Q8_0/Qwen3-8B-Q8_0-00002-of-00002.gguf"),
        "IQ2_XXS": ("Qwen3-8B.IQ2_XXS.gguf",),
        "BF16": ("Qwen3-8B-bf16.gguf",),
        "MXFP4": ("gpt-oss-20b-MXFP4.gguf",),
        "odd": ("odd.gguf",),
    }


def test_shards_that_an_index_names_and_the_repository_lacks_are_missing() -> None:
    sizes = dict.fromkeys({"model-00001-of-00002.safetensors", "model.safetensors.index.json"}, 1)
    found = selection.select(sizes, INDEXED)
    assert found.missing == ("model-00002-of-00002.safetensors",)
    assert found.weights == ("model-00001-of-00002.safetensors",)


def test_the_deciding_documents_are_those_that_are_there() -> None:
    assert selection.deciding({"config.json", "modules.json", "x"}) == ("config.json", "modules.json")


@pytest.mark.parametrize("junk", [None, [], "x", 3, {"weight_map": 3}, {"weight_map": {"a": 3}}, {"weight_map": {}}])
def test_junk_in_the_documents_is_no_error(junk: object) -> None:
    sizes = dict.fromkeys(SHARDS | {"model.safetensors.index.json", "modules.json", "config.json"}, 1)
    documents = {"model.safetensors.index.json": junk, "modules.json": junk, "config.json": junk}
    # An index that names nothing is as good as none: every tensor file of the root is loaded.
    assert set(selection.select(sizes, documents).weights) == SHARDS
