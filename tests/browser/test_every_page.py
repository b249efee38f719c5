"""Checks of every page: accessibility, phone width, both color schemes, keyboard."""

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.conftest import Stack

PATHS = (
    "/",
    "/topics",
    "/topics/users_created",
    "/topics/users_created/settings",
    "/topics/users_created/produce",
    "/groups",
    "/schemas",
    "/schemas/users_created-value",
    "/stream",
    "/table",
    "/runs",
    "/rejected",
    "/health",
    "/health?part=settings",
    "/health?part=audit",
    "/health?part=alerts",
    "/health/logs/spark-job",
)
_RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


@pytest.fixture(scope="session")
def carried(stack: Stack) -> None:
    """Run once, so that every page has records."""
    assert stack.json("run", "--records", "100")["stored"] == 100


def opened(page: Page, path: str) -> None:
    """Open a page and wait until it has loaded."""
    page.goto(path)
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_accessible(page: Page, carried: None, path: str, scheme: str) -> None:
    """axe-core finds nothing that WCAG 2.1 AA forbids, contrast included."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    opened(page, path)
    violations = Axe().run(page, options=_RULES).response["violations"]
    result = [f"{rule['id']}: {rule['help']}: {[node['target'] for node in rule['nodes']][:5]}" for rule in violations]
    assert result == []


@pytest.mark.parametrize("path", PATHS)
def test_a_page_fits_a_phone(page: Page, carried: None, path: str) -> None:
    """At 320 pixels, only tables and pagination scroll sideways (WCAG 1.4.10, reflow)."""
    page.set_viewport_size({"width": 320, "height": 844})
    opened(page, path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("path", PATHS)
def test_a_screenshot_of_a_page_is_saved(page: Page, carried: None, path: str, shot: Callable[[str], None]) -> None:
    """For review by eye."""
    opened(page, path)
    shot(re.sub(r"\W+", "-", path.strip("/")) or "pipeline-idle")


def test_the_first_tab_key_leads_to_the_content(page: Page) -> None:
    """Tab focuses the link that skips the navigation, and Enter follows it."""
    opened(page, "/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_pages_are_reached_by_keyboard(page: Page) -> None:
    """The navigation follows the skip link, and Enter opens a page."""
    opened(page, "/")
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Topics")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Topics")


def test_the_color_scheme_is_kept(page: Page) -> None:
    """Dark, light or the browser's preference, on every page."""
    opened(page, "/")
    page.get_by_role("button", name="Theme: system").click()
    expect(page.locator("body.body--dark")).to_be_visible()
    opened(page, "/runs")
    expect(page.locator("body.body--dark")).to_be_visible()


def test_a_name_is_copied(page: Page, carried: None) -> None:
    """The copy button puts it on the clipboard."""
    opened(page, "/schemas/users_created-value")
    page.get_by_role("button", name="Copy the subject's name").click()
    assert page.evaluate("navigator.clipboard.readText()") == "users_created-value"


def test_showing_personal_data_is_recorded(page: Page, stack: Stack) -> None:
    """It is hidden by default; showing it is recorded in the audit log."""
    opened(page, "/table")
    expect(page.locator("td", has_text="•••").first).to_be_visible()
    page.get_by_role("button", name="Personal data: hidden").click()
    expect(page.get_by_role("button", name="Personal data: shown")).to_be_visible()
    expect(page.locator("td", has_text="@").first).to_be_visible()
    trail = (stack.settings.home / "data" / "audit.jsonl").read_text()
    assert '"action":"personal_data"' in trail


def test_twenty_open_pages_keep_refreshing(browser: Browser, address: str) -> None:
    """All of them are open at the same time."""
    context = browser.new_context(base_url=address)
    pages = [context.new_page() for _ in range(20)]
    for page in pages:
        page.goto("/", wait_until="commit")
    for page in pages:
        expect(page.locator("#hop-kafka .rate")).to_be_visible(timeout=60_000)
    context.close()
