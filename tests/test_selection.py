"""The selection rule, over the shapes that repositories have."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from modelctl import selection

TEXT = {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
EXTRA = {"README.md", "LICENSE"}
# What repositories carry beside, and vLLM never reads.
BALLAST = {
    ".gitattributes",
    "tf_model.h5",
    "flax_model.msgpack",
    "onnx/model.onnx",
    "onnx/config.json",
    "openvino/openvino_model.xml",
    "openvino/openvino_model.bin",
    "rust_model.ot",
    "figure.png",
    "runs/events.out.tfevents",
    "coreml/model.mlpackage/weights.bin",
}
SHARDS = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}


@dataclass
class Shape:
    """A repository: its files, its small documents, and what of it is to be fetched beside the text files."""

    files: set[str]
    weights: set[str]
    more: set[str] = field(default_factory=set)
    documents: Mapping[str, object] = field(default_factory=dict)
    format: str | None = "safetensors"
    kind: str = "model"
    variant: str | None = None


SHAPES: dict[str, Shape] = {
    "single": Shape({"model.safetensors"}, {"model.safetensors"}),
    "both formats": Shape({"model.safetensors", "pytorch_model.bin"}, {"model.safetensors"}),
    "sharded": Shape(
        SHARDS | {"model.safetensors.index.json"},
        SHARDS,
        {"model.safetensors.index.json"},
        {"model.safetensors.index.json": INDEX},
    ),
    "sharded beside bin shards": Shape(
        SHARDS
        | {
            "model.safetensors.index.json",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
            "pytorch_model.bin.index.json",
        },
        SHARDS,
        {"model.safetensors.index.json"},
        {"model.safetensors.index.json": INDEX},
    ),
    "sharded beside a variant": Shape(
        SHARDS | {"model.safetensors.index.json", "model.fp16.safetensors"},
        SHARDS,
        {"model.safetensors.index.json"},
        {"model.safetensors.index.json": INDEX},
    ),
    "shards without an index": Shape(SHARDS, SHARDS),
    "an index that cannot be read": Shape(
        SHARDS | {"model.safetensors.index.json"}, SHARDS, {"model.safetensors.index.json"}
    ),
    "variant beside": Shape({"model.safetensors", "model.fp16.safetensors"}, {"model.safetensors"}),
    "only a variant": Shape({"model.fp16.safetensors"}, {"model.fp16.safetensors"}),
    "another name": Shape({"weights.safetensors"}, {"weights.safetensors"}),
    "only bin": Shape(
        {"pytorch_model.bin", "training_args.bin", "optimizer.bin"}, {"pytorch_model.bin"}, format="pickle"
    ),
    "bin shards": Shape(
        {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json"},
        {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"},
        {"pytorch_model.bin.index.json"},
        format="pickle",
    ),
    "bin of another name": Shape({"weights.bin", "training_args.bin"}, {"weights.bin"}, format="pickle"),
    "only pt": Shape({"model.pt", "optimizer.pt", "scheduler.pt"}, {"model.pt"}, format="pickle"),
    "consolidated with params": Shape(
        SHARDS | {"model.safetensors.index.json", "consolidated.safetensors", "params.json", "tekken.json"},
        {"consolidated.safetensors"},
        {"params.json", "tekken.json"},
        {"model.safetensors.index.json": INDEX},
    ),
    "consolidated shards with an index": Shape(
        {
            "consolidated-00001-of-00002.safetensors",
            "consolidated-00002-of-00002.safetensors",
            "consolidated.safetensors.index.json",
            "params.json",
        },
        {"consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors"},
        {"params.json", "consolidated.safetensors.index.json"},
        {
            "consolidated.safetensors.index.json": {
                "weight_map": {
                    "a": "consolidated-00001-of-00002.safetensors",
                    "b": "consolidated-00002-of-00002.safetensors",
                }
            }
        },
    ),
    "consolidated without params": Shape(
        SHARDS | {"model.safetensors.index.json", "consolidated.safetensors"},
        SHARDS,
        {"model.safetensors.index.json"},
        {"model.safetensors.index.json": INDEX},
    ),
    "original beside": Shape(
        SHARDS
        | {"model.safetensors.index.json", "original/consolidated.00.pth", "original/consolidated.safetensors"}
        | {"original/params.json"},
        SHARDS,
        {"model.safetensors.index.json"},
        {"model.safetensors.index.json": INDEX},
    ),
    "checkpoints of training beside": Shape(
        {"model.safetensors", "checkpoint-100/model.safetensors", "checkpoint-100/optimizer.pt"}, {"model.safetensors"}
    ),
    "adapter": Shape(
        {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"},
        {"adapter_model.safetensors"},
        {"adapter_config.json"},
        kind="lora",
    ),
    "adapter as pickle": Shape(
        {"adapter_config.json", "adapter_model.bin"},
        {"adapter_model.bin"},
        {"adapter_config.json"},
        format="pickle",
        kind="lora",
    ),
    "adapter beside a base model": Shape(
        {"model.safetensors", "adapter_config.json", "adapter_model.safetensors"},
        {"model.safetensors"},
        {"adapter_config.json"},
    ),
    "sentence-transformers": Shape(
        {"model.safetensors", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "vocab.txt"},
        {"model.safetensors"},
        {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "vocab.txt"},
        {"modules.json": [{"path": ""}, {"path": "1_Pooling"}]},
    ),
    "sentence-transformers with Dense": Shape(
        {"model.safetensors", "modules.json", "1_Pooling/config.json", "2_Dense/config.json"}
        | {
            "2_Dense/model.safetensors",
            "2_Dense/pytorch_model.bin",
            "3_Dense/config.json",
            "3_Dense/pytorch_model.bin",
        },
        {"model.safetensors"},
        {"modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"}
        | {"3_Dense/config.json", "3_Dense/pytorch_model.bin"},
        {"modules.json": [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}, {"path": "3_Dense"}]},
    ),
    "multimodal": Shape(
        {"model.safetensors", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"}
        | {"chat_template.jinja", "chat_template.json", "additional_chat_templates/tools.jinja"},
        {"model.safetensors"},
        {"preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"}
        | {"chat_template.jinja", "chat_template.json", "additional_chat_templates/tools.jinja"},
    ),
    "own code": Shape(
        {"model.safetensors", "modeling_x.py", "configuration_x.py", "spiece.model", "merges.txt", "x.tiktoken"},
        {"model.safetensors"},
        {"modeling_x.py", "configuration_x.py", "spiece.model", "merges.txt", "x.tiktoken"},
    ),
    "BGE-M3": Shape(
        {"pytorch_model.bin", "sparse_linear.pt", "colbert_linear.pt", "sentencepiece.bpe.model"},
        {"pytorch_model.bin"},
        {"sparse_linear.pt", "colbert_linear.pt", "sentencepiece.bpe.model"},
        format="pickle",
    ),
    "a second model in a folder": Shape(
        {"model.safetensors", "whisper-large-v3/model.safetensors", "whisper-large-v3/config.json"},
        {"model.safetensors"},
        {"whisper-large-v3/model.safetensors", "whisper-large-v3/config.json"},
        {"config.json": {"architectures": ["KimiAudioForConditionalGeneration"]}},
    ),
    "the same folder of another model": Shape(
        {"model.safetensors", "whisper-large-v3/model.safetensors"}, {"model.safetensors"}
    ),
    "one GGUF": Shape({"model.Q4_K_M.gguf"}, {"model.Q4_K_M.gguf"}, format="gguf", kind="gguf"),
    "GGUF, none chosen": Shape({"m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-BF16.gguf"}, set(), format="gguf", kind="gguf"),
    "GGUF, one chosen, in parts, with a projector": Shape(
        {"m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf"},
        {"m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"},
        {"mmproj-F16.gguf"},
        format="gguf",
        kind="gguf",
        variant="q4_k_m",
    ),
    "GGUF, an unknown one asked for": Shape(
        {"m-Q4_K_M.gguf", "m-Q8_0.gguf"}, set(), format="gguf", kind="gguf", variant="Q2_K"
    ),
    "GGUF beside safetensors": Shape({"model.safetensors", "m-Q4_K_M.gguf"}, {"model.safetensors"}),
    "diffusers": Shape(
        {"model_index.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json"},
        set(),
        {"model_index.json"},
        format=None,
        kind="unservable",
    ),
    "only other frameworks": Shape(set(), set(), format=None, kind="unservable"),
    "only pth": Shape({"consolidated.00.pth"}, set(), format=None, kind="unservable"),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_rule_takes_what_vllm_loads_and_nothing_else(shape: Shape) -> None:
    sizes = dict.fromkeys(shape.files | TEXT | EXTRA | BALLAST, 1)
    found = selection.select(sizes, shape.documents, variant=shape.variant)
    assert found.names == shape.weights | shape.more | TEXT | EXTRA
    assert set(found.weights) == shape.weights
    assert (found.format, found.kind) == (shape.format, shape.kind)


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
    choices = selection.gguf_choices(dict.fromkeys(names, 1))
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
    found = selection.select(sizes, {"model.safetensors.index.json": INDEX})
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
