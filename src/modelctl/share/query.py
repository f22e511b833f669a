"""What a request to the Hub's API asks for, and answers that come in pages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelctl.share.policy import Refusal

Json = dict[str, Any]
# As many entries a page as the Hub gives; fewer where each carries more.
PAGE, PAGE_EXPANDED = 1000, 50
_MAX_QUESTION = 1 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page begins, how long it may be, and whether something follows it."""

    start: int
    stop: int
    more: bool


@dataclass(frozen=True, slots=True)
class Question:
    """What `paths-info` asks."""

    paths: tuple[str, ...]
    expand: bool


def segments(request: Request) -> list[str]:
    """The parts of the path as sent: a revision such as `refs%2Fpr%2F1` is one."""
    return [unquote(part) for part in _raw_path(request).strip("/").split("/")]


def is_set(request: Request, name: str) -> bool:
    """Whether a switch of the query is on."""
    return _is_true(request.query_params.get(name, ""))


def page(request: Request, count: int, *, size: int = PAGE) -> Page:
    """The page of `count` entries that the query asks for by `limit` and `cursor`."""
    limit, cursor = (request.query_params.get(name, "") for name in ("limit", "cursor"))
    start = int(cursor) if cursor.isdecimal() else 0
    stop = start + (min(size, max(1, int(limit))) if limit.isdecimal() else size)
    return Page(start, stop, more=stop < count)


def paged(request: Request, shown: Page, entries: Sequence[Json], *, commit: str | None = None) -> Response:
    """The entries of one page; the address of the next one stands in the `Link` header."""
    told = {"X-Repo-Commit": commit} if commit else {}
    if shown.more:
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        query = urlencode([*kept, ("cursor", shown.stop)])
        told["Link"] = f'<{request.url.scheme}://{request.url.netloc}{_raw_path(request)}?{query}>; rel="next"'
    return JSONResponse(entries, headers=told)


async def question(request: Request) -> Question:
    """The paths that `paths-info` asks for, from a form or from JSON."""
    if int(request.headers.get("content-length") or 0) > _MAX_QUESTION:
        raise Refusal(413, "Payload too large")
    body = (await request.body()).decode("utf-8", "surrogateescape")
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            told = json.loads(body)
        except ValueError:
            raise Refusal(400, "Invalid JSON") from None
    else:
        form = parse_qs(body)
        told = {"paths": form.get("paths", []), "expand": form.get("expand", [""])[0]}
    match told:
        case {"paths": str(path), **rest}:
            return Question((path,), _is_true(str(rest.get("expand", ""))))
        case {"paths": [*paths], **rest} if all(isinstance(path, str) for path in paths):
            return Question(tuple(paths), _is_true(str(rest.get("expand", ""))))
        case _:
            raise Refusal(400, "`paths` must be a list of paths")


def _raw_path(request: Request) -> str:
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return raw.decode("latin-1")


def _is_true(value: str) -> bool:
    return value.lower() in {"1", "true"}
