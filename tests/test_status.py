"""`modelctl status`, as a person, a front end and a script see it."""

import json
import os
import shutil
import signal
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelctl import process
from modelctl.engine import servers
from modelctl.engine.servers import ServerRecord
from tests.checkpoints import generator
from tests.command import NOBODY, Command
from tests.serving import serving
from tests.standin.engines import make_engine
from tests.standin.servers import record_of
from tests.stores import StoreBuilder

SIZE = sum(len(content) for content in generator().values())


@pytest.fixture
def disk(project: Path) -> str:
    """How large the file system is, as it is printed."""
    return f"{shutil.disk_usage(project).total / 1e9:.1f} GB"


def without_free(text: str) -> str:
    """The output without the free bytes of the disk, which change while a test runs."""
    lines = (
        f"disk       {line.partition(' free of ')[2]}" if " free of " in line else line for line in text.splitlines()
    )
    return "\n".join(lines) + "\n"


def interrupt(store: StoreBuilder, name: str, *, alive: bool) -> str:
    """A pull of which 100 bytes of the weights arrived, begun ten seconds ago."""
    commit = store.add(name, files=generator())
    paths = store.paths(name)
    blob = store.blob(name, "model.safetensors")
    owner = process.to_json(process.this_process("pull"))
    owner["since"] = (datetime.now(UTC) - timedelta(seconds=10)).isoformat()
    owner["started"] = owner["started"] if alive else 1
    paths.partials.mkdir(parents=True)
    paths.journal(blob.name).write_text(json.dumps({"size": 244, "received": [[0, 100]]}))
    blob.rename(paths.partial(blob.name))
    shutil.rmtree(paths.snapshots)
    paths.ref("main").unlink()
    names = list(generator())
    record = {"schema": 1, "commit": commit, "revision": "main", "files": names, "total": SIZE, "done_before": 122}
    paths.pull_record.write_text(json.dumps({**record, "owner": owner}))
    return commit


def serve(home: Path) -> ServerRecord:
    """The record of a server, for which this test is responsible."""
    record = record_of(home, model="acme/one", url="http://127.0.0.1:9", state="ready", stage="ready", requests=2)
    servers.write(record, state_dir=home / ".local" / "state" / "modelctl")
    return record


def test_a_project_with_nothing_in_it(run: Command, project: Path, home: Path, disk: str) -> None:
    done = run("status")
    assert (done.code, done.stderr) == (0, "")
    assert without_free(done.stdout) == (
        f"models     {project}/models (`models/` in the working directory)\n"
        f"cache      {home}/.cache/huggingface/hub\n"
        "default    none, `modelctl use NAME` sets it\n"
        "token      none, `hf auth login` gets one for gated and private models\n"
        f"disk       {disk}, the models take 0 B\n"
        "engine     no vLLM yet, `modelctl engine install` installs it\n"
        "status     there are no models yet, `modelctl pull` fetches one\n"
    )
    done = run("status", "--check")
    assert (done.code, done.stderr) == (0, "")


def test_no_models_directory_at_all(run: Command, tmp_path: Path) -> None:
    models = tmp_path / "none" / "models"
    done = run("status", "--json", "--models-dir", models)
    assert (done.code, done.stderr) == (0, "")
    status = done.json
    assert (status["models_dir_exists"], status["models_available"], status["downloaded_models"]) == (False, False, [])
    assert status["message"] == f"there is no models directory yet, `modelctl pull --models-dir {models}` makes it"
    assert status["disk"]["free"] > 0


def test_everything_that_is_ready_runs_or_needs_a_hand(
    run: Command, store: StoreBuilder, cache: StoreBuilder, project: Path, home: Path, disk: str
) -> None:
    store.add("acme/one", files=generator())
    cache.add("acme/two", files=generator())
    commit = interrupt(store, "acme/half", alive=False)
    interrupt(store, "acme/now", alive=True)
    store.add("acme/broken", files=generator())
    store.blob("acme/broken", "config.json").unlink()
    (project / ".env").write_text("MODELCTL_MODEL=acme/one\n")
    serve(home)
    done = run("status")
    assert done.code == 0
    lines = done.stdout.splitlines()
    rate = lines[-2].rpartition(", ")[2]
    assert without_free(done.stdout) == (
        f"models     {project}/models (`models/` in the working directory)\n"
        f"cache      {home}/.cache/huggingface/hub (1 model more there, {SIZE} B)\n"
        "default    acme/one\n"
        "token      none, `hf auth login` gets one for gated and private models\n"
        f"disk       {disk}, the models take 877 B\n"
        "engine     no vLLM yet, `modelctl engine install` installs it\n"
        "status     2 models ready, 1 being pulled, 2 not whole\n"
        "ready      acme/one\n"
        "           acme/two\n"
        "pulling    acme/half 60 %, 222 B of 366 B, interrupted\n"
        f"pulling    acme/now 60 %, 222 B of 366 B, {rate}\n"
        "serving    acme/one at http://127.0.0.1:9 (does not answer, 0a1b2c3d)\n"
    )
    assert rate.endswith(" B/s")
    wrong = (
        "`acme/broken` is broken: `config.json` leads to no content in this store\n"
        "hint: `modelctl pull acme/broken`\n"
        f"`acme/half` is partial: the pull of commit {commit[:12]} was interrupted at 60 %\n"
        "hint: `modelctl pull acme/half`\n"
    )
    assert done.stderr == wrong
    # Nobody listens there.
    wrong += (
        "`acme/one` should be ready at http://127.0.0.1:9, and does not answer\n"
        "hint: `modelctl logs 0a1b2c3d --tail 50`\n"
    )
    done = run("status", "--check")
    assert (done.code, done.stderr) == (1, wrong)
    done = run("status", "--check", "--json")
    assert (done.code, done.stderr, done.json["models_available"]) == (1, wrong, True)
    told = [(finding["message"], finding["fix"]) for finding in done.json["findings"]]
    assert "".join(f"{message}\nhint: `{fix}`\n" for message, fix in told) == wrong


def test_the_keys_of_the_document(
    run: Command, store: StoreBuilder, cache: StoreBuilder, project: Path, home: Path
) -> None:
    store.add("acme/one", files=generator())
    cache.add("acme/one", files=generator())
    cache.add("acme/two", files=generator())
    interrupt(store, "acme/now", alive=True)
    record = serve(home)
    done = run("status", "--json", env={"MODELCTL_MODEL": "acme/one"})
    assert (done.code, done.stderr) == (0, "")
    status = done.json
    assert next(iter(status)) == "schema"
    disk, (download,), (duplicate,), (server,) = (
        status.pop(name) for name in ("disk", "downloads", "duplicates", "servers")
    )
    assert status == {
        "schema": 1,
        "models_available": True,
        "models_dir_exists": True,
        "downloaded_models": ["acme/one", "acme/two"],
        "message": "2 models ready, 1 being pulled",
        "models_dir": str(project / "models"),
        "models_dir_reason": "`models/` in the working directory",
        "cache_dir": str(cache.hub),
        "default_model": "acme/one",
        "default_model_here": True,
        "token": {"found": False, "source": None, "name": None},
        "states": {"ready": 2, "partial": 1, "broken": 0},
        "cache": {"models": 1, "size": SIZE},
        "side_caches": [],
        "engine": {
            "found": False,
            "version": None,
            "device": None,
            "how": None,
            "python": None,
            "image": None,
            "problem": None,
        },
        "leftovers": {"count": 0, "size": 0},
        "problems": [],
        "findings": [],
    }
    assert {name: server[name] for name in ("id", "server", "url", "pid", "state", "since", "requests", "log")} == {
        "id": "acme/one",
        "server": "0a1b2c3d",
        "url": "http://127.0.0.1:9",
        "pid": os.getpid(),
        "state": "silent",
        "since": "2026-01-02T03:04:05Z",
        "requests": None,
        "log": str(record.log),
    }
    assert (duplicate["id"], duplicate["path"]) == ("acme/one", str(cache.paths("acme/one").folder))
    assert disk["models"] == SIZE + 122
    assert 0 < disk["free"] < disk["total"]
    rate = download.pop("rate")
    assert download == {"id": "acme/now", "done": 222, "total": SIZE, "active": True}
    assert 5 < rate <= 10


def test_what_hf_xet_keeps_is_told(run: Command, home: Path) -> None:
    xet = home / ".cache" / "huggingface" / "xet" / "staging"
    xet.mkdir(parents=True)
    (xet / "chunk").write_bytes(b"x" * 10_000)
    size = (xet / "chunk").stat().st_blocks * 512
    assert run("status", "--json").json["side_caches"] == [{"path": str(xet.parent), "size": size}]
    assert run("status").stdout.splitlines()[-1] == (
        f"xet        {size / 1000:.1f} kB kept for later downloads, `rm -r {xet.parent}` frees them"
    )


def test_a_default_model_that_is_not_here_is_told(run: Command) -> None:
    lines = run("status", env={"MODELCTL_MODEL": "acme/gone@main"}).stdout.splitlines()
    assert "default    acme/gone@main, which is not here" in lines


def test_the_engine_is_told_with_the_reason(run: Command, tmp_path: Path) -> None:
    python = make_engine(tmp_path / "engine")
    env = {"MODELCTL_VLLM_PYTHON": str(python)}
    engine = run("status", "--json", env=env).json["engine"]
    how = "named by `MODELCTL_VLLM_PYTHON`"
    assert engine == {
        "found": True,
        "version": "0.33.0+cpu",
        "device": "cpu",
        "how": how,
        "python": str(python),
        "image": None,
        "problem": None,
    }
    assert f"engine     vLLM 0.33.0+cpu for cpu ({how})" in run("status", env=env).stdout.splitlines()


def test_an_engine_that_cannot_be_asked_is_told_and_no_failure(run: Command, tmp_path: Path) -> None:
    env = {"MODELCTL_VLLM_PYTHON": str(tmp_path / "gone")}
    done = run("status", env=env)
    assert (done.code, done.stderr) == (0, "")
    assert f"engine     there is no interpreter `{tmp_path}/gone`" in done.stdout.splitlines()
    assert run("status", "--json", env=env).json["engine"]["problem"] == f"there is no interpreter `{tmp_path}/gone`"


def test_files_of_another_user_are_told_with_the_one_line_that_mends_them(
    run: Command, store: StoreBuilder, project: Path
) -> None:
    store.add("acme/one", files=generator())
    store.add("acme/two", files=generator())
    done = run("status", "--check", user=NOBODY)
    assert done.code == 1
    assert done.stderr == (
        f"some of `models` belongs to root\nhint: `sudo chown -R $(id -u):$(id -g) {project}/models`\n"
    )
    for folder, _, files in os.walk(project / "models"):
        for path in (folder, *(f"{folder}/{name}" for name in files)):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    done = run("status", "--check", user=NOBODY)
    assert (done.code, done.stderr) == (0, "")


def test_one_folder_for_project_and_cache(run: Command, store: StoreBuilder, project: Path) -> None:
    store.add("acme/one", files=generator())
    env = {"HF_HOME": str(project / "models")}
    assert run("status", "--json", env=env).json["cache_dir"] is None
    assert "cache      the same folder" in run("status", env=env).stdout.splitlines()


def test_a_store_that_cannot_be_read_is_told_and_no_failure(run: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    done = run("status", "--models-dir", tmp_path / "mine")
    assert (done.code, done.stderr) == (0, f"`{tmp_path}/mine` is a file where a folder should be\n")
    status = run("status", "--json", "--models-dir", tmp_path / "mine").json
    assert status["models_dir_exists"] is False
    assert [problem["kind"] for problem in status["problems"]] == ["store"]
    assert run("status", "--check", "--models-dir", tmp_path / "mine").code == 1


def test_many_models_stay_on_one_screen(run: Command, store: StoreBuilder) -> None:
    for number in range(30):
        store.add(f"acme/model-{number:02}", files={"config.json": "{}", "tokenizer.json": "{}"})
    lines = run("status").stdout.splitlines()
    assert len(lines) == 16
    assert lines[-1] == "           and 22 more, see `modelctl list`"


def test_many_findings_stay_on_one_screen(run: Command, store: StoreBuilder) -> None:
    for at in range(10):
        (store.hub / f"models--acme--m{at}").mkdir(parents=True)
    done = run("status", "--check")
    assert done.code == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 17
    assert lines[-1] == "and 2 more need a hand, see `modelctl list` and `modelctl status --json`"
    assert len(run("status", "--json").json["findings"]) == 10


def test_whose_token_it_is_and_never_which(run: Command, home: Path) -> None:
    folder = home / ".cache" / "huggingface"
    folder.mkdir(parents=True)
    (folder / "token").write_text("hf_ofthefile\n")
    (folder / "stored_tokens").write_text("[work]\nhf_token = hf_ofthefile\n\n[ci]\nhf_token = hf_ofci\n")

    def line(env: dict[str, str]) -> str:
        done = run("status", env=env)
        assert "hf_of" not in done.stdout + done.stderr
        return next(line for line in done.stdout.splitlines() if line.startswith("token"))

    assert line({}) == f"token      `work` from `{folder}/token`"
    assert line({"HF_TOKEN": "hf_ofci"}) == "token      `ci` from `HF_TOKEN`"
    assert line({"HF_TOKEN": "hf_ofnobody"}) == "token      from `HF_TOKEN`"
    assert run("status", "--json").json["token"] == {"found": True, "source": f"`{folder}/token`", "name": "work"}
    (folder / "stored_tokens").write_bytes(b"\xff no ini")
    assert line({}) == f"token      from `{folder}/token`"


def test_what_the_project_has_need_not_be_in_the_cache_too(
    run: Command, store: StoreBuilder, cache: StoreBuilder
) -> None:
    for where in (store, cache):
        where.add("acme/one", files=generator())
        where.add("acme/newer", files=generator())
    cache.add("acme/newer", files=generator(config__json="{}"), revision="v2")
    store.add("acme/half", files=generator())
    store.blob("acme/half", "config.json").unlink()
    cache.add("acme/half", files=generator())
    (one,) = run("status", "--json").json["duplicates"]
    assert (one["id"], one["path"]) == ("acme/one", str(cache.paths("acme/one").folder))
    blobs = cache.paths("acme/one").blobs
    assert one["frees"] == sum(blob.stat().st_blocks * 512 for blob in blobs.iterdir())
    (line,) = (line for line in run("status").stdout.splitlines() if line.startswith("twice"))
    assert line.startswith("twice      1 model also in the cache, `modelctl rm --cache acme/one` frees ")
    assert run("rm", "--cache", "acme/one", "--yes").code == 0
    assert run("status", "--json").json["duplicates"] == []


def test_a_default_model_that_is_not_here(run: Command, store: StoreBuilder, project: Path) -> None:
    store.add("acme/one", files=generator())
    (project / ".env").write_text("MODELCTL_MODEL=acme/two\n")
    done = run("status", "--check")
    assert done.code == 1
    assert done.stderr == "the default model `acme/two` is not here\nhint: `modelctl pull acme/two`\n"
    (project / ".env").write_text("MODELCTL_MODEL=acme/one@main\n")
    assert run("status", "--check").code == 0
    # Whoever copies the hint must not run what somebody has written into a project's settings.
    done = run("status", "--check", env={"MODELCTL_MODEL": "x; reboot"})
    assert done.stderr.splitlines()[1] == "hint: `modelctl pull 'x; reboot'`"


def test_a_check_asks_the_servers_and_the_engine(run: Command, store: StoreBuilder, tmp_path: Path) -> None:
    store.add("acme/one", files=generator())
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as short:
        env = {"MODELCTL_VLLM_PYTHON": str(make_engine(tmp_path / "engine")), "TMPDIR": short}
        with serving(run, "acme/one", "--port", "0", env=env) as server:
            server.until_ready()
            assert run("status", "--check", env=env).code == 0
            server.send(signal.SIGTERM).finish()
    gone = tmp_path / "gone"
    done = run("status", "--check", env={"MODELCTL_VLLM_PYTHON": str(gone)})
    assert (done.code, done.stderr) == (1, f"there is no interpreter `{gone}`\nhint: `modelctl engine status`\n")
