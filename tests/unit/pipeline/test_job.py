import os
import signal
import threading
from types import SimpleNamespace

import pytest
from pyspark.errors import StreamingQueryException

from penstock.config import read
from penstock.contract.batch import Tally
from penstock.errors import CassandraUnreachable, KafkaUnreachable, StoreFailed
from penstock.pipeline import job
from penstock.pipeline.job import Keeper

ONE = Tally(0, 0, 4, 5, 5, 0, 0, 1)


class FakeBook:
    """Stands for the ledger."""

    def __init__(self) -> None:
        self.written = []

    def write(self, job_id, batch_id, tallies) -> None:
        self.written.append((job_id, batch_id, list(tallies)))


def raw_of(query_id: str | None):
    """What foreachBatch is given: a DataFrame that knows its query."""
    context = SimpleNamespace(getLocalProperty={"sql.streaming.queryId": query_id}.get)
    return SimpleNamespace(sparkSession=SimpleNamespace(sparkContext=context))


class FakeQuery:
    """A streaming query that ends as `outcomes` say, one a wait, and goes on in between."""

    def __init__(self, *outcomes, busy: int = 0) -> None:
        self.outcomes, self.busy = list(outcomes), busy
        self.stopped = False

    isActive = True  # noqa: N815

    @property
    def status(self):
        self.busy -= 1
        return {"isTriggerActive": self.busy >= 0}

    def awaitTermination(self, timeout=None):  # noqa: N802
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        if outcome:
            outcome()

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def stored(monkeypatch):
    """What `store` does; it gives one tally unless told otherwise."""
    world = SimpleNamespace(calls=0, do=lambda: [ONE])

    def store(_raw, _plan):
        world.calls += 1
        return world.do()

    monkeypatch.setattr(job, "store", store)
    return world


def test_a_batch_is_in_the_ledger_once_it_is_stored(stored):
    """After a batch its lines are written, under the id of the query, which outlives the process."""
    book = FakeBook()
    keeper = Keeper(None, book)
    keeper.keep(raw_of("query-1"), 7)
    keeper.keep(raw_of(None), 8)
    assert book.written == [("query-1", 7, [ONE]), ("unknown", 8, [ONE])]
    assert keeper.batches == 2


def test_a_batch_that_fails_is_not_in_the_ledger(stored):
    """An error comes out, nothing is written, and the next batch can be kept."""
    book = FakeBook()
    keeper = Keeper(None, book)

    def fail():
        raise StoreFailed("no")

    stored.do = fail
    with pytest.raises(StoreFailed):
        keeper.keep(raw_of("q"), 1)
    stored.do = lambda: [ONE]
    keeper.keep(raw_of("q"), 1)
    assert len(book.written) == 1


def test_no_batch_begins_once_the_job_is_stopping(stored):
    """A batch that comes after the stop is refused before anything of it is done."""
    keeper = Keeper(None, FakeBook())
    keeper.stopping.set()
    with pytest.raises(InterruptedError, match="batch 7 was not begun"):
        keeper.keep(raw_of("q"), 7)
    assert stored.calls == 0


def test_the_batch_in_hand_is_finished_before_a_stop(stored):
    """`wait_idle` returns when the batch that was begun is stored and in the ledger, not before."""
    happened = []
    begun, may_end = threading.Event(), threading.Event()
    book = SimpleNamespace(write=lambda *_: happened.append("written"))
    keeper = Keeper(None, book)

    def slow():
        begun.set()
        assert may_end.wait(10)
        return [ONE]

    def wait_idle():
        keeper.wait_idle()
        happened.append("idle")

    stored.do = slow
    batch = threading.Thread(target=keeper.keep, args=(raw_of("q"), 1))
    idle = threading.Thread(target=wait_idle)
    batch.start()
    assert begun.wait(10)
    keeper.stopping.set()
    idle.start()
    may_end.set()
    for thread in (batch, idle):
        thread.join(10)
    assert happened == ["written", "idle"]


def test_a_stop_waits_for_the_commit(clock):
    """Once stopping is set, the query is stopped after the trigger in hand has committed."""
    keeper = Keeper(None, FakeBook())
    query = FakeQuery(None, keeper.stopping.set, busy=3)
    job._follow(query, keeper)
    assert query.stopped
    assert clock.slept_s == [0.05] * 3


def test_a_commit_is_not_waited_for_without_end(clock):
    """A trigger that never ends does not keep the job from stopping."""
    keeper = Keeper(None, FakeBook())
    keeper.stopping.set()
    query = FakeQuery(busy=10**9)
    job._follow(query, keeper)
    assert query.stopped
    assert sum(clock.slept_s) == pytest.approx(10, abs=0.1)


def test_a_query_that_fails_is_an_error():
    """Spark's error comes out while the job is not stopping."""
    query = FakeQuery(None, StreamingQueryException("StoreFailed"))
    with pytest.raises(StreamingQueryException):
        job._follow(query, Keeper(None, FakeBook()))


def test_a_batch_refused_by_the_stop_is_no_error(clock):
    """That the next batch was not begun is what a stop is for; any other error of a stopping query is one."""
    keeper = Keeper(None, FakeBook())
    keeper.stopping.set()
    job._follow(FakeQuery(StreamingQueryException("InterruptedError: batch 7 was not begun")), keeper)
    with pytest.raises(StreamingQueryException):
        job._follow(FakeQuery(StreamingQueryException("StoreFailed")), keeper)


@pytest.fixture
def signals():
    """The handlers of this process, put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_job(signals, number):
    """SIGTERM and SIGINT set stopping, and nothing else happens to the process."""
    stopping = threading.Event()
    job._stop_on_signal(stopping)
    os.kill(os.getpid(), number)
    assert stopping.wait(10)


@pytest.fixture
def around(monkeypatch, signals, stored, clock):
    """A job whose queries are those of `queries`, one after the other."""
    around = SimpleNamespace(queries=[], keeper=None, waited_s=[], starts=0)

    def start(_records, _settings, _topic, keeper):
        around.starts += 1
        around.keeper = keeper
        if not around.queries:
            keeper.stopping.set()
            return FakeQuery()
        return FakeQuery(around.queries.pop(0))

    def wait(self, seconds=None):
        around.waited_s.append(seconds)
        return self.is_set()

    monkeypatch.setattr(job.ledger, "begin_generation", lambda *_: 5)
    monkeypatch.setattr(job.topics, "topic_id", lambda *_: "id-1")
    monkeypatch.setattr(job.ledger, "Ledger", lambda *_: FakeBook())
    monkeypatch.setattr(job, "plan", lambda *_: None)
    monkeypatch.setattr(job, "warm_up", lambda *_: None)
    monkeypatch.setattr(job, "raw_records", lambda records: records)
    monkeypatch.setattr(job, "_start", start)
    monkeypatch.setattr(threading.Event, "wait", wait)
    return around


def failed() -> StreamingQueryException:
    return StreamingQueryException("StoreFailed: no\nand a long trace")


def test_a_failed_query_is_started_again(around):
    """A batch that failed is done again, later each time."""
    around.queries = [failed(), failed(), failed()]
    job.run(SimpleNamespace(sparkSession=None), None, read())
    assert around.starts == 4
    assert around.waited_s == [2, 4, 8]


def test_a_query_that_always_fails_fails_the_job(around):
    """Five failures in a row without a batch in between end the job with Spark's error."""
    around.queries = [failed() for _ in range(9)]
    with pytest.raises(StreamingQueryException):
        job.run(SimpleNamespace(sparkSession=None), None, read())
    assert around.starts == 5


def test_services_are_waited_for(monkeypatch, clock):
    """The job waits for Kafka and then for Cassandra."""
    asked = []

    def ensure(settings, pipeline):
        asked.append(pipeline.topic)
        if len(asked) < 3:
            raise KafkaUnreachable("away")

    monkeypatch.setattr(job.topics, "ensure_pipeline", ensure)
    monkeypatch.setattr(job.cassandra, "connect", lambda settings: settings)
    monkeypatch.setattr(job.cassandra, "close", lambda session: asked.append("closed"))
    job.wait_for_services(read())
    assert asked == ["users_created"] * 3 + ["closed"]
    assert clock.slept_s == [1, 1]


def test_a_service_that_stays_away_ends_the_wait(monkeypatch, clock):
    """After the bound of the settings, the error names the service and the time."""
    monkeypatch.setattr(job.topics, "ensure_pipeline", lambda *_: None)

    def connect(settings):
        raise CassandraUnreachable("away")

    monkeypatch.setattr(job.cassandra, "connect", connect)
    with pytest.raises(CassandraUnreachable, match="Cassandra: not ready after 7 s; last answer: away"):
        job.wait_for_services(read(spark_wait_s=7))
