"""Container images that have vLLM, and the tool that runs them: docker or podman."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import modelctl
from modelctl import project as projects
from modelctl.engine import question
from modelctl.errors import ModelctlError, NotFoundError, UnreachableError, UsageError
from modelctl.project import Project
from modelctl.store import changes

Kind = Literal["docker", "podman"]

_TOOLS: tuple[Kind, ...] = ("docker", "podman")
_VARIABLE = "MODELCTL_CONTAINER_TOOL"
# Both answer in a fraction of a second; a daemon that hangs does not at all.
_PATIENCE = 5.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")


@dataclass(frozen=True, slots=True)
class Tool:
    """A docker or podman that answers. `rootless`: root inside of its containers is the user outside."""

    path: Path
    kind: Kind
    rootless: bool


@dataclass(frozen=True, slots=True)
class Image:
    """An image by the name that it was asked for, the hash of what it holds, and the tool that has it."""

    name: str
    id: str
    tool: Tool


def find(project: Project, name: str) -> Image:
    """The image of this name on this machine: that of the first tool that has it. Nothing is ever pulled."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"`{name}` is no name of an image", hint="a name looks like `vllm/vllm-openai:v0.33.0`")
    tools, silent = [], []
    for path in _paths(project):
        tool = _asked(path, project.environ)
        if isinstance(tool, Tool):
            tools.append(tool)
            if (content := _content(tool, name, project.environ)) is not None:
                return Image(name, content, tool)
        else:
            silent.append(f"`{path.name}` does not answer: {tool}")
    if tools:
        raise NotFoundError(
            f"there is no image `{name}` on this machine", hint=f"`{tools[0].path.name} pull {name}` brings it"
        )
    raise UnreachableError("; ".join(silent), hint=f"start it, or name another one in `{_VARIABLE}`")


def remembered(image: Image) -> object:
    """What was found in an image before, `None` where nothing was."""
    try:
        value = _object(_memory(image).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    match value:
        case {"id": image.id, "modelctl": modelctl.__version__, "vllm": answer}:
            return answer
    return None


def remember(image: Image, answer: object) -> None:
    """Keep what was found in an image; where that cannot be kept, it is found anew."""
    value = {"id": image.id, "modelctl": modelctl.__version__, "vllm": answer}
    with contextlib.suppress(ModelctlError):
        changes.write_file(_memory(image), json.dumps(value))


def caches(image: Image) -> Path:
    """Where what is compiled for an image is kept: folder by folder, since it is of no use to another one."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("modelctl")) / "images" / image.id[:12]


def _memory(image: Image) -> Path:
    return caches(image).with_suffix(".json")


def _paths(project: Project) -> Iterator[Path]:
    """The tools that there may be: the one that is named, else those on `PATH`."""
    named, search = projects.container_tool(project), project.environ.get("PATH")
    found = [Path(path) for each in ([named] if named else _TOOLS) if (path := shutil.which(each, path=search))]
    if not found:
        what = f"there is no `{named}`, named by `{_VARIABLE}`" if named else "there is no docker and no podman"
        raise NotFoundError(what, hint="an image needs one of them; `--python` names an environment with vLLM")
    yield from found


def _asked(path: Path, environ: Mapping[str, str]) -> Tool | str:
    """What answers at `path`, or in its own words why nothing does. What is called `docker` may be a podman."""
    code, out, err = _ran([str(path), "info", "--format", "{{json .}}"], environ)
    about = _object(out)
    match about:
        case {"host": {"security": {"rootless": bool(rootless)}}}:
            return Tool(path, "podman", rootless)
        case {"host": {}}:
            return Tool(path, "podman", os.getuid() != 0)
        case {"ServerVersion": str(version), "SecurityOptions": options} if version:
            return Tool(path, "docker", any("rootless" in str(each) for each in options or ()))
    # The client tells of itself even where nobody stands behind it.
    errors = about.get("ServerErrors") if isinstance(about, dict) else None
    words = [*(str(each) for each in errors or ()), *err.splitlines(), *out.splitlines()[:1]]
    said = next((word.strip() for word in words if word.strip()), "")
    return said[:300] or f"it ends with exit code {code}"


def _content(tool: Tool, name: str, environ: Mapping[str, str]) -> str | None:
    code, out, _ = _ran([str(tool.path), "image", "inspect", "--format", "{{.Id}}", name], environ)
    found = out.strip().removeprefix("sha256:")
    return found if code == 0 and re.fullmatch(r"[0-9a-f]{12,}", found) else None


def _ran(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str, str]:
    try:
        ran = question.ask(argv, environ=environ, patience=_PATIENCE)
    except subprocess.TimeoutExpired:
        return -1, "", f"nothing came within {_PATIENCE:.0f} s"
    except OSError as exc:
        return -1, "", exc.strerror or str(exc)
    return ran.returncode, ran.stdout, ran.stderr


def _object(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text)
    except ValueError:
        return None
