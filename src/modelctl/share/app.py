"""The Hub's protocol over hub folders, read-only: what huggingface_hub, `hf`, transformers and modelctl ask for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelctl.share import listing, policy, query
from modelctl.share.body import FileBody, span
from modelctl.share.catalogue import Catalogue, Offer
from modelctl.share.policy import Policy, Refusal
from modelctl.share.signature import CDN_PATH, Signer
from modelctl.store.layout import RepoPaths, folder_name, model_id

_MODELS = "/api/models"


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
            Route("/api/{rest:path}", hub.nothing, methods=both),
            Route(f"{CDN_PATH}/{{rest:path}}", hub.cdn, methods=both),
            Route("/{rest:path}", hub.resolve, methods=both),
        ],
        exception_handlers={Refusal: _refused},
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request about one repository: whose it is, and what follows the repository's id in the path."""

    request: Request
    id: str
    user: str | None
    rest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
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
        """The user whose token came along."""
        name = self._user(request)
        if name is None:
            raise Refusal(401, "Invalid username or password.")
        token = {"type": "access_token", "accessToken": {"displayName": "token", "role": "read"}}
        return JSONResponse(
            {"type": "user", "id": name, "name": name, "fullname": name, "isPro": False, "orgs": [], "auth": token}
        )

    async def harnesses(self, _: Request) -> Response:
        """Which coding agents a client should look for: none, here. Said so that clients keep it and ask once a day."""
        return JSONResponse({"standardEnvVars": [], "harnesses": {}})

    async def nothing(self, request: Request) -> Response:
        """Repositories of other kinds: there are none."""
        raise policy.unknown_repository(self._user(request))

    async def models(self, request: Request) -> Response:
        """The repositories whose id holds `search`, of `author`, a page of them."""
        return await run_in_threadpool(self._models, request, self._user(request))

    def _models(self, request: Request, user: str | None) -> Response:
        search, author = request.query_params.get("search", "").lower(), request.query_params.get("author")
        found = [
            commit
            for listed in self.catalogue.ids()
            if search in listed.lower()
            and author in {None, listed.partition("/")[0]}
            and (commit := self._visible(listed, user))
        ]
        shown = query.page(request, len(found))
        with_files = query.is_set(request, "full")
        told = [listing.in_list(self._told(each), with_files=with_files) for each in found[shown.start : shown.stop]]
        return query.paged(request, shown, told)

    async def model(self, request: Request) -> Response:
        """Everything below `/api/models/`: the id, then what is asked of it, then what belongs to that."""
        answers: dict[str, Callable[[_Asked], Response]] = {
            "revision": self._info,
            "tree": self._tree,
            "refs": self._refs,
            "auth-check": self._auth_check,
        }
        parts = query.segments(request)[2:]
        at = next((at for at in (2, 1) if at < len(parts) and parts[at] in {*answers, "paths-info"}), len(parts))
        asked = _Asked(request, "/".join(parts[:at]), self._user(request), tuple(parts[at + 1 :]))
        part = parts[at] if at < len(parts) else "revision"
        if part == "paths-info":
            question = await query.question(request)
            return await run_in_threadpool(self._paths_info, asked, question)
        return await run_in_threadpool(answers[part], asked)

    def _info(self, asked: _Asked) -> Response:
        found = self._found(asked, "/".join(asked.rest) or "main")
        told = self._told(found)
        if query.is_set(asked.request, "blobs"):
            told["siblings"] = listing.siblings(self.catalogue.files(found.paths, found.commit))
        if wanted := {*asked.request.query_params.getlist("expand")}:
            told = {key: value for key, value in told.items() if key in wanted or key in {"_id", "id"}}
        return JSONResponse(told)

    def _tree(self, asked: _Asked) -> Response:
        revision, below = (*asked.rest, "main")[0], "/".join(asked.rest[1:]).strip("/")
        found = self._found(asked, revision)
        files = self.catalogue.files(found.paths, found.commit)
        entries = listing.tree(files, below=below, recursive=query.is_set(asked.request, "recursive"))
        if entries is None:
            raise policy.unknown_entry(found.commit)
        expand = query.is_set(asked.request, "expand")
        shown = query.page(asked.request, len(entries), size=query.PAGE_EXPANDED if expand else query.PAGE)
        told = entries[shown.start : shown.stop]
        return query.paged(asked.request, shown, self._expanded(found, told) if expand else told, commit=found.commit)

    def _paths_info(self, asked: _Asked, question: query.Question) -> Response:
        found = self._found(asked, "/".join(asked.rest) or "main")
        files = self.catalogue.files(found.paths, found.commit)
        told = []
        for path in question.paths:
            below = [file for name, file in files.items() if name.startswith(f"{path}/")]
            if path in files:
                told.append(listing.entry(files[path]))
            elif below:
                told.append(listing.folder_entry(path, below))
        return JSONResponse(self._expanded(found, told) if question.expand else told)

    def _refs(self, asked: _Asked) -> Response:
        named = self.catalogue.refs(self._repository(asked.id, asked.user))
        return JSONResponse(listing.refs(named, with_pull_requests=query.is_set(asked.request, "include_prs")))

    def _auth_check(self, asked: _Asked) -> Response:
        self._repository(asked.id, asked.user)
        policy.check_granted(self.rules, asked.id, user=asked.user)
        return JSONResponse({})

    async def resolve(self, request: Request) -> Response:
        """A file of a commit: itself where it lies in git, a redirect where it lies in LFS."""
        parts, user = query.segments(request), self._user(request)
        at = next((at for at in (2, 1) if at < len(parts) and parts[at] == "resolve"), None)
        if at is None or len(parts) < at + 3:
            raise policy.unknown_repository(user) if "resolve" in parts else Refusal(404, "Not Found")
        # `refs/pr/1` also comes with its slashes as they are.
        end = at + 4 if parts[at + 1] == "refs" and len(parts) > at + 4 else at + 2
        name = "/".join(parts[end:])
        asked = _Asked(request, "/".join(parts[:at]), user, (name,))
        found = self._granted(asked, "/".join(parts[at + 1 : end]))
        offer = await self._offer(found.paths, found.commit, name)
        if offer is None:
            raise policy.unknown_entry(found.commit)
        told = {"X-Repo-Commit": found.commit, "Content-Disposition": listing.disposition(name)}
        if offer.sha256 is None:
            return _file(request, offer, headers=told)
        told |= {"X-Linked-Etag": f'"{offer.sha256}"', "X-Linked-Size": str(offer.size), "ETag": f'"{offer.blob_id}"'}
        location = self._origin(request) + self.signer.address(folder_name(found.id), found.commit, name)
        return Response(status_code=302, headers=told | {"Location": location, "Accept-Ranges": "bytes"})

    async def cdn(self, request: Request) -> Response:
        """What a redirect of `resolve` leads to; the signature takes the place of a token."""
        folder, commit, *rest = (*query.segments(request)[1:], "", "")
        name, asked = "/".join(rest[:-2]), request.query_params
        self.signer.check(folder, commit, name, expires=asked.get("Expires", ""), signature=asked.get("Signature", ""))
        paths = self.catalogue.repository(model_id(folder) or "")
        offer = await self._offer(paths, commit, name) if paths else None
        if offer is None:
            raise Refusal(404, "Not Found")
        # The commit too: a client follows a redirect within one origin and looks for it here.
        return _file(
            request, offer, headers={"X-Repo-Commit": commit, "Content-Disposition": listing.disposition(name)}
        )

    async def _offer(self, paths: RepoPaths, commit: str, name: str) -> Offer | None:
        # A listed file is some looks at the disk, less than a thread costs; another one may have to be hashed first.
        if self.catalogue.is_listed(paths, commit):
            return self.catalogue.file(paths, commit, name)
        return await run_in_threadpool(self.catalogue.file, paths, commit, name)

    def _granted(self, asked: _Asked, revision: str) -> _Found:
        found = self._found(asked, revision)
        policy.check_granted(self.rules, asked.id, user=asked.user)
        return found

    def _user(self, request: Request) -> str | None:
        return policy.user(self.rules, request.headers.get("authorization"))

    def _repository(self, listed: str, user: str | None) -> RepoPaths:
        policy.check_visible(self.rules, listed, user=user)
        paths = self.catalogue.repository(listed)
        if paths is None:
            raise policy.unknown_repository(user)
        return paths

    def _found(self, asked: _Asked, revision: str) -> _Found:
        paths = self._repository(asked.id, asked.user)
        commit = self.catalogue.commit(paths, revision)
        if commit is None:
            raise policy.unknown_revision(revision)
        return _Found(asked.id, paths, commit)

    def _visible(self, listed: str, user: str | None) -> _Found | None:
        """The newest commit of a repository, `None` where the user may not see it, or no branch `main` is there."""
        if not policy.is_visible(self.rules, listed, user=user):
            return None
        paths = self.catalogue.repository(listed)
        commit = self.catalogue.commit(paths, "main") if paths else None
        return _Found(listed, paths, commit) if paths and commit else None

    def _told(self, found: _Found) -> query.Json:
        return listing.model(
            found.id,
            found.commit,
            self.catalogue.files(found.paths, found.commit),
            modified=self.catalogue.modified(found.paths, found.commit),
            private=found.id in self.rules.private,
            gated=found.id in self.rules.gated,
        )

    def _expanded(self, found: _Found, told: Sequence[query.Json]) -> list[query.Json]:
        modified = self.catalogue.modified(found.paths, found.commit)
        return [listing.expanded(each, commit=found.commit, modified=modified) for each in told]

    def _origin(self, request: Request) -> str:
        if self.cdn_host is None:
            return ""
        port = request.url.port
        return f"{request.url.scheme}://{self.cdn_host}{f':{port}' if port else ''}"


def _file(request: Request, offer: Offer, *, headers: dict[str, str]) -> Response:
    wanted, condition = request.headers.get("range"), request.headers.get("if-range")
    asked = span(offer.size, requested=wanted, condition=condition, etag=offer.etag)
    told = {"ETag": f'"{offer.etag}"', "Content-Type": "application/octet-stream"}
    return FileBody(offer.path, asked, headers=headers | told)


async def _refused(_: Request, refusal: Exception) -> Response:
    if not isinstance(refusal, Refusal):
        raise refusal
    told = refusal.headers | {"X-Error-Message": refusal.message}
    if refusal.code:
        told["X-Error-Code"] = refusal.code
    if refusal.status == 401:
        told["WWW-Authenticate"] = 'Bearer realm="Authentication required", charset="UTF-8"'
    return JSONResponse({"error": refusal.message}, status_code=refusal.status, headers=told)
