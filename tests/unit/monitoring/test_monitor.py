"""Counts, rates and latencies, poll by poll."""

import time
from dataclasses import replace
from typing import Any

import pytest
from cassandra import OperationTimedOut

from penstock.airflow.runs import DagRun
from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.contract.batch import BatchSummary
from penstock.errors import AirflowUnreachable
from penstock.monitoring import monitor
from penstock.monitoring.monitor import Monitor
from penstock.monitoring.poller import CassandraState, KafkaState, Poll, TopicState
from penstock.monitoring.snapshot import Counts, PartitionProgress, Snapshot, compute_rate
from penstock.produce import delivery_log
from penstock.produce.delivery_log import DeliveryLog
from penstock.sink.ledger import LedgerEntry
from tests.unit.fakes import FakeSession

RUN = DagRun("r1", "success", "manual", None, None, None, {}, asked=10, fetched=10, produced=9, refused=1)


def snapshot(at_s: float, **counts: int | None) -> Snapshot:
    return Snapshot(at_s, "t", counts=Counts(**counts))


def line(first: int, last: int, latencies: dict[int, int], job: str = "stream", partition: int = 0) -> LedgerEntry:
    records = last - first + 1
    now_ms = round(time.time() * 1000)
    return LedgerEntry(BatchSummary(partition, first, last, records, records, 0, 0, 0, now_ms, {}, latencies), 1, job)


class FakeBook:
    """A ledger with some entries."""

    def __init__(self, *lines: LedgerEntry, epoch_us: int = 7) -> None:
        self.lines, self.epoch_us = list(lines), epoch_us
        self.error: Exception | None = None

    def _begun(self, span: OffsetRange) -> list[LedgerEntry]:
        if self.error:
            raise self.error
        return [
            line
            for line in self.lines
            if line.summary.partition == span.partition and span.first <= line.summary.first_offset < span.end
        ]

    def begun_in(self, span: OffsetRange) -> Any:
        return iter(self._begun(span))

    def stored_in(self, span: OffsetRange) -> int:
        return sum(line.summary.stored for line in self._begun(span))


class FakePoller:
    """Returns the polls one after the other, the last one repeatedly."""

    def __init__(self) -> None:
        self.polls: list[Poll] = []
        self.closed = False

    def poll(self) -> Poll:
        return self.polls.pop(0) if len(self.polls) > 1 else self.polls[0]

    def session(self) -> FakeSession:
        return FakeSession()

    def close(self) -> None:
        self.closed = True


class FakeRuns:
    """Airflow's runs."""

    def __init__(self) -> None:
        self.found: list[DagRun] | Exception = [RUN]
        self.asked = 0

    def read(self) -> list[DagRun]:
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def totals(self) -> dict[str, int]:
        return {"fetched": 10, "produced": 9}

    def close(self) -> None:
        """Do nothing."""


def poll(book: FakeBook | None, end: int, reached: int | None, rejected: int = 0, **away: str) -> Poll:
    kafka = KafkaState(TopicState("a", [OffsetRange(0, 0, end)]), TopicState("b", [OffsetRange(0, 0, rejected)]), None)
    services = {"kafka": "", "cassandra": "", "airflow": ""} | away
    stored = CassandraState(
        None if reached is None else {0: reached},
        {"balanced": True, "missing": 0} if reached is not None else None,
        book,
    )
    return Poll(services, None if services["kafka"] else kafka, stored)


@pytest.fixture
def poller(monkeypatch: pytest.MonkeyPatch) -> FakePoller:
    poller = FakePoller()
    monkeypatch.setattr(monitor, "Poller", lambda settings: poller)
    return poller


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> FakeRuns:
    runs = FakeRuns()
    monkeypatch.setattr(monitor, "Runs", lambda settings: runs)
    return runs


@pytest.fixture
def watched(poller: FakePoller, runs: FakeRuns, tmp_path: Any) -> Monitor:
    return Monitor(read(home=tmp_path))


def test_a_rate_is_the_mean_of_ten_seconds() -> None:
    """Older snapshots do not count; without a second one there is none."""
    snapshots = [snapshot(at_s, kafka=kafka) for at_s, kafka in ((0, 0), (10, 900), (15, 950), (20, 1000))]
    assert compute_rate(snapshots, "kafka") == 10.0
    assert compute_rate(snapshots[:2], "kafka") == 90.0
    assert compute_rate(snapshots[:1], "kafka") is None


def test_an_unknown_rate_is_none() -> None:
    """A count that is unknown, or that fell because the topic was recreated, has no rate; zero is a rate."""
    assert compute_rate([snapshot(0, kafka=None), snapshot(2, kafka=5)], "kafka") is None
    assert compute_rate([snapshot(0, kafka=9), snapshot(2, kafka=None)], "kafka") is None
    assert compute_rate([snapshot(0, kafka=9), snapshot(2, kafka=5)], "kafka") is None
    assert compute_rate([snapshot(0, kafka=9), snapshot(2, kafka=9)], "kafka") == 0.0


def test_earlier_records_count_only_in_the_total(watched: Monitor, poller: FakePoller) -> None:
    """The first poll sums the ledger; latencies are those of what is written since."""
    book = FakeBook(line(0, 9, {100: 10}))
    poller.polls = [poll(book, 10, 10), poll(book, 14, 14)]
    watched.poll()
    now = watched.state.now
    assert now is not None
    assert (now.counts.stored, now.counts.read, now.lag_records, now.p50_ms) == (10, 10, 0, None)
    book.lines.append(line(10, 13, {250: 4}))
    watched.poll()
    now = watched.state.now
    assert now is not None
    assert (now.counts.stored, watched.state.latencies) == (14, {250: 4})
    assert now.p50_ms is not None
    assert 200 < now.p50_ms <= 250
    assert now.partitions == [PartitionProgress(0, 0, 14, 14)]


def test_a_replay_is_not_late(watched: Monitor, poller: FakePoller) -> None:
    """What a replay writes again counts neither as stored nor as a latency."""
    book = FakeBook()
    poller.polls = [poll(book, 0, 0), poll(book, 4, 4)]
    watched.poll()
    book.lines += [line(0, 3, {100: 4}), line(0, 3, {86_400_000: 4}, job="replay-1")]
    watched.poll()
    assert (watched.state.snapshots[-1].counts.stored, watched.state.latencies) == (4, {100: 4})


def test_a_ledger_that_is_unavailable_in_between_is_read_later(watched: Monitor, poller: FakePoller) -> None:
    """Nothing is counted twice or omitted."""
    book = FakeBook()
    poller.polls = [poll(book, 0, 0), poll(book, 4, 4), poll(book, 4, 4)]
    watched.poll()
    book.lines.append(line(0, 3, {100: 4}))
    book.error = OperationTimedOut()
    watched.poll()
    book.error = None
    watched.poll()
    assert (watched.state.snapshots[-1].counts.stored, watched.state.latencies) == (4, {100: 4})


def test_a_recreated_topic_is_counted_from_zero(watched: Monitor, poller: FakePoller) -> None:
    """Its ledger is another one."""
    poller.polls = [poll(FakeBook(line(0, 9, {})), 10, 10), poll(FakeBook(line(0, 1, {}), epoch_us=8), 2, 2)]
    watched.poll()
    watched.poll()
    assert watched.state.snapshots[-1].counts.stored == 2


def test_an_unavailable_service_has_unknown_counts_and_its_last_error(watched: Monitor, poller: FakePoller) -> None:
    """Counts are None while a service is unavailable; its last error is still shown when it is back."""
    book = FakeBook()
    poller.polls = [
        poll(book, 5, 5),
        poll(book, 5, None, cassandra="refused"),
        poll(None, 0, None, kafka="gone"),
        poll(book, 5, 5),
    ]
    watched.poll()
    watched.poll()
    now = watched.state.now
    assert now is not None
    assert (now.counts.kafka, now.counts.read, now.counts.stored, now.lag_records) == (5, None, None, None)
    watched.poll()
    now = watched.state.now
    assert now is not None
    assert (now.counts.kafka, now.dead_letter_records, now.partitions) == (None, None, [])
    watched.poll()
    assert watched.state.receipt == {"balanced": True, "missing": 0}
    problems = watched.state.problems
    assert {name: value.error for name, value in problems.items()} == {"cassandra": "refused", "kafka": "gone"}
    assert watched.state.now is not None
    assert watched.state.now.lag_records == 0


def test_airflow_is_polled_every_few_seconds(watched: Monitor, poller: FakePoller, runs: FakeRuns, clock: Any) -> None:
    """Polls in between keep its last response, also while it is unavailable."""
    poller.polls = [poll(FakeBook(), 0, 0)]
    watched.poll()
    watched.poll()
    assert (runs.asked, watched.state.runs) == (1, [RUN])
    assert (watched.state.snapshots[-1].counts.produced, watched.state.run_totals["fetched"]) == (9, 10)
    runs.found = AirflowUnreachable("no")
    clock.now_s += 6
    watched.poll()
    assert (runs.asked, watched.state.runs) == (2, [RUN])


def test_active_runs_count_as_far_as_their_delivery_logs_tell(
    watched: Monitor, poller: FakePoller, runs: FakeRuns, clock: Any, tmp_path: Any
) -> None:
    """So that API and Airflow have a rate during a run; a run whose delivery log is elsewhere makes them unknown."""
    poller.polls = [poll(FakeBook(), 0, 0)]
    runs.found = [replace(RUN, run_id="r2", state="running"), RUN]

    def counted() -> tuple[int | None, int | None]:
        clock.now_s += 6
        watched.poll()
        watched.poll()  # what was asked for is counted at the next poll
        counts = watched.state.snapshots[-1].counts
        return counts.fetched, counts.produced

    assert counted() == (None, None)
    with DeliveryLog(delivery_log.folder_of(read(home=tmp_path)), "r2", "t", "id") as written:
        written.note(0, 0, b"k")
        written.fetched(5)
        assert counted() == (15, 10)
    runs.found = [RUN]
    assert counted() == (10, 9)


def test_snapshots_are_kept_for_fifteen_minutes(
    watched: Monitor, poller: FakePoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older ones are dropped."""
    poller.polls = [poll(FakeBook(), 0, 0)]
    for at_s in (1000.0, 1500.0, 1950.0):
        monkeypatch.setattr(monitor.time, "time", lambda at_s=at_s: at_s)
        watched.poll()
    assert [snapshot.at_s for snapshot in watched.state.snapshots] == [1500.0, 1950.0]


def test_a_starting_service_has_no_problem(watched: Monitor, poller: FakePoller) -> None:
    """Responses before it was up for the first time are no errors to remember; later ones are."""
    book = FakeBook()
    poller.polls = [poll(book, 0, 0, airflow="starts"), poll(book, 0, 0), poll(book, 0, 0, airflow="gone")]
    watched.poll()
    watched.poll()
    assert watched.state.problems == {}
    watched.poll()
    assert {name: value.error for name, value in watched.state.problems.items()} == {"airflow": "gone"}
