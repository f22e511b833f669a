"""One request to a running server, and what its answer shows."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelctl.errors import ModelctlError, UnreachableError

# The first answer of a server may wait for what it compiles.
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near two sentences are in meaning: the cosine of their embeddings, between -1 and 1."""

    one: str
    other: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said to a prompt, and in how many tokens."""

    text: str
    tokens: int


def compare(url: str, model: str, *, sentence: str, others: Sequence[str]) -> tuple[Likeness, ...]:
    """How near each of `others` is to `sentence`, by the embeddings of the server at `url`, in their order."""
    answer = _post(f"{url}/v1/embeddings", {"model": model, "input": [sentence, *others]})
    match answer:
        case {"data": [*entries]} if len(entries) == 1 + len(others):
            first, *rest = map(_vector, entries)
            return tuple(
                Likeness(sentence, other, _cosine(first, vector)) for other, vector in zip(others, rest, strict=True)
            )
        case _:
            raise _senseless(answer)


def converse(url: str, model: str, *, prompt: str, max_tokens: int) -> Reply:
    """What the model answers to a message of a user."""
    message = {"role": "user", "content": prompt}
    answer = _post(f"{url}/v1/chat/completions", {"model": model, "messages": [message], "max_tokens": max_tokens})
    match answer:
        case {"choices": [{"message": {"content": str(text)}}, *_], "usage": {"completion_tokens": int(tokens)}}:
            return Reply(text, tokens)
        case _:
            raise _senseless(answer)


def _post(url: str, body: Mapping[str, object]) -> object:
    import httpx

    try:
        # Never through a proxy: the server is on this machine.
        with httpx.Client(timeout=_PATIENCE, trust_env=False) as client:
            answer = client.post(url, json=body)
    except httpx.HTTPError as exc:
        raise UnreachableError(f"`{url}` does not answer: {exc}", hint="see its log, which `serve` names") from exc
    if answer.status_code != 200:
        raise ModelctlError(f"`{url}` answers with status {answer.status_code}: {_short(answer.text)}")
    try:
        return answer.json()
    except json.JSONDecodeError as exc:
        raise ModelctlError(f"`{url}` answers with something else than JSON: {_short(answer.text)}") from exc


def _vector(entry: Any) -> tuple[float, ...]:  # noqa: ANN401 - JSON
    match entry:
        case {"embedding": [*values]} if values and all(isinstance(value, int | float) for value in values):
            return tuple(map(float, values))
        case _:
            raise _senseless(entry)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    length = math.hypot(*one) * math.hypot(*other)
    if len(one) != len(other) or not length or not math.isfinite(length):
        raise ModelctlError("the server's embeddings are no vectors that can be compared")
    return sum(a * b for a, b in zip(one, other, strict=True)) / length


def _senseless(answer: object) -> ModelctlError:
    return ModelctlError(f"the server's answer is not what was asked for: {_short(json.dumps(answer))}")


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."
