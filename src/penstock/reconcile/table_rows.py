"""The rows of the table, and which record each of them is from, according to its write timestamp."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import compress
from typing import Any, Protocol, cast

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from confluent_kafka import Message

from penstock.broker import topics
from penstock.broker.topics import OffsetRange, Position
from penstock.config import Settings
from penstock.contract import cql
from penstock.contract.fields import TIMESTAMP, UUID
from penstock.contract.identity import identity_of
from penstock.contract.order import Order
from penstock.pipelines import Pipeline
from penstock.reconcile.audit import Row, RowAuthor, RowPlace, Sent
from penstock.reconcile.fact_loading import Columns, row_columns
from penstock.sink import cassandra, ledger
from penstock.sink.cells import format_ids
from penstock.sink.ledger import Ledger
from penstock.sink.scan import ALL_TOKENS, scan_rows, scan_tokens

_ALL, _TIME, _VALUE = "write times", " written", " value"
"""Names of write times in a result, and of the value that orders it, which no column can have."""
_CLOCK_SKEW_US = 3_600_000_000
_NO_TIME_US = 2**62
"""Later than any write timestamp."""
_GAP_OFFSETS = 1000
_UNSURE_ROWS = 10_000
_READ_AS = {UUID.cql: "CAST({} AS text)", TIMESTAMP.cql: "toUnixTimestamp({})"}
"""How KEY fields are read: UUIDs as text, which is cheaper; moments as ms, for the driver fails on some."""


class Topic(Protocol):
    """What is known of the topic that the rows are from: `auditor.Auditor`."""

    @property
    def book(self) -> Ledger | None: ...  # noqa: D102
    @property
    def order(self) -> Order: ...  # noqa: D102
    @property
    def epoch_us(self) -> int: ...  # noqa: D102
    def sent_of(self, message: Message) -> Sent: ...  # noqa: D102


class TableRows:
    """Reads the rows of the pipeline's table, and tells which of them `topic` wrote."""

    def __init__(self, settings: Settings, session: Session, pipeline: Pipeline, topic: Topic) -> None:
        self._settings = settings
        self._session = session
        self._pipeline = pipeline
        self._topic = topic
        self._keyspace = cassandra.keyspace_of(settings, pipeline)
        self._table = pipeline.build_table(self._keyspace)
        self._identity = identity_of(pipeline.record)

    def columns(self, tokens: tuple[int, int] | None = None) -> Iterator[Columns]:
        """Yield the rows of the whole table, or those with a token in `tokens` (both ends included), by a scan.

        Each page is yielded as columns of `table_rows`, without the rows that have to be classified one by one: they
        follow later.
        """
        others: list[tuple[Any, ...]] = []
        for page in self._scan(tokens):
            is_plain = self._find_plain_rows(page)
            if any(is_plain):
                yield self._build_plain_columns(compress(page, is_plain))
            others += [row for row, plain in zip(page, is_plain, strict=True) if not plain]
            if len(others) >= _UNSURE_ROWS:
                yield self._build_other_columns(others)
                others = []
        if others:
            yield self._build_other_columns(others)

    def _scan(self, tokens: tuple[int, int] | None) -> Iterator[list[tuple[Any, ...]]]:
        if self._table.ttl_s is not None and not self._table.clustering:
            return scan_tokens(self._session, self._table, self._selected, tokens or ALL_TOKENS)
        if tokens is None:
            return scan_rows(self._session, self._select)
        token = cql.render_token(self._table)
        query = f"{self._select} WHERE {token} >= {tokens[0]} AND {token} <= {tokens[1]}"
        return scan_rows(self._session, query)

    def _find_plain_rows(self, page: list[tuple[Any, ...]]) -> Sequence[bool]:
        """Return for each row of a scan whether all of its columns have the write timestamp of its position."""
        import numpy as np

        starts_us = [self._topic.epoch_us + layout.shift_us for layout in self._topic.order.layouts]
        _, required, _ = cql.render_write_times(self._table)
        columns = list(zip(*page, strict=True))[self._offset_at :] if page else ((), (), ())
        offsets, written_us, sum_us, *nullable_us = columns
        has_begun = max(starts_us) < _NO_TIME_US
        if self._pipeline.declared_order is not None or None in offsets or None in written_us or not has_begun:
            return [False] * len(page)
        written = np.array(written_us, dtype="int64")
        is_plain = np.isin(written - np.array(offsets, dtype="int64"), starts_us)
        is_plain &= np.array([us or 0 for us in sum_us], dtype="int64") == required * written
        for times_us in nullable_us:
            is_plain &= np.array([time_us or 0 for time_us in times_us], dtype="int64") <= written
        return cast(list[bool], is_plain.tolist())

    def _build_plain_columns(self, rows: Iterable[tuple[Any, ...]]) -> Columns:
        columns = list(zip(*rows, strict=True))
        partitions, offsets, written_us, *_ = columns[self._offset_at - 1 :]
        orders_us = [time_us - self._topic.epoch_us for time_us in written_us]
        count = len(offsets)
        writers, changed_at = [str(RowAuthor.TOPIC)] * count, [None] * count
        ids = format_ids(columns[: self._offset_at - 1], self._identity)
        return [ids, writers, partitions, offsets, orders_us, [False] * count, changed_at]

    def _build_other_columns(self, rows: Iterable[tuple[Any, ...]]) -> Columns:
        named = [dict(zip(self._columns, row, strict=True)) for row in rows]
        return row_columns(list(self._sorted_in(named)))

    def rows_of(self, ids: Iterable[str]) -> Iterator[Row]:
        """Yield the rows of `ids`, by lookups."""
        select = self._session.prepare(f"{self._select} WHERE {cql.render_key_condition(self._table)}")
        keys = [self._table.key_values(self._identity.of_text(record_id)) for record_id in ids]
        answers = execute_concurrent_with_args(self._session, select, keys, concurrency=50)
        return self._sorted_in([row for _, rows in answers for row in rows])

    @cached_property
    def _select(self) -> str:
        return f"SELECT {', '.join(self._selected)} FROM {cql.render_name(self._table)}"

    @cached_property
    def _selected(self) -> list[str]:
        return [f"{expression} AS {cql.quote_name(column)}" for column, expression in self._columns.items()]

    @property
    def _offset_at(self) -> int:
        """Return the index of the offset in `_columns`: after the KEY fields and the partition."""
        return len(self._identity.columns) + 1

    @cached_property
    def _columns(self) -> dict[str, str]:
        """Return what is read of a row, in CQL, by its name in the result."""
        every, _, nullable = cql.render_write_times(self._table)
        columns = {
            field.column: _READ_AS.get(field.kind.cql, "{}").format(cql.quote_name(field.column))
            for field in self._identity.fields
        }
        columns |= {"kafka_partition": "kafka_partition", "kafka_offset": "kafka_offset"}
        columns |= {"written_us": "WRITETIME(kafka_offset)", _ALL: every}
        columns |= {column + _TIME: f"WRITETIME({cql.quote_name(column)})" for column in nullable}
        if self._order_column is not None:
            columns[self._order_column + _VALUE] = cql.quote_name(self._order_column)
        return columns

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

    def _is_explained(self, row: Mapping[str, Any], place: RowPlace, shifts: set[int]) -> bool:
        """Return whether a row's own columns confirm that its write timestamp is its record's."""
        order_by, column = self._pipeline.declared_order, self._order_column
        if order_by is None:
            return place.shift_us in shifts
        return column is not None and order_by.explains(row[column + _VALUE], place.offset, row["written_us"])

    def _sorted_in(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
        """Yield the rows, classified by writer.

        A write timestamp is the timestamp base of the incarnation plus a layout's shift plus the offset. That of a
        redriven record is earlier, according to the record's header. If the pipeline declares an order, the write
        timestamp follows from the row if it holds the value, or else from its record. A row that was changed by hand
        has a wall-clock timestamp, in all of its columns or in some.
        """
        shifts = {layout.shift_us for layout in self._topic.order.layouts}
        epoch_us, newest_shift_us = self._topic.epoch_us, self._topic.order.newest.shift_us
        _, required, nullable = cql.render_write_times(self._table)
        names = [column + _TIME for column in nullable]
        is_declared = self._pipeline.declared_order is not None
        unsure: list[tuple[Row, RowPlace, bool]] = []
        cells = [[row[column] for row in rows] for column in self._identity.columns]
        for record_id, row in zip(format_ids(cells, self._identity), rows, strict=True):
            offset, written_us = row["kafka_offset"], row["written_us"]
            if offset is None or written_us is None:
                yield self._other_row(record_id, written_us)
                continue
            is_mixed = row[_ALL] != required * written_us
            if names and not is_mixed:
                is_mixed = any((row[name] or 0) > written_us for name in names)
            place = RowPlace(row["kafka_partition"], offset, written_us - epoch_us - offset)
            is_explained = self._is_explained(row, place, shifts)
            if is_explained and (not is_declared or (self._topic.book is not None and self._is_only_generation)):
                yield Row(record_id, RowAuthor.TOPIC, place, is_mixed)
            elif self._topic.book is not None and (is_declared or place.shift_us < newest_shift_us):
                unsure.append((Row(record_id, RowAuthor.TOPIC, place, is_mixed), place, is_explained))
                if len(unsure) == _UNSURE_ROWS:
                    yield from self._compared_rows(unsure)
                    unsure = []
            else:
                yield self._other_row(record_id, written_us, has_place=True)
        if unsure:
            yield from self._compared_rows(unsure)

    def _other_row(self, record_id: str, written_us: int | None, *, has_place: bool = False) -> Row:
        """Return a row that no position of the current topic incarnation explains."""
        latest_us = time.time_ns() // 1000 + _CLOCK_SKEW_US
        if has_place and written_us is not None and self._topic.epoch_us <= written_us <= latest_us:
            return Row(record_id, RowAuthor.HAND, changed_us=written_us)
        is_unknown = written_us is None or written_us >= self._topic.epoch_us
        return Row(record_id, RowAuthor.UNKNOWN if is_unknown else RowAuthor.OLDER)

    def _compared_rows(self, rows: list[tuple[Row, RowPlace, bool]]) -> Iterator[Row]:
        """Yield rows whose write timestamps are earlier than their positions': rows of redriven records, and others.

        Each is given with its position, and whether its own columns explain it. A row that they explain, but the record
        at its position does not, comes from an earlier topic. If Kafka no longer holds the record, a row of this
        incarnation counts as redriven.
        """
        spans = {span.partition: span for span in topics.fetch_offset_ranges(self._settings, self._pipeline.topic)}
        held = {place.place for _, place, _ in rows if _is_in_range(spans.get(place.partition), place)}
        sent = {place: self._topic.sent_of(message) for place, message in self._messages_at(held)}
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
                yield self._other_row(row.id, place.order_us + self._topic.epoch_us, has_place=is_declared)

    def _messages_at(self, places: set[Position]) -> Iterator[tuple[Position, Message]]:
        """Yield the messages at these positions, each with its position. Messages in short gaps are read too."""
        for message in topics.read_records(self._settings, self._pipeline.topic, _merge_positions(places)):
            place = Position(message.partition(), message.offset())
            if place in places:
                yield place, message


def _is_in_range(span: OffsetRange | None, place: RowPlace) -> bool:
    return span is not None and span.first <= place.offset < span.end


def _merge_positions(places: Iterable[Position]) -> list[OffsetRange]:
    """Return spans that cover all of these positions, including gaps of at most `_GAP_OFFSETS`."""
    spans: list[OffsetRange] = []
    for partition, offset in sorted(places):
        last = spans[-1] if spans else None
        if last is not None and last.partition == partition and offset - last.end <= _GAP_OFFSETS:
            spans[-1] = OffsetRange(partition, last.first, offset + 1)
        else:
            spans.append(OffsetRange(partition, offset, offset + 1))
    return spans
