"""`modelctl verify --repair`: what is damaged or missing is fetched again, proven, and looked at once more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelctl.cli import outcome, pulling
from modelctl.errors import InterruptedByUserError, ModelctlError, UnreachableError

if TYPE_CHECKING:
    from modelctl.cli.output import Output
    from modelctl.cli.progress import Listener
    from modelctl.hub.mending import Mending
    from modelctl.hub.pull import PullResult
    from modelctl.hub.workers import Limits
    from modelctl.project import Project
    from modelctl.store.findings import Damage, Verified
    from modelctl.store.proven import Proven


@dataclass(frozen=True, slots=True)
class Mended:
    """The models as they are in the end; by their ids what is mended, what was fetched for that, and why it was not."""

    models: "Sequence[Verified]"
    damages: "Mapping[str, Sequence[Damage]]" = field(default_factory=dict)
    fetched: "Mapping[str, Sequence[PullResult]]" = field(default_factory=dict)
    errors: Mapping[str, ModelctlError] = field(default_factory=dict)


@dataclass(slots=True)
class Repairer:
    """Mends what a Hub may have, model by model: what fails for one is told, and the others go on."""

    out: "Output"
    project: "Project"
    known: "Proven"
    progress: "Listener"
    token: str | None
    limits: "Limits"
    damages: "dict[str, Sequence[Damage]]" = field(default_factory=dict)
    fetched: "dict[str, Sequence[PullResult]]" = field(default_factory=dict)
    errors: dict[str, ModelctlError] = field(default_factory=dict)
    unreachable: UnreachableError | None = None

    def repair(self, models: "Sequence[Verified]", *, in_cache: bool) -> Mended:
        """Mend the models of the project, or those of the user's own cache where that is asked for."""
        served = outcome.busy()
        after = [self._mended(one) if in_cache or one.model.location == "project" else one for one in models]
        for model_id in self.fetched:
            if by := served.get(model_id):
                self.progress.say(f"{by} goes on with the old files of `{model_id}` until it is started again")
        return Mended(after, self.damages, self.fetched, self.errors)

    def _mended(self, verified: "Verified") -> "Verified":
        """The model as it is after its mending, or as it was where that fails."""
        from modelctl.hub import mending

        model_id, plan = verified.model.paths.id, mending.plan(verified)
        try:
            if not verified.damages and not verified.errors:
                mending.finish(verified)
            if not plan.files:
                return verified
            self.fetched[model_id] = self._fetch(plan)
        except KeyboardInterrupt:
            raise InterruptedByUserError(f"the repair of `{model_id}` was interrupted", hint=pulling.KEPT) from None
        except ModelctlError as error:
            self.errors[model_id] = error
            # For the next model it would be waited for as long.
            self.unreachable = error if isinstance(error, UnreachableError) else self.unreachable
        after = self._look_again(verified)
        left = {(damage.path, use) for damage in after.damages for use in damage.uses}
        self.damages[model_id] = [
            damage
            for damage in verified.damages
            if damage.uses and not left & {(damage.path, use) for use in damage.uses}
        ]
        return after

    def _fetch(self, plan: "Mending") -> "Sequence[PullResult]":
        from modelctl.hub import mending

        if self.unreachable is not None:
            raise self.unreachable
        hub = pulling.connect(self.project, self.token, patience=pulling.patience(self.out, self.limits))
        is_own = plan.paths.hub == self.project.hub
        caches = pulling.caches(self.project) if is_own else [self.project.hub]
        return mending.execute(plan, hub, self.progress, limits=self.limits, caches=caches)

    def _look_again(self, verified: "Verified") -> "Verified":
        """What became of it: all that has been proven before is believed, the rest is read."""
        from modelctl.store import inspection, verification

        model = verified.model
        # A revision that was not meant has not been looked at.
        again = inspection.inspect(model.paths, model.location, model.revisions)
        plan = verification.plan([again], self.known)
        return verification.execute(plan, self.progress, self.known).models[0]
