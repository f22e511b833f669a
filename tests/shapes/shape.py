"""What a repository can look like, and what is to be said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 4096}


def names(*those: str) -> frozenset[str]:
    return frozenset(those)


NONE = names()
# What every repository has, unless its shape lacks it, ...
TEXT = names("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md", "LICENSE")
# ... and what repositories carry beside, and vLLM never reads.
BALLAST = names(
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
)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What one architecture of vLLM wants beside, or instead of, the weights at the root.

    `module` is where vLLM implements it, `literal` what its source says of the file. `pattern` and `subfolder` go to
    the loader of weights, `instead` of the root; `file` is read by its path.
    """

    module: str
    literal: str
    pattern: str | None = None
    subfolder: str | None = None
    file: str | None = None
    instead: bool = False


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A repository, and what of it is to be fetched beside the text that every repository has.

    `documents` are its JSON files, as far as their content matters. `whole` is what vLLM's loader makes of all of the
    repository where that is not `weights`: other files, or the name of its error. `refused` is its error over the
    selected files. `why` explains either; `unjudged` says why the CPU build has no say.
    """

    files: frozenset[str]
    weights: frozenset[str] = NONE
    more: frozenset[str] = NONE
    lacks: frozenset[str] = NONE
    missing: frozenset[str] = NONE
    documents: Mapping[str, object] = field(default_factory=dict)
    format: str | None = "safetensors"
    kind: str = "model"
    variant: str | None = None
    asks: tuple[Ask, ...] = ()
    whole: frozenset[str] | str | None = None
    refused: str | None = None
    why: str = ""
    unjudged: str = ""

    @property
    def all_files(self) -> frozenset[str]:
        return (self.files | TEXT | BALLAST) - self.lacks

    @property
    def wanted(self) -> frozenset[str]:
        return (self.weights | self.more | TEXT) - self.lacks

    @property
    def content(self) -> dict[str, object]:
        """The JSON documents, with a configuration that vLLM reads."""
        return {"config.json": CONFIG, **self.documents}


def of_architecture(name: str, **more: object) -> dict[str, object]:
    """A configuration of this architecture."""
    return {**CONFIG, "architectures": [name], **more}


def index(*shards: str) -> dict[str, object]:
    """An index that places one tensor in each shard."""
    return {"metadata": {}, "weight_map": {f"tensor{at}": shard for at, shard in enumerate(shards)}}
