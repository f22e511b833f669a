"""What a path means that a model is to be imported from: a plain folder, a GGUF file, a manifest of Ollama."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from modelctl import quantisations
from modelctl.errors import ModelctlError, NotAllowedError, NotFoundError, UsageError
from modelctl.store import changes, gguf, layout, plain, reading
from modelctl.store.header import Header
from modelctl.store.plain import Obstacle, PlainFile

Kind = Literal["folder", "gguf", "ollama"]
_PART = re.compile(r"(?P<stem>.+)(?P<part>-\d{5}-of-\d{5})")
_OLLAMA_BLOB = re.compile(r"sha256[-:]([0-9a-f]{64})")
_OLLAMA_LAYER = "application/vnd.ollama.image."


@dataclass(frozen=True, slots=True)
class Source:
    """A model outside of any store: its files under the names that they get, and what has the name of one and is none.

    A GGUF file whose name does not tell its quantisation gets one that does.
    """

    path: Path
    kind: Kind
    files: tuple[PlainFile, ...]
    obstacles: tuple[Obstacle, ...]


def find(path: Path, title: str, *, follow: bool = False, label: str | None = None) -> Source:
    """What lies at a path. Writes nothing.

    `title` is what a file is called that has no name of its own, `label` the quantisation of one that does not tell.
    `follow` also follows links that lead out of a folder.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        is_folder = real.is_dir()
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFoundError(f"there is no file or folder `{path}`", hint="look at the path with `ls -l`") from exc
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise NotFoundError(f"`{path}` is a link that leads in a circle", hint="take it away") from exc
        raise changes.translated(exc, doing="read") from exc
    if is_folder:
        _refuse_stores(real)
        return _source(path, "folder", plain.files(real, follow=follow), label)
    if not real.is_file():
        raise UsageError(f"`{path}` is neither a file nor a folder", hint="give a folder, or a GGUF file")
    start = reading.head(real, len(gguf.MAGIC))
    if start is None:
        raise NotAllowedError(f"`{path}` cannot be read", hint="import it as a user who may read it, or a copy of it")
    if start == gguf.MAGIC:
        return _source(path, "gguf", _with_its_parts(path, real, title), label)
    layers = _layers(reading.document(real))
    if layers is not None:
        return _source(path, "ollama", _ollama(real, layers, title), label)
    raise UsageError(
        f"`{path}` is no GGUF file", hint="for a model in any other format give the folder that its files lie in"
    )


def _source(path: Path, kind: Kind, found: Iterable[PlainFile | Obstacle], label: str | None) -> Source:
    files: list[PlainFile] = []
    obstacles: list[Obstacle] = []
    for one in found:
        if isinstance(one, PlainFile):
            files.append(one)
        else:
            obstacles.append(one)
    return Source(path, kind, tuple(_told(files, label)), tuple(obstacles))


def _refuse_stores(folder: Path) -> None:
    """Folders that hold models in another layout, each with its own way to be read."""
    if (folder / "manifests").is_dir() and (folder / "blobs").is_dir():
        manifests = folder / "manifests"
        raise UsageError(
            f"`{folder}` is a store of Ollama", hint=f"give the manifest of one model: `find {manifests} -type f`"
        )
    if layout.model_id(folder.name) is not None and (folder / "snapshots").is_dir():
        raise UsageError(
            f"`{folder}` is a model in the layout of a Hugging Face cache",
            hint="`modelctl migrate` brings it as it is; of a folder in its `snapshots/` the files can be imported",
        )


def _with_its_parts(path: Path, real: Path, title: str) -> Iterator[PlainFile | Obstacle]:
    """A GGUF file with the other parts of the model, and the projectors beside it that are its own."""
    name = path.name if path.suffix == ".gguf" else f"{title}.gguf"
    found = _OLLAMA_BLOB.fullmatch(path.name)
    yield plain.file(real, name, expected=found[1] if found else None)
    if path.suffix != ".gguf":
        return
    try:
        beside = sorted(each for each in path.parent.iterdir() if each.suffix == ".gguf" and each.name != path.name)
    except OSError:
        # What may not be listed may still be opened by its name.
        return
    part = _PART.fullmatch(path.stem)
    models = [each for each in beside if not quantisations.is_projector(each.name)]
    own = [each for each in models if part and _is_part_of(part, each.stem)]
    title_of_all = {_title(each) for each in [path, *models]}
    for each in [*own, *(each for each in beside if quantisations.is_projector(each.name))]:
        if each in own or len(title_of_all) == 1 or _title(path) in each.name.lower():
            yield plain.file(each, each.name)


def _is_part_of(part: re.Match[str], stem: str) -> bool:
    other = _PART.fullmatch(stem)
    return other is not None and other["stem"] == part["stem"] and other["part"][-5:] == part["part"][-5:]


def _title(path: Path) -> str:
    """A GGUF file's name without what tells the quantisations and the parts of one model apart."""
    part = _PART.fullmatch(path.stem)
    stem = part["stem"] if part else path.stem
    label = quantisations.label(f"{stem}.gguf")
    return (stem[: stem.upper().rindex(label)] if label else stem).rstrip("-._").lower()


def _told(files: list[PlainFile], label: str | None) -> Iterator[PlainFile]:
    """The files, GGUF files under names that tell their quantisation, as far as anything does."""
    labels: dict[str, str | None] = {}
    taken = {one.name for one in files}
    for one in sorted(files, key=lambda one: one.name):
        base = one.name.rsplit("/", 1)[-1]
        if not base.endswith(".gguf") or quantisations.is_projector(base) or quantisations.label(base):
            yield one
            continue
        stem = one.name.removesuffix(".gguf")
        part = _PART.fullmatch(stem)
        stem, number = (part["stem"], part["part"]) if part else (stem, "")
        if stem not in labels:
            # Of several parts the first has the metadata.
            labels[stem] = _file_type(one) or label
        name = f"{stem}-{labels[stem]}{number}.gguf"
        yield replace(one, name=name) if labels[stem] and name not in taken else one


def _file_type(one: PlainFile) -> str | None:
    header = gguf.read(one.path, one.size)
    kind = header.metadata.get("general.file_type") if isinstance(header, Header) else None
    return gguf.FILE_TYPES.get(kind) if isinstance(kind, int) else None


def _layers(manifest: Any) -> list[tuple[str, str]] | None:  # noqa: ANN401 - JSON values
    """Kind and SHA-256 of each layer of an Ollama manifest, `None` where a document is none."""
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    if not isinstance(layers, list):
        return None
    found = []
    for layer in layers:
        match layer:
            case {"mediaType": str(kind), "digest": str(digest)} if kind.startswith(_OLLAMA_LAYER):
                if sha256 := _OLLAMA_BLOB.fullmatch(digest):
                    found.append((kind.removeprefix(_OLLAMA_LAYER), sha256[1]))
    return found or None


def _ollama(manifest: Path, layers: list[tuple[str, str]], title: str) -> Iterator[PlainFile | Obstacle]:
    """The GGUF files that a manifest names: `models/manifests/...` lies beside `models/blobs`."""
    root = next((folder for folder in manifest.parents if folder.name == "manifests"), None)
    if root is None:
        raise UsageError(
            f"`{manifest}` is a manifest of Ollama that does not lie in its store, so its blobs cannot be found",
            hint="give the one below `models/manifests`",
        )
    models = [digest for kind, digest in layers if kind == "model"]
    if len(models) != 1:
        raise ModelctlError(
            f"`{manifest}` names {len(models) or 'no'} GGUF files where one is expected",
            hint="where it was made from safetensors, import the folder that those lie in",
        )
    names = {"model": f"{title}.gguf", "projector": f"mmproj-{title}.gguf"}
    for kind, digest in layers:
        if kind in names:
            yield plain.file(root.parent / "blobs" / f"sha256-{digest}", names[kind], expected=digest)
