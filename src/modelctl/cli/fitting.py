"""Whether models fit this machine: its GPUs are asked once, and only where a driver shows that there are any."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from modelctl.project import Project

if TYPE_CHECKING:
    from modelctl.engine.fitting import Fit
    from modelctl.engine.gpus import Question
    from modelctl.engine.machine import Machine
    from modelctl.engine.memory import Need
    from modelctl.store.model import Model

# The tool answers in a fraction of a second where the driver stays loaded, and in some where it has to be woken.
_PATIENCE = 5.0
_DRIVERS = ("proc/driver/nvidia", "dev/nvidiactl", "dev/dxg", "dev/kfd")


class Asked:
    """A machine that is asked from the `with` on, beside whatever else is done, and heard at the first `fit`."""

    def __init__(self, project: Project, *, root: Path, patience: float) -> None:
        self._project = project
        self._root = root
        self._patience = patience
        self._question: Question | None = None
        self._machine: Machine | None = None

    def __enter__(self) -> Self:
        # Looked for here and not in `gpus`, which takes milliseconds to load.
        if any((self._root / name).exists() for name in _DRIVERS):
            from modelctl.engine import gpus

            if gpus.gpu(self._root) == "nvidia":
                self._question = gpus.Question(self._project.environ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._question is not None:
            self._question.__exit__(kind, value, trace)

    @property
    def machine(self) -> "Machine":
        """What the machine has."""
        if self._machine is None:
            from modelctl.engine import machine

            self._machine = machine.without_gpu(self._root)
            if self._question is not None:
                self._machine = self._machine._replace(gpus=self._question.answer(patience=self._patience))
            elif (self._root / "dev/kfd").exists():
                # AMD's tools are not asked.
                self._machine = self._machine._replace(gpus=None)
        return self._machine

    def fit(self, model: "Model") -> "Fit":
        """How a model fits."""
        return self.fit_need(need(model))

    def fit_need(self, need: "Need | None") -> "Fit":
        """How something fits that needs this much."""
        from modelctl.engine import fitting

        return fitting.fit(need, self.machine)


def asked(project: Project, *, root: Path = Path("/"), patience: float = _PATIENCE) -> Asked:
    """Ask what this machine has, in a `with`."""
    return Asked(project, root=root, patience=patience)


def need(model: "Model") -> "Need | None":
    """What decides how much memory a model needs; `None` for one of which too little is here."""
    from modelctl.engine.memory import Need
    from modelctl.store import checkpoint, condition

    revision = condition.default_of(model.revisions)
    if revision is None or model.facts.weights is None:
        return None
    files = {file.name: file for file in revision.files if file.name in {"config.json", "params.json"}}
    config = checkpoint.document(files, "config.json")
    if not isinstance(config, dict):
        config = checkpoint.document(files, "params.json")
    own = config if isinstance(config, dict) else {}
    return Need(weights=model.facts.weights, config=own, context=model.facts.context_length)
