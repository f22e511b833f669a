"""`modelctl list --outdated`: what the Hub has newer."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from modelctl import project as projects
from modelctl.cli import models as shown
from modelctl.cli import output as show
from modelctl.cli import pulling, update
from modelctl.errors import UnreachableError

if TYPE_CHECKING:
    from modelctl.hub.following import Tracked
    from modelctl.project import Project

_SHORT = 12
# For how many seconds the Hub is asked again.
_PATIENCE = 30.0
_COLUMNS = (
    show.Column("NAME"),
    show.Column("REF"),
    show.Column("COMMIT"),
    show.Column("NEWEST"),
    show.Column("STATE"),
    show.Column("WHERE"),
)


def show_outdated(out: show.Output, project: "Project", names: Collection[str]) -> None:
    """Ask the Hub where the branches and tags of these models are now, and show those that have moved.

    What cannot be asked about is unknown and said so; `UnreachableError` where the Hub answers for none of them.
    """
    from modelctl.hub import following
    from modelctl.hub.patience import Patience
    from modelctl.store import scan

    if projects.is_offline(project):
        raise update.offline()
    tracked = [following.track(model) for model in scan.scan_project(project, names)]
    # A question that can wait for another day, so no long one for its answer.
    patience = Patience(_PATIENCE, silence=_PATIENCE, say=out.say)
    hub = pulling.connect(project, None, patience=patience)
    asked = following.ask(hub, [one for one in tracked if one.followed])
    _check_reached(asked)
    moved = [one for one in asked if one.moved]
    if out.json:
        unknown = [{"id": one.model.id, "error": show.error_object(one.error)} for one in asked if one.error]
        models = [_model_object(one) for one in moved]
        out.object({"models_dir": project.models_dir, "models": models, "unknown": unknown})
        return
    if out.quiet:
        for one in moved:
            out.line(one.model.id)
    else:
        _show_table(out, asked, moved)
    _say_unknown(out, asked)


def _check_reached(asked: Sequence["Tracked"]) -> None:
    errors = [one.error for one in asked]
    first = next(iter(errors), None)
    if first is not None and all(isinstance(error, UnreachableError) for error in errors):
        first.hint = "`modelctl list` shows what is here without asking the Hub"
        raise first


def _model_object(tracked: "Tracked") -> dict[str, Any]:
    """The model under `--json`, with what has moved."""
    outdated = [{"ref": one.ref, "commit": one.commit, "newest": one.newest} for one in tracked.moved]
    return {**shown.model_object(tracked.model), "outdated": outdated}


def _show_table(out: show.Output, asked: Sequence["Tracked"], moved: Sequence["Tracked"]) -> None:
    if not asked:
        out.say("no model here follows a branch or tag of the Hub")
        return
    if moved:
        out.table(_COLUMNS, (row for one in moved for row in _rows(one)))
    unknown = sum(one.error is not None for one in asked)
    counted = f"{len(moved)} of {show.plural(len(asked), 'model')} outdated"
    out.line(f"{counted}, {unknown} unknown" if unknown else counted)
    if any(one.model.location == "project" for one in moved):
        out.say("hint: `modelctl pull --update --all` brings the newest")
    if cached := [one.model.id for one in moved if one.model.location == "cache"]:
        out.say(f"hint: `modelctl pull {' '.join(cached)}` brings the newest into the project")


def _rows(tracked: "Tracked") -> list[tuple[str, ...]]:
    model = tracked.model
    return [
        (
            model.id,
            one.ref,
            "-" if one.commit is None else one.commit[:_SHORT],
            "-" if one.newest is None else one.newest[:_SHORT],
            shown.state(model),
            model.location,
        )
        for one in tracked.moved
    ]


def _say_unknown(out: show.Output, asked: Sequence["Tracked"]) -> None:
    for one in asked:
        if one.error is not None:
            out.say(f"whether `{one.model.id}` is up to date is unknown: {one.error.message}")
