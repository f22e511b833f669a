"""`modelctl status`: where the models are, what is ready, what is under way, what needs a hand."""

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl.cli import options, ps, situation
from modelctl.cli import output as show
from modelctl.cli.situation import Situation

if TYPE_CHECKING:
    from modelctl.engine.running import Server
    from modelctl.store.duplicates import Duplicate
    from modelctl.store.model import Download
    from modelctl.store.remains import Leftover

EPILOG = """\b
Examples:
  modelctl status
  modelctl status --json | jq .downloaded_models
  modelctl status --check || echo "something needs a hand"
"""
_SHOWN = 8


def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 when something needs a hand, and say what.")
    ] = False,
    models_dir: options.ModelsDir = None,
    json: options.Json = False,
) -> None:
    """Show where models are, what runs, what needs a hand."""
    found = situation.gather(projects.locate(models_dir), ask=check)
    out = show.Output(json=json)
    if json:
        out.object(status_object(found))
    else:
        for line in _lines(found):
            out.line(show.one_line(line))
    wrong = list(situation.needs_a_hand(found))
    if check or not json:
        for message, fix in wrong[:_SHOWN]:
            out.say(message)
            if fix:
                out.say(f"hint: `{fix}`")
        if len(wrong) > _SHOWN:
            out.say(f"and {len(wrong) - _SHOWN} more need a hand, see `modelctl list` and `modelctl status --json`")
    if check and wrong:
        raise typer.Exit(1)


def status_object(found: Situation) -> dict[str, Any]:
    """The status under `--json`."""
    from modelctl.cli import models

    project, taken = found.project, found.own
    disk = {"free": found.free, "total": found.total, "models": taken.size, "allocated": taken.allocated}
    states = [model.state for model in found.models]
    return {
        "models_available": bool(found.ready),
        "models_dir_exists": project.models_dir.is_dir(),
        "downloaded_models": found.ready,
        "message": message(found),
        "models_dir": project.models_dir,
        "models_dir_reason": project.reason,
        "cache_dir": project.cache,
        "default_model": found.default_model,
        "default_model_here": found.is_default_here if found.default_model else None,
        "token": {
            "found": found.login is not None,
            "source": found.login and found.login.source,
            "name": found.login and found.login.name,
        },
        "disk": disk,
        "states": {state: states.count(state) for state in ("ready", "partial", "broken")},
        "cache": {"models": sum(model.location == "cache" for model in found.models), "size": found.cached.size},
        "duplicates": [{"id": one.id, "path": one.path, "frees": one.frees} for one in found.duplicates],
        "downloads": [
            {"id": one.id, "done": one.done, "total": one.total, "rate": one.rate, "active": one.active}
            for one in found.downloads
        ],
        "servers": [ps.server_object(server) for server in found.servers],
        "engine": _engine_object(found),
        "leftovers": {"count": len(found.leftovers), "size": sum(left.size for left in found.leftovers)},
        "side_caches": [{"path": folder, "size": size} for folder, size in found.side_caches.items()],
        "problems": [models.problem_object(problem) for problem in found.problems],
        "findings": [{"message": message, "fix": fix} for message, fix in situation.needs_a_hand(found)],
    }


def message(found: Situation) -> str:
    """The status in one sentence."""
    if not found.project.models_dir.is_dir() and not found.models:
        return "there is no models directory yet, `modelctl pull` makes it"
    if not found.models:
        return "there are no models yet, `modelctl pull` fetches one"
    active = [download for download in found.downloads if download.active]
    halves = [f"{show.plural(len(found.ready), 'model')} ready"]
    halves += [f"{len(active)} being pulled"] if active else []
    waiting = len(found.models) - len(found.ready) - len(active)
    halves += [f"{waiting} not whole"] if waiting > 0 else []
    return ", ".join(halves)


def _engine_object(found: Situation) -> dict[str, Any]:
    engine = found.engine
    return {
        "found": engine is not None,
        "version": engine and engine.version,
        "device": engine and engine.device,
        "how": engine and engine.how,
        "python": engine and engine.python,
        "image": engine and engine.image and engine.image.name,
        "problem": found.engine_problem,
    }


def _lines(found: Situation) -> Iterator[str]:
    project = found.project
    yield f"models     {project.models_dir} ({project.reason})"
    yield f"cache      {project.cache or 'the same folder'}{_cache_note(found)}"
    yield f"default    {_default_line(found)}"
    yield f"token      {_token_line(found)}"
    taken = show.size(found.own.held)
    yield f"disk       {show.size(found.free)} free of {show.size(found.total)}, the models take {taken}"
    yield f"engine     {_engine_line(found)}"
    yield f"status     {message(found)}"
    yield from _models_lines(found)
    for download in found.downloads:
        yield f"pulling    {_download_line(download)}"
    for server in found.servers:
        yield f"serving    {_server_line(server)}"
    if found.duplicates:
        yield f"twice      {_duplicates_line(found.duplicates)}"
    if found.leftovers:
        yield f"leftovers  {_leftovers_line(found.leftovers)}"
    for folder, size in found.side_caches.items():
        # What is in there is only ever looked for again, so anybody may remove it.
        yield f"xet        {show.size(size)} kept for later downloads, `rm -r {shlex.quote(str(folder))}` frees them"


def _server_line(server: "Server") -> str:
    record = server.record
    if server.state == "failed":
        return f"{record.model} no more ({record.id}): {server.reason}"
    requests = "" if server.requests is None else f", {show.plural(server.requests, 'request')} in flight"
    where = "for another machine" if record.headless else f"at {record.url}"
    return f"{record.model} {where} ({ps.state_words(server)}{requests}, {record.id})"


def _cache_note(found: Situation) -> str:
    count = sum(model.location == "cache" for model in found.models)
    return f" ({show.plural(count, 'model')} more there, {show.size(found.cached.held)})" if count else ""


def _default_line(found: Situation) -> str:
    if found.default_model is None:
        return "none, `modelctl use NAME` sets it"
    return found.default_model if found.is_default_here else f"{found.default_model}, which is not here"


def _token_line(found: Situation) -> str:
    if found.login is None:
        return "none, `hf auth login` gets one for gated and private models"
    name = f"`{found.login.name}` " if found.login.name else ""
    return f"{name}from {found.login.source}"


def _duplicates_line(duplicates: "Sequence[Duplicate]") -> str:
    names = " ".join(one.id for one in duplicates[:_SHOWN])
    more = " ..." if len(duplicates) > _SHOWN else ""
    frees = show.size(sum(one.frees for one in duplicates))
    return (
        f"{show.plural(len(duplicates), 'model')} also in the cache, `modelctl rm --cache {names}{more}` frees {frees}"
    )


def _models_lines(found: Situation) -> Iterator[str]:
    label = "ready      "
    for name in found.ready[:_SHOWN]:
        yield f"{label}{name}"
        label = " " * len(label)
    if len(found.ready) > _SHOWN:
        yield f"{label}and {len(found.ready) - _SHOWN} more, see `modelctl list`"


def _download_line(download: "Download") -> str:
    percent = f"{download.done * 100 // download.total} %" if download.total else "-"
    far = f"{download.id} {percent}, {show.size(download.done)} of {show.size(download.total)}"
    if not download.active:
        return f"{far}, interrupted"
    return f"{far}, {show.size(int(download.rate))}/s" if download.rate is not None else far


def _leftovers_line(leftovers: "Sequence[Leftover]") -> str:
    taken = show.size(sum(left.size for left in leftovers))
    command = "modelctl prune --revisions" if any(left.commits for left in leftovers) else "modelctl prune"
    return f"{len(leftovers)} that {'takes' if len(leftovers) == 1 else 'take'} {taken}, `{command}` frees it"


def _engine_line(found: Situation) -> str:
    engine = found.engine
    if engine is not None and found.engine_problem is None:
        device = f" for {engine.device}" if engine.device else ""
        return f"vLLM {engine.version}{device} ({engine.how})"
    return found.engine_problem or "no vLLM yet, `modelctl engine install` installs it"
