"""Whether a vLLM knows an architecture, read from a registry as its source has it."""

from pathlib import Path

import pytest

from modelctl.engine import architectures
from modelctl.engine.architectures import Answer
from modelctl.engine.discovery import Engine
from tests.command import Command
from tests.standin.engines import make_engine
from tests.stores import StoreBuilder

REGISTRY = """
from os import environ
_TEXT_GENERATION_MODELS = {
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),
    "Qwen4ForCausalLM": (
        "vllm.models.qwen4",
        "Qwen4ForCausalLM",
    ),
}
_EMBEDDING_MODELS: dict[str, tuple[str, str]] = {"BertModel": ("bert", "BertEmbeddingModel")}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS, **_EMBEDDING_MODELS}
_SUBPROCESS_COMMAND = [environ["NOT_RUN"]]
_PREVIOUSLY_SUPPORTED_MODELS = {"MptForCausalLM": "0.28.0"}
_OOT_SUPPORTED_MODELS = {"BartModel": "https://example.org/plugin"}
"""
AUTO = 'MODEL_MAPPING_NAMES = {("xglm", "XGLMForCausalLM")}\n'


def write(site: Path, registry: str = REGISTRY) -> Path:
    for name, text in (("vllm/model_executor/models/registry.py", registry), (AUTO_PATH, AUTO)):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    return site / "vllm"


AUTO_PATH = "transformers/models/auto/modeling_auto.py"


def asked(package: Path | None, name: str | None) -> Answer:
    return architectures.asked(Engine(Path("/python"), "0.33.0", "cpu", "vllm", "", package), name)


@pytest.mark.parametrize(
    ("name", "knows", "note"),
    [
        ("LlamaForCausalLM", True, None),
        ("Qwen4ForCausalLM", True, None),
        ("BertModel", True, None),
        ("LlamaModel", True, None),
        ("LlamaForSequenceClassification", True, None),
        ("MptForCausalLM", False, "vLLM gave `MptForCausalLM` up after 0.28.0"),
        ("BartModel", False, "vLLM needs a plugin for `BartModel`: https://example.org/plugin"),
        ("XGLMForCausalLM", None, "vLLM does not know `XGLMForCausalLM`, and may run it by way of transformers"),
        ("Nope", False, "vLLM 0.33.0 does not know `Nope`"),
        (None, None, None),
    ],
)
def test_what_a_registry_says(tmp_path: Path, name: str | None, note: str | None, *, knows: bool | None) -> None:
    assert asked(write(tmp_path), name) == Answer(knows, note)


@pytest.mark.parametrize("text", ["", "def", "\0", "_MODELS = 3", "(" * 5000])
def test_a_registry_that_tells_nothing(tmp_path: Path, text: str) -> None:
    assert asked(write(tmp_path, text), "LlamaForCausalLM") == Answer(None)
    assert asked(tmp_path / "nowhere", "LlamaForCausalLM") == Answer(None)
    assert asked(None, "LlamaForCausalLM") == Answer(None)


def test_show_asks_the_engine_that_would_serve(run: Command, store: StoreBuilder, tmp_path: Path) -> None:
    store.add("acme/tiny")
    python = make_engine(tmp_path / "venv")
    package = write(next((tmp_path / "venv").glob("lib/python*/site-packages")))
    env = {"MODELCTL_VLLM_PYTHON": str(python)}
    assert "  engine        vLLM 0.33.0+cpu knows its architecture\n" in run("show", "tiny", env=env).stdout
    write(package.parent, "_MODELS = {'Other': ('other', 'Other')}")
    told = run("show", "tiny", "--json", env=env).json["engine"]
    note = "vLLM 0.33.0+cpu does not know `LlamaForCausalLM`"
    assert told == {"version": "0.33.0+cpu", "device": "cpu", "knows": False, "note": note}
    # One that cannot be asked is no reason not to show a model.
    gone = run("show", "tiny", env={"MODELCTL_VLLM_PYTHON": str(tmp_path / "gone")})
    assert gone.code == 0
    assert "there is no interpreter" in gone.stdout
