"""The parts of the documentation that are made from the product: `python -m tests.generated` writes them anew.

A made part stands between two comments, `<!-- made: NAME -->` and `<!-- end -->`; the rest of a page is hand-written.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
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
    names = re.findall(r"^  ([a-z]+) ", help_of().partition("Commands:")[2], re.MULTILINE)
    pages: list[tuple[str, ...]] = []
    for name in names:
        pages.append((name,))
        pages += [(name, inner) for inner in _GROUPS.get(name, ())]
    return "\n".join(f"## modelctl {' '.join(page)}\n\n```text\n{help_of(*page).strip()}\n```\n" for page in pages)


def help_of(*command: str) -> str:
    """What `--help` prints."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "80", "TERM": "dumb", "LANG": "C.UTF-8"}  # noqa: TID251
    argv = [sys.executable, "-m", "modelctl", *command, "--help"]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout


def modules() -> str:
    """Every module with the first sentence of its docstring, folder by folder."""
    lines = ["```text", "src/modelctl/"]
    for folder in (PACKAGE, *sorted(path for path in PACKAGE.iterdir() if path.is_dir())):
        files = sorted(folder.glob("*.py"))
        if folder != PACKAGE:
            if not files:
                continue
            lines.append(f"├── {folder.name + '/':<18} {_sentence(folder / '__init__.py')}")
        indent = "│   " if folder != PACKAGE else ""
        named = [file for file in files if file.name != "__init__.py"]
        lines += [f"{indent}├── {file.name:<{18 - len(indent)}} {_sentence(file)}".rstrip() for file in named]
    return "\n".join([*lines, "```", ""])


def _sentence(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


PARTS: dict[str, Callable[[], str]] = {"commands": commands, "modules": modules}


def rendered(page: Path) -> str:
    """A page with its made parts as they should be."""
    return _PART.sub(lambda match: match[1] + PARTS[match["name"]]() + match[3], page.read_text(encoding="utf-8"))


def main() -> None:
    """Write every made part anew."""
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(rendered(page), encoding="utf-8")


if __name__ == "__main__":
    main()
