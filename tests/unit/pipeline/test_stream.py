import pickle
from dataclasses import replace

import pyarrow as pa
import pytest

from penstock import pipelines
from penstock.broker import dlq
from penstock.config import read
from penstock.contract.batch import TALLY_DDL, Decoded, Deletion, Tally
from penstock.contract.reject import Fault, Reason, Reject, Stage
from penstock.errors import DeliveryFailed, StoreFailed
from penstock.pipeline import stream
from penstock.pipeline.stream import Plan, Worker, _arrow, _with_filtered, write
from tests.unit.ddl import arrow_schema
from tests.unit.fakes import FakeProducer, message
from tests.unit.records import Reading

READING = Reading(sensor=1, celsius=1.0)


TALLIES = arrow_schema(TALLY_DDL)


def tally(partition: int, first: int, last: int, at_ms: int = 9, nulls: dict[str, int] | None = None, **counts: int):
    became = {"stored": 0, "deleted": 0, "rejected": 0, "filtered": 0} | counts
    return Tally(
        partition, first, last, sum(became.values()), **became, stored_at_ms=at_ms, nulls=nulls or {}, latencies={}
    )


def plan_of(settings) -> Plan:
    return Plan(settings, 5, pa.schema([]), TALLIES)


def reject(offset: int, stage: Stage = Stage.DECODE, value: bytes | None = b"x") -> Reject:
    return Reject(Fault(Reason.CONTRACT_BROKEN, "no", stage), "users_created", 0, offset, None, value, [])


class FakeWriter:
    """Stands for the RowWriter of a worker."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.rows, self.deletions = error, [], []

    def write(self, rows, deletions=()) -> None:
        if self.error:
            raise self.error
        self.rows += rows
        self.deletions += deletions


@pytest.fixture
def worker(monkeypatch) -> Worker:
    """A worker whose rows and dead letters are kept."""
    worker = Worker(read(), epoch_us=5)
    worker.rows = FakeWriter()
    producer = FakeProducer()
    monkeypatch.setattr(stream, "producer", lambda _settings: producer)
    return worker


def test_what_a_transform_dropped_is_filtered():
    """What was read and came to nothing else was filtered; a partition of which nothing is left, wholly."""
    read_ = [tally(0, 5, 14, filtered=10, at_ms=1), tally(1, 0, 1, filtered=2, at_ms=1)]
    written = [tally(0, 6, 12, stored=4, deleted=2, rejected=1, nulls={"a": 3})]
    assert _with_filtered(read_, written) == [
        tally(0, 5, 14, stored=4, deleted=2, rejected=1, filtered=3, nulls={"a": 3}),
        tally(1, 0, 1, filtered=2, at_ms=1),
    ]


def test_a_transform_that_drops_nothing_filters_nothing():
    """All that was read was written."""
    written = [tally(0, 0, 4, stored=4, deleted=1)]
    assert _with_filtered([tally(0, 0, 4, filtered=5)], written) == written
    assert _with_filtered([], []) == []


def test_a_transform_that_makes_more_rows_than_records_is_refused():
    """One record cannot be two rows: the counts would not balance any more."""
    with pytest.raises(ValueError, match="transform gave 3 rows for 2 records"):
        _with_filtered([tally(0, 0, 1, filtered=2)], [tally(0, 0, 1, stored=3)])


def test_a_transform_that_makes_rows_of_nothing_is_refused():
    """A row of a partition that was not read came from nowhere."""
    with pytest.raises(ValueError, match=r"partitions \[3\]"):
        _with_filtered([tally(0, 0, 1, filtered=2)], [tally(3, 0, 0, stored=1)])


def test_a_batch_is_stored_then_set_aside_then_counted(worker):
    """Rows, deletions and rejects of each batch are acknowledged before its tally is given."""
    gone = Deletion(4, 0, 0, 4)
    batches = [
        Decoded([(READING, 0, 0, 1), (READING, 0, 0, 2)], [gone], [reject(3)]),
        Decoded(),
        Decoded([(READING, 0, 1, 7)]),
    ]
    tallies = list(write(batches, worker))
    assert [one._replace(stored_at_ms=0, latencies={}) for one in tallies] == [
        tally(0, 1, 4, stored=2, deleted=1, rejected=1, at_ms=0),
        tally(1, 7, 7, stored=1, at_ms=0),
    ]
    assert all(one.stored_at_ms > 1_600_000_000_000 for one in tallies)
    assert [list(one.latencies.values()) for one in tallies] == [[2], [1]]
    assert [row[3] for row in worker.rows.rows] == [1, 2, 7]
    assert worker.rows.deletions == [gone]
    (letter,) = worker._producer.sent
    assert (letter.topic(), dlq.facts(letter)["offset"]) == ("users_created.dlq", "3")


def test_a_batch_that_is_not_stored_has_no_tally(worker):
    """An error of Cassandra's fails the batch before anything of it is counted."""
    worker.rows.error = StoreFailed("no")
    with pytest.raises(StoreFailed):
        list(write([Decoded([(READING, 0, 0, 1)], rejects=[reject(2)])], worker))


def test_a_reject_that_is_not_set_aside_fails_the_batch(worker, monkeypatch):
    """A dead letter that Kafka did not acknowledge fails the batch."""
    monkeypatch.setattr(stream, "producer", lambda _settings: FakeProducer(fails=lambda _: True))
    with pytest.raises(DeliveryFailed):
        list(write([Decoded(rejects=[reject(2)])], worker))


def test_nothing_to_set_aside_makes_no_producer(worker, monkeypatch):
    """A batch without rejects does not connect to Kafka."""
    monkeypatch.setattr(stream, "producer", lambda _settings: pytest.fail("a producer was made"))
    worker.set_aside([])


def test_a_reject_of_the_transform_gets_its_bytes_from_kafka(worker, monkeypatch):
    """What a transform broke is set aside as it lies in Kafka, byte for byte."""
    asked = []

    def records(_settings, topic, spans):
        asked.append((topic, spans))
        return iter([message(4, b"\x00whole", key=b"k", headers=[("h", b"v")])])

    monkeypatch.setattr(stream.topics, "records", records)
    worker.set_aside([reject(4, Stage.TRANSFORM, value=None)])
    (letter,) = worker._producer.sent
    assert asked == [("users_created", [stream.topics.Span(0, 4, 5)])]
    assert (letter.key(), letter.value(), letter.headers()[0]) == (b"k", b"\x00whole", ("h", b"v"))
    assert dlq.facts(letter)["stage"] == "transform"


def test_a_task_gives_one_tally_per_partition():
    """What a task of Spark's gives back is small: its tallies, merged, nulls as a map."""
    parts = [
        tally(1, 0, 1, stored=2, nulls={"a": 1}),
        tally(0, 5, 5, deleted=1),
        tally(1, 2, 3, stored=1, rejected=1, nulls={"a": 1, "b": 1}),
    ]
    batch = _arrow(parts, plan_of(read()))
    assert [Tally(**row | {name: dict(row[name]) for name in ("nulls", "latencies")}) for row in batch.to_pylist()] == [
        tally(0, 5, 5, deleted=1),
        tally(1, 0, 3, stored=3, rejected=1, nulls={"a": 2, "b": 1}),
    ]
    assert batch.schema == TALLIES
    assert batch.schema.names == list(Tally._fields)
    assert _arrow([], plan_of(read())).num_rows == 0


def test_a_plan_can_be_sent_to_a_worker():
    """A plan pickles, secrets of the settings included, and finds the pipeline where it is opened."""
    plan = plan_of(read(kafka_password="secret"))
    there = pickle.loads(pickle.dumps(plan))
    assert there == plan
    assert there.settings.kafka_password.get_secret_value() == "secret"
    assert there.pipeline is pipelines.of(plan.settings)


def test_a_worker_is_kept_between_tasks():
    """Connections are made once in a Python worker; other settings or another generation have their own."""
    settings = read()
    assert stream._worker(settings, 5) is stream._worker(read(), 5)
    assert stream._worker(settings, 6) is not stream._worker(settings, 5)
    stream._worker.cache_clear()


def test_a_pipeline_with_a_transform_takes_the_longer_way(monkeypatch):
    """Records of a pipeline with a transform pass through a DataFrame; of one without they do not."""
    monkeypatch.setattr(stream, "_store_as_is", lambda raw, plan: "as it is")
    monkeypatch.setattr(stream, "_store_transformed", lambda raw, plan: "transformed")
    plan = plan_of(read())
    assert stream.store(None, plan) == "as it is"
    changed = replace(plan.pipeline, transform=lambda frame: frame)
    monkeypatch.setattr(stream.pipelines, "of", lambda _settings: changed)
    assert stream.store(None, plan) == "transformed"
