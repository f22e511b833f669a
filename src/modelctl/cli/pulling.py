"""What commands that pull have in common: whom they ask, and how a pull is told."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelctl import project as projects
from modelctl.cli import output as show
from modelctl.errors import InterruptedByUserError, NotFoundError, UsageError

if TYPE_CHECKING:
    from modelctl.hub.file import PlannedFile
    from modelctl.hub.patience import Patience
    from modelctl.hub.plan import PullPlan
    from modelctl.hub.pull import PullResult
    from modelctl.hub.room import Room
    from modelctl.hub.workers import Limits
    from modelctl.project import Project

_LONGEST_SECONDS = 24 * 60 * 60
KEPT = "what has arrived is kept: run the same command again and it goes on from there"


def connect(project: "Project", token: str | None, *, patience: "Patience") -> Any:  # noqa: ANN401 - hub.client.Hub, loaded late
    """The Hub that the environment names, with the token it gets."""
    from modelctl.hub import client

    endpoint, offline = projects.endpoint(project), projects.is_offline(project)
    return client.Hub(endpoint, None if offline else client.find_token(token), patience)


def patience(out: show.Output, limits: "Limits", *, dry_run: bool = False) -> "Patience":
    """How patiently the Hub is asked, and how each wait is told."""
    from modelctl.hub.patience import Patience

    return Patience(limits.patience, limits.stall, say=partial(out.note, beside_object=dry_run))


def limits(
    max_workers: int = 16, *, retry_for: float, stall_after: float = 20.0, transport: Literal["http", "xet"] = "http"
) -> "Limits":
    """How much a pull may do at once and how long it tries, as it was typed."""
    from modelctl.hub.workers import Limits

    # Not by bounds of the options: what is no number passes those.
    for option, seconds, least in (("--retry-for", retry_for, 0), ("--stall-after", stall_after, 0.1)):
        if not least <= seconds <= _LONGEST_SECONDS:
            raise UsageError(
                f"`{option} {seconds:g}` is no time to wait", hint=f"give {least:g} to {_LONGEST_SECONDS} seconds"
            )
    return Limits(max_workers=max_workers, patience=retry_for, stall=stall_after, transport=transport)


def caches(project: "Project") -> list[Path]:
    """The hub folders whose contents a pull may use beside those of the project."""
    return [] if project.cache is None else [project.cache]


@contextmanager
def choices_named() -> Iterator[None]:
    """Let the error for a repository of several quantisations say their sizes."""
    try:
        yield
    except NotFoundError as error:
        for choice in error.details.get("choices", ()):
            label = f"`{choice['variant']}`"
            error.message = error.message.replace(label, f"{label} ({show.size(choice['size'])})")
        raise


def plan_object(planned: "PullPlan") -> dict[str, Any]:
    """The plan under `--json`."""
    return {
        "id": planned.id,
        "revision": planned.revision,
        "commit": planned.commit,
        "path": planned.snapshot,
        "format": planned.format,
        "size": planned.size,
        "to_fetch": planned.to_fetch,
        "to_reuse": sum(twin.size for twin in planned.twins.values()),
        "resumed": sum(planned.resumed.values()),
        "free": planned.free,
        "files": [_file_object(planned, file) for file in planned.files],
        "skipped": [{"name": name, "size": size} for name, size in planned.skipped],
        "skipped_size": planned.skipped_size,
        "note": planned.note,
    }


def _file_object(planned: "PullPlan", file: "PlannedFile") -> dict[str, Any]:
    twin = planned.twins.get(file.digest)
    return {"name": file.name, "size": file.size, "source": file.source, "origin": twin and twin.path}


def say_plan(out: show.Output, planned: "PullPlan") -> None:
    """Tell what is about to be fetched, what is left out, and what stays beside it."""
    say_files(out, planned)
    if planned.old_commits:
        revisions = show.plural(len(planned.old_commits), "older revision")
        remove = f"`modelctl rm {planned.id}@{planned.old_commits[0][:12]}` frees it"
        out.say(f"  kept: {revisions}, {show.size(planned.old_size)} of its own; {remove}")


def say_files(out: show.Output, planned: "PullPlan") -> None:
    """Tell what is about to be fetched, and what is left out."""
    out.say(f"{planned.id} at {planned.revision} ({planned.commit[:12]})")
    fetch = {file.digest for file in planned.files if file.source == "fetch"}
    out.say(f"  {show.plural(len(planned.files), 'file')}, {show.size(planned.size)}")
    if fetch:
        resumed = sum(planned.resumed.values())
        already = f", after {show.size(resumed)} of an interrupted pull" if resumed else ""
        out.say(f"  to fetch: {show.plural(len(fetch), 'file')}, {show.size(planned.to_fetch)}{already}")
    if planned.twins:
        reused = show.size(sum(twin.size for twin in planned.twins.values()))
        out.say(
            f"  to reuse: {show.plural(len(planned.twins), 'file')}, {reused} that the disk has already, once proven"
        )
        if any(
            Path(os.path.realpath(cache)) in twin.path.parents
            for twin in planned.twins.values()
            for cache in planned.caches
        ):
            out.say(f"  `modelctl migrate --from-cache {planned.id}` moves what your own cache has of it here instead")
    if not fetch and not planned.twins:
        out.say("  all of it is here")
    if planned.skipped:
        count = show.plural(len(planned.skipped), "file")
        why = "by the patterns" if planned.kind == "part" else "that vLLM does not load (`--all-files`)"
        out.say(f"  left out: {count}, {show.size(planned.skipped_size)} {why}")
    if planned.note:
        out.say(f"  note: {planned.note}")


def say_room(out: show.Output, room: "Room") -> None:
    """Tell whether it fits."""
    claimed = f", of which pulls that run still need {show.size(room.claimed)}" if room.claimed else ""
    verdict = "" if room.is_enough else ": that is too little"
    out.say(f"needs {show.size(room.needed)} of {show.size(room.free)} free in `{room.folder}`{claimed}{verdict}")


def execute(out: show.Output, planned: "PullPlan", hub: Any, limits: "Limits") -> "PullResult":  # noqa: ANN401
    """Pull as planned, and show how far it is."""
    from modelctl.hub import pull as pulls

    with out.progress() as progress:
        try:
            return pulls.execute(planned, hub, progress, limits=limits)
        except KeyboardInterrupt:
            raise InterruptedByUserError(f"the pull of `{planned.id}` was interrupted", hint=KEPT) from None


def fetched(result: "PullResult") -> str:
    """How many bytes a pull fetched, how fast, and how many it took from the disk."""
    how = "nothing to fetch"
    if result.fetched:
        rate = result.fetched / max(result.seconds, 0.001)
        how = f"fetched {show.size(result.fetched)} in {result.seconds:.1f} s, {show.size(int(rate))}/s"
    return f"{how}, reused {show.size(result.reused)}" if result.reused else how


def result_object(result: "PullResult") -> dict[str, Any]:
    """The result of one pull under `--json`."""
    return {
        "id": result.id,
        "commit": result.commit,
        "path": result.path,
        "files": result.files,
        "size": result.size,
        "fetched": result.fetched,
        "reused": result.reused,
        "seconds": round(result.seconds, 3),
    }
