"""What `serve --dry-run` prints: a command line to paste into a shell, or the plan as an object."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelctl.cli import output
from modelctl.errors import ModelctlError

if TYPE_CHECKING:
    from modelctl.engine.service import ServePlan
    from modelctl.project import Project


def show(
    out: output.Output,
    project: "Project",
    planned: "ServePlan",
    *,
    told: Mapping[str, Any],
    refusal: ModelctlError | None,
) -> None:
    """Show command line and environment; `told` is the plan as an object. A key is never shown."""
    from modelctl.engine import api_key, command, flags

    key_file = planned.settings.api_key_file
    new, gone = command.difference(planned.command.environ, project.environ)
    new.pop(api_key.VARIABLE, None)
    if out.json:
        key = {api_key.VARIABLE: flags.HIDDEN} if key_file else {}
        refused = refusal and output.error_object(refusal)
        out.object({**told, "environment": {"set": {**new, **key}, "unset": list(gone)}, "refusal": refused})
        return
    argv = flags.shown(planned.command.argv)
    lines = [f"-u {name}" for name in gone]
    lines += [f"{name}={shlex.quote(value)}" for name, value in new.items()]
    if key_file is not None:
        lines.append(f'{api_key.VARIABLE}="$(cat {shlex.quote(str(key_file))})"')
    # `docker run`, or the interpreter with our launcher, the command and the model.
    first = 4 if planned.engine.image is None else 2
    lines.append(shlex.join(argv[:first]))
    lines += [shlex.join(words) for words in _by_flag(argv[first:])]
    made = [f"mkdir -p {shlex.join(str(folder) for folder in planned.folders)} &&"] if planned.folders else []
    out.line(" \\\n  ".join([" ".join([*made, "env"]), *lines]))


def _by_flag(words: tuple[str, ...]) -> list[list[str]]:
    """The words of a command line, a flag and its values at a time."""
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups
