"""Where the user's token for the Hub comes from. What it is, nobody is told."""

import configparser
from dataclasses import dataclass

from modelctl import project as projects
from modelctl.project import Project


@dataclass(frozen=True, slots=True)
class Login:
    """`source` is a variable or a file; `name` the one under which `hf auth login` has stored the token, if it did."""

    source: str
    name: str | None


def find(project: Project) -> Login | None:
    """The login that the Hub is shown, by the rules of huggingface_hub; `None` where there is none."""
    for variable in projects.TOKEN_VARIABLES:
        if value := project.environ.get(variable, "").strip():
            return Login(f"`{variable}`", _name(project, value))
    path = projects.token_file(project)
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Login(f"`{path}`", _name(project, value)) if value else None


def _name(project: Project, token: str) -> str | None:
    """A user may have stored several, for several people and purposes."""
    stored = configparser.ConfigParser(interpolation=None)
    try:
        stored.read(projects.token_file(project).with_name("stored_tokens"), encoding="utf-8")
    except (UnicodeDecodeError, configparser.Error):
        return None
    return next((name for name in stored.sections() if stored[name].get("hf_token") == token), None)
