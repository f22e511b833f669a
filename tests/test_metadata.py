"""What is read of a model's own files: headers, configuration, card; and what nonsense in them does."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelctl.share.safetensors import encode
from modelctl.store import card, context, gguf, metadata, reading, safetensors, scan
from modelctl.store.header import Damage, Header
from modelctl.store.model import Facts, Model
from tests.checkpoints import CONFIG, generator, sharded, tensor, weights
from tests.checkpoints import gguf as gguf_file
from tests.stores import Files, StoreBuilder

NAME = "acme/tiny"


def read(store: StoreBuilder, files: Files) -> Model:
    store.add(NAME, files=files)
    (model,) = scan.scan_hub(store.hub, "project")
    assert metadata.facts(model.revisions[0]) == model.facts
    return model


def configured(**keys: object) -> str:
    return json.dumps({**CONFIG, **keys})


def test_a_model_that_generates(store: StoreBuilder) -> None:
    model = read(store, generator())
    assert model.facts == Facts(
        format="safetensors",
        task="generate",
        architecture="LlamaForCausalLM",
        parameters=42,
        dtype="BF16",
        quantization=None,
        context_length=4096,
        license="mit",
        weights=84,
    )
    assert model.servable is True


def test_parameters_and_dtype_are_those_of_all_shards_that_count(store: StoreBuilder) -> None:
    mixed = encode({"a": tensor("F32", (3,)), "b": tensor("BF16", (4, 100)), "c": tensor("F8_E4M3", (500,))})
    facts = read(store, {**sharded(), "model-00001-of-00002.safetensors": mixed}).facts
    # The index places `a` and knows nothing of the others: what a shard holds is loaded all the same.
    assert (facts.parameters, facts.dtype) == (3 + 400 + 500 + 12, "BF16")
    other = read(store, {**generator(), "model.fp16.safetensors": weights({"a": (1000,)})})
    assert other.facts.parameters == 42


PACKED = {
    "layer.qweight": tensor("I32", (8, 4)),
    "layer.qzeros": tensor("I32", (2, 4)),
    "layer.scales": tensor("F16", (2, 8)),
    "layer.g_idx": tensor("I32", (64,)),
    "embed": tensor("F16", (100,)),
}
QUANTISED: dict[str, tuple[dict[str, Any], bytes, str, int]] = {
    "gptq": ({"quant_method": "gptq", "bits": 4}, encode(PACKED), "gptq-4bit", 32 * 8 + 100),
    "awq": ({"quant_method": "awq", "bits": 4}, encode(PACKED), "awq-4bit", 32 * 8 + 100),
    "fp8": ({"quant_method": "fp8"}, weights({"a": (4, 4)}, "F8_E4M3"), "fp8", 16),
    "mxfp4": (
        {"quant_method": "mxfp4"},
        encode({"w_blocks": tensor("U8", (10,)), "w_scales": tensor("U8", (3,)), "b": tensor("BF16", (5,))}),
        "mxfp4",
        25,
    ),
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        encode({"w": tensor("U8", (10, 1)), "w.absmax": tensor("U8", (3,)), "b": tensor("BF16", (5,))}),
        "bitsandbytes-4bit",
        25,
    ),
    "compressed-tensors": (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
        },
        weights({"a": (4, 4)}, "F8_E4M3"),
        "compressed-tensors-8bit",
        16,
    ),
}


@pytest.mark.parametrize("method", QUANTISED)
def test_a_quantised_model_counts_its_parameters_unpacked(store: StoreBuilder, method: str) -> None:
    config, content, named, parameters = QUANTISED[method]
    files = generator(config__json=configured(quantization_config=config), model__safetensors=content)
    facts = read(store, files).facts
    assert (facts.quantization, facts.parameters) == (named, parameters)


def test_quantisation_in_files_of_its_own(store: StoreBuilder) -> None:
    optimizer = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
    assert read(store, {**generator(), "hf_quant_config.json": json.dumps(optimizer)}).facts.quantization == "fp8"
    old = {**generator(README__md="# old"), "quantize_config.json": json.dumps({"bits": 4, "group_size": 128})}
    assert read(store, old).facts.quantization == "gptq-4bit"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 8192, "seq_length": 2048}, 2048),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"text_config": {"max_position_embeddings": 32768}, "max_position_embeddings": 10}, 32768),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 8192),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 40960, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 40960),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": None}}, 4096),
        ({"max_position_embeddings": 131072, "model_type": "gemma3", "rope_scaling": {"factor": 8.0}}, 131072),
        ({"max_position_embeddings": "many"}, None),
        ({"max_position_embeddings": -1}, None),
        ({}, None),
    ],
)
def test_the_context_length_follows_vllm(config: dict[str, Any], expected: int | None) -> None:
    assert context.length(config) == expected


def test_the_context_length_of_an_embedding_model() -> None:
    bert = {"max_position_embeddings": 512, "position_embedding_type": "absolute"}
    assert context.length(bert, tokenizer={"model_max_length": 384}) == 384
    assert context.length(bert, tokenizer={"model_max_length": 10**30}) == 512
    assert context.length(bert, sentence={"max_seq_length": 256}) == 256
    assert context.length({"max_position_embeddings": 512}, tokenizer={"model_max_length": 384}) == 512


TASKS: dict[str, tuple[dict[str, bytes | str], str | None]] = {
    "generate": ({"config.json": configured(architectures=["Qwen3ForCausalLM"])}, "generate"),
    "generate from pictures": (
        {"config.json": configured(architectures=["Qwen2_5_VLForConditionalGeneration"])},
        "generate",
    ),
    "embed": ({"config.json": configured(architectures=["BertModel"])}, "embed"),
    "embed by its modules": ({"modules.json": "[]"}, "embed"),
    "classify": ({"config.json": configured(architectures=["BertForSequenceClassification"])}, "classify"),
    "rerank": (
        {"config.json": configured(architectures=["BertForSequenceClassification"], id2label={"0": "LABEL_0"})},
        "rerank",
    ),
    "rerank by its card": ({"README.md": "---\npipeline_tag: text-ranking\n---\n", "modules.json": "[]"}, "rerank"),
    "transcribe": (
        {
            "config.json": configured(architectures=["WhisperForConditionalGeneration"]),
            "README.md": "---\npipeline_tag: automatic-speech-recognition\n---\n",
        },
        "transcribe",
    ),
    "nobody knows": ({"config.json": configured(architectures=[])}, None),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_task(store: StoreBuilder, task: str) -> None:
    files, expected = TASKS[task]
    assert read(store, {**generator(), **files}).facts.task == expected


def test_nobody_knows_whether_a_model_of_no_architecture_can_be_served(store: StoreBuilder) -> None:
    assert read(store, generator(config__json="{}")).servable is None


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        (generator(config__json=None), "no_config", "vLLM cannot serve it without a `config.json`"),
        (generator(config__json="[1, 2"), "config", "its `config.json` is no JSON object"),
        (generator(tokenizer__json=None), "no_tokenizer", "vLLM cannot serve it without a tokenizer, and it has none"),
        (
            {
                "adapter_config.json": '{"base_model_name_or_path": "acme/base"}',
                "adapter_model.safetensors": weights({}),
            },
            "lora",
            "it is a LoRA adapter, which vLLM serves together with `acme/base`, the model it was made for",
        ),
        (
            {"config.json": "{}", "tf_model.h5": "x"},
            "unservable",
            "vLLM cannot serve it: it has no weights that vLLM loads, only TensorFlow weights",
        ),
    ],
)
def test_what_vllm_cannot_serve_is_whole_and_says_why(
    store: StoreBuilder, files: Files, kind: str, message: str
) -> None:
    model = read(store, files)
    assert (model.state, model.servable) == ("ready", False)
    assert [(problem.kind, problem.message) for problem in model.problems] == [(kind, message)]


def test_an_embedding_model_needs_no_tokenizer_to_be_thought_servable(store: StoreBuilder) -> None:
    files = generator(config__json=configured(architectures=["BertModel"]), tokenizer__json=None)
    assert read(store, files).servable is True


def test_a_pickle_has_no_header_but_a_configuration(store: StoreBuilder) -> None:
    model = read(store, {**generator(model__safetensors=None), "pytorch_model.bin": "x"})
    facts = model.facts
    assert (facts.format, facts.parameters, facts.dtype, facts.context_length) == ("pickle", None, "BF16", 4096)
    assert (model.state, model.servable) == ("ready", True)
    assert read(store, {**generator(model__safetensors=None), "pytorch_model.bin": ""}).state == "broken"


def test_mistral_s_own_format(store: StoreBuilder) -> None:
    params = {"dim": 8, "max_seq_len": 32768}
    files: Files = {
        "params.json": json.dumps(params),
        "consolidated.safetensors": weights({"a": (7,)}),
        "tekken.json": "{}",
    }
    model = read(store, files)
    facts = model.facts
    assert (facts.task, facts.parameters, facts.context_length) == ("generate", 7, 32768)
    assert model.servable is True


def test_gguf(store: StoreBuilder) -> None:
    about: dict[str, str | int] = {
        "general.architecture": "llama",
        "general.file_type": 15,
        "llama.context_length": 8192,
    }
    content = gguf_file(
        {"token_embd": (14, (256, 2), 420), "blk.0": (12, (256, 8), 1152), "norm": (0, (256,), 1024)},
        metadata=about,
        vocabulary=150_000,
    )
    facts = read(store, {"tiny-Q4_K_M.gguf": content}).facts
    assert facts == Facts(
        format="gguf",
        task="generate",
        architecture="llama",
        parameters=512 + 2048 + 256,
        dtype="Q4_K",
        quantization="Q4_K_M",
        context_length=8192,
        license=None,
        weights=420 + 1152 + 1024,
    )


def as_file(folder: Path, content: bytes) -> tuple[Path, int]:
    path = folder / "weights"
    path.write_bytes(content)
    return path, len(content)


def with_header(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def described(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is too short for a safetensors file"),
        (b"\x10", "is too short for a safetensors file"),
        (struct.pack("<Q", 50), "ends inside its header"),
        (struct.pack("<Q", 1 << 40), "is no safetensors file: the length of its header makes no sense"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "is no safetensors file: the length of its header makes no sense",
        ),
        (with_header(b"{"), "has a header that is no JSON object"),
        (with_header([]), "has a header that is no JSON object"),
        (with_header(b"[" * 100_000), "has a header that is no JSON object"),
        (with_header(b"\xff" * 20), "has a header that is no JSON object"),
        (with_header({"t": 1}), "has a header that does not describe `t`"),
        (with_header(described(dtype=4)), "has a header that does not describe `t`"),
        (with_header(described(shape=(-2,)), bytes(8)), "has a header that gives `t` a shape that makes no sense"),
        (with_header(described(shape=(1.5,)), bytes(8)), "has a header that gives `t` a shape that makes no sense"),
        (with_header(described(shape=(3,)), bytes(8)), "has a header that contradicts itself about `t`"),
        (with_header(described(offsets=(8, 0)), bytes(8)), "has a header that contradicts itself about `t`"),
        (with_header(described(offsets=(8, 16)), bytes(16)), "has a header whose tensors overlap or leave gaps"),
        (with_header(described(), bytes(5)), "is cut off: 3 bytes of its tensors are missing"),
        (with_header(described(), bytes(9)), "has 1 bytes too many at its end"),
    ],
)
def test_damaged_safetensors_files(tmp_path: Path, content: bytes, message: str) -> None:
    assert safetensors.read(*as_file(tmp_path, content)) == Damage(message)


def test_a_dtype_that_is_not_known_yet_is_no_damage(tmp_path: Path) -> None:
    header = safetensors.read(*as_file(tmp_path, with_header(described(dtype="F2_NEW"), bytes(8))))
    assert isinstance(header, Header)
    assert header.elements == {"F2_NEW": 2}


def test_a_header_beyond_the_bound_is_not_read_and_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    length = safetensors.MAX_READ + 1
    with path.open("wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(8 + length + 10)
    header = safetensors.read(path, path.stat().st_size)
    assert isinstance(header, Header)
    assert not header.is_read


WHOLE_GGUF = gguf_file({"a": (2, (32, 2), 36), "b": (0, (4,), 16)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no GGUF file"),
        (b"GGUF", "is no GGUF file"),
        (b"GGML" + bytes(100), "is no GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "has version 9 of the GGUF format, which is not known"),
        (WHOLE_GGUF[:60], "ends inside its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "has a header that makes no sense"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "has a header that makes no sense"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1000, 0), "ends inside its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62), "ends inside its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<QI", 0, 99), "has a header that makes no sense"),
        (WHOLE_GGUF[:-20], "is cut off: 4 bytes of its tensors are missing"),
    ],
)
def test_damaged_gguf_files(tmp_path: Path, content: bytes, message: str) -> None:
    assert gguf.read(*as_file(tmp_path, content)) == Damage(message)


@settings(max_examples=60)
@given(at=st.integers(0, 400), noise=st.binary(min_size=1, max_size=12), cut=st.integers(0, 400))
def test_no_header_raises(tmp_path: Path, at: int, noise: bytes, cut: int) -> None:
    for content in (weights({"a": (4, 8), "b": (10,)}), WHOLE_GGUF):
        at_most = at % len(content)
        spoiled = (content[:at_most] + noise + content[at_most + len(noise) :])[: len(content) - cut % len(content)]
        path, size = as_file(tmp_path, spoiled)
        for read_header in (safetensors.read, gguf.read):
            assert isinstance(read_header(path, size), (Header, Damage))


def bytes_read() -> int:
    """What this process has read so far, by the kernel's count."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


# Lengths and counts that are true of no file: read as they say, they would be all of it, or all there is.
LENGTHS = st.sampled_from([0, 8, 10**6, 24_000_000, 25_000_000, 90_000_000, 1 << 40, (1 << 64) - 1])


@settings(max_examples=40)
@given(first=LENGTHS, second=LENGTHS, text=st.sampled_from([b"", b"{", b'{"t": ', b"[" * 1000, b"GGUF"]))
def test_no_header_is_read_beyond_a_bound(tmp_path: Path, first: int, second: int, text: bytes) -> None:
    path = tmp_path / "sparse"
    for start in (struct.pack("<Q", first) + text, b"GGUF" + struct.pack("<IQQQ", 3, first, second, first) + text):
        path.write_bytes(start)
        os.truncate(path, 60_000_000)
        for read_header in (safetensors.read, gguf.read):
            before = bytes_read()
            assert isinstance(read_header(path, 60_000_000), (Header, Damage))
            assert bytes_read() - before < 25_010_000


def test_no_document_is_read_beyond_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"architectures": ["')
    os.truncate(path, 60_000_000)
    before = bytes_read()
    assert reading.document(path) is None
    assert bytes_read() - before < 25_010_000


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("architectures", "text_config", "quantization_config", "rope_scaling", "factor", "torch_dtype"),
                    *(
                        "max_position_embeddings",
                        "model_max_length",
                        "id2label",
                        "config_groups",
                        "bits",
                        "quant_method",
                    ),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> StoreBuilder:
    store = StoreBuilder(tmp_path_factory.mktemp("junk") / "hub")
    store.add(NAME, files={**generator(), "tokenizer_config.json": "{}", "modules.json": "[]"}, tree=False)
    return store


@settings(max_examples=60)
@given(config=JUNK, tokenizer=JUNK, modules=JUNK, readme=st.text(max_size=30))
def test_no_configuration_raises(
    one_store: StoreBuilder, config: object, tokenizer: object, modules: object, readme: str
) -> None:
    paths = one_store.paths(NAME)
    entries = {"config.json": config, "tokenizer_config.json": tokenizer, "modules.json": modules}
    commit = paths.ref("main").read_text()
    for name, value in entries.items():
        entry = paths.entry(commit, name)
        entry.unlink()
        entry.write_text(json.dumps(value), encoding="utf-8")
    readme_entry = paths.entry(commit, "README.md")
    readme_entry.unlink()
    readme_entry.write_text(f"---\n{readme}\nlicense: mit\n---", encoding="utf-8", errors="replace")
    (model,) = scan.scan_hub(one_store.hub, "project")
    assert model.state == "ready"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("---\nlicense: apache-2.0\n---\n# x", {"license": "apache-2.0"}),
        (
            "\ufeff---\r\nlicense: mit\r\npipeline_tag: text-ranking\r\n---\r\n",
            {"license": "mit", "pipeline_tag": "text-ranking"},
        ),
        ("---\nlicense:\n- mit\n- other\nlanguage:\n- en\n---", {"license": "mit"}),
        ("---\nlicense: [mit, bsd]\n---", {"license": "mit"}),
        (
            "---\nlicense: 'other' # see below\nlicense_name: \"acme\"\n---",
            {"license": "other", "license_name": "acme"},
        ),
        ("---\nlicense:\ntags:\n- mit\n---", {}),
        ("---\nlicense: mit\n", {}),
        ("license: mit", {}),
        ("", {}),
    ],
)
def test_the_front_matter_of_a_card(tmp_path: Path, text: str, fields: dict[str, str]) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(text.encode())
    assert card.fields(path) == fields


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": "---\nlicense: other\nlicense_name: acme\n---"}, "acme"),
        ({"README.md": "---\nlicense: other\n---", "LICENSE": "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT"}, "llama3.1"),
        ({"README.md": "", "LICENSE.txt": "   Apache License\n Version 2.0"}, "apache-2.0"),
        ({"README.md": "", "LICENSE": "do what you want"}, None),
        ({"README.md": "---\nlicense: other\n---", "LICENSE": "do what you want"}, "other"),
    ],
)
def test_the_licence(store: StoreBuilder, files: dict[str, str], expected: str | None) -> None:
    assert read(store, {**generator(), **files}).facts.license == expected
