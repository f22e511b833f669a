"""A file larger than the disk of a test: a hole where a pull has fetched it already, and its last bytes on the Hub."""

import json
from pathlib import Path

import pytest

from modelctl.share.offer import lay_out
from tests.command import Command
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import MIB, NAME, leftovers

SIZE = 51 * 1024 * MIB
LACKING = 40 * MIB


@pytest.mark.sweep
def test_the_end_of_a_file_past_fifty_gigabytes(run: Command, hub: Hub, store: StoreBuilder, tmp_path: Path) -> None:
    folder = tmp_path / "huge"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(SIZE - 5)
        file.seek(SIZE - 5)
        file.write(b"tail.")
    lay_out(folder, hub.store.hub, NAME)
    digest = hub.store.blob(NAME, "model.safetensors").name
    paths = store.paths(NAME)
    paths.partials.mkdir(parents=True)
    with paths.partial(digest).open("wb") as file:
        file.truncate(SIZE)
    paths.journal(digest).write_text(json.dumps({"size": SIZE, "received": [[0, SIZE - LACKING]]}))
    done = run("pull", NAME, env=hub.environ, timeout=300)
    assert done.code == 0, done.stderr
    assert sum(asked.sent for asked in hub.asked if asked.is_cdn) == LACKING
    blob = paths.blob(digest)
    assert blob.stat().st_size == SIZE
    with blob.open("rb") as file:
        file.seek(-6, 2)
        assert file.read() == b"\0tail."
    assert leftovers(store) == []
