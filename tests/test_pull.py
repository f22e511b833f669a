"""`modelctl pull` against a Hub on loopback: what it fetches, what it leaves, what it says."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelctl.cli import output as show
from tests.command import Command
from tests.hub.faults import hold, slow, status
from tests.hub.loopback import Hub, make_hub_in
from tests.stores import StoreBuilder, tiny_model

MIB = 1024 * 1024
NAME = "acme/tiny"
BIN = Path(sys.executable).parent


def weights(size: int, *, seed: int = 1) -> bytes:
    """Bytes that no two places share."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - test data


def big_model(size: int = 40 * MIB) -> dict[str, bytes]:
    """A model with one file of more than a segment, and small ones."""
    return {"model.safetensors": weights(size), "config.json": b"{}", "tokenizer.json": b"{}"}


def content(store: StoreBuilder, model_id: str = NAME, revision: str = "main") -> dict[str, bytes]:
    """What a model's revision holds, read through the links."""
    return content_of(store.paths(model_id).snapshot(store.paths(model_id).ref(revision).read_text()))


def content_of(snapshot: Path) -> dict[str, bytes]:
    """What a snapshot folder shows."""
    return {path.relative_to(snapshot).as_posix(): path.read_bytes() for path in snapshot.rglob("*") if path.is_file()}


def leftovers(store: StoreBuilder, model_id: str = NAME) -> list[str]:
    """Everything in a model's folder that no finished pull leaves there."""
    folder = store.paths(model_id).folder
    odd = [path for path in folder.rglob("*") if ".modelctl" in path.parts or ".tmp" in path.name]
    # What is known of a revision that no ref names stays with it.
    known = store.paths(model_id).standings
    allowed = {known, known.parent, *known.glob("*.json")} if any(known.glob("*.json")) else set()
    return [str(path.relative_to(folder)) for path in odd if path not in allowed]


def blobs_are_true(store: StoreBuilder, model_id: str = NAME) -> bool:
    """Whether every blob's content hashes to its name."""
    for blob in store.paths(model_id).blobs.iterdir():
        data = blob.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if blob.name not in {git, hashlib.sha256(data).hexdigest()}:
            return False
    return True


def masked(text: str) -> str:
    """Output without what differs from run to run."""
    text = re.sub(r"in \d+\.\d s, \S+ \S+/s", "in TIME", text)
    return re.sub(r"127\.0\.0\.1:\d+", "HUB", text)


def test_a_pull_says_what_it_fetches_and_leaves_what_hf_leaves(run: Command, hub: Hub, store: StoreBuilder) -> None:
    model = tiny_model()
    commit = hub.add(NAME, files={**model, "pytorch_model.bin": b"x" * 1000, "onnx/model.onnx": b"y" * 500})
    done = run("pull", NAME, env=hub.environ)
    size = sum(len(data) for data in model.values())
    assert done.code == 0
    assert masked(done.stdout) == (
        f"pulled {NAME}@{commit[:12]} ({show.size(size)}; fetched {show.size(size)} in TIME)\n"
    )
    assert masked(done.stderr) == (
        f"{NAME} at main ({commit[:12]})\n"
        f"  {len(model)} files, {show.size(size)}\n"
        f"  to fetch: {len(model)} files, {show.size(size)}\n"
        "  left out: 2 files, 1.5 kB that vLLM does not load (`--all-files`)\n"
        f"pulling {NAME} {show.size(size)}\n"
        f"`{NAME}` is now the default model of this project (`.env`)\n"
    )
    assert content(store) == {name: data.encode() if isinstance(data, str) else data for name, data in model.items()}
    assert blobs_are_true(store)
    assert leftovers(store) == []
    assert (run.project / ".env").read_text() == f"MODELCTL_MODEL={NAME}\n"
    assert sorted(path.name for path in store.paths(NAME).folder.iterdir()) == ["blobs", "refs", "snapshots", "trees"]


def test_the_result_is_what_the_hubs_own_tools_accept(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files={**tiny_model(), "1_Pooling/config.json": "{}", "README.md": "# tiny\n"})
    assert run("pull", NAME, "--all-files", env=hub.environ).code == 0
    env = {**hub.environ, "HF_HUB_CACHE": str(store.hub)}
    listed = run.program([BIN / "hf", "cache", "ls", "--format", "json"], env=env)
    assert NAME in listed.stdout
    assert "warning" not in listed.stderr.lower()
    assert run.program([BIN / "hf", "cache", "verify", NAME], env=env).code == 0
    ask = f"from huggingface_hub import snapshot_download as s; print(s({NAME!r}, local_files_only=True))"
    offline = run.program([sys.executable, "-c", ask], env={**env, "HF_HUB_OFFLINE": "1"})
    assert offline.stdout.strip() == str(store.paths(NAME).snapshot(store.paths(NAME).ref("main").read_text()))


def test_a_selective_pull_is_whole_for_its_patterns(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files={**tiny_model(), "pytorch_model.bin": b"x" * 1000})
    assert run("pull", NAME, env=hub.environ).code == 0
    names = sorted(content(store))
    ask = (
        "import huggingface_hub as h\n"
        f"h.snapshot_download({NAME!r}, local_files_only=True, allow_patterns={names!r})\n"
        f"try: h.snapshot_download({NAME!r}, local_files_only=True)\n"
        "except h.errors.IncompleteSnapshotError: print('incomplete')\n"
    )
    env = {**hub.environ, "HF_HUB_CACHE": str(store.hub)}
    assert run.program([sys.executable, "-c", ask], env=env).stdout == "incomplete\n"


def test_a_complete_model_costs_one_request_and_no_byte(run: Command, hub: Hub) -> None:
    commit = hub.add(NAME)
    run("pull", NAME, env=hub.environ)
    hub.asked.clear()
    again = run("pull", NAME, env=hub.environ)
    assert (again.code, again.stdout.endswith("; nothing to fetch)\n")) == (0, True)
    assert [asked.path for asked in hub.asked] == [f"/api/models/{NAME}"]
    hub.asked.clear()
    assert run("pull", f"{NAME}@{commit}", env=hub.environ).code == 0
    assert hub.asked == []


def test_a_dry_run_writes_nothing(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    before = sorted(run.project.rglob("*"))
    done = run("pull", NAME, "--dry-run", env=hub.environ)
    assert done.code == 0
    assert done.stdout.splitlines()[0].split() == ["FILE", "SIZE", "SOURCE"]
    assert all(line.endswith("  fetch") for line in done.stdout.splitlines()[1:])
    assert sorted(run.project.rglob("*")) == before
    planned = run("pull", NAME, "--dry-run", "--json", env=hub.environ).json
    assert planned["schema"] == 1
    assert planned["models"][0]["to_fetch"] == planned["models"][0]["size"] > 0
    assert sorted(run.project.rglob("*")) == before


def test_json_is_one_event_a_line(run: Command, hub: Hub) -> None:
    commit = hub.add(NAME)
    done = run("pull", NAME, "--json", env=hub.environ)
    events = done.events
    assert all(event["schema"] == 1 for event in events)
    assert [event["event"] for event in events][:2] == ["plan", "stage"]
    assert events[0]["commit"] == commit
    files = {event["name"] for event in events if event["event"] == "file"}
    assert files == {file["name"] for file in events[0]["files"]}
    assert events[-1]["event"] == "done"
    assert events[-1]["models"][0]["fetched"] == events[0]["size"]
    assert events[-1]["default_model"] == NAME
    assert done.stderr == ""


def test_quiet_prints_the_id_alone(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    done = run("pull", NAME, "-q", env=hub.environ)
    assert (done.code, done.stdout, done.stderr) == (0, f"{NAME}\n", "")


def test_several_models_revisions_and_patterns(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME)
    hub.add(NAME, files={**tiny_model(), "config.json": "{}"}, revision="v1")
    hub.add("acme/other")
    done = run("pull", f"{NAME}@v1", "acme/other", "--no-use", env=hub.environ)
    assert done.code == 0
    assert content(store, revision="v1")["config.json"] == b"{}"
    assert not store.paths(NAME).ref("main").exists()
    assert not (run.project / ".env").exists()
    done = run("pull", NAME, "--include", "*.json", "--exclude", "tok*", env=hub.environ)
    assert done.code == 0
    assert {"config.json"} <= content(store).keys()
    assert not [name for name in content(store) if name.startswith("tok") or name.endswith(".safetensors")]


def test_a_newer_commit_comes_and_the_old_one_stays(run: Command, hub: Hub, store: StoreBuilder) -> None:
    old = hub.add(NAME)
    run("pull", NAME, env=hub.environ)
    old_size = store.blob(NAME, "config.json").stat().st_size
    new = hub.add(NAME, files={**tiny_model(), "config.json": '{"new": 1}'})
    hub.asked.clear()
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0
    assert store.paths(NAME).ref("main").read_text() == new
    assert {path.name for path in store.paths(NAME).snapshots.iterdir()} == {old, new}
    assert f"kept: 1 older revision, {show.size(old_size)} of its own; `modelctl rm {NAME}@{old[:12]}`" in done.stderr
    assert not [asked for asked in hub.asked if asked.path.endswith(".safetensors")]


def test_a_broken_blob_is_fetched_again(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME)
    run("pull", NAME, env=hub.environ)
    blob = store.blob(NAME, "model.safetensors")
    blob.write_bytes(blob.read_bytes()[:-1])
    assert run("pull", NAME, env=hub.environ).code == 0
    assert blobs_are_true(store)
    flipped = bytearray(blob.read_bytes())
    flipped[-1] ^= 1
    blob.write_bytes(flipped)
    assert run("pull", NAME, "--force", env=hub.environ).code == 0
    assert blobs_are_true(store)


def test_the_token_goes_to_the_hub_alone(run: Command, hub: Hub) -> None:
    hub.add(NAME, files=big_model(8 * MIB), private=True)
    env = {**hub.environ, "HF_TOKEN": hub.reader}
    done = run("pull", NAME, env=env)
    assert done.code == 0
    cdn = [asked for asked in hub.asked if asked.is_cdn]
    assert cdn
    assert all(asked.token is None for asked in cdn)
    assert all(asked.token == hub.reader for asked in hub.asked if not asked.is_cdn)
    assert hub.reader not in done.stdout + done.stderr
    for path in run.project.rglob("*"):
        assert not path.is_file() or hub.reader.encode() not in path.read_bytes()


@pytest.mark.parametrize("form", ["--token", "HF_TOKEN", "HF_TOKEN_PATH", "file"])
def test_a_token_is_found_in_every_place(run: Command, hub: Hub, form: str) -> None:
    hub.add(NAME, gated=True)
    argv: list[str] = []
    env: dict[str, str | None] = {**hub.environ}
    file = run.home / "token"
    file.write_text(hub.reader + "\n")
    if form == "--token":
        argv = ["--token", hub.reader]
    elif form == "HF_TOKEN":
        env["HF_TOKEN"] = hub.reader
    elif form == "HF_TOKEN_PATH":
        env["HF_TOKEN_PATH"] = str(file)
    else:
        env["HF_HOME"] = str(run.home)
    assert run("pull", NAME, *argv, env=env).code == 0


BAD: dict[str, tuple[list[str], dict[str, str], int, str, str]] = {
    "no such repository": (
        ["acme/none"],
        {},
        3,
        "there is no model `acme/none` at http://HUB, or it is private",
        "look for its name at http://HUB/models; for a private one log in first: `hf auth login`",
    ),
    "no such revision": (
        [f"{NAME}@nope"],
        {},
        3,
        f"`{NAME}` has no revision `nope`",
        f"there is `main`; all are shown at http://HUB/{NAME}",
    ),
    "a name with a slip": (
        ["acme/tinny"],
        {},
        3,
        "there is no model `acme/tinny` at http://HUB, or it is private",
        "did you mean `acme/tiny`; else look for its name at http://HUB/models; for a private one log in first:"
        " `hf auth login`",
    ),
    "gated, no token": (
        ["acme/gated"],
        {},
        4,
        "`acme/gated` is gated, and without a login there is no access to it",
        "ask for access at http://HUB/acme/gated, then `hf auth login`",
    ),
    "gated, another's token": (
        ["acme/gated"],
        {"HF_TOKEN": "hf_stranger"},
        4,
        "`acme/gated` is gated, and the account `stranger` has no access to it",
        "ask for access at http://HUB/acme/gated, then run the same command again",
    ),
    "private, no token": (
        ["acme/private"],
        {},
        3,
        "there is no model `acme/private` at http://HUB, or it is private",
        "look for its name at http://HUB/models; for a private one log in first: `hf auth login`",
    ),
    "a wrong token": (
        ["acme/private"],
        {"HF_TOKEN": "hf_wrong"},
        4,
        "the Hub does not accept the token it was given for `acme/private`",
        "log in anew: `hf auth login`",
    ),
    "no network": (
        [NAME],
        {"HF_ENDPOINT": "http://127.0.0.1:9"},
        7,
        "the Hub at `http://127.0.0.1:9` cannot be reached: [Errno 111] Connection refused",
        "run the same command again: it goes on where it stopped",
    ),
    "offline": (
        [NAME],
        {"HF_HUB_OFFLINE": "1"},
        7,
        f"`{NAME}` cannot be pulled: `HF_HUB_OFFLINE` forbids the network",
        "unset `HF_HUB_OFFLINE` to pull it",
    ),
    "no name": (
        ["../etc"],
        {},
        2,
        "`../etc` is not a model name",
        "a name looks like `org/name`, as on its Hub page",
    ),
    "no revision's name": (
        [f"{NAME}@../../x"],
        {},
        2,
        "`../../x` is not a revision",
        "give a branch, a tag or a full commit id",
    ),
    "nothing left": (
        [NAME, "--include", "*.nothing"],
        {},
        3,
        f"no file of `{NAME}` is left to pull",
        f"see them all with `modelctl pull {NAME} --all-files --dry-run`",
    ),
    "nothing to load": (
        ["acme/onnx"],
        {},
        3,
        "vLLM cannot load `acme/onnx`: it has no weights that vLLM loads, only ONNX files",
        "`modelctl pull acme/onnx --all-files` fetches it all the same",
    ),
    "a choice": (
        ["acme/gguf"],
        {},
        3,
        "`acme/gguf` has 2 quantisations to choose from: `Q4_K_M` (4 B), `Q8_0` (5 B)",
        "`modelctl pull acme/gguf:Q4_K_M` fetches one",
    ),
    "shards missing at the Hub": (
        ["acme/holes"],
        {},
        3,
        "`acme/holes` lacks weights that its index names: `model-00002-of-00002.safetensors`",
        "`modelctl pull acme/holes --all-files` fetches what there is",
    ),
}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with make_hub_in(tmp_path_factory.mktemp("crowded")) as make:
        hub = make()
        hub.add(NAME)
        hub.add("acme/gated", gated=True)
        hub.add("acme/private", private=True)
        hub.add("acme/onnx", files={"config.json": "{}", "model.onnx": b"x"})
        hub.add("acme/gguf", files={"m-Q4_K_M.gguf": b"GGUF", "m-Q8_0.gguf": b"GGUF."})
        index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
        hub.add("acme/holes", files={"model.safetensors.index.json": index, "model-00001-of-00002.safetensors": b"x"})
        yield hub


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input_has_its_code_message_and_hint(
    run: Command, crowded: Hub, case: tuple[list[str], dict[str, str], int, str, str]
) -> None:
    argv, env, code, message, hint = case
    before = sorted(run.project.rglob("*"))
    done = run("pull", *argv, env={**crowded.environ, **env})
    here = crowded.url.removeprefix("http://")
    assert (done.code, done.stdout) == (code, "")
    assert done.stderr.replace(here, "HUB") == f"error: {message}\nhint: {hint}\n"
    assert sorted(run.project.rglob("*")) == before
    as_json = run("pull", *argv, "--json", env={**crowded.environ, **env})
    assert as_json.code == code
    assert as_json.events[-1]["event"] == "error"
    assert as_json.events[-1]["error"]["message"].replace(here, "HUB") == message


def test_offline_a_complete_commit_is_a_success_and_a_branch_names_serve(run: Command, hub: Hub) -> None:
    commit = hub.add(NAME)
    run("pull", NAME, env=hub.environ)
    offline = {"HF_HUB_OFFLINE": "1"}
    assert run("pull", f"{NAME}@{commit}", env=offline).code == 0
    done = run("pull", NAME, env=offline)
    assert done.code == 7
    assert done.stderr.endswith(f"hint: what is already here can be served: `modelctl serve {NAME}`\n")
    gone = run("pull", NAME)
    assert (gone.code, gone.stderr.splitlines()[-1]) == (7, done.stderr.splitlines()[-1])


def test_a_name_that_leads_out_is_refused_whole(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    listing = [
        {"type": "file", "path": name, "size": 2, "oid": "0" * 40} for name in ("config.json", "../../evil.json")
    ]
    hub.fault(
        status(200, body=json.dumps(listing).encode(), headers={"content-type": "application/json"}), path="*/tree/*"
    )
    done = run("pull", NAME, env=hub.environ)
    assert (done.code, done.stdout) == (6, "")
    assert done.stderr == (
        f"error: `{NAME}` lists a file name that leads out of its folder: `../../evil.json`\n"
        "hint: do not use this repository; nothing of it was written\n"
    )
    assert not (run.project / "models" / "hub").exists()


def test_a_full_disk_is_seen_beforehand(run: Command, hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, files=big_model(30 * MIB))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)
    try:
        done = run("pull", NAME, "--models-dir", str(small), env=hub.environ)
        assert done.code == 5
        assert re.search(r"needs 48,234,\d+ bytes, and the file system of .* has 25,\d+,\d+ free\n", done.stderr)
        assert f"hint: make room with `modelctl rm --models-dir {small}`" in done.stderr
        assert not [asked for asked in hub.asked if asked.is_cdn]
    finally:
        subprocess.run(["/bin/umount", str(small)], check=True)


def test_a_disk_that_fills_meanwhile_keeps_what_arrived(run: Command, hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, files=big_model(40 * MIB))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(small)], check=True)
    try:
        # Filling the disk is quicker than that.
        hub.fault(slow(rate=8 * MIB), path="*model.safetensors*", times=None)
        pull = run.start("pull", NAME, "--models-dir", str(small), env=hub.environ)
        partials = small / "hub" / "models--acme--tiny" / ".modelctl" / "partial"
        until(lambda: bool(list(partials.glob("*.json"))))
        filler = small / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 60 * MIB)
        _, stderr = pull.communicate(timeout=60)
        assert pull.returncode == 5
        assert "No space left on device" in stderr
        filler.unlink()
        hub.faults.clear()
        sent = hub.bodies()
        assert run("pull", NAME, "--models-dir", str(small), env=hub.environ).code == 0
        assert hub.bodies() - sent < 40 * MIB
    finally:
        subprocess.run(["/bin/umount", str(small)], check=True)


def test_a_folder_that_may_not_be_written_names_the_line_that_mends_it(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    done = run("pull", NAME, env=hub.environ, user=65534)
    hubs = run.project / "models" / "hub"
    assert (done.code, done.stdout) == (4, "")
    assert done.stderr.splitlines()[-2:] == [
        f"error: cannot create `{hubs}`: Permission denied",
        f"hint: `sudo chown -R $(id -u):$(id -g) {hubs.parent}` makes it yours, if it should be",
    ]


def test_a_complete_model_in_a_store_that_may_only_be_read_is_a_success(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    assert run("pull", NAME, env=hub.environ).code == 0
    assert run("pull", NAME, env=hub.environ, user=65534).code == 0
    (run.project / ".env").unlink()
    hub.add(NAME, files={**tiny_model(), "config.json": "{}"})
    assert run("pull", NAME, env=hub.environ, user=65534).code == 4


def test_a_part_of_a_model_does_not_become_the_default(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    hub.add("acme/adapter", files={"adapter_config.json": "{}", "adapter_model.safetensors": b"x"})
    assert run("pull", NAME, "--include", "*.json", env=hub.environ).code == 0
    assert run("pull", "acme/adapter", env=hub.environ).code == 0
    assert not (run.project / ".env").exists()


def test_a_tag_that_looks_like_the_start_of_a_commit_is_a_tag(run: Command, hub: Hub, store: StoreBuilder) -> None:
    commit = hub.add(NAME)
    hub.add(NAME, revision=commit[:1])
    assert run("pull", f"{NAME}@{commit[:1]}", env=hub.environ).code == 0
    assert store.paths(NAME).ref(commit[:1]).read_text() == commit


def test_a_file_where_the_folder_should_be_is_left_alone(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    hubs = run.project / "models" / "hub"
    hubs.write_text("mine")
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 1
    assert done.stderr.splitlines()[-2:] == [
        f"error: `{hubs}` is a file where a folder should be",
        "hint: move it away, or name another folder with `--models-dir`",
    ]
    assert hubs.read_text() == "mine"


def test_project_and_cache_in_one_folder(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME)
    env = {**hub.environ, "HF_HOME": str(run.project / "models")}
    assert run("pull", NAME, env=env).code == 0
    assert run("list", "-q", env=env).stdout == f"{NAME}\n"
    assert blobs_are_true(store)


def until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def written(pid: int) -> int:
    """The bytes that a process has written: what has come to it, and not what was sent and is on its way."""
    io = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    return int(io.partition("wchar: ")[2].split()[0])


def await_word(process: "subprocess.Popen[str]", word: str) -> str:
    """The line of stderr in which a process says something."""
    assert process.stderr is not None
    while word not in (line := process.stderr.readline()):
        assert line, f"it ended without a word of `{word}`"
    return line


def test_ctrl_c_ends_it_at_once_and_keeps_the_partial(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=big_model())
    # What is under way would take twenty seconds more.
    hub.fault(slow(rate=MIB), path="*model.safetensors*", times=None)
    pull = run.start("pull", NAME, env=hub.environ)
    until(lambda: bool(list(store.paths(NAME).partials.glob("*.json"))))
    os.kill(pull.pid, signal.SIGINT)
    began = time.monotonic()
    stdout, stderr = pull.communicate(timeout=30)
    assert time.monotonic() - began < 15
    assert (pull.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-2:] == [
        f"error: the pull of `{NAME}` was interrupted",
        "hint: what has arrived is kept: run the same command again and it goes on from there",
    ]
    hub.faults.clear()
    sent = hub.bodies()
    assert run("pull", NAME, env=hub.environ).code == 0
    assert hub.bodies() - sent < 40 * MIB
    assert blobs_are_true(store)
    assert leftovers(store) == []


def test_a_killed_pull_goes_on_where_it_was(run: Command, hub: Hub, store: StoreBuilder) -> None:
    size = 96 * MIB
    hub.add(NAME, files=big_model(size))
    hub.fault(slow(rate=20 * MIB), path="*model.safetensors*", times=None)
    pull = run.start("pull", NAME, env=hub.environ)
    until(lambda: written(pull.pid) > size // 2)
    arrived = written(pull.pid)
    pull.kill()
    pull.communicate(timeout=10)
    sent = hub.bodies()
    assert run("list", "--json", env=hub.environ).json["models"][0]["state"] == "partial"
    hub.faults.clear()
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0
    # What the journal missed, and a read of each connection.
    assert hub.bodies() - sent < size - arrived + 16 * MIB + 8 * MIB
    assert "of an interrupted pull" in done.stderr
    assert blobs_are_true(store)
    assert leftovers(store) == []


def test_a_second_pull_waits_and_fetches_nothing(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=big_model(16 * MIB))
    released = threading.Event()
    hub.fault(hold(released), path="*model.safetensors*", times=None)
    first = run.start("pull", NAME, env=hub.environ)
    until(store.paths(NAME).pull_record.exists)
    second = run.start("pull", NAME, env=hub.environ)
    assert await_word(second, "waiting") == f"`{NAME}` is in use by `modelctl pull` (pid {first.pid}); waiting for it\n"
    released.set()
    first.communicate(timeout=60)
    stdout, _ = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert stdout.endswith("; nothing to fetch)\n")
    assert hub.bodies("model.safetensors") <= 16 * MIB + 1024


def test_beside_hf_download_both_end_well(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=big_model(16 * MIB))
    released = threading.Event()
    hub.fault(hold(released), path="/_cdn/*", times=None)
    env = {**hub.environ, "HF_HUB_CACHE": str(store.hub)}
    hf = subprocess.Popen(
        [BIN / "hf", "download", NAME],
        env=run.environment(env),
        cwd=run.project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: bool(list(store.paths(NAME).blobs.glob("*.incomplete"))))
    pull = run.start("pull", NAME, env=hub.environ)
    await_word(pull, "another tool is fetching it; waiting for that")
    released.set()
    assert hf.wait(timeout=60) == 0
    pull.communicate(timeout=60)
    assert pull.returncode == 0
    assert blobs_are_true(store)
    assert content(store).keys() == big_model(1).keys()


def test_a_hub_folder_that_is_a_link_elsewhere_is_written_through(run: Command, hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME)
    disk = tmp_path / "disk"
    disk.mkdir()
    (run.project / "models" / "hub").symlink_to(disk)
    assert run("pull", NAME, env=hub.environ).code == 0
    assert (disk / "models--acme--tiny" / "refs" / "main").exists()
