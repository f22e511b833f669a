"""`modelctl export-config`: one model and its settings, in the words of five systems."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from modelctl.engine import handover
from modelctl.engine.command import Lora
from modelctl.engine.handover import FORMATS, Format
from modelctl.engine.subject import Subject
from tests.command import Command
from tests.stores import StoreBuilder
from tests.test_serve_settings import SQL, TINY, add_adapter

HUB = Path("/home/ada/shop/models/hub")
COMMIT = "1" * 40
SNAPSHOT = HUB / "models--Qwen--Qwen3-8B" / "snapshots" / COMMIT
FLAGS = {
    "max-model-len": "8k",
    "tensor-parallel-size": 2,
    "enforce-eager": True,
    "no-enable-prefix-caching": True,
    "hf-overrides": {"rope_theta": 1.5},
    "root-path": "/v1",
    "chat-template": "$HOME/template",
}
WORDS = [
    *("--max-model-len", "8k", "--tensor-parallel-size", "2", "--enforce-eager", "--no-enable-prefix-caching"),
    *("--hf-overrides", '{"rope_theta": 1.5}'),
]


def subject(**changed: Any) -> Subject:  # noqa: ANN401
    usual: dict[str, Any] = {
        "id": "Qwen/Qwen3-8B",
        "commit": COMMIT,
        "snapshot": SNAPSHOT,
        "hub": HUB,
        "folder": HUB.parent.parent,
        "size": 16 << 30,
        "on_hub": True,
        "names": ("Qwen/Qwen3-8B",),
        "host": "127.0.0.1",
        "port": 8001,
        "with_key": False,
        "flags": FLAGS,
    }
    return Subject(**{**usual, **changed})


def made(kind: Format, **changed: Any) -> Any:  # noqa: ANN401
    return handover.configuration(subject(**changed), kind).document


def test_vllms_own_file() -> None:
    lora = Lora(name="sql", path=Path("/l=1"), id="a/sql", rank=64)
    flags = {**FLAGS, "language-model-only": False}
    assert made("vllm", flags=flags, loras=(lora,), max_lora_rank=64, nodes={"nnodes": 2}) == {
        "model": str(SNAPSHOT),
        "served-model-name": ["Qwen/Qwen3-8B"],
        "host": "127.0.0.1",
        "port": 8001,
        **FLAGS,
        "no-language-model-only": True,
        "nnodes": 2,
        "enable-lora": True,
        "lora-modules": ['{"name": "sql", "path": "/l=1"}'],
        "max-lora-rank": 64,
    }


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("acme/vllm:1", "acme/vllm", "1"),
        ("registry:5000/vllm", "registry:5000/vllm", "latest"),
        (None, "vllm/vllm-openai", "latest"),
    ],
)
def test_the_image_of_the_profile(image: str | None, repository: str, tag: str) -> None:
    (service,) = made("compose", image=image)["services"].values()
    assert service["image"] == (image or "vllm/vllm-openai:latest")
    (model,) = made("production-stack", image=image)["servingEngineSpec"]["modelSpec"]
    assert (model["repository"], model["tag"]) == (repository, tag)


def test_compose() -> None:
    document = made("compose", with_key=True)
    (service,) = document["services"].values()
    assert list(document["services"]) == ["qwen3-8b"]
    assert service["command"] == [
        *(f"/models/hub/models--Qwen--Qwen3-8B/snapshots/{COMMIT}", "--served-model-name", "Qwen/Qwen3-8B"),
        *("--port", "8000", *WORDS, "--root-path", "/v1", "--chat-template", "$$HOME/template"),
    ]
    assert service["environment"]["HF_HUB_OFFLINE"] == "1"
    assert service["environment"]["VLLM_API_KEY"].startswith("${VLLM_API_KEY:?")
    mount = {"type": "bind", "source": "./models/hub", "target": "/models/hub", "read_only": True}
    assert service["volumes"][0] == mount
    assert service["ports"] == ["127.0.0.1:8001:8000"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}


def test_a_dollar_sign_is_none_of_a_variable() -> None:
    odd: dict[str, Any] = {"host": "$H", "image": "$I", "folder": Path("/none"), "names": ("$(N)",), "flags": {}}
    odd |= {"hub": Path("/$D/hub"), "snapshot": Path("/$D/hub/s")}
    service = made("compose", **odd)["services"]["qwen3-8b"]
    assert (service["ports"], service["image"]) == (["$$H:8001:8000"], "$$I")
    assert service["volumes"][0]["source"] == "/$$D/hub"
    # Kubernetes puts variables into arguments.
    assert made("kserve", **odd)["spec"]["predictor"]["model"]["args"] == ["--model_name=$$(N)"]
    (model,) = made("production-stack", **odd)["servingEngineSpec"]["modelSpec"]
    assert "$$(N)" in model["vllmConfig"]["extraArgs"]
    assert made("vllm", **odd)["served-model-name"] == ["$(N)"]


def test_what_the_engine_may_read_is_no_matter_of_the_server() -> None:
    flags = {"allowed-local-media-path": "/data", "allowed-origins": ["*"], "kv-cache-memory-bytes": "1G"}
    found = handover.configuration(subject(flags=flags), "ray-serve")
    (model,) = found.document["applications"][0]["args"]["llm_configs"]
    assert model["engine_kwargs"] == {"allowed_local_media_path": "/data", "kv_cache_memory_bytes": 1 << 30}
    assert [note.split("`")[1] for note in found.notes] == ["allowed-origins"]


def test_compose_mounts_what_an_adapter_needs() -> None:
    here = Lora(name="here", path=HUB / "models--a--here" / "snapshots" / COMMIT, id="a/here")
    cache = Path("/home/ada/.cache/huggingface/hub")
    there = Lora(name="there", path=cache / "models--a--there" / "snapshots" / COMMIT, id="a/there")
    plain = Lora(name="plain", path=Path("/data/plain"))
    (service,) = made("compose", loras=(here, there, plain))["services"].values()
    modules = [json.loads(word) for word in service["command"][service["command"].index("--lora-modules") + 1 :]]
    assert [each["path"] for each in modules] == [
        f"/models/hub/models--a--here/snapshots/{COMMIT}",
        f"/loras/hub-1/models--a--there/snapshots/{COMMIT}",
        "/loras/plain",
    ]
    mounts = {each["target"]: each["source"] for each in service["volumes"][:-1]}
    assert mounts == {"/models/hub": "./models/hub", "/loras/hub-1": str(cache), "/loras/plain": "/data/plain"}


def test_files_that_flags_name() -> None:
    files = {"chat-template": HUB.parent.parent / "x.jinja", "tokenizer": SNAPSHOT.with_name("2"), "config": Path("/c")}
    changed = {"flags": {key: str(path) for key, path in files.items()}, "files": files}
    (service,) = made("compose", **changed)["services"].values()
    assert service["command"][5:] == [
        *("--chat-template", "/files/chat-template/x.jinja"),
        *("--tokenizer", "/models/hub/models--Qwen--Qwen3-8B/snapshots/2", "--config", "/files/config/c"),
    ]
    mounts = {each["target"]: (each["source"], each.get("read_only")) for each in service["volumes"][1:-1]}
    assert mounts == {"/files/chat-template/x.jinja": ("./x.jinja", True), "/files/config/c": ("/c", True)}
    for kind in ("production-stack", "kserve"):
        found = handover.configuration(subject(**changed), kind)
        assert "--chat-template" not in json.dumps(found.document)
        assert f"`chat-template` is left out: `{files['chat-template']}` is here only" in found.notes
    notes = handover.configuration(subject(**changed), "ray-serve").notes
    assert f"`{files['tokenizer']}` has to lie at the same path on every node" in notes


def test_ray_serve() -> None:
    (application,) = made("ray-serve")["applications"]
    assert application["import_path"] == "ray.serve.llm:build_openai_app"
    (model,) = application["args"]["llm_configs"]
    assert model["model_loading_config"] == {"model_id": "Qwen/Qwen3-8B", "model_source": str(SNAPSHOT)}
    assert model["engine_kwargs"] == {
        "max_model_len": 8000,
        "tensor_parallel_size": 2,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "hf_overrides": {"rope_theta": 1.5},
        "chat_template": "$HOME/template",
    }


def test_production_stack() -> None:
    (model,) = made("production-stack")["servingEngineSpec"]["modelSpec"]
    assert (model["modelURL"], model["requestGPU"], model["requestMemory"]) == ("Qwen/Qwen3-8B", 2, "24Gi")
    config = model["vllmConfig"]
    assert (config["maxModelLen"], config["tensorParallelSize"]) == (8000, 2)
    assert config["extraArgs"] == [
        *("--revision", COMMIT, "--served-model-name", "Qwen/Qwen3-8B", "--enforce-eager"),
        *("--no-enable-prefix-caching", "--hf-overrides", '{"rope_theta": 1.5}'),
        *("--chat-template", "$$HOME/template"),
    ]
    (auto,) = made("production-stack", flags={"max-model-len": "auto"})["servingEngineSpec"]["modelSpec"]
    assert auto["vllmConfig"]["extraArgs"][-2:] == ["--max-model-len", "auto"]


def test_kserve() -> None:
    document = made("kserve")
    model = document["spec"]["predictor"]["model"]
    assert (document["kind"], document["metadata"]) == ("InferenceService", {"name": "qwen3-8b"})
    assert model["storageUri"] == f"hf://Qwen/Qwen3-8B:{COMMIT}"
    assert model["args"] == ["--model_name=Qwen/Qwen3-8B", *WORDS, "--chat-template", "$$HOME/template"]
    assert model["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_kserve_fetches_by_owner_and_name() -> None:
    assert handover.configuration(subject(), "kserve").notes == (
        "`root-path` of `Qwen/Qwen3-8B` is left out: the system has a way of its own for it",
    )
    *_, note = handover.configuration(subject(id="gpt2"), "kserve").notes
    assert (
        note
        == "KServe fetches no model without an owner: `modelctl pull OWNER/gpt2` a copy that has one, and export that"
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_what_has_no_place_is_said(kind: Format) -> None:
    local = Lora(name="mine", path=Path("/data/mine"))
    found = handover.configuration(
        subject(loras=(local,), names=("a", "b"), on_hub=False, with_key=True, nodes={"nnodes": 2}), kind
    )
    told = " ".join(found.notes)
    assert ("`nnodes`" in told) is (kind != "vllm")
    assert ("`root-path`" in told) is (kind not in {"vllm", "compose"})
    assert ("imported" in told) is (kind in {"production-stack", "kserve"})
    assert ("`served-model-name`" in told) is (kind in {"ray-serve", "kserve"})
    assert ("VLLM_API_KEY" in told) is (kind != "compose")
    assert ("`lora" in told) is (kind not in {"vllm", "compose"})
    assert "secret" not in json.dumps(found.document)


@pytest.mark.parametrize(
    ("name", "slug"), [("a/Qwen3-0.6B", "qwen3-0-6b"), ("a/7B_x.y", "m-7b-x-y"), (f"a/{'x' * 90}", "x" * 52)]
)
def test_names_that_kubernetes_takes(name: str, slug: str) -> None:
    assert subject(id=name).slug == slug


def test_the_command_prints_yaml(run: Command, store: StoreBuilder, project: Path) -> None:
    commit = store.add(TINY)
    snapshot = add_adapter(store, r=32)
    (project / "x.jinja").touch()
    (project / "modelctl.toml").write_text(
        f'[serve]\nseed = 1\nchat-template = "x.jinja"\n[serve.models."{TINY}"]\nlora = {{sql = "{SQL}"}}\n'
    )
    done = run("export-config", "--format", "vllm", TINY)
    assert done.code == 0
    assert done.stdout.startswith(
        f"# {TINY}@{commit[:12]}, by `modelctl export-config`\n# HF_HUB_OFFLINE=1 vllm serve --config FILE\nmodel: "
    )
    document = yaml.safe_load(done.stdout)
    assert document["model"] == str(store.paths(TINY).snapshot(commit))
    assert (document["seed"], document["max-lora-rank"]) == (1, 32)
    assert document["chat-template"] == f"{project}/x.jinja"
    assert "source: ./x.jinja\n" in run("export-config", "--format", "compose", TINY).stdout
    assert json.loads(*document["lora-modules"])["path"] == str(snapshot)
    kserve = run("export-config", "--format", "kserve", "--json", TINY).json
    assert kserve["configuration"]["spec"]["predictor"]["model"]["storageUri"] == f"hf://{TINY}:{commit}"
    assert kserve["usage"] == "kubectl apply -f FILE"


@pytest.mark.sweep
@pytest.mark.parametrize("kind", FORMATS)
def test_every_form_is_well_formed(run: Command, store: StoreBuilder, project: Path, kind: Format) -> None:
    store.add(TINY)
    add_adapter(store)
    (project / "modelctl.toml").write_text(
        f'[serve]\nchat-template = "yes: no # {{}}"\nhf-overrides = {{a = [1, "ö"]}}\nlora = {{sql = "{SQL}"}}\n'
    )
    shown = run("export-config", "--format", kind, TINY)
    assert yaml.safe_load(shown.stdout) == run("export-config", "--format", kind, TINY, "--json").json["configuration"]


@pytest.mark.sweep
def test_a_model_that_is_not_whole_is_no_subject(run: Command, store: StoreBuilder) -> None:
    store.add(TINY)
    store.blob(TINY, "config.json").unlink()
    assert run("export-config", "--format", "vllm", TINY).code == 6
    assert run("export-config", "--format", "vllm", "acme/none").code == 3
    assert run("export-config", "--format", "nomad", TINY).code == 2


def test_which_formats_there_are_is_said_in_one_line(run: Command) -> None:
    done = run("export-config")
    formats = "vllm, compose, ray-serve, production-stack, kserve"
    assert (done.code, done.stdout, done.stderr) == (
        2,
        "",
        f"error: missing option `--format`, one of {formats}\nhint: see `modelctl export-config --help`\n",
    )


def test_a_folder_cannot_end_the_comment(run: Command, store: StoreBuilder, project: Path) -> None:
    store.add(TINY)
    odd = project.with_name("shop\nprivileged: true")
    project.rename(odd)
    done = run("export-config", "--format", "compose", TINY, cwd=odd)
    project.mkdir()
    assert set(yaml.safe_load(done.stdout)) == {"services", "volumes"}
