"""A real browser on the control center of the test stack."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.conftest import ROOT, Stack

SHOTS = Path(os.environ.get("PENSTOCK_SHOTS", ROOT / ".penstock" / "shots"))
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the installed Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """Record a page's errors, and its requests to other hosts."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.errors: list[str] = []
        self.foreign: list[str] = []

    def watch(self, page: Page) -> None:
        """Record the errors and requests of a page."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._address, self._address.replace("http", "ws"), "data:", "blob:")):
            self.foreign.append(request.url)


@pytest.fixture
def address(stack: Stack) -> str:
    """Return the address of the test stack's control center."""
    return f"http://127.0.0.1:{stack.settings.control_port}"


@pytest.fixture
def context(browser: Browser, address: str) -> Iterator[BrowserContext]:
    """Create a new browser profile."""
    context = browser.new_context(base_url=address, viewport={"width": 1360, "height": 900}, color_scheme="light")
    context.set_default_timeout(20_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """Return a page that may neither log an error nor request another host."""
    watched = Watched(address)
    page = context.new_page()
    watched.watch(page)
    yield page
    assert watched.errors == []
    assert watched.foreign == []


@pytest.fixture
def shot(page: Page) -> Callable[[str], None]:
    """Return a function that saves a screenshot of the page in .penstock/shots."""

    def take(name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    return take
