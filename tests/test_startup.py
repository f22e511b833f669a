"""What the quick commands load: start-up time is a feature, and every import a person adds would be felt."""

import json
import sys

import pytest

from tests.checkpoints import generator
from tests.command import Command
from tests.stores import StoreBuilder

# Typer, and what it brings along itself.
TYPER = {"annotated_doc", "shellingham", "typer"}
LOADED = {
    ("--version",): TYPER,
    ("--help",): TYPER,
    ("list",): TYPER,
    ("list", "--json"): TYPER,
    ("list", "-q"): TYPER,
    # Where an engine of our own would lie.
    ("show", "tiny"): TYPER | {"platformdirs"},
    ("status",): TYPER | {"platformdirs"},
    ("prune",): TYPER,
}
# Parts of the standard library that cost milliseconds and that a listing has no use for.
NOT_FOR_A_LISTING = {
    "asyncio",
    "concurrent",
    "email",
    "hashlib",
    "http",
    "logging",
    "secrets",
    "socket",
    "ssl",
    "tempfile",
}
RUNNER = """
import sys
before = set(sys.modules)
sys.argv = ["modelctl", *sys.argv[1:]]
from modelctl.cli.app import main
try:
    main()
finally:
    import json
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    own = {"modelctl", "__editable__", "json"}
    third = sorted(loaded - sys.stdlib_module_names - own)
    sys.stderr.write(json.dumps({"third": third, "standard": sorted(loaded & sys.stdlib_module_names)}))
"""


def loaded(run: Command, *argv: str) -> dict[str, list[str]]:
    """The packages that a command loads beyond those of a bare interpreter."""
    done = run.program([sys.executable, "-c", RUNNER, *argv], env={"PYTHONPATH": None})
    assert done.code == 0, done.stderr
    packages: dict[str, list[str]] = json.loads(done.stderr.splitlines()[-1])
    return packages


@pytest.mark.parametrize("argv", LOADED, ids=" ".join)
def test_the_packages_that_a_quick_command_loads(run: Command, store: StoreBuilder, argv: tuple[str, ...]) -> None:
    store.add("acme/tiny", files=generator())
    assert set(loaded(run, *argv)["third"]) == LOADED[argv]


def test_a_listing_loads_nothing_dear_of_the_standard_library(run: Command, store: StoreBuilder) -> None:
    store.add("acme/tiny", files=generator())
    assert not NOT_FOR_A_LISTING & set(loaded(run, "list")["standard"])
