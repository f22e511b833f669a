"""What `modelctl.toml` says of serving: the defaults of `[serve]`, and a table for each model.

[serve]
port = 8001

[serve.models."Qwen/Qwen3-0.6B"]
max-model-len = "8k"
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelctl.engine import flags, paths

# A value of vLLM's command line; a table becomes JSON.
Value = str | int | float | bool | list[Any] | dict[str, Any]

# vLLM takes the items of a list as words after one flag; but of these it wants one flag each, or JSON.
REPEATED = {"middleware"}
AS_JSON = {"allowed-origins", "allowed-methods", "allowed-headers"}
# Flags without a `--no-` form: left out they are off.
ONLY_ON = {"disable-log-stats", "aggregate-engine-logging", "grpc", "data-parallel-multi-port-external-lb"}
# The keys that modelctl acts on itself, with the field of `Profile` that each becomes.
OWN = {
    "host": "host",
    "port": "port",
    "served-model-name": "served_names",
    "api-key-file": "api_key_file",
    "lora": "loras",
    "image": "image",
    "nnodes": "nnodes",
    "master-addr": "master_addr",
    "ray": "ray",
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The settings of one model: those that modelctl acts on, and vLLM's `flags` by their names without dashes.

    `loras` are adapters by the names that they get; relative paths among them are meant from `folder`, which is the
    project's. All other paths are absolute.
    """

    folder: Path
    host: str | None = None
    port: int | None = None
    served_names: tuple[str, ...] = ()
    api_key_file: Path | None = None
    loras: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    nnodes: int | None = None
    master_addr: str | None = None
    ray: bool = False
    flags: Mapping[str, Value] = field(default_factory=dict)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model needs no tokenizer of its own."""
        return any(self.flags.get(flag.removeprefix("--")) for flag in flags.TOKENIZER)

    def words(self, *, over: Iterable[str] = ()) -> tuple[str, ...]:
        """The flags as vLLM's command line takes them, without those that the words of `over` give."""
        given = {flags.full_name(word) for word in over if word.startswith("-")}
        return tuple(
            word for key, value in self.flags.items() if not _flags_of(key) & given for word in flag_words(key, value)
        )


@dataclass(frozen=True, slots=True)
class Profiles:
    """A `modelctl.toml` that was read and is in order; empty where there is none."""

    folder: Path
    defaults: Mapping[str, Value]
    models: Mapping[str, Mapping[str, Value]]

    def of(self, model_id: str) -> Profile:
        """What holds for a model: its own table over the defaults, key by key."""
        values = {**self.defaults, **self.models.get(model_id, {})}
        own: dict[str, Any] = {name: values.pop(key) for key, name in OWN.items() if key in values}
        names: str | Sequence[str] = own.pop("served_names", ())
        if "api_key_file" in own:
            own["api_key_file"] = self.folder / os.path.expanduser(own["api_key_file"])  # noqa: PTH111 - never fails
        names = (names,) if isinstance(names, str) else tuple(names)
        for key, value in values.items():
            if f"--{key}" in paths.FLAGS and isinstance(value, str):
                values[key] = paths.located(value, self.folder)
        return Profile(folder=self.folder, served_names=names, flags=values, **own)


def flag_words(key: str, value: Value) -> Iterator[str]:
    """A key and its value as vLLM's command line takes them."""
    match value:
        case False if key in ONLY_ON:
            return
        case bool():
            yield f"--{key}" if value else f"--no-{key}"
        case list() if key in REPEATED:
            yield from (word for each in value for word in (f"--{key}", _text(each)))
        case list() if key not in AS_JSON:
            yield from (f"--{key}", *(_text(each) for each in value))
        case _ if (text := _text(value)).startswith("-"):
            # Else it would be taken for a flag.
            yield f"--{key}={text}"
        case _:
            yield from (f"--{key}", text)


def _flags_of(key: str) -> set[str]:
    """What a flag is called on the command line: one that sets a part of it stands over it too."""
    return {f"--{key}", f"--no-{key}"}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
