"""Proving the contents of models: every one hashed against its name and the list of its commit. Reads only."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from modelctl.errors import BusyError, ModelctlError
from modelctl.progress import Progress
from modelctl.store import crew, inspection, layout, proof, shared
from modelctl.store.crew import Tell
from modelctl.store.disposal import exists
from modelctl.store.findings import Content, Damage, Inspected, Unreadable, Verified
from modelctl.store.layout import RepoPaths
from modelctl.store.proof import Reading, Stamp
from modelctl.store.proven import Proven

# One that is written to again and again is not read for ever.
_TRIES = 3
_Key = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class VerificationPlan:
    """What will be read: each file once, however many names it has. `known` bytes are proven by an interrupted run."""

    models: tuple[Inspected, ...]
    size: int
    known: int

    @property
    def to_read(self) -> int:
        """Bytes that will be read."""
        return self.size - self.known


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What came of it. `read` are the bytes that were hashed, in so many seconds."""

    models: tuple[Verified, ...]
    read: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a file turned out to be. Neither: it has gone."""

    reading: Reading | None = None
    error: ModelctlError | None = None


def plan(models: Sequence[Inspected], proven: Proven) -> VerificationPlan:
    """Find out how much there is to read."""
    contents = _distinct(models)
    known = sum(content.stamp.size for content in contents if proven.has(content.stamp, content.digest))
    return VerificationPlan(tuple(models), sum(content.stamp.size for content in contents), known)


def execute(plan: VerificationPlan, progress: Progress, proven: Proven) -> VerificationResult:
    """Read all contents, the largest first and several at once, and judge the models by them.

    What is damaged, cannot be read, or has gone meanwhile is part of the result, and the others go on.
    """
    began, done = time.monotonic(), plan.known
    contents = sorted(_distinct(plan.models), key=lambda content: -content.stamp.size)
    known = {content.key for content in contents if proven.has(content.stamp, content.digest)}
    wanted = [content for content in contents if content.key not in known]
    names = _names(plan.models)
    progress.begin("verifying", total=plan.size)

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress.advance(done)

    def finished(at: int, outcome: _Outcome) -> None:
        content = wanted[at]
        is_true = _is_true(content, outcome)
        if is_true and outcome.reading is not None and outcome.reading.is_steady:
            proven.add(outcome.reading.after, content.digest)
        source = "proven" if is_true else "unreadable" if outcome.error else "damaged"
        progress.file(names[content.key], size=content.stamp.size, source=source)

    jobs = [partial(_read, content) for content in wanted]
    outcomes = crew.work(jobs, tell, size=_cores(), finished=finished)
    found = {content.key: outcome for content, outcome in zip(wanted, outcomes, strict=True)}
    models = tuple(_judged(model, found, known) for model in plan.models)
    return VerificationResult(models, plan.to_read, time.monotonic() - began)


def _cores() -> int:
    """How many processors this process may use: hashing is bound by them, where the disk is fast enough."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _distinct(models: Sequence[Inspected]) -> list[Content]:
    """Every file once: several names of one, in one model or in several, hold one content."""
    return list({content.key: content for model in models for content in model.contents}.values())


def _names(models: Sequence[Inspected]) -> dict[_Key, str]:
    """What a person calls each content: the file of the model that shows it, else its blob."""
    names: dict[_Key, str] = {}
    for model in models:
        for content in model.contents:
            name = content.uses[0].name if content.uses else f"blobs/{content.path.name}"
            names.setdefault(content.key, f"{model.paths.id}/{name}")
    return names


def _read(content: Content, tell: Tell) -> _Outcome:
    """Read a file until it is right, or wrong and left alone meanwhile: what is being written to is neither."""
    for _ in range(_TRIES):
        try:
            reading = proof.read(content.path, content.digest, tell)
        except ModelctlError as error:
            return _Outcome(error=error) if exists(content.path) else _Outcome()
        now = _state(content)
        if now is None:
            return _Outcome()
        if reading.is_steady and now == reading.after:
            return _Outcome(reading)
        tell(-reading.after.size)
    return _Outcome(
        error=BusyError(
            f"`{content.path}` is being written to",
            hint="wait until nothing writes to it, then run the same command again",
        )
    )


def _state(content: Content) -> Stamp | None:
    """The state of what has the name now: somebody may have replaced it, or taken it away."""
    try:
        return proof.stamp(content.path.stat())
    except OSError:
        return None


def _is_true(content: Content, outcome: _Outcome) -> bool:
    return outcome.reading is not None and outcome.reading.digest == content.digest


def _judged(model: Inspected, found: Mapping[_Key, _Outcome], known: set[_Key]) -> Verified:
    """What came of one model. One that was removed meanwhile is no damaged one."""
    if model.contents and not exists(model.paths.folder):
        return Verified(model, (), (), (), inspection.gone(model.paths))
    proven: list[Content] = []
    damages, unreadable = [*model.damages], [*model.unreadable]
    for content in model.contents:
        outcome = found.get(content.key, _Outcome())
        if content.key in known or _is_true(content, outcome):
            proven.append(content)
        elif outcome.error is not None:
            unreadable.append(Unreadable(content.path, content.uses, outcome.error))
        else:
            damages.append(_damage(model.paths, content, outcome.reading))
    return Verified(model, tuple(proven), tuple(damages), tuple(unreadable), model.error)


def _damage(paths: RepoPaths, content: Content, reading: Reading | None) -> Damage:
    if reading is None:
        return Damage(
            "dangling",
            content.path,
            content.uses,
            content.digest,
            expected_size=content.expected,
            payload=content.payload,
        )
    size = reading.after.size
    return Damage(
        "size" if content.expected not in {None, size} else "content",
        content.path,
        content.uses,
        content.digest,
        reading.digest,
        content.expected,
        size,
        reading.after,
        content.payload,
        _others(paths, content, reading.after),
    )


def _others(paths: RepoPaths, content: Content, stamp: Stamp) -> tuple[str, ...]:
    """The other models of the hub folder that show the same file: by a second name, or as a shared payload."""
    if content.payload is not None:
        known = shared.users(paths.hub).by_payload.get(content.payload, frozenset())
        folders = {link.parents[1].name for link in known}
    else:
        folders = set(_linked(paths, content, stamp))
    ids = {layout.repository_id(folder) or folder for folder in folders - {paths.folder.name}}
    return tuple(sorted(ids))


def _linked(paths: RepoPaths, content: Content, stamp: Stamp) -> list[str]:
    try:
        if content.path.stat().st_nlink == 1:
            return []
        with os.scandir(paths.hub) as entries:
            folders = [entry.name for entry in entries if layout.repository_id(entry.name)]
    except OSError:
        return []
    found = []
    for folder in folders:
        try:
            status = (paths.hub / folder / "blobs" / content.digest).lstat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == (stamp.device, stamp.inode):
            found.append(folder)
    return found
