"""The first page: throughput, the state of each stage, and problems."""

import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
from playwright.sync_api import Page, expect

from penstock.errors import Unreachable
from penstock.retry import wait_until
from tests.conftest import Stack


def count(page: Page, stage: str) -> int:
    """Return the total on a stage's card."""
    text = page.locator(f"#hop-{stage} .told").first.inner_text()
    total = re.match(r"[\d,]+", text)
    return int(total[0].replace(",", "")) if total else -1


def wait_for_count(page: Page, stage: str, least: int) -> None:
    """Wait until a stage's total is at least `least`: the scheduled run may add to it."""

    def check() -> None:
        if (total := count(page, stage)) < least:
            raise Unreachable(f"{stage} has {total}, not {least}")

    wait_until(check, timeout_s=60, what=stage)


def test_counters_update_during_a_run(page: Page, stack: Stack, shot: Callable[[str], None]) -> None:
    """Each stage counts a run's records without reloading the page, and the summary says Healthy."""
    page.goto("/")
    expect(page.locator("#hop-cassandra .told").first).to_have_text(re.compile(r"^[\d,]+ stored"))
    before = {stage: count(page, stage) for stage in ("kafka", "spark", "cassandra")}
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(stack.json, "run", "--records", "400")
        expect(page.locator(".verdict")).to_contain_text("Healthy", timeout=60_000)
        shot("pipeline")
        assert run.result()["stored"] == 400
    for stage, total in before.items():
        wait_for_count(page, stage, total + 400)
    expect(page.locator(".chart svg")).to_have_count(2)


def test_a_killed_cassandra_is_shown_until_it_has_recovered(
    page: Page, stack: Stack, shot: Callable[[str], None]
) -> None:
    """It is shown within ten seconds with a command; after recovery, its error is gone."""
    page.goto("/")
    expect(page.locator("#hop-cassandra")).not_to_have_class(re.compile("down"))
    os.kill(stack.json("status", "cassandra")[0]["pid"], signal.SIGKILL)
    killed_s = time.monotonic()
    expect(page.locator("#hop-cassandra")).to_have_class(re.compile("down"), timeout=10_000)
    assert time.monotonic() - killed_s < 10
    expect(page.locator("#hop-cassandra")).to_contain_text("./penstock status cassandra")
    expect(page.locator(".verdict")).to_contain_text("cassandra is unavailable")
    expect(page.locator("#hop-kafka .told").first).to_have_text(re.compile(r"^[\d,]+ received"))
    shot("pipeline-cassandra-away")
    page.goto("/table")
    expect(page.get_by_role("alert").first).to_be_visible()
    page.goto("/")
    expect(page.locator("#hop-cassandra")).not_to_have_class(re.compile("down"), timeout=120_000)
    expect(page.locator("#hop-cassandra .wrong")).to_have_count(0)


def test_an_unresponsive_service_does_not_block_other_pages(page: Page, stack: Stack) -> None:
    """Cassandra is suspended: it is shown as unavailable, and the other pages keep working."""
    process = psutil.Process(stack.json("status", "cassandra")[0]["pid"])
    page.goto("/")
    process.suspend()
    try:
        expect(page.locator("#hop-cassandra")).to_have_class(re.compile("down"), timeout=30_000)
        expect(page.locator(".verdict")).to_contain_text("cassandra")
        page.goto("/topics")
        expect(page.get_by_role("link", name="users_created", exact=True)).to_be_visible()
        page.goto("/runs")
        expect(page.get_by_role("region", name="Runs").get_by_role("row").nth(1)).to_be_visible()
        page.goto("/schemas")
        expect(page.get_by_role("link", name="users_created-value")).to_be_visible()
    finally:
        process.resume()
    page.goto("/")
    expect(page.locator("#hop-cassandra")).not_to_have_class(re.compile("down"), timeout=60_000)


def test_the_last_receipt_is_shown_with_the_viewers_times(page: Page, stack: Stack) -> None:
    """All records of these tests balance; times are in the viewer's zone, and UTC on hover."""
    assert stack.cli("verify").returncode == 0
    page.goto("/")
    receipt = page.locator("section", has=page.get_by_role("heading", name="Last receipt"))
    in_utc = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d.\d{3} UTC$")
    expect(receipt.locator("local-time").first).to_have_attribute("title", in_utc, timeout=30_000)
    expect(receipt.locator(".state.good")).to_contain_text("balanced")
