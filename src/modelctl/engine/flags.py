"""vLLM's flags as its own parser reads them (pure)."""

import re
from collections.abc import Iterable

_SHORT = {
    "--tensor-parallel-size": "-tp",
    "--pipeline-parallel-size": "-pp",
    "--data-parallel-size": "-dp",
    "--data-parallel-size-local": "-dpl",
    "--decode-context-parallel-size": "-dcp",
    "--prefill-context-parallel-size": "-pcp",
    "--data-parallel-rank": "-dpn",
    "--data-parallel-start-rank": "-dpr",
    "--data-parallel-address": "-dpa",
    "--data-parallel-backend": "-dpb",
    "--enable-expert-parallel": "-ep",
    "--speculative-config": "-sc",
    "--compilation-config": "-cc",
    "--attention-config": "-ac",
    "--api-server-count": "-asc",
    "--quantization": "-q",
    "--nnodes": "-n",
    "--node-rank": "-r",
}
# A number below zero, which vLLM's parser takes for a value and for no flag.
_NEGATIVE = re.compile(r"-\d+|-\d*\.\d+")
# With any of these, the model needs no tokenizer of its own.
TOKENIZER = ("--tokenizer", "--skip-tokenizer-init")
# Flags whose value nobody is to read over a shoulder or in a log.
_SECRETS = ("--api-key", "--hf-token")
HIDDEN = "***"


def given(words: Iterable[str], flag: str) -> str | None:
    """The value that a list of vLLM flags gives to `flag`, "" where none follows, `None` where it is not there.

    As vLLM's parser reads them: underscores for dashes, `--flag=value`, short forms, and abbreviations, of which any
    that can mean `flag` counts. Of several the last one holds.
    """
    value: str | None = None
    words = tuple(words)
    for at, word in enumerate(words):
        name, equals, rest = word.partition("=")
        if not equals and len(short := _SHORT.get(flag, "")) == 2 and word.startswith(short) and word != short:
            # `-q awq` may be written `-qawq`.
            value = word.removeprefix(short)
            continue
        if not _names(name, flag):
            continue
        following = words[at + 1] if at + 1 < len(words) else ""
        is_flag = following.startswith("-") and not _NEGATIVE.fullmatch(following)
        value = rest if equals else "" if is_flag else following
    return value


def mentions(words: Iterable[str], flags: Iterable[str]) -> bool:
    """Whether any of these flags is there, also as vLLM takes parts of one: `--hf-overrides.rope_theta 1e6`."""
    heads = [_head(word) for word in words if word.startswith("-")]
    return any(given(heads, flag) is not None for flag in flags)


def full_name(word: str) -> str:
    """A flag as it is spelt in full: without its value or the part that is named, with dashes for underscores."""
    name = _head(word)
    return next((flag for flag, short in _SHORT.items() if name == short), name.replace("_", "-"))


def shown(argv: Iterable[str]) -> tuple[str, ...]:
    """A command line as it may be shown: the values of secret flags are hidden."""
    words: list[str] = []
    hide_next = False
    for word in argv:
        name, equals, _ = word.partition("=")
        secret = any(_names(name, flag) for flag in _SECRETS)
        words.append(HIDDEN if hide_next else f"{name}={HIDDEN}" if secret and equals else word)
        hide_next = secret and not equals
    return tuple(words)


def whole(text: str) -> int | None:
    """A whole number as a flag or a variable holds it; `None` for all else, and for one of which there is nothing."""
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def means(key: str, flag: str) -> bool:
    """Whether a key of `modelctl.toml` gives a flag to vLLM, both without their dashes: also where it is shortened."""
    return _names(f"--{key}", f"--{flag}")


def _names(word: str, flag: str) -> bool:
    if word == _SHORT.get(flag):
        return True
    return len(word) > 3 and word.startswith("--") and flag.startswith(word.replace("_", "-"))


def _head(word: str) -> str:
    """A flag without its value, and without the part of it that is named after a dot."""
    return word if _NEGATIVE.fullmatch(word) else word.partition("=")[0].partition(".")[0]
