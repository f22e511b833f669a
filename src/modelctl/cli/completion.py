"""What a shell completes: names of models out of the store, servers, keys to sort by.

Whatever is wrong, a shell that asks gets no words rather than an error.
"""

from typing import TYPE_CHECKING, Any

from modelctl import project as projects
from modelctl.errors import ModelctlError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelctl.engine.logs import Log
    from modelctl.engine.servers import ServerRecord


def models(ctx: Any, args: list[str], incomplete: str) -> list[str]:  # noqa: ANN401, ARG001 - the parser's own types are private
    """The models of both locations that a word begins."""
    from modelctl.store import ids

    try:
        return [name for name in ids.of_project(_project(ctx)) if name.startswith(incomplete)]
    except ModelctlError:
        return []


def removable(ctx: Any, args: list[str], incomplete: str) -> list[str]:  # noqa: ANN401, ARG001 - as above
    """The models of the store that the command writes to: the project, or with `--cache` the user cache."""
    from modelctl.store import ids

    try:
        project = _project(ctx)
        here = ids.in_hub(project.user_cache if ctx.params.get("cache") else project.hub)
        return [name for name in here if name.startswith(incomplete)]
    except ModelctlError:
        return []


def sort_keys(ctx: Any, args: list[str], incomplete: str) -> list[str]:  # noqa: ANN401, ARG001 - as above
    """The keys that `list --sort` knows. Not their orders: at a colon bash and zsh begin another word."""
    from modelctl.store import query

    return [key for key in query.KEYS if key.startswith(incomplete)]


def running(ctx: Any, args: list[str], incomplete: str) -> list[str]:  # noqa: ANN401, ARG001 - as above
    """The running servers that a word begins: their models, and their ids."""
    from modelctl.engine import servers

    return _words(servers.running(), incomplete)


def logged(ctx: Any, args: list[str], incomplete: str) -> list[str]:  # noqa: ANN401, ARG001 - as above
    """The servers with a log that a word begins, also those that ended."""
    from modelctl.engine import logs, servers

    return _words(logs.kept(servers.logs_folder()), incomplete)


def _words(found: "Iterable[ServerRecord | Log]", incomplete: str) -> list[str]:
    words = dict.fromkeys(word for one in found for word in (one.model, one.id))
    return [word for word in words if word.startswith(incomplete)]


def _project(ctx: Any) -> projects.Project:  # noqa: ANN401 - as above
    return projects.locate(ctx.params.get("models_dir"))
