"""A pull from a Hub that lies, and into a store that somebody has prepared: nothing outside the store is touched."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelctl.store import journal
from modelctl.store.layout import RepoPaths
from tests.command import Command, Finished
from tests.hub import faults
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import MIB, NAME, big_model, blobs_are_true, content, leftovers, weights

FILES = {"config.json": b"{}", "model.safetensors": b"x" * 100}
LARGE = {**FILES, "model.safetensors": weights(5 * MIB)}
PRECIOUS = b"precious"
CDN = "/_cdn/*"


def git_hash(data: bytes) -> str:
    """The name of an ordinary file's blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def listed(name: str, data: bytes = b"{}", **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """A file as the Hub lists it."""
    return {"type": "file", "path": name, "size": len(data), "oid": git_hash(data), **changed}


def pull_of_listing(run: Command, hub: Hub, *entries: dict[str, Any], argv: tuple[str, ...] = ()) -> Finished:
    """A pull where the Hub lists these files beside those that it has."""
    hub.add(NAME, files=FILES)
    honest = [listed(name, data) for name, data in FILES.items() if name not in {entry["path"] for entry in entries}]
    body = json.dumps([*honest, *entries]).encode()
    hub.fault(faults.status(200, body=body, headers={"content-type": "application/json"}), path="*/tree/*", times=None)
    return run("pull", NAME, *argv, env=hub.environ)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file beside the project that no pull has any business with."""
    path = tmp_path / "victim"
    path.write_bytes(PRECIOUS)
    return path


def test_a_hash_that_is_a_path_never_becomes_one(run: Command, hub: Hub, victim: Path) -> None:
    lfs = {"oid": str(victim), "size": 8 * MIB, "pointerSize": 1}
    for entry in (
        listed("model.safetensors", size=8 * MIB, lfs=lfs),
        listed("model.safetensors", size=len(PRECIOUS), oid=str(victim)),
    ):
        hub.faults.clear()
        done = pull_of_listing(run, hub, entry)
        assert (done.code, done.stdout) == (6, "")
        assert done.stderr == (
            f"error: `{NAME}` lists a file with a size or hash that is none: `model.safetensors`\n"
            "hint: do not use this repository; nothing of it was written\n"
        )
        assert victim.read_bytes() == PRECIOUS
        assert not (run.project / "models" / "hub").exists()


DEEP = "a/" * 600 + "x.json"


@pytest.mark.matrix(2)
@pytest.mark.parametrize(
    ("entries", "what"),
    [
        pytest.param([listed("a.json", size=-1)], "a file with a size or hash that is none: `a.json`", id="negative"),
        pytest.param([listed("a.json", size="2")], "a file with a size or hash that is none: `a.json`", id="text"),
        pytest.param([listed("a.json", size=None)], "a file with a size or hash that is none: `a.json`", id="no size"),
        pytest.param([listed("a.json", size=1e30)], "a file with a size or hash that is none: `a.json`", id="float"),
        pytest.param(
            [listed("a.json"), listed("a.json/b.json")], "`a.json` both as a file and as a folder", id="file and folder"
        ),
        pytest.param([listed("a.json"), listed("a.json", b"[]")], "`a.json` twice", id="twice"),
        pytest.param(
            [listed("a.json"), listed("b.json", size=3)], "two sizes for the content of `b.json`", id="two sizes"
        ),
        pytest.param(
            [listed("a\x1b[31m.json")], r"a file name that leads out of its folder: `a\x1b[31m.json`", id="escape"
        ),
        pytest.param(
            [listed("\ud800.json")], r"a file name that leads out of its folder: `\ud800.json`", id="surrogate"
        ),
        pytest.param([listed(DEEP)], f"a file name that leads out of its folder: `{DEEP[:200]}`", id="deep"),
    ],
)
def test_a_listing_that_no_commit_can_have_is_refused_whole(
    run: Command, hub: Hub, entries: list[dict[str, Any]], what: str
) -> None:
    done = pull_of_listing(run, hub, *entries)
    assert (done.code, done.stdout) == (6, "")
    assert done.stderr == (
        f"error: `{NAME}` lists {what}\nhint: do not use this repository; nothing of it was written\n"
    )
    assert not (run.project / "models" / "hub").exists()


def test_an_index_of_gigabytes_is_not_read_into_memory(run: Command, hub: Hub) -> None:
    done = pull_of_listing(run, hub, listed("model.safetensors.index.json", b"[]", size=3 << 30))
    assert done.code == 6
    assert "is said to have 3,221,225,472 bytes, too many for what it should hold" in done.stderr


def test_a_listing_without_an_end_is_given_up(run: Command, hub: Hub) -> None:
    hub.add(NAME, files=FILES)
    headers = {"content-type": "application/json", "link": f'<{hub.url}/api/models/{NAME}/tree/next>; rel="next"'}
    body = json.dumps([listed(name, data) for name, data in FILES.items()]).encode()
    pages = hub.fault(faults.status(200, body=body, headers=headers), path="*/tree/*", times=None)
    done = run("pull", NAME, env=hub.environ)
    assert (done.code, pages.count) == (6, 2)
    assert done.stderr.startswith(f"error: `{NAME}` lists `config.json` twice\n")


def test_the_next_page_at_another_address_gets_no_token(run: Command, hub: Hub, make_hub: Callable[..., Hub]) -> None:
    hub.add(NAME, files=FILES, private=True)
    other = make_hub()
    other.fault(faults.status(200, body=b"[]", headers={"content-type": "application/json"}), times=None)
    headers = {"content-type": "application/json", "link": f'<{other.url}/page/2>; rel="next"'}
    body = json.dumps([listed(name, data) for name, data in FILES.items()]).encode()
    hub.fault(faults.status(200, body=body, headers=headers), path="*/tree/*")
    done = run("pull", NAME, env={**hub.environ, "HF_TOKEN": hub.reader})
    assert done.code == 0, done.stderr
    assert [asked.token for asked in other.asked] == [None]
    assert {asked.token for asked in hub.asked if not asked.is_cdn} == {hub.reader}


def test_another_commit_than_asked_for_is_refused(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    body = json.dumps({"id": NAME, "sha": "a" * 40}).encode()
    hub.fault(faults.status(200, body=body, headers={"content-type": "application/json"}), path="/api/models/*")
    done = run("pull", f"{NAME}@{'b' * 40}", env=hub.environ)
    assert done.code == 7
    assert f"answers with the commit `{'a' * 40}` where `{'b' * 40}` was asked for" in done.stderr


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("env", "where"),
    [
        ({"no_proxy": "*"}, "http://a..b/"),
        ({"no_proxy": "*"}, f"http://{'a' * 70}.example/"),
        ({"http_proxy": "http://127.0.0.1:99999"}, "http://a.example/"),
        ({"http_proxy": "http://a..b"}, "http://a.example/"),
    ],
    ids=["no label", "long label", "no port", "no proxy"],
)
def test_a_host_that_nobody_can_be_asked_for_is_an_error_of_ours(
    run: Command, hub: Hub, env: dict[str, str], where: str
) -> None:
    hub.add(NAME, files=FILES)
    hub.fault(faults.status(302, headers={"location": where}), path="*/model.safetensors", times=None)
    done = run("pull", NAME, "--retry-for", "0", env={**hub.environ, **env})
    assert done.code == 7
    assert done.stderr.splitlines()[-2].startswith(
        f"error: `model.safetensors` cannot be fetched: `{where.rstrip('/')}`, or the proxy before it, is no address: "
    )


@pytest.mark.sweep
@pytest.mark.parametrize("where", ["http://127.0.0.1:9/", "foo\x01"])
def test_a_next_page_that_cannot_be_had_is_not_asked_for_again(run: Command, hub: Hub, where: str) -> None:
    hub.add(NAME, files=FILES)
    link = {"content-type": "application/json", "link": f'<{where}>; rel="next"'}
    hub.fault(faults.status(200, body=b"[]", headers=link), path="*/tree/*", times=None)
    done = run("pull", NAME, env=hub.environ)
    assert (done.code, len(done.stderr.splitlines())) == (7, 2), done.stderr
    assert done.stderr.startswith(f"error: the Hub at `{hub.url}` cannot be reached: ")


@pytest.mark.matrix(2)
@pytest.mark.parametrize("where", ["file:///etc/passwd", "http://[::1", "http://host:99999/x", "http://host:x/"])
def test_a_redirect_to_what_is_no_address_is_an_error_of_ours(run: Command, hub: Hub, where: str) -> None:
    hub.add(NAME, files=FILES)
    hub.fault(faults.status(302, headers={"location": where}), path="*/model.safetensors", times=None)
    done = run("pull", NAME, "--retry-for", "0", env=hub.environ)
    assert done.code == 7
    assert done.stderr.splitlines()[-2:] == [
        f"error: `model.safetensors` cannot be fetched: it is sent to `{where}`, which is no HTTP address",
        "hint: run the same command again: it goes on where it stopped",
    ]


def test_storage_may_send_on_to_other_storage(
    run: Command, hub: Hub, make_hub: Callable[..., Hub], store: StoreBuilder
) -> None:
    mirrored = big_model(6 * MIB)
    other = make_hub()
    for each in (hub, other):
        commit = each.add(NAME, files=mirrored)
    further = f"{other.url.replace('127.0.0.1', 'localhost')}/{NAME}/resolve/{commit}/model.safetensors"
    hub.fault(faults.status(302, headers={"location": further}), path=CDN, times=None)
    env = {**hub.environ, "HF_TOKEN": hub.reader}
    done = run("pull", NAME, "--retry-for", "5", env=env)
    assert done.code == 0, done.stderr
    assert content(store) == mirrored
    assert all(asked.token is None for asked in other.asked)


def test_an_address_that_expired_is_renewed_also_without_ranges(run: Command, hub: Hub, store: StoreBuilder) -> None:
    hub.add(NAME, files=big_model(40 * MIB))
    # The first is asked for a part; then the whole comes, ends early, and cannot be had again at that address.
    hub.fault(faults.drop(after=MIB), path=CDN, nth=2)
    expired = hub.fault(faults.expired(), path=CDN, nth=3)
    hub.fault(faults.whole_for_range(), path=CDN, times=None)
    done = run("pull", NAME, "--max-workers", "1", env=hub.environ)
    assert done.code == 0, done.stderr
    assert expired.count == 1
    assert blobs_are_true(store)


def test_a_wait_that_is_no_number_is_none(run: Command, hub: Hub) -> None:
    hub.add(NAME, files=FILES)
    hub.fault(faults.status(429, headers={"retry-after": "\xb2"}), path="*/model.safetensors")
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0, done.stderr
    assert "answers with status 429; trying again in 0.5 s" in done.stderr


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _second_name(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def _folder(path: Path, _: Path) -> None:
    path.mkdir()


def _partial(paths: RepoPaths, digest: str) -> Path:
    return paths.partial(digest)


def _journal(paths: RepoPaths, digest: str) -> Path:
    return paths.journal(digest)


def _blob(paths: RepoPaths, digest: str) -> Path:
    return paths.blob(digest)


def _ref(paths: RepoPaths, _: str) -> Path:
    return paths.ref("main")


@pytest.mark.matrix(2)
@pytest.mark.parametrize("files", [FILES, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("where", "put"),
    [
        pytest.param(_partial, _link, id="partial is a link"),
        pytest.param(_partial, _pipe, id="partial is a pipe"),
        pytest.param(_partial, _second_name, id="partial is a second name"),
        pytest.param(_partial, _folder, id="partial is a folder"),
        pytest.param(_journal, _pipe, id="journal is a pipe"),
        pytest.param(_blob, _link, id="blob is a link"),
        pytest.param(_blob, _pipe, id="blob is a pipe"),
        pytest.param(_ref, _link, id="ref is a link"),
        pytest.param(_ref, _pipe, id="ref is a pipe"),
    ],
)
def test_what_stands_where_a_file_of_ours_should_be_is_replaced(
    run: Command,
    hub: Hub,
    store: StoreBuilder,
    victim: Path,
    files: dict[str, bytes],
    where: Callable[[RepoPaths, str], Path],
    put: Callable[[Path, Path], None],
) -> None:
    hub.add(NAME, files=files)
    data = files["model.safetensors"]
    digest = hashlib.sha256(data).hexdigest()
    digest = digest if hub.store.paths(NAME).blob(digest).exists() else git_hash(data)
    path = where(store.paths(NAME), digest)
    path.parent.mkdir(parents=True)
    put(path, victim)
    done = run("pull", NAME, env=hub.environ, timeout=20)
    assert done.code == 0, done.stderr
    assert victim.read_bytes() == PRECIOUS
    assert content(store) == files
    assert blobs_are_true(store)


@pytest.mark.matrix(2)
@pytest.mark.parametrize("what", ["blobs/DIGEST", "snapshots/COMMIT/config.json", "refs/main"])
def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_fetched(
    run: Command, hub: Hub, store: StoreBuilder, what: str
) -> None:
    commit = hub.add(NAME, files=LARGE)
    digest = hashlib.sha256(LARGE["model.safetensors"]).hexdigest()
    place = store.paths(NAME).folder / what.replace("COMMIT", commit).replace("DIGEST", digest)
    (place / "mine").mkdir(parents=True)
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 1
    assert done.stderr.splitlines()[-2:] == [
        f"error: `{place}` is a folder where a file should be",
        "hint: move it away, then run the same command again",
    ]
    assert [asked for asked in hub.asked if asked.is_cdn] == []
    (place / "mine").rmdir()
    place.rmdir()
    assert run("pull", NAME, env=hub.environ).code == 0
    assert content(store) == LARGE


@pytest.mark.parametrize("argv", [[], pytest.param(["--json"], marks=pytest.mark.sweep)], ids=["text", "json"])
def test_a_default_that_cannot_be_written_is_a_warning(
    run: Command, hub: Hub, store: StoreBuilder, argv: list[str]
) -> None:
    hub.add(NAME, files=FILES)
    env_file = run.project / ".env"
    env_file.mkdir()
    done = run("pull", NAME, *argv, env=hub.environ)
    warning = f"`{NAME}` is not made the default model: cannot read `{env_file}`: Is a directory"
    assert done.code == 0
    assert content(store) == FILES
    if argv:
        assert [event["message"] for event in done.events if event["event"] == "note"] == [warning]
        assert done.events[-1]["default_model"] is None
    else:
        assert done.stderr.endswith(f"warning: {warning}\n")


@pytest.mark.matrix(2)
@pytest.mark.parametrize("received", [[[0.5, 10.5]], [[0, 10**15]], [["a", "b"]], [[5]], [[0, 9], [0, 9]], {}])
def test_a_journal_is_believed_no_more_than_its_file_can_hold(
    run: Command, hub: Hub, store: StoreBuilder, received: object
) -> None:
    hub.add(NAME, files=LARGE)
    data = LARGE["model.safetensors"]
    digest = hashlib.sha256(data).hexdigest()
    paths = store.paths(NAME)
    paths.partials.mkdir(parents=True)
    paths.partial(digest).write_bytes(bytes(len(data)))
    paths.journal(digest).write_text(json.dumps({"size": len(data), "received": received}))
    planned = run("pull", NAME, "--dry-run", "--json", env=hub.environ).json["models"][0]
    assert planned["resumed"] == (9 if received == [[0, 9], [0, 9]] else 0)
    assert run("pull", NAME, env=hub.environ).code == 0
    assert blobs_are_true(store)
    assert leftovers(store) == []


def test_what_others_see_of_a_journal_is_what_a_pull_believes(store: StoreBuilder) -> None:
    paths, digest = store.paths(NAME), "a" * 64
    paths.partials.mkdir(parents=True)
    paths.journal(digest).write_text(json.dumps({"size": 100, "received": [[0, 60], [20, 60], [50, 80]]}))
    assert journal.received(paths, digest) == 0
    paths.partial(digest).write_bytes(bytes(70))
    assert journal.received(paths, digest) == 60
    paths.partial(digest).write_bytes(bytes(100))
    assert journal.received(paths, digest) == 80


@pytest.mark.matrix(2)
@pytest.mark.parametrize("put", [_link, _pipe])
def test_a_lock_that_is_no_file_is_refused_and_left_alone(
    run: Command, hub: Hub, store: StoreBuilder, victim: Path, put: Callable[[Path, Path], None]
) -> None:
    hub.add(NAME, files=FILES)
    lock = store.paths(NAME).lock
    lock.parent.mkdir(parents=True)
    put(lock, victim)
    done = run("pull", NAME, env=hub.environ, timeout=20)
    assert done.code == 1
    assert f"error: cannot lock `{lock}`: " in done.stderr
    assert victim.read_bytes() == PRECIOUS
    assert os.path.lexists(lock)


@pytest.mark.matrix(2)
@pytest.mark.parametrize("name", [".modelctl", "blobs", "refs", "snapshots", "trees", "snapshots/COMMIT/sub"])
def test_a_link_inside_the_model_leads_nothing_out(
    run: Command, hub: Hub, store: StoreBuilder, tmp_path: Path, name: str
) -> None:
    commit = hub.add(NAME, files={**FILES, "sub/victim": b"from the Hub"})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(PRECIOUS)
    folder = store.paths(NAME).folder
    link = folder / name.replace("COMMIT", commit)
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    done = run("pull", NAME, "--all-files", env=hub.environ)
    assert done.code == 1
    assert done.stderr.splitlines()[-2:] == [
        f"error: `{link}` is a link where a folder should be",
        f"hint: take the link away; `{folder}` itself may be one",
    ]
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_bytes() == PRECIOUS


def test_a_listing_in_the_store_is_believed_no_more_than_the_hubs(
    run: Command, hub: Hub, store: StoreBuilder, tmp_path: Path
) -> None:
    commit = hub.add(NAME, files=FILES)
    files = {name: {"size": len(data), "blob_id": git_hash(data)} for name, data in FILES.items()}
    files["../../../../../../evil.json"] = files["config.json"]
    tree = store.paths(NAME).tree(commit)
    tree.parent.mkdir(parents=True)
    tree.write_text(json.dumps({"format_version": 1, "files": files}))
    assert run("pull", f"{NAME}@{commit}", "--all-files", env=hub.environ).code == 0
    assert not os.path.lexists(tmp_path / "evil.json")
    assert json.loads(tree.read_text())["files"].keys() == FILES.keys()


def test_a_hub_folder_on_a_disk_that_is_not_mounted(run: Command, hub: Hub) -> None:
    hub.add(NAME, files=FILES)
    link = run.project / "models" / "hub"
    link.symlink_to("/nonexistent/disk")
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 1
    assert done.stderr.splitlines()[-2:] == [
        f"error: `{link}` is a link to `/nonexistent/disk`, which is not there",
        "hint: mount the disk that it leads to, or name another folder with `--models-dir`",
    ]


@pytest.mark.matrix(2)
@pytest.mark.parametrize(
    ("argv", "env", "code", "message"),
    [
        pytest.param([], {"HF_ENDPOINT": "localhost:80"}, 2, "`HF_ENDPOINT` is no address", id="no scheme"),
        pytest.param([], {"HF_ENDPOINT": "http://[::1"}, 2, "`HF_ENDPOINT` is no address", id="half an address"),
        pytest.param([], {"HF_ENDPOINT": "http://a:99999"}, 2, "`HF_ENDPOINT` is no address", id="no port"),
        pytest.param([], {"HF_ENDPOINT": "http://a\nb"}, 2, "`HF_ENDPOINT` is no address", id="two lines"),
        pytest.param([], {"all_proxy": "socks5://127.0.0.1:9"}, 7, "names a SOCKS proxy", id="socks"),
        pytest.param(["--token", "a\nb"], {}, 2, "the token holds characters that no token has", id="token in lines"),
        pytest.param(["--token", "tök"], {}, 2, "the token holds characters that no token has", id="token with dots"),
        pytest.param(["--stall-after", "0"], {}, 2, "`--stall-after 0` is no time to wait", id="no stall"),
        pytest.param(["--stall-after", "nan"], {}, 2, "`--stall-after nan` is no time to wait", id="stall of nan"),
        pytest.param(["--retry-for", "-1"], {}, 2, "`--retry-for -1` is no time to wait", id="retry before"),
        pytest.param(["--retry-for", "inf"], {}, 2, "`--retry-for inf` is no time to wait", id="retry for ever"),
    ],
)
def test_settings_that_cannot_be_meant(
    run: Command, argv: list[str], env: dict[str, str], code: int, message: str
) -> None:
    done = run("pull", NAME, *argv, env=env)
    assert (done.code, done.stdout) == (code, "")
    assert message in done.stderr.splitlines()[-2]
    assert done.stderr.splitlines()[-1].startswith("hint: ")


def test_an_endpoint_may_have_blanks_and_slashes_around_it(run: Command, hub: Hub) -> None:
    hub.add(NAME, files=FILES)
    assert run("pull", NAME, env={"HF_ENDPOINT": f" {hub.url}/// "}).code == 0


def test_without_a_home_folder_nothing_breaks(run: Command, hub: Hub) -> None:
    hub.add(NAME, files=FILES)
    nobody_knows = 54321
    homeless = {"HOME": None, "HF_HOME": None, "XDG_CACHE_HOME": None}
    done = run("pull", NAME, "--dry-run", env={**hub.environ, **homeless}, user=nobody_knows)
    assert done.code == 0, done.stderr


def test_a_token_file_that_may_not_be_read_is_named(run: Command, hub: Hub) -> None:
    hub.add(NAME, files=FILES)
    file = run.project / "token"
    file.touch(mode=0)
    done = run("pull", NAME, env={**hub.environ, "HF_TOKEN_PATH": str(file)}, user=65534)
    assert done.code == 4
    assert done.stderr.splitlines() == [
        f"error: the token file `{file}` cannot be read: Permission denied",
        "hint: make it readable, or name another one with `HF_TOKEN_PATH`",
    ]


def test_a_name_that_the_locale_cannot_write_is_told_beforehand(run: Command, hub: Hub) -> None:
    hub.add(NAME, files={**FILES, "é.json": b"{}"})
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("pull", NAME, env={**hub.environ, **plain})
    assert done.code == 1
    assert done.stderr.splitlines()[-2:] == [
        r"error: the encoding of this locale, `ascii`, has no way to write `\xe9.json`",
        "hint: set `LC_ALL=C.UTF-8`, then run the same command again",
    ]


def test_what_a_hub_says_moves_no_cursor(run: Command, hub: Hub) -> None:
    index = '{"weight_map": {"a": "\\u001b[2J\\u009bevil.safetensors"}}'
    hub.add(NAME, files={"config.json": b"{}", "model.safetensors.index.json": index, "model.safetensors": b"x"})
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 3
    assert r"`\x1b[2J\x9bevil.safetensors`" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.sweep
def test_a_slow_line_is_no_silence_while_one_connection_waits(run: Command, hub: Hub, store: StoreBuilder) -> None:
    flowing, refused = weights(5 * MIB, seed=1), weights(5 * MIB, seed=2)
    hub.add(NAME, files={"config.json": b"{}", "model-1.safetensors": flowing, "model-2.safetensors": refused})
    hub.fault(faults.slow(rate=MIB), path=f"{CDN}model-1.safetensors", times=None)
    busy = hub.fault(faults.unavailable(503), path=f"{CDN}model-2.safetensors", times=3)
    done = run("pull", NAME, "--retry-for", "3", env=hub.environ)
    assert done.code == 0, done.stderr
    # A refused answer costs one request a try, and no second one that stumbles over the rest of the first.
    assert busy.count == done.stderr.count("answers with status 503") == 3
    assert blobs_are_true(store)
