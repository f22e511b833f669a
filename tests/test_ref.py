"""Names of models as people type them, and what must never become a path."""

import pytest

from modelctl import ref
from modelctl.errors import UsageError
from modelctl.ref import ModelRef

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt2", ModelRef("gpt2")),
        ("acme/tiny", ModelRef("acme/tiny")),
        ("acme/tiny@v1.0", ModelRef("acme/tiny", "v1.0")),
        ("acme/tiny@refs/pr/3", ModelRef("acme/tiny", "refs/pr/3")),
        (f"acme/tiny@{COMMIT}", ModelRef("acme/tiny", COMMIT)),
        ("acme/tiny-GGUF:Q4_K_M", ModelRef("acme/tiny-GGUF", None, "Q4_K_M")),
        ("acme/tiny@main:Q4_K_M", ModelRef("acme/tiny", "main", "Q4_K_M")),
        ("hf://acme/tiny@v1", ModelRef("acme/tiny", "v1")),
        ("hf://models/acme/tiny", ModelRef("acme/tiny")),
        ("https://huggingface.co/acme/tiny", ModelRef("acme/tiny")),
        ("https://huggingface.co/acme/tiny/tree/feature/x", ModelRef("acme/tiny", "feature/x")),
        ("https://huggingface.co/acme/tiny/blob/main/config.json", ModelRef("acme/tiny", "main")),
        ("http://127.0.0.1:8990/acme/tiny/", ModelRef("acme/tiny")),
    ],
)
def test_names_are_read(text: str, expected: ModelRef) -> None:
    assert ref.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@main",
        "acme/tiny@",
        "acme/tiny:",
        "../tiny",
        "acme/..",
        "acme/../../etc",
        "/etc/passwd",
        "acme/tiny/more",
        "acme--tiny",
        "-acme/tiny",
        "acme/tiny.",
        "acme/ti ny",
        "acme/tiny\0",
        "acme/" + "x" * 96,
        "acme/tiny@../../x",
        "acme/tiny@/abs",
        "acme/tiny@a//b",
        "acme/tiny@a\\b",
        "acme/tiny@x.lock",
    ],
)
def test_what_is_no_name_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        ref.parse(text)


def test_a_revision_may_be_given_beside_but_not_against_the_name() -> None:
    assert ref.parse("acme/tiny", revision="v1") == ModelRef("acme/tiny", "v1")
    assert ref.parse("acme/tiny@v1", revision="v1") == ModelRef("acme/tiny", "v1")
    with pytest.raises(UsageError, match="names one revision and"):
        ref.parse("acme/tiny@v1", revision="v2")
    with pytest.raises(UsageError, match="is not a revision"):
        ref.parse("acme/tiny", revision="../x")
