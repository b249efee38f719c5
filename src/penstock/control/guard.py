"""Who may ask: every request passes here before the application.

- The host name must be ours: a page elsewhere cannot reach us under a name of its own (DNS rebinding).
- What a page of another site sends is refused, unless it only leads here by a link: its `Origin`, or the browser's
  `Sec-Fetch-Site`, tells.
- With a password set, pages need a session that signed in, and programs HTTP Basic authentication with any user name.
- All that acts goes through the pages' websocket, which needs a session as long as it is open; its cookie is
  SameSite=Strict.

https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import base64
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.config import LOOPBACKS, Settings
from penstock.control import sign_in
from penstock.control.password import Password
from penstock.control.sessions import COOKIE, Session, Sessions
from penstock.control.trail import Trail
from penstock.log import get_logger

log = get_logger(__name__)

SESSION = "penstock.session"
"""Where a request's scope holds the session."""
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


class Guard:
    """The application behind its guard; an ASGI application itself."""

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions, trail: Trail) -> None:
        self._app = app
        self._sessions = sessions
        self._trail = trail
        self._password = Password(settings.control_password.get_secret_value())
        own = {settings.control_host, *filter(None, settings.control_names.replace(" ", "").split(","))}
        self._names = LOOPBACKS | {name.lower() for name in own}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        session = self._sessions.find(request.cookies.get(COOKIE))
        answer = await self._answer(request, session, receive)
        if answer is not None:
            await _send(answer, scope, receive, send)
            return
        cookie = None
        if session is None and _is_page(scope):
            session = self._sessions.begin(_address(request), signed_in=not self._password.is_set)
            cookie = _cookie(session, request)
        scope[SESSION] = session
        if scope["type"] == "websocket" and session is not None:
            await self._app(scope, self._while_it_lasts(session, receive, send), self._unless_ended(session, send))
        else:
            await self._app(scope, receive, _with_headers(send, scope["path"], cookie))

    async def _answer(self, request: HTTPConnection, session: Session | None, receive: Receive) -> Response | None:
        """The answer to a request that does not pass."""
        path = request.scope["path"]
        if path in _PROBES:
            return None
        if refusal := self._refusal(request):
            return refusal
        if path == _SIGN_IN and request.scope["type"] == "http":
            return await self._sign_in(Request(request.scope, receive))
        return self._unknown(request, session)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        """The answer to a request that comes from elsewhere."""
        host = request.headers.get("host", "")
        name = _name(host)
        if name not in self._names:
            return PlainTextResponse(
                f"penstock does not answer to the name {name!r}: set PENSTOCK_CONTROL_NAMES\n", status_code=421
            )
        if _is_cross_site(request, host):
            log.warning("cross_site_request", address=_address(request), path=request.scope["path"])
            return PlainTextResponse("penstock refuses what another site sends\n", status_code=403)
        return None

    def _unknown(self, request: HTTPConnection, session: Session | None) -> Response | None:
        """The answer to a viewer who has to sign in first."""
        path = request.scope["path"]
        if path.startswith(_ASSETS):
            return None
        if path.startswith(_SOCKET):
            known = session is not None and session.signed_in
            return None if known else PlainTextResponse("no session: load the page again\n", status_code=403)
        if not self._password.is_set or (session is not None and session.signed_in):
            return None
        if not path.startswith(_PROGRAMS):
            query = request.scope["query_string"].decode("latin-1")
            return RedirectResponse(f"{_SIGN_IN}?to={quote(f'{path}?{query}' if query else path)}", status_code=303)
        return None if self._is_known_program(request) else _UNAUTHORIZED

    def _is_known_program(self, request: HTTPConnection) -> bool:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            _, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except ValueError:
            return False
        return self._knows(password, request, "api")

    async def _sign_in(self, request: Request) -> Response:
        """The form, or what becomes of it."""
        to = sign_in.safe_path(request.query_params.get("to", "/"))
        if not self._password.is_set:
            return RedirectResponse("/", status_code=303)
        if request.method != "POST":
            return HTMLResponse(sign_in.form(to))
        if self._password.is_closed("form", _address(request)):
            return HTMLResponse(sign_in.form(to, "Too many tries. Wait a minute."), status_code=429)
        if not self._knows(await _typed(request), request, "form"):
            return HTMLResponse(sign_in.form(to, "That is not the password."), status_code=401)
        session = self._sessions.begin(_address(request), signed_in=True)
        self._trail.note(session.name, "sign_in", "", "done")
        answer = RedirectResponse(to, status_code=303)
        answer.headers["Set-Cookie"] = _cookie(session, request)
        return answer

    def _knows(self, password: str, request: HTTPConnection, door: str) -> bool:
        """Whether it is the password; a wrong one is written down."""
        address = _address(request)
        if self._password.is_closed(door, address):
            return False
        if self._password.is_right(password, door, address):
            return True
        self._trail.note(address, "sign_in", door, "wrong password")
        return False

    def _while_it_lasts(self, session: Session, receive: Receive, send: Send) -> Receive:
        """What a websocket receives, until its session ends: then it is closed."""

        async def wrapped() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and self._sessions.find(session.token) is None:
                await send({"type": "websocket.close", "code": 4403})
                return {"type": "websocket.disconnect", "code": 4403}
            return message

        return wrapped

    def _unless_ended(self, session: Session, send: Send) -> Send:
        """Nothing more goes out once the session has ended."""

        async def wrapped(message: Message) -> None:
            if message["type"] != "websocket.send" or self._sessions.find(session.token) is not None:
                await send(message)

        return wrapped


_UNAUTHORIZED = JSONResponse(
    {"error": "sign in, or send the password by HTTP Basic authentication", "hint": "curl -u any:PASSWORD"},
    status_code=401,
    headers={"WWW-Authenticate": 'Basic realm="penstock"'},
)


async def _typed(request: Request) -> str:
    """The password in a form; none when it is not ours, or too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]


def _is_cross_site(request: HTTPConnection, host: str) -> bool:
    origin = request.headers.get("origin")
    if origin is not None and _netloc(origin) != host.lower():
        return True
    is_link = request.scope["type"] == "http" and request.headers.get("sec-fetch-mode") == "navigate"
    if is_link and request.scope["method"] in {"GET", "HEAD"}:
        return False
    return request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}


def _name(host: str) -> str:
    """The name in a Host header; empty when it is no address."""
    try:
        parts = urlsplit(f"//{host}")
        return "" if parts.path or parts.query or parts.fragment or "@" in host else (parts.hostname or "").lower()
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_page(scope: Scope) -> bool:
    path = scope["path"]
    return scope["type"] == "http" and path not in _PROBES and not path.startswith((*_PROGRAMS, *_ASSETS, _SOCKET))


def _address(request: HTTPConnection) -> str:
    return request.client.host if request.client else "unknown"


def _cookie(session: Session, request: HTTPConnection) -> str:
    """The session's cookie; over HTTPS, also behind a proxy that says so, it is never sent without."""
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


async def _send(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4403})
        return
    await answer(scope, receive, _with_headers(send, scope["path"]))
