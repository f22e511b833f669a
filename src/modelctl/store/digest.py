"""The hashes that give blobs their names: SHA-256 for what lies in LFS, git's SHA-1 for all else."""

import hashlib
from typing import TYPE_CHECKING

from modelctl.store import layout

if TYPE_CHECKING:
    from hashlib import _Hash


def hasher(digest: str, size: int) -> "_Hash":
    """What a content of `size` bytes has to be fed to, so that its hexdigest is `digest` if it is the right one."""
    return hashlib.sha256() if layout.is_sha256(digest) else git(size)


def git(size: int) -> "_Hash":
    """Git's hash of an ordinary file: SHA-1 over `blob <size>`, a zero byte, the content."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def is_proven(content: bytes | bytearray, digest: str) -> bool:
    """Whether a content is what its blob's name says."""
    hashed = hasher(digest, len(content))
    hashed.update(content)
    return hashed.hexdigest() == digest
