"""The Stream page: its micro-batches, and its job stopped and started."""

import json
import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.conftest import Stack


def test_micro_batches_appear_as_records_arrive(page: Page, stack: Stack, shot: Callable[[str], None]) -> None:
    """Without reloading the page: in the table, with links to the records, and in the charts."""
    page.goto("/stream")
    expect(page.locator("#stream-state")).to_contain_text("running", timeout=60_000)
    newest = page.get_by_role("region", name="Newest micro-batches").locator("tbody tr").first
    before = newest.inner_text() if newest.is_visible() else ""
    assert stack.json("run", "--records", "120")["stored"] == 120
    expect(newest).not_to_have_text(before or "-", timeout=30_000)
    expect(newest.get_by_role("link").first).to_have_attribute("href", re.compile(r"^/topics/users_created/messages/"))
    expect(page.locator(".chart svg")).to_have_count(3)
    expect(page.get_by_text("reads, validates and writes the records")).to_be_visible()
    shot("stream")


def test_spark_uis_are_linked(page: Page, stack: Stack) -> None:
    """The UIs of this stack, and the executors of the application."""
    page.goto("/stream")
    ports = {"job": "spark_job_ui_port", "master": "spark_ui_port", "worker": "spark_worker_ui_port"}
    for name, port in ports.items():
        link = page.locator(".spark-pages").get_by_role("link", name=name)
        expect(link).to_have_attribute("href", f"http://127.0.0.1:{getattr(stack.settings, port)}")
        expect(link).to_have_attribute("rel", "noopener")
    expect(page.get_by_text("Executors")).to_be_visible(timeout=30_000)


def test_the_job_is_stopped_and_started_from_the_page(page: Page, stack: Stack, shot: Callable[[str], None]) -> None:
    """It needs confirmation, and its progress is shown."""
    state = page.locator("#stream-state")
    page.goto("/stream")
    try:
        expect(state).to_contain_text("running", timeout=60_000)
        page.get_by_role("button", name="Stop the job").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop the job").click()
        expect(page.get_by_role("button", name="Stopping")).to_be_disabled()
        expect(state).to_contain_text("none are lost", timeout=90_000)
        expect(page.get_by_role("button", name="Start the job")).to_be_enabled(timeout=90_000)
        assert json.loads(stack.cli("status", "spark-job", "--json").stdout)[0]["state"] == "stopped"
        shot("stream-stopped")
        page.get_by_role("button", name="Start the job").click()
        expect(page.get_by_role("button", name="Starting")).to_be_disabled()
        expect(page.get_by_role("button", name="Stop the job")).to_be_enabled(timeout=300_000)
        expect(state).to_contain_text("running", timeout=60_000)
    finally:
        assert stack.cli("up", "spark-job").returncode == 0
