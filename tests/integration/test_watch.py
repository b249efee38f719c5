"""The watcher with real services, and what `status` shows of services that end by themselves."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock import config
from penstock.broker import topics
from penstock.broker.kafka import create_producer
from penstock.config import Settings
from penstock.contract.batch import BatchSummary
from penstock.errors import Unreachable
from penstock.monitoring.poller import Poller
from penstock.monitoring.snapshot import Receipt, Snapshot
from penstock.produce.send import Sender
from penstock.retry import wait_until
from penstock.sink import cassandra, ledger, receipts
from tests.conftest import Stack, environment_of


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Stack]:
    """A separate stack that starts only its smallest services."""
    hasty = {"PENSTOCK_WATCH_S": "1", "PENSTOCK_ALERT_DOWN_S": "3"}
    stack = Stack(environment_of(tmp_path / "home", 20_000) | hasty)
    yield stack
    assert stack.cli("down").returncode == 0


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a webhook, and what it received."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/very-secret", taken
    server.shutdown()
    server.server_close()


def of(stack: Stack, service: str) -> dict[str, Any]:
    """Return what `status` shows of the service."""
    (result,) = json.loads(stack.cli("status", service, "--json").stdout)
    return dict(result)


def once(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds."""

    def holds() -> None:
        if not condition():
            raise Unreachable(what)

    wait_until(holds, timeout_s=90, what=what)


def test_an_outage_sends_one_alert_and_one_resolution(small: Stack, hook: Any) -> None:
    """Kafka is stopped, the watcher is killed and restarted, Kafka is started again: one alert, and its resolution."""
    url, taken = hook
    small.environment["PENSTOCK_ALERT_WEBHOOK_URL"] = url

    def read_changes() -> list[str]:
        return [item["change"] for item in taken if item["subject"] == "kafka"]

    assert small.cli("up", "kafka").returncode == 0
    assert small.cli("up", "watch").returncode == 0
    assert small.cli("down", "kafka").returncode == 0
    once(lambda: read_changes() == ["firing"], "the alert")
    (fires,) = [item for item in small.json("alerts") if item["subject"] == "kafka"]
    assert (fires["name"], fires["command"]) == ("service_down", "./penstock status kafka")
    assert small.cli("watch", "--once").returncode == 1
    assert "another alert watcher is running" in small.cli("watch").stderr
    before = of(small, "watch")
    os.kill(before["pid"], signal.SIGKILL)
    once(lambda: of(small, "watch")["pid"] not in {0, before["pid"]}, "the watch")
    assert small.cli("up", "kafka", "watch").returncode == 0
    once(lambda: read_changes() == ["firing", "resolved"], "the end of the alert")
    history = [item["change"] for item in small.json("alerts", "--all") if item["subject"] == "kafka"]
    assert history == ["firing", "resolved"]
    assert "very-secret" not in (small.settings.home / "logs" / "watch.log").read_text()


def test_status_counts_restarts_after_failures(small: Stack) -> None:
    """kill -9 is counted and shown; a requested restart is not."""
    small.cli("up", "watch")
    first = of(small, "watch")
    assert (first["restarts"], first["detail"]) == (0, "")
    os.kill(first["pid"], signal.SIGKILL)
    once(lambda: of(small, "watch")["restarts"] == 1, "the restart")
    once(lambda: small.cli("status", "watch").returncode == 0, "the watch")
    result = of(small, "watch")
    assert result["detail"].startswith("last unexpected exit: killed by signal 9, ")
    assert small.cli("restart", "watch").returncode == 0
    assert of(small, "watch")["restarts"] == 1


def test_a_killed_supervisor_leaves_services_unsupervised(small: Stack) -> None:
    """Services that still run are not shown as stopped, work without a reader of their logs, and `up` repairs it."""
    small.cli("up", "watch")
    pid = of(small, "watch")["pid"]
    psutil.Process(pid).parent().kill()  # type: ignore[union-attr]
    once(lambda: of(small, "watch")["state"] == "unsupervised", "the supervisor's end")
    once(lambda: bool(small.json("alerts")), "an alert, which the watch logs")
    done = small.cli("status", "watch")
    assert done.returncode == 1
    assert "./penstock up" in done.stderr
    assert of(small, "watch")["pid"] == pid
    assert small.cli("up", "watch").returncode == 0
    assert of(small, "watch")["state"] == "ready"


def test_a_running_stack_has_no_service_down(stack: Stack) -> None:
    """Every service is found where the settings say."""
    document = json.loads(stack.cli("watch", "--once", "--json").stdout)
    assert [item["message"] for item in document if item["name"] == "service_down"] == []


def test_the_watcher_is_small(stack: Stack) -> None:
    """It always runs: below 90 MiB, and below 2 % of a core while idle."""
    result = of(stack, "watch")
    assert 0 < result["rss_mib"] < 90
    process = psutil.Process(result["pid"])
    before, began = process.cpu_times(), time.monotonic()
    threading.Event().wait(30)
    after = process.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    assert used_s / (time.monotonic() - began) < 0.02


def test_the_snapshot_matches_the_services(settings: Settings, unique: str, pipeline_file: Any) -> None:
    """Lag, received records, dead letters, and the last receipt: as in Kafka and Cassandra."""
    here = config.read(**{**settings.plain(), "pipeline": str(pipeline_file()), "cassandra_keyspace": unique})
    poller = Poller(here)
    try:
        seen(poller, lag_records=0, topic_records=0)
        topics.ensure_topic(here, unique)
        topics.ensure_topic(here, f"{unique}.dlq")
        seen(poller, topic_records=0, newest_record_s=None)
        send(here, unique, 100)
        send(here, f"{unique}.dlq", 7)
        snapshot = seen(poller, lag_records=100, topic_records=100, dead_letter_records=7)
        assert snapshot.growth is not None
        assert (snapshot.growth.received, snapshot.growth.rejected) == (100, 7)
        assert snapshot.newest_record_s is not None
        assert abs(time.time() - snapshot.newest_record_s) < 60
        write_ledger_and_receipt(here, unique)
        seen(poller, lag_records=0, receipt=Receipt(False, 3, ("email: null",)))
    finally:
        poller.close()


def seen(poller: Poller, **wanted: Any) -> Snapshot:
    """Return the first snapshot with this property. A poll of a new topic or of a slow service shows nothing."""

    def poll_once() -> Snapshot:
        snapshot = poller.read_snapshot()
        shown = {name: getattr(snapshot, name) for name in wanted}
        if shown != wanted:
            raise Unreachable(f"{shown}, not {wanted}: {snapshot.services}")
        return snapshot

    return wait_until(poll_once, timeout_s=30, what="the gauges")


def send(settings: Settings, topic: str, records: int) -> None:
    with Sender(create_producer(settings), topic, 30) as sender:
        for number in range(records):
            sender.send(b"%d" % number, b"{}", [])


def write_ledger_and_receipt(settings: Settings, topic: str) -> None:
    """Everything is stored as by a job, and a receipt still says that something is missing."""
    with cassandra.open_session(settings) as session:
        session.execute(
            f"CREATE KEYSPACE {topic} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        )
        ledger.create_tables(session, topic)
        receipts.create_table(session, topic)
        epoch_us = ledger.begin_generation(session, topic, topic, topics.fetch_topic_id(settings, topic))
        book = ledger.Ledger(session, topic, topic, epoch_us)
        spans = [span for span in topics.fetch_offset_ranges(settings, topic) if span.records]
        book.write("job", 1, [summary(span) for span in spans])
        receipt = {"balanced": False, "missing": 3, "warnings": ["email: null"]}
        receipts.write_receipt(session, topic, topic, datetime.now(UTC), receipt)


def summary(span: topics.OffsetRange) -> BatchSummary:
    return BatchSummary(
        partition=span.partition,
        first_offset=span.first,
        last_offset=span.end - 1,
        records=span.records,
        stored=span.records,
        deleted=0,
        rejected=0,
        filtered=0,
        stored_at_ms=1_000,
        nulls={},
        latencies={},
    )
