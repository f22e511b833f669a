"""The Hub's protocol over hub folders, read-only: what huggingface_hub, `hf`, transformers and modelctl ask for."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelctl.share import listing, policy
from modelctl.share.body import FileBody, span
from modelctl.share.catalogue import Catalogue, Offer
from modelctl.share.policy import Policy, Refusal
from modelctl.share.signature import CDN_PATH, Signer
from modelctl.store.layout import RepoPaths, folder_name, model_id

_MODELS = "/api/models"
# What may follow a repository's id in an address of the API.
_PARTS = {"revision", "tree", "paths-info", "refs", "auth-check", "resolve"}
_MAX_QUESTION = 1 << 20


def build(
    stores: Sequence[Path], *, rules: Policy | None = None, cdn_host: str | None = None, lifetime: int = 3600
) -> Starlette:
    """The app that serves the hub folders `stores`; where two hold the same repository, the first counts.

    LFS files are answered by a redirect to an address that is signed and valid for `lifetime` seconds. With
    `cdn_host`, another name of this machine, that address has another origin, as at the real Hub, where clients must
    not send their token; without it the address is relative.
    """
    hub = _Hub(Catalogue(stores), rules or Policy(), Signer(lifetime=lifetime), cdn_host)
    both = ["GET", "HEAD"]
    return Starlette(
        routes=[
            Route(_MODELS, hub.models, methods=both),
            Route(f"{_MODELS}/{{rest:path}}", hub.model, methods=[*both, "POST"]),
            Route("/api/whoami-v2", hub.whoami, methods=both),
            Route("/api/agent-harnesses", hub.harnesses, methods=both),
            Route(f"{CDN_PATH}/{{rest:path}}", hub.cdn, methods=both),
            Route("/{rest:path}", hub.resolve, methods=both),
        ],
        exception_handlers={Refusal: _refused},
    )


@dataclass(frozen=True, slots=True)
class _Commit:
    """One commit of a repository that the user may see."""

    id: str
    paths: RepoPaths
    commit: str


@dataclass(frozen=True)
class _Hub:
    """The answers, one method an address."""

    catalogue: Catalogue
    rules: Policy
    signer: Signer
    cdn_host: str | None

    async def whoami(self, request: Request) -> Response:
        name = self._user(request)
        if name is None:
            raise Refusal(401, "Invalid username or password.")
        token = {"displayName": "token", "role": "read"}
        return JSONResponse(
            {
                "type": "user",
                "id": name,
                "name": name,
                "fullname": name,
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )

    async def harnesses(self, request: Request) -> Response:
        """Which coding agents a client should look for: `hf` asks once a day; none, here."""
        del request
        return JSONResponse({})

    async def models(self, request: Request) -> Response:
        """All repositories whose id holds `search`, `limit` of them."""
        name, query = self._user(request), request.query_params
        return await run_in_threadpool(self._models, request, name, query.get("search", "").lower())

    def _models(self, request: Request, name: str | None, search: str) -> Response:
        query = request.query_params
        found = []
        for listed in self.catalogue.ids():
            if (
                search not in listed.lower()
                or query.get("author", listed.partition("/")[0]) != listed.partition("/")[0]
            ):
                continue
            try:
                found.append(self._told(self._commit(listed, "main", name)))
            except Refusal:
                continue
        with_files = any(_is_true(query.get(key)) for key in ("full", "siblings"))
        return _paged(request, [listing.in_list(told, with_files=with_files) for told in found])

    async def model(self, request: Request) -> Response:
        """Everything below `/api/models/`: the id, then one of `_PARTS` and what belongs to it."""
        segments = [unquote(part) for part in _raw_path(request).removeprefix(f"{_MODELS}/").split("/")]
        at = next((at for at in (2, 1) if at < len(segments) and segments[at] in _PARTS), len(segments))
        listed, part, rest = "/".join(segments[:at]), segments[at : at + 1], segments[at + 1 :]
        answers: dict[str, Callable[..., Response]] = {
            "revision": self._info,
            "tree": self._tree,
            "refs": self._refs,
            "auth-check": self._auth_check,
        }
        name = self._user(request)
        if part == ["paths-info"]:
            question = await _question(request)
            return await run_in_threadpool(self._paths_info, listed, name, rest, question)
        if part and part[0] not in answers:
            raise Refusal(404, "Not Found")
        answer = answers[part[0]] if part else self._info
        return await run_in_threadpool(answer, request, listed, name, rest)

    def _info(self, request: Request, listed: str, name: str | None, rest: list[str]) -> Response:
        found = self._commit(listed, "/".join(rest) or "main", name)
        told = self._told(found)
        if _is_true(request.query_params.get("blobs")):
            told["siblings"] = listing.siblings(self.catalogue.files(found.paths, found.commit))
        if wanted := set(request.query_params.getlist("expand")):
            told = {key: value for key, value in told.items() if key in wanted or key in {"_id", "id"}}
        return JSONResponse(told)

    def _tree(self, request: Request, listed: str, name: str | None, rest: list[str]) -> Response:
        revision, below = (rest[0] if rest else "main"), "/".join(rest[1:]).strip("/")
        found, query = self._commit(listed, revision, name), request.query_params
        files = self.catalogue.files(found.paths, found.commit)
        entries = listing.tree(files, below=below, recursive=_is_true(query.get("recursive")))
        if entries is None:
            raise policy.unknown_entry(found.commit)
        if not _is_true(query.get("expand")):
            return _paged(request, entries, headers={"X-Repo-Commit": found.commit})
        modified = self.catalogue.modified(found.paths, found.commit)
        entries = [listing.expanded(told, commit=found.commit, modified=modified) for told in entries]
        return _paged(request, entries, size=listing.PAGE_EXPANDED, headers={"X-Repo-Commit": found.commit})

    def _paths_info(self, listed: str, name: str | None, rest: list[str], question: dict[str, Any]) -> Response:
        found = self._commit(listed, "/".join(rest) or "main", name)
        files = self.catalogue.files(found.paths, found.commit)
        told = []
        for path in question["paths"]:
            below = [file for known, file in files.items() if known.startswith(f"{path}/")]
            if path in files:
                told.append(listing.entry(files[path]))
            elif below:
                told.append(listing.folder_entry(path, below))
        if question["expand"]:
            modified = self.catalogue.modified(found.paths, found.commit)
            told = [listing.expanded(each, commit=found.commit, modified=modified) for each in told]
        return JSONResponse(told)

    def _refs(self, request: Request, listed: str, name: str | None, rest: list[str]) -> Response:
        del rest
        named = self.catalogue.refs(self._repository(listed, name))
        return JSONResponse(listing.refs(named, with_pull_requests=_is_true(request.query_params.get("include_prs"))))

    def _auth_check(self, request: Request, listed: str, name: str | None, rest: list[str]) -> Response:
        del request, rest
        self._repository(listed, name)
        policy.check_granted(self.rules, listed, user=name)
        return JSONResponse({})

    async def resolve(self, request: Request) -> Response:
        """A file of a commit: itself where it lies in git, a redirect where it lies in LFS."""
        segments = [unquote(part) for part in _raw_path(request).strip("/").split("/")]
        at = next((at for at in (2, 1) if at < len(segments) and segments[at] in {"resolve", "raw"}), None)
        if at is None or len(segments) < at + 3:
            raise Refusal(404, "Not Found")
        # `refs/pr/1` also comes with its slashes as they are.
        end = at + 4 if segments[at + 1] == "refs" and len(segments) > at + 4 else at + 2
        listed, revision, file = "/".join(segments[:at]), "/".join(segments[at + 1 : end]), "/".join(segments[end:])
        name = self._user(request)
        found, offer = await run_in_threadpool(self._file, listed, revision, file, name)
        told = {"X-Repo-Commit": found.commit, "Content-Disposition": listing.disposition(file)}
        if offer.sha256 is None:
            return _answer(request, offer, headers=told)
        linked = {"X-Linked-Etag": f'"{offer.sha256}"', "X-Linked-Size": str(offer.size), "ETag": f'"{offer.blob_id}"'}
        location = self._origin(request) + self.signer.address(folder_name(listed), found.commit, file)
        return Response(status_code=302, headers=told | linked | {"Location": location, "Accept-Ranges": "bytes"})

    def _file(self, listed: str, revision: str, file: str, name: str | None) -> tuple[_Commit, Offer]:
        found = self._commit(listed, revision, name)
        policy.check_granted(self.rules, listed, user=name)
        offer = self.catalogue.file(found.paths, found.commit, file)
        if offer is None:
            raise policy.unknown_entry(found.commit)
        return found, offer

    async def cdn(self, request: Request) -> Response:
        """What a redirect of `resolve` leads to; the signature takes the place of a token."""
        folder, _, rest = _raw_path(request).removeprefix(f"{CDN_PATH}/").partition("/")
        commit, _, file = rest.partition("/")
        folder, file, query = unquote(folder), unquote(file), request.query_params
        self.signer.check(folder, commit, file, expires=query.get("Expires", ""), signature=query.get("Signature", ""))
        paths = self.catalogue.repository(model_id(folder) or "")
        offer = await run_in_threadpool(self.catalogue.file, paths, commit, file) if paths else None
        if offer is None:
            raise Refusal(404, "Not Found")
        # The commit too: a client follows a redirect within one origin and looks for it here.
        told = {"X-Repo-Commit": commit, "Content-Disposition": listing.disposition(file)}
        return _answer(request, offer, headers=told)

    def _user(self, request: Request) -> str | None:
        return policy.user(self.rules, request.headers.get("authorization"))

    def _repository(self, listed: str, name: str | None) -> RepoPaths:
        policy.check_visible(self.rules, listed, user=name)
        paths = self.catalogue.repository(listed)
        if paths is None:
            raise policy.unknown_repository(name)
        return paths

    def _commit(self, listed: str, revision: str, name: str | None) -> _Commit:
        paths = self._repository(listed, name)
        commit = self.catalogue.commit(paths, revision)
        if commit is None:
            raise policy.unknown_revision(revision)
        return _Commit(listed, paths, commit)

    def _told(self, found: _Commit) -> listing.Json:
        return listing.model(
            found.id,
            found.commit,
            self.catalogue.files(found.paths, found.commit),
            modified=self.catalogue.modified(found.paths, found.commit),
            private=found.id in self.rules.private,
            gated=found.id in self.rules.gated,
        )

    def _origin(self, request: Request) -> str:
        if self.cdn_host is None:
            return ""
        port = request.url.port
        return f"{request.url.scheme}://{self.cdn_host}{f':{port}' if port else ''}"


def _answer(request: Request, offer: Offer, *, headers: dict[str, str]) -> Response:
    wanted, condition = request.headers.get("range"), request.headers.get("if-range")
    asked = span(offer.size, requested=wanted, condition=condition, etag=offer.etag)
    told = {"ETag": f'"{offer.etag}"', "Content-Type": "application/octet-stream"}
    return FileBody(offer.path, asked, headers=headers | told)


def _paged(
    request: Request,
    entries: Sequence[listing.Json],
    *,
    size: int = listing.PAGE,
    headers: dict[str, str] | None = None,
) -> Response:
    """One page; the address of the next one stands in the `Link` header."""
    limit = request.query_params.get("limit", "")
    size = min(size, max(1, int(limit))) if limit.isdecimal() else size
    shown, following = listing.page(entries, cursor=request.query_params.get("cursor", ""), size=size)
    told = dict(headers or {})
    if following is not None:
        query = urlencode(
            [*((k, v) for k, v in request.query_params.multi_items() if k != "cursor"), ("cursor", following)]
        )
        address = f"{request.url.scheme}://{request.url.netloc}{quote(_raw_path(request), safe='/%')}?{query}"
        told["Link"] = f'<{address}>; rel="next"'
    return JSONResponse(shown, headers=told)


async def _question(request: Request) -> dict[str, Any]:
    """The paths that `paths-info` asks for, from a form or from JSON."""
    if int(request.headers.get("content-length") or 0) > _MAX_QUESTION:
        raise Refusal(413, "Payload too large")
    body = (await request.body()).decode("utf-8", "surrogateescape")
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            told = json.loads(body)
        except ValueError:
            raise Refusal(400, "Invalid JSON") from None
        if not isinstance(told, dict):
            raise Refusal(400, "Invalid JSON")
    else:
        form = parse_qs(body)
        told = {"paths": form.get("paths", []), "expand": form.get("expand", [""])[0]}
    paths = told.get("paths")
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise Refusal(400, "`paths` must be a list of paths")
    return {"paths": paths, "expand": _is_true(str(told.get("expand", "")))}


def _raw_path(request: Request) -> str:
    """The path as sent: a revision such as `refs%2Fpr%2F1` must not come apart."""
    raw = request.scope.get("raw_path")
    return raw.decode("latin-1") if raw else request.url.path


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in {"1", "true"}


async def _refused(request: Request, refusal: Exception) -> Response:
    if not isinstance(refusal, Refusal):
        raise refusal
    told = refusal.headers | {"X-Error-Message": refusal.message}
    if refusal.code:
        told["X-Error-Code"] = refusal.code
    if refusal.status == 401:
        told["WWW-Authenticate"] = 'Bearer realm="Authentication required", charset="UTF-8"'
    del request
    return JSONResponse({"error": refusal.message}, status_code=refusal.status, headers=told)
