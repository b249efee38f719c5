"""The stand-in for the random user API 1.4: an ASGI app that answers in its shape, and as badly as it is told to.

Differs from the real one on purpose: `gender` holds with a seed too, and a seed's users are one endless list, so that
a page is a window on it: page 2 of 10 is users 11 to 20 of page 1 of 20.
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

from penstock.errors import WrongUse
from penstock.source.hostile import Hostility, Trouble
from penstock.source.nationalities import NATIONALITIES
from penstock.source.people import GENDERS, make_user

VERSION = "1.4"
PATHS = ("/api", "/api/", f"/api/{VERSION}", f"/api/{VERSION}/")
RESULTS_MAX = 5000
PAGE_MAX = 10_000
ALL_NATS = tuple(NATIONALITIES)
FIELDS = ("gender", "name", "location", "email", "login", "dob", "registered", "phone", "cell", "id", "picture", "nat")


@dataclass(frozen=True)
class Query:
    """What a request asks for."""

    results: int
    page: int
    seed: str
    nats: tuple[str, ...]
    genders: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def start(self) -> int:
        """The position of the page's first user, from 0."""
        return (self.page - 1) * self.results

    def fits(self, user: dict[str, Any]) -> bool:
        """Whether `user` is of a nationality and gender asked for; any is when all are asked for."""
        return (self.nats == ALL_NATS or user.get("nat") in self.nats) and (
            self.genders == GENDERS or user.get("gender") in self.genders
        )


UserSource = Callable[[Query], list[dict[str, Any]]]


def read_query(params: Mapping[str, str]) -> Query:
    """The query of a request's parameters. As the real API: what is out of range or unknown counts as not given."""
    included = _listed(params.get("inc", "").lower()) or FIELDS
    excluded = _listed(params.get("exc", "").lower())
    nats = _listed(params.get("nat", "").upper())
    gender = params.get("gender", "")
    return Query(
        results=_bounded(params.get("results", ""), RESULTS_MAX),
        page=_bounded(params.get("page", ""), PAGE_MAX),
        seed=params.get("seed", "") or secrets.token_hex(8),
        nats=nats if nats and set(nats) <= NATIONALITIES.keys() else ALL_NATS,
        genders=(gender,) if gender in GENDERS else GENDERS,
        fields=tuple(field for field in FIELDS if field in included and field not in excluded),
    )


def made_users(query: Query) -> list[dict[str, Any]]:
    """Users made for the query, the same for the same query."""
    places = range(query.start, query.start + query.results)
    return [make_user(query.seed, place, query.nats, query.genders) for place in places]


def captured_users(file: Path) -> UserSource:
    """A source of the users of a captured answer, in its order and from its start again after its end.

    A page holds at most as many users as the file has. Raises `WrongUse` when the file is not such an answer.
    """
    try:
        captured = msgspec.convert(json.loads(file.read_bytes())["results"], list[dict[str, Any]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WrongUse(f"{file} is not an answer of the random user API: {error!r}") from error

    def users(query: Query) -> list[dict[str, Any]]:
        fitting = [user for user in captured if query.fits(user)]
        count = min(query.results, len(fitting))
        return [fitting[(query.start + i) % len(fitting)] for i in range(count)]

    return users


class Standin:
    """The endpoint: counts requests, so that trouble comes in the same order for the same seed."""

    def __init__(self, users: UserSource, hostility: Hostility) -> None:
        self._users = users
        self._hostility = hostility
        self._requests = itertools.count()

    async def answer(self, request: Request) -> Response:
        """The answer to a request, or what hostility makes of it."""
        if request.query_params.get("format", "json").lower() != "json":
            return JSONResponse({"error": "The stand-in answers format=json only."}, status_code=400)
        trouble = self._hostility.trouble(next(self._requests))
        if trouble in _INSTEAD:
            return _INSTEAD[trouble]()
        if trouble is Trouble.SLOW:
            await asyncio.sleep(self._hostility.slow_s)
        body = await run_in_threadpool(self._body, read_query(request.query_params))
        return _sent(body, trouble)

    def _body(self, query: Query) -> bytes:
        users = self._users(query)
        touched = [self._hostility.touched(user, f"{query.seed}:{query.start + i}") for i, user in enumerate(users)]
        info = {"seed": query.seed, "results": len(users), "page": query.page, "version": VERSION}
        return msgspec.json.encode({"results": [_only(query.fields, user) for user in touched], "info": info})


class CutResponse(Response):
    """Half of the content, under a Content-Length for all of it; the server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


def make_app(users: UserSource = made_users, hostility: Hostility | None = None) -> Starlette:
    """The stand-in as an ASGI app; calm unless `hostility` is given."""
    endpoint: Callable[[Request], Awaitable[Response]] = Standin(users, hostility or Hostility()).answer
    return Starlette(routes=[*(Route(path, endpoint) for path in PATHS), Route("/health", _health)])


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


_INSTEAD: dict[Trouble, Callable[[], Response]] = {
    Trouble.THROTTLED: lambda: JSONResponse(
        {"error": "Whoa, ease up. You have asked for too many users."}, status_code=429, headers={"Retry-After": "1"}
    ),
    Trouble.OVERLOADED: lambda: PlainTextResponse("Service Unavailable", status_code=503),
    Trouble.ERROR: lambda: JSONResponse({"error": "Uh oh, something has gone wrong."}),
}


def _sent(body: bytes, trouble: Trouble) -> Response:
    if trouble is Trouble.CUT:
        return CutResponse(body, media_type="application/json")
    if trouble is Trouble.TRUNCATED:
        body = body[: len(body) // 2]
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-cache"})


def _listed(text: str) -> tuple[str, ...]:
    return tuple(item for item in (part.strip() for part in text.split(",")) if item)


def _bounded(text: str, most: int) -> int:
    """The number written in `text`; 1 when there is none, or when it is not from 1 to `most`."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most else 1


def _only(fields: Sequence[str], user: dict[str, Any]) -> dict[str, Any]:
    return {field: user[field] for field in fields if field in user}
