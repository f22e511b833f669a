"""The Hub as huggingface_hub speaks with it; its errors become ours here and nowhere else."""

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelctl.errors import ModelctlError, NotAllowedError, NotFoundError, NotWholeError, UnreachableError, UsageError
from modelctl.hub import suggestions
from modelctl.hub.connection import no_socks
from modelctl.hub.patience import KEEP_GOING, Patience
from modelctl.ref import ModelRef, is_commit
from modelctl.store import tree
from modelctl.store.layout import is_file_name
from modelctl.store.tree import TreeFile

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

# The Hub advises against a tenth of it.
_MOST_ENTRIES = 1_000_000


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the Hub says of a revision: its commit, and whether access was or is asked for."""

    commit: str
    private: bool
    gated: bool


@dataclass(frozen=True)
class Hub:
    """A Hub, who asks it, and how patiently. `token` goes to `endpoint` alone and is never shown."""

    endpoint: str
    token: str | None = field(default=None, repr=False)
    patience: Patience = field(default_factory=Patience)
    _thread: threading.local = field(default_factory=threading.local, init=False, repr=False, compare=False)

    def resolve(self, ref: ModelRef, *, known: Sequence[str] | None = None) -> Resolved:
        """Ask for the commit of a revision, in one request. With `known` names an error offers close ones."""
        with _translated(self, ref, known=known):
            info = self._api().model_info(ref.id, revision=ref.revision)
        if not isinstance(info.sha, str) or not is_commit(info.sha):
            raise UnreachableError(
                f"the Hub at `{self.endpoint}` names no commit for `{ref}`", hint="check `HF_ENDPOINT`"
            )
        return Resolved(info.sha, private=bool(info.private), gated=bool(info.gated))

    def refs(self, model_id: str, *, pull_requests: bool = False) -> dict[str, str]:
        """Ask for the commits of all branches and tags, by the names that a revision is asked for by, in one request.

        `pull_requests` adds `refs/pr/N`. What a tag is said to name may be the tag's own object and no commit.
        """
        with _translated(self, ModelRef(model_id)):
            named = self._api().list_repo_refs(model_id, include_pull_requests=pull_requests)
            short = {ref.name: ref.target_commit for ref in (*named.tags, *named.branches)}
            full = {ref.ref: ref.target_commit for ref in (*named.converts, *(named.pull_requests or ()))}
        return {**short, **full}

    def open(self) -> None:
        """Get ready to be asked from several threads at once."""
        self._api()

    def files(self, ref: ModelRef, commit: str) -> dict[str, TreeFile]:
        """List a whole commit: one request for a thousand files."""
        from huggingface_hub.hf_api import RepoFile

        files: dict[str, TreeFile] = {}
        with _translated(self, ref):
            seen: set[str] = set()
            for entry in self._api().list_repo_tree(ref.id, revision=commit, recursive=True):
                if entry.path in seen:
                    # Also what a listing without an end does, whose last page leads to its first.
                    raise _untrustworthy(ref, f"{_visible(entry.path)} twice")
                if len(seen) == _MOST_ENTRIES:
                    raise _untrustworthy(ref, f"more than {_MOST_ENTRIES:,} entries")
                seen.add(entry.path)
                if isinstance(entry, RepoFile):
                    _add(files, entry, ref)
        if wrong := tree.contradiction(files):
            raise _untrustworthy(ref, wrong)
        return files

    def check_access(self, ref: ModelRef) -> None:
        """Raise where the files of a gated model may not be had; what it is and lists, everybody may see."""
        with _translated(self, ref):
            self._api().auth_check(ref.id)

    def ask(self, ref: ModelRef, address: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """What the Hub says at an address of its own, `None` where it knows no such address."""
        from huggingface_hub import get_session, hf_raise_for_status

        self.open()
        with _translated(self, ref):
            response = get_session().get(address, headers=self.headers)
            if response.status_code == http.client.NOT_FOUND:
                return None
            hf_raise_for_status(response)
            return response.json()

    @property
    def headers(self) -> dict[str, str]:
        """What tells the Hub who asks."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def account(self) -> str | None:
        """Whose the token is, `None` where nobody's or the Hub does not say."""
        if self.token is None:
            return None
        with contextlib.suppress(*_network_errors(), UnreachableError), self._hurried():
            return str(self._api().whoami(token=self.token).get("name"))
        return None

    def suggest(self, ask: "Callable[[HfApi], tuple[str, ...]]") -> tuple[str, ...]:
        """What the Hub offers in place of a wrong name; nothing where it does not answer as it should."""
        wrong = (UnreachableError, ValueError, KeyError, TypeError, AttributeError)
        with contextlib.suppress(*_network_errors(), *wrong), self._hurried():
            return ask(self._api())
        return ()

    @contextmanager
    def _hurried(self) -> Iterator[None]:
        """Ask nothing twice: for a better message alone nobody waits."""
        self._thread.is_hurried = True
        try:
            yield
        finally:
            self._thread.is_hurried = False

    def _patience_now(self) -> Patience:
        return replace(self.patience, seconds=0.0) if getattr(self._thread, "is_hurried", False) else self.patience

    def _api(self) -> "HfApi":
        return self._opened

    @cached_property
    def _opened(self) -> "HfApi":
        """Once: a new client closes the one before it, also in the middle of another thread's request."""
        from huggingface_hub import HfApi, set_client_factory

        from modelctl.hub.asking import PatientClient

        set_client_factory(lambda: PatientClient(self.endpoint, self.token, self._patience_now))
        return HfApi(endpoint=self.endpoint, token=self.token or False, library_name="modelctl")


def _add(files: dict[str, TreeFile], entry: "RepoFile", ref: ModelRef) -> None:
    """Take an entry of a listing over: its name and its hash become paths, so nothing of it is believed unseen."""
    lfs = entry.lfs
    name, size = str(entry.path), lfs.size if lfs else entry.size
    if not is_file_name(name):
        raise _untrustworthy(ref, f"a file name that leads out of its folder: {_visible(name)}")
    file = tree.trusted(size, entry.blob_id, sha256=lfs.sha256 if lfs else None, xet_hash=entry.xet_hash)
    if file is None:
        raise _untrustworthy(ref, f"a file with a size or hash that is none: {_visible(name)}")
    files[name] = file


def _untrustworthy(ref: ModelRef, what: str) -> NotWholeError:
    return NotWholeError(f"`{ref.id}` lists {what}", hint="do not use this repository; nothing of it was written")


def _visible(name: str) -> str:
    """A name for a message, so short and plain that no terminal is misled."""
    return f"`{name[:200].encode('unicode_escape').decode()}`"


def find_token(given: str | None) -> str | None:
    """The token to send: the one given, else what huggingface_hub finds in every place it knows."""
    if given is None:
        from huggingface_hub import get_token

        try:
            given = get_token() or ""
        except OSError as exc:
            raise NotAllowedError(
                f"the token file `{exc.filename}` cannot be read: {exc.strerror}",
                hint="make it readable, or name another one with `HF_TOKEN_PATH`",
            ) from exc
    token = given.strip()
    if not (token.isascii() and token.isprintable()):
        raise UsageError("the token holds characters that no token has", hint="log in anew: `hf auth login`")
    return token or None


def failure(
    hub: Hub, ref: ModelRef, status: int, code: str | None, *, known: Sequence[str] | None = None
) -> ModelctlError:
    """The error for a status and `X-Error-Code` with which the Hub refuses a model or a file of it."""
    page = f"{hub.endpoint}/{ref.id}"
    if code == "GatedRepo":
        return _gated(hub, ref, page)
    if code == "RevisionNotFound":
        return _no_revision(hub, ref, page)
    if code == "EntryNotFound":
        return NotFoundError(f"`{ref.id}` lacks a file that it lists", hint=KEEP_GOING)
    if code == "RepoNotFound" or status == 404:
        return _unknown(hub, ref, known)
    if status in {401, 403}:
        return _forbidden(hub, ref, status, page)
    return UnreachableError(f"the Hub at `{hub.endpoint}` answers with status {status}", hint=KEEP_GOING)


def _gated(hub: Hub, ref: ModelRef, page: str) -> NotAllowedError:
    name = hub.account()
    who = f"the account `{name}` has" if name else "without a login there is"
    hint = f"ask for access at {page}, then " + ("run the same command again" if name else "`hf auth login`")
    return NotAllowedError(f"`{ref.id}` is gated, and {who} no access to it", hint=hint)


def _unknown(hub: Hub, ref: ModelRef, known: Sequence[str] | None) -> NotFoundError:
    """The Hub answers alike for a private repository and for none, so that nobody can probe for names."""
    login = "" if hub.token else "; for a private one log in first: `hf auth login`"
    close: tuple[str, ...] = ()
    if known is not None:
        close = hub.suggest(lambda api: suggestions.models(api, ref.id, known)) or suggestions.closest(ref.id, known)
    meant = f"did you mean {_either(close)}; else " if close else ""
    return NotFoundError(
        f"there is no model `{ref.id}` at {hub.endpoint}, or it is private",
        hint=f"{meant}look for its name at {hub.endpoint}/models{login}",
    )


def _no_revision(hub: Hub, ref: ModelRef, page: str) -> NotFoundError:
    revision = ref.revision or "main"
    close = hub.suggest(lambda api: suggestions.revisions(api, ref.id, revision))
    there = f"there is {_either(close)}; all are shown" if close else "see its branches and tags"
    return NotFoundError(f"`{ref.id}` has no revision `{revision}`", hint=f"{there} at {page}")


def _either(names: Iterable[str]) -> str:
    return " or ".join(_visible(name) for name in names)


def _forbidden(hub: Hub, ref: ModelRef, status: int, page: str) -> NotAllowedError:
    if status == 403:
        return NotAllowedError(f"the Hub forbids access to `{ref.id}`", hint=f"see {page}")
    if hub.token is not None:
        return NotAllowedError(
            f"the Hub does not accept the token it was given for `{ref.id}`", hint="log in anew: `hf auth login`"
        )
    return NotAllowedError(
        f"the Hub wants a login for `{ref.id}`", hint="log in with `hf auth login`, or give `--token`"
    )


def unreachable(hub: Hub, reason: str) -> UnreachableError:
    """The error for a Hub that cannot be spoken with."""
    return UnreachableError(f"the Hub at `{hub.endpoint}` cannot be reached: {reason}", hint=KEEP_GOING)


@contextmanager
def _translated(hub: Hub, ref: ModelRef, *, known: Sequence[str] | None = None) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as exc:
        response = exc.response
        raise failure(hub, ref, response.status_code, response.headers.get("X-Error-Code"), known=known) from exc
    except _network_errors() as exc:
        raise unreachable(hub, str(exc) or type(exc).__name__) from exc
    except ImportError as exc:
        # What httpx raises for want of the package that it would speak SOCKS with.
        raise no_socks() from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        # What stands between us and the Hub answered in its place, such as a captive portal.
        raise unreachable(hub, "its answer is not that of a Hub") from exc


def _network_errors() -> tuple[type[Exception], ...]:
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    return (httpx2.HTTPError, httpx2.InvalidURL, OfflineModeIsEnabled, OSError)
