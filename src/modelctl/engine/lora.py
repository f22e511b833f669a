"""LoRA adapters served beside a model: found in the store or on the disk, and looked at before vLLM is."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modelctl.engine.command import Lora
from modelctl.errors import ModelctlError, NotFoundError, NotWholeError, UsageError
from modelctl.project import Project
from modelctl.store import reading, scan

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
# What vLLM's kernels are built for; the first is not its default.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_DEFAULT_RANK = 16


def parsed(words: Iterable[str]) -> dict[str, str]:
    """The adapters of `--lora NAME=REPO|PATH`, by their names."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, where = word.partition("=")
        if not (name.strip() and equals and where.strip()):
            raise UsageError(f"`--lora {word}` names no adapter", hint="write it as `--lora NAME=REPO` or `NAME=PATH`")
        if name in found:
            raise UsageError(f"two adapters are called `{name}`", hint="a request names an adapter by its name")
        found[name] = where
    return found


def resolved(project: Project, wanted: Mapping[str, str], *, folder: Path) -> tuple[Lora, ...]:
    """The adapters in their folders; a relative path is meant from `folder`. Those of the store are whole."""
    return tuple(_resolved(project, name, where, folder) for name, where in wanted.items())


def max_rank(loras: Iterable[Lora]) -> int | None:
    """The `--max-lora-rank` that the adapters need; `None` where vLLM's own does."""
    most = max((lora.rank or 0 for lora in loras), default=0)
    if most <= _DEFAULT_RANK:
        return None
    rank = next((rank for rank in _RANKS if rank >= most), None)
    if rank is None:
        name = next(lora.name for lora in loras if lora.rank == most)
        raise ModelctlError(
            f"the adapter `{name}` has rank {most}, and vLLM takes at most {_RANKS[-1]}",
            hint="train it with a smaller rank, or merge it into its model",
        )
    return rank


def check_rank(loras: Iterable[Lora], most: int) -> None:
    """Refuse an adapter of a greater rank than the user lets vLLM take: `UsageError`."""
    for lora in loras:
        if lora.rank is not None and lora.rank > most:
            raise UsageError(
                f"the adapter `{lora.name}` has rank {lora.rank}, and `--max-lora-rank` is {most}",
                hint="leave it away: it is then as great as the adapters need",
            )


def _resolved(project: Project, name: str, where: str, folder: Path) -> Lora:
    if where.startswith(("/", "./", "../", "~")) or where in {".", ".."}:
        path = (folder / os.path.expanduser(where)).absolute()  # noqa: PTH111 - that of `Path` knows all users or fails
        if not path.is_dir():
            raise NotFoundError(
                f"the adapter `{name}` is not at `{path}`", hint="name its folder, or a model that is here"
            )
        return _checked(Lora(name=name, path=path), path)
    try:
        model, ref = scan.find(project, where)
    except NotFoundError as error:
        error.message += f" (the adapter `{name}`)"
        if (folder / where).is_dir():
            error.hint = f"for the folder write `--lora {name}=./{where}`"
        raise
    revision = scan.revision_of(model, ref.revision)
    if model.state != "ready" and revision.commit == scan.revision_of(model).commit:
        problem = model.problems[0] if model.problems else None
        why = f": {problem.message}" if problem else ""
        fix = (problem and problem.fix) or f"modelctl pull {ref}"
        raise NotWholeError(f"the adapter `{ref}` is {model.state}{why}", hint=f"`{fix}` mends it")
    lora = Lora(name=name, path=revision.path.absolute(), id=model.id, commit=revision.commit)
    return _checked(lora, f"{ref}")


def _checked(lora: Lora, shown: object) -> Lora:
    """The adapter with its rank, where vLLM can serve it."""
    config = reading.document(lora.path / _CONFIG)
    if not isinstance(config, dict):
        raise ModelctlError(
            f"`{shown}` is no LoRA adapter: it has no `{_CONFIG}`", hint="name an adapter made with PEFT"
        )
    if not any((lora.path / name).is_file() for name in _WEIGHTS):
        raise NotWholeError(f"the adapter `{shown}` has no weights", hint=f"vLLM looks for `{_WEIGHTS[0]}`")
    if (reason := _unsupported(config)) is not None:
        raise ModelctlError(
            f"vLLM cannot serve the adapter `{shown}`: {reason}", hint="merge it into its model, and serve that"
        )
    ranks = [config.get("r"), *_values(config.get("rank_pattern"))]
    return Lora(
        name=lora.name,
        path=lora.path,
        id=lora.id,
        commit=lora.commit,
        rank=max((rank for rank in ranks if type(rank) is int), default=None),
    )


def _unsupported(config: Mapping[str, Any]) -> str | None:
    if config.get("use_dora"):
        return "it is a DoRA adapter"
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        return "it changes biases"
    kind = config.get("peft_type", "LORA")
    return None if str(kind).upper() == "LORA" else f"it is of the kind {kind}"


def _values(pattern: object) -> list[Any]:
    return list(pattern.values()) if isinstance(pattern, dict) else []
