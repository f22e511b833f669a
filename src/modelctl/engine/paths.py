"""The flags of vLLM that name a path, and which one a relative path means."""

import os
from collections.abc import Mapping
from pathlib import Path

# Of these, some take other words too: a name on the Hub, a template as it is, `auto`.
FLAGS = {
    *("--chat-template", "--config", "--tokenizer", "--hf-config-path", "--generation-config", "--log-config-file"),
    *("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--allowed-local-media-path"),
    *("--tool-parser-plugin", "--reasoning-parser-plugin"),
}
# What is no path for vLLM even where a file is called so.
_WORDS = {"", "auto", "vllm"}


def located(text: str, folder: Path) -> str:
    """A value of such a flag, absolute where it is a path: what is in `folder`, or can be nothing else."""
    if text in _WORDS:
        return text
    path = str(folder.absolute() / os.path.expanduser(text))  # noqa: PTH111 - that of `Path` knows all users or fails
    # Not that of `Path`, which fails where a template is longer than any name.
    is_path = text.startswith(("./", "../", "~/")) or os.path.exists(path)  # noqa: PTH110
    return path if is_path else text


def here(flags: Mapping[str, object]) -> dict[str, Path]:
    """The files and folders of this machine that flags name, by their names without dashes."""
    return {
        key: Path(value)
        for key, value in flags.items()
        if f"--{key}" in FLAGS and isinstance(value, str) and value.startswith("/") and os.path.exists(value)  # noqa: PTH110
    }
