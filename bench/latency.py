"""From the producer's clock to the row being readable, at steady rates, and what the streaming job takes when idle.

Some of the records are looked for with a query every few milliseconds, the same for every contestant: what is
measured is the time until a reader has the row, whatever a job says of itself.
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
from penstock.broker.kafka import producer
from penstock.config import Settings
from penstock.produce.send import Sender

NAME = "latency"
WHAT = "from the producer's clock to the row being readable, at 10, 100 and 1,000 records a second"
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
    """Of the records that were looked for, in ms."""

    records: int
    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class Pace:
    """One run: latencies by rate, and the share of a core that the job takes when nothing comes."""

    idle_cores: float
    by_rate: dict[str, Latency]


def contestants(ground: Ground, seconds: float) -> list[Contestant]:
    """Everybody, each run on a topic of its own."""
    return [
        Contestant(name, title, partial(_run, ground, make, seconds)) for name, (title, make) in CONTESTANTS.items()
    ]


def _run(ground: Ground, make: Make, seconds: float) -> dict[str, Any]:
    return asdict(pace(ground, make, seconds=seconds))


class Lookout:
    """Looks for rows in a thread, in a `with` block, and notes how long each took to be there."""

    def __init__(self, session: Session, table: str) -> None:
        self._session = session
        self._query = session.prepare(f"SELECT id FROM {table} WHERE id IN ?")
        self._sent_s: dict[uuid.UUID, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lookout", daemon=True)
        self.found_ms: list[float] = []

    def await_row(self, key: bytes, sent_s: float) -> None:
        """Look for the row of a key from now on."""
        self._sent_s[uuid.UUID(key.decode())] = sent_s

    def _look(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            if wanted := list(self._sent_s):
                rows = list(self._session.execute(self._query, (wanted,)))
                now_s = time.monotonic()
                self.found_ms += [(now_s - self._sent_s.pop(row["id"])) * 1000 for row in rows]

    def wait(self, timeout_s: float) -> None:
        """Return once every row was found. Raises `BenchFailed` after the time."""
        ends_s = time.monotonic() + timeout_s
        while self._sent_s:
            if time.monotonic() > ends_s:
                raise BenchFailed(f"{len(self._sent_s)} rows were not there after {timeout_s:g} s")
            time.sleep(_LOOK_EVERY_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def pace(ground: Ground, make: Make, rates: tuple[int, ...] = RATES, seconds: float = SECONDS) -> Pace:
    """One contestant on an empty topic and table. Raises `BenchFailed`."""
    load = Load(0, name=uuid.uuid4().hex[:8])
    settings = ground.fresh_table(load)
    ground.fill(load)
    made = messages(load, settings, pipelines.of(settings))
    try:
        with Running(make(ground, settings, 0)) as running:
            send(ground.session, settings, made, 1, 1.0)
            send(ground.session, settings, made, _WARM_UP_RATE, _WARM_UP_FACTOR * seconds)
            time.sleep(_SETTLE_S)
            idle = _cores(ground, running, _IDLE_S)
            by_rate: dict[str, Latency] = {}
            for rate in rates:
                by_rate[str(rate)] = send(ground.session, settings, made, rate, seconds, settle_s=_SETTLE_S)
            return Pace(idle, by_rate)
    finally:
        ground.drop(settings)


def _cores(ground: Ground, running: Running, seconds: float) -> float:
    """The share of a core that the job takes."""

    def spent_s() -> float:
        found = [*running.processes(), *(one for name in running.services for one in ground.tree(name))]
        return sum(sum(one.cpu_times()[:4]) for one in found)

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
    """Send so many a second, and look for some of them until they are there.

    Those of the first `settle_s` seconds are not looked for: a producer that has just begun connects first. Raises
    `BenchFailed`.
    """
    pipeline = pipelines.of(settings)
    table = f"{settings.cassandra_keyspace}.{pipeline.table}"
    every, began_s = max(1, rate // _LOOKS_PER_S), time.monotonic()
    with Lookout(session, table) as lookout:
        with Sender(producer(settings), pipeline.topic, _PATIENCE_S) as sender:
            for number in range(round(rate * (settle_s + seconds))):
                key, value = next(made)
                time.sleep(max(0.0, began_s + number / rate - time.monotonic()))
                sent_s = time.monotonic()
                sender.send(key, value, [])
                if number >= rate * settle_s and number % every == 0:
                    lookout.await_row(key, sent_s)
        lookout.wait(_PATIENCE_S)
    return _latency(lookout.found_ms)


def _latency(found_ms: list[float]) -> Latency:
    shares: list[Any] = (
        statistics.quantiles(found_ms, n=100, method="inclusive") if len(found_ms) > 1 else found_ms * 99
    )
    return Latency(len(found_ms), shares[49], shares[94], shares[98], max(found_ms))
