"""The Health page: services, their logs, settings; and no secret anywhere."""

import json
import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from penstock.stack import layout
from tests.conftest import Stack

expect.set_options(timeout=20_000)

PATHS = ["/health", "/health?part=settings", "/health?part=audit", "/health?part=alerts", "/health/logs/airflow-api"]


def test_every_service_is_healthy_with_version_ports_and_memory(
    page: Page, stack: Stack, shot: Callable[[str], None]
) -> None:
    """One row each; the control center itself cannot be restarted from its page."""
    page.goto("/health")
    services = stack.json("status")
    for service in services:
        row = page.get_by_role("row").filter(has=page.get_by_text(service["name"], exact=True)).first
        expect(row).to_contain_text("ready")
        for port in service["ports"].values():
            expect(row).to_contain_text(str(port))
        expect(row).to_contain_text(service["version"])
    expect(page.get_by_text(f"{len(services)} of {len(services)} services are ready")).to_be_visible()
    expect(page.get_by_role("button", name="Restart kafka")).to_be_visible()
    expect(page.get_by_role("button", name="Restart control-center")).to_have_count(0)
    expect(page.get_by_text("data/cassandra")).to_be_visible()
    shot("health")


def test_a_log_is_searched_and_followed(page: Page, stack: Stack, unique: str, shot: Callable[[str], None]) -> None:
    """A search filters lines; new lines appear; the URL holds the search."""
    path = layout.resolve_layout(stack.settings).log("watch")
    page.goto("/health")
    with path.open("a") as log:
        log.write(f"2026-01-01T00:00:00Z [warning  ] {unique}-first <b>no markup</b>\n")
    page.get_by_role("row").filter(has_text="Alert watcher").get_by_role("link", name="Log").click()
    lines = page.get_by_role("log")
    expect(lines.locator(".level-warning").filter(has_text=f"{unique}-first <b>no markup</b>")).to_be_visible()
    page.get_by_label("Search the log").fill(unique.upper())
    expect(lines.locator("[class^=level-]")).to_have_count(1)
    with path.open("a") as log:
        log.write(f"{unique}-second\nanother line\n")
    expect(lines).to_contain_text(f"{unique}-second")
    expect(lines).not_to_contain_text("another line")
    expect(page).to_have_url(re.compile(f"search={unique.upper()}"))
    shot("health-log")
    page.reload()
    expect(page.get_by_role("log").locator("[class^=level-]")).to_have_count(2)


def test_settings_are_searched(page: Page) -> None:
    """By name, value or meaning."""
    page.goto("/health?part=settings")
    page.get_by_label("Search settings").fill("airflow_password")
    row = page.get_by_role("row").filter(has_text="PENSTOCK_AIRFLOW_PASSWORD")
    expect(row).to_contain_text("******")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page).to_have_url(re.compile("search=airflow_password"))
    page.reload()
    expect(page.get_by_role("row")).to_have_count(2)


def test_no_page_shows_a_secret(page: Page, stack: Stack) -> None:
    """No content of the secrets file is on any page, even if it is in a log."""
    secrets = json.loads(layout.resolve_layout(stack.settings).credentials.read_text())
    with layout.resolve_layout(stack.settings).log("airflow-api").open("a") as log:
        log.writelines(f"{name} is {value}, https://me:{value}@host/\n" for name, value in secrets.items())
    page.goto("/health")
    for path in PATHS:
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        if "logs" in path:
            expect(page.get_by_role("log")).to_contain_text("airflow_fernet_key is ******")
        content = page.content()
        assert [name for name, value in secrets.items() if value in content] == [], path


def test_a_service_is_restarted_and_recorded_in_the_audit_log(page: Page, stack: Stack) -> None:
    """After the viewer confirmed it; the others stay up."""
    before = {service["name"]: service["pid"] for service in stack.json("status")}
    page.goto("/health")
    page.get_by_role("button", name="Restart watch").click()
    page.get_by_role("dialog").get_by_role("button", name="Restart").click()
    expect(page.get_by_text("restart: done")).to_be_visible(timeout=120_000)
    after = {service["name"]: service["pid"] for service in stack.json("status")}
    assert {name for name, pid in before.items() if after[name] != pid} == {"watch"}
    page.goto("/health?part=audit")
    row = page.get_by_role("row").filter(has_text="restart").first
    expect(row).to_contain_text("watch")
    expect(row).to_contain_text("done")


def test_an_unknown_log_is_an_error(page: Page) -> None:
    """It names the known services."""
    page.goto("/health")
    page.goto("/health/logs/nothing")
    expect(page.get_by_role("alert")).to_contain_text("unknown service 'nothing'")
