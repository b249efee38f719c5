"""Security middleware: checks every request before it reaches the application.

- The `Host` header must name this server, which defeats DNS rebinding.
- Requests from other sites are rejected, judged by `Origin` or `Sec-Fetch-Site`; following a link to a page is allowed.
- If a password is set, pages require a signed-in session, and programs HTTP Basic authentication with any user name.
- Actions go through the pages' websocket, which requires a valid session for as long as it is open. The session cookie
  is SameSite=Strict.

https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import base64
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.config import LOOPBACKS, Settings
from penstock.log import get_logger
from penstock.web import sign_in
from penstock.web.audit_log import AuditLog
from penstock.web.password import Password
from penstock.web.sessions import COOKIE, Session, Sessions

log = get_logger(__name__)

SESSION = "penstock.session"
"""Key of the session in a request's ASGI scope."""
_SIGN_IN = "/sign-in"
_PROBES = frozenset({"/health/live", "/health/ready"})
_PROGRAMS = ("/api/", "/metrics")
_SOCKET = "/_nicegui_ws"
_ASSETS = ("/_nicegui/", "/assets/")
_FORM_BYTES = 10_000
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; form-action 'self'; "
        "base-uri 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecurityMiddleware:
    """Security middleware around the application; itself an ASGI application."""

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions, audit_log: AuditLog) -> None:
        self._app = app
        self._sessions = sessions
        self._audit_log = audit_log
        self._password = Password(settings.control_password.get_secret_value())
        own = {settings.control_host, *filter(None, settings.control_names.replace(" ", "").split(","))}
        self._names = LOOPBACKS | {name.lower() for name in own}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward an allowed request to the application; answer any other directly."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        session = self._sessions.find(request.cookies.get(COOKIE))
        response = await self._check_request(request, session, receive)
        if response is not None:
            await _send_response(response, scope, receive, send)
            return
        cookie = None
        if session is None and _is_page(scope):
            session = self._sessions.begin(_client_address(request), signed_in=not self._password.is_set)
            cookie = _cookie_header(session, request)
        scope[SESSION] = session
        if scope["type"] == "websocket" and session is not None:
            await self._app(
                scope, self._receive_while_valid(session, receive, send), self._send_while_valid(session, send)
            )
        else:
            await self._app(scope, receive, _with_headers(send, scope["path"], cookie))

    async def _check_request(
        self, request: HTTPConnection, session: Session | None, receive: Receive
    ) -> Response | None:
        """Return the response to a request that must not reach the application, or None to forward it."""
        path = request.scope["path"]
        if path in _PROBES:
            return None
        if rejection := self._check_origin(request):
            return rejection
        if path == _SIGN_IN and request.scope["type"] == "http":
            return await self._handle_sign_in(Request(request.scope, receive))
        return self._check_signed_in(request, session)

    def _check_origin(self, request: HTTPConnection) -> Response | None:
        """Return the response to a request with a foreign host name or origin, or None if it has neither."""
        host = request.headers.get("host", "")
        name = _host_name(host)
        if name not in self._names:
            return PlainTextResponse(f"unknown host name {name!r}: add it to PENSTOCK_CONTROL_NAMES\n", status_code=421)
        if _is_cross_site(request, host):
            log.warning("cross_site_request_rejected", address=_client_address(request), path=request.scope["path"])
            return PlainTextResponse("request from another site rejected\n", status_code=403)
        return None

    def _check_signed_in(self, request: HTTPConnection, session: Session | None) -> Response | None:
        """Return the response to a client that must sign in first, or None if it need not."""
        path = request.scope["path"]
        if path.startswith(_ASSETS):
            return None
        if path.startswith(_SOCKET):
            is_signed_in = session is not None and session.signed_in
            return None if is_signed_in else PlainTextResponse("no session: reload the page\n", status_code=403)
        if not self._password.is_set or (session is not None and session.signed_in):
            return None
        if not path.startswith(_PROGRAMS):
            query = request.scope["query_string"].decode("latin-1")
            return RedirectResponse(f"{_SIGN_IN}?to={quote(f'{path}?{query}' if query else path)}", status_code=303)
        return None if self._is_authorized(request) else _UNAUTHORIZED

    def _is_authorized(self, request: HTTPConnection) -> bool:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            _, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:
            return False
        return self._verify_password(password, request, "api")

    async def _handle_sign_in(self, request: Request) -> Response:
        """Serve the sign-in form, or handle its submission."""
        to = sign_in.safe_path(request.query_params.get("to", "/"))
        if not self._password.is_set:
            return RedirectResponse("/", status_code=303)
        if request.method != "POST":
            return HTMLResponse(sign_in.render_form(to))
        if self._password.is_locked_out("form", _client_address(request)):
            return HTMLResponse(sign_in.render_form(to, "Too many attempts. Wait a minute."), status_code=429)
        if not self._verify_password(await _read_password(request), request, "form"):
            return HTMLResponse(sign_in.render_form(to, "Wrong password."), status_code=401)
        session = self._sessions.begin(_client_address(request), signed_in=True)
        self._audit_log.record(session.name, "sign_in", "", "done")
        response = RedirectResponse(to, status_code=303)
        response.headers["Set-Cookie"] = _cookie_header(session, request)
        return response

    def _verify_password(self, password: str, request: HTTPConnection, auth_method: str) -> bool:
        """Return whether the password is right. A wrong one is audited; a locked-out address is always refused."""
        address = _client_address(request)
        if self._password.is_locked_out(auth_method, address):
            return False
        if self._password.verify(password, auth_method, address):
            return True
        self._audit_log.record(address, "sign_in", auth_method, "wrong password")
        return False

    def _receive_while_valid(self, session: Session, receive: Receive, send: Send) -> Receive:
        """Wrap `receive` to close the websocket at the first message after its session ended."""

        async def wrapped() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and self._sessions.find(session.token) is None:
                await send({"type": "websocket.close", "code": 4403})
                return {"type": "websocket.disconnect", "code": 4403}
            return message

        return wrapped

    def _send_while_valid(self, session: Session, send: Send) -> Send:
        """Wrap `send` to drop messages once the session has ended."""

        async def wrapped(message: Message) -> None:
            if message["type"] != "websocket.send" or self._sessions.find(session.token) is not None:
                await send(message)

        return wrapped


_UNAUTHORIZED = JSONResponse(
    {"error": "authentication required: sign in, or use HTTP Basic authentication", "hint": "curl -u any:PASSWORD"},
    status_code=401,
    headers={"WWW-Authenticate": 'Basic realm="penstock"'},
)


async def _read_password(request: Request) -> str:
    """Return the password from a submitted form; empty if the field is missing or the form is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]


def _is_cross_site(request: HTTPConnection, host: str) -> bool:
    origin = request.headers.get("origin")
    if origin is not None and _parse_netloc(origin) != host.lower():
        return True
    is_link = request.scope["type"] == "http" and request.headers.get("sec-fetch-mode") == "navigate"
    if is_link and request.scope["method"] in {"GET", "HEAD"}:
        return False
    return request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}


def _host_name(host: str) -> str:
    """Return the lower-case host name of a Host header, or an empty string if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        return "" if parts.path or parts.query or parts.fragment or "@" in host else (parts.hostname or "").lower()
    except ValueError:
        return ""


def _parse_netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_page(scope: Scope) -> bool:
    path = scope["path"]
    return scope["type"] == "http" and path not in _PROBES and not path.startswith((*_PROGRAMS, *_ASSETS, _SOCKET))


def _client_address(request: HTTPConnection) -> str:
    return request.client.host if request.client else "unknown"


def _cookie_header(session: Session, request: HTTPConnection) -> str:
    """Return the `Set-Cookie` value of a session.

    It is marked `Secure` over HTTPS, and behind a proxy that sets `X-Forwarded-Proto: https`.
    """
    is_secure = "https" in {request.url.scheme, request.headers.get("x-forwarded-proto")}
    return f"{COOKIE}={session.token}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if is_secure else ''}"


def _with_headers(send: Send, path: str, cookie: str | None = None) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if not path.startswith(_ASSETS):
                headers.setdefault("Cache-Control", "no-store")
            if cookie:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return wrapped


async def _send_response(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4403})
        return
    await response(scope, receive, _with_headers(send, scope["path"]))
