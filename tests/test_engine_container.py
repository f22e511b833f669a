"""vLLM in a real container of podman: served, seen, ended, and everything outside of it as it was before."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import servers
from modelctl.engine.servers import ServerRecord
from tests.command import NOBODY, Command, Finished
from tests.engines import FAST, START, TINY
from tests.serving import await_true, is_running, serving
from tests.standin.podman import REAL, SETTINGS
from tests.stores import StoreBuilder

pytestmark = pytest.mark.engine

SCRIPT = Path(__file__).parent / "standin" / "podman.py"


@dataclass(frozen=True)
class Box:
    """A project, and the podman that runs what it serves."""

    run: Command
    env: dict[str, str]
    user: int | None = None

    def __call__(self, *argv: str | Path, timeout: float = 60) -> Finished:
        return self.run(*argv, env=self.env, user=self.user, timeout=timeout)

    @property
    def state_dir(self) -> Path:
        return self.run.home / ".local" / "state" / "modelctl"

    def record(self) -> ServerRecord:
        await_true(lambda: len(servers.running(self.state_dir)) == 1)
        return servers.running(self.state_dir)[0]

    def assert_nothing_is_left(self, record: ServerRecord, *, seconds: float) -> None:
        """No container within so many seconds, and no process that knows of it."""
        await_true(
            lambda: f"{record.container}" not in podman("ps", "--all", "--format", "{{.Names}}"), seconds=seconds
        )
        await_true(lambda: not knowing(record), seconds=10)
        assert not is_running(record.pid)


def podman(*words: str) -> str:
    done = subprocess.run([REAL, *SETTINGS, *words], capture_output=True, check=True, encoding="utf-8", timeout=60)
    return done.stdout.strip()


def built_in(python: Path) -> dict[str, str]:
    """Where the image's vLLM lies; looked up here, since whoever runs the container may not be let that far."""
    return {"TEST_PODMAN_ENGINE": str(python.parent.parent), "TEST_PODMAN_BASE": str(python.resolve().parent.parent)}


def knowing(record: ServerRecord) -> list[str]:
    """The command lines with the name of a container, or of its processes in there."""
    name, found = str(record.container).encode(), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
            if name in words and is_running(int(entry.name)):
                found.append(b" ".join(words).decode())
    return found


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with nothing in it but the places for what `standin/podman.py` puts there."""
    if not Path(REAL).exists():
        pytest.fail("there is no podman to test with: `apt-get install podman runc`")
    name, archive = f"modelctl-test/system:{os.getpid()}", tmp_path_factory.mktemp("image") / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for folder, mode in {"usr": 0o755, "etc": 0o755, "root": 0o755, "tmp": 0o1777}.items():
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
    podman("import", str(archive), name)
    yield name
    podman("rmi", name)


@pytest.fixture
def env(tmp_path: Path, image: str) -> Iterator[dict[str, str]]:
    tool = tmp_path / "bin" / "podman"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {SCRIPT} "$@"\n')
    tool.chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        Path(temporary).chmod(0o777)
        yield {
            "PATH": f"{tool.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "MODELCTL_CONTAINER_TOOL": "podman",
            "MODELCTL_VLLM_IMAGE": image,
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_HOST_IP": "127.0.0.1",
            "TMPDIR": temporary,
        }


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of a podman that runs containers for others, as the daemon of docker does."""
    path = tmp_path / "podman.sock"
    process = subprocess.Popen(
        [REAL, *SETTINGS, "system", "service", "--time", "0", f"unix://{path}"], stderr=subprocess.DEVNULL
    )
    try:
        await_true(path.exists)
        path.chmod(0o666)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(20)


def test_the_real_vllm_serves_and_touches_nothing(
    run: Command, store: StoreBuilder, env: dict[str, str], vllm: Path, project: Path
) -> None:
    store.add(TINY)
    before = _state(project)
    box = Box(run, {**env, **built_in(vllm)})
    with serving(run, TINY, "--port", "0", "--max-model-len", "512", *FAST, env=box.env) as server:
        answer = server.until_ready(seconds=START).try_curl()
        assert answer["usage"]["completion_tokens"] > 0
        record = box.record()
        (shown,) = box("ps", "--json").json["servers"]
        assert shown["container"] == record.container
        assert shown["memory"] > 200e6
        for path in (store.hub / "written", store.paths(TINY).folder / "refs" / "main"):
            with pytest.raises(subprocess.CalledProcessError, match="exit status"):
                podman("exec", str(record.container), "/bin/sh", "-c", f"echo > {path}")
        began = time.monotonic()
        done = server.send(signal.SIGTERM).finish()
        assert time.monotonic() - began < 12
    assert done.code == 0, done
    box.assert_nothing_is_left(record, seconds=5)
    assert _state(project) == before
    assert servers.running(box.state_dir) == ()


def test_the_real_vllm_serves_a_user_whose_files_stay_his(
    run: Command, store: StoreBuilder, env: dict[str, str], vllm: Path, service: str, project: Path, home: Path
) -> None:
    """By a podman of root's, as with docker: whoever asked is the user in there, and alone owns what is written."""
    store.add(TINY)
    before = _state(project)
    box = Box(run, {**env, **built_in(vllm), "TEST_PODMAN_URL": service}, user=NOBODY)
    done = box(
        *("serve", TINY, "--port", "0", "--max-model-len", "512", "--detach", *FAST),
        timeout=START,
    )
    assert done.code == 0, done
    record = box.record()
    assert podman("exec", str(record.container), "id", "-u") == str(NOBODY)
    assert _ask(record.url)["usage"]["completion_tokens"] > 0
    began = time.monotonic()
    stopped = box("stop", record.id)
    assert (stopped.code, stopped.stdout) == (0, f"stopped {TINY} ({record.id})\n")
    assert time.monotonic() - began < 12
    box.assert_nothing_is_left(record, seconds=5)
    assert _state(project) == before
    written = [path for path in (home / ".cache" / "modelctl").rglob("*") if path.is_file()]
    assert written
    assert {path.lstat().st_uid for path in written} == {NOBODY}


@pytest.mark.parametrize("way", ["modelctl", "command", "vLLM", "SIGTERM"])
def test_nothing_outlives_what_is_killed(
    run: Command, store: StoreBuilder, env: dict[str, str], engine: Path, way: str
) -> None:
    """Also where the first process of the container ignores SIGTERM, as every one does that has no handler yet."""
    store.add(TINY)
    slow = {"STANDIN_IMPORT": "60"} if way == "SIGTERM" else {}
    box = Box(run, {**env, **slow, **built_in(engine)})
    with serving(run, TINY, "--port", "0", env=box.env) as server:
        if not slow:
            server.until_ready()
        record = box.record()
        await_true(lambda: podman("ps", "--filter", f"name={record.container}", "--format", "{{.Names}}"))
        await_true(lambda: box.record().engine_pid is not None)
        leader = box.record().engine_pid
        assert leader is not None
        match way:
            case "modelctl":
                os.kill(record.pid, signal.SIGKILL)
            case "command":
                os.kill(leader, signal.SIGKILL)
            case "vLLM":
                podman("kill", str(record.container))
            case _:
                os.kill(record.pid, signal.SIGTERM)
        done = server.finish(seconds=15)
        box.assert_nothing_is_left(record, seconds=5)
    assert done.code == {"modelctl": -signal.SIGKILL, "SIGTERM": 0}.get(way, 1), done


def test_images_that_cannot_serve(run: Command, env: dict[str, str], image: str) -> None:
    done = run("engine", "status", env=env)
    assert done.code == 3
    assert done.stderr.startswith(f"error: the image `{image}` has no `python3` that answers: Error: ")
    gone = run("engine", "status", "--image", f"{image}-gone", env=env)
    assert gone.stderr == (
        f"error: there is no image `{image}-gone` on this machine\nhint: `podman pull {image}-gone` brings it\n"
    )


def _state(project: Path) -> dict[str, tuple[int, int, int]]:
    """Whose everything in `models/` is, and since when."""
    return {
        str(path): (path.lstat().st_uid, path.lstat().st_mode, path.lstat().st_mtime_ns)
        for path in (project / "models").rglob("*")
    }


def _ask(url: str) -> Any:  # noqa: ANN401 - JSON
    body = json.dumps({"model": TINY, "prompt": "a", "max_tokens": 4}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
