"""The key that requests have to bring, out of a file: never on a command line, which every user of a machine sees."""

from pathlib import Path

from modelctl.errors import NotAllowedError, NotFoundError, UsageError

VARIABLE = "VLLM_API_KEY"


def read(path: Path) -> str:
    """The key that a file holds in its only line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFoundError(f"there is no file `{path}`", hint=f"`openssl rand -hex 24 > {path}` makes a key") from exc
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise NotAllowedError(f"cannot read `{path}`: {reason}", hint=f"see `ls -l {path}`") from exc
    words = text.split()
    if len(words) != 1:
        what = "is empty" if not words else "holds more than one word"
        raise UsageError(f"the key file `{path}` {what}", hint="a key file is one line with the key")
    if not words[0].isprintable() or not words[0].isascii():
        raise UsageError(f"the key in `{path}` cannot stand in a request", hint="use letters and digits")
    return words[0]
