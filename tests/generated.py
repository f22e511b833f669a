"""The parts of the documentation that are made from the product: `python -m tests.generated` writes them anew.

A made part stands between two comments, `<!-- made: NAME -->` and `<!-- end -->`; the rest of a page is hand-written.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "modelctl"
_PART = re.compile(r"(<!-- made: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# In the order in which a user meets them.
_GROUPS = {
    "engine": ("install", "status", "remove"),
}


def commands() -> str:
    """Every command with its help, as `--help` prints it in 80 columns."""
    names = re.findall(r"^  ([a-z-]+) ", help_of().partition("Commands:")[2], re.MULTILINE)
    pages: list[tuple[str, ...]] = [()]
    for name in names:
        pages.append((name,))
        pages += [(name, inner) for inner in _GROUPS.get(name, ())]
    # Most of the time is the start of each process.
    with ThreadPoolExecutor(max_workers=2) as pool:
        texts = list(pool.map(lambda page: help_of(*page).strip(), pages))
    titles = [" ".join(("modelctl", *page)) for page in pages]
    return "\n".join(f"## {title}\n\n```text\n{text}\n```\n" for title, text in zip(titles, texts, strict=True))


def help_of(*command: str) -> str:
    """What `--help` prints."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "80", "TERM": "dumb", "LANG": "C.UTF-8"}  # noqa: TID251
    argv = [sys.executable, "-m", "modelctl", *command, "--help"]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout


def modules() -> str:
    """Every file of the package, folder by folder, with the first sentence of its docstring."""
    return "\n".join(["```text", "src/modelctl/", *_branch(PACKAGE, ""), "```", ""])


def _branch(folder: Path, indent: str) -> list[str]:
    """The files of a folder, then its folders, as lines of a tree."""
    entries = [path for path in folder.iterdir() if path.name not in {"__pycache__", "__init__.py", "py.typed"}]
    entries.sort(key=lambda path: (path.is_dir(), path.name))
    lines = []
    for path in entries:
        is_last = path == entries[-1]
        name = f"{indent}{'└' if is_last else '├'}── {path.name}{'/' if path.is_dir() else ''}"
        lines.append(f"{name:<26} {_sentence(path / '__init__.py' if path.is_dir() else path)}".rstrip())
        lines += _branch(path, indent + ("    " if is_last else "│   ")) if path.is_dir() else []
    return lines


def _sentence(file: Path) -> str:
    """The first sentence of a module's docstring, or of the comment with which another file begins."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text.removeprefix("#").partition("\n")[0].strip()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def layers() -> str:
    """The layers of the import contract, the highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [one for one in settings["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    return f"```text\n{'  ->  '.join(contract['layers'])}\n```\n"


PARTS: dict[str, Callable[[], str]] = {"commands": commands, "modules": modules, "layers": layers}


def rendered(page: Path) -> str:
    """A page with its made parts as they should be."""
    return _PART.sub(lambda match: match[1] + PARTS[match["name"]]() + match[3], page.read_text(encoding="utf-8"))


def main() -> None:
    """Write every made part anew."""
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(rendered(page), encoding="utf-8")


if __name__ == "__main__":
    main()
