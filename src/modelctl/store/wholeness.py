"""Whether a revision is whole: every selected file there, of the right size, and its weights well formed."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from modelctl.selection import MISTRAL_INDEX, SAFETENSORS_INDEX
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.header import Damage, Header
from modelctl.store.layout import is_digest
from modelctl.store.model import Problem, State, StoredFile
from modelctl.store.tree import TreeFile

_SHARD = re.compile(r"(?P<stem>.*-)(?P<number>\d{5})-of-(?P<count>\d{5})(?P<rest>\.[a-z.]+)")
# Of all frameworks: what vLLM does not load is whole all the same.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".tflite")


class Verdict(NamedTuple):
    """The state of a revision, and why.

    `done` of `total` bytes have their entry in the snapshot (`total` is `None` where no listing tells); `missing` names
    the selected files that have none.
    """

    state: State
    done: int
    total: int | None
    missing: tuple[str, ...]
    problems: tuple[Problem, ...]


def judge(
    checkpoint: Checkpoint,
    *,
    listing: Mapping[str, TreeFile] | None,
    wanted: Collection[str] | None,
    unfinished: bool,
    pull: str | None,
    mend: str | None = None,
) -> Verdict:
    """Judge a checkpoint by its commit's listing, or where there is none by itself.

    `wanted` names the files that a recorded pull is to bring, where that is not the selection. `unfinished`: there are
    contents that some tool has not finished. `pull` is the command that fetches the revision, `mend` the one that
    fetches again what is wrong with it.
    """
    names = checkpoint.selection.names if wanted is None else frozenset(wanted)
    entries = [checkpoint.files[name] for name in sorted(names) if name in checkpoint.files]
    missized = {} if listing is None else _missized(entries, listing)
    # An import may have been asked for with it.
    force = f"{pull.removesuffix(' --force')} --force" if pull else None
    broken = [
        *_dangling(entries, fix=pull),
        *(Problem("size", message, mend) for message in missized.values()),
        *_malformed(checkpoint.headers, known=missized, fix=mend),
        *_unreadable_index(checkpoint, fix=mend),
        *_unindexed(checkpoint, fix=mend if _has_hashes(checkpoint, listing) else force),
        *_lacking(checkpoint, listing=listing),
    ]
    missing = _missing(names, checkpoint, listing=listing)
    partial = [
        *_incomplete(missing, len(names), pull),
        *_without_weights(checkpoint, listing, unfinished=unfinished, fix=pull),
    ]
    if not partial and not checkpoint.files:
        broken.append(Problem("empty", "its snapshot has no files", pull))
    state: State = "broken" if broken else "partial" if partial else "ready"
    done = sum({file.content: file.size or 0 for file in entries}.values())
    return Verdict(state, done, _total(names, listing), missing, (*broken, *partial))


def listed(names: Collection[str]) -> str:
    """Some names of many: `a`, `b` and 3 more."""
    if len(names) > 3:
        first = sorted(names)[:2]
        return f"{', '.join(f'`{name}`' for name in first)} and {len(names) - 2} more"
    return " and ".join(", ".join(f"`{name}`" for name in sorted(names)).rsplit(", ", 1))


def _total(names: Collection[str], listing: Mapping[str, TreeFile] | None) -> int | None:
    if listing is None:
        return None
    return sum({listing[name].digest: listing[name].size for name in names if name in listing}.values())


def _missing(
    names: Collection[str], checkpoint: Checkpoint, *, listing: Mapping[str, TreeFile] | None
) -> tuple[str, ...]:
    """The files that should have an entry and have none."""
    absent = {name for name in names if name not in checkpoint.files}
    if listing is None:
        absent |= {*checkpoint.selection.missing, *_siblings(checkpoint.selection.weights)}
    return tuple(sorted(absent - checkpoint.files.keys()))


def _siblings(weights: Iterable[str]) -> Iterable[str]:
    """All the parts of a model of which one is there: `model-00001-of-00003.safetensors` tells of two others."""
    for name in weights:
        if match := _SHARD.fullmatch(name):
            count = min(int(match["count"]), 10_000)
            yield from (f"{match['stem']}{at:05}-of-{match['count']}{match['rest']}" for at in range(1, count + 1))


def _incomplete(missing: tuple[str, ...], count: int, fix: str | None) -> Iterable[Problem]:
    if len(missing) == 1:
        yield Problem("missing", f"{listed(missing)} is missing", fix)
    elif missing:
        yield Problem("missing", f"{len(missing)} of {max(count, len(missing))} files are missing", fix)


def _without_weights(
    checkpoint: Checkpoint, listing: Mapping[str, TreeFile] | None, *, unfinished: bool, fix: str | None
) -> Iterable[Problem]:
    """A repository that has weights, of which none came here."""
    chosen = checkpoint.selection
    if chosen.kind == "gguf" and not chosen.weights:
        example = fix and f"{fix}:{min(chosen.choices)}"
        yield Problem("missing", f"none of its {len(chosen.choices)} quantisations is here", example)
    elif listing is None and not chosen.weights and unfinished:
        yield Problem("unfinished", "its weights have not arrived: the download was interrupted, or still runs", fix)
    elif listing is None and not chosen.weights and _speaks_of_weights(checkpoint):
        yield Problem("missing", "none of its weights is here", fix)


def _speaks_of_weights(checkpoint: Checkpoint) -> bool:
    """Whether there is the configuration of a model, and no weights of any kind, as tools leave it that only look."""
    config = checkpoint.documents.get("config.json")
    is_model = isinstance(config, dict) and bool(config.get("architectures") or config.get("model_type"))
    return is_model and not any(name.endswith(_WEIGHTS) for name in checkpoint.files)


def _dangling(entries: Iterable[StoredFile], *, fix: str | None) -> Iterable[Problem]:
    names = [file.name for file in entries if file.size is None]
    if names:
        verb = "leads" if len(names) == 1 else "lead"
        yield Problem("dangling", f"{listed(names)} {verb} to no content in this store", fix)


def _missized(entries: Iterable[StoredFile], listing: Mapping[str, TreeFile]) -> dict[str, str]:
    return {
        file.name: f"`{file.name}` has {file.size} bytes instead of {listing[file.name].size}"
        for file in entries
        if file.size is not None and file.name in listing and file.size != listing[file.name].size
    }


def _malformed(
    headers: Mapping[str, Header | Damage | None], *, known: Collection[str], fix: str | None
) -> Iterable[Problem]:
    for name, header in sorted(headers.items()):
        if isinstance(header, Damage) and name not in known:
            yield Problem("damaged", f"`{name}` {header.message}", fix)


def _unreadable_index(checkpoint: Checkpoint, *, fix: str | None) -> Iterable[Problem]:
    """An index that is none: vLLM follows it all the same, and fails."""
    for name in (SAFETENSORS_INDEX, MISTRAL_INDEX):
        file = checkpoint.files.get(name)
        is_there = file is not None and file.content is not None and name in checkpoint.selection.names
        if is_there and not isinstance(checkpoint.documents.get(name), dict):
            yield Problem("damaged", f"`{name}` is no JSON object", fix)


def _unindexed(checkpoint: Checkpoint, *, fix: str | None) -> Iterable[Problem]:
    """Tensors that the index promises and a shard does not hold. vLLM may serve such a model, wrongly."""
    index = next((name for name in checkpoint.selection.names if name.endswith(".safetensors.index.json")), None)
    document = checkpoint.documents.get(index) if index else None
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    absent: dict[str, list[str]] = {}
    for tensor, shard in weight_map.items() if isinstance(weight_map, dict) else ():
        header = checkpoint.headers.get(shard) if isinstance(shard, str) else None
        if isinstance(header, Header) and header.is_read and tensor not in header.names:
            absent.setdefault(shard, []).append(tensor)
    for shard, tensors in sorted(absent.items()):
        yield Problem("tensors", f"`{shard}` lacks {listed(tensors)}, which `{index}` places there", fix)


def _has_hashes(checkpoint: Checkpoint, listing: Mapping[str, TreeFile] | None) -> bool:
    """Whether the contents of the weights can be proven: by the commit's list, or by what the blobs are called."""
    contents = [checkpoint.files[name].content for name in checkpoint.headers]
    return listing is not None or all(is_digest(os.path.basename(content or "")) for content in contents)  # noqa: PTH119 - as in StoredFile


def _lacking(checkpoint: Checkpoint, *, listing: Mapping[str, TreeFile] | None) -> Iterable[Problem]:
    """Shards that the index names and the repository itself does not have: no pull can bring them."""
    if listing is not None and checkpoint.selection.missing:
        names = listed(checkpoint.selection.missing)
        yield Problem("incomplete", f"its index names {names}, which the repository itself does not have")
