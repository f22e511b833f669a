"""Whether vLLM can serve a checkpoint, as far as its files tell: wholeness is another question."""

import shlex
from collections.abc import Collection, Iterator

from modelctl import loader
from modelctl.store import checkpoint
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.model import Facts, Problem

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_TOKENIZER_SUFFIXES = (".tiktoken", ".model", ".spm")


def of(found: Checkpoint, facts: Facts) -> tuple[bool | None, tuple[Problem, ...]]:
    """Whether vLLM can serve it (`None`: nothing tells), and a problem for each reason why not."""
    problems = tuple(_obstacles(found, facts))
    if problems:
        return False, problems
    return (True if facts.architecture or facts.task else None), ()


def _obstacles(found: Checkpoint, facts: Facts) -> Iterator[Problem]:
    chosen = found.selection
    if chosen.kind == "unservable":
        yield Problem("unservable", f"vLLM cannot serve it: {chosen.note}")
        return
    if chosen.kind == "gguf":
        yield Problem("gguf", "vLLM serves GGUF files with the plugin `vllm-gguf-plugin` only")
        return
    if chosen.kind == "lora":
        base = _base_model(found)
        beside = f"`{base}`, the model" if base else "the model"
        yield Problem("lora", f"it is a LoRA adapter, which vLLM serves together with {beside} it was made for")
        return
    if not {"config.json", "params.json"} & found.files.keys():
        yield Problem("no_config", "vLLM cannot serve it without a `config.json`")
    elif "config.json" in found.files and not isinstance(found.documents.get("config.json"), dict):
        yield Problem("config", "its `config.json` is no JSON object")
    yield from _stumbling(found)
    if facts.task == "generate" and not any(_is_tokenizer(name) for name in found.files):
        yield Problem("no_tokenizer", "vLLM cannot serve it without a tokenizer, and it has none")


def _stumbling(found: Checkpoint) -> Iterator[Problem]:
    """What lies beside the files that vLLM should load and keeps it from loading them, or makes it load others."""
    weights = found.selection.weights
    if found.selection.missing or all("/" in name for name in weights):
        # Of a single architecture, which looks for its weights elsewhere than the loader does.
        return
    taken = loader.take(found.files, found.documents)
    if taken.refused:
        yield Problem("beside", f"vLLM {taken.refused}", _without(found, taken.culprits))
        return
    strange = [
        name for name in taken.names if name not in weights and name.startswith(("adapter_model", "consolidated"))
    ]
    if strange:
        kind = "an adapter" if strange[0].startswith("adapter_model") else "Mistral's own format"
        message = f"vLLM loads `{strange[0]}` too, which is {kind}, and fails at the names of its tensors"
        yield Problem("beside", message, _without(found, strange))


def _without(found: Checkpoint, names: Collection[str]) -> str | None:
    """The command that takes entries out of the snapshot, and leaves their contents to `modelctl prune`."""
    return f"rm {' '.join(shlex.quote(found.files[name].entry) for name in sorted(names))}" if names else None


def _is_tokenizer(name: str) -> bool:
    return "/" not in name and (name in _TOKENIZERS or name.endswith(_TOKENIZER_SUFFIXES))


def _base_model(found: Checkpoint) -> str | None:
    adapter = checkpoint.document(found.files, "adapter_config.json")
    base = adapter.get("base_model_name_or_path") if isinstance(adapter, dict) else None
    return base if isinstance(base, str) and base else None
