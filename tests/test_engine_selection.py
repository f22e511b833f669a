"""The selection against vLLM's own code: every shape of the table on the disk, whole and as we pull it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelctl import selection
from tests.command import Command
from tests.shapes.building import PICKLES, build, link
from tests.shapes.shape import Shape
from tests.shapes.table import SHAPES

pytestmark = pytest.mark.engine

TESTS = Path(__file__).parent
# What they read past the loader is no matter of a single architecture, or not in the repository.
NO_SHAPE = {
    "adapters": "the Dense modules of sentence-transformers, which have shapes of their own",
    "ultravox": "its two towers lie in repositories of their own",
}


class Verdict(NamedTuple):
    """vLLM's answers for one shape: over the whole repository, and over what we select of it."""

    numbers: Mapping[int, str]
    whole: dict[str, Any]
    ours: dict[str, Any]


class Judgement(NamedTuple):
    verdicts: Mapping[str, Verdict]
    by_itself: set[str]


@pytest.fixture(scope="module")
def judgement(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    """All answers from one process, for vLLM takes ten seconds to import."""
    yard = tmp_path_factory.mktemp("shapes")
    numbers, questions = {}, []
    for at, (name, shape) in enumerate(SHAPES.items()):
        whole, ours = yard / "whole" / str(at), yard / "ours" / str(at)
        weights = build(shape, whole)
        link(_selected(shape), whole, ours)
        numbers[name] = {number: file for file, number in weights.items()}
        common = {"kind": shape.kind, "asks": [asdict(ask) for ask in shape.asks]}
        pickles = [file for file in weights if file.endswith(PICKLES)]
        questions += [{"folder": str(whole), "pickles": pickles, **common}]
        questions += [{"folder": str(ours), "pickles": [], **common}]
    engine = Command(yard, home=tmp_path_factory.mktemp("home"), guard=TESTS / "guard")
    argv: list[str | Path] = [str(vllm), TESTS / "shapes" / "judge.py", yard / "answers"]
    done = engine.program(argv, env={"HF_HUB_OFFLINE": "1"}, stdin=json.dumps(questions), timeout=240)
    assert done.code == 0, done.stderr
    found = json.loads((yard / "answers").read_text(encoding="utf-8"))
    pairs = zip(found["answers"][::2], found["answers"][1::2], strict=True)
    verdicts = {name: Verdict(numbers[name], *pair) for name, pair in zip(SHAPES, pairs, strict=True)}
    return Judgement(verdicts, set(found["by_itself"]))


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if not shape.unjudged])
def test_vllm_loads_from_the_selection_what_the_table_says(name: str, judgement: Judgement) -> None:
    shape, verdict = SHAPES[name], judgement.verdicts[name]
    expected = shape.refused or shape.weights
    assert _loaded(verdict, verdict.ours) == expected, verdict.ours
    # From everything the same, or what the table explains.
    assert _loaded(verdict, verdict.whole) == (expected if shape.whole is None else shape.whole), verdict.whole
    assert bool(shape.why) == (shape.whole is not None or shape.refused is not None)


@pytest.mark.parametrize("name", list(SHAPES))
def test_vllm_misses_nothing_beside_the_weights(name: str, judgement: Judgement) -> None:
    shape, (numbers, whole, ours) = SHAPES[name], judgement.verdicts[name]
    # Configuration, tokenizer, templates, processors, modules, and what single architectures ask for.
    assert ours["told"] == whole["told"]
    assert ours["asked"] == whole["asked"]
    assert all(asked is not None and "error" not in asked for asked in ours["asked"]), ours["asked"]
    if not isinstance(shape.whole, str):
        assert set(whole["opened"]) - set(numbers.values()) <= _selected(shape)
    assert set(ours["opened"]) <= _selected(shape)


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.unjudged])
def test_what_the_cpu_build_cannot_judge_it_does_not_load(name: str, judgement: Judgement) -> None:
    verdict = judgement.verdicts[name]
    assert [answer.get("error") for answer in (verdict.whole, verdict.ours)] == ["RuntimeError"] * 2, SHAPES[name]


def test_few_shapes_are_unjudged_and_all_for_one_reason() -> None:
    unjudged = [shape for shape in SHAPES.values() if shape.unjudged]
    assert len(unjudged) == 6
    assert {shape.kind for shape in unjudged} == {"gguf"}
    assert len(SHAPES) - len(unjudged) >= 25


def test_the_table_has_every_architecture_that_reads_files_by_itself(judgement: Judgement) -> None:
    asked = {ask.module for shape in SHAPES.values() for ask in shape.asks}
    assert judgement.by_itself == asked | set(NO_SHAPE)


def _selected(shape: Shape) -> frozenset[str]:
    sizes = dict.fromkeys(shape.all_files, 1)
    return selection.select(sizes, shape.content, variant=shape.variant).names


def _loaded(verdict: Verdict, answer: dict[str, Any]) -> object:
    """The files whose tensors vLLM gave, or its error."""
    if "error" in answer:
        return answer["error"]
    files = {verdict.numbers[number] for number in answer["numbers"]}
    assert files == set(answer.get("files", files))
    return files
