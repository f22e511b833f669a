"""The documentation says what the product does: what can be made from it is, and the rest is checked against it."""

import re
from collections import Counter
from pathlib import Path

import pytest

from modelctl import errors
from modelctl.cli import app
from tests import generated

PAGES = sorted(generated.DOCS.glob("*.md"))
LINKING = [
    *PAGES,
    generated.ROOT / "README.md",
    generated.ROOT / "models" / "README.md",
    generated.ROOT / "CHANGELOG.md",
]
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its code, in which brackets mean nothing."""
    return _CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(page: Path) -> list[str]:
    """Where a page leads to inside of the repository."""
    found = [match["target"] for match in _LINK.finditer(prose(page))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_made_parts_are_as_the_product_is(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == generated.rendered(page), "python -m tests.generated writes it anew"


def test_every_page_is_there() -> None:
    wanted = {"MODEL_MANAGEMENT", "commands", "json", "exit-codes", "cache-layout", "architecture"}
    assert wanted <= {page.stem for page in PAGES}


def test_every_help_has_an_example_of_its_command_and_json() -> None:
    text = (generated.DOCS / "commands.md").read_text(encoding="utf-8")
    helps = re.findall(r"^## (modelctl[^\n]*)\n\n```text\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    commands = {title.removeprefix("modelctl").strip() for title, _ in helps}
    assert commands >= {*app.COMMANDS} - {"ls"}
    for title, said in helps:
        assert f"\n    {title}" in said.partition("\n  Examples:\n")[2], title
        assert "  -h, --help " in said, title
        # A group has none of its own.
        assert "  --json " in said or "\nCommands:\n" in said, title


def test_no_summary_of_a_command_is_cut_off() -> None:
    assert "..." not in generated.help_of().partition("Commands:")[2]


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_links_are_seen() -> None:
    assert sum(len(links(page)) for page in LINKING) > 50


def test_the_exit_codes_are_those_of_the_errors() -> None:
    page = (generated.DOCS / "exit-codes.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| (\d+) \| `([a-z_]+)` \|", page, re.MULTILINE))
    classes: list[type[errors.ModelctlError]] = [errors.ModelctlError, *errors.ModelctlError.__subclasses__()]
    # An interruption has the code of its signal.
    signals = {(code, "interrupted") for code in ("129", "143")}
    assert documented == {(str(error.exit_code), error.kind) for error in classes} | signals


def test_no_page_names_a_machine() -> None:
    told = [page.name for page in PAGES if re.search(r"(?<![\w/.])/(work|root|tmp/pytest)\b", prose(page))]
    assert told == []
