"""Whether vLLM can serve a checkpoint, as far as its files tell: wholeness is another question."""

from collections.abc import Iterator

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
    if facts.task == "generate" and not any(_is_tokenizer(name) for name in found.files):
        yield Problem("no_tokenizer", "vLLM cannot serve it without a tokenizer, and it has none")


def _is_tokenizer(name: str) -> bool:
    return "/" not in name and (name in _TOKENIZERS or name.endswith(_TOKENIZER_SUFFIXES))


def _base_model(found: Checkpoint) -> str | None:
    adapter = checkpoint.document(found.files, "adapter_config.json")
    base = adapter.get("base_model_name_or_path") if isinstance(adapter, dict) else None
    return base if isinstance(base, str) and base else None
