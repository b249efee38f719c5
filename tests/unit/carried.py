"""A topic of readings for tests, processed batch by batch like in the stream, with the services in memory."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message

from penstock import pipelines
from penstock.broker import admin, headers, kafka, topics
from penstock.broker.admin import TopicSetting
from penstock.broker.topics import OffsetRange
from penstock.codec.records import Decoder
from penstock.config import Settings, read
from penstock.contract.batch import BatchSummary, Decoded, Deletion, Reject, merge_summaries, summarize_batch
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.fields import fields, from_epoch_ms
from penstock.contract.identity import identity_of
from penstock.contract.order import Order, TopicLayout
from penstock.contract.order_by import Source
from penstock.contract.record import Arrival
from penstock.contract.rules import latest_past
from penstock.dead_letters import message as message_format
from penstock.dead_letters.topic import send_dead_letters
from penstock.errors import AirflowUnreachable
from penstock.pipeline.stream import _with_filtered
from penstock.produce import delivery_log
from penstock.produce.delivery_log import DeliveryLog
from penstock.reconcile import auditor, excuse_evidence, verify
from penstock.reconcile.audit import Audit, Row, RowAuthor, RowPlace, Sent
from penstock.reconcile.auditor import Auditor
from penstock.reconcile.reconciliation import Reconciliation, Scope
from penstock.reconcile.verify import TopicReceipt
from penstock.sink.ledger import Ledger
from tests.unit.fakes import FakeProducer, FakeSchemas, FakeSession, message
from tests.unit.keyed import SAMPLES, Sample
from tests.unit.records import READINGS, Reading

EPOCH_US = 1_700_000_000_000_000
TOPIC_ID = "id-1"
HOUR_MS = 3_600_000
REQUIRED = len(fields(Reading)) - 1 + len(fields(Arrival))
"""The columns of a reading's row but for its key."""
STORED_MS = EPOCH_US // 1000 + HOUR_MS

_KEYS = {
    "ledger": ("topic", "generation_us", "kafka_partition", "bucket", "first_offset", "job"),
    "receipts": ("topic", "at"),
    "accepted": ("topic", "generation_us", "kind", "kafka_partition", "kafka_offset", "id"),
    "failing_batches": ("topic", "checkpoint"),
}


def value(sensor: int, celsius: float = 1.0) -> bytes:
    """A valid reading's value; one below zero is dropped by the filter."""
    return msgspec.json.encode(Reading(sensor=sensor, celsius=celsius))


def key(sensor: int) -> bytes:
    """A reading's key."""
    return str(sensor).encode()


class Tables:
    """Cassandra: ledger entries and receipts by their keys, and the readings' rows with their write timestamps."""

    def __init__(self) -> None:
        self.generations = {TOPIC_ID: EPOCH_US}
        self.kept: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {name: {} for name in _KEYS}
        self.rows: dict[int, dict[str, Any]] = {}
        self.deleted_us: dict[int, int] = {}
        self.stored_ms: dict[int, int] = {}
        """When each row was last written."""
        self.layouts = [TopicLayout(1)]
        self.node: dict[str, str] = {"commitlog_sync": "batch"}
        self.ttl = (0, 0)
        """The table's `default_time_to_live`, and when the table was last altered, in us."""
        self.key_cells: Callable[[int], dict[str, Any]] = lambda sensor: {"sensor": sensor}
        """The cells of the KEY fields of a sensor's row, as selected."""
        self.session = FakeSession(self._answer)
        tables = {*self.kept, "generations", "layouts"}
        self.session.cluster.metadata.keyspaces = {"lab": SimpleNamespace(tables=tables)}

    @property
    def order(self) -> Order:
        """The order of the topic's records."""
        return Order(tuple(self.layouts))

    def store(
        self,
        sensor: int,
        partition: int,
        offset: int,
        shift_us: int = 0,
        stored_ms: int = STORED_MS,
        at_ms: int = 0,
    ) -> None:
        """Write a row with its position as a write timestamp."""
        written_us = EPOCH_US + shift_us + offset
        if written_us > self.deleted_us.get(sensor, 0) and written_us >= self.written_us(sensor):
            self.put(sensor, partition, offset, written_us, at_ms)
            self.stored_ms[sensor] = stored_ms

    def put(
        self, sensor: int, partition: int | None, offset: int | None, written_us: int | None, at_ms: int = 0
    ) -> None:
        """Set a row, whatever was there; `at_ms` is Kafka's timestamp."""
        self.rows[sensor] = self.key_cells(sensor) | {
            "ttl_s": None,
            "kafka_partition": partition,
            "kafka_offset": offset,
            "ingested_at value": datetime.fromtimestamp(at_ms / 1000, UTC).replace(
                tzinfo=None
            ),  # as the driver reads it
            "written_us": written_us,
            "write times": None if written_us is None else written_us * REQUIRED,
        }

    def delete(self, sensor: int, offset: int, shift_us: int = 0) -> None:
        """Delete a row like a tombstone at that offset."""
        self.deleted_us[sensor] = max(self.deleted_us.get(sensor, 0), EPOCH_US + shift_us + offset)
        if self.written_us(sensor) <= self.deleted_us[sensor]:
            self.rows.pop(sensor, None)

    def written_us(self, sensor: int) -> int:
        return (self.rows.get(sensor) or {}).get("written_us") or 0

    def _answer(self, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        table = re.search(r"(?:INTO|FROM|EXISTS) \w+\.(\w+)", query)
        name = table[1] if table else ""
        if "default_time_to_live" in query and name == "tables":
            return [{"ttl_s": self.ttl[0], "altered_us": self.ttl[1]}]
        if query.lstrip().startswith("CREATE") or name in ("tables", "settled"):
            return []
        if name == "settings":
            return [{"name": item, "value": self.node[item]} for item in self.node]
        if name == "generations":
            return [{"topic_id": key, "epoch_us": epoch_us} for key, epoch_us in self.generations.items()]
        if name == "layouts":
            return self._layouts(query, values)
        if name == "readings":
            rows = list(self.rows.values())
            return [row for row in rows if row["sensor"] in values] if "WHERE" in query else rows
        if query.startswith("INSERT"):
            return self._insert(name, query, values)
        return self._select(name, query, values)

    def _layouts(self, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        if query.startswith("INSERT") and values[2] not in {layout.partitions for layout in self.layouts}:
            self.layouts.append(TopicLayout(*values[2:5], frozenset(values[5])))
        return [vars(layout) for layout in self.layouts]

    def _insert(self, name: str, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        columns = re.findall(r"\w+", query.partition("(")[2].partition(")")[0])
        row = dict(zip(columns, values, strict=True))
        if "stored_at" in row:
            row["stored_at"] = row["stored_at"].astimezone(UTC).replace(tzinfo=None)  # as the driver reads it
        self.kept[name][tuple(row[item] for item in _KEYS[name])] = row
        return []

    def _select(self, name: str, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        wanted = dict(zip(re.findall(r"(\w+) = (?:\?|%s)", query), values, strict=True))
        result = [row for _, row in sorted(self.kept[name].items()) if wanted.items() <= row.items()]
        return result[::-1] if "DESC" in query or name == "receipts" else result


@cache
def _default_settings() -> Settings:
    return read(home=Path("unused"), verify_memory_mib=128)


def settings_in(home: Path) -> Settings:
    """Return the defaults with another data directory, read once. With 128 MiB, a verification has a single thread.

    On a few records a second thread only costs time.
    """
    return _default_settings().model_copy(update={"home": home})


class FakeAirflow:
    """Airflow with the summaries of some runs; unavailable if there are none."""

    def __init__(self, runs: dict[str, dict[str, Any]] | None) -> None:
        self._runs = runs

    def __enter__(self) -> "FakeAirflow":
        if self._runs is None:
            raise AirflowUnreachable("away")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def iter_summaries(self, newest: int) -> Iterator[tuple[str, dict[str, Any]]]:
        return iter((self._runs or {}).items())


class Carried:
    """A topic, and a stream's results: sends, batches, replays, receipts."""

    PIPELINE = READINGS

    def __init__(self, home: Path, partitions: int = 1) -> None:
        self.settings = settings_in(home)
        self.pipeline = self.PIPELINE
        self.kafka: dict[int, list[Message]] = {partition: [] for partition in range(partitions)}
        self.firsts = dict.fromkeys(range(partitions), 0)
        self.queue = FakeProducer()
        self.tables = Tables()
        self.book = Ledger(self.tables.session, "lab", "readings", EPOCH_US)
        self.runs: dict[str, dict[str, Any]] | None = None
        self.filters = False
        self.decoder = Decoder(self.PIPELINE.record, FakeSchemas.of(self.PIPELINE.record))
        self._batches = 0
        self.stored_ms = STORED_MS
        """When the next batch is stored."""
        self.now_ms = STORED_MS + 1000
        """When a verification takes place."""
        self.compacted: set[tuple[int, int]] = set()
        """The positions of records that compaction removed."""
        self.topic_settings = {"cleanup.policy": "delete", "delete.retention.ms": "86400000"}
        self.queue_first = 0
        """The log start of the dead-letter topic."""

    def value(self, sensor: int) -> bytes:
        """A valid value."""
        return value(sensor)

    def key(self, sensor: int) -> bytes:
        """The key of a sensor's record."""
        return key(sensor)

    def sensor_of(self, record_id: Any) -> int:
        """The sensor of an id."""
        assert isinstance(record_id, int)
        return record_id

    def compact(self) -> None:
        """Remove all but the newest record of each key, and tombstones too, as if `delete.retention.ms` had passed."""
        newest = {(item.partition(), item.key()): item for kept in self.kafka.values() for item in kept}
        for kept in self.kafka.values():
            for record in kept:
                if newest[record.partition(), record.key()] is not record or record.value() is None:
                    self.compacted.add((record.partition(), record.offset()))

    def send(
        self,
        sensor: int,
        what: bytes | None = None,
        *,
        partition: int = 0,
        run: str | None = None,
        tombstone: bool = False,
        named: bytes | None = None,
        at_ms: int | None = None,
        order_us: int | None = None,
        first_ms: int | None = None,
    ) -> int:
        """Return the offset of a reading, of another value, or of a tombstone, which is then in the topic.

        With `order_us` it was redriven, and keeps the position that is this far after the timestamp base; with
        `first_ms` its first timestamp in Kafka.
        """
        body = None if tombstone else self.value(sensor) if what is None else what
        marks = [(headers.RUN, run.encode())] if run else []
        if order_us is not None:
            marks.insert(0, (headers.ORDER, str(EPOCH_US + order_us).encode()))
        if first_ms is not None:
            marks.insert(0, (headers.ORDER, b"t%d" % (first_ms * 1000)))
        offset = len(self.kafka[partition])
        at_ms = STORED_MS - 1000 + offset if at_ms is None else at_ms
        named = self.key(sensor) if named is None else named
        kafka_message = message(
            offset, body, partition=partition, topic="readings", key=named, headers=marks, timestamp_ms=at_ms
        )
        self.kafka[partition].append(kafka_message)
        return offset

    def acknowledge(self, run: str, places: Iterable[tuple[int, int]] | None = None, topic_id: str = TOPIC_ID) -> None:
        """Write the delivery log of an attempt whose records at `places`, or all, were acknowledged."""
        everywhere = [(item.partition(), item.offset()) for kept in self.kafka.values() for item in kept]
        with DeliveryLog(delivery_log.folder_of(self.settings), run, "readings", topic_id) as written:
            for partition, offset in everywhere if places is None else places:
                known = offset < len(self.kafka.get(partition, []))
                written.note(partition, offset, self.kafka[partition][offset].key() if known else b"7")

    def carry_out(self, *spans: OffsetRange, job: str = "job-a", number: int | None = None) -> None:
        """Process a batch: store, delete, dead-letter, then write the ledger entries."""
        self._batches += 1
        lines = self.written(*(spans or self.spans()))
        self.book.write(job, self._batches if number is None else number, lines)

    def written(self, *spans: OffsetRange) -> list[BatchSummary]:
        """A batch that is interrupted before its ledger entries: return what they would be."""
        summaries, identity = [], identity_of(self.pipeline.record)
        for span in spans:
            messages = self._held(span)
            decoded = self._decode(messages)
            kept = Decoded(self._kept(decoded.rows), decoded.deletions, decoded.rejects)
            for record, at_ms, *place in kept.rows:
                self.tables.store(
                    self.sensor_of(identity.of(record)), *place, self._shift_us(*place), self.stored_ms, at_ms
                )
            for deletion in kept.deletions:
                shift_us = self._shift_us(deletion.partition, deletion.offset)
                self.tables.delete(self.sensor_of(deletion.key), deletion.offset, shift_us)
            self._set_aside(kept.rejects)
            read = [_read(span.partition, messages)._replace(stored_at_ms=self.stored_ms)] if messages else []
            summaries += _with_filtered(read, summarize_batch(kept, self.stored_ms))
        return merge_summaries(summaries)

    def _set_aside(self, rejects: list[Reject]) -> None:
        """Send dead letters at the time of the batch."""
        at = datetime.fromtimestamp((self.stored_ms - 1) / 1000, UTC)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(message_format, "datetime", type("At", (datetime,), {"now": lambda _zone: at}))
            send_dead_letters(self.queue, READINGS.dead_letter_topic, rejects, EPOCH_US)

    def expire(self, ttl_s: int) -> None:
        """Give the table a TTL that it had from the beginning: older rows have expired."""
        self.tables.ttl = ttl_s, EPOCH_US
        for sensor in list(self.tables.rows):
            if self.tables.stored_ms[sensor] + ttl_s * 1000 <= self.now_ms:
                del self.tables.rows[sensor]

    def _shift_us(self, partition: int, offset: int) -> int:
        sent = self.kafka[partition][offset]
        declared = self.pipeline.declared_order
        if declared is not None:
            source = Source(sent.timestamp()[1], offset, headers.read_order(sent.headers() or []))
            place = declared.compute_timestamp(Reading(sensor=0, celsius=0), source, latest_past())
            assert isinstance(place, int)
            return place - EPOCH_US - offset
        rank = self.tables.order.rank_of(
            partition, offset, sent.key(), headers.read_order(sent.headers() or []), epoch_us=EPOCH_US
        )
        return rank.shift_us

    def _kept(self, rows: list[Any]) -> list[Any]:
        return [row for row in rows if not self.filters or row[0].celsius >= 0]

    def _decode(self, messages: list[Message]) -> Decoded:
        decoded = Decoded()
        for item in messages:
            place = (item.timestamp()[1], item.partition(), item.offset())
            result = (
                self.decoder.deleted(item.key(), None) if item.value() is None else self.decoder.decode(item.value())
            )
            if isinstance(result, Fault):
                where = ("readings", item.partition(), item.offset())
                decoded.rejects.append(Reject(result, *where, item.key(), item.value(), item.headers() or []))
            elif item.value() is None:
                decoded.deletions.append(Deletion(result, *place))
            else:
                decoded.rows.append((result, *place))
        return decoded

    def refuse(self, run: str, what: bytes = b"refused") -> None:
        """Reject a record at the source."""
        fault = Fault(Reason.CONTRACT_BROKEN, "no", Stage.PRODUCE)
        reject = Reject(fault, "readings", -1, -1, None, what, [(headers.RUN, run.encode())])
        send_dead_letters(self.queue, READINGS.dead_letter_topic, [reject])

    def spans(self) -> list[OffsetRange]:
        """The topic's content."""
        return [OffsetRange(partition, self.firsts[partition], len(kept)) for partition, kept in self.kafka.items()]

    def _spans(self, _settings: Any, topic: str) -> list[OffsetRange]:
        return self.spans() if topic == "readings" else [OffsetRange(0, self.queue_first, len(self.queue.sent))]

    def _held(self, span: OffsetRange) -> list[Message]:
        messages = self.kafka[span.partition][span.first : span.end]
        return [item for item in messages if (item.partition(), item.offset()) not in self.compacted]

    def _settings_of(self, _client: Any, _settings: Any, _topic: str) -> list[TopicSetting]:
        return [TopicSetting(name, value, True, False) for name, value in self.topic_settings.items()]

    def _records(self, _settings: Any, topic: str, wanted: Iterable[OffsetRange]) -> Iterator[Message]:
        for span in wanted:
            yield from self._held(span) if topic == "readings" else self.queue.sent[span.first : span.end]

    def _since(self, _settings: Any, _topic: str, whole: list[OffsetRange], moment: datetime) -> list[OffsetRange]:
        moment_ms = round(moment.timestamp() * 1000)
        ages = {span.partition: [item.timestamp()[1] for item in self.kafka[span.partition]] for span in whole}
        return [
            OffsetRange(item.partition, sum(age < moment_ms for age in ages[item.partition]), item.end)
            for item in whole
        ]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Stand in for the services within the block."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipelines, "of", lambda _settings: self.pipeline)
            patch.setattr(topics, "fetch_offset_ranges", self._spans)
            patch.setattr(topics, "read_records", self._records)
            patch.setattr(topics, "find_offset_ranges_since", self._since)
            patch.setattr(topics, "fetch_topic_id", lambda *_: TOPIC_ID)
            patch.setattr(topics, "describe_topic", lambda *_: topics.Description(TOPIC_ID, len(self.kafka)))
            patch.setattr(auditor, "Registry", lambda _settings: FakeSchemas.of(self.pipeline.record))
            patch.setattr(kafka, "create_admin", lambda _settings: None)
            patch.setattr(admin, "read_settings", self._settings_of)
            patch.setattr(excuse_evidence, "now_ms", lambda: self.now_ms)
            patch.setattr(verify, "Airflow", lambda _settings: FakeAirflow(self.runs))
            yield

    def auditor(self) -> Auditor:
        """A reconciler, for use within `in_place`."""
        return Auditor(self.settings, self.tables.session)

    def sent(self) -> list[Sent]:
        """The topic's records, one by one, as a reconciler reads them, for use within `in_place`."""
        return list(map(self.auditor().sent_of, topics.read_records(self.settings, "readings", self.spans())))

    def audit(self, *spans: OffsetRange) -> "Reconciled":
        """The reconciliation of `spans`, or of all."""
        with self.in_place(), self.auditor().reconciled(Scope(list(spans) or self.spans())) as (audit, reconciliation):
            return Reconciled(audit, reconciliation)

    def verify(self, **what: Any) -> TopicReceipt:
        """The receipt."""
        with self.in_place():
            return verify.verify(self.settings, self.tables.session, **what)


class CarriedSamples(Carried):
    """The same with ids of two fields: a sensor, and a moment that follows from it."""

    PIPELINE = replace(SAMPLES, topic="readings", table="readings")

    def __init__(self, home: Path, partitions: int = 1) -> None:
        super().__init__(home, partitions)
        self.tables.key_cells = lambda sensor: {"sensor": f"s{sensor}", "at": moment_ms(sensor)}

    def value(self, sensor: int) -> bytes:
        return msgspec.json.encode(sample(sensor))

    def key(self, sensor: int) -> bytes:
        return identity_of(Sample).key_of(sample(sensor))

    def sensor_of(self, record_id: Any) -> int:
        return int(record_id[0].removeprefix("s"))


def moment_ms(sensor: int) -> int:
    """The moment of a sample, around midnight."""
    return EPOCH_US // 1000 + sensor * HOUR_MS


def sample(sensor: int) -> Sample:
    """A sample whose moment has another zone than UTC."""
    zone = timezone(timedelta(hours=2))
    return Sample(sensor=f"s{sensor}", at=from_epoch_ms(moment_ms(sensor)).astimezone(zone), celsius=1.0)


class Reconciled:
    """A reconciliation, with what only the engine knows."""

    def __init__(self, audit: Audit, reconciliation: Reconciliation) -> None:
        self._audit = audit
        rows = reconciliation.engine.rows
        self.ids = {int(record_id): expects for record_id, expects in rows("SELECT id, expects_row FROM known_ids")}
        self.waiting_ids = {int(record_id) for (record_id,) in rows("SELECT id FROM ids WHERE waiting > 0")}
        ordered = "SELECT latency_ms FROM latencies ORDER BY partition_id, position"
        self.latencies_ms = [latency_ms for (latency_ms,) in rows(ordered)]
        self.rejected = list(reconciliation.rejected())
        self.missing_records = audit.named["missing"]
        self.gaps = audit.named["gap"]
        self.unordered = audit.named["unordered"]
        self.unordered_ids = audit.differences["unordered"]
        self.repeated = audit.named["repeated"]
        self.miscounted = audit.named["miscounted"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._audit, name)


class Rows:
    """The rows of a table by writer."""

    def __init__(self, rows: Iterable[Row]) -> None:
        every = list(rows)
        self.places: dict[Any, RowPlace] = {row.id: row.place for row in every if row.place is not None}
        self.older = sum(row.writer == RowAuthor.OLDER for row in every)
        self.foreign = [row.id for row in every if row.writer == RowAuthor.UNKNOWN]
        self.changed = {row.id: row.changed_us for row in every if row.writer == RowAuthor.HAND or row.is_mixed}


def looked_up(auditor: Auditor, sensors: Iterable[int]) -> Iterator[Row]:
    """The rows of sensors, by lookups."""
    return (row._replace(id=int(row.id)) for row in auditor.rows_of(map(str, sensors)))


def scanned(auditor: Auditor) -> Iterator[Row]:
    """The rows of a scan, in which the time of a change by hand is known to the second."""
    for columns in auditor.row_columns():
        for name, writer, partition, offset, order_us, is_mixed, changed_at in zip(*columns, strict=True):
            place = None if partition is None else RowPlace(partition, offset, order_us - offset)
            changed_us = changed_at and round(datetime.fromisoformat(changed_at).timestamp()) * 1_000_000
            yield Row(int(name) if name.isdecimal() else name, RowAuthor(writer), place, is_mixed, changed_us)


def _read(partition: int, messages: list[Message]) -> BatchSummary:
    """What a batch read of a partition, all of it filtered so far."""
    first, last = messages[0].offset(), messages[-1].offset()
    count = len(messages)
    return BatchSummary(partition, first, last, count, 0, 0, 0, count, STORED_MS, {}, {})
