"""The Hub's protocol as the real huggingface_hub and the real `hf` meet it."""

from pathlib import Path

from huggingface_hub import snapshot_download

from tests.hub.loopback import Hub


def test_a_whole_repository_comes_down(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("acme/tiny", files={"config.json": "{}", "1_Pooling/config.json": "[]"}, lfs={"w.bin": b"x" * 99})
    folder = Path(snapshot_download("acme/tiny", endpoint=hub.url, cache_dir=tmp_path / "cache"))
    assert folder.name == commit
    assert (folder / "1_Pooling" / "config.json").read_text(encoding="utf-8") == "[]"
    assert (folder / "w.bin").read_bytes() == b"x" * 99
    assert not any(asked.token for asked in hub.asked)
