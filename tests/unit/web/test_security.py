"""The security middleware as an intruder meets it, before an application that would reveal everything."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from penstock import config
from penstock.config import Settings
from penstock.errors import WrongSettings
from penstock.web.audit_log import AuditLog
from penstock.web.security import SESSION, SecurityMiddleware
from penstock.web.sessions import COOKIE, Sessions

HOST = "127.0.0.1:9021"
PASSWORD = "correct-horse"
SOCKET = f"ws://{HOST}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
POLLING = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"


async def _tells(request: Request) -> JSONResponse:
    session = request.scope.get(SESSION)
    return JSONResponse({"told": request.url.path, "signed_in": session is not None and session.signed_in})


async def _talks(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        return


def guarded(settings: Settings) -> SecurityMiddleware:
    methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
    app = Starlette(
        routes=[WebSocketRoute("/{path:path}", _talks), Route("/{path:path}", _tells, methods=methods)],
    )
    return SecurityMiddleware(app, settings, Sessions(), AuditLog(settings))


def settings_of(home: Path, **more: str) -> Settings:
    return config.read(home=home, **more)


@pytest.fixture
def guard(tmp_path: Path) -> SecurityMiddleware:
    return guarded(settings_of(tmp_path, control_password=PASSWORD))


@pytest.fixture
def viewer(guard: SecurityMiddleware) -> TestClient:
    """A browser without a session."""
    return TestClient(guard, base_url=f"http://{HOST}", follow_redirects=False, raise_server_exceptions=False)


@pytest.fixture
def open_viewer(tmp_path: Path) -> TestClient:
    """A browser of a control center without a password."""
    app = guarded(settings_of(tmp_path))
    return TestClient(app, base_url=f"http://{HOST}", follow_redirects=False, raise_server_exceptions=False)


def sign_in(viewer: TestClient, password: str = PASSWORD) -> Any:
    return viewer.post("/sign-in", data={"password": password})


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"any:{password}".encode()).decode()}


def read_audit_log(home: Path) -> str:
    path = home / "data" / "audit.jsonl"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("path", ["/", "/topics/users_created", "/favicon.ico", "//topics", "/%74opics", "/health"])
def test_pages_redirect_to_the_sign_in(viewer: TestClient, path: str) -> None:
    """However a page's path is written."""
    answer = viewer.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?to=")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/v1/pipeline", "/metrics", "/api/../topics"])
def test_no_method_bypasses_the_sign_in(viewer: TestClient, method: str, path: str) -> None:
    """Not even methods that browsers do not use."""
    assert viewer.request(method, path).status_code in {303, 401}


@pytest.mark.parametrize(
    "host", ["evil.test", "127.0.0.1.evil.test", "127.0.0.1@evil.test", "evil.test:9021", "", "[::2]:9021", "10.0.0.1"]
)
def test_another_host_name_is_rejected(open_viewer: TestClient, host: str) -> None:
    """421, for a page, the API and the socket alike."""
    for path in ("/", "/api/v1/pipeline", POLLING):
        assert open_viewer.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:9021", "LOCALHOST", "[::1]:9021", "pipes.test:443", "Pipes.Test"]
)
def test_our_host_names_are_accepted(tmp_path: Path, host: str) -> None:
    """Loopback in any notation, and the configured names, in any case."""
    viewer = TestClient(guarded(settings_of(tmp_path, control_names="pipes.test, other.test")))
    assert viewer.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(("name", "value"), [("Host", "[::1"), ("Host", "["), ("Origin", "http://[::1")])
def test_an_invalid_host_header_is_rejected(open_viewer: TestClient, name: str, value: str) -> None:
    """It gets a response, not an internal error."""
    assert open_viewer.get("/", headers={name: value}).status_code in {400, 403, 421}


@pytest.mark.parametrize(
    "host", [f"{HOST}/health/live?", f"{HOST}/sign-in#", f"{HOST}/_nicegui/", "127.0.0.1:9021?/health/"]
)
def test_a_path_in_the_host_header_opens_nothing(viewer: TestClient, host: str) -> None:
    """Only the path of the request determines what is open."""
    for path in ("/topics", "/api/v1/pipeline"):
        assert viewer.get(path, headers={"Host": host}).status_code in {303, 400, 401, 421}


CROSS_SITE = [
    {"Origin": "http://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:8000"},
    {"Origin": "http://127.0.0.1:9021.evil.test"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "websocket"},
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
@pytest.mark.parametrize("path", ["/", "/api/v1/pipeline", "/metrics", POLLING, "/sign-in"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_requests_of_another_site_are_rejected(
    open_viewer: TestClient, headers: dict[str, str], path: str, method: str
) -> None:
    """Reading, sending and preflight; nothing says that the other site may read the response."""
    answer = open_viewer.request(method, path, headers=headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_another_site_may_link_here_and_not_post_here(open_viewer: TestClient) -> None:
    """A link is followed; a form of another site is rejected."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert open_viewer.get("/", headers=headers).status_code == 200
    assert open_viewer.post("/", headers=headers).status_code == 403


@pytest.mark.parametrize("headers", [*CROSS_SITE, {"Host": "evil.test"}], ids=str)
def test_another_site_cannot_open_the_websocket(open_viewer: TestClient, headers: dict[str, str]) -> None:
    """Although the browser sends the cookie, as to another port of this host."""
    open_viewer.get("/")
    assert COOKIE in open_viewer.cookies
    with pytest.raises(WebSocketDisconnect), open_viewer.websocket_connect(SOCKET, headers=headers):
        pass


def test_the_websocket_needs_a_session(open_viewer: TestClient, viewer: TestClient) -> None:
    """Also without a password; with one, a signed-in session. Long polling alike."""
    for item in (open_viewer, viewer):
        with pytest.raises(WebSocketDisconnect), item.websocket_connect(SOCKET):
            pass
        for path in (POLLING, POLLING.replace("_", "%5F", 1)):
            assert item.get(path).status_code == 403
    open_viewer.get("/")
    sign_in(viewer)
    for item in (open_viewer, viewer):
        with item.websocket_connect(SOCKET) as socket:
            socket.send_text("here")
            assert socket.receive_text() == "here"


def test_signing_out_closes_the_websockets(guard: SecurityMiddleware, viewer: TestClient) -> None:
    """A page that is still open in another tab gets nothing more once its session has ended."""
    sign_in(viewer)
    with viewer.websocket_connect(SOCKET) as socket:
        session = guard._sessions.find(viewer.cookies[COOKIE])
        assert session is not None
        guard._sessions.end(session)
        socket.send_text("what do you store of Ann?")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()


def test_the_right_password_signs_in(viewer: TestClient, tmp_path: Path) -> None:
    """It leads to the requested page, with a new session; both attempts are in the audit log, the password is not."""
    wrong = sign_in(viewer, "wrong-secret")
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    right = viewer.post("/sign-in?to=/topics", data={"password": PASSWORD})
    assert (right.status_code, right.headers["location"]) == (303, "/topics")
    assert viewer.get("/topics").json()["signed_in"]
    assert '"outcome":"wrong password"' in read_audit_log(tmp_path)
    assert '"outcome":"done"' in read_audit_log(tmp_path)
    assert PASSWORD not in read_audit_log(tmp_path)
    assert "wrong-secret" not in read_audit_log(tmp_path)
    assert viewer.cookies[COOKIE] not in read_audit_log(tmp_path)


def test_a_session_before_the_sign_in_is_invalidated(viewer: TestClient, guard: SecurityMiddleware) -> None:
    """An attacker who planted a cookie in a browser is not signed in with its user."""
    planted = guard._sessions.begin("1.2.3.4")
    viewer.cookies.set(COOKIE, planted.token, domain="127.0.0.1")
    answer = sign_in(viewer)
    assert planted.token not in answer.headers["set-cookie"]
    assert not planted.signed_in
    attacker = TestClient(guard, base_url=f"http://{HOST}", follow_redirects=False, cookies={COOKIE: planted.token})
    assert attacker.get("/").status_code == 303


def test_cookies_are_for_this_site_and_no_script(viewer: TestClient, open_viewer: TestClient) -> None:
    """Each is HttpOnly and SameSite=Strict; over TLS also Secure."""
    secure = TestClient(open_viewer.app, base_url="https://127.0.0.1")
    for answer in (sign_in(viewer), open_viewer.get("/"), secure.get("/")):
        parts = {part.strip() for part in answer.headers["set-cookie"].split(";")}
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= parts
        assert ("Secure" in parts) == (answer.url.scheme == "https")


@pytest.mark.parametrize("path", ["/api/v1/pipeline", "/metrics"])
def test_programs_send_the_password(viewer: TestClient, path: str) -> None:
    """By HTTP Basic, with any user; 401 says so. Malformed credentials are rejected."""
    assert viewer.get(path).headers["www-authenticate"].startswith("Basic")
    assert viewer.get(path, headers=basic(PASSWORD)).status_code == 200
    for text in (
        "Basic",
        "Basic ====",
        "Basic \xff",
        f"Bearer {PASSWORD}",
        "Basic " + b64encode(b"\xff:\xff").decode(),
    ):
        assert viewer.get(path, headers={"Authorization": text.encode("latin-1")}).status_code == 401
    assert viewer.get("/", headers=basic(PASSWORD)).status_code == 303


def test_many_wrong_passwords_lock_out_the_address(viewer: TestClient) -> None:
    """The sixth is rejected even if it is right; the form and the API are counted separately."""
    for _ in range(5):
        assert sign_in(viewer, "x").status_code == 401
    assert sign_in(viewer).status_code == 429
    assert viewer.get("/metrics", headers=basic(PASSWORD)).status_code == 200
    for _ in range(5):
        assert viewer.get("/metrics", headers=basic("x")).status_code == 401
    assert viewer.get("/metrics", headers=basic(PASSWORD)).status_code == 401


def test_a_program_with_an_old_password_does_not_lock_out_people(viewer: TestClient) -> None:
    """A Prometheus with the old password scrapes every few seconds; people can still sign in."""
    for _ in range(20):
        viewer.get("/metrics", headers=basic("last-year"))
    assert sign_in(viewer).status_code == 303


def test_wrong_passwords_of_programs_are_recorded(viewer: TestClient, tmp_path: Path) -> None:
    """Guessing through the API is recorded, too."""
    viewer.get("/api/v1/pipeline", headers=basic("guess"))
    assert "wrong password" in read_audit_log(tmp_path)


def test_a_deep_link_survives_the_sign_in(viewer: TestClient) -> None:
    """Including its query."""
    form = viewer.get(viewer.get("/topics/t?from=newest&partition=2").headers["location"])
    action = form.text.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
    answer = viewer.post(action, data={"password": PASSWORD})
    assert answer.headers["location"] == "/topics/t?from=newest&partition=2"


@pytest.mark.parametrize(
    "to", ["//evil.test", "/\\evil.test", "https://evil.test", "/\t/evil.test", "", "javascript:x"]
)
def test_the_sign_in_redirects_to_no_other_site(viewer: TestClient, to: str) -> None:
    """Whatever the link to it contains."""
    answer = viewer.post("/sign-in", params={"to": to}, data={"password": PASSWORD})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"a=1&b=2&c=3", "application/x-www-form-urlencoded"),
        (b"password=" + b"x" * 20_000, "application/x-www-form-urlencoded"),
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=b"),
    ],
    ids=["fields", "long", "no boundary", "torn"],
)
def test_a_forged_form_is_rejected(viewer: TestClient, content: bytes, kind: str) -> None:
    """A client that has not signed in cannot cause an internal error."""
    answer = viewer.post("/sign-in", content=content, headers={"Content-Type": kind})
    assert answer.status_code in {400, 401, 413}


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/sign-in"])
def test_health_and_the_form_are_open(viewer: TestClient, path: str) -> None:
    """They require no sign-in."""
    assert viewer.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/health/kafka", "/health/logs/kafka", "/sign-in/x", "/sign-inx"])
def test_nothing_else_is_open(viewer: TestClient, path: str) -> None:
    """A page whose path starts alike is not, and every page has a session."""
    assert viewer.get(path).status_code == 303


def test_every_page_below_health_has_a_session(open_viewer: TestClient) -> None:
    """Also if it is the first that a viewer opens."""
    assert open_viewer.get("/health/logs/kafka").json()["signed_in"]


def test_health_is_served_under_any_name(viewer: TestClient) -> None:
    """A probe or a load balancer uses an address; the response reveals nothing that a foreign page could use."""
    assert viewer.get("/health/live", headers={"Host": "10.1.2.3:9021"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/v1/pipeline"])
def test_no_response_is_cached_by_the_browser(open_viewer: TestClient, path: str) -> None:
    """The next user of the same computer finds nothing in its cache."""
    assert "no-store" in open_viewer.get(path).headers.get("cache-control", "")


def test_responses_cannot_be_framed_or_sniffed(open_viewer: TestClient, viewer: TestClient) -> None:
    """Rejections, too."""
    for answer in (
        open_viewer.get("/"),
        viewer.get("/"),
        viewer.get("/sign-in"),
        viewer.get("/", headers=CROSS_SITE[0]),
    ):
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_another_site_cannot_flood_the_audit_log(open_viewer: TestClient, tmp_path: Path) -> None:
    """Otherwise it could push out earlier entries, at 5 MB per file."""
    for _ in range(60):
        open_viewer.get("/" + "x" * 1000, headers={"Origin": "http://evil.test"})
    assert len(read_audit_log(tmp_path)) < 10_000


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "pipes.test"])
def test_another_address_requires_a_password(host: str) -> None:
    """Otherwise nothing starts, and the message names the variable."""
    with pytest.raises(WrongSettings, match="PENSTOCK_CONTROL_PASSWORD is required") as caught:
        config.read(control_host=host)
    assert caught.value.exit_code == 2
    assert config.read(control_host=host, control_password="x").control_host == host


def test_a_page_starts_a_session(open_viewer: TestClient, guard: SecurityMiddleware) -> None:
    """The first page sets the cookie, the next ones use it; API and assets set none."""
    assert "set-cookie" not in open_viewer.get("/api/v1/pipeline").headers
    assert "set-cookie" not in open_viewer.get("/assets/penstock.css").headers
    assert "set-cookie" in open_viewer.get("/").headers
    assert "set-cookie" not in open_viewer.get("/").headers


def test_a_cookie_made_up_by_the_viewer_is_invalid(viewer: TestClient) -> None:
    """A token that was not issued opens nothing."""
    for token in ("x", "x" * 43, ""):
        viewer.cookies.set(COOKIE, token, domain="127.0.0.1")
        assert viewer.get("/").status_code == 303


def test_our_own_page_may_send_requests(open_viewer: TestClient) -> None:
    """They have our own origin, in any case of the name."""
    for headers in ({"Origin": f"http://{HOST}"}, {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}):
        assert open_viewer.post("/", headers=headers).status_code == 200


def test_sessions_expire_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By age, by signing out, and the least recently used if there are too many."""
    monkeypatch.setattr("penstock.web.sessions._MOST", 2)
    sessions = Sessions()
    first, second = sessions.begin("a"), sessions.begin("b")
    assert sessions.find(first.token) is first
    third = sessions.begin("c")
    assert (sessions.find(second.token), second.ended) == (None, True)
    sessions.end(first)
    assert (sessions.find(first.token), first.ended) == (None, True)
    third.began_s -= 13 * 3600
    assert (sessions.find(third.token), third.ended) == (None, True)
