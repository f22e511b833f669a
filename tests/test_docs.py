"""The documentation says what the product does: what can be made from it is, and the rest is checked against it."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from modelctl import errors
from tests import generated
from tests.command import Command
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pruning import interrupt, update

PAGES = sorted(generated.DOCS.glob("*.md"))
NAME = "acme/tiny"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_made_parts_are_as_the_product_is(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == generated.rendered(page), "python -m tests.generated writes it anew"


def test_every_page_is_there() -> None:
    wanted = {"MODEL_MANAGEMENT", "commands", "json", "exit-codes", "cache-layout", "architecture"}
    assert wanted <= {page.stem for page in PAGES}


def test_every_help_has_an_example() -> None:
    helps = re.findall(r"```text\n(.*?)```", generated.commands(), re.DOTALL)
    assert len(helps) > 10
    for text in helps:
        command = text.split("\n", 1)[0].removeprefix("Usage: ").split(" [")[0]
        assert command in text.partition("Examples:")[2] or "Commands:" in text, text


@pytest.mark.parametrize("page", [*PAGES, generated.ROOT / "README.md"], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_exit_codes_are_those_of_the_errors() -> None:
    page = (generated.DOCS / "exit-codes.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| (\d+) \| `([a-z_]+)` \|", page, re.MULTILINE))
    classes: list[type[errors.ModelctlError]] = [errors.ModelctlError, *errors.ModelctlError.__subclasses__()]
    assert documented == {(str(error.exit_code), error.kind) for error in classes}


def documented(heading: str) -> set[str]:
    page = (generated.DOCS / "json.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def keys(value: Any, path: str = "") -> set[str]:  # noqa: ANN401 - whatever JSON holds
    """The paths of all leaves; of an empty list nothing can be told."""
    if isinstance(value, dict):
        return {leaf for key, inner in value.items() for leaf in keys(inner, f"{path}.{key}" if path else key)}
    if isinstance(value, list):
        return {leaf for inner in value for leaf in keys(inner, f"{path}[]")}
    return {path}


def check(heading: str, value: Any, *, unseen: Collection[str] = ()) -> None:  # noqa: ANN401
    """Compare documented and real keys, both ways; `unseen` are prefixes that this store has nothing for."""
    found = keys(value) - {"schema"}
    written = documented(heading)
    assert found <= written, found - written
    missing = {key for key in written - found if not key.startswith(tuple(unseen))}
    assert not missing


def by_event(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The events as one object, those of one name laid over each other."""
    told: dict[str, Any] = {}
    for event in events:
        name = event["event"]
        told.setdefault(name, {}).update({key: value for key, value in event.items() if key not in {"schema", "event"}})
    return told


def test_the_json_of_objects_is_as_documented(run: Command, store: StoreBuilder) -> None:
    store.add(NAME)
    broken = store.add("acme/broken")
    store.blob("acme/broken", "config.json").unlink()
    assert broken
    check("list", run("list", "--json").json, unseen={"models[].other_copies"})
    check("show", {"schema": 1, **run("show", "acme/broken", "--json").json}, unseen={"model.other_copies"})
    check("status", run("status", "--json").json, unseen={"downloads", "servers", "problems"})
    check("use", run("use", NAME, "--json").json)
    check("engine status", run("engine", "status", "--json").json, unseen={"own.rests"})


def test_the_json_of_events_is_as_documented(run: Command, hub: Hub) -> None:
    hub.add(NAME, files={"config.json": "{}", "model.safetensors": b"x", "model.onnx": b"x"})
    done = run("pull", NAME, "--json", env=hub.environ)
    assert done.code == 0
    check("pull", by_event(done.events))
    gone = run("rm", NAME, "--yes", "--json")
    assert gone.code == 0
    unseen = {f"{part}[].{key}[]" for part in ("plan.models", "done.removed") for key in ("commits", "refs", "kept")}
    check("rm", by_event(gone.events), unseen=unseen)
    error = run("show", NAME, "--json").json
    assert keys(error) - {"schema"} == documented("Errors")


def test_the_json_of_prune_is_as_documented(run: Command, store: StoreBuilder) -> None:
    update(store, "1", "2")
    interrupt(store, "acme/half", days=1)
    done = run("prune", "--revisions", "--yes", "--json")
    assert done.code == 0
    check("prune", by_event(done.events), unseen={"plan.staying[].commits[]"})
