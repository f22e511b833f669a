"""The yard in which every test plays: a home of its own, no network but loopback, a Hub, a store, the command."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from modelctl.engine import home as engines
from tests.command import Command, clean_environment
from tests.crashes import spread
from tests.disks import another_disk
from tests.engines import environment, interpreter
from tests.guard import fence
from tests.hub.loopback import Hub, make_hub_in
from tests.standin.engines import make_engine
from tests.standin.servers import TINY, Yard
from tests.stores import StoreBuilder

_GUARD = Path(__file__).parent / "guard"
_OWN = (".cache/huggingface", ".cache/modelctl", ".local/state/modelctl", ".config/modelctl")
_ENGINE = "MODELCTL_TEST_ENGINE_PYTHON"
_OWN_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")

# Whether a run passes is no matter of luck, nor of how busy the machine is: every run tries the same examples, and none
# is timed. `--hypothesis-profile=search` tries others.
_FIXED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("fixed", _FIXED)
settings.register_profile("search", _FIXED, derandomize=False)
settings.load_profile("fixed")


def pytest_configure(config: pytest.Config) -> None:
    """Fence this process before anything of the package, or of huggingface_hub, reads its environment."""
    if config.getoption("numprocesses") and not hasattr(config, "workerinput"):
        return  # this one runs no test: its workers do, and each raises a fence of its own
    home = Path.home()
    folders = [str(home / name) for name in _OWN]
    folders += [os.environ[name] for name in _OWN_VARIABLES if os.environ.get(name)]  # noqa: TID251 - before it is replaced
    record = Path(tempfile.mkdtemp(prefix="modelctl-guard-")) / "trespasses"
    record.parent.chmod(0o777)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    config.add_cleanup(lambda: shutil.rmtree(record.parent))
    # The vLLM of the user who runs the tests, found before the home folder is another one.
    if not os.environ.get(_ENGINE) and (python := engines.python(engines.default())):  # noqa: TID251
        patch.setenv(_ENGINE, str(python))
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "MODELCTL_"))]:  # noqa: TID251
        if not name.startswith("MODELCTL_TEST_"):
            patch.delenv(name)
    patch.setenv(fence.FENCED, os.pathsep.join(folders))
    patch.setenv(fence.RECORD, str(record))
    for name, value in clean_environment(home=record.parent, guard=_GUARD).items():
        patch.setenv(name, value)
    fence.raise_fence(folders=folders, record=str(record))
    # In the background of a shell without job control Ctrl-C is ignored, under `nohup` the end of the terminal, also by
    # whatever the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the sweep what a `matrix` does not keep for the plain run: always the same cases, spread over it."""
    tables: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("matrix"):
            tables.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tables.values():
        mark = cases[0].get_closest_marker("matrix")
        kept = {at - 1 for at in spread(len(cases), mark.args[0])} if mark else set()
        for at, item in enumerate(cases):
            if at not in kept:
                item.add_marker("sweep")


@pytest.fixture(autouse=True)
def _yard(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forbid the real home, the real cache and every address but loopback, also to what the test starts."""
    for name, value in clean_environment(home=home, guard=_GUARD).items():
        monkeypatch.setenv(name, value)
    record = Path(os.environ[fence.RECORD])  # noqa: TID251 - set above
    record.unlink(missing_ok=True)
    yield
    trespasses = record.read_text(encoding="utf-8") if record.exists() else ""
    record.unlink(missing_ok=True)
    if "huggingface_hub" in sys.modules:
        _give_back_client()
    assert not trespasses, f"the test left its yard:\n{trespasses}"


def _give_back_client() -> None:
    """Let huggingface_hub have its own client: ours keeps tokens from every Hub but one, for the whole process."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    set_client_factory(default_client_factory)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home folder of this test, and of what it starts."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with an empty `models/`, as a fresh clone has it."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / ".gitkeep").touch()
    return folder


@pytest.fixture
def run(project: Path, home: Path) -> Command:
    """The real command, as a process: `run("list", "--json")` gives exit code, stdout and stderr."""
    return Command(project, home=home, guard=_GUARD)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the stand-in for vLLM, made once for all tests of a process."""
    return make_engine(tmp_path_factory.mktemp("engine") / "venv")


@pytest.fixture
def yard(run: Command, store: StoreBuilder, engine: Path, tmp_path: Path) -> Iterator[Yard]:
    """Where servers of the stand-in run, with one model in the store; what is left of them is killed."""
    store.add(TINY)
    # pytest's own folders have names too long for sockets.
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        record = str(tmp_path / "record.json")
        found = Yard(run, {"MODELCTL_VLLM_PYTHON": str(engine), "STANDIN_RECORD": record, "TMPDIR": temporary})
        yield found
        found.end_all()


@pytest.fixture(scope="session")
def vllm() -> Path:
    """The interpreter of the real vLLM."""
    return interpreter()


@pytest.fixture(scope="session")
def vllm_caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the real vLLM finds out once about an architecture, kept from test to test."""
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture
def vllm_env(vllm: Path, vllm_caches: Path) -> Iterator[dict[str, str]]:
    """The environment of a start of the real vLLM with `engines.FAST`."""
    # pytest's own folders have names too long for sockets.
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        yield {**environment(vllm, vllm_caches), "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TMPDIR": temporary}


@pytest.fixture
def store(project: Path) -> StoreBuilder:
    """Builds models into the project's hub folder by hand: `store.add("acme/tiny")`."""
    return StoreBuilder(project / "models" / "hub")


@pytest.fixture
def cache(home: Path) -> StoreBuilder:
    """Builds models into the hub folder of the user's own cache."""
    folder = home / ".cache" / "huggingface" / "hub"
    folder.parent.mkdir(parents=True)
    return StoreBuilder(folder)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on another file system."""
    with another_disk(tmp_path) as folder:
        yield folder


@pytest.fixture
def make_hub(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Starts loopback Hubs, stopped after the test: `make_hub(lifetime=0)`, `hub.add(..., gated=True)`."""
    with make_hub_in(tmp_path) as make:
        yield make


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    """A running loopback Hub with nothing on it: `hub.add("acme/tiny", files={...})`."""
    return make_hub()
