"""docs/cache-layout.md shows every path that modelctl makes, and none that it does not make."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

from modelctl.store import imports, trash
from modelctl.store.layout import RepoPaths
from tests import generated
from tests.command import Command
from tests.hub import faults
from tests.hub.loopback import Hub
from tests.serving import serving
from tests.standin.engines import make_engine
from tests.stores import StoreBuilder, tiny_model

PAGE = (generated.DOCS / "cache-layout.md").read_text(encoding="utf-8")
NAME, HALF, GONE = "acme/tiny", "acme/half", "acme/gone"
MIB = 1024 * 1024
_LINE = re.compile(r"^(?P<indent>(?:[│ ] {3})*)[├└]── (?P<name>\S+)")
_HASH = "[0-9a-f]{40}(?:[0-9a-f]{24})?"


def shown() -> list[str]:
    """The paths of the page's tree of a hub folder."""
    tree = PAGE.partition("models/hub/\n")[2].partition("```")[0]
    above: list[str] = []
    found = []
    for line in tree.splitlines():
        match = _LINE.match(line)
        assert match is not None, line
        above = [*above[: len(match["indent"]) // 4], match["name"]]
        found.append("".join(above))
    return found


def pattern(path: str) -> re.Pattern[str]:
    """What the placeholders of a path stand for; a folder's slash is left out."""
    parts = re.split(r"(<[^>]+>)", path.removesuffix("/"))
    known = {"<hash>": _HASH, "<commit>": "[0-9a-f]{40}"}

    def text(part: str) -> str:
        if not part.startswith("<"):
            return re.escape(part)
        return known.get(part, ".+" if "/" in part else "[^/]+")

    return re.compile("".join(map(text, parts)))


def made(hub: Path) -> Iterator[str]:
    """What lies in a hub folder, but for what is inside of what was set aside."""
    for path in hub.rglob("*"):
        name = path.relative_to(hub).as_posix()
        if "/.modelctl-trash/" not in str(path.parent):
            yield name


def test_every_path_is_shown_and_every_path_shown_is_made(run: Command, hub: Hub, store: StoreBuilder) -> None:
    large = {"model.safetensors": bytes(6 * MIB)}
    hub.add(NAME, lfs=large, files=tiny_model())
    assert run("pull", NAME, env=hub.environ).code == 0
    hub.add(NAME, lfs=large, files=tiny_model(**{"README.md": "new", "additional_chat_templates/a.jinja": "x"}))
    assert run("pull", NAME, env=hub.environ).code == 0
    hub.add(HALF, lfs={"model.safetensors": bytes(range(256)) * 40 * 1024}, files={"config.json": "{}"})
    hub.fault(faults.drop(after=5 * MIB), path="*model.safetensors*", method="GET", times=None)
    assert run("pull", HALF, "--retry-for", "0", "--max-workers", "1", env=hub.environ).code == 7
    # What an interrupted removal, migration and import leave.
    store.add(GONE)
    trash.set_aside(store.hub, store.paths(GONE).folder)
    (RepoPaths(store.hub, HALF).private / "incoming").mkdir()
    imports.write(RepoPaths(store.hub, HALF), imports.ImportRecord("/home/ada/tune", "main"))
    (RepoPaths(store.hub, HALF).imported / "files").mkdir()
    (RepoPaths(store.hub, HALF).imported / "files" / "config.json").touch()

    patterns = {path: pattern(path) for path in shown()}
    names = set(made(store.hub))
    folders = {path.relative_to(store.hub).as_posix() for path in store.hub.rglob("*") if path.is_dir()}
    known = {name for name in names if any(each.fullmatch(name) for each in patterns.values())}
    # A folder on the way to a shown path needs no line of its own, such as one inside a snapshot.
    assert {name for name in names - known if name not in folders} == set()
    assert {path for path, each in patterns.items() if not any(map(each.fullmatch, names))} == set()


def test_what_lies_outside_of_the_project_is_shown(run: Command, store: StoreBuilder, tmp_path: Path) -> None:
    store.add(NAME)
    env = {"MODELCTL_VLLM_PYTHON": str(make_engine(tmp_path / "venv")), "TMPDIR": "/tmp"}  # noqa: S108
    listed = re.findall(r"^\| `~/(\.[^`]+)`", PAGE, re.MULTILINE)
    patterns = [pattern(path) for path in listed]
    with serving(run, NAME, "--port", "0", env=env) as server:
        server.until_ready()
        files = {path.relative_to(run.home).as_posix() for path in run.home.rglob("*") if path.is_file()}
        # Killed, it would leave a folder in /tmp until the next one starts.
        server.send(signal.SIGTERM).finish()
    assert len(files) == 3
    assert all(any(each.fullmatch(name) for each in patterns) for name in files), files
