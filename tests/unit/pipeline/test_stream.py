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
from penstock.contract.batch import SUMMARY_DDL, BatchSummary, Decoded, Deletion, Reject
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.violation import Rule, Violation
from penstock.dead_letters.message import PREFIX, read_error_headers
from penstock.errors import DeliveryFailed, KafkaUnreachable, StoreFailed
from penstock.pipeline import stream
from penstock.pipeline.stream import (
    BatchPlan,
    Worker,
    _build_arrow_batch,
    _with_filtered,
    decode_records,
    store_batch,
    write_batches,
)
from penstock.process.batches import decoded_ddl
from penstock.sink.rows import Unencodable
from tests.unit.ddl import arrow_schema
from tests.unit.fakes import FakeConsumer, FakeProducer, event, kafka_error, message
from tests.unit.records import READINGS, Reading

READING = Reading(sensor=1, celsius=1.0)


TALLIES = arrow_schema(SUMMARY_DDL)


def summary(partition: int, first: int, last: int, at_ms: int = 9, nulls: dict[str, int] | None = None, **counts: int):
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
    """A worker whose rows and dead letters are recorded."""
    worker = Worker(read(), epoch_us=5)
    worker.rows = FakeWriter()
    producer = FakeProducer()
    monkeypatch.setattr(stream, "create_producer", lambda _settings: producer)
    return worker


@pytest.fixture
def kafka(monkeypatch):
    """Install a reader of these messages, which the worker opens once."""

    def make(*messages: Message, **named) -> FakeConsumer:
        made = [FakeConsumer([list(messages)], **named)]
        monkeypatch.setattr(stream, "create_reader", lambda _settings: made.pop())
        return made[0]

    return make


def test_dropped_records_are_counted_as_filtered():
    """Records that were read and had no other outcome were filtered; in a partition without outcomes, all of them."""
    read_ = [summary(0, 5, 14, filtered=10, at_ms=1), summary(1, 0, 1, filtered=2, at_ms=1)]
    written = [summary(0, 6, 12, stored=4, deleted=2, rejected=1, nulls={"a": 3})]
    assert _with_filtered(read_, written) == [
        summary(0, 5, 14, stored=4, deleted=2, rejected=1, filtered=3, nulls={"a": 3}),
        summary(1, 0, 1, filtered=2, at_ms=1),
    ]


def test_a_transform_that_drops_nothing_filters_nothing():
    """All that was read was written."""
    written = [summary(0, 0, 4, stored=4, deleted=1)]
    assert _with_filtered([summary(0, 0, 4, filtered=5)], written) == written
    assert _with_filtered([], []) == []


def test_a_batch_is_stored_then_dead_lettered_then_counted(worker, kafka):
    """Rows, deletions and dead letters of each batch are acknowledged before its summary is returned."""
    kafka(message(3, b"x"))
    gone = Deletion(4, 0, 0, 4)
    batches = [
        Decoded([(READING, 0, 0, 1), (READING, 0, 0, 2)], [gone], [reject(3)]),
        Decoded(),
        Decoded([(READING, 0, 1, 7)]),
    ]
    summaries = list(write_batches(batches, worker))
    assert [item._replace(stored_at_ms=0, latencies={}) for item in summaries] == [
        summary(0, 1, 4, stored=2, deleted=1, rejected=1, at_ms=0),
        summary(1, 7, 7, stored=1, at_ms=0),
    ]
    assert all(item.stored_at_ms > 1_600_000_000_000 for item in summaries)
    assert [list(item.latencies.values()) for item in summaries] == [[2], [1]]
    assert [row[3] for row in worker.rows.rows] == [1, 2, 7]
    assert worker.rows.deletions == [gone]
    (letter,) = worker._producer.sent
    assert (letter.topic(), read_error_headers(letter)["offset"]) == ("users_created.dlq", "3")


@pytest.mark.parametrize("transform", [None, lambda frame: frame])
def test_a_record_that_cannot_be_encoded_is_one_dead_letter(worker, kafka, transform):
    """The rest of its batch is stored; it is dead-lettered as it is in Kafka, with its error, and counted as such."""
    kafka(message(2, b"raw", key=b"k"), message(4, None, key=b"{}"))
    worker._pipeline = replace(worker._pipeline, transform=transform)
    worker.rows.unencodable = [Unencodable(0, 2, OverflowError("too late")), Unencodable(0, 4, TypeError("no id"))]
    rows = [(READING, 0, 0, offset) for offset in (1, 2, 3)]
    (result,) = write_batches([Decoded(rows, [Deletion(4, 0, 0, 4), Deletion(5, 0, 0, 5)])], worker)
    assert (result.records, result.stored, result.deleted, result.rejected) == (5, 2, 1, 2)
    letter, deletion = worker._producer.sent
    assert (letter.key(), letter.value(), deletion.value()) == (b"k", b"raw", None)
    facts = read_error_headers(letter)
    assert (facts["offset"], facts["reason"], facts["message"]) == ("2", "processing_error", "OverflowError: too late")
    assert facts["stage"] == ("transform" if transform else "decode")


def test_a_row_that_breaks_a_rule_when_it_is_written_is_one_dead_letter(worker, kafka):
    """Its reason is that of a broken rule, with the field; its bytes are those in Kafka."""
    kafka(message(2, b"raw", key=b"k"))
    worker.rows.unencodable = [Unencodable(0, 2, Violation("expires_at", Rule.RANGE, "ends after 2106-02-06"))]
    (result,) = write_batches([Decoded([(READING, 0, 0, offset) for offset in (1, 2)])], worker)
    assert (result.records, result.stored, result.rejected) == (2, 1, 1)
    (letter,) = worker._producer.sent
    facts = read_error_headers(letter)
    assert (letter.value(), facts["reason"], facts["rules"]) == (b"raw", "contract_broken", "expires_at:range")
    assert facts["message"] == "expires_at: ends after 2106-02-06"


@pytest.mark.parametrize("error", [OverflowError("too late"), Violation("expires_at", Rule.RANGE, "too late")])
def test_a_record_that_failed_late_and_is_gone_fails_the_batch(worker, kafka, error):
    """Its bytes are unavailable: an empty dead letter would claim that the record was empty."""
    kafka(event(KafkaError._PARTITION_EOF, 5))
    worker.rows.unencodable = [Unencodable(0, 4, error)]
    with pytest.raises(KafkaUnreachable, match="users_created no longer has 0:4"):
        list(write_batches([Decoded([(READING, 0, 0, 4)])], worker))


def test_a_batch_that_is_not_stored_has_no_summary(worker):
    """A Cassandra error fails the batch before any of it is counted."""
    worker.rows.error = StoreFailed("no")
    with pytest.raises(StoreFailed):
        list(write_batches([Decoded([(READING, 0, 0, 1)], rejects=[reject(2)])], worker))


def test_an_unacknowledged_dead_letter_fails_the_batch(worker, kafka, monkeypatch):
    """A dead letter that Kafka did not acknowledge fails the batch."""
    kafka(message(2, b"x"))
    monkeypatch.setattr(stream, "create_producer", lambda _settings: FakeProducer(fails=lambda _: True))
    with pytest.raises(DeliveryFailed):
        list(write_batches([Decoded(rejects=[reject(2)])], worker))


def test_a_worker_reads_keys_as_the_pipeline_declares(monkeypatch):
    """The job's decoder uses the declaration in the pipeline's file."""
    monkeypatch.setattr(pipelines, "of", lambda _settings: replace(READINGS, key_format="json"))
    decoder = Worker(read(), epoch_us=5).decoder
    assert decoder.deleted(b'{"sensor":7}', frozenset()) == 7
    assert isinstance(decoder.deleted(b'{"payload":7}', frozenset()), Fault)


def test_a_batch_without_dead_letters_creates_no_producer(worker, monkeypatch):
    """It does not connect to Kafka."""
    monkeypatch.setattr(stream, "create_producer", lambda _settings: pytest.fail("a producer was made"))
    monkeypatch.setattr(stream, "create_reader", lambda _settings: pytest.fail("a reader was made"))
    worker.send_dead_letters([])


def own_headers(letter: Message) -> list[tuple[str, bytes | None]]:
    return [header for header in letter.headers() if not header[0].startswith(PREFIX)]


@pytest.mark.parametrize("stage", [Stage.DECODE, Stage.TRANSFORM])
def test_a_dead_letter_gets_its_bytes_and_headers_from_kafka(worker, kafka, stage):
    """Records that could not be decoded, or that a transform made invalid, are dead-lettered byte for byte."""
    headers = [("h", b"v"), ("h", None)]
    reader = kafka(message(4, b"\x00whole", key=b"k", headers=headers))
    worker.send_dead_letters([reject(4, stage, value=None)])
    (letter,) = worker._producer.sent
    assert reader.assigned == [("users_created", 0, 4)]
    assert (letter.key(), letter.value(), own_headers(letter)) == (b"k", b"\x00whole", headers)
    assert read_error_headers(letter)["stage"] == stage


def test_dead_letters_of_several_partitions_get_their_own_records(worker, kafka):
    """No record is taken for another with the same offset elsewhere, and those in between are ignored."""
    reader = kafka(
        message(4, b"a", headers=[("at", b"0:4")]),
        message(5, b"good"),
        message(6, b"b", headers=[("at", b"0:6")]),
    )
    reader._batches.append([message(4, b"c", partition=1, headers=[("at", b"1:4")])])
    worker.send_dead_letters([reject(6), replace(reject(4), partition=1), reject(4, Stage.TRANSFORM)])
    assert [(item.value(), own_headers(item)) for item in worker._producer.sent] == [
        (b"b", [("at", b"0:6")]),
        (b"c", [("at", b"1:4")]),
        (b"a", [("at", b"0:4")]),
    ]
    facts = [read_error_headers(item) for item in worker._producer.sent]
    assert [(fact["partition"], fact["offset"]) for fact in facts] == [("0", "6"), ("1", "4"), ("0", "4")]


@pytest.mark.parametrize("value", [None, b""], ids=["null", "empty"])
def test_a_dead_letter_without_a_value_gets_its_headers_from_kafka(worker, kafka, value):
    """A record with only key and headers is handled like any other."""
    kafka(message(4, value, key=b"seven", headers=[("h", b"v")]))
    worker.send_dead_letters([replace(reject(4, value=value), key=b"seven")])
    (letter,) = worker._producer.sent
    assert (letter.key(), letter.value(), own_headers(letter)) == (b"seven", value, [("h", b"v")])


def test_a_dead_letter_that_kafka_has_deleted_keeps_its_own_bytes(worker, kafka):
    """It was read before it was deleted: key and value are dead-lettered, with the reason."""
    kafka(message(5, b"\x00whole", headers=[("h", b"v")]))
    worker.send_dead_letters([replace(reject(4, value=b"mine"), key=b"k"), reject(5)])
    gone, there = worker._producer.sent
    assert (gone.key(), gone.value(), own_headers(gone)) == (b"k", b"mine", [])
    assert read_error_headers(gone)["offset"] == "4"
    assert (there.value(), own_headers(there)) == (b"\x00whole", [("h", b"v")])


def test_a_record_failed_by_the_transform_that_kafka_has_deleted_fails_the_batch(worker, kafka):
    """Its bytes are unavailable: an empty dead letter would claim that the record was empty."""
    kafka(event(KafkaError._PARTITION_EOF, 5))
    with pytest.raises(KafkaUnreachable, match="users_created no longer has 0:4"):
        worker.send_dead_letters([reject(4, Stage.TRANSFORM, value=None)])
    assert worker._producer.sent == []


def test_dead_letters_that_cannot_be_read_again_fail_the_batch(worker, kafka):
    """An unavailable Kafka is no reason to dead-letter a record without its headers."""
    kafka(raises=kafka_error(KafkaError._TRANSPORT))
    with pytest.raises(KafkaUnreachable, match="reading users_created"):
        worker.send_dead_letters([reject(4)])
    assert worker._producer.sent == []


def test_a_worker_keeps_its_reader(worker, kafka):
    """One connection serves every batch with dead letters."""
    reader = kafka(message(4, b"a"))
    worker.send_dead_letters([reject(4)])
    reader._batches.append([message(9, b"b")])
    worker.send_dead_letters([reject(9)])
    assert [letter.value() for letter in worker._producer.sent] == [b"a", b"b"]
    assert reader.assigned == [("users_created", 0, 4), ("users_created", 0, 9)]
    assert not reader.closed


def test_a_connected_worker_is_rarely_stopped_by_the_garbage_collector(worker, monkeypatch):
    """Its connections exist by then, and existing objects are not scanned for cycles again."""
    collector = Mock()
    monkeypatch.setattr(stream, "gc", collector)
    worker.decoder = "a decoder"
    worker.connect()
    assert "_producer" in worker.__dict__
    assert collector.mock_calls == [call.collect(), call.freeze(), call.set_threshold(200_000)]


@pytest.fixture
def importers(monkeypatch, tmp_path) -> dict[str, object]:
    """Python's importer cache: a zip file, a folder, and a path that is neither."""
    with ZipFile(tmp_path / "packages.zip", "w") as packages:
        packages.writestr("a.py", "")
    remembered = {
        str(tmp_path / "packages.zip"): zipimporter(str(tmp_path / "packages.zip")),
        str(tmp_path): FileFinder(str(tmp_path)),
        "nowhere": None,
    }
    monkeypatch.setattr(sys, "path_importer_cache", remembered)
    return remembered


def test_only_zip_files_are_removed_from_the_importer_cache(importers, tmp_path):
    """Folders stay, and an empty cache is no error."""
    stream._forget_zips()
    assert set(importers) == {str(tmp_path), "nowhere"}
    stream._forget_zips()
    assert set(importers) == {str(tmp_path), "nowhere"}


def test_each_task_removes_zip_files_from_the_importer_cache(importers, tmp_path):
    """Spark adds its own packages to the path again with every task."""
    plan = plan_of(read())
    stream._this_worker(plan)
    assert str(tmp_path / "packages.zip") not in importers
    importers[str(tmp_path / "packages.zip")] = zipimporter(str(tmp_path / "packages.zip"))
    stream._this_worker(plan)
    assert str(tmp_path / "packages.zip") not in importers
    stream._get_worker.cache_clear()


def test_a_task_returns_one_summary_per_partition():
    """The result of a Spark task is small: its summaries, merged, nulls as a map."""
    parts = [
        summary(1, 0, 1, stored=2, nulls={"a": 1}),
        summary(0, 5, 5, deleted=1),
        summary(1, 2, 3, stored=1, rejected=1, nulls={"a": 1, "b": 1}),
    ]
    batch = _build_arrow_batch(parts, plan_of(read()))
    assert [
        BatchSummary(**row | {name: dict(row[name]) for name in ("nulls", "latencies")}) for row in batch.to_pylist()
    ] == [
        summary(0, 5, 5, deleted=1),
        summary(1, 0, 3, stored=3, rejected=1, nulls={"a": 2, "b": 1}),
    ]
    assert batch.schema == TALLIES
    assert batch.schema.names == list(BatchSummary._fields)
    assert _build_arrow_batch([], plan_of(read())).num_rows == 0


def test_a_plan_can_be_sent_to_a_worker():
    """A plan can be pickled, including secrets of the settings, and finds the pipeline where it is opened."""
    plan = plan_of(read(kafka_password="secret"))
    there = pickle.loads(pickle.dumps(plan))
    assert there == plan
    assert there.settings.kafka_password.get_secret_value() == "secret"
    assert there.pipeline is pipelines.of(plan.settings)


def test_a_worker_is_kept_between_tasks():
    """Connections are created once per Python worker; other settings or another incarnation have their own."""
    settings = read()
    assert stream._get_worker(settings, 5) is stream._get_worker(read(), 5)
    assert stream._get_worker(settings, 6) is not stream._get_worker(settings, 5)
    stream._get_worker.cache_clear()


def test_a_pipeline_with_a_transform_uses_a_dataframe(monkeypatch):
    """Its records pass through a DataFrame; in either case a core has one task with them."""
    monkeypatch.setattr(stream, "_store_as_is", lambda raw, plan: ("as it is", raw))
    monkeypatch.setattr(stream, "_store_transformed", lambda raw, plan: ("transformed", raw))
    raw = SimpleNamespace(coalesce=lambda tasks: f"in {tasks} tasks")
    plan = plan_of(read(spark_cores=3))
    assert stream.store_batch(raw, plan) == ("as it is", "in 3 tasks")
    changed = replace(plan.pipeline, transform=lambda frame: frame)
    monkeypatch.setattr(stream.pipelines, "of", lambda _settings: changed)
    assert stream.store_batch(raw, plan) == ("transformed", "in 3 tasks")


class LocalFrame:
    """A DataFrame of one partition whose tasks run in this process."""

    def __init__(self, *batches: pa.RecordBatch) -> None:
        self._batches = batches

    def coalesce(self, _partitions: int) -> "LocalFrame":
        return self

    def mapInArrow(self, task, _ddl: str) -> "LocalFrame":  # noqa: N802  pyspark's name
        return LocalFrame(*task(iter(self._batches)))

    def rows(self) -> list[dict]:
        return [row for batch in self._batches for row in batch.to_pylist()]

    def collect(self) -> list[tuple]:
        return [
            tuple(dict(value) if isinstance(value, list) else value for value in row.values()) for row in self.rows()
        ]


def test_a_selection_shows_what_the_job_stores(monkeypatch):
    """The job's selection has the rows that the job stores, and the dead letters that it writes."""
    monkeypatch.setattr(pipelines, "of", lambda _settings: READINGS)
    worker, rejects = Worker(read(), epoch_us=5), []
    worker.rows = FakeWriter()
    monkeypatch.setattr(worker, "send_dead_letters", rejects.extend)
    monkeypatch.setattr(stream, "_this_worker", lambda _plan: worker)
    plan = BatchPlan(read(), 5, arrow_schema(decoded_ddl(Reading)), TALLIES)
    values = [b'{"sensor":1,"celsius":2.5}', b"{", b'{"sensor":-1,"celsius":0.0}', b'{"sensor":3,"celsius":4.0}']
    schema = arrow_schema(
        "key BINARY, value BINARY, partition INT, offset BIGINT, timestamp_ms BIGINT, order_header BINARY"
    )
    records = [
        {"key": b"k", "value": value, "partition": 1, "offset": offset, "timestamp_ms": 9, "order_header": None}
        for offset, value in enumerate(values)
    ]
    raw = LocalFrame(pa.RecordBatch.from_pylist(records, schema=schema))
    selected = decode_records(raw, plan).rows()
    (outcome,) = store_batch(raw, plan)
    assert (outcome.records, outcome.stored, outcome.rejected) == (4, 2, 2)
    assert [(row["sensor"], row["celsius"], row["kafka_offset"]) for row in selected if not row["_rejected"]] == [
        (record.sensor, record.celsius, offset) for record, _, _, offset in worker.rows.rows
    ]
    assert [(row["kafka_offset"], row["_rejected"]["reason"]) for row in selected if row["_rejected"]] == [
        (rejected.offset, rejected.fault.reason) for rejected in rejects
    ]
