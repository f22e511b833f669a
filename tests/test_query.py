"""Which models a filter means, and what an order puts first."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelctl.errors import UsageError
from modelctl.store import query
from modelctl.store.model import Facts, Model

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def model(name: str, *, days: float | None = None, facts: Facts | None = None, **changed: Any) -> Model:  # noqa: ANN401 - any field
    used = None if days is None else NOW - timedelta(days=days)
    known: dict[str, Any] = {
        "id": f"acme/{name}",
        "location": "project",
        "path": Path(name),
        "state": "ready",
        "servable": True,
        "size": 0,
        "allocated": changed.get("size", 0),
        "done": 0,
        "total": None,
        "revisions": (),
        "modified": used,
        "used": used,
        "facts": facts or Facts(),
        "problems": (),
    }
    return Model(**known | changed)


SMALL = model("small", size=500_000_000, days=1, facts=Facts(parameters=600_000_000, dtype="BF16", license="mit"))
LARGE = model(
    "large",
    size=16_000_000_000,
    days=40,
    location="cache",
    facts=Facts(
        format="safetensors", parameters=8_000_000_000, dtype="BF16", context_length=131_072, license="apache-2.0"
    ),
)
FOUR = model(
    "four",
    size=5_000_000_000,
    days=31,
    state="partial",
    facts=Facts(
        format="safetensors", parameters=8_000_000_000, quantization="awq", context_length=32_768, license="Apache-2.0"
    ),
)
DARK = model("dark", size=10_000_000_000, state="broken", servable=None)
MODELS = (SMALL, LARGE, FOUR, DARK)


def names(models: Sequence[Model]) -> list[str]:
    return [one.id.removeprefix("acme/") for one in models]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["size>10GB"], ["large"]),
        (["size>=10GB"], ["large", "dark"]),
        (["size<=9.4GiB"], ["small", "four", "dark"]),
        (["size=10gb"], ["dark"]),
        (["size<600000000"], ["small"]),
        (["params<8B"], ["small"]),
        (["params>=8B"], ["large", "four"]),
        (["params=none"], ["dark"]),
        (["params!=none", "size>1GB"], ["large", "four"]),
        (["context>=128K"], ["large"]),
        (["context<128K"], ["four"]),
        (["used>30d"], ["large", "four"]),
        (["used<=1w"], ["small"]),
        (["used=none"], ["dark"]),
        (["modified<36h"], ["small"]),
        (["state=partial"], ["four"]),
        (["state!=ready"], ["four", "dark"]),
        (["STATE = Partial"], ["four"]),
        (["quant=awq"], ["four"]),
        (["quant!=awq"], ["small", "large", "dark"]),
        (["quant=none"], ["small", "large", "dark"]),
        (["license=apache*"], ["large", "four"]),
        (["license=apache*", "quant=none"], ["large"]),
        (["location=cache"], ["large"]),
        (["servable=yes"], ["small", "large", "four"]),
        (["servable=none"], ["dark"]),
        (["name=*/l*"], ["large"]),
        (["format=safetensors"], ["large", "four"]),
        ([], ["small", "large", "four", "dark"]),
    ],
)
def test_filters(filters: list[str], expected: list[str]) -> None:
    assert names(query.chosen(MODELS, [query.condition(text) for text in filters], now=NOW)) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("size", "`size` is no filter", "write it as in `size>10GB`, `state=partial` or `license!=mit`"),
        ("=3", "`=3` is no filter", "write it as in `size>10GB`, `state=partial` or `license!=mit`"),
        ("", "`` is no filter", "write it as in `size>10GB`, `state=partial` or `license!=mit`"),
        (
            "sise>1GB",
            "there is no `sise` to filter by",
            "there are `name`, `size`, `params`, `dtype`, `quant`, `context`, `state`, `used`, `modified`, `format`,"
            " `task`, `arch`, `license`, `servable` and `location`",
        ),
        (
            "size>ten",
            "`ten` is nothing that `size` can be",
            "write it as in `size>10GB`; there are kB, MB, GB, TB, and KiB, MiB, GiB, TiB",
        ),
        ("params>1GB", "`1GB` is nothing that `params` can be", "write it as in `params<8B`; there are K, M, B, T"),
        (
            "used>-3d",
            "`-3d` is nothing that `used` can be",
            "write it as in `used>30d`; there are s, min, h, d, w, y",
        ),
        ("used=3d", "`used=3d` asks for one very second", "write `used<3d` or `used>3d`"),
        ("state=redy", "`state` is never `redy`", "it is `ready`, `partial` or `broken`"),
        ("license>mit", "`license` is a word: `>` says nothing of it", "write `license=mit`"),
        ("license=", "`license=` names no word", "`license=none` asks for what is not known"),
    ],
)
def test_what_is_no_filter(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        query.condition(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        (["size"], ["large", "dark", "four", "small"]),
        (["size:asc"], ["small", "four", "dark", "large"]),
        (["params"], ["large", "four", "small", "dark"]),
        (["params:asc"], ["small", "large", "four", "dark"]),
        (["used"], ["small", "four", "large", "dark"]),
        (["used:asc"], ["large", "four", "small", "dark"]),
        (["name"], ["dark", "four", "large", "small"]),
        (["name:desc"], ["small", "large", "four", "dark"]),
        (["state", "size:asc"], ["dark", "four", "small", "large"]),
        (["params:asc", "size:asc"], ["small", "four", "large", "dark"]),
    ],
)
def test_orders(orders: list[str], expected: list[str]) -> None:
    assert names(query.chosen(MODELS, [], [query.order(text) for text in orders])) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [("sise", "there is no `sise` to sort by"), ("", "there is no `` to sort by"), ("size:up", "`up` is no order")],
)
def test_what_is_no_order(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        query.order(text)
    assert caught.value.message == message
    assert caught.value.hint
