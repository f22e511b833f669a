"""vLLM out of a container image: what is asked, what is run, and that nothing of it is left. With stand-ins."""

import contextlib
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelctl.engine import container, enclosed, running, servers
from modelctl.engine.images import Image, Kind, Tool
from modelctl.engine.servers import ServerRecord
from tests.command import Command, Finished
from tests.serving import await_true, in_time, is_running, serving
from tests.standin.engines import make_engine
from tests.standin.servers import TINY, Yard, record_of
from tests.stores import StoreBuilder

IMAGE = "acme/vllm:1"
SCRIPT = Path(__file__).parent / "standin" / "docker.py"
SEEN = container.Inside(own=Path("/cache/own"), reading=(Path("/data/hub"),), writing=(Path("/cache/own"),))
KEY = "sk-nobody-reads-this"


@dataclass(frozen=True)
class Box:
    """A yard whose vLLM is in an image, and what the stand-in for docker saw."""

    yard: Yard
    folder: Path

    def __call__(self, *argv: str | Path, env: Mapping[str, str | None] | None = None) -> Finished:
        return self.yard(*argv, env=env)

    @property
    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def runs(self) -> list[list[str]]:
        """The containers that were asked for, but for those that only answer what is in the image."""
        return [call for call in self.calls if call[0] == "run" and "host" in call]

    @property
    def containers(self) -> list[str]:
        return [path.name for path in (self.folder / "containers").iterdir() if path.name[0] != "."]

    def first(self, name: str) -> int:
        """The first process of a container."""
        return int((self.folder / "containers" / name).read_text())

    def assert_nothing_is_left(self, record: ServerRecord, *, but_record: bool = False) -> None:
        await_true(lambda: not keepers(record))
        assert self.containers == []
        self.yard.assert_nothing_is_left(record, but_record=but_record)


def keepers(record: ServerRecord) -> list[int]:
    """The processes beside the container's that know its name."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if str(record.container).encode() in words and is_running(int(entry.name)):
            found.append(int(entry.name))
    return found


@pytest.fixture
def box(run: Command, store: StoreBuilder, engine: Path, tmp_path: Path) -> Iterator[Box]:
    store.add(TINY)
    folder = tmp_path / "docker"
    (folder / "containers").mkdir(parents=True)
    (folder / "bin").mkdir()
    put_tool(folder / "bin" / "docker")
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        env = {
            "PATH": str(folder / "bin"),
            "STANDIN_DOCKER": str(folder),
            "STANDIN_IMAGE_PYTHON": str(engine),
            "STANDIN_RECORD": str(tmp_path / "record.json"),
            "STANDIN_GRANDCHILD": "1",
            "TMPDIR": temporary,
        }
        found = Box(Yard(run, env), folder)
        yield found
        for name in found.containers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.first(name), signal.SIGKILL)
        found.yard.end_all()


def put_tool(path: Path) -> None:
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {SCRIPT} "$@"\n')
    path.chmod(0o755)


class TestCommandLine:
    """The command that runs a container, for each kind of tool and device."""

    @pytest.mark.parametrize(
        ("kind", "rootless", "device", "user", "gpus"),
        [
            ("docker", False, "cpu", "own", []),
            ("docker", False, "cuda", "own", ["--gpus", "all"]),
            # Root in there is the user out here.
            ("docker", True, "cpu", "0:0", []),
            ("podman", False, "cuda", "own", ["--device", "nvidia.com/gpu=all"]),
            ("podman", True, "cpu", "keep-id", []),
            ("docker", False, "rocm", "own", ["--device", "/dev/kfd", "--device", "/dev/dri"]),
        ],
    )
    def test_user_and_gpus(self, kind: Kind, device: str, user: str, gpus: list[str], *, rootless: bool) -> None:
        image = Image(IMAGE, "5" * 64, Tool(Path("/usr/bin", kind), kind, rootless))
        argv = container.run(image, ["serve", "/m"], environ={}, inside=SEEN, device=device)
        assert argv[:2] == (f"/usr/bin/{kind}", "run")
        own = f"{os.getuid()}:{os.getgid()}"
        assert argv[argv.index("--user") + 1] == ("0:0" if user == "0:0" else own)
        assert ("--userns" in argv) == (user == "keep-id")
        assert " ".join(gpus) in " ".join(argv)
        assert bool(gpus) == bool({"--gpus", "--device"} & {*argv})
        assert argv[-6:] == ("--entrypoint", "python3", IMAGE, "/modelctl/launcher.py", "serve", "/m")

    def test_only_what_concerns_vllm_is_handed_on_and_by_name(self) -> None:
        environ = {"VLLM_API_KEY": KEY, "HF_HOME": "/m", "NCCL_DEBUG": "INFO", "CUDA_VISIBLE_DEVICES": "1"}
        foreign = {"PATH": "/bin", "PYTHONPATH": "/p", "VIRTUAL_ENV": "/v", "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "x"}
        proxies = {"https_proxy": "http://proxy", "NO_PROXY": "localhost"}
        argv = container.run(
            Image(IMAGE, "5" * 64, Tool(Path("/docker"), "docker", rootless=False)),
            ["serve"],
            environ={**environ, **foreign, **proxies},
            inside=SEEN,
            device="cpu",
        )
        given = [argv[at + 1] for at, word in enumerate(argv) if word == "--env"]
        assert given[:4] == ["HOME=/tmp", "USER=modelctl", "LOGNAME=modelctl", "XDG_CACHE_HOME=/cache/own"]
        assert {*given[4:]} == {*environ, *proxies}
        assert KEY not in " ".join(argv)

    def test_folders_are_mounted_at_their_own_path(self) -> None:
        odd = container.Inside(own=Path("/cache/own"), reading=(Path('/a,b/"c"'),), writing=(Path("/cache/own"),))
        image = Image(IMAGE, "5" * 64, Tool(Path("/docker"), "docker", rootless=False))
        argv = container.run(image, [], environ={}, inside=odd, device="cpu")
        mounts = [argv[at + 1] for at, word in enumerate(argv) if word == "--mount"]
        assert mounts[:2] == [
            "type=bind,source=/cache/own,target=/cache/own",
            'type=bind,"source=/a,b/""c""","target=/a,b/""c""",readonly',
        ]

    def test_what_it_sees(self, store: StoreBuilder, cache: StoreBuilder, tmp_path: Path) -> None:
        own, token = tmp_path / "own", tmp_path / "token"
        token.touch()
        store.add(TINY)
        cache.add("acme/other")
        # A model whose folder is a link into another hub folder.
        (store.hub / "models--acme--other").symlink_to(cache.hub / "models--acme--other")
        (link,) = (store.hub / "models--acme--other" / "snapshots").iterdir()
        (snapshot,) = (store.hub / "models--acme--tiny" / "snapshots").iterdir()
        template, adapter = tmp_path / "chat.jinja", tmp_path / "adapter"
        template.touch()
        adapter.mkdir()
        words = ["--chat-template", str(template), "--lora-modules", json.dumps({"name": "a", "path": str(adapter)})]
        words += ["--root-path", "/nowhere", "--allowed-local-media-path=/", str(snapshot)]
        environ = {
            "HF_TOKEN_PATH": str(token),
            "HF_XET_CACHE": str(own / "xet"),
            "VLLM_CACHE_ROOT": str(tmp_path / "v"),
        }
        seen = container.inside(own, [snapshot, link], words, environ=environ, hub=None)
        assert {*seen.reading} == {store.hub, cache.hub, template, adapter, token}
        assert {*seen.writing} == {own, tmp_path / "v"}
        # One that may fetch what its models want beside their own files needs a place for it.
        online = container.inside(own, [snapshot], [], environ={}, hub=store.hub)
        assert (online.own, online.reading, {*online.writing}) == (own, (), {own, store.hub})

    def test_relative_paths_of_vllm_s_flags_are_meant_from_here(self, tmp_path: Path) -> None:
        for name in ("chat.jinja", "auto"):
            (tmp_path / name).touch()
        words = ("--chat_template", "chat.jinja", "--ssl-keyfile=chat.jinja", "--dtype", "auto", "--config", "none")
        assert container.absolute(words, tmp_path) == (
            *("--chat_template", f"{tmp_path}/chat.jinja", f"--ssl-keyfile={tmp_path}/chat.jinja"),
            *("--dtype", "auto", "--config", "none"),
        )


@pytest.mark.matrix(3)
@pytest.mark.parametrize(
    ("argv", "env", "expected"),
    [
        (
            ["--image", "acme/gone"],
            {},
            (3, "there is no image `acme/gone` on this machine", "`docker pull acme/gone` brings it"),
        ),
        (
            ["--image", IMAGE, "--python", "python3"],
            {},
            (2, "`--python` and `--image` contradict each other", "give one of them"),
        ),
        (
            [],
            {"MODELCTL_VLLM_IMAGE": IMAGE, "MODELCTL_VLLM_PYTHON": "python3"},
            (2, "`MODELCTL_VLLM_PYTHON` and `MODELCTL_VLLM_IMAGE` contradict each other", "take one of them away"),
        ),
        (
            ["--image", "--privileged"],
            {},
            (2, "`--privileged` is no name of an image", "a name looks like `vllm/vllm-openai:v0.33.0`"),
        ),
        (
            ["--image", IMAGE],
            {"STANDIN_DOWN": "is the daemon running?"},
            (
                7,
                "`docker` does not answer: Cannot connect: is the daemon running?",
                "start it, or name another one in `MODELCTL_CONTAINER_TOOL`",
            ),
        ),
        (
            ["--image", IMAGE],
            {"PATH": "/nowhere"},
            (
                3,
                "there is no docker and no podman",
                "an image needs one of them; `--python` names an environment with vLLM",
            ),
        ),
        (
            ["--image", IMAGE],
            {"MODELCTL_CONTAINER_TOOL": "nerdctl"},
            (
                3,
                "there is no `nerdctl`, named by `MODELCTL_CONTAINER_TOOL`",
                "an image needs one of them; `--python` names an environment with vLLM",
            ),
        ),
        (
            ["--image", IMAGE],
            {"STANDIN_IMAGE_PYTHON": "/bin/false"},
            (3, f"the image `{IMAGE}` has no `python3` that answers: exit code 1", "name an image with vLLM"),
        ),
        (
            ["--image", IMAGE],
            {"STANDIN_IMAGE_PYTHON": sys.executable},
            (3, f"the image `{IMAGE}` has no vLLM", "`vllm/vllm-openai` is that of vLLM itself"),
        ),
    ],
)
def test_refusals(box: Box, argv: list[str], env: dict[str, str], expected: tuple[int, str, str]) -> None:
    code, message, hint = expected
    assert box("serve", TINY, *argv, env=env) == Finished(code, "", f"error: {message}\nhint: {hint}\n")
    assert box.runs == []


@pytest.mark.sweep
def test_a_tool_that_hangs_is_given_up_and_another_one_asked(box: Box) -> None:
    put_tool(box.folder / "bin" / "podman")
    docker = box.folder / "bin" / "docker"
    docker.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    done = box("engine", "status", "--image", IMAGE, "--json")
    assert (done.json["found"], done.json["image"], done.json["how"]) == (True, IMAGE, f"container image `{IMAGE}`")


def test_it_is_a_server_like_any_other(box: Box, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    env = {**box.yard.env, "STANDIN_KEY": KEY}
    with serving(box.yard.run, TINY, "--image", IMAGE, "--port", "0", "--api-key-file", key, env=env) as server:
        server.until_ready()
        record = box.yard.record()
        assert record.container == f"modelctl-{record.id}"
        assert box.containers == [record.container]
        assert server.try_curl()["model"] == TINY
        (shown,) = box("ps", "--json").json["servers"]
        # Its processes are in no control group of this name, as where they run in a virtual machine.
        assert (shown["container"], shown["state"], shown["memory"]) == (record.container, "ready", None)
        done = server.send(signal.SIGTERM).finish()
    assert done.code == 0
    assert f"(container image `{IMAGE}`)" in done.stderr
    assert "stopped; vLLM ended with exit code 0" in in_time(done.stderr)
    box.assert_nothing_is_left(record)
    given = box.yard.given()
    assert given["environ"]["VLLM_API_KEY"] == KEY
    assert {"PATH", "TMPDIR", "MODELCTL_SUPERVISOR"} & {*given["environ"]} == set()
    assert KEY not in json.dumps(box.calls)
    # Asked once what is in the image; what it holds does not change.
    probes = [call for call in box.calls if call[0] == "run" and "none" in call[call.index("--network") + 1]]
    assert len(probes) == 1
    assert box("serve", TINY, "--image", IMAGE, "--dry-run").code == 0
    assert len([call for call in box.calls if call[0] == "run"]) == 2


@pytest.mark.sweep
def test_what_a_dry_run_shows_is_what_is_run(box: Box) -> None:
    done = box("serve", TINY, "--image", IMAGE, "--port", "8123", "--dry-run", "--json")
    argv = done.json["argv"]
    assert done.json["engine"] == {
        "python": "python3",
        "version": "0.33.0+cpu",
        "device": "cpu",
        "how": f"container image `{IMAGE}`",
        "image": IMAGE,
    }
    shown = box("serve", TINY, "--image", IMAGE, "--port", "8123", "--dry-run").stdout
    words = shlex.split(shown.replace("\\\n", " "))
    at = words.index(argv[0])
    assert words[at:] == argv
    assert words[:2] == ["mkdir", "-p"]
    # Pasted as it is, it makes its folders and knows its variables.
    caches = Path(words[2])
    assert not caches.exists()
    folder = shlex.quote(str(box.folder / "bin"))
    line = shown.replace(f"{argv[0]} run", f"{argv[0]} run --name modelctl-pasted")
    pasted = box.yard.run.program(
        ["sh", "-c", line], env={**box.yard.env, "PATH": f"{folder}:/usr/bin:/bin", "STANDIN_EXIT": "7"}
    )
    assert pasted.code == 7, pasted
    assert caches.is_dir()
    assert box.yard.given()["environ"]["HF_HUB_OFFLINE"] == "1"


@pytest.mark.sweep
def test_who_names_the_image(box: Box, engine: Path) -> None:
    def how(*argv: str | Path, **env: str) -> str:
        done = box("serve", TINY, "--dry-run", "--json", *argv, env=env)
        assert done.code == 0, done
        return str(done.json["engine"]["how"])

    project, in_image = box.yard.run.project, f"container image `{IMAGE}`"
    assert how(MODELCTL_VLLM_IMAGE=IMAGE) == in_image
    assert how("--python", engine, MODELCTL_VLLM_IMAGE=IMAGE) == "named by `--python`"
    assert how("--image", IMAGE, MODELCTL_VLLM_PYTHON=str(engine)) == in_image
    (project / "modelctl.toml").write_text(f'[serve]\nimage = "{IMAGE}"\n')
    assert how() == in_image
    assert how("--python", engine) == "named by `--python`"
    assert how(MODELCTL_VLLM_PYTHON=str(engine)) == "named by `MODELCTL_VLLM_PYTHON`"
    (project / "modelctl.toml").write_text('[serve]\nimage = "acme/all"\n[serve.models."acme/tiny"]\nimage = 1\n')
    done = box("serve", TINY)
    assert done.code == 2
    assert 'line 4: `serve.models."acme/tiny".image` is not an image' in done.stderr


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("way", "phase", "detached"),
    [
        *((way, "serving", False) for way in ("SIGTERM", "SIGINT", "modelctl", "client", "container")),
        *((way, "serving", True) for way in ("stop", "modelctl", "keeper")),
        *((way, "loading", False) for way in ("SIGTERM", "modelctl", "client")),
        ("stop", "loading", True),
        ("modelctl", "import", False),
    ],
)
def test_nothing_is_left(box: Box, way: str, phase: str, *, detached: bool) -> None:
    switches = {"import": {"STANDIN_IMPORT": "60"}, "loading": {"STANDIN_LOAD": "60"}, "serving": {}}[phase]
    options = ["--detach"] if detached else []
    env = {**box.yard.env, **switches}
    with serving(box.yard.run, TINY, "--image", IMAGE, "--port", "0", *options, env=env) as command:
        record = reached(box, command.until_ready if not detached else command.finish, phase)
        act(box, way, record)
        if way == "keeper":
            # Nobody needs it as long as nothing else is killed.
            act(box, "SIGTERM", record)
        await_true(lambda: not is_running(record.pid))
        await_true(lambda: box.containers == [])
        done = command.finish()
    if not detached:
        expected = {"SIGTERM": 0, "keeper": 0, "stop": 0, "SIGINT": 130, "modelctl": -signal.SIGKILL}.get(way, 1)
        assert done.code == expected, done
    box.assert_nothing_is_left(record, but_record=True)
    assert box("stop", "--all").code == 0
    box.assert_nothing_is_left(record)


def reached(box: Box, until_ready: Callable[[], object], phase: str) -> ServerRecord:
    """The record of the server, once it is in a phase."""
    if phase == "serving":
        until_ready()
    elif phase == "loading":
        box.yard.given()
    await_true(lambda: box.yard.record().container in box.containers)
    record = box.yard.record()
    await_true((box.folder / "containers" / str(record.container)).read_text)
    return record


def act(box: Box, way: str, record: ServerRecord) -> None:
    assert record.engine_pid is not None
    assert record.container is not None
    match way:
        case "SIGTERM" | "SIGINT":
            os.kill(record.pid, signal.Signals[way])
        case "stop":
            assert box("stop", record.id).code == 0
        case "modelctl":
            os.kill(record.pid, signal.SIGKILL)
        case "client":
            os.kill(record.engine_pid, signal.SIGKILL)
        case "container":
            os.kill(box.first(record.container), signal.SIGKILL)
        case "keeper":
            (keeper,) = (pid for pid in keepers(record) if os.getsid(pid) == pid != record.engine_pid)
            os.kill(keeper, signal.SIGKILL)


@pytest.mark.sweep
@pytest.mark.parametrize("way", ["stop", "serve"])
def test_what_nobody_kept_is_removed_by_the_next_command(box: Box, way: str) -> None:
    """Where both are killed, modelctl and the keeper: there is nobody else."""
    assert box("serve", TINY, "--image", IMAGE, "--port", "0", "--detach").code == 0
    record = box.yard.record()
    act(box, "keeper", record)
    act(box, "modelctl", record)
    await_true(lambda: not is_running(record.pid))
    assert box.containers == [record.container]
    (shown,) = box("ps", "--json").json["servers"]
    assert (shown["state"], shown["reason"]) == ("failed", running.KILLED)
    if way == "stop":
        assert box("stop", record.id).code == 0
    else:
        assert box("serve", TINY, "--image", IMAGE, "--port", "0", env={"STANDIN_EXIT": "1"}).code == 1
    await_true(lambda: not keepers(record))
    assert box.containers == []
    assert box.yard.records == []


def test_tools_that_hang_hold_up_no_start(tmp_path: Path) -> None:
    """Each is asked once, however many containers it may have left, and another one is asked all the same."""
    does = {"hangs": "exec sleep 60", "hangs-later": 'case $1 in ps) echo "$4" | cut -c6- ;; *) exec sleep 60; esac'}
    tools = {name: tmp_path / name for name in (*does, "answers")}
    for name, path in tools.items():
        path.write_text(f"#!/bin/sh\n{does.get(name, '')}\n")
        path.chmod(0o755)
    for at, name in enumerate((*does, *does, "answers")):
        gone = record_of(tmp_path, id=f"{at:08x}", started=1, container=f"modelctl-{at}", container_tool=tools[name])
        servers.write(gone, state_dir=tmp_path)
    began = time.monotonic()
    enclosed.sweep(tmp_path, patience=0.1)
    # Two of them ask for a minute each time.
    assert time.monotonic() - began < 30
    left = [record.container for record in servers.gone(tmp_path)]
    assert left == ["modelctl-0", "modelctl-1", "modelctl-2", "modelctl-3", None]


@pytest.mark.sweep
def test_a_container_that_cannot_be_removed_is_told_and_tried_again(box: Box) -> None:
    env = {**box.yard.env, "STANDIN_KEEPS": "1"}
    with serving(box.yard.run, TINY, "--image", IMAGE, "--port", "0", env=env) as server:
        server.until_ready()
        record = box.yard.record()
        done = server.send(signal.SIGTERM).finish(seconds=30)
    assert done.code == 1
    command = f"docker rm -f {record.container}"
    assert done.stderr.endswith(f"error: the container of vLLM could not be removed\nhint: `{command}`\n")
    (shown,) = box("ps", "--json").json["servers"]
    assert shown["reason"] == f"its container could not be removed: `{command}`"
    told = box("stop", record.id, env={"STANDIN_KEEPS": "1"})
    assert (told.code, told.stderr) == (1, f"error: a container of vLLM could not be removed\nhint: `{command}`\n")
    assert box("stop", record.id).code == 0
    await_true(lambda: not keepers(record))
    assert record.container not in box.containers
    assert box.yard.records == []


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('could not select device driver "" with capabilities: [[gpu]].', "the NVIDIA Container Toolkit lets"),
        ("no space left on device.", "the whole log is `"),
    ],
)
def test_what_the_tool_itself_refuses_is_told(box: Box, said: str, remedy: str) -> None:
    done = box("serve", TINY, "--image", IMAGE, "--port", "0", env={"STANDIN_REFUSES": said})
    assert done.code == 1
    error, hint = done.stderr.splitlines()[-2:]
    assert error == (
        f"error: vLLM cannot serve `{TINY}`: Error response from daemon: {said} (vLLM ended with exit code 125)"
    )
    assert hint.startswith(f"hint: {remedy}")
    assert servers.running(box.yard.state_dir) == ()


@pytest.mark.sweep
def test_an_image_for_gpus_needs_one(box: Box, tmp_path: Path) -> None:
    cuda = make_engine(tmp_path / "cuda", version="0.33.0")
    done = box("serve", TINY, "--image", IMAGE, env={"STANDIN_IMAGE_PYTHON": str(cuda)})
    assert (done.code, done.stderr.splitlines()[0]) == (
        5,
        f"error: vLLM 0.33.0 of the image `{IMAGE}` is built for NVIDIA GPUs, and this machine shows none",
    )
