"""What a revision says of itself: the files that vLLM would load, the JSON beside them, the headers of its weights."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from modelctl import selection
from modelctl.selection import Selection
from modelctl.store import reading, safetensors
from modelctl.store.header import Damage, Header
from modelctl.store.model import Revision, StoredFile
from modelctl.store.tree import TreeFile


class Checkpoint(NamedTuple):
    """A revision with what was read of it.

    `selection` is made from the commit's listing where there is one, else from the entries themselves. `headers` holds
    the selected weights that are there, `None` for formats that have none.
    """

    revision: Revision
    files: Mapping[str, StoredFile]
    documents: Mapping[str, Any]
    selection: Selection
    headers: Mapping[str, Header | Damage | None]


def read(revision: Revision, *, listing: Mapping[str, TreeFile] | None = None, headers: bool = True) -> Checkpoint:
    """Read a revision. `headers=False` leaves the weights alone."""
    files = {file.name: file for file in revision.files}
    sizes: dict[str, int | None] = {name: file.size for name, file in files.items()}
    if listing is not None:
        sizes = {name: file.size for name, file in listing.items()}
    documents = {name: document(files, name) for name in selection.deciding(sizes)}
    chosen = selection.select(sizes, documents)
    if chosen.kind == "gguf" and not chosen.weights:
        chosen = _chosen_by_presence(chosen, files, sizes, documents)
    weights = {name: files[name] for name in chosen.weights if name in files} if headers else {}
    return Checkpoint(revision, files, documents, chosen, {name: _header(file) for name, file in weights.items()})


def document(files: Mapping[str, StoredFile], name: str) -> Any:  # noqa: ANN401 - JSON values
    """The JSON value of one of a revision's files, `None` where it cannot be read as such."""
    file = files.get(name)
    return None if file is None or file.content is None else reading.document(file.content)


def _chosen_by_presence(
    chosen: Selection,
    files: Mapping[str, StoredFile],
    sizes: Mapping[str, int | None],
    documents: Mapping[str, Any],
) -> Selection:
    """Of several quantisations the one that was pulled: the most complete, and of those the largest."""

    def presence(label: str) -> tuple[float, int]:
        names = chosen.choices[label]
        there = [files[name].size or 0 for name in names if name in files]
        return len(there) / len(names), sum(there)

    label = max(chosen.choices, key=presence)
    if not presence(label)[0]:
        return chosen
    return selection.select(sizes, documents, variant=label)


def _header(file: StoredFile) -> Header | Damage | None:
    if file.content is None or file.size is None:
        return None
    if file.name.endswith(".safetensors"):
        return safetensors.read(file.content, file.size)
    if file.name.endswith(".gguf"):
        from modelctl.store import gguf

        return gguf.read(file.content, file.size)
    return Damage("is empty") if file.size == 0 else None
