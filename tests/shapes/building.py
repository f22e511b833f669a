"""Shapes as files on a disk: small, valid, and every weight file with a number of its own."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from modelctl.share.safetensors import Tensor, encode
from tests.shapes.shape import Shape

# The judge makes pickles of them, which takes torch.
PICKLES = (".bin", ".pt", ".pth")
_CODE = {
    "configuration_x.py": "from transformers import PreTrainedConfig\n\nfrom .helper import WIDTH\n\n\n"
    'class XConfig(PreTrainedConfig):\n    model_type = "x"\n    width = WIDTH\n',
    "helper.py": "WIDTH = 3\n",
}
_TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "word": 1}, "unk_token": "[UNK]"},
}
_TEXT: Mapping[str, object] = {
    "tokenizer.json": _TOKENIZER,
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"},
    "generation_config.json": {"max_length": 7},
}


def build(shape: Shape, folder: Path) -> dict[str, int]:
    """Write all files of a shape; the answer is the number of each weight file."""
    weights = {name: at for at, name in enumerate(sorted(shape.all_files), 1) if _is_weight(name)}
    for name in shape.all_files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_tensors(shape, name, weights[name]) if name in weights else _text(shape, name))
    return weights


def link(names: frozenset[str], whole: Path, folder: Path) -> None:
    """Put some files of a repository into a folder as a snapshot has them: as links."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(whole / name)


def _is_weight(name: str) -> bool:
    return name.endswith((".safetensors", *PICKLES)) and not name.rpartition("/")[2].startswith(".")


def _tensors(shape: Shape, name: str, number: int) -> bytes:
    tensor = Tensor("F32", (1, 1), struct.pack("<f", number))
    return encode(dict.fromkeys(_tensor_names(shape, name), tensor))


def _tensor_names(shape: Shape, name: str) -> list[str]:
    if "adapter_model" in name:
        return [f"base_model.model.layers.0.self_attn.q_proj.lora_{half}.weight" for half in "AB"]
    for document in shape.documents.values():
        weight_map = document.get("weight_map") if isinstance(document, dict) else None
        if placed := [tensor for tensor, shard in (weight_map or {}).items() if shard == name]:
            return placed
    return ["linear.weight"]


def _text(shape: Shape, name: str) -> bytes:
    base = name.rpartition("/")[2]
    if name.endswith(".json"):
        document = shape.content.get(name, _TEXT.get(base, {}))
        return b"{" if document is None else json.dumps(document).encode()
    return _CODE.get(base, f"{name}\n").encode()
