"""Benchmark the latency from producing a record to reading its row, at steady rates, and the idle job's CPU usage.

A sample of the records is polled for in Cassandra about every 10 ms, the same for every contestant. This measures when
a reader sees the row, independent of what a job reports.
"""

import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self

from cassandra.cluster import Session

from bench import store
from bench.measure import BenchFailed, Contestant, Running
from bench.store import ProgramFactory
from bench.target import Load, Target, generate_messages
from penstock import pipelines
from penstock.broker.kafka import producer
from penstock.config import Settings
from penstock.produce.send import Sender

NAME = "latency"
WHAT = "latency from the producer's clock to a readable row, at 10, 100 and 1,000 records per second"
RATES = (10, 100, 1000)
SECONDS = 20.0
_SETTLE_S = 4.0
_WARM_UP_RATE, _WARM_UP_FACTOR = 1000, 1.5
_IDLE_S = 10.0
_POLL_EVERY_S = 0.01
_SAMPLES_PER_S = 25
_TIMEOUT_S = 90.0

CONTESTANTS: dict[str, tuple[str, ProgramFactory]] = {
    "ours": ("penstock", store.make_penstock),
    "tutorial": ("the tutorial's job: Spark 3.5, connector 3.5.1, defaults", store.spark35_factory({})),
    "connector": ("Spark 4.1, connector 3.5.1, tuned", store.spark41_factory(store.TUNED_41)),
}


@dataclass(frozen=True)
class Latency:
    """Latency in ms of the sampled records."""

    records: int
    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class LatencyRun:
    """Results of one run: latency by rate, and the idle job's CPU usage in cores."""

    idle_cores: float
    by_rate: dict[str, Latency]


def build_contestants(target: Target, seconds: float) -> list[Contestant]:
    """Build all contestants. Each run uses its own topic."""
    return [
        Contestant(name, title, partial(_run_contestant, target, make, seconds))
        for name, (title, make) in CONTESTANTS.items()
    ]


def _run_contestant(target: Target, make: ProgramFactory, seconds: float) -> dict[str, Any]:
    return asdict(measure_latency(target, make, seconds=seconds))


class RowPoller:
    """Polls for rows in a thread inside the `with` block, and measures the time until each appears."""

    def __init__(self, session: Session, table: str) -> None:
        self._session = session
        self._query = session.prepare(f"SELECT id FROM {table} WHERE id IN ?")
        self._sent_s: dict[uuid.UUID, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="row-poller", daemon=True)
        self.latencies_ms: list[float] = []

    def await_row(self, key: bytes, sent_s: float) -> None:
        """Start polling for the row of a key."""
        self._sent_s[uuid.UUID(key.decode())] = sent_s

    def _poll(self) -> None:
        while not self._stopped.wait(_POLL_EVERY_S):
            if pending := list(self._sent_s):
                rows = list(self._session.execute(self._query, (pending,)))
                now_s = time.monotonic()
                self.latencies_ms += [(now_s - self._sent_s.pop(row["id"])) * 1000 for row in rows]

    def wait(self, timeout_s: float) -> None:
        """Wait until all rows have appeared. Raises `BenchFailed` on timeout."""
        deadline_s = time.monotonic() + timeout_s
        while self._sent_s:
            if time.monotonic() > deadline_s:
                raise BenchFailed(f"{len(self._sent_s)} rows did not appear within {timeout_s:g} s")
            time.sleep(_POLL_EVERY_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


def measure_latency(
    target: Target, make: ProgramFactory, rates: tuple[int, ...] = RATES, seconds: float = SECONDS
) -> LatencyRun:
    """Measure one contestant on an empty topic and table. Raises `BenchFailed`."""
    load = Load(0, name=uuid.uuid4().hex[:8])
    settings = target.create_table(load)
    target.fill_topic(load)
    messages = generate_messages(load, settings, pipelines.of(settings))
    try:
        with Running(make(target, settings, 0)) as running:
            send_at_rate(target.session, settings, messages, 1, 1.0)
            send_at_rate(target.session, settings, messages, _WARM_UP_RATE, _WARM_UP_FACTOR * seconds)
            time.sleep(_SETTLE_S)
            idle = _measure_cores(target, running, _IDLE_S)
            by_rate: dict[str, Latency] = {}
            for rate in rates:
                by_rate[str(rate)] = send_at_rate(target.session, settings, messages, rate, seconds, settle_s=_SETTLE_S)
            return LatencyRun(idle, by_rate)
    finally:
        target.drop_keyspace(settings)


def _measure_cores(target: Target, running: Running, seconds: float) -> float:
    """Measure the CPU usage of the job in cores."""

    def spent_s() -> float:
        processes = [
            *running.processes(),
            *(process for name in running.services for process in target.list_processes(name)),
        ]
        return sum(sum(process.cpu_times()[:4]) for process in processes)

    before = spent_s()
    time.sleep(seconds)
    return (spent_s() - before) / seconds


def send_at_rate(
    session: Session,
    settings: Settings,
    messages: Iterator[tuple[bytes, bytes]],
    rate: int,
    seconds: float,
    settle_s: float = 0.0,
) -> Latency:
    """Send `rate` records per second and return the latency of a sample, which is polled for until it appears.

    The first `settle_s` seconds are not sampled, since a new producer has to connect first. Raises `BenchFailed`.
    """
    pipeline = pipelines.of(settings)
    table = f"{settings.cassandra_keyspace}.{pipeline.table}"
    stride, started_s = max(1, rate // _SAMPLES_PER_S), time.monotonic()
    with RowPoller(session, table) as poller:
        with Sender(producer(settings), pipeline.topic, _TIMEOUT_S) as sender:
            for number in range(round(rate * (settle_s + seconds))):
                key, value = next(messages)
                time.sleep(max(0.0, started_s + number / rate - time.monotonic()))
                sent_s = time.monotonic()
                sender.send(key, value, [])
                if number >= rate * settle_s and number % stride == 0:
                    poller.await_row(key, sent_s)
        poller.wait(_TIMEOUT_S)
    return _summarize(poller.latencies_ms)


def _summarize(latencies_ms: list[float]) -> Latency:
    percentiles: list[Any] = (
        statistics.quantiles(latencies_ms, n=100, method="inclusive") if len(latencies_ms) > 1 else latencies_ms * 99
    )
    return Latency(len(latencies_ms), percentiles[49], percentiles[94], percentiles[98], max(latencies_ms))
