"""How a person names a model, and which names may become paths."""

import re
from dataclasses import dataclass

from modelctl.errors import UsageError

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# What git accepts as a ref name, narrowed to what cannot leave the refs folder.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+/-]*")
_SCHEMES = ("hf://", "https://", "http://")
MAX_ID_LENGTH = 96


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as it was named: `org/name[@revision][:variant]`.

    `variant` is a quantisation of a GGUF repository, such as `Q4_K_M`.
    """

    id: str
    revision: str | None = None
    variant: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        variant = f":{self.variant}" if self.variant else ""
        return f"{self.id}{revision}{variant}"


def is_model_id(text: str) -> bool:
    """Whether `text` is a repository id as the Hub allows it: `name` or `org/name`."""
    parts = text.split("/")
    return (
        len(parts) <= 2
        and len(text) <= MAX_ID_LENGTH
        and "--" not in text
        and ".." not in text
        and all(_PART.fullmatch(part) for part in parts)
    )


def is_commit(text: str) -> bool:
    """Whether `text` is a full commit id."""
    return _COMMIT.fullmatch(text) is not None


def is_revision(text: str) -> bool:
    """Whether `text` can be a branch, a tag, a `refs/pr/N` or a commit, and is safe as a path below `refs/`."""
    return (
        _REVISION.fullmatch(text) is not None
        and len(text) <= 255
        and all(part not in {"", ".", ".."} and not part.endswith(".lock") for part in text.split("/"))
    )


def parse(text: str, *, revision: str | None = None) -> ModelRef:
    """Read a name as typed: `org/name[@revision][:variant]`, `hf://...`, or the address of a model's page.

    `revision` is what `--revision` gave. Two different ones are a `UsageError`, as is anything that is not a name.
    """
    ref = split(text)
    if not is_model_id(ref.id):
        raise UsageError(f"`{text}` is not a model name", hint="a name looks like `org/name`, as on its Hub page")
    return with_revision(ref, revision)


def with_revision(ref: ModelRef, revision: str | None) -> ModelRef:
    """`ref` at `revision`, where `--revision` gave one; two different ones are a `UsageError`."""
    if revision is None:
        return ref
    if ref.revision is not None and ref.revision != revision:
        raise UsageError(f"`{ref}` names one revision and `--revision {revision}` another", hint="give one of them")
    if not is_revision(revision):
        raise UsageError(f"`{revision}` is not a revision", hint="give a branch, a tag or a full commit id")
    return ModelRef(ref.id, revision, ref.variant)


def split(text: str) -> ModelRef:
    """Take a name apart without asking whether its id is one: a local command also takes a part of a name or a glob."""
    rest, revision = text.strip(), None
    scheme = next((scheme for scheme in _SCHEMES if rest.startswith(scheme)), None)
    if scheme:
        rest = rest.removeprefix(scheme).rstrip("/")
        if scheme != "hf://":
            _, _, rest = rest.partition("/")
        rest = rest.removeprefix("models/")
        # A page's address: org/name/tree/main, org/name/blob/main/config.json, org/name/resolve/...
        parts = rest.split("/")
        for word in ("tree", "blob", "resolve", "commit"):
            if word in parts[1:]:
                at = parts.index(word, 1)
                rest, tail = "/".join(parts[:at]), parts[at + 1 :]
                revision = (tail[0] if word != "tree" else "/".join(tail)) if tail else None
                break
    rest, colon, variant = rest.partition(":")
    rest, at_sign, named = rest.partition("@")
    if at_sign:
        revision = named
    if (colon and not variant) or (at_sign and not revision) or not rest:
        raise UsageError(f"`{text}` is not a model name", hint="a name looks like `org/name` or `org/name@revision`")
    if revision is not None and not is_revision(revision):
        raise UsageError(f"`{revision}` is not a revision", hint="give a branch, a tag or a full commit id")
    return ModelRef(rest, revision, variant or None)
