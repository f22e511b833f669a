"""The command line that runs vLLM out of a container image, as if it were installed here (nothing is started)."""

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl.engine import command, flags, paths
from modelctl.engine.images import Image, Tool

KEEPER = Path(__file__).with_name("keeper.py")
# Our scripts inside, where no image has anything.
_INSIDE = Path("/modelctl")
# A bound of the container's own, not memory that is taken: the kernel's default for a machine, half of it, has none.
_SHARED_MEMORY = "16g"
# What is handed on of the environment: all else belongs to the machine, as `PATH` does.
_PASSED = re.compile(
    r"(HF|HUGGING_FACE|TRANSFORMERS|TOKENIZERS|SAFETENSORS|VLLM|TORCH\w*|PYTORCH|TRITON|FLASHINFER|LMCACHE|RAY"
    r"|CUDA|NCCL|GLOO|UCX|OMP|MKL|KMP)_.+|DO_NOT_TRACK|NO_COLOR|TZ|(?i:https?|no|all)_(?i:proxy)"
)
_CACHES = (
    *("HF_MODULES_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"),
    *("VLLM_CACHE_ROOT", "FLASHINFER_WORKSPACE_BASE"),
)
# An image has its own.
_OF_THE_SYSTEM = {
    Path("/", name)
    for name in ("", "bin", "boot", "dev", "etc", "lib", "lib64", "opt", "proc", "root", "run", "sbin", "sys", "tmp")
} | {Path("/usr"), Path("/var")}
_JSON_PATH = re.compile(r'"(/[^"]+)"')
_REFUSAL = re.compile(r"^(?:docker|podman|Error): (?P<text>.+)$", re.MULTILINE)
# The tool's own: it could not start the container, or not the command in it.
REFUSED = {125, 126, 127}
_REMEDIES = (
    (
        r"could not select device driver|unresolvable CDI devices|nvidia",
        "the NVIDIA Container Toolkit lets containers use GPUs: `nvidia-ctk runtime configure` for docker, "
        "`nvidia-ctk cdi generate` for podman",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """What of this machine a container sees, each at the same path: what it may only read, and what it may write to.

    `own` is where it keeps what is to be there the next time.
    """

    own: Path
    reading: tuple[Path, ...]
    writing: tuple[Path, ...]


def name(server_id: str) -> str:
    """What the container of a server is called."""
    return f"modelctl-{server_id}"


def probe(image: Image, script: Path, *, called: str) -> tuple[str, ...]:
    """The command that has the Python of an image run a script of ours, which sees nothing of this machine."""
    inside = _INSIDE / script.name
    words = [str(image.tool.path), "run", "--rm", "--name", called, "--pull", "never", "--network", "none"]
    words += ["--log-driver", "none", "--security-opt", "label=disable", *_user(image.tool), *_mount(script, inside)]
    return (*words, "--entrypoint", "python3", image.name, str(inside))


def run(
    image: Image, words: Sequence[str], *, environ: Mapping[str, str], inside: Inside, device: str | None
) -> tuple[str, ...]:
    """The command that has the Python of an image run vLLM with `words`.

    It listens and reads as a process of the machine would. Variables are handed on by name: what they hold comes from
    the environment of the command, and nobody reads a key in a list of processes.
    """
    launcher = _INSIDE / command.LAUNCHER.name
    argv = [str(image.tool.path), "run", "--rm", "--pull", "never", "--network", "host", "--log-driver", "none"]
    # Labels of SELinux would have to be changed on the user's own files.
    argv += ["--security-opt", "label=disable", "--shm-size", _SHARED_MEMORY, *_user(image.tool), *_gpus(image, device)]
    # A user without an entry in its passwd has neither a home there nor a name, and Python asks for both.
    for assigned in ("HOME=/tmp", "USER=modelctl", "LOGNAME=modelctl", f"XDG_CACHE_HOME={inside.own}"):
        argv += ["--env", assigned]
    for variable in sorted(environ):
        argv += ["--env", variable] if _PASSED.fullmatch(variable) else []
    for folder in inside.writing:
        argv += _mount(folder, folder, writable=True)
    for path in inside.reading:
        argv += _mount(path, path)
    argv += [*_mount(command.LAUNCHER, launcher), "--workdir", "/tmp", "--entrypoint", "python3"]  # noqa: S108 - its own
    return (*argv, image.name, str(launcher), *words)


def kept(argv: Sequence[str], container: str) -> tuple[str, ...]:
    """A command of `run` whose container has a name, and is removed whoever of those that wait for it is killed."""
    named = (*argv[:2], "--name", container, *argv[2:])
    return (sys.executable, "-S", "-E", str(KEEPER), argv[0], container, *named)


def environment(inherited: Mapping[str, str], own: Path) -> dict[str, str]:
    """What vLLM in a container needs beside `inherited`: what compilers make for an image stays with the image."""
    return {"FLASHINFER_WORKSPACE_BASE": str(own), "VLLM_CACHE_ROOT": str(own / "vllm"), **inherited}


def inside(
    own: Path, models: Iterable[Path], words: Iterable[str], *, environ: Mapping[str, str], hub: Path | None
) -> Inside:
    """What a container has to see: `models` whole, paths among vLLM's flags, the caches in and beside `own`.

    `hub` is a folder that it may write models to.
    """
    named = [Path(environ[variable]) for variable in _CACHES if variable in environ]
    writing = _outermost([own, *(path for path in named if path.is_absolute()), *([] if hub is None else [hub])])
    wanted = [folder for model in models for folder in _roots(model)]
    wanted += [path for word in words for path in _paths(word)]
    if (token := environ.get("HF_TOKEN_PATH")) is not None and Path(token).is_file():
        wanted.append(Path(token))
    return Inside(own=own, reading=_outermost(wanted, within=writing), writing=writing)


def absolute(words: Sequence[str], folder: Path) -> tuple[str, ...]:
    """The flags of vLLM, their relative paths meant from `folder`: the working directory is another one inside."""
    found, is_path = [], False
    for word in words:
        flag, equals, value = word.partition("=")
        if is_path and not word.startswith("-"):
            found.append(paths.located(word, folder))
        elif equals and flags.full_name(flag) in paths.FLAGS:
            found.append(f"{flag}={paths.located(value, folder)}")
        else:
            found.append(word)
        is_path = not equals and flags.full_name(word) in paths.FLAGS
    return tuple(found)


def refusal(lines: Iterable[str]) -> tuple[str, str | None] | None:
    """What the tool itself said of a container that it did not start, and what may help; `None` if it said nothing."""
    said = [match["text"].strip() for line in lines if (match := _REFUSAL.match(line))]
    if not said:
        return None
    text = said[-1]
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, text, re.IGNORECASE)), None)
    return text[:300], remedy


def _user(tool: Tool) -> list[str]:
    """Whatever is written belongs to the user, and what the user may not read nobody reads for him."""
    uid, gid = os.getuid(), os.getgid()
    if tool.kind == "docker" and tool.rootless:
        return ["--user", "0:0"]
    if tool.rootless:
        return ["--userns", "keep-id", "--user", f"{uid}:{gid}"]
    groups = [word for group in sorted({*os.getgroups()} - {gid}) for word in ("--group-add", str(group))]
    return ["--user", f"{uid}:{gid}", *groups]


def _gpus(image: Image, device: str | None) -> list[str]:
    match device:
        case "cuda":
            return ["--gpus", "all"] if image.tool.kind == "docker" else ["--device", "nvidia.com/gpu=all"]
        case "rocm":
            return ["--device", "/dev/kfd", "--device", "/dev/dri"]
        case "xpu":
            return ["--device", "/dev/dri"]
        case _:
            return []


def _mount(source: Path, target: Path, *, writable: bool = False) -> list[str]:
    """Unlike `--volume` it makes no folder of root's where there is none."""
    fields = ["type=bind", f"source={source}", f"target={target}", *([] if writable else ["readonly"])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return ["--mount", line.getvalue()]


def _roots(model: Path) -> Iterator[Path]:
    """The folders in which a model's files lie, by links too: of models in a hub folder that whole folder."""
    yield _whole(model)
    for path in (model, *model.rglob("*")):
        real = path.resolve()
        yield _whole(real if real.is_dir() else real.parent)


def _whole(folder: Path) -> Path:
    models = (one for one in (folder, *folder.parents) if one.name.startswith("models--"))
    return next((one.parent for one in models), folder)


def _paths(word: str) -> Iterator[Path]:
    """The paths of this machine that a word names: as it is, behind a `=`, or in JSON."""
    for text in (word, word.partition("=")[2], *_JSON_PATH.findall(word)):
        if text.startswith("/") and Path(text) not in _OF_THE_SYSTEM and Path(text).exists():
            yield Path(text)


def _outermost(paths: Iterable[Path], *, within: Iterable[Path] = ()) -> tuple[Path, ...]:
    """The paths that lie in none of the others, nor in those of `within`, each once."""
    known, kept = [*within], list[Path]()
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        if not any(path == one or one in path.parents for one in (*known, *kept)):
            kept.append(path)
    return tuple(kept)
