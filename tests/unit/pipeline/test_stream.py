import pickle
import sys
from dataclasses import replace
from importlib.machinery import FileFinder
from types import SimpleNamespace
from unittest.mock import Mock, call
from zipfile import ZipFile
from zipimport import zipimporter

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, Message

from penstock import pipelines
from penstock.config import read
from penstock.contract.batch import TALLY_DDL, BatchSummary, Decoded, Deletion, Reject
from penstock.contract.fault import Fault, Reason, Stage
from penstock.dead_letters.message import PREFIX, read_error_headers
from penstock.errors import DeliveryFailed, KafkaUnreachable, StoreFailed
from penstock.pipeline import stream
from penstock.pipeline.stream import BatchPlan, Worker, _build_arrow_batch, _with_filtered, write
from penstock.sink.rows import Unencodable
from tests.unit.ddl import arrow_schema
from tests.unit.fakes import FakeConsumer, FakeProducer, event, kafka_error, message
from tests.unit.records import READINGS, Reading

READING = Reading(sensor=1, celsius=1.0)


TALLIES = arrow_schema(TALLY_DDL)


def tally(partition: int, first: int, last: int, at_ms: int = 9, nulls: dict[str, int] | None = None, **counts: int):
    became = {"stored": 0, "deleted": 0, "rejected": 0, "filtered": 0} | counts
    return BatchSummary(
        partition, first, last, sum(became.values()), **became, stored_at_ms=at_ms, nulls=nulls or {}, latencies={}
    )


def plan_of(settings) -> BatchPlan:
    return BatchPlan(settings, 5, pa.schema([]), TALLIES)


def reject(offset: int, stage: Stage = Stage.DECODE, value: bytes | None = b"x") -> Reject:
    return Reject(Fault(Reason.CONTRACT_BROKEN, "no", stage), "users_created", 0, offset, None, value, [])


class FakeWriter:
    """Stands for the RowWriter of a worker."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.rows, self.deletions = error, [], []
        self.unencodable: list[Unencodable] = []

    def write(self, batch) -> list[Unencodable]:
        if self.error:
            raise self.error
        self.rows += batch.rows
        self.deletions += batch.deletions
        return self.unencodable


@pytest.fixture
def worker(monkeypatch) -> Worker:
    """A worker whose rows and dead letters are kept."""
    worker = Worker(read(), epoch_us=5)
    worker.rows = FakeWriter()
    producer = FakeProducer()
    monkeypatch.setattr(stream, "producer", lambda _settings: producer)
    return worker


@pytest.fixture
def kafka(monkeypatch):
    """Makes the one reader that a worker gets, of these messages."""

    def make(*messages: Message, **named) -> FakeConsumer:
        made = [FakeConsumer([list(messages)], **named)]
        monkeypatch.setattr(stream, "reader", lambda _settings: made.pop())
        return made[0]

    return make


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


def test_a_batch_is_stored_then_set_aside_then_counted(worker, kafka):
    """Rows, deletions and rejects of each batch are acknowledged before its tally is given."""
    kafka(message(3, b"x"))
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
    assert (letter.topic(), read_error_headers(letter)["offset"]) == ("users_created.dlq", "3")


@pytest.mark.parametrize("transform", [None, lambda frame: frame])
def test_a_record_that_cannot_be_encoded_is_a_dead_letter_of_its_own(worker, kafka, transform):
    """The rest of its batch is stored; it is set aside as it lies in Kafka, with what it raised, and counted so."""
    kafka(message(2, b"raw", key=b"k"), message(4, None, key=b"{}"))
    worker._pipeline = replace(worker._pipeline, transform=transform)
    worker.rows.unencodable = [Unencodable(0, 2, OverflowError("too late")), Unencodable(0, 4, TypeError("no id"))]
    rows = [(READING, 0, 0, offset) for offset in (1, 2, 3)]
    (found,) = write([Decoded(rows, [Deletion(4, 0, 0, 4), Deletion(5, 0, 0, 5)])], worker)
    assert (found.records, found.stored, found.deleted, found.rejected) == (5, 2, 1, 2)
    letter, deletion = worker._producer.sent
    assert (letter.key(), letter.value(), deletion.value()) == (b"k", b"raw", None)
    facts = read_error_headers(letter)
    assert (facts["offset"], facts["reason"], facts["message"]) == ("2", "processing_error", "OverflowError: too late")
    assert facts["stage"] == ("transform" if transform else "decode")


def test_a_record_that_failed_late_and_is_gone_fails_the_batch(worker, kafka):
    """Its bytes are not at hand: an empty letter would say that the record was empty."""
    kafka(event(KafkaError._PARTITION_EOF, 5))
    worker.rows.unencodable = [Unencodable(0, 4, OverflowError("too late"))]
    with pytest.raises(KafkaUnreachable, match="users_created no longer has 0:4"):
        list(write([Decoded([(READING, 0, 0, 4)])], worker))


def test_a_batch_that_is_not_stored_has_no_tally(worker):
    """An error of Cassandra's fails the batch before anything of it is counted."""
    worker.rows.error = StoreFailed("no")
    with pytest.raises(StoreFailed):
        list(write([Decoded([(READING, 0, 0, 1)], rejects=[reject(2)])], worker))


def test_a_reject_that_is_not_set_aside_fails_the_batch(worker, kafka, monkeypatch):
    """A dead letter that Kafka did not acknowledge fails the batch."""
    kafka(message(2, b"x"))
    monkeypatch.setattr(stream, "producer", lambda _settings: FakeProducer(fails=lambda _: True))
    with pytest.raises(DeliveryFailed):
        list(write([Decoded(rejects=[reject(2)])], worker))


def test_a_worker_reads_keys_as_the_pipeline_declares(monkeypatch):
    """The job's decoder has the declaration of the pipeline's file."""
    monkeypatch.setattr(pipelines, "of", lambda _settings: replace(READINGS, key_format="json"))
    decoder = Worker(read(), epoch_us=5).decoder
    assert decoder.deleted(b'{"sensor":7}', frozenset()) == 7
    assert isinstance(decoder.deleted(b'{"payload":7}', frozenset()), Fault)


def test_nothing_to_set_aside_makes_no_producer(worker, monkeypatch):
    """A batch without rejects does not connect to Kafka."""
    monkeypatch.setattr(stream, "producer", lambda _settings: pytest.fail("a producer was made"))
    monkeypatch.setattr(stream, "reader", lambda _settings: pytest.fail("a reader was made"))
    worker.send_dead_letters([])


def own_headers(letter: Message) -> list[tuple[str, bytes | None]]:
    return [header for header in letter.headers() if not header[0].startswith(PREFIX)]


@pytest.mark.parametrize("stage", [Stage.DECODE, Stage.TRANSFORM])
def test_a_reject_gets_its_bytes_and_headers_from_kafka(worker, kafka, stage):
    """What could not be decoded, or what a transform broke, is set aside as it lies in Kafka, byte for byte."""
    headers = [("h", b"v"), ("h", None)]
    reader = kafka(message(4, b"\x00whole", key=b"k", headers=headers))
    worker.send_dead_letters([reject(4, stage, value=None)])
    (letter,) = worker._producer.sent
    assert reader.assigned == [("users_created", 0, 4)]
    assert (letter.key(), letter.value(), own_headers(letter)) == (b"k", b"\x00whole", headers)
    assert read_error_headers(letter)["stage"] == stage


def test_rejects_of_several_partitions_get_each_its_own(worker, kafka):
    """No record is taken for another that has the same offset elsewhere, and those between are left alone."""
    reader = kafka(
        message(4, b"a", headers=[("at", b"0:4")]),
        message(5, b"good"),
        message(6, b"b", headers=[("at", b"0:6")]),
    )
    reader._batches.append([message(4, b"c", partition=1, headers=[("at", b"1:4")])])
    worker.send_dead_letters([reject(6), replace(reject(4), partition=1), reject(4, Stage.TRANSFORM)])
    assert [(one.value(), own_headers(one)) for one in worker._producer.sent] == [
        (b"b", [("at", b"0:6")]),
        (b"c", [("at", b"1:4")]),
        (b"a", [("at", b"0:4")]),
    ]
    facts = [read_error_headers(one) for one in worker._producer.sent]
    assert [(one["partition"], one["offset"]) for one in facts] == [("0", "6"), ("1", "4"), ("0", "4")]


@pytest.mark.parametrize("value", [None, b""], ids=["null", "empty"])
def test_a_reject_without_a_value_gets_its_headers_from_kafka(worker, kafka, value):
    """A record of which there is only key and headers is there as any other."""
    kafka(message(4, value, key=b"seven", headers=[("h", b"v")]))
    worker.send_dead_letters([replace(reject(4, value=value), key=b"seven")])
    (letter,) = worker._producer.sent
    assert (letter.key(), letter.value(), own_headers(letter)) == (b"seven", value, [("h", b"v")])


def test_a_reject_that_kafka_has_no_more_keeps_its_own_bytes(worker, kafka):
    """It was read before it was deleted: key and value are set aside, and what is wrong with them."""
    kafka(message(5, b"\x00whole", headers=[("h", b"v")]))
    worker.send_dead_letters([replace(reject(4, value=b"mine"), key=b"k"), reject(5)])
    gone, there = worker._producer.sent
    assert (gone.key(), gone.value(), own_headers(gone)) == (b"k", b"mine", [])
    assert read_error_headers(gone)["offset"] == "4"
    assert (there.value(), own_headers(there)) == (b"\x00whole", [("h", b"v")])


def test_a_reject_of_the_transform_that_kafka_has_no_more_fails_the_batch(worker, kafka):
    """There are no bytes that could be set aside: an empty letter would say that the record was empty."""
    kafka(event(KafkaError._PARTITION_EOF, 5))
    with pytest.raises(KafkaUnreachable, match="users_created no longer has 0:4"):
        worker.send_dead_letters([reject(4, Stage.TRANSFORM, value=None)])
    assert worker._producer.sent == []


def test_rejects_that_cannot_be_read_again_fail_the_batch(worker, kafka):
    """That Kafka is away is no reason to set a record aside without its headers."""
    kafka(raises=kafka_error(KafkaError._TRANSPORT))
    with pytest.raises(KafkaUnreachable, match="reading users_created"):
        worker.send_dead_letters([reject(4)])
    assert worker._producer.sent == []


def test_a_worker_keeps_its_reader(worker, kafka):
    """One connection serves every batch with rejects."""
    reader = kafka(message(4, b"a"))
    worker.send_dead_letters([reject(4)])
    reader._batches.append([message(9, b"b")])
    worker.send_dead_letters([reject(9)])
    assert [letter.value() for letter in worker._producer.sent] == [b"a", b"b"]
    assert reader.assigned == [("users_created", 0, 4), ("users_created", 0, 9)]
    assert not reader.closed


def test_a_worker_that_is_connected_is_seldom_held_up_by_the_collector(worker, monkeypatch):
    """Its connections are made, and what is there then is not looked through for cycles again."""
    collector = Mock()
    monkeypatch.setattr(stream, "gc", collector)
    worker.decoder = "a decoder"
    worker.connect()
    assert "_producer" in worker.__dict__
    assert collector.mock_calls == [call.collect(), call.freeze(), call.set_threshold(200_000)]


@pytest.fixture
def importers(monkeypatch, tmp_path) -> dict[str, object]:
    """What Python remembers of the places that it imports from: a zip file, a folder, and one that is neither."""
    with ZipFile(tmp_path / "packages.zip", "w") as packages:
        packages.writestr("a.py", "")
    remembered = {
        str(tmp_path / "packages.zip"): zipimporter(str(tmp_path / "packages.zip")),
        str(tmp_path): FileFinder(str(tmp_path)),
        "nowhere": None,
    }
    monkeypatch.setattr(sys, "path_importer_cache", remembered)
    return remembered


def test_zip_files_alone_are_forgotten(importers, tmp_path):
    """What Python knows of folders stays, and nothing to forget is fine."""
    stream._forget_zips()
    assert set(importers) == {str(tmp_path), "nowhere"}
    stream._forget_zips()
    assert set(importers) == {str(tmp_path), "nowhere"}


def test_each_task_forgets_zip_files(importers, tmp_path):
    """Spark puts its own packages on the path again with every task."""
    plan = plan_of(read())
    stream._this_worker(plan)
    assert str(tmp_path / "packages.zip") not in importers
    importers[str(tmp_path / "packages.zip")] = zipimporter(str(tmp_path / "packages.zip"))
    stream._this_worker(plan)
    assert str(tmp_path / "packages.zip") not in importers
    stream._get_worker.cache_clear()


def test_a_task_gives_one_tally_per_partition():
    """What a task of Spark's gives back is small: its tallies, merged, nulls as a map."""
    parts = [
        tally(1, 0, 1, stored=2, nulls={"a": 1}),
        tally(0, 5, 5, deleted=1),
        tally(1, 2, 3, stored=1, rejected=1, nulls={"a": 1, "b": 1}),
    ]
    batch = _build_arrow_batch(parts, plan_of(read()))
    assert [
        BatchSummary(**row | {name: dict(row[name]) for name in ("nulls", "latencies")}) for row in batch.to_pylist()
    ] == [
        tally(0, 5, 5, deleted=1),
        tally(1, 0, 3, stored=3, rejected=1, nulls={"a": 2, "b": 1}),
    ]
    assert batch.schema == TALLIES
    assert batch.schema.names == list(BatchSummary._fields)
    assert _build_arrow_batch([], plan_of(read())).num_rows == 0


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
    assert stream._get_worker(settings, 5) is stream._get_worker(read(), 5)
    assert stream._get_worker(settings, 6) is not stream._get_worker(settings, 5)
    stream._get_worker.cache_clear()


def test_a_pipeline_with_a_transform_takes_the_longer_way(monkeypatch):
    """Records of a pipeline with a transform pass through a DataFrame; either way a core has one task of them."""
    monkeypatch.setattr(stream, "_store_as_is", lambda raw, plan: ("as it is", raw))
    monkeypatch.setattr(stream, "_store_transformed", lambda raw, plan: ("transformed", raw))
    raw = SimpleNamespace(coalesce=lambda tasks: f"in {tasks} tasks")
    plan = plan_of(read(spark_cores=3))
    assert stream.store(raw, plan) == ("as it is", "in 3 tasks")
    changed = replace(plan.pipeline, transform=lambda frame: frame)
    monkeypatch.setattr(stream.pipelines, "of", lambda _settings: changed)
    assert stream.store(raw, plan) == ("transformed", "in 3 tasks")
