"""Counts, rates and latencies of each stage of the pipeline, and its current problems.

A `Monitor` polls repeatedly, and keeps the polls of the last fifteen minutes. What is unknown, because a service is
unavailable, is None, never zero.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable

from penstock import pipelines
from penstock.airflow.runs import DagRun, Runs
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.failing import FailingBatch
from penstock.contract.latency import Histogram, merge_histograms, quantile_ms
from penstock.errors import PenstockError
from penstock.log import get_logger
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.history import History, file_version, is_watched
from penstock.monitoring.poller import PartitionProgress, Poll, Poller, TopicState
from penstock.produce import delivery_log
from penstock.produce.delivery_log import AttemptProgress
from penstock.sink import cassandra
from penstock.sink.ledger import REPLAY, Ledger
from penstock.sink.progress import Failure, Progress

log = get_logger(__name__)

KEPT_S = 900.0
RATE_S = 10.0
"""Rates are averaged over this period."""
LATENCY_S = 300.0
_SLOW_S = 5.0
"""Minimum interval between queries for Airflow's runs and for failures."""


@dataclass(frozen=True)
class Counts:
    """Number of records at each stage. Counts only grow while the topic and the ledger stay the same."""

    fetched: int | None = None
    """Records fetched by the runs in `View.ran` and by active runs; null while any active run's progress is unknown."""
    produced: int | None = None
    """Records produced by the same runs; null under the same condition."""
    kafka: int | None = None
    """Sum of the topic's end offsets."""
    read: int | None = None
    """Sum of the offsets that the ledger reaches."""
    stored: int | None = None
    """Rows acknowledged, as counted by the ledger."""
    rejected: int | None = None
    """Sum of the dead-letter topic's end offsets."""


@dataclass(frozen=True)
class Point:
    """A poll. `services` maps each service to its error, or an empty string; latencies cover the last five minutes."""

    at_s: float
    services: dict[str, str]
    counts: Counts
    lag: int | None
    kafka_held: int | None
    rejected_held: int | None
    p50_ms: int | None
    p99_ms: int | None
    partitions: list[PartitionProgress] = field(default_factory=list)


@dataclass(frozen=True)
class Problem:
    """An error, and when it was last seen."""

    at_s: float
    error: str


@dataclass
class View:
    """Results of the last poll. `points` are the polls of the last fifteen minutes, oldest first."""

    points: list[Point] = field(default_factory=list)
    runs: list[DagRun] = field(default_factory=list)
    ran: dict[str, int] = field(default_factory=dict)
    """Totals of the newest hundred runs at the first poll and of all runs since; empty if unknown."""
    under_way: AttemptProgress | None = field(default_factory=lambda: AttemptProgress(0, 0))
    """Progress of the active runs, from their delivery logs; None if any of these logs is elsewhere."""
    alerts: list[AlertChange] = field(default_factory=list)
    is_watched: bool = True
    """Whether an alert watcher is running."""
    receipt: dict[str, Any] | None = None
    failures: list[Failure] = field(default_factory=list)
    stuck: list[FailingBatch] = field(default_factory=list)
    """The batches on which the stream is stuck, at the last poll that could query Cassandra."""
    problems: dict[str, Problem] = field(default_factory=dict)
    """The last error of each service that has been up before, even if it is resolved."""
    latencies: Histogram = field(default_factory=dict)
    """Latencies of every row stored since the first poll."""

    @property
    def now(self) -> Point | None:
        """Return the latest poll."""
        return self.points[-1] if self.points else None

    def rate(self, count: str) -> float | None:
        """Return the rate of one of the `Counts`, in records per second over the last ten seconds."""
        return compute_rate(self.points, count)


def compute_rate(points: Sequence[Point], count: str, over_s: float = RATE_S) -> float | None:
    """Return the rate of one of the `Counts` up to the last point, in records per second over `over_s`.

    None if it is unknown, or the count was reset.
    """
    if len(points) < 2:
        return None
    last = points[-1]
    first = next(point for point in points if last.at_s - point.at_s <= over_s or point is points[-2])
    before, after = getattr(first.counts, count), getattr(last.counts, count)
    if before is None or after is None or after < before:
        return None
    return float(after - before) / (last.at_s - first.at_s)


class _Stored(NamedTuple):
    at_s: float
    latencies: Histogram


class _LedgerTail:
    """Reads new ledger entries as they are written."""

    def __init__(self) -> None:
        self._epoch_us: int | None = None
        self._ends: dict[int, int] = {}
        self._recent: deque[_Stored] = deque()
        self.stored = 0
        self.latencies: Histogram = {}

    def read(self, book: Ledger, topic: TopicState, reached: dict[int, int]) -> None:
        """Count what was written since the last call; on the first call, everything."""
        if book.epoch_us != self._epoch_us:
            self._epoch_us, self._ends, self.stored = book.epoch_us, {}, 0
        for span in topic.spans:
            end = reached[span.partition]
            before = self._ends.get(span.partition)
            if before is None:
                self.stored += book.stored_in(OffsetRange(span.partition, 0, end))
            elif end > before:
                self._add_entries(book, OffsetRange(span.partition, before, end))
            self._ends[span.partition] = end

    def _add_entries(self, book: Ledger, span: OffsetRange) -> None:
        for line in list(book.begun_in(span)):  # all or nothing, if Cassandra becomes unavailable
            if not line.job.startswith(REPLAY):
                self.stored += line.summary.stored
                self.latencies = merge_histograms([self.latencies, line.summary.latencies])
                self._recent.append(_Stored(line.summary.stored_at_ms / 1000, line.summary.latencies))

    def recent(self, now_s: float) -> Histogram:
        """Return the latencies of the last five minutes."""
        while self._recent and now_s - self._recent[0].at_s > LATENCY_S:
            self._recent.popleft()
        return merge_histograms(entry.latencies for entry in self._recent)


class Monitor:
    """Polls the pipeline. `view` is the result of the last poll, and may be read by any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pipeline = pipelines.of(settings)
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._poller = Poller(settings)
        self._history = History(settings)
        self._read_of: tuple[int, int] | None = None
        self._alerts: list[AlertChange] = []
        self._runs = Runs(settings)
        self._ledger_tail = _LedgerTail()
        self._points: deque[Point] = deque()
        self._slow_poll_s = -_SLOW_S
        self._been_up: set[str] = set()
        self.view = View()

    def poll(self) -> None:
        """Poll once, and replace `view`."""
        poll = self._poller.poll()
        now = self._build_point(poll)
        self._been_up |= {name for name, error in now.services.items() if not error}
        self._points.append(now)
        while now.at_s - self._points[0].at_s > KEPT_S:
            self._points.popleft()
        view = View(
            points=list(self._points),
            runs=self.view.runs,
            ran=self.view.ran,
            under_way=self.view.under_way,
            alerts=self._open_alerts(),
            is_watched=is_watched(self._settings),
            receipt=poll.cassandra.receipt or self.view.receipt,
            failures=self.view.failures,
            stuck=self.view.stuck if poll.cassandra.stuck is None else list(poll.cassandra.stuck),
            problems=self.view.problems | _find_problems(now, self._been_up),
            latencies=self._ledger_tail.latencies,
        )
        if time.monotonic() - self._slow_poll_s >= _SLOW_S:
            self._slow_poll_s = time.monotonic()
            self._poll_slow_sources(view, poll)
        self.view = view

    def _open_alerts(self) -> list[AlertChange]:
        """Return the firing alerts, read again only if their history has changed."""
        now = file_version(self._history.path)
        if now != self._read_of:
            self._read_of, self._alerts = now, self._history.open()
        return self._alerts

    def _poll_slow_sources(self, view: View, poll: Poll) -> None:
        if not poll.services["airflow"]:
            try:
                view.runs = self._runs.read()
                view.ran = self._runs.totals()
                view.under_way = self._sum_progress(view.runs)
            except PenstockError as error:
                log.debug("service_unreachable", service="airflow", error=str(error))
        if not poll.services["cassandra"]:
            try:
                session = self._poller.session()
                view.failures = Progress(session, self._keyspace, self._pipeline.topic).failures(3)
            except (DriverException, NoHostAvailable, PenstockError) as error:
                log.debug("service_unreachable", service="cassandra", error=str(error))

    def _sum_progress(self, runs: list[DagRun]) -> AttemptProgress | None:
        """Return the total progress of the running runs, or None if it is unknown for any of them."""
        folder = delivery_log.folder_of(self._settings)
        progress = [delivery_log.read_progress(folder, run.run_id) for run in runs if run.state == "running"]
        known = [run_progress for run_progress in progress if run_progress is not None]
        if len(known) < len(progress):
            return None
        return AttemptProgress(
            sum(run_progress.fetched for run_progress in known),
            sum(run_progress.acknowledged for run_progress in known),
        )

    def _count_run_records(self) -> tuple[int | None, int | None]:
        """Return the records fetched and produced so far, by ended and active runs."""
        ran, now = self.view.ran, self.view.under_way
        if not ran or now is None:
            return None, None
        return ran["fetched"] + now.fetched, ran["produced"] + now.acknowledged

    def _build_point(self, poll: Poll) -> Point:
        kafka, reached = poll.kafka, poll.reached
        now_s = time.time()
        self._follow_ledger(poll)
        recent = self._ledger_tail.recent(now_s)
        fetched, produced = self._count_run_records()
        return Point(
            at_s=now_s,
            services=poll.services,
            counts=Counts(
                fetched=fetched,
                produced=produced,
                kafka=kafka and kafka.topic.end,
                read=reached,
                stored=self._ledger_tail.stored if kafka is not None and reached is not None else None,
                rejected=kafka and kafka.dead_letters.end,
            ),
            lag=poll.lag_records,
            kafka_held=kafka and kafka.topic.records,
            rejected_held=kafka and kafka.dead_letters.records,
            p50_ms=quantile_ms(recent, 0.5),
            p99_ms=quantile_ms(recent, 0.99),
            partitions=poll.partitions,
        )

    def _follow_ledger(self, poll: Poll) -> None:
        kafka, stored = poll.kafka, poll.cassandra
        if kafka is None or stored.reached is None or stored.book is None:
            return
        try:
            self._ledger_tail.read(stored.book, kafka.topic, stored.reached)
        except (DriverException, NoHostAvailable) as error:
            log.debug("service_unreachable", service="cassandra", error=str(error))

    def close(self) -> None:
        """Close all connections."""
        self._poller.close()
        self._runs.close()


def _find_problems(now: Point, been_up: set[str]) -> dict[str, Problem]:
    """Return the errors of services that were up before. A service that has not been up yet is still starting."""
    return {name: Problem(now.at_s, error) for name, error in now.services.items() if error and name in been_up}
