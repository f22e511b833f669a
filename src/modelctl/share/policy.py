"""Who may see and fetch what; the refusals in the Hub's own words."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

ErrorCode = Literal["RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo"]
_INVALID_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - what the Hub says of one


@dataclass(frozen=True, slots=True)
class Policy:
    """Which repositories are private or gated, and which token is which user's.

    `users` maps tokens to names, `private` and `gated` map ids to the names of those who may see or fetch. Without
    users everybody is anonymous and tokens are not looked at: a client sends the token of another Hub along.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    private: Mapping[str, AbstractSet[str]] = field(default_factory=dict)
    gated: Mapping[str, AbstractSet[str]] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of ours
    """A request that is answered with an error: its status, the Hub's code and sentence, further headers."""

    def __init__(
        self, status: int, message: str, *, code: ErrorCode | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


def user(policy: Policy, authorization: str | None) -> str | None:
    """Who asks, `None` for anybody; a token that is nobody's is refused."""
    if not policy.users or authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    name = policy.users.get(token.strip()) if scheme.lower() == "bearer" else None
    if name is None:
        raise Refusal(401, _INVALID_TOKEN)
    return name


def check_visible(policy: Policy, model_id: str, *, user: str | None) -> None:
    """Refuse a private repository as if it were not there."""
    if not is_visible(policy, model_id, user=user):
        raise unknown_repository(user)


def is_visible(policy: Policy, model_id: str, *, user: str | None) -> bool:
    """Whether a user may know that a repository is there."""
    return model_id not in policy.private or user in policy.private[model_id]


def check_granted(policy: Policy, model_id: str, *, user: str | None) -> None:
    """Refuse the files of a gated repository to whom they were not granted."""
    if model_id not in policy.gated or user in policy.gated[model_id]:
        return
    if user is None:
        text = (
            f"Access to model {model_id} is restricted. You must have access to it and be authenticated to access it."
        )
        raise Refusal(401, f"{text} Please log in.", code="GatedRepo")
    text = f"Access to model {model_id} is restricted and you are not in the authorized list."
    raise Refusal(403, f"{text} Visit the model's page to ask for access.", code="GatedRepo")


def unknown_repository(user: str | None) -> Refusal:
    """No such repository, or none that this user may know of: the anonymous are asked who they are."""
    if user is None:
        return Refusal(401, "Invalid username or password.", code="RepoNotFound")
    return Refusal(404, "Repository not found", code="RepoNotFound")


def unknown_revision(revision: str) -> Refusal:
    """No such branch, tag or commit in a repository that is there."""
    return Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def unknown_entry(commit: str) -> Refusal:
    """No such file in a commit that is there."""
    return Refusal(404, "Entry not found", code="EntryNotFound", headers={"X-Repo-Commit": commit})
