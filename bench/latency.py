"""Latency from producing a record to its row being readable, at steady rates, and idle CPU usage of the job.

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
from bench.ground import Ground, Load, messages
from bench.race import BenchFailed, Contestant, Running
from bench.store import Make
from penstock import pipelines
from penstock.broker.kafka import create_producer
from penstock.config import Settings
from penstock.produce.send import Sender

NAME = "latency"
WHAT = "latency from the producer's clock to a readable row, at 10, 100 and 1,000 records per second"
RATES = (10, 100, 1000)
SECONDS = 20.0
_SETTLE_S = 4.0
_WARM_UP_RATE, _WARM_UP_FACTOR = 1000, 1.5
_IDLE_S = 10.0
_LOOK_EVERY_S = 0.01
_LOOKS_PER_S = 25
_PATIENCE_S = 90.0

CONTESTANTS: dict[str, tuple[str, Make]] = {
    "ours": ("penstock", store.ours),
    "tutorial": ("the tutorial's job: Spark 3.5, connector 3.5.1, defaults", store.spark35({})),
    "connector": ("Spark 4.1, connector 3.5.1, tuned", store.spark41(store.TUNED_41)),
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
class Pace:
    """One run: latency by rate, and the idle job's CPU usage in cores."""

    idle_cores: float
    by_rate: dict[str, Latency]


def contestants(ground: Ground, seconds: float) -> list[Contestant]:
    """Return all contestants. Each run uses a topic of its own."""
    return [
        Contestant(name, title, partial(_run_pace, ground, make, seconds))
        for name, (title, make) in CONTESTANTS.items()
    ]


def _run_pace(ground: Ground, make: Make, seconds: float) -> dict[str, Any]:
    return asdict(pace(ground, make, seconds=seconds))


class Lookout:
    """Polls for rows in a thread inside the `with` block, and measures how long each takes to appear."""

    def __init__(self, session: Session, table: str) -> None:
        self._session = session
        self._query = session.prepare(f"SELECT id FROM {table} WHERE id IN ?")
        self._sent_s: dict[uuid.UUID, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="lookout", daemon=True)
        self.found_ms: list[float] = []

    def await_row(self, key: bytes, sent_s: float) -> None:
        """Start polling for the row of a key."""
        self._sent_s[uuid.UUID(key.decode())] = sent_s

    def _poll(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            if pending := list(self._sent_s):
                rows = list(self._session.execute(self._query, (pending,)))
                now_s = time.monotonic()
                self.found_ms += [(now_s - self._sent_s.pop(row["id"])) * 1000 for row in rows]

    def wait(self, timeout_s: float) -> None:
        """Wait until all rows have appeared. Raises `BenchFailed` on timeout."""
        deadline_s = time.monotonic() + timeout_s
        while self._sent_s:
            if time.monotonic() > deadline_s:
                raise BenchFailed(f"{len(self._sent_s)} rows were not there after {timeout_s:g} s")
            time.sleep(_LOOK_EVERY_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def pace(ground: Ground, make: Make, rates: tuple[int, ...] = RATES, seconds: float = SECONDS) -> Pace:
    """Measure one contestant on an empty topic and table. Raises `BenchFailed`."""
    load = Load(0, name=uuid.uuid4().hex[:8])
    settings = ground.fresh_table(load)
    ground.fill(load)
    made = messages(load, settings, pipelines.of(settings))
    try:
        with Running(make(ground, settings, 0)) as running:
            send(ground.session, settings, made, 1, 1.0)
            send(ground.session, settings, made, _WARM_UP_RATE, _WARM_UP_FACTOR * seconds)
            time.sleep(_SETTLE_S)
            idle = _measure_cores(ground, running, _IDLE_S)
            by_rate: dict[str, Latency] = {}
            for rate in rates:
                by_rate[str(rate)] = send(ground.session, settings, made, rate, seconds, settle_s=_SETTLE_S)
            return Pace(idle, by_rate)
    finally:
        ground.drop(settings)


def _measure_cores(ground: Ground, running: Running, seconds: float) -> float:
    """Measure the CPU usage of the job in cores."""

    def spent_s() -> float:
        processes = [*running.processes(), *(process for name in running.services for process in ground.tree(name))]
        return sum(sum(process.cpu_times()[:4]) for process in processes)

    before = spent_s()
    time.sleep(seconds)
    return (spent_s() - before) / seconds


def send(
    session: Session,
    settings: Settings,
    made: Iterator[tuple[bytes, bytes]],
    rate: int,
    seconds: float,
    settle_s: float = 0.0,
) -> Latency:
    """Send `rate` records per second, poll for a sample of them until they appear, and return their latency.

    The first `settle_s` seconds are not sampled, since a new producer has to connect first. Raises `BenchFailed`.
    """
    pipeline = pipelines.of(settings)
    table = f"{settings.cassandra_keyspace}.{pipeline.table}"
    stride, began_s = max(1, rate // _LOOKS_PER_S), time.monotonic()
    with Lookout(session, table) as lookout:
        with Sender(create_producer(settings), pipeline.topic, _PATIENCE_S) as sender:
            for number in range(round(rate * (settle_s + seconds))):
                key, value = next(made)
                time.sleep(max(0.0, began_s + number / rate - time.monotonic()))
                sent_s = time.monotonic()
                sender.send(key, value, [])
                if number >= rate * settle_s and number % stride == 0:
                    lookout.await_row(key, sent_s)
        lookout.wait(_PATIENCE_S)
    return _summarize(lookout.found_ms)


def _summarize(found_ms: list[float]) -> Latency:
    percentiles: list[Any] = (
        statistics.quantiles(found_ms, n=100, method="inclusive") if len(found_ms) > 1 else found_ms * 99
    )
    return Latency(len(found_ms), percentiles[49], percentiles[94], percentiles[98], max(found_ms))
