"""The commands that docs/exit-codes.md shows end with the codes that stand beside them."""

import os
import re
import shlex

from modelctl.store import lock, tree
from modelctl.store.layout import RepoPaths
from modelctl.store.tree import TreeFile
from tests import generated
from tests.command import Command
from tests.hub.loopback import Hub
from tests.standin.engines import make_engine
from tests.stores import StoreBuilder

PAGE = (generated.DOCS / "exit-codes.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^\| `(.*?modelctl [^`]+)`(?: while [^|]+)? \| (\d+) \|$", PAGE, re.MULTILINE)


def test_the_commands_end_with_their_codes(run: Command, store: StoreBuilder, hub: Hub) -> None:
    for name in ("acme/tiny", "acme/small", "acme/broken"):
        store.add(name)
    store.blob("acme/broken", "config.json").unlink()
    hub.add("acme/tiny")
    hub.add("acme/gated", gated=True)
    _offer_more_than_any_disk_has(hub, "acme/gigantic")
    python = make_engine(run.home / "venv")
    ended = []
    for line, _ in SHOWN:
        *variables, _, argv = line.partition("modelctl ")
        env = {"MODELCTL_VLLM_PYTHON": str(python), **dict(text.strip().split("=") for text in variables if text)}
        with lock.held(RepoPaths(store.hub, "acme/small"), "pull"):
            ended.append((line, str(run(*shlex.split(argv), env=hub.environ | env).code)))
    assert ended == SHOWN


def test_every_code_is_shown_but_those_of_signals() -> None:
    documented = {code for code, _ in re.findall(r"^\| (\d+) \| (`[a-z_]+`)? ?\|", PAGE, re.MULTILINE)}
    assert documented - {code for _, code in SHOWN} == {"129", "130", "143"}


def _offer_more_than_any_disk_has(hub: Hub, name: str) -> None:
    commit = hub.add(name, lfs={"model.safetensors": b"x"})
    size, paths = 8 << 40, hub.store.paths(name)
    (digest,) = [file.digest for file in (tree.read(paths, commit) or {}).values()]
    # Without a single block on the disk.
    os.truncate(paths.blob(digest), size)
    tree.write(paths, commit, {"model.safetensors": TreeFile(size, "1" * 40, digest)})
