"""Models laid out in a hub folder as the tools of this world leave them."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from modelctl.share.offer import lay_out
from modelctl.share.samples import tiny_llama
from modelctl.store import layout
from modelctl.store.layout import RepoPaths

Files = Mapping[str, bytes | str]
# `links`: each blob in its repository; `shared`: LFS blobs in the cache-wide store; `copies`: no links at all.
Layout = Literal["links", "shared", "copies"]


class StoreBuilder:
    """Puts models into one hub folder: `store.add("acme/tiny")` is a whole model that vLLM could serve."""

    def __init__(self, hub: Path) -> None:
        self.hub = hub

    def add(
        self,
        model_id: str,
        *,
        files: Files | None = None,
        lfs: Files | None = None,
        revision: str | None = "main",
        kind: Layout = "links",
        tree: bool = True,
    ) -> str:
        """Lay out one commit and return its id.

        `files` lie where the Hub would keep them, `lfs` in LFS in any case; neither given is a tiny Llama.
        `revision` is the ref that names the commit, `tree` whether `trees/<commit>.json` is there.
        """
        if files is None and lfs is None:
            files = tiny_model()
        paths = self.paths(model_id)
        with tempfile.TemporaryDirectory(dir=self.hub.parent if self.hub.parent.exists() else None) as scratch:
            for name, content in {**(files or {}), **(lfs or {})}.items():
                path = Path(scratch) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            commit = lay_out(Path(scratch), self.hub, model_id, ref=revision, lfs=tuple(lfs or ()))
        if kind == "shared":
            self.share_blobs(model_id)
        elif kind == "copies":
            self._copy_blobs(paths, commit)
        if not tree:
            paths.tree(commit).unlink()
            paths.tree(commit).parent.rmdir()
        return commit

    def paths(self, model_id: str) -> RepoPaths:
        """The paths of a model of this hub folder."""
        return RepoPaths(self.hub, model_id)

    def blob(self, model_id: str, name: str, *, revision: str = "main") -> Path:
        """The file that holds the content of a model's file, links followed: to cut it, to change it."""
        paths = self.paths(model_id)
        commit = revision if layout.is_git_sha1(revision) else paths.ref(revision).read_text(encoding="ascii")
        return paths.entry(commit, name).resolve(strict=True)

    def share_blobs(self, model_id: str) -> None:
        """Move LFS blobs into the cache-wide store, as huggingface_hub 2.3 and newer keep those of Xet."""
        paths = self.paths(model_id)
        shared = layout.shared_blobs(self.hub)
        shared.mkdir(exist_ok=True)
        marker = shared / layout.SHARED_MARKER
        if not marker.exists():
            marker.write_text("1\n", encoding="ascii")
            marker.chmod(0o444)
        for blob in paths.blobs.iterdir():
            if blob.is_symlink() or not layout.is_sha256(blob.name):
                continue
            # Not the SHA-256: the payload goes by another hash, which only the Xet client can compute.
            xet = xet_hash(blob.name)
            payload = shared / xet[:2] / xet
            payload.parent.mkdir(exist_ok=True)
            blob.replace(payload)
            payload.chmod(0o444)
            blob.symlink_to(f"../../blobs/{xet[:2]}/{xet}")
            with payload.with_name(f"{xet}.refs").open("a", encoding="utf-8") as refs:
                refs.write(f"{paths.folder.name}/blobs/{blob.name}\n")

    def _copy_blobs(self, paths: RepoPaths, commit: str) -> None:
        """Files in the snapshot itself, as where links cannot be made."""
        for entry in list(paths.snapshot(commit).rglob("*")):
            if entry.is_symlink():
                blob = entry.resolve(strict=True)
                entry.unlink()
                shutil.copyfile(blob, entry)
        shutil.rmtree(paths.blobs)
        paths.blobs.mkdir()


def xet_hash(name: str) -> str:
    """What stands for the Xet hash of a content in tests: nobody but the storage can compute the real one."""
    return hashlib.blake2s(name.encode()).hexdigest()


@cache
def _tiny_model() -> dict[str, bytes]:
    return tiny_llama()


def tiny_model(**changed: bytes | str) -> dict[str, bytes | str]:
    """The files of a whole model of 1 MB that vLLM could serve, with some of them changed."""
    return {**_tiny_model(), **changed}
