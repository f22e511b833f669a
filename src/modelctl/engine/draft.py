"""The draft model of a speculative decoding, which `--speculative-config` names: vLLM looks for it by itself."""

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelctl import loader, selection
from modelctl import project as projects
from modelctl.engine import flags
from modelctl.errors import ModelctlError, NotFoundError, NotWholeError
from modelctl.project import Project
from modelctl.store import layout, reading, scan

_FLAG = "--speculative-config"
# What drafts without attention, and so without a cache.
_CACHELESS = {"medusa", "mlp_speculator"}
# Where those that have one keep the configuration of their layers: EAGLE's heads, and those that `speculators` made.
_WITHIN = ("model", "transformer_layer_config")


class Draft(NamedTuple):
    """What decides how much memory a draft takes: bytes of its weights, and the configuration of its layers.

    It is empty where they keep no cache.
    """

    weights: int
    config: Mapping[str, Any]


def of(project: Project, extra: Iterable[str], *, target: str) -> Draft | None:
    """The draft beside the model `target`; `None` where there is none, or it is not known.

    `NotFoundError` for one that vLLM will not find, since without the network it looks into the project's own store
    alone; `NotWholeError` where not all of it is here. With the network nothing is refused.
    """
    name = _named(tuple(extra))
    # A model that predicts several tokens by layers of its own is its own draft.
    if name is None or _model(name) == target:
        return None
    if os.path.exists(name):  # noqa: PTH110 - as vLLM
        return _in_folder(Path(name))
    # Words without a slash are vLLM's own, as `ngram`.
    if "/" not in name or projects.is_online(project):
        return None
    try:
        model, ref = scan.find(project, name)
    except NotFoundError as error:
        error.message += " (the draft model)"
        raise
    except ModelctlError:
        # No name of a model: what it is, vLLM will say.
        return None
    if model.state != "ready":
        raise NotWholeError(f"the draft model `{ref}` is {model.state}", hint=f"`modelctl pull {ref}` mends it")
    folder = scan.revision_of(model, ref.revision).path
    if model.location != "project" or model.id != name:
        raise NotFoundError(
            f"vLLM does not find the draft model `{name}` by that name",
            hint=f"give its folder, {shlex.quote(str(folder.absolute()))}",
        )
    return Draft(model.facts.weights or 0, _config(folder))


def _in_folder(folder: Path) -> Draft | None:
    """The files that vLLM would load; `None` where this user may not look."""
    try:
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    except OSError:
        return None
    documents = {
        name: reading.document(folder / name)
        for name in (selection.SAFETENSORS_INDEX, selection.MISTRAL_INDEX)
        if name in sizes
    }
    return Draft(sum(sizes[name] for name in loader.take(sizes, documents).names), _config(folder))


def _config(folder: Path) -> Mapping[str, Any]:
    config = reading.document(folder / "config.json")
    if not isinstance(config, dict) or str(config.get("model_type")) in _CACHELESS:
        return {}
    within: Mapping[str, Any] = next((config[key] for key in _WITHIN if isinstance(config.get(key), dict)), {})
    return {**config, **within}


def model(extra: Iterable[str]) -> str | None:
    """The model that flags name as the draft, by its name or by its folder; or a way of vLLM's own, such as `ngram`."""
    name = _named(tuple(extra))
    return None if name is None else _model(name)


def _model(name: str) -> str:
    return layout.model_within(Path(name)) or name


def _named(extra: tuple[str, ...]) -> str | None:
    # vLLM takes single keys too: `--speculative-config.model acme/draft`.
    for at, word in enumerate(extra):
        flag, equals, value = word.partition("=")
        if flag.endswith(".model") and flags.full_name(flag) == _FLAG:
            return value if equals else next(iter(extra[at + 1 :]), None)
    if (name := flags.given(extra, "--spec-model")) is not None:
        return name
    config = reading.parsed((flags.given(extra, _FLAG) or "null").encode())
    name = config.get("model") if isinstance(config, dict) else None
    return name if isinstance(name, str) and name else None
