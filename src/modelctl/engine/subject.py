"""What is handed over to another system: a model with its settings, and the document that comes of it (pure)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelctl.engine import memory
from modelctl.engine.command import Lora
from modelctl.engine.profile import Value


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to hand over: what it is called, where it lies, and the flags that its profile gives vLLM.

    `hub` is the hub folder that it lies in, `folder` the project's, `size` the bytes of its snapshot. `on_hub` says
    whether its commit can be fetched from a Hub. `files` are those of this machine that `flags` name, `image` the
    container image that the profile does.
    """

    id: str
    commit: str
    snapshot: Path
    hub: Path
    folder: Path
    size: int
    on_hub: bool
    names: tuple[str, ...]
    host: str
    port: int
    with_key: bool
    image: str | None = None
    loras: tuple[Lora, ...] = ()
    max_lora_rank: int | None = None
    flags: Mapping[str, Value] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    nodes: Mapping[str, Value] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """Its name as Kubernetes and compose allow one."""
        words = re.sub(r"[^a-z0-9]+", "-", self.id.rpartition("/")[2].lower()).strip("-")
        return words[:52].rstrip("-") if words[:1].isalpha() else f"m-{words}"[:52].rstrip("-")

    @property
    def gpus(self) -> int:
        """How many it is divided among."""
        sizes = [
            memory.context_length(str(self.flags.get(f"{name}-parallel-size", 1))) for name in ("tensor", "pipeline")
        ]
        return (sizes[0] or 1) * (sizes[1] or 1)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A document, how it is used, and what of the settings has no place in it."""

    document: Mapping[str, Any]
    usage: str
    notes: tuple[str, ...] = ()
