"""How a verification is shown: what is whole, what is damaged and how, and the command that mends it."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelctl.cli import output as show
from modelctl.errors import ModelctlError, NotWholeError

if TYPE_CHECKING:
    from modelctl.cli.repairing import Mended
    from modelctl.store.findings import Damage, Use, Verified
    from modelctl.store.verification import VerificationPlan, VerificationResult

_SHORT = 12
# Files of which one thing is said, before the others are counted.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Where:
    """Which store was looked at, as other commands have to be told of it."""

    models_dir: Path | None
    in_cache: bool

    def repair(self, *names: str, in_cache: bool = False) -> str:
        """The command that mends models."""
        folder = [] if self.models_dir is None else ["--models-dir", shlex.quote(str(self.models_dir))]
        cache = ["--cache"] if in_cache or self.in_cache else []
        return " ".join(["modelctl verify --repair", *folder, *cache, *map(shlex.quote, names)])


def say_plan(out: show.Output, plan: "VerificationPlan") -> None:
    """What is about to be read."""
    if out.json:
        models = [
            {
                "id": model.paths.id,
                "location": model.location,
                "path": model.paths.folder,
                "commits": list(model.commits),
                "files": len(model.contents),
                "size": model.size,
            }
            for model in plan.models
        ]
        out.event("plan", models=models, size=plan.size, to_read=plan.to_read)
    elif plan.known and not out.quiet:
        out.say(f"{show.size(plan.known)} of {show.size(plan.size)} were proven before an interruption")


def show_result(out: show.Output, where: Where, result: "VerificationResult", mended: "Mended") -> None:
    """What became of each model; raises where not all of it is well."""
    report = Report(where, mended)
    if out.quiet and not out.json:
        for one in mended.models:
            if one.damages:
                out.line(show.one_line(one.model.paths.id))
    elif not out.json:
        for line in report.lines():
            out.line(show.one_line(line))
    values = [report.model(one) for one in mended.models]
    if error := report.error():
        error.details = {**error.details, "verified": values, "read": result.read}
        raise error
    if out.json:
        out.event("done", verified=values, read=result.read, seconds=round(result.seconds, 3))
    elif not out.quiet:
        size = sum(one.size for one in mended.models)
        rate = f", {show.size(int(result.read / max(result.seconds, 0.001)))}/s" if result.read else ""
        out.say(f"{show.plural(len(mended.models), 'model')}, {show.size(size)} proven in {result.seconds:.1f} s{rate}")


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification in words and in JSON."""

    where: Where
    mended: "Mended"

    def lines(self) -> Iterator[str]:
        """What a person reads: a line a model, and below it what is wrong with it."""
        for one in self.mended.models:
            model_id = one.model.paths.id
            if damages := self.mended.damages.get(model_id):
                fetched = sum(result.fetched for result in self.mended.fetched.get(model_id, ()))
                yield f"repaired {model_id}: {show.plural(len(damages), 'file')}, fetched {show.size(fetched)}"
            yield f"{model_id} {_summary(one)}"
            for damage in one.damages:
                yield f"  {_shown(one, damage.path, damage.uses)} {_sentence(damage)}"
                yield f"    {damage.path}"
                if damage.others:
                    yield f"    {' and '.join(damage.others)} shows the same file"
            for unreadable in one.unreadable:
                yield f"  {_shown(one, unreadable.path, unreadable.uses)}: {unreadable.error.message}"
            for why in dict.fromkeys(unchecked.why for unchecked in one.model.unchecked):
                files = [_shown(one, each.path, each.uses) for each in one.model.unchecked if each.why == why]
                more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
                yield f"  not checked, since {why}: {', '.join(files[:_SHOWN])}{more}"

    def model(self, one: "Verified") -> dict[str, Any]:
        """One model under `--json`."""
        error = one.error or self.mended.errors.get(one.model.paths.id)
        return {
            "id": one.model.paths.id,
            "location": one.model.location,
            "path": one.model.paths.folder,
            "state": _state(one),
            "files": len(one.proven),
            "size": one.size,
            "damaged": [self._damage(one, damage) for damage in one.damages],
            "repaired": [self._damage(one, damage) for damage in self.mended.damages.get(one.model.paths.id, ())],
            "unchecked": [
                {"path": each.path, "files": _files(each.uses), "why": each.why} for each in one.model.unchecked
            ],
            "unreadable": [
                {"path": each.path, "files": _files(each.uses), "error": show.error_object(each.error)}
                for each in one.unreadable
            ],
            "error": None if error is None else show.error_object(error),
        }

    def error(self) -> ModelctlError | None:
        """What the command ends with: damage before all else, then what could not be looked at."""
        damaged = [one for one in self.mended.models if one.damages]
        if damaged:
            return self._damaged(damaged)
        failed = [one for one in self.mended.models if one.errors]
        if not failed:
            return None
        first = failed[0].errors[0]
        kinds = {type(error) for one in failed for error in one.errors}
        if len(self.mended.models) == len(failed) == 1 and len(failed[0].errors) == 1:
            return first
        alike = len(kinds) == 1 and len(failed) == len(self.mended.models)
        kind = NotWholeError if NotWholeError in kinds else type(first) if alike else ModelctlError
        count = f"{len(failed)} of {show.plural(len(self.mended.models), 'model')}"
        return kind(f"{count} could not be verified: {first.message}", hint=first.hint)

    def _damaged(self, damaged: "Sequence[Verified]") -> ModelctlError:
        errors = [self.mended.errors.get(one.model.paths.id) for one in damaged]
        first = next((error for error in errors if error is not None), None)
        if first is not None and {type(error) for error in errors} == {type(first)}:
            return type(first)(f"{_named(damaged)} {_verb(damaged)} not repaired: {first.message}", hint=first.hint)
        if len(self.mended.models) == 1:
            message = f"`{damaged[0].model.paths.id}` {_summary(damaged[0])}"
        else:
            message = f"{len(damaged)} of {show.plural(len(self.mended.models), 'model')} {_verb(damaged)} damaged"
        return NotWholeError(message, hint=first.hint if first is not None else self._hint(damaged))

    def _hint(self, damaged: "Sequence[Verified]") -> str | None:
        """The commands that mend all of it, as few as there can be."""
        from modelctl.store import remedy

        fixes: dict[str, None] = {}
        for in_cache in (False, True):
            here = [one for one in damaged if (one.model.location == "cache") == in_cache]
            names = [one.model.paths.id for one in here if any(remedy.from_hub(one, damage) for damage in one.damages)]
            if names:
                fixes[self.where.repair(*names, in_cache=in_cache)] = None
        others = (
            self._fix(one, damage) for one in damaged for damage in one.damages if not remedy.from_hub(one, damage)
        )
        fixes |= dict.fromkeys(fix for fix in others if fix is not None)
        return "; ".join(f"`{fix}`" for fix in fixes) or None

    def _damage(self, one: "Verified", damage: "Damage") -> dict[str, Any]:
        return {
            "kind": damage.kind,
            "message": _sentence(damage),
            "path": damage.path,
            "files": _files(damage.uses),
            "expected": damage.expected,
            "found": damage.found,
            "expected_size": damage.expected_size,
            "found_size": damage.found_size,
            "others": list(damage.others),
            "fix": self._fix(one, damage),
        }

    def _fix(self, one: "Verified", damage: "Damage") -> str | None:
        """The command that mends one damage, `None` where there is none."""
        from modelctl.store import remedy

        if remedy.from_hub(one, damage):
            return self.where.repair(one.model.paths.id, in_cache=one.model.location == "cache")
        return remedy.otherwise(one, damage)


def _state(one: "Verified") -> str:
    """`whole`, `damaged`, or `unknown` where some of it, or all, could not be looked at."""
    if one.damages:
        return "damaged"
    return "unknown" if one.errors or (one.model.unchecked and not one.proven) else "whole"


def _summary(one: "Verified") -> str:
    """What is to be said of a model: the end of a sentence that begins with its name."""
    if one.damages:
        return f"is damaged: {show.plural(len(one.damages), 'file')}, {len(one.proven)} proven"
    if one.error is not None:
        return f"is not verified: {one.error.message}"
    proven = f"{show.plural(len(one.proven), 'file')}, {show.size(one.size)}"
    if one.unreadable:
        return f"is not verified: {show.plural(len(one.unreadable), 'file')} cannot be read ({proven} proven)"
    if one.model.unchecked and not one.proven:
        return f"cannot be checked: {show.plural(len(one.model.unchecked), 'file')}"
    if one.model.unchecked:
        unchecked = show.plural(len(one.model.unchecked), "file")
        return f"is whole as far as can be told: {proven}; {unchecked} cannot be checked"
    return f"is whole: {proven}"


def _shown(one: "Verified", path: Path, uses: "Sequence[Use]") -> str:
    """A file with the revisions that show it, or the path where none does."""
    refs: dict[str, list[str]] = {}
    for use in uses:
        refs.setdefault(use.name, []).extend(one.model.commits.get(use.commit) or (use.commit[:_SHORT],))
    named = [f"`{name}` ({', '.join(labels)})" for name, labels in refs.items()]
    return " and ".join(named) or f"`{path.relative_to(one.model.paths.folder)}`"


def _sentence(damage: "Damage") -> str:
    """What is wrong: the end of a sentence that begins with the file."""
    words = {
        "content": f"hashes to {_short(damage.found)} instead of {_short(damage.expected)}",
        "size": f"has {damage.found_size or 0:,} bytes instead of {damage.expected_size or 0:,}",
        "missing": "is missing",
        "dangling": "leads to no content in this store",
        "swapped": f"leads to {_short(damage.found)}, where its commit has {_short(damage.expected)}",
        "folder": "is a folder where a file should be",
        "odd": "is no file",
        "header": "has no well-formed header, and nothing tells its hash",
    }
    return words[damage.kind]


def _short(digest: str | None) -> str:
    return (digest or "nothing")[:_SHORT]


def _files(uses: "Sequence[Use]") -> list[dict[str, str]]:
    return [{"commit": use.commit, "name": use.name} for use in uses]


def _named(damaged: "Sequence[Verified]") -> str:
    return f"`{damaged[0].model.paths.id}`" if len(damaged) == 1 else show.plural(len(damaged), "model")


def _verb(damaged: "Sequence[Verified]") -> str:
    return "is" if len(damaged) == 1 else "are"
