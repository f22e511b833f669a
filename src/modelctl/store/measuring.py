"""What the Hub would say of files that lie outside of it: in LFS or not, under which hash, in which commit."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from modelctl.store.digest import git
from modelctl.store.tree import TreeFile

_CHUNK = 1 << 20
# What the Hub's own `.gitattributes` hands to LFS, whatever its size; all else goes there from 10 MiB on.
# fmt: off
_LFS_SUFFIXES = {
    ".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gguf", ".gz", ".h5", ".joblib", ".mlmodel", ".model",
    ".msgpack", ".npy", ".npz", ".onnx", ".onnx_data", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth",
    ".rar", ".safetensors", ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst",
}
# fmt: on
_LFS_FROM = 10 * 1024 * 1024


class Meter:
    """Finds out what the Hub would say of a content of `size` bytes, as the bytes pass."""

    def __init__(self, size: int, *, lfs: bool) -> None:
        self._size = size
        self._lfs = lfs
        self._hash = hashlib.sha256() if lfs else git(size)

    def update(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._hash.update(chunk)

    def result(self) -> TreeFile:
        """The content, now that all its bytes have passed."""
        digest = self._hash.hexdigest()
        if not self._lfs:
            return TreeFile(self._size, digest)
        return TreeFile(self._size, pointer_id(digest, size=self._size), digest)


def is_lfs(name: str, *, size: int) -> bool:
    """Whether the Hub keeps this file in LFS, under its SHA-256, rather than in git."""
    return size > _LFS_FROM or Path(name).suffix in _LFS_SUFFIXES


def measured(path: Path, name: str, *, lfs: bool = False, tell: Callable[[int], None] = lambda _: None) -> TreeFile:
    """What the Hub would say of a plain file; `lfs` keeps it in LFS where the Hub's own rule would not.

    `tell` hears the bytes of each step.
    """
    size = path.stat().st_size
    meter = Meter(size, lfs=lfs or is_lfs(name, size=size))
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            meter.update(chunk)
            tell(len(chunk))
    return meter.result()


def lfs_pointer(sha256: str, *, size: int) -> bytes:
    """What lies in git in the place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def pointer_id(sha256: str, *, size: int) -> str:
    """The name that git gives to the pointer of an LFS file."""
    pointer = lfs_pointer(sha256, size=size)
    hashed = git(len(pointer))
    hashed.update(pointer)
    return hashed.hexdigest()


def commit_id(digests: dict[str, str]) -> str:
    """A commit id that only the names and contents of the files decide."""
    text = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha1(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
