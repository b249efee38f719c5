"""A control center with a password, and pages of other sites, in a real browser."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.conftest import ROOT, Stack, _free_port

PASSWORD = "correct horse"
_READY_S = 90.0


class Served(NamedTuple):
    """A separate control center; its data directory contains its audit log."""

    address: str
    home: Path

    def audit_entries(self) -> list[dict[str, str]]:
        path = self.home / "data" / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def ask(self, path: str, **more: Any) -> httpx2.Response:
        return httpx2.get(f"{self.address}{path}", timeout=20, trust_env=False, **more)


def _command(port: int) -> list[str]:
    return [sys.executable, "-m", "penstock.cli", "control", "--port", str(port)]


def _serve(stack: Stack, home: Path, **more: str) -> Iterator[Served]:
    port = _free_port()
    environment = os.environ | stack.environment | {"PENSTOCK_HOME": str(home)} | more
    process = subprocess.Popen(
        _command(port), env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield _ready(Served(f"http://127.0.0.1:{port}", home), process)
    finally:
        process.terminate()
        process.wait(20)


def _ready(served: Served, process: "subprocess.Popen[bytes]") -> Served:
    end_s = time.monotonic() + _READY_S
    while time.monotonic() < end_s:
        assert process.poll() is None, f"it ended with {process.returncode}"
        try:
            if served.ask("/health/ready").status_code == 200:
                return served
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready in {_READY_S:g} s")


@pytest.fixture(scope="module")
def locked(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A control center that requires the password."""
    yield from _serve(stack, tmp_path_factory.mktemp("locked"), PENSTOCK_CONTROL_PASSWORD=PASSWORD)


@pytest.fixture(scope="module")
def unlocked(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A control center that requires no password."""
    yield from _serve(stack, tmp_path_factory.mktemp("unlocked"))


@pytest.fixture
def stranger(browser: Browser) -> Iterator[BrowserContext]:
    """A new browser profile."""
    context = browser.new_context()
    context.set_default_timeout(20_000)
    yield context
    context.close()


def sign_in(page: Page, address: str, password: str = PASSWORD) -> None:
    page.goto(f"{address}/sign-in")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_every_page_requires_the_password(locked: Served, stranger: BrowserContext) -> None:
    """A page leads to the login form, a wrong password stays there and is recorded, the right one leads to the page."""
    page = stranger.new_page()
    page.goto(f"{locked.address}/topics")
    expect(page).to_have_url(re.compile("/sign-in"))
    assert stranger.cookies() == []
    page.get_by_label("Password").fill("wrong horse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Wrong password.")
    assert {"action": "sign_in", "outcome": "wrong password"}.items() <= locked.audit_entries()[-1].items()
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{locked.address}/topics")
    expect(page.locator("main h1")).to_have_text("Topics")
    assert {"action": "sign_in", "outcome": "done"}.items() <= locked.audit_entries()[-1].items()
    assert "horse" not in json.dumps(locked.audit_entries())


def test_cookies_are_protected(locked: Served, stranger: BrowserContext) -> None:
    """Every cookie is HttpOnly and SameSite=Strict: no script sees one, no other site sends one."""
    page = stranger.new_page()
    sign_in(page, locked.address)
    expect(page.locator("main h1")).to_have_text("Pipeline")
    assert stranger.cookies()
    assert {(cookie["httpOnly"], cookie["sameSite"]) for cookie in stranger.cookies()} == {(True, "Strict")}
    assert page.evaluate("document.cookie") == ""


def test_signing_out_ends_the_session(locked: Served, stranger: BrowserContext) -> None:
    """The previous cookie gives no access any more; the sign-out is recorded."""
    page = stranger.new_page()
    sign_in(page, locked.address)
    expect(page.locator("main h1")).to_have_text("Pipeline")
    (cookie,) = stranger.cookies()
    jar = {cookie["name"]: cookie["value"]}
    assert locked.ask("/", cookies=jar).status_code == 200
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))
    assert locked.ask("/", cookies=jar).status_code == 303
    assert locked.ask("/api/v1/pipeline", cookies=jar).status_code == 401
    assert [entry["outcome"] for entry in locked.audit_entries() if entry["action"] == "sign_out"][-1] == "done"


def test_signing_out_closes_the_other_tab(locked: Served, stranger: BrowserContext) -> None:
    """A page that is still open elsewhere shows nothing new: its websocket is closed."""
    other, page = stranger.new_page(), stranger.new_page()
    closed: list[bool] = []
    other.on("websocket", lambda socket: socket.on("close", lambda _: closed.append(True)))
    sign_in(other, locked.address)
    expect(other.locator("main h1")).to_have_text("Pipeline")
    page.goto(locked.address)
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))
    other.wait_for_timeout(15_000)
    assert closed


def test_programs_send_the_password(locked: Served) -> None:
    """API and metrics: 401 without, 200 with it by HTTP Basic; health is open."""
    for path in ("/api/v1/pipeline", "/api/v1/openapi.json", "/metrics"):
        assert locked.ask(path).status_code == 401
        assert locked.ask(path, auth=("any", "wrong horse and so on")).status_code == 401
        assert locked.ask(path, auth=("any", PASSWORD)).status_code == 200
    for path in ("/health/live", "/health/ready"):
        assert locked.ask(path).status_code == 200


def test_another_host_name_is_rejected(unlocked: Served) -> None:
    """421 for a host name that is not ours, whatever it resolves to."""
    for path in ("/", "/api/v1/pipeline", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"):
        assert unlocked.ask(path, headers={"Host": "evil.test:9021"}).status_code == 421


def test_another_address_without_a_password_is_rejected(stack: Stack, tmp_path: Path) -> None:
    """It does not start: exit code 2, and a message that names both variables."""
    done = stack.cli("control", PENSTOCK_CONTROL_HOST="0.0.0.0", PENSTOCK_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "PENSTOCK_CONTROL_PASSWORD is required with PENSTOCK_CONTROL_HOST=0.0.0.0" in done.stderr
    assert "Traceback" not in done.stderr


def test_showing_personal_data_is_recorded(unlocked: Served, stranger: BrowserContext) -> None:
    """By the switch on the page, and by the API's parameter."""
    page = stranger.new_page()
    page.goto(unlocked.address)
    page.get_by_role("button", name="Personal data: hidden").click()
    expect(page.get_by_role("button", name="Personal data: shown")).to_be_visible()
    assert {"action": "personal_data", "outcome": "shown"}.items() <= unlocked.audit_entries()[-1].items()
    page.get_by_role("button", name="Personal data: shown").click()
    expect(page.get_by_role("button", name="Personal data: hidden")).to_be_visible()
    assert {"action": "personal_data", "outcome": "hidden"}.items() <= unlocked.audit_entries()[-1].items()
    path = _personal_path(unlocked)
    before = len(unlocked.audit_entries())
    unlocked.ask(f"/api/v1{path}")
    assert len(unlocked.audit_entries()) == before
    unlocked.ask(f"/api/v1{path}?personal=true")
    assert unlocked.audit_entries()[-1]["subject"] == f"/api/v1{path}"


def _personal_path(served: Served) -> str:
    """A route that can show personal data, with placeholders for its parameters."""
    document = served.ask("/api/v1/openapi.json").json()
    for path, methods in document["paths"].items():
        if any(item["name"] == "personal" for item in methods["get"].get("parameters", [])):
            return re.sub(r"{[^}]*}", "0", path)
    raise AssertionError("no route shows personal data")


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A page of another origin."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title><h1>elsewhere</h1>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of another origin on this host; browsers treat it as the same site and send cookies to it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lured(unlocked: Served, elsewhere: str, stranger: BrowserContext) -> Page:
    """A viewer with a session here who opens a page of another origin."""
    page = stranger.new_page()
    page.goto(unlocked.address)
    expect(page.locator("main h1")).to_have_text("Pipeline")
    page.goto(elsewhere)
    return page


FETCHES = {
    "reads a page": ("/", {}),
    "reads the API": ("/api/v1/pipeline", {}),
    "reads with the cookie": ("/api/v1/pipeline", {"credentials": "include"}),
    "reads metrics": ("/metrics", {"credentials": "include"}),
    "polls the socket": ("/_nicegui_ws/socket.io/?EIO=4&transport=polling", {"credentials": "include"}),
    "posts to the socket": (
        "/_nicegui_ws/socket.io/?EIO=4&transport=polling",
        {"method": "POST", "body": "40", "credentials": "include"},
    ),
    "posts": ("/", {"method": "POST", "body": "a=b", "credentials": "include"}),
    "sends a header of its own": ("/api/v1/pipeline", {"headers": {"X-Own": "1"}}),
}


@pytest.mark.parametrize("what", FETCHES)
def test_another_origin_reads_nothing(unlocked: Served, lured: Page, what: str) -> None:
    """The browser does not give the page a response; and what it sends without asking for one is rejected."""
    path, options = FETCHES[what]
    script = "async ([to, how]) => { try { await fetch(to, how); return 'read' } catch { return 'refused' } }"
    assert lured.evaluate(script, [unlocked.address + path, options]) == "refused"
    if "headers" not in options:
        with lured.expect_response(lambda item: item.url.startswith(unlocked.address)) as answered:
            lured.evaluate(script, [unlocked.address + path, {**options, "mode": "no-cors"}])
        assert answered.value.status == 403


def test_another_origin_opens_no_websocket(unlocked: Served, lured: Page) -> None:
    """Although websockets have no same-origin rule, and the cookie is sent."""
    script = """to => new Promise(done => {
        const socket = new WebSocket(to)
        socket.onopen = () => done('open')
        socket.onclose = () => done('closed')
    })"""
    address = unlocked.address.replace("http", "ws")
    assert lured.evaluate(script, f"{address}/_nicegui_ws/socket.io/?EIO=4&transport=websocket") == "closed"


def test_another_origin_can_neither_frame_nor_submit(unlocked: Served, lured: Page) -> None:
    """A frame stays empty, a form that is sent here is rejected; a link may lead here."""
    lured.evaluate(
        "to => { const f = document.createElement('iframe'); f.src = to; document.body.append(f) }", unlocked.address
    )
    frame = lured.frame_locator("iframe")
    expect(frame.locator("main")).to_have_count(0)
    script = """to => {
        const form = document.createElement('form')
        form.method = 'post'
        form.action = to
        document.body.append(form)
        form.submit()
    }"""
    with lured.expect_navigation() as gone:
        lured.evaluate(script, unlocked.address + "/")
    assert gone.value is not None
    assert gone.value.status == 403


def test_a_page_survives_a_restart(stack: Stack, tmp_path: Path, stranger: BrowserContext) -> None:
    """Sessions are lost with the process; an open page reconnects by itself."""
    page = stranger.new_page()
    port, environment = _free_port(), os.environ | stack.environment | {"PENSTOCK_HOME": str(tmp_path)}
    served = Served(f"http://127.0.0.1:{port}", tmp_path)
    start: Callable[[], subprocess.Popen[bytes]] = lambda: subprocess.Popen(  # noqa: E731
        _command(port), env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    process = start()
    try:
        _ready(served, process)
        page.goto(served.address)
        expect(page.locator(".verdict")).to_be_visible()
        page.evaluate("window.isOld = true")
        process.terminate()
        process.wait(20)
        process = start()
        _ready(served, process)
        page.wait_for_function("!window.isOld", timeout=40_000)
        expect(page.locator(".verdict")).to_be_visible()
    finally:
        process.terminate()
        process.wait(20)
