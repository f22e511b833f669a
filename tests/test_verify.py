"""`modelctl verify`: every kind of damage is found, named, and mended, and nothing else is touched."""

import hashlib
import os
from pathlib import Path

import pytest

from modelctl.store import lock
from tests.command import NOBODY, Command, Finished
from tests.damages import CASES, NAME, WEIGHTS, Case, entry, flip
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder, tiny_model
from tests.test_pull import BIN, blobs_are_true, content, content_of, leftovers

OTHER = "acme/other"
FILES = {name: data if isinstance(data, bytes) else data.encode() for name, data in tiny_model().items()}


def opinion(run: Command, store: StoreBuilder, hub: Hub) -> Finished:
    """What `hf cache verify` says."""
    env = {**hub.environ, "HF_HUB_CACHE": str(store.hub)}
    return run.program([BIN / "hf", "cache", "verify", NAME, "--fail-on-missing-files"], env=env)


def seen(folder: Path) -> dict[str, object]:
    """All that lies in a folder: contents, links, times."""

    def state(path: Path) -> object:
        status = path.lstat()
        if path.is_symlink():
            return str(path.readlink())
        return (path.read_bytes() if path.is_file() else status.st_mode, status.st_mtime_ns, status.st_ino)

    return {str(path.relative_to(folder)): state(path) for path in folder.rglob("*")}


def test_whole_models(run: Command, store: StoreBuilder, cache: StoreBuilder) -> None:
    for kind in ("links", "shared", "copies"):
        store.add(f"acme/{kind}", kind=kind)
    cache.add("acme/cached")
    before = seen(store.hub)
    done = run("verify", "--all")
    assert (done.code, done.stdout) == (
        0,
        "acme/cached is whole: 6 files, 998.3 kB\n"
        "acme/copies is whole: 6 files, 998.3 kB\n"
        "acme/links is whole: 6 files, 998.3 kB\n"
        "acme/shared is whole: 6 files, 998.3 kB\n",
    )
    assert done.stderr.startswith("verifying 4.0 MB\n4 models, 4.0 MB proven in ")
    assert seen(store.hub) == before
    assert run("verify", "--cache", "--all", "-q").stdout == ""
    assert not (run.home / ".cache" / "modelctl" / "verify").exists()


def test_what_is_damaged_is_told_with_what_shows_it(run: Command, store: StoreBuilder) -> None:
    commit = store.add(NAME)
    store.paths(NAME).ref("v1").write_text(commit)
    store.add(OTHER)
    flip(store.blob(NAME, WEIGHTS), 100)
    blob = store.blob(NAME, WEIGHTS)
    entry(store, "tokenizer.json").unlink()
    done = run("verify", "tiny", OTHER)
    assert done.code == 6
    assert done.stdout.startswith("acme/tiny is damaged: 2 files, 5 proven\n")
    assert done.stdout.endswith("acme/other is whole: 6 files, 998.3 kB\n")
    assert "  `tokenizer.json` (main, v1) is missing\n" in done.stdout
    wrong = hashlib.sha256(blob.read_bytes()).hexdigest()[:12]
    line = f"  `model.safetensors` (main, v1) hashes to {wrong} instead of {blob.name[:12]}\n"
    assert f"{line}    {blob}\n" in done.stdout
    assert done.stderr.splitlines()[-2:] == [
        "error: 1 of 2 models is damaged",
        "hint: `modelctl verify --repair acme/tiny`",
    ]
    assert run("verify", "--all", "-q").stdout == "acme/tiny\n"


@pytest.mark.matrix(1)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_damage_is_found_and_mended(run: Command, store: StoreBuilder, hub: Hub, case: Case) -> None:
    hub.add(NAME)
    commit = store.add(NAME)
    store.add(OTHER)
    case.do(store, case.file)
    good, bad = seen(store.paths(OTHER).folder), seen(store.paths(NAME).folder)
    done = run("verify", "--all", "--json")
    assert (done.code, done.stderr) == (6, "")
    other, tiny = done.events[-1]["error"]["verified"]
    assert (other["id"], other["state"], tiny["state"]) == (OTHER, "whole", "damaged")
    (damage,) = [one for one in tiny["damaged"] if {"commit": commit, "name": case.file} in one["files"]]
    assert damage["kind"] == case.kind
    assert (damage["fix"] == f"modelctl verify --repair {NAME}") == case.mends
    assert seen(store.paths(NAME).folder) == bad
    if not case.is_here:
        # Nobody answers: all stays as it is.
        assert run("verify", "--repair", NAME, "--retry-for", "0").code == (7 if case.mends else 6)
        assert content_of(store.paths(NAME).snapshot(commit)).get(case.file) != FILES[case.file]
    done = run("verify", "--repair", NAME, env={} if case.is_here else hub.environ)
    if not case.mends:
        assert done.code == 6, done
        assert damage["fix"].startswith("rm -r ")
        run.program(["rm", "-r", damage["path"]])
        done = run("verify", "--repair", NAME, env=hub.environ)
    assert done.code == 0, done
    # Only what was wrong has come.
    assert {asked.path.rpartition("/")[2] for asked in hub.asked if asked.sent} <= {
        case.file,
        case.file_too,
        hashed(store),
    }
    assert content(store) == FILES
    assert leftovers(store) == []
    assert run("verify", "--all").code == 0
    said = opinion(run, store, hub)
    assert said.code == 0, said
    assert seen(store.paths(OTHER).folder) == good


@pytest.mark.sweep
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kind in {"content", "size", "missing"}])
def test_hf_finds_the_same_damages(run: Command, store: StoreBuilder, hub: Hub, name: str) -> None:
    hub.add(NAME)
    store.add(NAME)
    assert opinion(run, store, hub).code == 0
    CASES[name].do(store, CASES[name].file)
    assert opinion(run, store, hub).code == 1


@pytest.mark.sweep
def test_a_file_that_two_models_share(run: Command, store: StoreBuilder, hub: Hub) -> None:
    for name in (NAME, OTHER):
        hub.add(name)
        store.add(name)
    blob, second = store.blob(NAME, WEIGHTS), store.blob(OTHER, WEIGHTS)
    second.unlink()
    second.hardlink_to(blob)
    flip(blob, 9)
    done = run("verify", NAME)
    assert done.code == 6
    assert "    acme/other shows the same file\n" in done.stdout
    done = run("verify", "--repair", NAME, env=hub.environ)
    assert done.code == 0, done
    # The other model is told of, and not touched.
    assert run("verify", OTHER).code == 6
    assert not blob.samefile(second)
    assert run("verify", "--repair", "--all", env=hub.environ).code == 0
    assert blobs_are_true(store, OTHER)


@pytest.mark.sweep
def test_a_payload_that_two_models_share(run: Command, store: StoreBuilder, hub: Hub) -> None:
    for name in (NAME, OTHER):
        hub.add(name)
        store.add(name, kind="shared")
    payload = store.blob(NAME, WEIGHTS)
    flip(payload, 9)
    done = run("verify", "--all", "--json")
    other, tiny = done.events[-1]["error"]["verified"]
    assert [tiny["damaged"][0]["others"], other["damaged"][0]["others"]] == [[OTHER], [NAME]]
    # It was read once.
    assert done.events[-1]["error"]["read"] < 1.2 * payload.stat().st_size
    assert run("verify", "--repair", NAME, env=hub.environ).code == 0
    assert payload.with_name(f"{payload.name}.refs").read_text() == f"models--acme--other/blobs/{hashed(store)}\n"
    assert run("verify", NAME, OTHER, "-q").stdout == "acme/other\n"
    assert run("verify", "--repair", OTHER, env=hub.environ).code == 0
    # Nobody uses the damaged payload any more.
    assert not payload.exists()
    assert run("verify", "--all").code == 0


def hashed(store: StoreBuilder) -> str:
    return entry(store, WEIGHTS).readlink().name


def test_what_to_verify_has_to_be_said(run: Command, store: StoreBuilder) -> None:
    store.add(NAME)
    store.add(OTHER)
    assert run("verify").stderr == (
        "error: `verify` needs the names of models, or `--all`\nhint: `modelctl verify --all` verifies all\n"
    )
    for argv, code in (((), 2), (("--all", NAME), 2), (("acme",), 2), (("nope",), 3), ((f"{NAME}@v9",), 3)):
        assert run("verify", *argv).code == code, argv


@pytest.mark.sweep
def test_revisions_globs_and_places(run: Command, store: StoreBuilder, cache: StoreBuilder, hub: Hub) -> None:
    old = store.add(NAME, files=tiny_model(**{"README.md": "old"}))
    store.add(NAME)
    cache.add(OTHER)
    hub.add(OTHER)
    store.paths(NAME).entry(old, "README.md").resolve().write_text("rotten")
    assert run("verify", f"{NAME}@main").code == 0
    assert run("verify", NAME, "--revision", old[:9], "-q").stdout == f"{NAME}\n"
    assert run("verify", "acme/*", "-q").stdout == f"{NAME}\n"
    assert run("verify", f"{NAME}:Q4_K_M").code == 2
    assert run("verify", "--cache", NAME).code == 3
    assert run("verify", "--cache", NAME).stderr.endswith("leave out `--cache` for the project\n")
    # What lies in the user's cache is looked at, and mended only when told.
    cache.blob(OTHER, WEIGHTS).write_bytes(b"x")
    done = run("verify", "--repair", OTHER, env=hub.environ)
    assert (done.code, done.stderr.splitlines()[-1]) == (6, f"hint: `modelctl verify --repair --cache {OTHER}`")
    assert cache.blob(OTHER, WEIGHTS).read_bytes() == b"x"
    assert not store.paths(OTHER).folder.exists()
    assert run("verify", "--repair", "--cache", OTHER, env=hub.environ).code == 0
    assert run("verify", "--cache", "--all").code == 0
    assert not store.paths(OTHER).folder.exists()


@pytest.mark.sweep
def test_the_old_revision_is_mended_too_and_nothing_is_named_anew(run: Command, store: StoreBuilder, hub: Hub) -> None:
    for one in (store, hub):
        old = one.add(NAME, files=tiny_model(**{"README.md": "old"}))
        new = one.add(NAME)
    blob = store.paths(NAME).entry(old, "README.md").resolve()
    blob.write_text("rotten")
    entry(store, "config.json").resolve().write_text("{}")
    done = run("verify", "--repair", NAME, env=hub.environ)
    assert (done.code, blob.read_text()) == (0, "old"), done
    paths = store.paths(NAME)
    assert [path.name for path in paths.refs.iterdir()] == ["main"]
    assert paths.ref("main").read_text() == new
    assert not paths.private.exists()


@pytest.mark.sweep
def test_what_nothing_tells_of_cannot_be_checked(run: Command, store: StoreBuilder) -> None:
    store.add(NAME, kind="copies", tree=False)
    done = run("verify", NAME)
    assert (done.code, done.stdout.splitlines()[0]) == (0, "acme/tiny cannot be checked: 6 files")
    store.add(OTHER)
    (entry_of_other := store.paths(OTHER).snapshot(store.paths(OTHER).ref("main").read_text()) / "notes.txt").touch()
    value = run("verify", OTHER, "--json").events[-1]["verified"][0]
    assert (value["state"], value["unchecked"][0]["path"]) == ("whole", str(entry_of_other))
    # Its own header tells of a file that has no hash.
    entry(store, WEIGHTS).write_bytes(b"no header")
    assert run("verify", NAME, "--json").events[-1]["error"]["verified"][0]["damaged"][0]["kind"] == "header"


@pytest.mark.sweep
def test_a_list_that_cannot_be_read(run: Command, store: StoreBuilder) -> None:
    commit = store.add(NAME)
    store.paths(NAME).tree(commit).write_text("{")
    value = run("verify", NAME, "--json").events[-1]["verified"][0]
    assert (value["state"], value["files"]) == ("whole", 6)
    assert value["unchecked"][0]["path"] == str(store.paths(NAME).tree(commit))


@pytest.mark.sweep
def test_a_content_that_no_revision_shows(run: Command, store: StoreBuilder) -> None:
    store.add(NAME)
    orphan = store.paths(NAME).blob("1" * 64)
    orphan.write_bytes(b"x")
    done = run("verify", NAME)
    assert done.code == 6
    assert f"  `blobs/{'1' * 64}` hashes to" in done.stdout
    assert done.stderr.endswith("hint: `modelctl prune`\n")
    assert run("verify", f"{NAME}@main").code == 0


def test_unreadable_files_are_told_and_the_others_go_on(run: Command, store: StoreBuilder) -> None:
    for name in (NAME, OTHER):
        store.add(name)
    store.blob(NAME, WEIGHTS).chmod(0)
    done = run("verify", "--all", "--json", user=NOBODY)
    assert done.code == 1
    other, tiny = done.events[-1]["error"]["verified"]
    assert (other["state"], tiny["state"], tiny["files"]) == ("whole", "unknown", 5)
    assert tiny["unreadable"][0]["files"][0]["name"] == WEIGHTS
    done = run("verify", NAME, user=NOBODY)
    assert (done.code, done.stderr.splitlines()[-1][:22]) == (4, "hint: `sudo chown -R $"[:22])


@pytest.mark.sweep
def test_a_folder_that_cannot_be_read(run: Command, store: StoreBuilder) -> None:
    commit = store.add(NAME)
    store.paths(NAME).snapshot(commit).chmod(0)
    assert run("verify", NAME, user=NOBODY).code == 4
    store.paths(NAME).snapshot(commit).chmod(0o755)
    store.paths(NAME).blobs.chmod(0)
    assert run("verify", NAME, user=NOBODY).code == 4
    store.paths(NAME).folder.chmod(0)
    assert run("verify", NAME, user=NOBODY).code == 4


@pytest.mark.sweep
def test_a_model_that_is_being_changed_is_busy(run: Command, store: StoreBuilder) -> None:
    for name in (NAME, OTHER):
        store.add(name)
    with lock.held(store.paths(NAME), "pull"):
        done = run("verify", NAME)
        assert done.code == 8
        assert done.stderr.startswith("verifying 0 B\nerror: `acme/tiny` is in use by `modelctl pull` (pid ")
        assert run("verify", "--all").code == 1


@pytest.mark.sweep
def test_a_model_without_a_revision(run: Command, store: StoreBuilder) -> None:
    store.paths(NAME).blobs.mkdir(parents=True)
    done = run("verify", NAME)
    assert (done.code, done.stderr.splitlines()[-1]) == (6, f"hint: `modelctl pull {NAME}`")


@pytest.mark.sweep
def test_offline(run: Command, store: StoreBuilder, hub: Hub) -> None:
    store.add(NAME)
    offline = {**hub.environ, "HF_HUB_OFFLINE": "1"}
    store.blob(NAME, WEIGHTS).write_bytes(b"x")
    assert run("verify", NAME, env=offline).code == 6
    done = run("verify", "--repair", NAME, env=offline)
    assert (done.code, done.stderr.splitlines()[0]) == (
        7,
        "error: nothing can be fetched: `HF_HUB_OFFLINE` forbids the network",
    )
    assert hub.asked == []


@pytest.mark.sweep
def test_access_times_stay(run: Command, store: StoreBuilder) -> None:
    store.add(NAME)
    blob = store.blob(NAME, WEIGHTS)
    os.utime(blob, ns=(1, blob.stat().st_mtime_ns))
    assert run("verify", NAME).code == 0
    assert blob.stat().st_atime_ns == 1
