"""The draft model of a speculative decoding, which `--speculative-config` names: vLLM looks for it by itself."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from modelctl import loader, selection
from modelctl import project as projects
from modelctl.engine import flags
from modelctl.errors import ModelctlError, NotFoundError, NotWholeError
from modelctl.project import Project
from modelctl.store import layout, reading, scan

_FLAG = "--speculative-config"


def weights(project: Project, extra: Iterable[str], *, target: str) -> int:
    """Bytes of the weights of a draft beside the model `target`, 0 where there is none or it is not known.

    `NotFoundError` for one that vLLM will not find, since without the network it looks into the project's own store
    alone; `NotWholeError` where not all of it is here. With the network nothing is refused.
    """
    name = _named(tuple(extra))
    # A model that predicts several tokens by layers of its own is its own draft.
    if name is None or _model(name) == target:
        return 0
    if os.path.exists(name):  # noqa: PTH110 - as vLLM
        return _in_folder(Path(name))
    # Words without a slash are vLLM's own, as `ngram`.
    if "/" not in name or projects.is_online(project):
        return 0
    try:
        model, ref = scan.find(project, name)
    except NotFoundError as error:
        error.message += " (the draft model)"
        raise
    except ModelctlError:
        # No name of a model: what it is, vLLM will say.
        return 0
    if model.state != "ready":
        raise NotWholeError(f"the draft model `{ref}` is {model.state}", hint=f"`modelctl pull {ref}` mends it")
    if model.location != "project" or model.id != name:
        folder = shlex.quote(str(scan.revision_of(model, ref.revision).path.absolute()))
        raise NotFoundError(
            f"vLLM does not find the draft model `{name}` by that name", hint=f"give its folder, {folder}"
        )
    return model.facts.weights or 0


def _in_folder(folder: Path) -> int:
    """Bytes of the files that vLLM would load, 0 where this user may not look."""
    try:
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    except OSError:
        return 0
    documents = {
        name: reading.document(folder / name)
        for name in (selection.SAFETENSORS_INDEX, selection.MISTRAL_INDEX)
        if name in sizes
    }
    return sum(sizes[name] for name in loader.take(sizes, documents).names)


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
