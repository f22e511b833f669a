"""A request to try a server with, as a line to paste into a shell (pure)."""

import json
import shlex
from collections.abc import Collection, Mapping

_GREETING = "Hello, who are you?"
# By vLLM's name of a task: the path that answers it, and what it is sent besides the model's name.
_REQUESTS: tuple[tuple[str, str, Mapping[str, object]], ...] = (
    ("embed", "/v1/embeddings", {"input": "Hello"}),
    ("classify", "/classify", {"input": "Hello"}),
    ("score", "/score", {"text_1": "a question", "text_2": "an answer"}),
    ("rerank", "/score", {"text_1": "a question", "text_2": "an answer"}),
    ("reward", "/pooling", {"input": "Hello"}),
    ("token_embed", "/pooling", {"input": "Hello"}),
    ("token_classify", "/pooling", {"input": "Hello"}),
)


def curl(url: str, model: str, tasks: Collection[str], *, chats: bool, key: str | None = None) -> str:
    """The `curl` line for the first of the server's tasks that we know.

    `chats`: the model has a chat template. `key` is what the user's shell puts in for the key, which is not shown.
    """
    path, content = _request(tasks, chats=chats)
    words = ["curl", "-s", f"{url}{path}"]
    header = f' -H "Authorization: Bearer {key}"' if key else ""
    if content is None:
        return shlex.join(words) + header
    body = json.dumps({"model": model, **content})
    return f"{shlex.join(words)}{header} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _request(tasks: Collection[str], *, chats: bool) -> tuple[str, Mapping[str, object] | None]:
    if "generate" in tasks and chats:
        message = {"role": "user", "content": _GREETING}
        return "/v1/chat/completions", {"messages": [message], "max_tokens": 64}
    if "generate" in tasks:
        return "/v1/completions", {"prompt": _GREETING, "max_tokens": 64}
    for task, path, content in _REQUESTS:
        if task in tasks:
            return path, content
    return "/v1/models", None
