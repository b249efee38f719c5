"""The facts that a reconciliation compares, read from Kafka, the ledger, the table and the dead-letter topic."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from confluent_kafka import Message

from penstock import pipelines
from penstock.broker import dlq, headers, topics
from penstock.broker.dlq import DeadLetter
from penstock.broker.registry import Registry
from penstock.broker.topics import Place, Span
from penstock.config import Settings
from penstock.contract import cql
from penstock.contract.fields import build_key_reader, key_of
from penstock.contract.order import FIRST_RANK, ONE_LAYOUT, Order, Rank, digest_of
from penstock.contract.order_by import OrderBy, Source, declared_rank
from penstock.contract.proofs import KeyProofs
from penstock.contract.reject import Fault, Headers
from penstock.contract.rules import latest_past
from penstock.process.decode import Decoder
from penstock.reconcile.audit import Audit, Row, RowAuthor, RowPlace, Sent
from penstock.reconcile.coverage import Coverage
from penstock.reconcile.engine import local_loader
from penstock.reconcile.excuse_evidence import Evidence
from penstock.reconcile.fact_loading import OpenLoader
from penstock.reconcile.reconciliation import Reconciliation, Scope
from penstock.sink import cassandra, ledger, table_orders
from penstock.sink.incarnation import Incarnation
from penstock.sink.key_formats import read_proofs
from penstock.sink.ledger import Ledger
from penstock.sink.scan import scan_rows

_ALL, _TIME = "write times", " written"
"""Names of write times in a result, which no column can have."""
_CLOCK_SKEW_US = 3_600_000_000

_GAP_OFFSETS = 1000
_UNSURE_ROWS = 10_000
_NOT_BEGUN_US = 2**63


class Auditor:
    """Reads the facts about the configured pipeline's topic, and reconciles them.

    Raises `PenstockError` if the table's order differs from the order that the pipeline declares.
    """

    def __init__(self, settings: Settings, session: Session, open_loader: OpenLoader = local_loader) -> None:
        self._settings = settings
        self._session = session
        self._open_loader = open_loader
        self._pipeline = pipelines.of(settings)
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._decoder = Decoder(self._pipeline.record, Registry(settings), self._pipeline.key_format)
        self._key = key_of(self._pipeline.record).column
        self._read_id = build_key_reader(self._pipeline.record)
        table_orders.check_order(session, self._keyspace, self._pipeline)
        self._book: Ledger | None = None
        self.evidence = Evidence(settings, session, self._pipeline, lambda: self.book.epoch_us if self.book else None)
        self.change = ""
        """What shows that the topic was recreated since a job read it; set once `book` has been read."""

    @property
    def book(self) -> Ledger | None:
        """Return the ledger of the current topic incarnation, or None before a job has read it."""
        self._book = self._book or self._open_ledger()
        return self._book

    @cached_property
    def order(self) -> Order:
        """Return the order of the topic's records, with one layout before a job has read the topic."""
        if self.book is None or not cassandra.has_table(self._session, self._keyspace, "layouts"):
            return ONE_LAYOUT
        found = ledger.read_layouts(self._session, self._keyspace, self._pipeline.topic, self.book.epoch_us)
        return Order(tuple(found)) if found else ONE_LAYOUT

    @cached_property
    def proofs(self) -> KeyProofs:
        """Return what is proven about the topic's keys: nothing before a job has read the topic."""
        if self.book is None:
            return KeyProofs()
        return read_proofs(self._session, self._keyspace, self._pipeline.topic, self.book.epoch_us)

    def _open_ledger(self) -> Ledger | None:
        topic = self._pipeline.topic
        if not cassandra.has_table(self._session, self._keyspace, "generations"):
            return None
        topic_id = topics.fetch_topic_id(self._settings, topic)
        self.change = Incarnation(self._session, self._keyspace, self._settings, topic).find_change(topic_id)
        if self.change:
            return None
        epoch_us = ledger.read_epoch_us(self._session, self._keyspace, topic, topic_id)
        return None if epoch_us is None else Ledger(self._session, self._keyspace, topic, epoch_us)

    def coverage(self, span: Span) -> Coverage:
        """Return what the ledger says about `span`."""
        return Coverage([] if self.book is None else list(self.book.lines(span)))

    def waiting(self, spans: list[Span]) -> int:
        """Return how many offsets of `spans` the ledger has not reached yet."""
        return sum(span.end - max(span.first, self._read_reached_offset(span)) for span in spans)

    def _read_reached_offset(self, span: Span) -> int:
        return span.first if self.book is None else min(span.end, self.book.reached(span))

    def sent(self, spans: list[Span]) -> Iterator[Sent]:
        """Yield the records in `spans`."""
        return map(self.sent_of, topics.read_records(self._settings, self._pipeline.topic, spans))

    def sent_of(self, message: Message) -> Sent:
        """Convert a message of the topic into a record."""
        is_deletion, held = message.value() is None, message.headers() or []
        found = self._decode_tombstone(message) if is_deletion else self._decoder.decode(message.value())
        rank = self._compute_rank(message, held, found)
        if isinstance(rank, Fault):
            found, rank = rank, FIRST_RANK
        record_id = None if isinstance(found, Fault) else found if is_deletion else getattr(found, self._key)
        return Sent(
            partition=message.partition(),
            offset=message.offset(),
            timestamp_ms=message.timestamp()[1],
            key=message.key(),
            id=record_id,
            is_deletion=is_deletion and record_id is not None,
            run=headers.find_text(held, headers.RUN),
            rank=rank,
            digest=digest_of(message.value()) if self._pipeline.one_version_per_id and not is_deletion else 0,
        )

    def _compute_rank(self, message: Message, held: Headers, found: Any) -> Rank | Fault:
        """Return the rank of a record that was decoded to `found`, or why it cannot be ordered."""
        partition, offset, key, order = message.partition(), message.offset(), message.key(), headers.read_order(held)
        order_by = self._pipeline.declared_order
        if order_by is not None:
            return found if isinstance(found, Fault) else self._declared_rank(message, held, found, order_by)
        if order is None:
            return self.order.rank(partition, offset, key)
        return self.order.rank_of(partition, offset, key, order, epoch_us=self._epoch_us)

    def _declared_rank(self, message: Message, held: Headers, found: Any, order_by: OrderBy) -> Rank | Fault:
        source = Source(message.timestamp()[1], message.offset(), headers.read_order(held))
        if message.value() is None:
            place = order_by.compute_tombstone_timestamp(message.key(), held, source, latest_past())
        else:
            place = order_by.compute_timestamp(found, source, latest_past())
        if isinstance(place, Fault):
            return place
        return declared_rank(place, self._epoch_us, message.offset(), message.value())

    @property
    def _epoch_us(self) -> int:
        """Return the timestamp base: 0 before the first incarnation; later than any row if a new one has not begun."""
        if self.book is not None:
            return self.book.epoch_us
        return _NOT_BEGUN_US if self.change else 0

    def _decode_tombstone(self, message: Message) -> Any:
        return self._decoder.deleted(message.key(), self.proofs.at(message.partition(), message.offset()))

    def rows(self, tokens: tuple[int, int] | None = None) -> Iterator[Row]:
        """Yield the rows of the whole table, or those with a token in `tokens` (both ends included), by a scan."""
        within = ""
        if tokens is not None:
            token = f"token({cql.quote_name(self._key)})"
            within = f" WHERE {token} >= {tokens[0]} AND {token} <= {tokens[1]}"
        return self._sorted_in(scan_rows(self._session, self._build_select() + within))

    def rows_of(self, ids: Iterable[Any]) -> Iterator[Row]:
        """Yield the rows of `ids`, by lookups."""
        select = self._session.prepare(f"{self._build_select()} WHERE {cql.quote_name(self._key)} = ?")
        answers = execute_concurrent_with_args(self._session, select, [(one,) for one in ids], concurrency=50)
        return self._sorted_in(row for _, found in answers for row in found)

    def _build_select(self) -> str:
        key, table = cql.quote_name(self._key), cql.quote_table(self._keyspace, self._pipeline.table)
        every, _, nullable = cql.render_write_times(self._pipeline.stored)
        times = ["WRITETIME(kafka_offset) AS written_us", f"{every} AS {cql.quote_name(_ALL)}"]
        times += [f"WRITETIME({cql.quote_name(column)}) AS {cql.quote_name(column + _TIME)}" for column in nullable]
        columns = [key, "kafka_partition", "kafka_offset"]
        columns += [] if self._order_column is None else [cql.quote_name(self._order_column)]
        return f"SELECT {', '.join([*columns, *times])} FROM {table}"

    @cached_property
    def _order_column(self) -> str | None:
        """Return the column that determines a row's write timestamp; None if the offset does."""
        order_by = self._pipeline.declared_order
        return None if order_by is None else order_by.column_of(self._pipeline.stored)

    @cached_property
    def _is_only_generation(self) -> bool:
        """Return whether the topic was never recreated, so that no row can come from an earlier topic of this name."""
        generations = ledger.read_generations(self._session, self._keyspace, self._pipeline.topic)
        return len(set(generations.values())) == 1

    def _is_explained(self, row: dict[str, Any], place: RowPlace, shifts: set[int]) -> bool:
        """Return whether a row's own columns confirm that its write timestamp is its record's."""
        order_by, column = self._pipeline.declared_order, self._order_column
        if order_by is None:
            return place.shift_us in shifts
        return column is not None and order_by.explains(row[column], place.offset, row["written_us"])

    def _sorted_in(self, found: Iterable[dict[str, Any]]) -> Iterator[Row]:
        """Yield the rows, classified by writer.

        A write timestamp is the timestamp base of the incarnation plus a layout's shift plus the offset. That of a
        redriven record is earlier, according to the record's header. If the pipeline declares an order, the write
        timestamp follows from the row if it holds the value, or else from its record. A row that was changed by hand
        has a wall-clock timestamp, in all of its columns or in some.
        """
        shifts = {layout.shift_us for layout in self.order.layouts}
        epoch_us, newest_shift_us = self._epoch_us, self.order.newest.shift_us
        _, required, nullable = cql.render_write_times(self._pipeline.stored)
        names = [column + _TIME for column in nullable]
        is_declared = self._pipeline.declared_order is not None
        unsure: list[tuple[Row, RowPlace, bool]] = []
        for row in found:
            record_id, offset, written_us = row[self._key], row["kafka_offset"], row["written_us"]
            if offset is None or written_us is None:
                yield self._other_row(record_id, written_us)
                continue
            is_mixed = row[_ALL] != required * written_us
            if names and not is_mixed:
                is_mixed = any((row[name] or 0) > written_us for name in names)
            place = RowPlace(row["kafka_partition"], offset, written_us - epoch_us - offset)
            is_explained = self._is_explained(row, place, shifts)
            if is_explained and (not is_declared or (self.book is not None and self._is_only_generation)):
                yield Row(record_id, RowAuthor.TOPIC, place, is_mixed)
            elif self.book is not None and (is_declared or place.shift_us < newest_shift_us):
                unsure.append((Row(record_id, RowAuthor.TOPIC, place, is_mixed), place, is_explained))
                if len(unsure) == _UNSURE_ROWS:
                    yield from self._compared_rows(unsure)
                    unsure = []
            else:
                yield self._other_row(record_id, written_us, has_place=True)
        if unsure:
            yield from self._compared_rows(unsure)

    def _other_row(self, record_id: Any, written_us: int | None, *, has_place: bool = False) -> Row:
        """Return a row that no position of the current topic incarnation explains."""
        latest_us = time.time_ns() // 1000 + _CLOCK_SKEW_US
        if has_place and written_us is not None and self._epoch_us <= written_us <= latest_us:
            return Row(record_id, RowAuthor.HAND, changed_us=written_us)
        is_unknown = written_us is None or written_us >= self._epoch_us
        return Row(record_id, RowAuthor.UNKNOWN if is_unknown else RowAuthor.OLDER)

    def _compared_rows(self, rows: list[tuple[Row, RowPlace, bool]]) -> Iterator[Row]:
        """Yield rows whose write timestamps are earlier than their positions': rows of redriven records, and others.

        Each is given with its position, and whether its own columns explain it. A row that they explain, but the record
        at its position does not, comes from an earlier topic. If Kafka no longer holds the record, a row of this
        incarnation counts as redriven.
        """
        spans = {span.partition: span for span in topics.spans(self._settings, self._pipeline.topic)}
        held = {place.place for _, place, _ in rows if _is_in_range(spans.get(place.partition), place)}
        sent = {place: self.sent_of(message) for place, message in self._messages_at(held)}
        is_declared = self._pipeline.declared_order is not None
        for row, place, is_explained in rows:
            span, record = spans.get(place.partition), sent.get(place.place)
            is_gone = span is not None and place.offset < span.first and (is_declared or place.order_us >= 0)
            is_of_record = record is not None and record.rank.shift_us == place.shift_us
            is_other = is_declared and record is not None and record.id != row.id
            if is_gone or (is_of_record and not is_other):
                yield row
            elif is_explained:
                yield Row(row.id, RowAuthor.OLDER)
            else:
                yield self._other_row(row.id, place.order_us + self._epoch_us, has_place=is_declared)

    def _messages_at(self, places: set[Place]) -> Iterator[tuple[Place, Message]]:
        """Yield the messages at these positions, each with its position. Messages in short gaps are read too."""
        for message in topics.read_records(self._settings, self._pipeline.topic, _merge_positions(places)):
            place = Place(message.partition(), message.offset())
            if place in places:
                yield place, message

    def letter_copies(self) -> Iterator[tuple[DeadLetter, bool]]:
        """Yield the dead letters, duplicates included, each with whether it belongs to the current topic incarnation.

        Records rejected at the source, which never reached a topic, count as current.
        """
        epoch_us = None if self.book is None else self.book.epoch_us
        for letter in dlq.letters(self._settings, self._pipeline):
            origin = letter.origin
            is_current = origin.partition < 0 or origin.generation_us == epoch_us
            yield letter, is_current and origin.topic == self._pipeline.topic

    def letters(self, within: Callable[[Iterator[DeadLetter]], Iterator[DeadLetter]] = iter) -> dict[str, DeadLetter]:
        """Return the dead letters of the current topic incarnation and of records that never reached it, by identity.

        `within` may stop reading the dead-letter topic early.
        """
        return dlq.unique(within(letter for letter, is_current in self.letter_copies() if is_current))

    def audit(self, spans: list[Span]) -> Audit:
        """Return the outcome of every record in `spans`."""
        with self.reconciled(Scope(spans)) as (audit, _):
            return audit

    def audit_run(self, spans: list[Span], run_id: str) -> Audit:
        """Return the outcome of every record of one run, which lie in `spans`."""
        scope = Scope(spans, run_id, is_whole=False, is_meant=lambda letter: letter.run == run_id)
        with self.reconciled(scope) as (audit, reconciliation):
            return replace(audit, latency_ms=reconciliation.latency_ms())

    @contextmanager
    def reconciled(self, scope: Scope) -> Iterator[tuple[Audit, Reconciliation]]:
        """Reconcile, and keep the reconciliation open for more queries within the block."""
        with self._open_loader(self._settings, self) as loader:
            reconciliation = Reconciliation(loader, self, self.evidence, scope)
            yield reconciliation.carry_out(), reconciliation

    def id_of_key(self, key: bytes) -> Any:
        """Return the id that a message's key represents, or None if it represents no id."""
        found = self._decoder.deleted(key, self.proofs.by_now)
        return None if isinstance(found, Fault) else found

    def id_of_text(self, text: str) -> Any:
        """Return the id that a text represents, as listed or in the delivery log; None if it represents no id."""
        try:
            return self._read_id(text.encode())
        except ValueError:
            return None

    def log_starts(self) -> dict[int, int]:
        """Return the first offset that each partition of the topic holds now."""
        return {span.partition: span.first for span in topics.spans(self._settings, self._pipeline.topic)}

    def later_deletions(self, spans: list[Span]) -> Iterator[Sent]:
        """Yield the tombstones after `spans`."""
        later = topics.beyond(spans, topics.spans(self._settings, self._pipeline.topic))
        return (one for one in self.sent(later) if one.is_deletion)


def _is_in_range(span: Span | None, place: RowPlace) -> bool:
    return span is not None and span.first <= place.offset < span.end


def _merge_positions(places: Iterable[Place]) -> list[Span]:
    """Return spans that cover all of these positions, including gaps of at most `_GAP_OFFSETS`."""
    spans: list[Span] = []
    for partition, offset in sorted(places):
        last = spans[-1] if spans else None
        if last is not None and last.partition == partition and offset - last.end <= _GAP_OFFSETS:
            spans[-1] = Span(partition, last.first, offset + 1)
        else:
            spans.append(Span(partition, offset, offset + 1))
    return spans
