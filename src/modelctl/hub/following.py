"""Which branches and tags a model follows, and where the Hub has them now."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from modelctl.errors import ModelctlError, UnreachableError
from modelctl.hub import plan as planning
from modelctl.hub.client import Hub, Resolved
from modelctl.ref import ModelRef, is_model_id
from modelctl.store import contents, layout, standing
from modelctl.store.layout import RepoPaths
from modelctl.store.model import Model

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Followed:
    """A branch or tag that a model has. Once the Hub was asked there is the `newest` commit of it, or an `error`.

    `commit` is what it names here, `None` where that is not here. `resolved` is all that the Hub said of one that has
    moved.
    """

    ref: str
    commit: str | None
    newest: str | None = None
    resolved: Resolved | None = None
    error: ModelctlError | None = None

    @property
    def has_moved(self) -> bool:
        """Whether the Hub has another commit under this name."""
        return self.newest is not None and self.newest != self.commit


@dataclass(frozen=True, slots=True)
class Tracked:
    """A model with the branches and tags that it follows; none where nothing of it can move."""

    model: Model
    followed: tuple[Followed, ...]

    @property
    def paths(self) -> RepoPaths:
        """The paths of the model."""
        return layout.paths_at(self.model.path)

    @property
    def moved(self) -> tuple[Followed, ...]:
        """The branches and tags that have moved."""
        return tuple(one for one in self.followed if one.has_moved)

    @property
    def error(self) -> ModelctlError | None:
        """Why the Hub does not say it of all of them."""
        return next((one.error for one in self.followed if one.error is not None), None)


def track(model: Model) -> Tracked:
    """Read which branches and tags a model follows."""
    here = {revision.commit for revision in model.revisions if revision.files}
    if not here or not is_model_id(model.id):
        return Tracked(model, ())
    paths = layout.paths_at(model.path)
    found = contents.read(contents.place(str(model.path.parent)), model.path.name)
    return Tracked(
        model,
        tuple(
            Followed(name, commit if commit in here else None)
            for name, commit in sorted(found.refs.items())
            # Other tools write a ref for the beginning of a commit, too. It never moves, and neither does what was
            # imported: under the same name the Hub may have anything.
            if layout.is_ref_path(name)
            and not planning.is_abbreviated(name, commit)
            and standing.imported_from(paths, commit) is None
        ),
    )


def ask(hub: Hub, tracked: Sequence[Tracked]) -> tuple[Tracked, ...]:
    """Ask the Hub where the branches and tags are now: one request a model, some models side by side."""
    if not tracked:
        return ()
    hub.open()
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        return tuple(pool.map(lambda one: _answered(hub, one), tracked))
    finally:
        # Ctrl-C does not wait for the answers that are still out.
        pool.shutdown(wait=False, cancel_futures=True)


def _answered(hub: Hub, tracked: Tracked) -> Tracked:
    listed: dict[str, str] = {}
    if len(tracked.followed) > 1:
        with_pull_requests = any(one.ref.startswith("refs/pr/") for one in tracked.followed)
        try:
            listed = hub.refs(tracked.model.id, pull_requests=with_pull_requests)
        except UnreachableError as error:
            return replace(tracked, followed=tuple(replace(one, error=error) for one in tracked.followed))
        except ModelctlError:
            # Not every mirror lists them. What else may be wrong, the single requests say.
            listed = {}
    return replace(
        tracked, followed=tuple(_placed(hub, tracked.model.id, one, listed.get(one.ref)) for one in tracked.followed)
    )


def _placed(hub: Hub, model_id: str, one: Followed, listed: str | None) -> Followed:
    """Where one branch or tag is; a list may name the object of a tag and no commit, so only equality is believed."""
    if listed is not None and listed == one.commit:
        return replace(one, newest=listed)
    try:
        resolved = hub.resolve(ModelRef(model_id, one.ref))
        return replace(one, newest=resolved.commit, resolved=resolved)
    except ModelctlError as error:
        return replace(one, error=error)
