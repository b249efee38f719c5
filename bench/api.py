"""Stand-in for the random user API at negligible cost: `python -m bench.api PORT USERS`.

Users are generated at startup. Requests cycle through them.
"""

import sys
from collections.abc import Iterable
from itertools import cycle, islice

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.config import LOOPBACK
from penstock.source.nationalities import NATIONALITIES
from penstock.source.people import GENDERS, make_user


def make_users(number: int) -> list[bytes]:
    """Generate this many users as JSON."""
    nats = tuple(NATIONALITIES)
    return [msgspec.json.encode(make_user("bench", index, nats, GENDERS)) for index in range(number)]


def render_page(users: Iterable[bytes]) -> bytes:
    """Render a response body with these users."""
    return b'{"results":[' + b",".join(users) + b"]}"


def build_app(users: int) -> Starlette:
    """Build the API with this many users."""
    endless = cycle(make_users(users))

    async def respond(request: Request) -> Response:
        page = islice(endless, int(request.query_params.get("results", "1")))
        return Response(render_page(page), media_type="application/json")

    async def health(_: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    return Starlette(routes=[Route("/api/", respond), Route("/health", health)])


if __name__ == "__main__":
    port, users = map(int, sys.argv[1:])
    uvicorn.run(build_app(users), host=LOOPBACK, port=port, log_level="warning")
