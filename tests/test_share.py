"""The Hub's protocol as the real huggingface_hub and the real `hf` meet it."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder

from modelctl.share import app
from modelctl.share.server import serving
from modelctl.store import tree
from modelctl.store.layout import RepoPaths
from tests.command import Command, Finished
from tests.hub.loopback import Hub
from tests.stores import Layout, StoreBuilder

WEIGHTS = bytes(range(256)) * 8
FILES = {"config.json": b"{}\n", "1_Pooling/config.json": b"[]\n", "empty.txt": b""}


@pytest.fixture
def tiny(hub: Hub) -> Hub:
    """A Hub with one small repository: three ordinary files and an LFS file."""
    hub.add("acme/tiny", files=FILES, lfs={"model.safetensors": WEIGHTS})
    return hub


@pytest.fixture
def hf(run: Command, tiny: Hub) -> Callable[..., Finished]:
    """The real `hf` as a process, sent to the loopback Hub: `hf("download", "acme/tiny", token=...)`."""
    program = Path(sys.executable).with_name("hf")

    def call(*argv: str, token: str | None = None) -> Finished:
        return run.program([program, *argv], env={**tiny.environ, "HF_TOKEN": token})

    return call


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client that shows what comes over the wire; each new one costs 30 ms for certificates."""
    with httpx.Client(headers={"accept-encoding": "identity"}, trust_env=False) as client:
        yield client


class TestDownloads:
    def test_a_whole_repository(self, tiny: Hub, tmp_path: Path) -> None:
        folder = Path(snapshot_download("acme/tiny", endpoint=tiny.url, cache_dir=tmp_path))
        for name, content in {**FILES, "model.safetensors": WEIGHTS}.items():
            assert (folder / name).read_bytes() == content
        assert (folder / "model.safetensors").readlink().name == tiny.store.blob("acme/tiny", "model.safetensors").name
        # What the client caches of the tree is what the store says of it.
        here, there = RepoPaths(tmp_path, "acme/tiny"), tiny.store.paths("acme/tiny")
        assert tree.read(here, folder.name) == tree.read(there, folder.name)

    def test_offline_it_is_complete(self, tiny: Hub, tmp_path: Path) -> None:
        online = snapshot_download("acme/tiny", endpoint=tiny.url, cache_dir=tmp_path)
        tiny.stop()
        assert snapshot_download("acme/tiny", cache_dir=tmp_path, local_files_only=True) == online

    def test_one_file(self, tiny: Hub, tmp_path: Path) -> None:
        path = hf_hub_download("acme/tiny", "1_Pooling/config.json", endpoint=tiny.url, cache_dir=tmp_path)
        assert Path(path).read_bytes() == b"[]\n"
        assert [(asked.method, asked.status) for asked in tiny.asked] == [("HEAD", 200), ("GET", 200)]

    def test_lfs_files_come_from_another_origin_and_the_token_stays(self, tiny: Hub, tmp_path: Path) -> None:
        name = "model.safetensors"
        hf_hub_download("acme/tiny", name, endpoint=tiny.url, cache_dir=tmp_path, token=tiny.reader)
        head, get = tiny.asked
        assert (head.method, head.status, head.is_cdn, head.token) == ("HEAD", 302, False, tiny.reader)
        assert (get.method, get.status, get.is_cdn, get.token) == ("GET", 200, True, None)
        assert get.sent == len(WEIGHTS) == tiny.bodies(name)

    def test_one_origin_for_all_also_works(self, tiny: Hub, tmp_path: Path) -> None:
        with serving(app.build([tiny.store.hub])) as url:
            path = hf_hub_download("acme/tiny", "model.safetensors", endpoint=url, cache_dir=tmp_path)
        assert Path(path).read_bytes() == WEIGHTS

    @pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1", "feature/x", "commit"])
    def test_revisions(self, tiny: Hub, tmp_path: Path, revision: str) -> None:
        name = None if revision == "commit" else revision
        commit = tiny.add("acme/tiny", files={"config.json": b"older\n"}, revision=name)
        wanted = name or commit
        path = hf_hub_download("acme/tiny", "config.json", revision=wanted, endpoint=tiny.url, cache_dir=tmp_path)
        assert Path(path).read_bytes() == b"older\n"
        assert HfApi(tiny.url).model_info("acme/tiny", revision=wanted).sha == commit
        assert [file.path for file in HfApi(tiny.url).list_repo_tree("acme/tiny", revision=wanted)] == ["config.json"]

    def test_a_pull_request_with_its_slashes_as_they_are(self, client: httpx.Client, tiny: Hub) -> None:
        tiny.add("acme/tiny", files={"a/config.json": b"older\n"}, revision="refs/pr/1")
        answer = client.get(f"{tiny.url}/acme/tiny/resolve/refs/pr/1/a/config.json")
        assert (answer.status_code, answer.content) == (200, b"older\n")

    def test_a_repository_without_organisation(self, hub: Hub, tmp_path: Path) -> None:
        hub.add("gpt2", files={"config.json": "{}"}, lfs={"a b/wärme+100%.bin": b"x"})
        folder = Path(snapshot_download("gpt2", endpoint=hub.url, cache_dir=tmp_path))
        assert (folder / "a b" / "wärme+100%.bin").read_bytes() == b"x"

    @pytest.mark.parametrize("kind", ["links", "shared", "copies"])
    @pytest.mark.parametrize("listed", [True, False])
    def test_from_any_layout(self, hub: Hub, tmp_path: Path, kind: Layout, *, listed: bool) -> None:
        hub.store.add("acme/tiny", files=FILES, lfs={"model.safetensors": WEIGHTS}, kind=kind, tree=listed)
        told = HfApi(hub.url).model_info("acme/tiny", files_metadata=True).siblings or []
        plain = StoreBuilder(tmp_path / "plain")
        plain.add("acme/tiny", files=FILES, lfs={"model.safetensors": WEIGHTS})
        expected = tree.read(plain.paths("acme/tiny"), plain.paths("acme/tiny").ref("main").read_text(encoding="ascii"))
        assert expected
        assert {file.rfilename: (file.size, file.blob_id, file.lfs.sha256 if file.lfs else None) for file in told} == {
            name: (file.size, file.blob_id, file.sha256) for name, file in expected.items()
        }
        folder = Path(snapshot_download("acme/tiny", endpoint=hub.url, cache_dir=tmp_path / "cache"))
        assert (folder / "model.safetensors").read_bytes() == WEIGHTS


class TestHf:
    def test_download_verify_and_find_the_damage(self, hf: Callable[..., Finished], home: Path) -> None:
        done = hf("download", "acme/tiny", "--quiet")
        assert (done.code, done.stderr) == (0, "")
        folder = Path(done.stdout.strip())
        assert folder.is_relative_to(home)
        assert (folder / "model.safetensors").read_bytes() == WEIGHTS
        done = hf("cache", "verify", "acme/tiny")
        assert done.code == 0
        assert "Verified 4 file(s)" in done.stdout
        (folder / "model.safetensors").resolve().write_bytes(WEIGHTS[:-1] + b"x")
        done = hf("cache", "verify", "acme/tiny")
        assert done.code == 1
        assert "model.safetensors" in done.stdout + done.stderr

    def test_a_gated_repository_needs_a_token_that_was_let_in(self, hf: Callable[..., Finished], tiny: Hub) -> None:
        tiny.add("acme/gated", files={"config.json": "{}"}, gated=True)
        refused = hf("download", "acme/gated")
        assert refused.code == 1
        assert "gated" in refused.stderr
        assert hf("download", "acme/gated", token=tiny.reader).code == 0
        assert "config.json" in hf("models", "info", "acme/gated").stdout


class TestAnswers:
    def test_model_info_with_files(self, tiny: Hub) -> None:
        info = HfApi(tiny.url).model_info("acme/tiny", files_metadata=True)
        assert (info.private, info.gated, info.disabled, info.author) == (False, False, False, "acme")
        siblings = {file.rfilename: file for file in info.siblings or []}
        assert sorted(siblings) == sorted([*FILES, "model.safetensors"])
        # What git itself calls `{}` with a newline, and nothing at all.
        assert siblings["config.json"].blob_id == "0967ef424bce6791893e9a57bb952f80fd536e93"
        assert siblings["empty.txt"].blob_id == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        weights = siblings["model.safetensors"]
        assert weights.lfs
        assert (weights.size, weights.lfs.size, weights.lfs.pointer_size) == (2048, 2048, 129)
        assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()

    def test_only_what_is_wanted(self, tiny: Hub) -> None:
        info = HfApi(tiny.url).model_info("acme/tiny", expand=["sha", "gated"])
        assert info.sha
        assert (info.gated, info.siblings) == (False, None)

    def test_a_tree_of_many_pages(self, hub: Hub) -> None:
        names = [f"part/{number:04}.txt" for number in range(1100)]
        hub.add("acme/many", files=dict.fromkeys(names, "same"))
        entries = list(HfApi(hub.url).list_repo_tree("acme/many", recursive=True))
        assert [entry.path for entry in entries if isinstance(entry, RepoFile)] == names
        assert [entry.path for entry in entries if isinstance(entry, RepoFolder)] == ["part"]
        assert len(hub.asked) == 2

    def test_a_folder_of_a_tree(self, tiny: Hub) -> None:
        api = HfApi(tiny.url)
        (only,) = api.list_repo_tree("acme/tiny", path_in_repo="1_Pooling", expand=True)
        assert isinstance(only, RepoFile)
        assert only.last_commit
        assert only.last_commit.oid == api.model_info("acme/tiny").sha
        assert [entry.path for entry in api.list_repo_tree("acme/tiny")] == [
            "1_Pooling",
            "config.json",
            "empty.txt",
            "model.safetensors",
        ]
        with pytest.raises(RemoteEntryNotFoundError):
            list(api.list_repo_tree("acme/tiny", path_in_repo="additional_chat_templates"))

    def test_paths_info(self, tiny: Hub) -> None:
        paths = ["config.json", "1_Pooling", "nothing", "model.safetensors"]
        told = HfApi(tiny.url).get_paths_info("acme/tiny", paths, expand=True)
        assert [entry.path for entry in told] == ["config.json", "1_Pooling", "model.safetensors"]

    def test_refs(self, tiny: Hub) -> None:
        older = tiny.add("acme/tiny", files={"config.json": "1"}, revision="refs/pr/1")
        refs = HfApi(tiny.url).list_repo_refs("acme/tiny", include_pull_requests=True)
        assert [(ref.name, ref.ref) for ref in refs.branches] == [("main", "refs/heads/main")]
        assert [(ref.name, ref.target_commit) for ref in refs.pull_requests or []] == [("1", older)]

    def test_the_list_of_models(self, tiny: Hub) -> None:
        tiny.add("acme/secret", files={"a.txt": "1"}, private=True)
        tiny.add("other/model", files={"a.txt": "1"})
        tiny.add("acme/branch-only", files={"a.txt": "1"}, revision="dev")

        def ids(**asked: object) -> list[str]:
            return [model.id for model in HfApi(tiny.url).list_models(**asked)]  # type: ignore[arg-type]

        assert ids() == ["acme/tiny", "other/model"]
        assert ids(token=tiny.reader) == ["acme/secret", "acme/tiny", "other/model"]
        assert ids(search="TIN") == ["acme/tiny"]
        assert ids(author="other") == ["other/model"]
        assert ids(token=tiny.reader, limit=2) == ["acme/secret", "acme/tiny"]

    def test_whoami(self, tiny: Hub) -> None:
        assert HfApi(tiny.url, token=tiny.stranger).whoami()["name"] == "stranger"
        with pytest.raises(HfHubHTTPError, match="Invalid user token"):
            HfApi(tiny.url).whoami(token="hf_wrong")


class TestRefusals:
    def test_unknown_things_have_their_exceptions(self, tiny: Hub, tmp_path: Path) -> None:
        api = HfApi(tiny.url, token=tiny.reader)
        for call in (api.model_info, api.list_repo_files, api.list_repo_refs, api.auth_check, api.dataset_info):
            with pytest.raises(RepositoryNotFoundError):
                call("acme/none")
        with pytest.raises(RepositoryNotFoundError):
            HfApi(tiny.url).model_info("acme/none")
        for revision in ("none", "0" * 40, "refs/pr/9"):
            with pytest.raises(RevisionNotFoundError):
                api.model_info("acme/tiny", revision=revision)
            with pytest.raises(RevisionNotFoundError):
                hf_hub_download("acme/tiny", "a", revision=revision, endpoint=tiny.url, cache_dir=tmp_path)
        with pytest.raises(RemoteEntryNotFoundError):
            hf_hub_download("acme/tiny", "none.json", endpoint=tiny.url, cache_dir=tmp_path)
        # The client remembers the absence, under the commit that the answer names.
        assert len(list(tmp_path.glob("models--acme--tiny/.no_exist/*/none.json"))) == 1

    def test_a_wrong_token_is_told_so(self, tiny: Hub) -> None:
        with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as refused:
            HfApi(tiny.url, token="hf_wrong").model_info("acme/tiny")
        assert refused.value.response.status_code == 401
        assert not isinstance(refused.value, RepositoryNotFoundError)

    def test_tokens_do_not_matter_where_there_are_no_users(self, tiny: Hub) -> None:
        with serving(app.build([tiny.store.hub])) as url:
            assert HfApi(url, token="hf_of_another_hub").model_info("acme/tiny").sha

    def test_gated(self, tiny: Hub, tmp_path: Path) -> None:
        tiny.add("acme/gated", lfs={"model.safetensors": WEIGHTS}, gated=True)
        api = HfApi(tiny.url, token=False)
        info = api.model_info("acme/gated", files_metadata=True)
        assert (info.gated, len(info.siblings or [])) == ("manual", 1)
        for token, status in ((False, 401), (tiny.stranger, 403)):
            with pytest.raises(GatedRepoError) as refused:
                hf_hub_download("acme/gated", "model.safetensors", endpoint=tiny.url, cache_dir=tmp_path, token=token)
            assert refused.value.response.status_code == status
            with pytest.raises(GatedRepoError):
                api.auth_check("acme/gated", token=token)
        api.auth_check("acme/gated", token=tiny.reader)
        name = "model.safetensors"
        assert hf_hub_download("acme/gated", name, endpoint=tiny.url, cache_dir=tmp_path, token=tiny.reader)

    def test_private(self, tiny: Hub, tmp_path: Path) -> None:
        tiny.add("acme/secret", files={"config.json": "{}"}, private=True)
        for token, status in ((False, 401), (tiny.stranger, 404)):
            with pytest.raises(RepositoryNotFoundError) as refused:
                snapshot_download("acme/secret", endpoint=tiny.url, cache_dir=tmp_path, token=token)
            assert refused.value.response.status_code == status
            assert not isinstance(refused.value, GatedRepoError)
        assert HfApi(tiny.url, token=tiny.reader).model_info("acme/secret").private
        assert snapshot_download("acme/secret", endpoint=tiny.url, cache_dir=tmp_path, token=tiny.reader)

    def test_errors_in_the_words_and_headers_of_the_hub(self, tiny: Hub, client: httpx.Client) -> None:
        def told(path: str, token: str = "") -> tuple[int, str | None, str | None, str]:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            answer = client.get(tiny.url + path, headers=headers)
            code, message = (answer.headers.get(name) for name in ("x-error-code", "x-error-message"))
            return answer.status_code, code, message, answer.json()["error"]

        anonymous = "Invalid username or password."
        assert told("/api/models/acme/none") == (401, "RepoNotFound", anonymous, anonymous)
        missing = "Repository not found"
        assert told("/api/models/acme/none", tiny.reader) == (404, "RepoNotFound", missing, missing)
        revision = "Invalid rev id: none"
        assert told("/api/models/acme/tiny/revision/none") == (404, "RevisionNotFound", revision, revision)
        assert told("/acme/tiny/resolve/none/config.json") == (404, "RevisionNotFound", revision, revision)
        entry = "Entry not found"
        assert told("/acme/tiny/resolve/main/none") == (404, "EntryNotFound", entry, entry)
        assert told("/acme/tiny") == (404, None, "Not Found", "Not Found")


class TestRanges:
    @pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [("bytes=0-0", 0, 1), ("bytes=2-", 2, None), ("bytes=-2", -2, None), ("bytes=1-999999", 1, None)],
    )
    def test_a_part(self, client: httpx.Client, tiny: Hub, name: str, asked: str, start: int, stop: int | None) -> None:
        content = {**FILES, "model.safetensors": WEIGHTS}[name]
        answer = _get(client, tiny, name, {"range": asked})
        assert (answer.status_code, answer.content) == (206, content[start:stop])
        first = start % len(content)
        last = first + len(answer.content) - 1
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"
        assert answer.headers["content-length"] == str(len(answer.content))

    @pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=x-y"])
    def test_what_is_no_single_range_is_answered_whole(self, client: httpx.Client, tiny: Hub, asked: str) -> None:
        answer = _get(client, tiny, "model.safetensors", {"range": asked})
        assert (answer.status_code, answer.content) == (200, WEIGHTS)

    @pytest.mark.parametrize("asked", ["bytes=2048-", "bytes=5-4", "bytes=-0"])
    def test_a_range_outside(self, client: httpx.Client, tiny: Hub, asked: str) -> None:
        answer = _get(client, tiny, "model.safetensors", {"range": asked})
        assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */2048")

    def test_if_range(self, client: httpx.Client, tiny: Hub) -> None:
        etag = _get(client, tiny, "model.safetensors").headers["etag"]
        same = _get(client, tiny, "model.safetensors", {"range": "bytes=5-", "if-range": etag})
        other = _get(client, tiny, "model.safetensors", {"range": "bytes=5-", "if-range": '"other"'})
        assert (same.status_code, same.content) == (206, WEIGHTS[5:])
        assert (other.status_code, other.content) == (200, WEIGHTS)

    def test_head(self, client: httpx.Client, tiny: Hub) -> None:
        answer = client.head(f"{tiny.url}/acme/tiny/resolve/main/model.safetensors", follow_redirects=True)
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "2048", b"")
        assert answer.headers["accept-ranges"] == "bytes"

    def test_a_client_that_goes_away_costs_nothing(self, client: httpx.Client, hub: Hub) -> None:
        big = 64 << 20
        hub.add("acme/tiny", lfs={"model.safetensors": bytes(big)})
        url = f"{hub.url}/acme/tiny/resolve/main/model.safetensors"
        with client.stream("GET", url, follow_redirects=True) as answer:
            next(answer.iter_raw())
        assert _get(client, hub, "none").status_code == 404
        assert hub.bodies("model.safetensors") < big


class TestSafety:
    def test_a_signed_address_expires(self, client: httpx.Client, make_hub: Callable[..., Hub]) -> None:
        hub = make_hub(lifetime=0)
        hub.add("acme/tiny", lfs={"model.safetensors": WEIGHTS})
        answer = _get(client, hub, "model.safetensors")
        assert (answer.status_code, answer.json()) == (403, {"error": "Access denied: the request has expired"})

    def test_a_signed_address_is_for_one_file(self, client: httpx.Client, tiny: Hub) -> None:
        location = client.head(f"{tiny.url}/acme/tiny/resolve/main/model.safetensors").headers["location"]
        assert client.get(location).content == WEIGHTS
        for changed in (
            location.replace("model.safetensors", "config.json"),
            location.replace("Expires=", "Expires=9"),
            location.partition("?")[0],
            location + "ä",
        ):
            assert client.get(changed).status_code == 403

    @pytest.mark.parametrize(
        "path",
        [
            "/acme/tiny/resolve/main/..%2F..%2F..%2F..%2F..%2Fsecret.txt",
            "/acme/tiny/resolve/main/%2Fetc%2Fpasswd",
            "/acme/tiny/resolve/..%2F..%2F/secret.txt",
            "/acme/..%2F../resolve/main/secret.txt",
            "/..%2F..%2Fx/tiny/resolve/main/secret.txt",
            "/api/models/acme%2F..%2F..%2Fx",
            "/api/models/acme/tiny/revision/..%2F..%2F..%2Fsecret",
            "/acme/tiny/resolve/main/link.txt",
            "/acme/tiny/resolve/main/pipe",
            "/acme/tiny/resolve/main/%00",
        ],
    )
    def test_nothing_outside_the_store_is_served(self, client: httpx.Client, hub: Hub, path: str) -> None:
        commit = hub.store.add("acme/tiny", files={"config.json": "{}"}, tree=False)
        secret = hub.store.hub.parent / "secret.txt"
        secret.write_text("secret", encoding="ascii")
        (hub.store.paths("acme/tiny").snapshot(commit) / "link.txt").symlink_to(secret)
        os.mkfifo(hub.store.paths("acme/tiny").snapshot(commit) / "pipe")
        answer = client.get(hub.url + path, follow_redirects=True)
        assert answer.status_code in {401, 404}
        assert "secret" not in answer.json()["error"].replace("Invalid rev id: ../../../secret", "")
        assert HfApi(hub.url).list_repo_files("acme/tiny") == ["config.json"]

    def test_a_fifo_as_a_ref_blocks_nobody(self, tiny: Hub) -> None:
        os.mkfifo(tiny.store.paths("acme/tiny").ref("stuck"))
        with pytest.raises(RevisionNotFoundError):
            HfApi(tiny.url).model_info("acme/tiny", revision="stuck", timeout=5)


class TestWhatIsThere:
    def test_a_selective_pull_is_offered_as_far_as_it_goes(self, tiny: Hub, tmp_path: Path) -> None:
        tiny.store.blob("acme/tiny", "model.safetensors").unlink()
        assert "model.safetensors" not in HfApi(tiny.url).list_repo_files("acme/tiny")
        folder = Path(snapshot_download("acme/tiny", endpoint=tiny.url, cache_dir=tmp_path))
        assert sorted(path.name for path in folder.iterdir()) == ["1_Pooling", "config.json", "empty.txt"]

    def test_a_blob_cut_short_is_not_offered(self, tiny: Hub) -> None:
        os.truncate(tiny.store.blob("acme/tiny", "model.safetensors"), 5)
        assert "model.safetensors" not in HfApi(tiny.url).list_repo_files("acme/tiny")

    def test_the_store_may_change_while_it_is_served(self, tiny: Hub) -> None:
        api = HfApi(tiny.url, token=tiny.reader)
        before = api.model_info("acme/tiny").sha
        after = tiny.add("acme/tiny", files={"config.json": "new"})
        assert before != after == api.model_info("acme/tiny").sha
        shutil.rmtree(tiny.store.paths("acme/tiny").folder)
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("acme/tiny")

    def test_the_first_store_counts(self, tiny: Hub, tmp_path: Path) -> None:
        other = StoreBuilder(tmp_path / "other")
        other.add("acme/tiny", files={"config.json": "other"})
        commit = other.add("acme/more", files={"config.json": "more"})
        with serving(app.build([tiny.store.hub, other.hub])) as url:
            assert len(HfApi(url).list_repo_files("acme/tiny")) == 4
            assert HfApi(url).model_info("acme/more").sha == commit


def test_as_a_process_of_its_own(run: Command, store: StoreBuilder) -> None:
    store.add("acme/tiny", files={"config.json": "{}"})
    argv = [sys.executable, "-m", "modelctl.share", str(store.hub)]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=run.environment(), text=True
    ) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert HfApi(url).list_repo_files("acme/tiny") == ["config.json"]
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout, stderr) == (0, "", "")


def _get(client: httpx.Client, hub: Hub, name: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """A file of acme/tiny, redirects followed."""
    return client.get(f"{hub.url}/acme/tiny/resolve/main/{name}", headers=headers, follow_redirects=True)
