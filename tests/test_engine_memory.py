"""Parameters, dtype, context and memory against transformers and vLLM, for small models of many architectures."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import architectures, memory
from modelctl.engine.memory import GIB, Device, Need, Terms
from modelctl.share.offer import lay_out
from modelctl.share.samples import tiny_llama
from modelctl.store import metadata, presumed, reading, scan
from modelctl.store.layout import RepoPaths
from tests.command import Command
from tests.zoo.cases import CASES, Case

pytestmark = pytest.mark.engine

TESTS = Path(__file__).parent
CACHE = 64 * 2**20
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
Json = Mapping[str, Any]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # pytest's own folders have names too long for sockets.
    with tempfile.TemporaryDirectory(prefix="mz-", dir="/tmp") as temporary:
        yield Path(temporary)


@pytest.fixture(scope="module")
def judged(vllm: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """All answers, from two processes beside each other: vLLM takes ten seconds to look at an architecture."""
    home = tmp_path_factory.mktemp("home")
    # Those that vLLM looks at are divided evenly.
    names = sorted(CASES, key=lambda name: not CASES[name].is_served)

    def ask(at: int) -> Json:
        yard = folder / str(at)
        yard.mkdir()
        engine = Command(yard, home=home, guard=TESTS / "guard")
        cases = {name: _question(CASES[name], folder / str(names.index(name)) / "model") for name in names[at::2]}
        types = {} if at else {model_type: list(keys) for model_type, keys in presumed.BY_TYPE.items()}
        done = engine.program(
            [vllm, TESTS / "zoo" / "judge.py", yard / "answers"],
            env={
                "HF_HUB_OFFLINE": "1",
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_CACHE_ROOT": str(folder / "vllm"),
                "VLLM_HOST_IP": "127.0.0.1",
                "TMPDIR": str(yard),
            },
            stdin=json.dumps({"cases": cases, "presumed": types}),
            timeout=400,
        )
        assert done.code == 0, done.stderr[-4000:]
        answers: Json = json.loads((yard / "answers").read_text(encoding="utf-8"))
        return answers

    with ThreadPoolExecutor(max_workers=2) as pool:
        one, other = pool.map(ask, range(2))
    return {**one, "cases": {**one["cases"], **other["cases"]}}


def _question(case: Case, folder: Path) -> dict[str, Any]:
    """A case, and its folder with a tokenizer in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER:
        (folder / name).write_bytes(tiny_llama()[name])
    question = {**asdict(case), "folder": str(folder), "cache": CACHE}
    if case.draft is not None:
        draft = replace(case, config={**case.config, **case.draft}, draft=None)
        question["draft"] = _question(draft, folder.with_name("draft"))
    return question


@pytest.mark.parametrize("name", list(CASES))
def test_a_model_is_what_transformers_and_vllm_say(name: str, judged: Json, tmp_path: Path) -> None:
    case, said = CASES[name], judged["cases"][name]
    lay_out(Path(said["folder"]), tmp_path / "hub", "acme/model")
    model = scan.scan_model(RepoPaths(tmp_path / "hub", "acme/model"), "project")
    assert model is not None
    assert (model.state, model.servable, model.problems) == ("ready", True, ())
    facts = metadata.facts(model.revisions[0])
    assert facts.architecture == case.architecture
    assert facts.parameters == said["parameters"]
    assert facts.dtype == {"bfloat16": "BF16", "float32": "F32"}[case.dtype]
    assert facts.weights == said["parameters"] * 2
    assert facts.task == case.task
    if case.is_served:
        assert facts.context_length == said["context"]
        assert (facts.task == "generate") == (said["runner"] == "generate")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_served])
def test_the_cache_has_room_for_what_vllm_says(name: str, judged: Json) -> None:
    said = judged["cases"][name]
    config = reading.document(Path(said["folder"]) / "config.json")
    draft = said["draft"] and reading.document(Path(said["draft"]["folder"]) / "config.json")
    found = memory.estimate(
        Need(weights=0, config=config, context=said["context"], draft=draft),
        Device(total=64 * GIB, free=64 * GIB, is_cpu=True),
        Terms(cache=CACHE, batch=said["batch"]),
    )
    assert found is not None
    ours = found.tokens
    if CASES[name].task == "embed":
        assert ours is None
        return
    assert ours is not None
    assert abs(ours - said["tokens"]) <= said["tokens"] * 0.05, (ours, said["tokens"], found)


def test_what_is_presumed_is_what_transformers_presumes(judged: Json) -> None:
    assert judged["presumed"] == {model_type: dict(keys) for model_type, keys in presumed.BY_TYPE.items()}


def test_the_architectures_that_vllm_knows(judged: Json, vllm: Path) -> None:
    where = "import importlib.util as u; print(u.find_spec('vllm').submodule_search_locations[0])"
    package = subprocess.run([vllm, "-c", where], capture_output=True, check=True, encoding="utf-8").stdout.strip()
    registry = architectures.registry(Path(package))
    assert registry is not None
    assert registry.known == set(judged["architectures"])
    assert {case.architecture for case in CASES.values()} <= registry.known
