"""The key that requests have to bring, out of a file: never on a command line, which every user of a machine sees."""

import shlex
import stat
from pathlib import Path

from modelctl.errors import NotAllowedError, NotFoundError, UsageError

VARIABLE = "VLLM_API_KEY"
# Of a header, servers take some thousand characters.
_MOST = 4096


def read(path: Path) -> str:
    """The key that a file holds in its only line."""
    shown = shlex.quote(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(_MOST + 1)
        words = content.decode().split()
    except (FileNotFoundError, NotADirectoryError) as exc:
        hint = f"`(umask 077; openssl rand -hex 24 > {shown})` makes a key"
        raise NotFoundError(f"there is no file `{path}`", hint=hint) from exc
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise NotAllowedError(f"cannot read `{path}`: {reason}", hint=f"see `ls -l {shown}`") from exc
    if len(content) > _MOST:
        raise UsageError(f"the key file `{path}` holds more than a key", hint="a key file is one line with the key")
    if len(words) != 1:
        what = "is empty" if not words else "holds more than one word"
        raise UsageError(f"the key file `{path}` {what}", hint="a key file is one line with the key")
    if not words[0].isprintable() or not words[0].isascii():
        raise UsageError(f"the key in `{path}` cannot stand in a request", hint="use letters and digits")
    return words[0]


def is_public(path: Path) -> bool:
    """Whether every user of this machine may read the file."""
    try:
        mode = path.stat().st_mode
        folders = [folder.stat().st_mode for folder in path.resolve().parents]
    except OSError:
        return False
    is_read = stat.S_ISREG(mode) and mode & stat.S_IROTH
    return bool(is_read) and all(folder & stat.S_IXOTH for folder in folders)
