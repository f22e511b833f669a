"""Stores of any size for the benchmarks: files of the right length that take no disk, and headers that are real."""

import hashlib
import json
import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Layout = Literal["links", "shared"]
_DTYPES = {"F32": 4, "BF16": 2, "F16": 2}


@dataclass(frozen=True)
class Shape:
    """What the models of a store look like: `tensors` in the header of each, a listing of each commit or none."""

    layout: Layout = "links"
    tensors: int = 20
    listings: bool = True


def fill(hub: Path, count: int, shape: Shape, *, seed: int = 1) -> int:
    """Lay out models of two revisions with 4 to 60 files each, and return how many files that are.

    Weights are holes behind a real header, so that ten thousand models fit a small disk.
    """
    chance = random.Random(seed)  # noqa: S311 - a store, not a secret
    header = _header(shape.tensors)
    if shape.layout == "shared":
        (hub / "blobs").mkdir(parents=True)
        (hub / "blobs" / "SHARED_CACHE").write_text("1\n", encoding="ascii")
    files = 0
    for number in range(count):
        # Most repositories have a handful of files, some have dozens.
        extra = chance.choice((0, 0, 0, 1, 2, 3, 4, 6, 8, 12, 20, 56))
        files += _model(hub, name_of(number), number, extra, header, shape)
    return files


def name_of(number: int) -> str:
    """The id of a model by its number."""
    return f"acme-{number % 97}/model-{number}"


def _model(hub: Path, model_id: str, number: int, extra: int, header: bytes, shape: Shape) -> int:
    folder = hub / f"models--{model_id.replace('/', '--')}"
    for part in ("blobs", "refs", "snapshots", "trees"):
        os.makedirs(folder / part)  # noqa: PTH103 - ten thousand times four
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 8192 + number}
    small = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
    small |= {f"extra/{at:02}.txt": f"{number}.{at}".encode() for at in range(extra)}
    listings: dict[str, dict[str, dict[str, object]]] = {}
    for revision, name in enumerate(("old", "new")):
        contents = {"config.json": json.dumps({**config, "revision": revision}).encode(), **small}
        commit = hashlib.sha1(f"{model_id} {name}".encode(), usedforsecurity=False).hexdigest()
        listings[commit] = _snapshot(folder / "snapshots" / commit, folder / "blobs", contents, header, number, shape)
        (folder / "refs" / ("main" if revision else "v1")).write_text(commit, encoding="ascii")
    if shape.listings:
        for commit, listed in listings.items():
            document = {"format_version": 1, "files": listed}
            (folder / "trees" / f"{commit}.json").write_text(json.dumps(document, indent=2), encoding="ascii")
    return sum(map(len, listings.values()))


def _snapshot(
    snapshot: Path, blobs: Path, contents: dict[str, bytes], header: bytes, number: int, shape: Shape
) -> dict[str, dict[str, object]]:
    os.makedirs(snapshot / "extra" if any("/" in name for name in contents) else snapshot)  # noqa: PTH103
    listed: dict[str, dict[str, object]] = {}
    for name, content in contents.items():
        digest = hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
        (blobs / digest).write_bytes(content)
        (snapshot / name).symlink_to(f"{'../' * name.count('/')}../../blobs/{digest}")
        listed[name] = {"size": len(content), "blob_id": digest}
    digest = hashlib.sha256(f"{number}".encode()).hexdigest()
    size = _weights(blobs, digest, header, shape)
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/{digest}")
    listed["model.safetensors"] = {"size": size, "blob_id": digest[:40], "lfs_sha256": digest, "lfs_size": size}
    return listed


def _weights(blobs: Path, digest: str, header: bytes, shape: Shape) -> int:
    payload = blobs / digest
    if shape.layout == "shared":
        payload = blobs.parent.parent / "blobs" / digest[:2] / digest
        payload.parent.mkdir(exist_ok=True)
        if not (blobs / digest).is_symlink():
            (blobs / digest).symlink_to(f"../../blobs/{digest[:2]}/{digest}")
            payload.with_name(f"{digest}.refs").write_text(f"{blobs.parent.name}/blobs/{digest}\n", encoding="utf-8")
    size = len(header) + _length(header)
    with payload.open("wb") as file:
        file.write(header)
        file.truncate(size)
    return size


def _header(tensors: int) -> bytes:
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for number in range(tensors):
        length = 4096 * 1024 * _DTYPES["BF16"]
        name = f"model.layers.{number // 9}.self_attn.{number % 9}_proj.weight"
        described[name] = {"dtype": "BF16", "shape": [4096, 1024], "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _length(header: bytes) -> int:
    described = json.loads(header[8:])
    return max((entry["data_offsets"][1] for name, entry in described.items() if name != "__metadata__"), default=0)
