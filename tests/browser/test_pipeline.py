"""The first page: whether data flow, where they are, and what is wrong."""

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


def count(page: Page, hop: str) -> int:
    """What a hop tells of its total."""
    told = page.locator(f"#hop-{hop} .told").first.inner_text()
    found = re.match(r"[\d,]+", told)
    return int(found[0].replace(",", "")) if found else -1


def counted_up(page: Page, hop: str, least: int) -> None:
    """Return once a hop tells of so many, or of more: the day's own run may come between."""

    def told() -> None:
        if (found := count(page, hop)) < least:
            raise Unreachable(f"{hop} tells {found}, not {least}")

    wait_until(told, timeout_s=60, what=hop)


def test_the_counters_move_while_a_run_goes_on(page: Page, stack: Stack, shot: Callable[[str], None]) -> None:
    """Each hop counts a run's records without the page being loaded again, and the verdict says that they flow."""
    page.goto("/")
    expect(page.locator("#hop-cassandra .told").first).to_have_text(re.compile(r"^[\d,]+ stored"))
    before = {hop: count(page, hop) for hop in ("kafka", "spark", "cassandra")}
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(stack.json, "run", "--records", "400")
        expect(page.locator(".verdict")).to_contain_text("Records flow", timeout=60_000)
        shot("pipeline")
        assert run.result()["stored"] == 400
    for hop, counted in before.items():
        counted_up(page, hop, counted + 400)
    expect(page.locator(".chart svg")).to_have_count(2)


def test_a_killed_cassandra_is_shown_and_its_return_too(page: Page, stack: Stack, shot: Callable[[str], None]) -> None:
    """It is shown within ten seconds with what to type; the page goes on, and shows when it is back."""
    page.goto("/")
    expect(page.locator("#hop-cassandra")).not_to_have_class(re.compile("down"))
    os.kill(stack.json("status", "cassandra")[0]["pid"], signal.SIGKILL)
    killed_s = time.monotonic()
    expect(page.locator("#hop-cassandra")).to_have_class(re.compile("down"), timeout=10_000)
    assert time.monotonic() - killed_s < 10
    expect(page.locator("#hop-cassandra")).to_contain_text("./penstock status cassandra")
    expect(page.locator(".verdict")).to_contain_text("cassandra is away")
    expect(page.locator("#hop-kafka .told").first).to_have_text(re.compile(r"^[\d,]+ received"))
    shot("pipeline-cassandra-away")
    page.goto("/table")
    expect(page.get_by_role("alert").first).to_be_visible()
    page.goto("/")
    expect(page.locator("#hop-cassandra")).not_to_have_class(re.compile("down"), timeout=120_000)
    expect(page.locator("#hop-cassandra")).to_contain_text("last error")


def test_a_service_that_hangs_holds_up_no_other_page(page: Page, stack: Stack) -> None:
    """Cassandra stands still, and answers nothing: it is shown as away, and what the others tell is shown as ever."""
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
    """All that the tests carried here balances; times are the viewer's, and UTC on hover."""
    assert stack.cli("verify").returncode == 0
    page.goto("/")
    receipt = page.locator("section", has=page.get_by_role("heading", name="Last receipt"))
    in_utc = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d.\d{3} UTC$")
    expect(receipt.locator("local-time").first).to_have_attribute("title", in_utc, timeout=30_000)
    expect(receipt.locator(".state.good")).to_contain_text("balanced")
