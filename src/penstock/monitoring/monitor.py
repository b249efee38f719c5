"""Counts, rates and latencies of each stage of the pipeline, and its current problems.

A `Monitor` polls repeatedly, and keeps the polls of the last fifteen minutes. What is unknown, because a service is
unavailable, is None, never zero.
"""

import time
from collections import deque
from dataclasses import dataclass, field, replace
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
from penstock.monitoring.poller import Poll, Poller, TopicState, Window, build_snapshot
from penstock.monitoring.snapshot import Snapshot, compute_rate
from penstock.produce import delivery_log
from penstock.produce.delivery_log import AttemptProgress
from penstock.sink import cassandra
from penstock.sink.ledger import REPLAY, Ledger
from penstock.sink.progress import Failure, Progress

log = get_logger(__name__)

KEPT_S = 900.0
LATENCY_S = 300.0
_SLOW_S = 5.0
"""Minimum interval between queries for Airflow's runs and for failures."""


@dataclass(frozen=True)
class Problem:
    """An error, and when it was last seen."""

    at_s: float
    error: str


@dataclass
class PipelineState:
    """What is known after the last poll. `snapshots` are those of the last fifteen minutes, oldest first."""

    snapshots: list[Snapshot] = field(default_factory=list)
    runs: list[DagRun] = field(default_factory=list)
    run_totals: dict[str, int] = field(default_factory=dict)
    """Totals of the newest hundred runs at the first poll and of all runs since; empty if unknown."""
    active_progress: AttemptProgress | None = field(default_factory=lambda: AttemptProgress(0, 0))
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
    def now(self) -> Snapshot | None:
        """Return the latest snapshot."""
        return self.snapshots[-1] if self.snapshots else None

    def rate(self, count: str) -> float | None:
        """Return the rate of one of the `Counts`, in records per second over the last ten seconds."""
        return compute_rate(self.snapshots, count)


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

    def read(self, ledger: Ledger, topic: TopicState, reached: dict[int, int]) -> None:
        """Count what was written since the last call; on the first call, everything."""
        if ledger.epoch_us != self._epoch_us:
            self._epoch_us, self._ends, self.stored = ledger.epoch_us, {}, 0
        for offset_range in topic.ranges:
            end = reached[offset_range.partition]
            before = self._ends.get(offset_range.partition)
            if before is None:
                self.stored += ledger.stored_in(OffsetRange(offset_range.partition, 0, end))
            elif end > before:
                self._add_entries(ledger, OffsetRange(offset_range.partition, before, end))
            self._ends[offset_range.partition] = end

    def _add_entries(self, ledger: Ledger, offset_range: OffsetRange) -> None:
        for entry in list(ledger.begun_in(offset_range)):  # all or nothing, if Cassandra becomes unavailable
            if not entry.job.startswith(REPLAY):
                self.stored += entry.summary.stored
                self.latencies = merge_histograms([self.latencies, entry.summary.latencies])
                self._recent.append(_Stored(entry.summary.stored_at_ms / 1000, entry.summary.latencies))

    def recent(self, now_s: float) -> Histogram:
        """Return the latencies of the last five minutes."""
        while self._recent and now_s - self._recent[0].at_s > LATENCY_S:
            self._recent.popleft()
        return merge_histograms(entry.latencies for entry in self._recent)


class Monitor:
    """Polls the pipeline. `state` is what is known after the last poll, and may be read by any thread."""

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
        self._window = Window()
        self._snapshots: deque[Snapshot] = deque()
        self._slow_poll_s = -_SLOW_S
        self._been_up: set[str] = set()
        self.state = PipelineState()

    def poll(self) -> None:
        """Poll once, and replace `state`."""
        poll = self._poller.poll()
        now = self._build_snapshot(poll)
        self._been_up |= {name for name, error in now.services.items() if not error}
        self._snapshots.append(now)
        while now.at_s - self._snapshots[0].at_s > KEPT_S:
            self._snapshots.popleft()
        state = PipelineState(
            snapshots=list(self._snapshots),
            runs=self.state.runs,
            run_totals=self.state.run_totals,
            active_progress=self.state.active_progress,
            alerts=self._open_alerts(),
            is_watched=is_watched(self._settings),
            receipt=poll.cassandra.receipt or self.state.receipt,
            failures=self.state.failures,
            stuck=self.state.stuck if poll.cassandra.stuck is None else list(poll.cassandra.stuck),
            problems=self.state.problems | _find_problems(now, self._been_up),
            latencies=self._ledger_tail.latencies,
        )
        if time.monotonic() - self._slow_poll_s >= _SLOW_S:
            self._slow_poll_s = time.monotonic()
            self._poll_slow_sources(state, poll)
        self.state = state

    def _open_alerts(self) -> list[AlertChange]:
        """Return the firing alerts, read again only if their history has changed."""
        now = file_version(self._history.path)
        if now != self._read_of:
            self._read_of, self._alerts = now, self._history.open()
        return self._alerts

    def _poll_slow_sources(self, state: PipelineState, poll: Poll) -> None:
        if not poll.services["airflow"]:
            try:
                state.runs = self._runs.read()
                state.run_totals = self._runs.totals()
                state.active_progress = self._sum_progress(state.runs)
            except PenstockError as error:
                log.debug("service_unreachable", service="airflow", error=str(error))
        if not poll.services["cassandra"]:
            try:
                session = self._poller.session()
                state.failures = Progress(session, self._keyspace, self._pipeline.topic).failures(3)
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
        totals, active = self.state.run_totals, self.state.active_progress
        if not totals or active is None:
            return None, None
        return totals["fetched"] + active.fetched, totals["produced"] + active.acknowledged

    def _build_snapshot(self, poll: Poll) -> Snapshot:
        now = build_snapshot(self._pipeline.topic, poll, self._window)
        self._follow_ledger(poll)
        recent = self._ledger_tail.recent(now.at_s)
        fetched, produced = self._count_run_records()
        stored = None if now.lag_records is None else self._ledger_tail.stored
        return replace(
            now,
            counts=replace(now.counts, fetched=fetched, produced=produced, stored=stored),
            p50_ms=quantile_ms(recent, 0.5),
            p99_ms=quantile_ms(recent, 0.99),
        )

    def _follow_ledger(self, poll: Poll) -> None:
        kafka, stored = poll.kafka, poll.cassandra
        if kafka is None or stored.reached is None or stored.ledger is None:
            return
        try:
            self._ledger_tail.read(stored.ledger, kafka.topic, stored.reached)
        except (DriverException, NoHostAvailable) as error:
            log.debug("service_unreachable", service="cassandra", error=str(error))

    def close(self) -> None:
        """Close all connections."""
        self._poller.close()
        self._runs.close()


def _find_problems(now: Snapshot, been_up: set[str]) -> dict[str, Problem]:
    """Return the errors of services that were up before. A service that has not been up yet is still starting."""
    return {name: Problem(now.at_s, error) for name, error in now.services.items() if error and name in been_up}
