"""uv and pip: what to type, what to give them, and what their output tells (pure, but for where uv lies)."""

import ast
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# What would lead an installation out of its environment, or leave it without compiled bytecode.
_DROPPED = (
    *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_DRY_RUN", "PIP_NO_COMPILE", "PIP_REQUIRE_VIRTUALENV"),
    *(
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "VIRTUAL_ENV",
        "UV_SYSTEM_PYTHON",
        "UV_TARGET",
        "UV_PREFIX",
    ),
)
_QUIET = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "UV_NO_PROGRESS": "1",
    # An interpreter is what the user has; none is fetched for an environment.
    "UV_PYTHON_DOWNLOADS": "never",
    "NO_COLOR": "1",
}
# For a question, over the environment of an installation: who does not answer soon is not asked again and again.
IMPATIENT = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "15", "PIP_RETRIES": "1"}
_TRUE = {"1", "true", "yes", "on"}
_LEFT_OUT = Path(__file__).with_name("left-out.txt")


@dataclass(frozen=True, slots=True)
class Tool:
    """What installs packages: `uv` at a path, or the `pip` of the new environment itself.

    `settings` are pip's: what it is configured to, of which uv reads nothing.
    """

    name: Literal["uv", "pip"]
    uv: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """A dry run that succeeds where a requirement can be had; a line that matches `seen` says so earlier."""

    argv: tuple[str, ...]
    seen: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a line of output tells: a `file` that arrived or that is on its way, or that a `phase` begins."""

    kind: Literal["begun", "fetched", "cached", "phase"]
    name: str
    size: int | None = None


def uv_of(environ: Mapping[str, str]) -> str | None:
    """The `uv` on `PATH`."""
    return shutil.which("uv", path=environ.get("PATH"))


def create(tool: Tool, interpreter: Path, folder: Path) -> tuple[str, ...]:
    """Make an environment at `folder`."""
    if tool.uv:
        return (tool.uv, "venv", "--python", str(interpreter), str(folder))
    return (str(interpreter), "-I", "-m", "venv", str(folder))


def install(tool: Tool, folder: Path, *arguments: str) -> tuple[str, ...]:
    """Install into the environment at `folder`, with bytecode, which halves vLLM's start; pip compiles unasked."""
    python = str(folder / "bin" / "python")
    if tool.uv:
        # The one setting for which uv has no variable.
        banned = ("--no-index",) if tool.settings.get("no-index", "").lower() in _TRUE else ()
        return (tool.uv, "pip", "install", "--python", python, "--compile-bytecode", *banned, *arguments)
    return (python, "-I", "-m", "pip", "install", *arguments)


def lean(tool: Tool, folder: Path) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """How what vLLM does not need is left out where dependencies are resolved: arguments, and steps afterwards.

    pip cannot leave a dependency out, so there it is taken away again.
    """
    if tool.uv:
        return ("--override", str(_LEFT_OUT)), ()
    names = [line.split()[0] for line in _LEFT_OUT.read_text().splitlines() if not line.startswith("#")]
    return (), ((str(folder / "bin" / "python"), "-I", "-m", "pip", "uninstall", "--yes", *names),)


def ask(tool: Tool, folder: Path, requirement: str, *arguments: str, resolve: bool = False) -> Question:
    """Whether a requirement can be had; with `resolve`, all that it depends on too."""
    if resolve:
        return Question(install(tool, folder, "--dry-run", *arguments, requirement))
    argv = install(tool, folder, "--dry-run", "--no-deps", *arguments, requirement)
    if tool.uv:
        return Question(argv)
    # pip names the file that it chose, then fetches it, all of it from an index that offers no metadata by itself.
    name, _, version = requirement.partition("==")
    stem = "[-_.]".join(map(re.escape, re.split(r"[-_.]", name))) + "-"
    if version:
        stem += re.escape(version).replace(r"\+", r"(?:\+|%2B)") + "-"
    return Question(argv, re.compile(rf"^\s*(?:Downloading|Processing|Using cached) \S*{stem}", re.IGNORECASE))


def environment(tool: Tool, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for the tool; uv is told pip's settings, since the index may be named nowhere else."""
    result = {name: value for name, value in environ.items() if name not in _DROPPED} | _QUIET
    if not tool.uv:
        return result
    settings = tool.settings
    if any(name in environ for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")):
        settings = {name: value for name, value in settings.items() if "index" not in name}
    for key, variable, separator in (
        ("index-url", "UV_INDEX_URL", " "),
        ("extra-index-url", "UV_EXTRA_INDEX_URL", " "),
        ("find-links", "UV_FIND_LINKS", ","),
        ("constraint", "UV_CONSTRAINT", " "),
        ("cert", "SSL_CERT_FILE", " "),
    ):
        if key in settings:
            result.setdefault(variable, separator.join(settings[key].split()))
    if "extra-index-url" in settings:
        # As pip takes them: all indexes are of equal right.
        result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return result


def settings_of_pip(listing: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What pip is configured to: what `pip config list` prints of its files, and its variables, which win."""
    found: dict[str, dict[str, str]] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        try:
            found.setdefault(section, {})[name] = str(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            continue
    variables = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    return {**found.get("global", {}), **found.get("install", {}), **variables}


_FILE = re.compile(r"^\s*(Downloading|Using cached|Processing) (\S+\.whl)(?: \((?P<size>[\d.]+) ?(?P<unit>\w+)\))?$")
_BEGUN = re.compile(r"^Downloading ([\w.-]+) \((?P<size>[\d.]+) ?(?P<unit>\w+)\)$")
_FETCHED = re.compile(r"^ Downloaded ([\w.-]+)$")
_PHASES = {"Installing collected packages": "installing", "Prepared ": "installing", "Installed ": "compiling"}
_UNITS = {"B": 1, "bytes": 1, "kB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def read(line: str) -> Told | None:
    """What a line of output tells. It is for show alone: nothing is decided by it."""
    if match := _FILE.match(line):
        kind: Literal["fetched", "cached"] = "fetched" if match[1] == "Downloading" else "cached"
        return Told(kind, match[2].rpartition("/")[2], _size(match))
    if match := _BEGUN.match(line):
        return Told("begun", match[1], _size(match))
    if match := _FETCHED.match(line):
        return Told("fetched", match[1])
    for start, phase in _PHASES.items():
        if line.startswith(start):
            return Told("phase", phase)
    return None


def _size(match: re.Match[str]) -> int | None:
    return int(float(match["size"]) * _UNITS.get(match["unit"], 0)) if match["size"] else None
