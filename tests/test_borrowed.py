"""A model that the project only links to, in the user's cache: it is read from there, and nothing is written there."""

from pathlib import Path

import pytest

from tests.checkpoints import generator
from tests.command import Command
from tests.crashes import held
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder

NAME = "acme/tiny"


def names(hub: Path) -> set[Path]:
    """Everything in a store but its locks."""
    return {path for path in hub.rglob("*") if ".locks" not in path.parts}


@pytest.fixture
def linked(cache: StoreBuilder, store: StoreBuilder) -> StoreBuilder:
    """As `migrate --from-cache --symbolic-link` leaves both."""
    cache.add(NAME)
    store.hub.mkdir()
    store.paths(NAME).folder.symlink_to(cache.paths(NAME).folder)
    return cache


def test_an_import_goes_nowhere(run: Command, linked: StoreBuilder, store: StoreBuilder, tmp_path: Path) -> None:
    folder = tmp_path / "tune"
    folder.mkdir()
    for name, content in generator().items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = names(linked.hub)
    done = run("import", folder, "--as", f"{NAME}@mine")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: `{store.paths(NAME).folder}` is a link to the model in `{linked.hub}`, and nothing is written there\n"
        f"hint: `modelctl rm {NAME}` takes the link away, and nothing else; then run the same command again\n"
    )
    assert names(linked.hub) == before


@pytest.mark.sweep
def test_a_pull_neither(run: Command, hub: Hub, linked: StoreBuilder, store: StoreBuilder) -> None:
    hub.add(NAME)
    # What is all there needs nothing to be written.
    assert run("pull", NAME, env=hub.environ).code == 0
    hub.add(NAME, files={**generator(), "README.md": "new"})
    before, content = names(linked.hub), held(linked.hub)
    for flag in ("--dry-run", "--no-use"):
        done = run("pull", NAME, flag, env=hub.environ)
        assert (done.code, done.stdout) == (1, ""), done
        assert done.stderr.endswith("takes the link away, and nothing else; then run the same command again\n")
    done = run("pull", "--update", "--all", env=hub.environ)
    assert (done.code, f"`{NAME}` is left alone: it is a link to the model in `{linked.hub}`" in done.stderr) == (
        0,
        True,
    )
    assert (names(linked.hub), held(linked.hub)) == (before, content)
    # As the hint says.
    assert run("rm", NAME, "--yes").code == 0
    assert run("pull", NAME, env=hub.environ).code == 0
    assert not store.paths(NAME).folder.is_symlink()
    assert (names(linked.hub), held(linked.hub)) == (before, content)


@pytest.mark.sweep
def test_a_migration_from_elsewhere_neither(
    run: Command, linked: StoreBuilder, store: StoreBuilder, tmp_path: Path
) -> None:
    other = StoreBuilder(tmp_path / "other" / "hub")
    other.hub.mkdir(parents=True)
    other.add(NAME, files={"config.json": "other"})
    before = names(linked.hub)
    done = run("migrate", "--from", other.hub, "--copy")
    assert (done.code, done.stdout) == (1, "")
    assert f"`{store.paths(NAME).folder}` is a link to the model in `{linked.hub}`" in done.stderr
    assert names(linked.hub) == before


@pytest.mark.sweep
def test_what_is_kept_on_another_disk_is_the_projects_own(
    run: Command, hub: Hub, store: StoreBuilder, tmp_path: Path
) -> None:
    """No hub folder, but a place for one model that was too large."""
    hub.add(NAME)
    store.add(NAME, files={"config.json": "old"})
    paths = store.paths(NAME)
    paths.folder.rename(tmp_path / "large")
    paths.folder.symlink_to(tmp_path / "large")
    assert run("pull", NAME, env=hub.environ).code == 0
    assert (tmp_path / "large" / "refs" / "main").read_text() == paths.ref("main").read_text()
