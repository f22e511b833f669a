"""vLLM's own command line reads what a profile gives it, and the file that `export-config` writes for it."""

import json
import re
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from modelctl.engine import command
from modelctl.share.safetensors import Tensor, encode
from tests.command import Command
from tests.serving import Serving, serving
from tests.stores import StoreBuilder, tiny_model
from tests.test_serve_settings import SQL, TINY, add_adapter

pytestmark = pytest.mark.engine

PROFILE = f"""
[serve]
port = 8003
max-num-seqs = 4
enforce-eager = true
enable-prefix-caching = false
seed = -1
gpu-memory-utilization = 0.5

[serve.models."{TINY}"]
host = "0.0.0.0"
served-model-name = ["tiny", "small"]
max-model-len = "1k"
tool-call-parser = "hermes"
enable-auto-tool-choice = true
lora = {{sql = "{SQL}"}}
nnodes = 2
master-addr = "10.0.0.1"
hf-overrides = {{rope_parameters = {{rope_type = "yarn", factor = 4.0}}}}
compilation-config = {{mode = 0}}
limit-mm-per-prompt = {{image = 2}}
allowed-origins = ["a", "b"]
cudagraph-capture-sizes = [1, 2]
disable-log-stats = false
middleware = ["one.Two", "three.Four"]
"""
EXPECTED: dict[str, Any] = {
    "host": "0.0.0.0",  # noqa: S104 - not a bind
    "allowed_origins": ["a", "b"],
    "cudagraph_capture_sizes": [1, 2],
    "served_model_name": ["tiny", "small"],
    "max_num_seqs": 4,
    "enforce_eager": True,
    "enable_prefix_caching": False,
    "seed": -1,
    "gpu_memory_utilization": 0.5,
    "max_model_len": 1000,
    "tool_call_parser": "hermes",
    "enable_auto_tool_choice": True,
    "enable_lora": True,
    "max_lora_rank": 64,
    "nnodes": 2,
    "master_addr": "10.0.0.1",
    "hf_overrides": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
    "limit_mm_per_prompt": {"image": 2},
}


def test_vllm_reads_what_a_profile_says(
    run: Command, store: StoreBuilder, project: Path, vllm: Path, tmp_path: Path
) -> None:
    commit = store.add(TINY)
    adapter = add_adapter(store, r=40)
    (project / "modelctl.toml").write_text(PROFILE)
    file = tmp_path / "vllm.yaml"
    file.write_text(run("export-config", "--format", "vllm", TINY).stdout)
    env = {"MODELCTL_VLLM_PYTHON": str(vllm)}
    argv = run("serve", TINY, "--node-rank", "1", "--force", "--dry-run", "--json", env=env).json["argv"]
    compose = yaml.safe_load(run("export-config", "--format", "compose", TINY).stdout)
    (service,) = compose["services"].values()
    lines = (["serve", "--config", str(file)], argv[2:], ["serve", *service["command"]])

    by_file, by_serve, by_compose = judged(run, vllm, *lines)

    snapshot = str(store.paths(TINY).snapshot(commit))
    for found in (by_file, by_serve):
        assert {key: found[key] for key in EXPECTED} == EXPECTED
        assert snapshot in {found["model"], found["model_tag"]}
        assert [(each["name"], each["path"]) for each in found["lora_modules"]] == [("sql", str(adapter))]
    assert by_file["port"] == 8003
    assert by_serve["middleware"] == ["one.Two", "three.Four"]
    assert (by_serve["node_rank"], by_serve["headless"]) == (1, True)
    assert by_compose["model_tag"] == f"/models/hub/models--acme--tiny/snapshots/{commit}"
    assert by_compose["max_model_len"] == 1000


def test_an_adapter_a_key_and_a_context_that_is_left_to_vllm(
    run: Command, store: StoreBuilder, project: Path, vllm: Path
) -> None:
    config = {**json.loads(tiny_model()["config.json"]), "max_position_embeddings": 1 << 20}
    store.add(TINY, files=tiny_model(**{"config.json": json.dumps(config)}))
    zeros = Tensor("BF16", (32, 128), bytes(32 * 128 * 2))
    back = Tensor("BF16", (128, 32), bytes(32 * 128 * 2))
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    adapter = {"peft_type": "LORA", "r": 32, "lora_alpha": 8, "target_modules": ["q_proj"]}
    weights = encode({f"{layer}.lora_A.weight": zeros, f"{layer}.lora_B.weight": back})
    store.add(SQL, files={"adapter_config.json": json.dumps(adapter), "adapter_model.safetensors": weights})
    (project / "key").write_text("secret\n")
    (project / "modelctl.toml").write_text(
        f'[serve]\nport = 0\napi-key-file = "key"\nlora = {{sql = "{SQL}"}}\n'
        'kv-cache-memory-bytes = "64M"\nenforce-eager = true\ndistributed-executor-backend = "uni"\n'
    )
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        env = {
            "MODELCTL_VLLM_PYTHON": str(vllm),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_HOST_IP": "127.0.0.1",
            "TMPDIR": temporary,
        }
        with serving(run, TINY, env=env) as server:
            server.until_ready(seconds=240)
            assert "its whole context of 1,048,576 tokens does not fit: `--max-model-len auto` leaves" in server.stderr
            models = {one["id"]: one for one in asked(server, "/v1/models", key="secret")["data"]}
            told = re.search(r"leaves what does, about ([\d,]+)", server.stderr)
            answer = asked(server, "/v1/completions", key="secret", model="sql", prompt="a", max_tokens=4)
            with pytest.raises(urllib.error.HTTPError, match="401"):
                asked(server, "/v1/models", key="wrong")
            assert server.send(signal.SIGTERM).finish().code == 0
    assert models.keys() == {TINY, "sql"}
    assert told is not None
    # The estimate is vLLM's own figure, but for the rounding to blocks.
    assert abs(int(told[1].replace(",", "")) - models[TINY]["max_model_len"]) <= 128
    assert answer["model"] == "sql"


def asked(server: Serving, path: str, *, key: str, **body: Any) -> Any:  # noqa: ANN401 - JSON
    """What the server answers."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def judged(run: Command, vllm: Path, *lines: list[str]) -> list[dict[str, Any]]:
    return printed(run, vllm, "judge.py", *(json.dumps(line) for line in lines))


def printed(
    run: Command, vllm: Path, judge: str, *words: str, env: Mapping[str, str | None] | None = None
) -> list[dict[str, Any]]:
    """What a judge prints, run by the engine's interpreter."""
    done = subprocess.run(
        [str(vllm), str(Path(__file__).parent / "config" / judge), *words],
        env=run.environment({"PYTHONPATH": None, "VLLM_LOGGING_LEVEL": "ERROR", **(env or {})}),
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    # Ray logs in JSON too.
    return [value for value in values if "levelname" not in value]


def test_the_launcher_is_the_second_word() -> None:
    argv = command.serve(Path("/python"), Path("/snapshot"), command.Settings(served_names=("x",)))
    assert argv[1] == str(command.LAUNCHER)
