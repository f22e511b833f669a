"""What outside of any store may become a model: which of its files vLLM loads, and whether it could load them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from modelctl.errors import ModelctlError, NotAllowedError, NotFoundError, NotWholeError, UsageError
from modelctl.selection import Selection
from modelctl.store import checkpoint, metadata, wholeness
from modelctl.store.checkpoint import Checkpoint
from modelctl.store.model import Facts, Problem, Revision, StoredFile
from modelctl.store.plain import Obstacle, PlainFile
from modelctl.store.sources import Source

# What vLLM loads all the same: with a plugin, together with another model, or without what is left out here.
_LOADED_ALL_THE_SAME = {"gguf", "lora", "beside"}
_HINTS = {
    "unreadable": "import it as a user who may read it, or a copy of it",
    "outside": "`--follow-links` takes what it leads to",
    "name": "rename it",
    "odd": "put the file there, or take the name away",
}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that does not come along, and why not; of what is no file the size is not known."""

    name: str
    size: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """The files of a model, sorted by name, what is left out beside them, and what is wrong with it.

    `quantizations` are those of a GGUF model, `missing` the files that it lacks. `note` is a sentence for the user.
    """

    files: tuple[PlainFile, ...]
    left_out: tuple[LeftOut, ...]
    kind: str
    facts: Facts
    quantizations: tuple[str, ...]
    problems: tuple[Problem, ...]
    missing: tuple[str, ...]
    note: str | None

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)


def judge(source: Source, *, label: str | None = None, all_files: bool = False) -> Candidate:
    """Choose the files, by the rule or all of them, and judge them as a model in a store is judged.

    `label` is the one quantisation that is wanted. What has the name of a chosen file and cannot be read is an error.
    """
    whole = _read(source, headers=False).selection
    labels = _labels(source, whole, label)
    others = {name for each, names in whole.choices.items() if each not in labels for name in names}
    # Each quantisation is a model of its own, and judged as if it were alone.
    parts = [_read(source, but=_others(whole, each)) for each in labels] or [_read(source)]
    chosen = {name for part in parts for name in part.selection.names}
    _refuse(source.obstacles, chosen)
    # Of what vLLM does not load at all nothing is more the model than the rest.
    if all_files or whole.kind == "unservable":
        chosen = {file.name for file in source.files} - others
    verdicts = [wholeness.judge(part, listing=None, wanted=None, unfinished=False, pull=None) for part in parts]
    described = [metadata.describe(part) for part in parts]
    problems = [problem for verdict in verdicts for problem in verdict.problems]
    if not problems:
        problems = [problem for each in described for problem in each.problems]
    return Candidate(
        files=tuple(sorted((file for file in source.files if file.name in chosen), key=lambda file: file.name)),
        left_out=tuple(_left_out(source, chosen, others)),
        kind=whole.kind,
        facts=described[0].facts,
        quantizations=tuple(labels),
        problems=tuple(dict.fromkeys(each for each in problems if each.kind not in _LOADED_ALL_THE_SAME)),
        missing=tuple(sorted({name for verdict in verdicts for name in verdict.missing})),
        note=parts[0].selection.note,
    )


def check(source: Source, found: Candidate) -> None:
    """`NotWholeError` with what is missing or wrong, where vLLM could not load it."""
    if not found.problems:
        return
    told = [problem.message for problem in found.problems if problem.kind != "missing" or not found.missing]
    if found.missing:
        told.insert(0, f"{wholeness.listed(found.missing)} {'is' if len(found.missing) == 1 else 'are'} missing")
    raise NotWholeError(
        f"vLLM could not load `{source.path}`: {'; '.join(told)}",
        hint="`--force` imports it all the same",
        missing=list(found.missing),
    )


def _read(source: Source, *, but: Collection[str] = (), headers: bool = True) -> Checkpoint:
    """The files as a revision; what has the name of one and is none has no content."""
    files = [file.stored for file in source.files if file.name not in but]
    files += [StoredFile(one.name, str(one.path), None, None) for one in source.obstacles]
    return checkpoint.read(Revision("", source.path, (), tuple(files), 0, None), headers=headers)


def _labels(source: Source, whole: Selection, label: str | None) -> list[str]:
    """The quantisations that are to come."""
    if label is None:
        return list(whole.choices)
    known = {each.upper(): each for each in whole.choices}
    if label.upper() in known:
        return [known[label.upper()]]
    if not known:
        raise UsageError(f"`{source.path}` is no GGUF model, so it has no `{label}`", hint=f"leave out `:{label}`")
    here = ", ".join(f"`{each}`" for each in whole.choices)
    raise NotFoundError(f"`{source.path}` has no `{label}`", hint=f"its quantisations are {here}")


def _others(whole: Selection, label: str) -> set[str]:
    return {name for each, names in whole.choices.items() if each != label for name in names}


def _refuse(obstacles: Collection[Obstacle], chosen: Collection[str]) -> None:
    for one in obstacles:
        if one.name in chosen:
            error = NotAllowedError if one.kind == "unreadable" else ModelctlError
            raise error(f"`{one.path}` {one.why}", hint=_HINTS[one.kind])


def _left_out(source: Source, chosen: Collection[str], others: Collection[str]) -> Iterator[LeftOut]:
    for file in source.files:
        if file.name not in chosen:
            why = "it is another quantisation" if file.name in others else "vLLM does not load it"
            yield LeftOut(file.name, file.size, why)
    for one in source.obstacles:
        yield LeftOut(one.name, None, f"it {one.why}")
