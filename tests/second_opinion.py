"""What the real huggingface_hub thinks of a hub folder."""

from pathlib import Path

from huggingface_hub import scan_cache_dir, snapshot_download


def accepted(hub: Path) -> dict[str, set[str]]:
    """The revisions of each model as huggingface_hub lists them, without a single warning."""
    found = scan_cache_dir(hub)
    assert not found.warnings, found.warnings
    return {repo.repo_id: {revision.commit_hash for revision in repo.revisions} for repo in found.repos}


def loads(hub: Path, model_id: str, revision: str = "main") -> Path:
    """The snapshot that huggingface_hub finds offline, every file of its listing there."""
    folder = Path(snapshot_download(model_id, revision=revision, cache_dir=hub, local_files_only=True))
    assert all(path.exists() for path in folder.rglob("*"))
    return folder
