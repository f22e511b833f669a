"""What vLLM's own file of flags says, which `--config` names: the command line stands over it."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from modelctl.store import reading

# More takes its reader longer than a second.
_MOST = 1 << 16


def words(extra: Iterable[str]) -> tuple[str, ...]:
    """The flags of the file as words, but for lists and tables, of which the names alone.

    None where no file is named, or none that can be read: that, vLLM will say.
    """
    # vLLM looks for it in no other spelling, and asks for the ending too.
    path = next((after for word, after in pairwise(extra) if word == "--config"), None)
    if path is None or not path.endswith((".yaml", ".yml")):
        return ()
    text = reading.head(Path(path), _MOST + 1)
    return () if text is None or len(text) > _MOST else tuple(_words(text))


def _words(text: bytes) -> Iterator[str]:
    # Comes with huggingface_hub.
    import yaml  # type: ignore[import-untyped]

    try:
        # Without making values of it, which a file that refers to itself can have without end.
        top = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    found: dict[str, tuple[str, ...]] = {}
    for key, value in top.value if isinstance(top, yaml.MappingNode) else ():
        flag = f"--{key.value}" if isinstance(key, yaml.ScalarNode) else "--"
        is_truth = value.tag.endswith(":bool")
        # As vLLM reads what takes a word, or several: these leave it unset.
        is_unset = value.tag.endswith(":null") or value.value in ("", "None")
        is_unset = is_unset or (isinstance(value, yaml.SequenceNode) and not any(each.value for each in value.value))
        if is_unset or (is_truth and value.value.lower() in {"false", "no", "off"}):
            found[flag] = ()
        else:
            found[flag] = (flag, value.value) if isinstance(value, yaml.ScalarNode) and not is_truth else (flag,)
    for words in found.values():
        yield from words
