"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ModelsDir = Annotated[
    Path | None,
    typer.Option("--models-dir", metavar="DIR", help="The folder that contains hub/ (default: found, see `status`)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only, one a line.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Revision = Annotated[
    str | None, typer.Option("--revision", metavar="REV", help="A branch, a tag or a commit (default: main).")
]
