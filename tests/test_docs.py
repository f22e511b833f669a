"""The documentation says what the product does: what can be made from it is, and the rest is checked against it."""

import re
from pathlib import Path

import pytest

from modelctl import errors
from tests import generated

PAGES = sorted(generated.DOCS.glob("*.md"))


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
