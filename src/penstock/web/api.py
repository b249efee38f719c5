"""Read-only JSON API under /api/v1, documented at /api/v1/openapi.json. It covers everything the pages show.

Errors are `{"error": ..., "hint": ...}`: 400 for an invalid request, 404 if the resource does not exist, 503 if a
service is unavailable, 502 for any other failure.
"""

from importlib import import_module
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from starlette.requests import Request
from starlette.responses import JSONResponse

from penstock import __version__
from penstock.errors import NotFound, PenstockError, Unreachable, UsageError
from penstock.web.app_context import AppContext
from penstock.web.security import SESSION

PARTS = ("pipeline", "topics", "schemas", "stream", "table", "runs", "rejected", "health")


def register(app: FastAPI, context: AppContext) -> None:
    """Mount the API at /api/v1."""
    api = FastAPI(
        title="penstock",
        version=__version__,
        description="Read-only access to everything that the control center shows.",
        docs_url=None,
        redoc_url=None,
    )
    api.state.context = context
    for name in PARTS:
        import_module(f"penstock.web.{name}.api").register(api, context)
    api.add_exception_handler(PenstockError, handle_error)
    app.mount("/api/v1", api)


def handle_error(_request: Request, error: Exception) -> JSONResponse:
    """Translate a `PenstockError` into an HTTP response."""
    assert isinstance(error, PenstockError)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 502)
    return JSONResponse({"error": error.message, "hint": error.hint}, status_code=status)


_STATUS: tuple[tuple[type[PenstockError], int], ...] = ((NotFound, 404), (UsageError, 400), (Unreachable, 503))


def _shows_personal(
    request: Request,
    personal: Annotated[
        bool, Query(description="Return personal data unmasked. The request is recorded in the audit log.")
    ] = False,
) -> bool:
    if personal:
        session = request.scope.get(SESSION)
        who = session.name if session else f"api@{request.client.host if request.client else 'unknown'}"
        request.app.state.context.audit_log.record(who, "personal_data", request.url.path, "shown")
    return personal


ShowsPersonal = Annotated[bool, Depends(_shows_personal)]
"""Whether the caller requested unmasked personal data. Such a request is recorded in the audit log."""
