"""Which models directory and why, what the environment says, and what a child process is given.

The only module that reads the environment.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelctl import env_file
from modelctl.errors import NotAllowedError, UsageError

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = {"1", "ON", "YES", "TRUE"}
_FALSE = {"0", "FALSE", "NO", "OFF"}

# Variables that would send a child to another cache, another hub, or give it what it has no need of.
_DROPPED_FOR_CHILDREN = (
    "HUGGINGFACE_HUB_CACHE",
    "TRANSFORMERS_CACHE",
    "PYTORCH_TRANSFORMERS_CACHE",
    "VLLM_USE_MODELSCOPE",
)
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
# What would lead a command to the user's own models or settings, beside Hugging Face's variables.
_OF_THE_USER = {
    *_DROPPED_FOR_CHILDREN,
    "TRANSFORMERS_OFFLINE",
    "MODELCTL_MODELS_DIR",
    "MODELS_DIR",
    "MODELCTL_MODEL",
    "VLLM_API_KEY",
}


@dataclass(frozen=True)
class Project:
    """Where models are written and read.

    `folder` holds `.env` and `modelctl.toml`; `user_cache` is the hub folder of the user's own cache.
    """

    models_dir: Path
    reason: str
    folder: Path
    user_cache: Path
    environ: Mapping[str, str] = field(repr=False)

    @property
    def hub(self) -> Path:
        """The project's hub folder: the standard cache layout lies below it."""
        return self.models_dir / "hub"

    @property
    def cache(self) -> Path | None:
        """The user cache's hub folder; `None` where it is the project's own."""
        return None if self.is_one_store else self.user_cache

    @property
    def is_one_store(self) -> bool:
        """Whether project and user cache are one folder, as `HF_HOME=./models` makes them."""
        return is_same_folder(self.hub, self.user_cache)

    @property
    def env_file(self) -> Path:
        """The project's `.env`, where the default model stands."""
        return self.folder / ".env"

    @property
    def settings_file(self) -> Path:
        """The project's `modelctl.toml`, where the settings of `serve` stand."""
        return self.folder / "modelctl.toml"


def locate(
    models_dir: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Project:
    """Find the models directory: the flag, `MODELCTL_MODELS_DIR`, `MODELS_DIR`, the nearest `models/`, `./models`."""
    environ = dict(os.environ if environ is None else environ)  # noqa: TID251 - this is the one place
    cwd = Path.cwd() if cwd is None else cwd
    named = [("--models-dir", str(models_dir) if models_dir is not None else "")]
    named += [(name, environ.get(name, "")) for name in ("MODELCTL_MODELS_DIR", "MODELS_DIR")]
    for source, value in named:
        if value:
            found = cwd / _expanded(value)
            return Project(found, f"named by `{source}`", _top_level(cwd) or cwd, _user_cache(environ), environ)
    if models_dir is not None:
        raise UsageError("`--models-dir` is empty", hint="name the folder that contains `hub/`")
    home = Path(environ["HOME"]) if environ.get("HOME") else None
    for folder in _ancestors(cwd, home=home):
        candidate = folder / "models"
        if (candidate / "hub").is_dir() or (candidate / ".gitkeep").is_file():
            where = "the working directory" if folder == cwd else f"`{folder}`, the nearest folder that has one"
            return Project(candidate, f"`models/` in {where}", folder, _user_cache(environ), environ)
    reason = "`./models`, since no folder above has a `models/` yet"
    return Project(cwd / "models", reason, cwd, _user_cache(environ), environ)


def completed_words() -> list[str]:
    """The words after `modelctl` that a shell asks to complete; none where it asks for nothing."""
    environ = os.environ  # noqa: TID251 - asked before there is a project
    if "_MODELCTL_COMPLETE" not in environ:
        return []
    return (environ.get("COMP_WORDS") or environ.get("_TYPER_COMPLETE_ARGS", "")).split()[1:]


def endpoint(project: Project) -> str:
    """The Hub's address, without a slash at its end."""
    # Not at the top: `list` has no use for it.
    from urllib.parse import urlsplit

    named = project.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT
    try:
        parts = urlsplit(named)
        # Only asking for the port tells whether it is one.
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or not named.isprintable():
        raise UsageError(
            f"`HF_ENDPOINT` is no address of a Hub: `{named.encode('unicode_escape').decode()}`",
            hint=f"an address looks like `{DEFAULT_ENDPOINT}`",
        )
    return named


def is_offline(project: Project) -> bool:
    """Whether the user forbade the network (`HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`)."""
    return any(project.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def is_online(project: Project) -> bool:
    """Whether the user lets vLLM have the network, which a model with parts in other repositories may need."""
    return project.environ.get("HF_HUB_OFFLINE", "").upper() in _FALSE


def token_file(project: Project) -> Path:
    """Where the user's own token file is, whether it exists or not."""
    named = project.environ.get("HF_TOKEN_PATH")
    return _expanded(named) if named else _hf_home(project.environ) / "token"


def vllm_python(project: Project) -> Path | None:
    """The interpreter whose vLLM the user wants (`MODELCTL_VLLM_PYTHON`)."""
    named = project.environ.get("MODELCTL_VLLM_PYTHON")
    return _expanded(named) if named else None


def vllm_image(project: Project) -> str | None:
    """The container image whose vLLM the user wants (`MODELCTL_VLLM_IMAGE`)."""
    return project.environ.get("MODELCTL_VLLM_IMAGE") or None


def container_tool(project: Project) -> str | None:
    """The tool that is to run containers (`MODELCTL_CONTAINER_TOOL`), by its name or path."""
    return project.environ.get("MODELCTL_CONTAINER_TOOL") or None


def child_environment(project: Project, *, offline: bool, caches: Path | None = None) -> dict[str, str]:
    """The environment of a vLLM that serves from the project's store.

    Hub caches point at the project; the token stays the user's own file, and an offline child gets none; what tools
    keep beside models (remote code, Xet, assets, compiled kernels) lies in the user's own cache, shared by projects, or
    in `caches`.
    """
    import platformdirs

    environ = {name: value for name, value in project.environ.items() if name not in _DROPPED_FOR_CHILDREN}
    own = caches or Path(platformdirs.user_cache_dir("modelctl"))
    environ |= {"HF_HOME": str(project.models_dir.absolute()), "HF_HUB_CACHE": str(project.hub.absolute())}
    for name, folder in (
        ("HF_MODULES_CACHE", own / "modules"),
        ("HF_XET_CACHE", own / "xet"),
        ("HF_ASSETS_CACHE", own / "assets"),
        ("TRITON_CACHE_DIR", own / "triton"),
        ("TORCHINDUCTOR_CACHE_DIR", own / "torchinductor"),
    ):
        environ.setdefault(name, str(folder))
    if offline:
        environ["HF_HUB_OFFLINE"] = "1"
        for name in (*TOKEN_VARIABLES, "HF_TOKEN_PATH"):
            environ.pop(name, None)
        # Not an empty value: huggingface_hub would then read $HF_HOME/token, which is the project's.
        environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # noqa: S105 - a switch, not a token
    else:
        environ.setdefault("HF_TOKEN_PATH", str(token_file(project)))
    return environ


def keep_xet_apart() -> None:
    """Have hf_xet in this process keep its logs where those of our children do, and not beside the models.

    Called before it is loaded, since it looks once: where `HF_HOME` is the models directory it would write there.
    """
    import platformdirs

    own = Path(platformdirs.user_cache_dir("modelctl"))
    os.environ.setdefault("HF_XET_CACHE", str(own / "xet"))  # noqa: TID251 - no other way leads to it


def xet_caches(project: Project) -> tuple[Path, ...]:
    """Where hf_xet keeps what it may need again: the user's own folder, and that of our pulls and children."""
    import platformdirs

    named = project.environ.get("HF_XET_CACHE")
    theirs = _expanded(named) if named else _hf_home(project.environ) / "xet"
    return tuple(dict.fromkeys((theirs, Path(platformdirs.user_cache_dir("modelctl")) / "xet")))


def secluded_environment(environ: Mapping[str, str], *, endpoint: str, cache: Path) -> dict[str, str]:
    """The environment of commands that meet nothing of the user's own: no models directory, default, cache or token.

    Their Hub is the one at `endpoint`, on this machine, and `cache` stands for the user's cache.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _OF_THE_USER and not name.startswith(("HF_", "HUGGING_FACE_"))
    }
    # The user's proxy is for what lies outside.
    direct = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    direct = direct if direct == "*" else ",".join(filter(None, [direct, "127.0.0.1"]))
    return kept | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "no_proxy": direct, "NO_PROXY": direct}


def default_model(project: Project) -> tuple[str, str] | None:
    """The default model as written, and where it stands: `MODELCTL_MODEL` in the environment, else in `.env`."""
    if value := project.environ.get("MODELCTL_MODEL", "").strip():
        return value, "the environment"
    try:
        text = project.env_file.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise NotAllowedError(
            f"cannot read `{project.env_file}`: {exc.strerror}", hint=f"`ls -l {project.env_file}` shows whose it is"
        ) from exc
    written = env_file.default_model(text)
    return (written, str(project.env_file)) if written else None


def named_commits(project: Project) -> frozenset[str]:
    """Whatever in the project's settings may be a commit, or the beginning of one (7 hex digits or more)."""
    texts = [project.environ.get("MODELCTL_MODEL", "")]
    for path in (project.env_file, project.settings_file, project.folder / "modelctl.lock"):
        try:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise NotAllowedError(
                f"cannot read `{path}`: {exc.strerror}", hint=f"`ls -l {path}` shows whose it is"
            ) from exc
    return frozenset(found.casefold() for text in texts for found in _COMMIT.findall(text))


_COMMIT = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{7,40}(?![0-9A-Za-z])")


def _expanded(text: str) -> Path:
    """A path with its `~` replaced; as it is where there is no home folder, as for a bare uid in a container."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _hf_home(environ: Mapping[str, str]) -> Path:
    if named := environ.get("HF_HOME"):
        return _expanded(named)
    cache = environ.get("XDG_CACHE_HOME")
    return _expanded(cache or "~/.cache") / "huggingface"


def _user_cache(environ: Mapping[str, str]) -> Path:
    if named := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return _expanded(named)
    return _hf_home(environ) / "hub"


def is_same_folder(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder, by its device and inode; by its name where there is none yet."""
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()


def _ancestors(cwd: Path, *, home: Path | None) -> list[Path]:
    """The working directory and what is above it, up to the git top level, the home folder or a file-system border."""
    folders = []
    device = cwd.stat().st_dev
    for folder in (cwd, *cwd.parents):
        if folder.stat().st_dev != device:
            break
        folders.append(folder)
        if (folder / ".git").exists() or folder == home:
            break
    return folders


def _top_level(cwd: Path) -> Path | None:
    return next((folder for folder in (cwd, *cwd.parents) if (folder / ".git").exists()), None)
