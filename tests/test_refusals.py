"""What `serve` refuses before a start, told whole: what would take vLLM half a minute to say, and worse."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelctl import project as projects
from modelctl.engine import draft, limits, machine
from modelctl.engine.command import Settings
from modelctl.engine.draft import Draft
from modelctl.errors import NotFoundError
from tests.command import NOBODY, Command, Finished
from tests.hub.loopback import Hub
from tests.standin.engines import make_engine
from tests.stores import StoreBuilder, tiny_model
from tests.test_architectures import write
from tests.test_serve_settings import add_adapter

TINY = "acme/tiny"
WEIGHTS = "model.safetensors"
Do = Callable[[StoreBuilder], object]


@dataclass(frozen=True)
class Row:
    """What is wrong with a model, or with the words after its name, and all that `serve` says of it."""

    do: Do
    words: tuple[str, ...]
    code: int
    error: str
    hint: str


def whole(store: StoreBuilder) -> None:
    store.add(TINY)


def changed(**keys: object) -> Do:
    config = json.dumps({**json.loads(tiny_model()["config.json"]), **keys})
    return lambda store: store.add(TINY, files=tiny_model(**{"config.json": config}))


def holding(name: str, content: bytes) -> Do:
    """The model with another content under a name than was pulled."""

    def do(store: StoreBuilder) -> None:
        store.add(TINY)
        store.blob(TINY, name).write_bytes(content)

    return do


def published(**files: bytes | str) -> Do:
    return lambda store: store.add(TINY, files=tiny_model(**files))


def without(name: str) -> Do:
    files = {each: content for each, content in tiny_model().items() if each != name}
    return lambda store: store.add(TINY, files=files)


def dangling(store: StoreBuilder) -> None:
    store.add(TINY)
    store.blob(TINY, WEIGHTS).unlink()


def sharded(store: StoreBuilder) -> None:
    index = {"weight_map": {"model.norm.weight": WEIGHTS, "lm_head.weight": "model-2.safetensors"}}
    shards: dict[str, bytes | str] = {"model.safetensors.index.json": json.dumps(index), "model-2.safetensors": b""}
    store.add(TINY, files=tiny_model(**shards))
    store.paths(TINY).entry(store.paths(TINY).ref("main").read_text(), "model-2.safetensors").unlink()


def adapted(store: StoreBuilder) -> None:
    store.add(TINY)
    add_adapter(store, r=64)


PULL = "`modelctl pull acme/tiny` mends it"
MEND = "`modelctl verify --repair acme/tiny` mends it"
COMPARE = "`modelctl verify acme/tiny` tells whether it is as it was published"
FORCE = "`--force` starts it anyway"
CONTENT = tiny_model()[WEIGHTS]
assert isinstance(CONTENT, bytes)
SMALL = ("--max-model-len", "131072", "--", "--kv-cache-memory-bytes", "64M")
DRAFT = ("--", "--speculative-config", '{"model": "acme/draft"}')
ROWS = {
    "truncated": Row(
        holding(WEIGHTS, CONTENT[:500_000]),
        (),
        6,
        f"`{TINY}` is broken: `{WEIGHTS}` has 500000 bytes instead of {len(CONTENT)}",
        MEND,
    ),
    "empty": Row(
        holding(WEIGHTS, b""), (), 6, f"`{TINY}` is broken: `{WEIGHTS}` has 0 bytes instead of {len(CONTENT)}", MEND
    ),
    "bad header": Row(
        holding(WEIGHTS, b"\xff" * len(CONTENT)),
        (),
        6,
        f"`{TINY}` is broken: `{WEIGHTS}` is no safetensors file: the length of its header makes no sense",
        MEND,
    ),
    "dangling": Row(dangling, (), 6, f"`{TINY}` is broken: `{WEIGHTS}` leads to no content in this store", PULL),
    "missing shard": Row(sharded, (), 6, f"`{TINY}` is partial: `model-2.safetensors` is missing", PULL),
    "no weights": Row(
        without(WEIGHTS),
        (),
        1,
        f"`{TINY}` cannot be served: vLLM cannot serve it: it has no weights",
        "`modelctl list` shows which models can be",
    ),
    "no configuration": Row(
        without("config.json"),
        (),
        1,
        f"`{TINY}` cannot be served: vLLM cannot serve it without a `config.json`",
        COMPARE,
    ),
    "broken configuration": Row(
        lambda store: store.add(TINY, files=tiny_model(**{"config.json": "{"})),
        (),
        1,
        f"`{TINY}` cannot be served: its `config.json` is no JSON object",
        COMPARE,
    ),
    "no tokenizer": Row(
        without("tokenizer.json"),
        (),
        1,
        f"`{TINY}` cannot be served: vLLM cannot serve it without a tokenizer, and it has none",
        "name the folder of one: `-- --tokenizer FOLDER`",
    ),
    "heads": Row(
        whole,
        ("--tensor-parallel-size", "3"),
        2,
        f"the 2 attention heads of `{TINY}` cannot be divided among 3 devices",
        f"it can be divided among 2; {FORCE}",
    ),
    "sleep": Row(
        whole,
        ("--", "--enable-sleep-mode"),
        2,
        "vLLM cannot put a model to sleep on the CPU",
        f"leave `--enable-sleep-mode` away; {FORCE}",
    ),
    "ray": Row(
        whole,
        ("--ray",),
        2,
        "vLLM cannot use Ray on the CPU",
        f"leave `--ray` away, or `ray` in `modelctl.toml`; {FORCE}",
    ),
    "context": Row(
        whole,
        ("--max-model-len", "100000"),
        2,
        f"`--max-model-len` asks for 100,000 tokens, and `{TINY}` takes 2,048",
        f"`--max-model-len 2048`; {FORCE}",
    ),
    "cache too small": Row(
        changed(max_position_embeddings=131072),
        SMALL,
        5,
        f"`{TINY}` does not fit: it takes 134.3 MB of KV cache of 131,072 tokens, and is given 67.1 MB",
        "`--max-model-len 61440` or `-- --kv-cache-memory-bytes 129M` makes it fit; "
        f"`modelctl show {TINY} --memory` has the reasoning; {FORCE}",
    ),
    "draft": Row(
        whole,
        DRAFT,
        3,
        "no model `acme/draft` here (the draft model)",
        f"did you mean `{TINY}`; `modelctl pull acme/draft` fetches it",
    ),
    "adapter": Row(
        adapted,
        ("--lora", "a=acme/tiny-sql", "--", "--max-lora-rank", "16"),
        2,
        "the adapter `a` has rank 64, and `--max-lora-rank` is 16",
        "leave it away: it is then as great as the adapters need",
    ),
}


@pytest.mark.matrix(4)
@pytest.mark.parametrize("name", list(ROWS))
def test_it_is_refused(run: Command, store: StoreBuilder, engine: Path, name: str) -> None:
    row = ROWS[name]
    row.do(store)
    done = run("serve", TINY, *row.words, env={"MODELCTL_VLLM_PYTHON": str(engine)})
    assert (done.code, done.stdout) == (row.code, "")
    assert done.stderr == f"error: {row.error}\nhint: {row.hint}\n"


def test_a_tokenizer_of_another_model(run: Command, store: StoreBuilder, engine: Path) -> None:
    without("tokenizer.json")(store)
    words = ("--dry-run", "--json", "--", "--tokenizer", "/some/folder")
    assert run("serve", TINY, *words, env={"MODELCTL_VLLM_PYTHON": str(engine)}).json["refusal"] is None


@pytest.mark.sweep
def test_code_of_its_own(run: Command, store: StoreBuilder, tmp_path: Path) -> None:
    changed(architectures=["AcmeForCausalLM"], auto_map={"AutoModelForCausalLM": "acme.AcmeForCausalLM"})(store)
    python = make_engine(tmp_path / "venv")
    write(next((tmp_path / "venv").glob("lib/python*/site-packages")), "_MODELS = {'Other': ('other', 'Other')}")
    error = run("serve", TINY, "--json", "--python", python)
    assert error.code == 1
    assert error.events == [
        {
            "schema": 1,
            "event": "error",
            "error": {
                "kind": "failed",
                "message": f"`{TINY}` cannot be served: vLLM 0.33.0+cpu does not know `AcmeForCausalLM`",
                "hint": "it brings Python code of its own: read that, then add `-- --trust-remote-code`; " + FORCE,
                "cause": "model",
            },
        }
    ]


@pytest.mark.sweep
def test_a_gated_model_that_is_to_be_pulled_first(run: Command, hub: Hub, engine: Path) -> None:
    hub.add("acme/gated", gated=True)
    env = {"HF_ENDPOINT": hub.url, "MODELCTL_VLLM_PYTHON": str(engine)}
    assert run("serve", "acme/gated", "--pull", env=env) == Finished(
        4,
        "",
        "error: `acme/gated` is gated, and without a login there is no access to it\n"
        f"hint: ask for access at {hub.url}/acme/gated, then `hf auth login`\n",
    )


def drafted(name: str) -> tuple[str, ...]:
    return ("--dry-run", "--json", "--", "-sc", json.dumps({"model": name, "num_speculative_tokens": 2}))


@pytest.mark.parametrize(
    "words",
    [
        ("-sc.model", "acme/draft"),
        ("--speculative_config.model=acme/draft",),
        ("--spec-model", "acme/draft"),
        ("--spec-model=acme/draft", "--spec-tokens", "2"),
    ],
)
def test_a_draft_is_seen_in_every_spelling(words: tuple[str, ...], tmp_path: Path) -> None:
    project = projects.locate(cwd=tmp_path, environ={})
    with pytest.raises(NotFoundError) as caught:
        draft.of(project, words, target=TINY)
    assert caught.value.message == "no model `acme/draft` here (the draft model)"
    assert draft.of(project, ("--speculative-config", "[" * 99_999), target=TINY) is None


def test_a_draft_takes_memory_too(run: Command, store: StoreBuilder, engine: Path, tmp_path: Path) -> None:
    store.add(TINY)
    store.add("acme/draft")
    project = projects.locate(cwd=run.project, environ={})
    file = store.blob("acme/draft", WEIGHTS).stat().st_size
    words = drafted("acme/draft")
    found = draft.of(project, words, target=TINY)
    assert found is not None
    assert 0 < file - found.weights < 10_000, "all of the file but its header"
    assert found.config["num_hidden_layers"] > 0
    # One that predicts by layers of its own, named or by its folder.
    folder = store.paths("acme/draft").snapshots / "main"
    for name in ("acme/draft", str(folder)):
        assert draft.of(project, drafted(name), target="acme/draft") is None
    huge = tmp_path / "huge"
    huge.mkdir()
    (huge / WEIGHTS).touch()
    os.truncate(huge / WEIGHTS, 8 << 40)
    refused = run("serve", TINY, "--", "-sc.model", str(huge), env={"MODELCTL_VLLM_PYTHON": str(engine)})
    assert refused.code == 5
    assert "8.8 TB of weights" in refused.stderr


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        ({"model_type": "llama", "num_hidden_layers": 3}, 3),
        # EAGLE's heads, and those that `speculators` made.
        ({"model_type": "eagle", "model": {"model_type": "llama", "num_hidden_layers": 2}}, 2),
        ({"speculators_model_type": "eagle3", "transformer_layer_config": {"num_hidden_layers": 1}}, 1),
        # Heads that attend to nothing.
        ({"model_type": "medusa", "hidden_size": 4096, "num_heads": 5, "num_hidden_layers": 1}, None),
        ({"model_type": "mlp_speculator", "num_hidden_layers": 1}, None),
        ([{"num_hidden_layers": 1}], None),
        ({"model": [], "transformer_layer_config": "x", "num_hidden_layers": 4}, 4),
    ],
)
def test_the_layers_of_a_draft_stand_where_each_kind_has_them(tmp_path: Path, config: Any, depth: int | None) -> None:  # noqa: ANN401
    (tmp_path / "config.json").write_text(json.dumps(config))
    project = projects.locate(cwd=tmp_path, environ={})
    found = draft.of(project, ("--spec-model", str(tmp_path)), target=TINY)
    assert found is not None
    assert found.config.get("num_hidden_layers") == depth


def test_a_draft_has_a_cache_too(run: Command, store: StoreBuilder, engine: Path, tmp_path: Path) -> None:
    store.add(TINY)
    deep = {"model_type": "llama", "num_hidden_layers": 1000, "num_attention_heads": 1000, "hidden_size": 1_000_000}
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "config.json").write_text(json.dumps(deep))
    refused = run(
        "serve", TINY, "--", "--spec-model", str(tmp_path / "draft"), env={"MODELCTL_VLLM_PYTHON": str(engine)}
    )
    assert refused.code == 5
    # 4 GB a token: keys and values of two bytes each.
    assert "8.7 TB of KV cache of 2,048 tokens" in refused.stderr


@pytest.mark.parametrize(
    ("files", "bytes_"),
    [
        (("model-00001-of-00001.safetensors", "consolidated.safetensors", "adapter_model.safetensors"), 1000),
        (("model-1.safetensors", "model-2.safetensors", "other.safetensors", "model.safetensors.index.json"), 2000),
        (("pytorch_model.bin", "training_args.bin"), 1000),
        (("model.safetensors", "pytorch_model.bin", "sub/model.safetensors"), 1000),
        (("README.md",), 0),
    ],
)
def test_a_folder_of_a_draft_counts_as_vllm_loads_it(tmp_path: Path, files: tuple[str, ...], bytes_: int) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    for name in files:
        (tmp_path / "d" / name).write_bytes(b"x" * 1000)
    if "model.safetensors.index.json" in files:
        shards = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
        (tmp_path / "d" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    project = projects.locate(cwd=tmp_path, environ={})
    assert draft.of(project, ("--spec-model", str(tmp_path / "d")), target=TINY) == Draft(bytes_, {})


@pytest.mark.sweep
def test_a_draft_that_may_not_be_looked_at(run: Command, store: StoreBuilder) -> None:
    store.add(TINY)
    engine = make_engine(run.project / "venv")
    folder = run.project / "draft"
    folder.mkdir()
    (folder / WEIGHTS).touch()
    folder.chmod(0o644)
    words = ("--dry-run", "--", "--spec-model", str(folder))
    assert run("serve", TINY, *words, env={"MODELCTL_VLLM_PYTHON": str(engine)}, user=NOBODY).code == 0


@pytest.mark.sweep
def test_drafts(run: Command, store: StoreBuilder, cache: StoreBuilder, engine: Path) -> None:
    store.add(TINY)
    store.add("acme/draft")
    folder = cache.paths("acme/other").snapshot(cache.add("acme/other"))
    env = {"MODELCTL_VLLM_PYTHON": str(engine)}
    assert run("serve", TINY, *drafted("acme/draft"), env=env).code == 0
    assert run("serve", TINY, *drafted(str(folder)), env=env).code == 0
    assert run("serve", TINY, *drafted("acme/none"), env={**env, "HF_HUB_OFFLINE": "0"}).code == 0
    assert run("serve", TINY, "--dry-run", "--", "--speculative-config.model=[ngram]", env=env).code == 0
    assert run("serve", TINY, "--dry-run", "--", "--speculative-config.model", "acme/other", env=env) == Finished(
        3,
        "",
        f"error: vLLM does not find the draft model `acme/other` by that name\nhint: give its folder, {folder}\n",
    )
    store.blob("acme/draft", WEIGHTS).unlink()
    broken = run("serve", TINY, "--dry-run", "--", "-sc", '{"model": "acme/draft"}', env=env)
    assert (broken.code, broken.stderr.splitlines()[0]) == (6, "error: the draft model `acme/draft` is broken")


@pytest.mark.parametrize(
    ("environ", "devices", "nodes", "message"),
    [
        ({}, 2, 1, "the model is to be divided among 2 processors, and this machine has 1 NUMA node"),
        ({}, 4, 2, "the model is to be divided among 4 processors, and this machine has 2 NUMA nodes"),
        ({}, 2, 2, None),
        ({}, 2, 0, None),
        ({"VLLM_CPU_OMP_THREADS_BIND": "0-3|4-7"}, 2, 1, None),
    ],
)
def test_more_processors_than_there_are(environ: dict[str, str], devices: int, nodes: int, message: str | None) -> None:
    error = limits.of_cpu(Settings(), devices=devices, nodes=nodes, environ=environ)
    assert (error and error.message) == message
    if error is not None:
        assert (error.exit_code, error.hint) == (
            5,
            f"`--tensor-parallel-size {nodes}`, or `VLLM_CPU_OMP_THREADS_BIND` with the cores of each; {FORCE}",
        )


def test_the_nodes_of_a_machine(tmp_path: Path) -> None:
    assert machine.without_gpu(tmp_path).nodes == 0
    for name in ("node0", "node1", "online"):
        (tmp_path / "sys" / "devices" / "system" / "node" / name).mkdir(parents=True)
    assert machine.without_gpu(tmp_path).nodes == 2
