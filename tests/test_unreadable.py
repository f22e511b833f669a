"""Parts of a store that another user has closed: told of, and in nobody's way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints import generator, weights
from tests.command import NOBODY, Command
from tests.stores import StoreBuilder

COMMANDS = (
    "list",
    "list --json --revisions",
    "show acme/closed",
    "status --check",
    "verify --all",
    "prune --revisions --dry-run",
    "rm acme/closed --dry-run",
)
PARTS = (
    ".",
    "blobs",
    "snapshots",
    "refs",
    "trees",
    ".modelctl",
    ".modelctl/revisions",
    ".modelctl/partial",
    ".modelctl/pull.json",
    "../.locks",
    "../blobs",
    "../blobs/*",
)


@pytest.fixture
def closed(store: StoreBuilder) -> Path:
    """A model with all that can lie beside one, next to a whole one; both are the other user's."""
    store.add("acme/closed", files=generator(), lfs={"model.safetensors": weights({"a": (500,)})}, kind="shared")
    store.add("acme/open", files=generator())
    folder = store.paths("acme/closed").folder
    for name in ("revisions", "partial"):
        (folder / ".modelctl" / name).mkdir(parents=True)
    (folder / ".modelctl" / "pull.json").write_text("{}")
    (store.hub / ".locks").mkdir(exist_ok=True)
    return folder


def close(folder: Path, part: str) -> None:
    for path in _paths(folder, part):
        path.chmod(0o700 if path.is_dir() else 0o600)


def _paths(folder: Path, part: str) -> Iterator[Path]:
    above, _, name = part.rpartition("/")
    yield from (folder / above).glob(name) if "*" in name else [folder / part]


def test_a_closed_folder_of_lists_does_not_stop_the_listing(run: Command, closed: Path) -> None:
    close(closed, "trees")
    assert run("list", "-q", "--sort", "name", user=NOBODY).stdout == "acme/closed\nacme/open\n"


def test_a_closed_model_does_not_stop_the_status(run: Command, closed: Path) -> None:
    close(closed, ".")
    done = run("status", "--json", user=NOBODY)
    assert (done.code, done.json["downloaded_models"]) == (0, ["acme/open"])


@pytest.mark.sweep
@pytest.mark.parametrize("part", PARTS)
def test_nothing_closed_stops_a_command(run: Command, closed: Path, part: str) -> None:
    close(closed, part)
    for command in COMMANDS:
        done = run(*command.split(), user=NOBODY)
        assert "Traceback" not in done.stderr, command
        assert done.code in {0, 1, 4, 6}, (command, done.stderr)
