"""Measure the cost of the control center: first paint of each page, CPU time and memory with open pages.

Requires Chromium and the extras `dev` and `stack`. With `--bootstrap`, also measures the time to open the page of a
topic with a million messages, which is created for that and deleted afterwards.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Browser, Page, Request, sync_playwright

PAGES = ("/", "/topics", "/schemas", "/stream", "/table", "/runs", "/rejected", "/health")
LARGE_RECORDS, LARGE_BYTES = 1_000_000, 100
_LARGE = "penstock.bench.large"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_PAINT = "performance.getEntriesByType('paint').find(e => e.name == 'first-contentful-paint')?.startTime"


class PageTiming(NamedTuple):
    """Timings of one page load, in ms. `shown_ms` ends when the page has loaded and its heading is visible."""

    first_paint_ms: float
    shown_ms: float
    external: list[str]


class Usage(NamedTuple):
    """Usage of a process over an interval: percent of one core, resident memory."""

    cpu_percent: float
    memory_mib: float


def open_page(browser: Browser, address: str, path: str, wait_for: str = "main h1") -> PageTiming:
    """Open a page in a fresh browser context, without cache or cookies."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page, external = context.new_page(), list[str]()
    page.on("request", lambda request: _record_external(request, address, external))
    started_s = time.monotonic()
    page.goto(address + path, wait_until="load")
    page.wait_for_selector(wait_for, timeout=30_000)
    shown_ms = (time.monotonic() - started_s) * 1000
    page.wait_for_function(f"{_PAINT} !== undefined", timeout=30_000)
    painted_ms = float(page.evaluate(_PAINT))
    context.close()
    return PageTiming(painted_ms, shown_ms, external)


def _record_external(request: Request, address: str, external: list[str]) -> None:
    scheme, host = urlsplit(request.url).scheme, urlsplit(request.url).netloc
    if scheme not in {"data", "blob"} and host != urlsplit(address).netloc:
        external.append(request.url)


def measure_load(process: psutil.Process, seconds: float) -> Usage:
    """Measure a process for this many seconds."""
    process.cpu_percent()
    time.sleep(seconds)
    return Usage(process.cpu_percent(), process.memory_info().rss / 2**20)


@contextmanager
def open_idle_pages(browser: Browser, address: str, count: int, path: str = "/") -> Iterator[list[Page]]:
    """Keep this many pages open and idle, each in its own browser context."""
    contexts = [browser.new_context() for _ in range(count)]
    pages = []
    for context in contexts:
        page = context.new_page()
        page.goto(address + path, wait_until="load")
        page.wait_for_selector("main h1", timeout=60_000)
        pages.append(page)
    yield pages
    for context in contexts:
        context.close()


@contextmanager
def create_large_topic(bootstrap: str) -> Iterator[str]:
    """Create a topic with a million messages of 100 bytes. Deleted on exit."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(_LARGE, 4, 1)])[_LARGE].result(30)
    try:
        producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": "lz4"})
        for number in range(LARGE_RECORDS):
            while True:
                try:
                    producer.produce(_LARGE, key=b"%d" % number, value=b"%0*d" % (LARGE_BYTES, number))
                    break
                except BufferError:
                    producer.poll(0.5)
            if number % 1000 == 0:
                producer.poll(0)
        if producer.flush(120):
            raise SystemExit("not all messages were acknowledged within 120 s")
        yield _LARGE
    finally:
        admin.delete_topics([_LARGE])[_LARGE].result(30)


def measure_page(browser: Browser, address: str, path: str, rounds: int) -> dict[str, object]:
    """Load a page repeatedly and return the medians."""
    loads = [open_page(browser, address, path) for _ in range(rounds)]
    return {
        "page": path,
        "first_paint_ms": round(statistics.median(load.first_paint_ms for load in loads)),
        "shown_ms": round(statistics.median(load.shown_ms for load in loads)),
        "requests_to_other_hosts": sum(len(load.external) for load in loads),
    }


def print_table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print a Markdown table."""
    if rows:
        sys.stdout.write(f"\n{title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}\n")
        sys.stdout.writelines(f"| {' | '.join(map(str, row.values()))} |\n" for row in rows)
        sys.stdout.flush()


def measure_control_center(browser: Browser, options: argparse.Namespace) -> None:
    """Run all measurements and print each table when it is complete."""
    process = psutil.Process(options.pid)
    print_table("Pages", [measure_page(browser, options.address, path, options.rounds) for path in options.pages])
    loads = []
    for count in (0, 1, 20):
        with open_idle_pages(browser, options.address, count):
            time.sleep(5)  # exclude the cost of loading the pages
            usage = measure_load(process, options.seconds)
        loads.append(
            {"open_pages": count, "cpu_percent": round(usage.cpu_percent, 1), "memory_mib": round(usage.memory_mib)}
        )
    print_table(f"Control center, {options.seconds:g} s each", loads)
    if options.bootstrap:
        with create_large_topic(options.bootstrap) as topic:
            before_mib = process.memory_info().rss / 2**20
            paths = [f"/topics/{topic}", f"/topics/{topic}/messages/0/100000"]
            print_table(
                "A topic of 1,000,000 messages",
                [measure_page(browser, options.address, path, options.rounds) for path in paths],
            )
            growth = {"growth_mib": round(process.memory_info().rss / 2**20 - before_mib)}
            print_table("Memory growth", [growth])


def main() -> None:
    """Parse the command line and print the measurements as tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="http://127.0.0.1:9021")
    parser.add_argument("--pid", type=int, required=True, help="process id of the control center")
    parser.add_argument("--bootstrap", default="", help="Kafka, to measure a large topic")
    parser.add_argument("--seconds", type=float, default=30.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="loads of each page")
    parser.add_argument("--pages", nargs="*", default=PAGES)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        sys.stdout.write(f"{json.dumps({'cores': psutil.cpu_count(), 'load': psutil.getloadavg()})}\n")
        measure_control_center(browser, options)
        browser.close()


if __name__ == "__main__":
    main()
