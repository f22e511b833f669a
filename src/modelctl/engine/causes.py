"""Why vLLM failed, in words that say what to do (pure)."""

from dataclasses import dataclass

from modelctl.engine import faults, shortages
from modelctl.engine.symptom import Kind


@dataclass(frozen=True, slots=True)
class Cause:
    """Why vLLM failed: one sentence, and the command or flag to try, where one is known."""

    kind: Kind
    message: str
    remedy: str | None = None


KILLED_FOR_MEMORY = Cause(
    "memory", "the system ran out of memory, and the kernel killed a process of it", shortages.LESS
)


def known(text: str, *, model: str) -> Cause | None:
    """What an error line means, where it is one of those that are known; `model` is what was to be served."""
    for symptom in (*shortages.TABLE, *faults.TABLE):
        if match := symptom.pattern.search(text):
            found = {name: value or "" for name, value in match.groupdict().items()}
            words = {**found, **symptom.more(found), "model": model}
            return Cause(symptom.kind, symptom.message.format(**words), symptom.remedy.format(**words))
    return None
