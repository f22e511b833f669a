"""Asks vLLM's own code what it takes from folders. The interpreter of vLLM runs it; it knows nothing of modelctl.

In: a JSON list of questions. Out, into the file named first: the answers in the same order, and the modules of vLLM
that read files past its loader. The tensors of every weight file hold a number of its own, and so tell their origin.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import vllm
from safetensors.torch import load
from vllm.config.load import LoadConfig
from vllm.entrypoints.pooling.embed.io_processor import EmbedIOProcessor
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.weight_utils import get_sparse_attention_config
from vllm.model_executor.models.adapters import _load_dense_weights
from vllm.tokenizers.registry import get_tokenizer, resolve_tokenizer_args
from vllm.transformers_utils import config, processor, repo_utils

Json = Any
OPENED: list[str] = []
# How a model's module comes to weights that the loader does not choose by itself.
_BY_ITSELF = re.compile(
    r"allow_patterns_overrides|DefaultModelLoader\.Source|get_hf_file_bytes\(|subfolder=|\bload_file\("
)


def main(questions: list[Json]) -> Json:
    """Answer for each question's folder."""
    # vLLM reads a configuration again after two seconds, for the case that the network comes back.
    time.sleep = lambda _: None
    sys.addaudithook(lambda event, values: OPENED.append(str(values[0])) if event == "open" else None)
    for question in questions:
        for name in question["pickles"]:
            path = Path(question["folder"], name)
            torch.save(load(path.read_bytes()), path)
    answers = [answer(question["folder"], question["kind"], question["asks"]) for question in questions]
    return {"answers": answers, "by_itself": by_itself()}


def by_itself() -> list[str]:
    """The modules of models that load something beside the loader's choice."""
    package = Path(vllm.__file__).parent
    sources = [path for folder in ("model_executor/models", "models") for path in (package / folder).rglob("*.py")]
    return sorted(path.stem for path in sources if _BY_ITSELF.search(path.read_text(encoding="utf-8")))


def answer(folder: str, kind: str, asks: list[Json]) -> Json:
    """What vLLM takes from a folder, as a model or an adapter, and which of its files it opened for it."""
    OPENED.clear()
    instead = [wanted["pattern"] for wanted in asks if wanted.pop("instead")] or [None]
    taken = attempt(partial(adapter, folder) if kind == "lora" else partial(model, folder, pattern=instead[0]))
    asked = [attempt(partial(ask, folder, **wanted)) for wanted in asks]
    told = {name: attempt(partial(tell, folder)) for name, tell in TOLD.items()}
    start = f"{folder}{os.sep}"
    opened = sorted({path.removeprefix(start) for path in OPENED if path.startswith(start)})
    plain: Json = json.loads(json.dumps({"asked": asked, "told": told}, default=repr).replace(folder, "FOLDER"))
    return {**taken, **plain, "opened": opened}


def attempt(step: Callable[[], Json]) -> Json:
    """What a step gives, or the name of its error."""
    try:
        return step()
    except Exception as exc:  # noqa: BLE001 - any error is vLLM's answer
        return {"error": type(exc).__name__, "message": str(exc)}


def model(folder: str, subfolder: str | None = None, pattern: str | None = None) -> Json:
    """The files that the loader chooses, and the numbers of those whose tensors it gives."""
    source = DefaultModelLoader.Source(folder, None, subfolder, allow_patterns_overrides=[pattern] if pattern else None)
    loader = DefaultModelLoader(LoadConfig(use_tqdm_on_load=False))
    overrides = source.allow_patterns_overrides
    _, paths, _, _ = loader._prepare_weights(folder, subfolder, None, source.fall_back_to_pt, overrides)
    tensors = [tensor for _, tensor in loader._get_weights_iterator(source)]
    return {"files": sorted(os.path.relpath(path, folder) for path in paths), "numbers": numbers(tensors)}


def adapter(folder: str) -> Json:
    """The numbers of the files from which the tensors of an adapter come."""
    helper = PEFTHelper.from_local_dir(folder, None)
    found = LoRAModel.from_local_checkpoint(folder, {"q_proj"}, helper, lora_model_id=1, device="cpu")
    tensors = [tensor for layer in found.loras.values() for tensor in (layer.lora_a, layer.lora_b)]
    return {"numbers": numbers(tensors)}


def ask(
    folder: str, *, module: str, literal: str, pattern: str | None, subfolder: str | None, file: str | None
) -> Json:
    """What an architecture gets of what it asks for, as long as its source speaks of it."""
    spec = find_spec(f"vllm.model_executor.models.{module}")
    if spec is None or spec.origin is None or literal not in Path(spec.origin).read_text(encoding="utf-8"):
        raise LookupError(f"{module} says nothing of {literal}")
    if file is None:
        return model(folder, subfolder, pattern)
    content = repo_utils.get_hf_file_bytes(file, folder)
    return hashlib.sha256(content).hexdigest() if content is not None else None


def numbers(tensors: Iterable[torch.Tensor]) -> list[int]:
    """The numbers that tensors hold."""
    return sorted({int(number) for tensor in tensors for number in tensor.flatten().tolist()})


def tokenizer(folder: str) -> Json:
    """How vLLM would tokenise, and with which templates it would put a chat into words."""
    mode = resolve_tokenizer_args(folder)[0]
    if mode != "hf":
        return mode
    found = get_tokenizer(folder, trust_remote_code=True)
    return [type(found).__name__, found.get_vocab(), found.chat_template]


def dense(folder: str) -> Json:
    """The layers after the pooling, with the numbers of their files."""
    layers = []
    for layer in config.try_get_dense_modules(folder) or ():
        linear = torch.nn.Linear(layer["in_features"], layer["out_features"], bias=False)
        torch.nn.init.zeros_(linear.weight)
        is_loaded = _load_dense_weights(linear, layer["folder"], named(folder))
        layers.append([layer, is_loaded, numbers([linear.weight])])
    return layers


def named(folder: str) -> Json:
    """As much of a model's configuration as the functions below look at."""
    return SimpleNamespace(model=folder, revision=None)


TOLD: dict[str, Callable[[str], Json]] = {
    "configuration": lambda folder: config.get_config(folder, trust_remote_code=True).to_dict(),
    "generation": lambda folder: config.try_get_generation_config(folder, trust_remote_code=True).to_dict(),
    "tokenizer": tokenizer,
    "processor": processor.get_processor_config,
    "image processor": config.get_hf_image_processor_config,
    "video processor": processor.get_video_processor_cls_name_from_config,
    "pooling": config.get_pooling_config,
    "sentences": config.get_sentence_transformer_tokenizer_config,
    "prompts": lambda folder: EmbedIOProcessor._load_st_prompts(folder, None),
    "dense": dense,
    "sparse attention": lambda folder: get_sparse_attention_config(named(folder), LoadConfig()),
}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(main(json.load(sys.stdin))), encoding="utf-8")
