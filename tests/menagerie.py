"""Every malformed model that tools, disks and people leave in a store, each with the state that is the truth of it.

A kind is inflicted on a whole model of its own; `Kind.state` is what a listing then says, `None` where there is nothing
left to list.
"""

import json
import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from modelctl.store.layout import RepoPaths
from tests.checkpoints import CONFIG, generator, gguf, sharded, tensor, weights
from tests.stores import Files, StoreBuilder

WEIGHTS = "model.safetensors"
READY, PARTIAL, BROKEN = "ready", "partial", "broken"
State = str | None


@dataclass(frozen=True)
class Animal:
    """A whole model that something is about to happen to."""

    store: StoreBuilder
    id: str
    commit: str

    @property
    def paths(self) -> RepoPaths:
        return self.store.paths(self.id)

    def entry(self, name: str) -> Path:
        return self.paths.entry(self.commit, name)

    def blob(self, name: str) -> Path:
        return self.store.blob(self.id, name)

    @property
    def away(self) -> Path:
        """A place outside of the store that is this animal's alone."""
        return self.store.hub.parent.parent / "away" / self.id.replace("/", "--")


@dataclass(frozen=True)
class Kind:
    """One kind of malformed model: what is laid out, what is done to it, and what it is then."""

    state: State
    do: Callable[[Animal], object] = lambda _: None
    files: Files | None = None
    tree: bool = True

    def make(self, store: StoreBuilder, name: str) -> Animal:
        commit = store.add(name, files=generator() if self.files is None else self.files, tree=self.tree)
        animal = Animal(store, name, commit)
        animal.away.parent.mkdir(exist_ok=True)
        self.do(animal)
        return animal


def _replace(path: Path, put: Callable[[Path], object]) -> None:
    """Put something else where a path was."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    put(path)


def _socket(path: Path) -> None:
    # Sockets have short names only, so it is bound from its own folder.
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("s")
        Path("s").rename(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def _entry_becomes(name: str, put: Callable[[Path], object]) -> Callable[[Animal], object]:
    return lambda animal: _replace(animal.entry(name), put)


def _blob_becomes(name: str, put: Callable[[Path], object]) -> Callable[[Animal], object]:
    return lambda animal: _replace(animal.blob(name), put)


def _link_away(name: str) -> Callable[[Animal], object]:
    def do(animal: Animal) -> None:
        path = animal.entry(name)
        animal.away.write_bytes(path.read_bytes())
        _replace(path, lambda one: one.symlink_to(animal.away))

    return do


def _swap_for_a_copy(name: str) -> Callable[[Animal], object]:
    def do(animal: Animal) -> None:
        content = animal.entry(name).read_bytes()
        _replace(animal.entry(name), lambda path: path.write_bytes(content))

    return do


def _cut(name: str, by: int) -> Callable[[Animal], object]:
    def do(animal: Animal) -> None:
        blob = animal.blob(name)
        os.truncate(blob, max(0, blob.stat().st_size + by))

    return do


def entries() -> Iterator[tuple[str, Kind]]:
    """A file of the snapshot, or its content, is another thing than it was."""
    needed = ("config.json", "tokenizer.json", WEIGHTS, "README.md")
    # What vLLM does not load, nobody asks for.
    other = "tf_model.h5"
    files = {**generator(), other: b"x" * 10}
    puts: Mapping[str, Callable[[Path], object]] = {
        "a FIFO": os.mkfifo,
        "a socket": _socket,
        "a device": lambda path: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3)),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to nothing": lambda path: path.symlink_to("../../blobs/none"),
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    }
    for name in (*needed, other):
        bad = BROKEN if name in needed else READY
        half = PARTIAL if name in needed else READY
        kinds: dict[str, tuple[str, Callable[[Animal], object]]] = {
            **{f"{name} is {what}": (bad, _entry_becomes(name, put)) for what, put in puts.items()},
            f"{name} is a folder": (half, _entry_becomes(name, Path.mkdir)),
            f"{name} is gone": (half, _entry_becomes(name, lambda _: None)),
            f"{name} is a copy and no link": (READY, _swap_for_a_copy(name)),
            f"{name} leads out of the store": (bad, _link_away(name)),
            f"the content of {name} is gone": (bad, _blob_becomes(name, lambda _: None)),
            f"the content of {name} is a FIFO": (bad, _blob_becomes(name, os.mkfifo)),
            f"the content of {name} is a folder": (bad, _blob_becomes(name, Path.mkdir)),
            f"the content of {name} is cut": (bad, _cut(name, -1)),
            f"the content of {name} is longer": (bad, _cut(name, 1)),
            f"the content of {name} is empty": (bad, _cut(name, -(2**40))),
        }
        yield from ((what, Kind(state, do, files=files)) for what, (state, do) in kinds.items())


def folders() -> Iterator[tuple[str, Kind]]:
    """A folder of the repository is another thing than it was."""

    def at(part: str) -> Callable[[Animal], Path]:
        return lambda animal: animal.paths.snapshot(animal.commit) if part == "snapshot" else animal.paths.folder / part

    def becomes(part: str, put: Callable[[Path], object]) -> Callable[[Animal], object]:
        return lambda animal: _replace(at(part)(animal), put)

    def leads_away(part: str) -> Callable[[Animal], object]:
        def do(animal: Animal) -> None:
            path = at(part)(animal)
            shutil.copytree(path, animal.away, symlinks=True)
            _replace(path, lambda one: one.symlink_to(animal.away))

        return do

    puts: Mapping[str, Callable[[Path], object]] = {
        "gone": lambda _: None,
        "a file": lambda path: path.write_text("x"),
        "a FIFO": os.mkfifo,
        "a link to nothing": lambda path: path.symlink_to("nowhere"),
        "a link to itself": lambda path: path.symlink_to(path.name),
    }
    harmless = {"refs", "trees"}
    for part, (what, put) in product(("blobs", "snapshots", "snapshot", "refs", "trees"), puts.items()):
        yield f"{part} is {what}", Kind(READY if part in harmless else BROKEN, becomes(part, put))
    for part in ("blobs", "snapshots", "snapshot", "refs", "trees"):
        yield f"{part} is a link to elsewhere", Kind(READY if part in harmless else BROKEN, leads_away(part))
    yield "the snapshot is empty", Kind(PARTIAL, becomes("snapshot", Path.mkdir))
    yield "the snapshot is empty, and nothing lists it", Kind(BROKEN, becomes("snapshot", Path.mkdir), tree=False)
    yield "blobs is empty", Kind(BROKEN, becomes("blobs", Path.mkdir))
    yield "refs is empty", Kind(READY, becomes("refs", Path.mkdir))
    yield "the whole folder is empty", Kind(BROKEN, lambda animal: _replace(animal.paths.folder, Path.mkdir))
    yield (
        "the whole folder is a file",
        Kind(BROKEN, lambda one: _replace(one.paths.folder, lambda p: p.write_text("x"))),
    )
    yield "the whole folder is a FIFO", Kind(BROKEN, lambda animal: _replace(animal.paths.folder, os.mkfifo))
    yield (
        "the whole folder leads nowhere",
        Kind(BROKEN, lambda one: _replace(one.paths.folder, lambda p: p.symlink_to("none"))),
    )
    yield (
        "the whole folder leads to itself",
        Kind(BROKEN, lambda one: _replace(one.paths.folder, lambda p: p.symlink_to(p.name))),
    )
    yield "the whole folder is gone", Kind(None, lambda animal: shutil.rmtree(animal.paths.folder))


def refs() -> Iterator[tuple[str, Kind]]:
    """What names a revision names something else."""

    def main(content: bytes) -> Callable[[Animal], object]:
        return lambda animal: animal.paths.ref("main").write_bytes(content)

    yield "an empty ref", Kind(READY, main(b""))
    yield "a ref of no text", Kind(READY, main(b"\xff\xfe\x00"))
    yield "a ref to a commit that is not here", Kind(READY, main(b"0" * 40))
    yield "a ref out of the store", Kind(READY, main(b"../../../../etc"))
    yield "a ref of a megabyte", Kind(READY, main(b"0" * 2**20))
    yield "a ref with a newline", Kind(READY, lambda one: main(f"{one.commit}\n".encode())(one))
    yield "a ref that is a FIFO", Kind(READY, lambda animal: _replace(animal.paths.ref("main"), os.mkfifo))
    yield "a ref that is a folder", Kind(READY, lambda animal: _replace(animal.paths.ref("main"), Path.mkdir))
    yield (
        "a ref that leads out",
        Kind(READY, lambda one: _replace(one.paths.ref("main"), lambda p: p.symlink_to("/etc/hostname"))),
    )
    yield "a hidden ref", Kind(READY, lambda animal: (animal.paths.refs / ".lock").write_text("x"))
    yield "refs as deep as can be", Kind(READY, _deep_ref)


def _deep_ref(animal: Animal) -> None:
    folder = animal.paths.refs.joinpath(*(["pr"] * 60))
    folder.mkdir(parents=True)
    (folder / "1").write_text(animal.commit)


def _raw(header: bytes, data: int = 8, *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(data)


def _header(**tensors: object) -> bytes:
    return _raw(json.dumps(tensors).encode())


def _one(**changed: object) -> bytes:
    return _header(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changed})


def headers() -> Iterator[tuple[str, Kind]]:
    """Weights whose header is not true, whatever the listing says of their size."""
    good = _one()
    spoiled: Files = {
        "no bytes": b"",
        "seven bytes": good[:7],
        "a header of no length": struct.pack("<Q", 0),
        "a header longer than the file": _raw(b"{}", length=10**6),
        "a header longer than any": _raw(b"{}", length=2**63),
        "a header that is no JSON": _raw(b"{]"),
        "a header that is no text": _raw(b"\xff\xfe"),
        "a header that is a list": _raw(b"[]"),
        "a header that nests without end": _raw(b"[" * 100_000),
        "a header of zeros": _raw(bytes(64)),
        "a tensor that is a number": _header(a=1),
        "a tensor without offsets": _header(a={"dtype": "F32", "shape": [2]}),
        "a tensor without shape": _one(shape=None),
        "a shape below zero": _one(shape=[-2]),
        "a shape of truths": _one(shape=[True, True]),
        "a shape beyond all numbers": _one(shape=[2**63, 2**63]),
        "a shape that the bytes are not": _one(shape=[3]),
        "offsets turned round": _one(data_offsets=[8, 0]),
        "offsets below zero": _one(data_offsets=[-8, 0]),
        "offsets beyond the file": _one(data_offsets=[0, 80], shape=[20]),
        "offsets that are words": _one(data_offsets=["0", "8"]),
        "a gap between tensors": _header(
            a={"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
            b={"dtype": "U8", "shape": [2], "data_offsets": [6, 8]},
        ),
        "tensors one over the other": _header(
            a={"dtype": "U8", "shape": [6], "data_offsets": [0, 6]},
            b={"dtype": "U8", "shape": [6], "data_offsets": [2, 8]},
        ),
        "a page that some proxy sent": b"<!DOCTYPE html><title>Sign in</title>" * 20,
        "a pointer of LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n",
        "a pickle": b"\x80\x02}q\x00." + bytes(100),
    }
    for what, content in spoiled.items():
        yield f"weights: {what}", Kind(BROKEN, files=generator(model__safetensors=content))
    ggufs: Mapping[str, bytes] = {
        "no bytes": b"",
        "a cut magic": b"GG",
        "another magic": b"GGML" + bytes(100),
        "counts without end": b"GGUF" + struct.pack("<IQQ", 3, 2**62, 2**62),
        "cut in its tensors": gguf({"a": (0, (4, 8), 128)})[:-64],
        "a future version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    }
    for what, data in ggufs.items():
        files: Files = {"README.md": "x", "m-Q4_K_M.gguf": data}
        yield f"GGUF: {what}", Kind(BROKEN, files=files)
    wide = weights({f"model.layers.{at}.weight": (2,) for at in range(20_000)})
    yield "weights of twenty thousand tensors", Kind(READY, files=generator(model__safetensors=wide))
    yield "weights of a type that nobody knows", Kind(READY, files=generator(model__safetensors=_one(dtype="F3")))


def documents() -> Iterator[tuple[str, Kind]]:
    """JSON beside the weights that says what no JSON should: the model is as whole as the Hub's own."""
    texts: Files = {
        "empty": "",
        "cut off": json.dumps(CONFIG)[:-5],
        "a list": "[]",
        "a number": "1e999",
        "null": "null",
        "no text": b"\xff\xfe\x00",
        "nested without end": "[" * 100_000,
        "a number of a million digits": "1" * 10**6,
    }
    for name, (what, text) in product(("config.json", "tokenizer_config.json"), texts.items()):
        yield f"{name}: {what}", Kind(READY, files={**generator(), name: text})
    odd: Mapping[str, Any] = {
        "architectures": [[], "x", [1], {}, [None], ["a" * 10_000]],
        "max_position_embeddings": [-1, "4096", 1e300, [], True, 10**40],
        "torch_dtype": [1, [], {}, "nothing", "x" * 10_000],
        "quantization_config": [1, [], "x", {"quant_method": 1}, {"quant_method": "x" * 1000}],
        "text_config": [1, [], "x", {"text_config": {}}],
        "rope_scaling": [1, [], {"factor": "x"}, {"factor": -1}, {"factor": 1e308}],
    }
    for key, values in odd.items():
        for at, value in enumerate(values):
            config = json.dumps({**CONFIG, key: value})
            yield f"config.json: {key} of kind {at}", Kind(READY, files=generator(config__json=config))
    cards: tuple[bytes | str, ...] = (
        "---\nlicense: [",
        "---\n",
        f"---\nlicense: {'x' * 10_000}",
        b"\xff---",
        "---\n" * 999,
    )
    for at, card in enumerate(cards):
        yield f"a card of kind {at}", Kind(READY, files={**generator(), "README.md": card})


def indices() -> Iterator[tuple[str, Kind]]:
    """Shards and the index that should name them."""
    index = "model.safetensors.index.json"

    def with_index(value: object) -> Files:
        return {**sharded(), index: value if isinstance(value, (str, bytes)) else json.dumps(value)}

    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    truth = {"a": first, "b": second, "c": second}
    yield "a shard is gone", Kind(PARTIAL, _entry_becomes(first, lambda _: None), files=sharded())
    yield (
        "a shard is gone, and nothing lists it",
        Kind(PARTIAL, _entry_becomes(first, lambda _: None), files=sharded(), tree=False),
    )
    yield "the content of a shard is gone", Kind(BROKEN, _blob_becomes(first, lambda _: None), files=sharded())
    yield "a tensor that no shard holds", Kind(BROKEN, files=with_index({"weight_map": {**truth, "d": first}}))
    yield (
        "a shard that nobody has",
        Kind(BROKEN, files=with_index({"weight_map": {**truth, "d": "model-3.safetensors"}})),
    )
    yield (
        "a shard out of the store",
        Kind(BROKEN, files=with_index({"weight_map": {**truth, "d": "../../../x.safetensors"}})),
    )
    odd: Mapping[str, tuple[State, object]] = {
        "a list": (BROKEN, []),
        "no JSON": (BROKEN, "{"),
        "no map": (READY, {}),
        "a map of numbers": (READY, {"weight_map": {"a": 1}}),
    }
    for what, (state, value) in odd.items():
        yield f"an index: {what}", Kind(state, files=with_index(value))


def listings() -> Iterator[tuple[str, Kind]]:
    """The list of a commit's files is another than it was written."""

    def becomes(content: bytes | str) -> Callable[[Animal], object]:
        data = content.encode() if isinstance(content, str) else content
        return lambda animal: animal.paths.tree(animal.commit).write_bytes(data)

    def changed(**entry: object) -> Callable[[Animal], object]:
        def do(animal: Animal) -> None:
            listed = json.loads(animal.paths.tree(animal.commit).read_text(encoding="utf-8"))
            listed["files"]["tokenizer.json"] |= entry
            animal.paths.tree(animal.commit).write_text(json.dumps(listed), encoding="utf-8")

        return do

    contents: Files = {
        "empty": "",
        "cut off": '{"format_version": 1, "fi',
        "of another format": '{"format_version": 9, "files": {}}',
        "a list": "[]",
        "no text": b"\xff",
        "of files that are numbers": '{"format_version": 1, "files": {"a": 1}}',
        "of a file out of the store": json.dumps(
            {"format_version": 1, "files": {"../../x": {"size": 1, "blob_id": "0" * 40}}}
        ),
    }
    for what, content in contents.items():
        yield f"a listing {what}", Kind(READY, becomes(content))
    yield "a listing of no files", Kind(READY, becomes('{"format_version": 1, "files": {}}'))
    yield "a listing with another size", Kind(BROKEN, changed(size=10))
    yield "a listing with a size below zero", Kind(READY, changed(size=-1))
    yield "a listing that is a FIFO", Kind(READY, lambda one: _replace(one.paths.tree(one.commit), os.mkfifo))


def remains() -> Iterator[tuple[str, Kind]]:
    """What lies beside a whole model, of tools that were killed or people who tidied up."""

    def beside(name: str, content: str = "x") -> Callable[[Animal], object]:
        def do(animal: Animal) -> None:
            path = animal.paths.folder / name.format(commit=animal.commit)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

        return do

    for name in (
        "snapshots/.DS_Store",
        "snapshots/notes.txt",
        "blobs/.DS_Store",
        "blobs/" + "1" * 64 + ".0a1b2c3d.incomplete",
        "blobs/" + "1" * 64 + ".lock",
        "blobs/nothing-known",
        ".no_exist/{commit}/added_tokens.json",
        ".modelctl/x.tmp",
        ".modelctl/pull.json",
        ".modelctl/partial/" + "1" * 64,
        ".modelctl/partial/" + "1" * 64 + ".json",
        "snapshots/{commit}/.0a1b2c3d.tmp",
        "snapshots/{commit}/.cache/huggingface/x.metadata",
        "snapshots/" + "1" * 40 + "/notes.txt",
        "snapshots/main/config.json",
    ):
        # A second snapshot without weights is told of, and `main` is what counts.
        yield f"{name.format(commit='it')} lies beside", Kind(READY, beside(name))
    yield "weights without anything else", Kind(READY, files={WEIGHTS: weights({"a": (2,)})})
    yield "a configuration without anything else", Kind(PARTIAL, files={"config.json": json.dumps(CONFIG)}, tree=False)
    yield "only a card", Kind(READY, files={"README.md": "x"})
    yield (
        "a pickle for weights",
        Kind(READY, files={**generator(model__safetensors=None), "pytorch_model.bin": b"\x80\x02."}),
    )
    yield "an empty pickle", Kind(BROKEN, files={**generator(model__safetensors=None), "pytorch_model.bin": b""})
    yield "a tensor of no elements", Kind(READY, files=generator(model__safetensors=_empty_tensor()))


def _empty_tensor() -> bytes:
    from modelctl.share.safetensors import encode

    return encode({"a": tensor("F32", (0, 8)), "b": tensor("F32", (2,))})


KINDS: dict[str, Kind] = dict(
    kind for group in (entries, folders, refs, headers, documents, indices, listings, remains) for kind in group()
)
