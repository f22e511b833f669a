"""The hashes by which the Hub and git name contents."""

import hashlib
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


def is_lfs(name: str, *, size: int) -> bool:
    """Whether the Hub keeps this file in LFS, under its SHA-256, rather than in git."""
    return size > _LFS_FROM or Path(name).suffix in _LFS_SUFFIXES


def measured(path: Path, name: str, *, lfs: bool = False) -> TreeFile:
    """What the Hub would say of a plain file; `lfs` keeps it in LFS where the Hub's own rule would not."""
    size = path.stat().st_size
    if lfs or is_lfs(name, size=size):
        content = sha256(path)
        return TreeFile(size, pointer_id(content, size=size), content)
    return TreeFile(size, git_sha1(path))


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as LFS names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha1(path: Path) -> str:
    """The name that git gives a file: SHA-1 over `blob <size>`, a zero byte and the content."""
    digest = git(path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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
