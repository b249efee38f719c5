"""A stand-in for the random user API 1.4: an ASGI app with the same responses and configurable faults.

Deliberate differences: `gender` also applies with a seed, and a seed's users are one infinite list of which a page is
a window, so that page 2 of 10 is users 11 to 20 of page 1 of 20.
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from penstock.errors import UsageError
from penstock.source.hostile import Hostility, ResponseFault
from penstock.source.nationalities import NATIONALITIES
from penstock.source.people import GENDERS, make_user

VERSION = "1.4"
PATHS = ("/api", "/api/", f"/api/{VERSION}", f"/api/{VERSION}/")
RESULTS_MAX = 5000
PAGE_MAX = 10_000
ALL_NATS = tuple(NATIONALITIES)
FIELDS = ("gender", "name", "location", "email", "login", "dob", "registered", "phone", "cell", "id", "picture", "nat")


@dataclass(frozen=True)
class UserQuery:
    """Parameters of a request."""

    results: int
    page: int
    seed: str
    nats: tuple[str, ...]
    genders: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def start(self) -> int:
        """Return the position of the page's first user, from 0."""
        return (self.page - 1) * self.results

    def fits(self, user: dict[str, Any]) -> bool:
        """Return whether the user has a requested nationality and gender. If all are requested, any value matches."""
        return (self.nats == ALL_NATS or user.get("nat") in self.nats) and (
            self.genders == GENDERS or user.get("gender") in self.genders
        )


UserSource = Callable[[UserQuery], list[dict[str, Any]]]


def read_query(params: Mapping[str, str]) -> UserQuery:
    """Parse a request's parameters. Values out of range or unknown are ignored, as by the real API."""
    included = _split_list(params.get("inc", "").lower()) or FIELDS
    excluded = _split_list(params.get("exc", "").lower())
    nats = _split_list(params.get("nat", "").upper())
    gender = params.get("gender", "")
    return UserQuery(
        results=_parse_number(params.get("results", ""), RESULTS_MAX),
        page=_parse_number(params.get("page", ""), PAGE_MAX),
        seed=params.get("seed", "") or secrets.token_hex(8),
        nats=nats if nats and set(nats) <= NATIONALITIES.keys() else ALL_NATS,
        genders=(gender,) if gender in GENDERS else GENDERS,
        fields=tuple(field for field in FIELDS if field in included and field not in excluded),
    )


def generate_users(query: UserQuery) -> list[dict[str, Any]]:
    """Generate the users of a query, deterministically."""
    positions = range(query.start, query.start + query.results)
    return [make_user(query.seed, position, query.nats, query.genders) for position in positions]


def load_captured_users(file: Path) -> UserSource:
    """Return a source of the users in a captured response, in order, starting over at the end.

    A page contains at most as many users as the file. Raises `UsageError` if the file is not such a response.
    """
    try:
        captured = msgspec.convert(json.loads(file.read_bytes())["results"], list[dict[str, Any]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is not a response of the random user API: {error!r}") from error

    def users(query: UserQuery) -> list[dict[str, Any]]:
        matching = [user for user in captured if query.fits(user)]
        count = min(query.results, len(matching))
        return [matching[(query.start + i) % len(matching)] for i in range(count)]

    return users


class Standin:
    """The endpoint. Counts requests, so that faults occur in the same order for the same seed."""

    def __init__(self, users: UserSource, hostility: Hostility) -> None:
        self._users = users
        self._hostility = hostility
        self._requests = itertools.count()

    async def answer(self, request: Request) -> Response:
        """Answer a request, possibly with a fault."""
        if request.query_params.get("format", "json").lower() != "json":
            return JSONResponse({"error": "The stand-in supports only format=json."}, status_code=400)
        trouble = self._hostility.choose_fault(next(self._requests))
        if trouble in _FAULTY_RESPONSES:
            return _FAULTY_RESPONSES[trouble]()
        if trouble is ResponseFault.SLOW:
            await asyncio.sleep(self._hostility.slow_s)
        body = await run_in_threadpool(self._render_body, read_query(request.query_params))
        return _build_response(body, trouble)

    def _render_body(self, query: UserQuery) -> bytes:
        generated = self._users(query)
        users = [
            self._hostility.damage_user(user, f"{query.seed}:{query.start + i}") for i, user in enumerate(generated)
        ]
        info = {"seed": query.seed, "results": len(users), "page": query.page, "version": VERSION}
        return msgspec.json.encode({"results": [_select_fields(query.fields, user) for user in users], "info": info})


class CutResponse(Response):
    """Response with half of its content but the full Content-Length. The server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


def make_app(users: UserSource = generate_users, hostility: Hostility | None = None) -> Starlette:
    """Create the stand-in as an ASGI app, without faults unless `hostility` is given."""
    endpoint: Callable[[Request], Awaitable[Response]] = Standin(users, hostility or Hostility()).answer
    return Starlette(routes=[*(Route(path, endpoint) for path in PATHS), Route("/health", _serve_health)])


async def _serve_health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


_FAULTY_RESPONSES: dict[ResponseFault, Callable[[], Response]] = {
    ResponseFault.THROTTLED: lambda: JSONResponse(
        {"error": "Whoa, ease up. You have asked for too many users."}, status_code=429, headers={"Retry-After": "1"}
    ),
    ResponseFault.OVERLOADED: lambda: PlainTextResponse("Service Unavailable", status_code=503),
    ResponseFault.ERROR: lambda: JSONResponse({"error": "Uh oh, something has gone wrong."}),
}


def _build_response(body: bytes, trouble: ResponseFault) -> Response:
    if trouble is ResponseFault.CUT:
        return CutResponse(body, media_type="application/json")
    if trouble is ResponseFault.TRUNCATED:
        body = body[: len(body) // 2]
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-cache"})


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(item for item in (part.strip() for part in text.split(",")) if item)


def _parse_number(text: str, most: int) -> int:
    """Parse a number from 1 to `most`. Returns 1 for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most else 1


def _select_fields(fields: Sequence[str], user: dict[str, Any]) -> dict[str, Any]:
    return {field: user[field] for field in fields if field in user}
