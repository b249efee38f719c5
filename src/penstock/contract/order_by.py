"""Order the versions of an id by Kafka's timestamp or a field of the record instead of by offset.

The write timestamp of a record, in us, then depends only on the record, regardless of its partition:

timestamp   ms * 1000 + offset % 1000, so that versions of one millisecond and partition keep their order
a datetime  its microseconds since 1970
an integer  its value

A record without such a value, or with one in the future, is dead-lettered: a row written with it would override all
later updates. Two records of one id with the same write timestamp tie, and `verify` reports them.

A redriven record keeps its original Kafka timestamp: its header `penstock.order` holds `t` and the write timestamp
derived from it. As with offsets, the header can only move a record back.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from penstock.contract.fault import Fault, Reason
from penstock.contract.fields import BIGINT, INT, TIMESTAMP, Field, fields, find_column, from_epoch_ms, to_epoch_ms
from penstock.contract.isolation import NOT_OF_A_RECORD
from penstock.contract.order import DECLARED, Rank, digest_of
from penstock.contract.record import Headers, Record
from penstock.contract.violation import Rule, Violation

BY_OFFSET = "offset"
"""Default: order by offset within the partition (`contract.order`)."""
BY_TIMESTAMP = "timestamp"
"""Order by Kafka's record timestamp."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST = 2**63 - 1
_KEPT = re.compile(rb"t([0-9]{1,18})")
_KINDS = (INT, BIGINT, TIMESTAMP)


class Tombstone(NamedTuple):
    """Argument of a pipeline's `order_of_tombstone`.

    `timestamp` is Kafka's, in UTC; for a redriven tombstone, the original one.
    """

    key: bytes | None
    timestamp: datetime
    headers: Headers


OrderOfTombstone = Callable[[Tombstone], Any]
"""Returns the value that orders a tombstone among the versions of its id: a datetime with a zone, or an integer."""


class Source(NamedTuple):
    """Kafka metadata of a record: timestamp, offset and the header `penstock.order`."""

    timestamp_ms: int
    offset: int
    header: bytes | None = None


@dataclass(frozen=True)
class OrderBy:
    """Orders the records of a pipeline by Kafka's timestamp, or by `field` if set."""

    field: Field | None = None
    of_tombstone: OrderOfTombstone | None = None

    @property
    def name(self) -> str:
        """Return the value of `order_by` in the pipeline's file."""
        return self.field.column if self.field else BY_TIMESTAMP

    def compute_timestamp(self, record: Record, source: Source, latest: datetime) -> int | Fault:
        """Return the write timestamp of a record, in us, or why it has none. `latest` is `rules.latest_past()`."""
        if self.field is None:
            return _place_in_time(source, latest)
        return self.compute_field_timestamp(record, latest)

    def compute_field_timestamp(self, record: Record, latest: datetime) -> int | Fault:
        """Return the write timestamp that the record's field gives, or the fault of its value."""
        assert self.field is not None
        value = getattr(record, self.field.column)
        violation = _find_violation(value, latest)
        return Fault.of([Violation(self.field.name, *violation)]) if violation else _write_us(value)

    def compute_tombstone_timestamp(
        self, key: bytes | None, headers: Headers, source: Source, latest: datetime
    ) -> int | Fault:
        """Return the write timestamp of a record without a value, or why it has none.

        If a field orders the records, the pipeline's function is called; whatever it raises is a fault of this record.
        """
        if self.field is None:
            return _place_in_time(source, latest)
        if self.of_tombstone is None:
            return _build_order_error(
                f"the table is ordered by the field {self.field.column}, which a record without a value does not "
                "have: define order_of_tombstone in the pipeline's file"
            )
        try:
            timestamp = from_epoch_ms(_first_timestamp_us(source) // 1000)
            value = self.of_tombstone(Tombstone(key, timestamp, headers))
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001  the pipeline's own code may raise anything
            return Fault.of_exception(error)
        if not self._is_fit(value):
            what = "a datetime with a zone" if self.field.kind is TIMESTAMP else "an integer"
            return _build_order_error(f"order_of_tombstone returned {type(value).__name__}, not {what}")
        violation = _find_violation(value, latest)
        return (
            _build_order_error(f"the value that order_of_tombstone returned {violation[1]}")
            if violation
            else _write_us(value)
        )

    def _is_fit(self, value: Any) -> bool:
        assert self.field is not None
        if self.field.kind is TIMESTAMP:
            return isinstance(value, datetime) and value.utcoffset() is not None
        return isinstance(value, int) and not isinstance(value, bool)

    def kept_header(self, timestamp_ms: int, offset: int, header: bytes | None) -> tuple[int, bytes] | None:
        """Return the write timestamp by which a redriven record keeps its original order, and the header with it.

        `header` is the record's previous header. Returns None if Kafka gave the record no timestamp.
        """
        if timestamp_ms < 0:
            return None
        kept_us = _first_timestamp_us(Source(timestamp_ms, offset, header))
        return kept_us, b"t%d" % kept_us

    def column_of(self, row: type[Record]) -> str | None:
        """Return the column from which a row's write timestamp is derived; None if rows do not have it."""
        if self.field is None:
            return "ingested_at"
        kept = (field.column for field in fields(row) if (field.column, field.kind) == (self.name, self.field.kind))
        return next(kept, None)

    def explains(self, value: Any, offset: int, written_us: int) -> bool:
        """Return whether a row with `value` in that column, as the driver returns it, was written at this timestamp."""
        if isinstance(value, datetime):  # a column holds milliseconds
            value_ms = to_epoch_ms(value.replace(tzinfo=UTC) + timedelta(microseconds=500))
            return written_us == _in_time_us(value_ms, offset) if self.field is None else written_us // 1000 == value_ms
        return bool(value == written_us)


def declared_rank(order_us: int, epoch_us: int, offset: int, value: bytes | None) -> Rank:
    """Return the rank of a record whose write timestamp is `order_us`, in the incarnation of `epoch_us`."""
    digest = 0 if value is None else digest_of(value)
    return Rank(DECLARED, order_us - epoch_us - offset, is_proven=True, is_kept=True, digest=digest)


def check_order_by(record: type[Record], order_by: object, of_tombstone: object) -> None:
    """Raise `TypeError` or `ValueError`, saying what to write, unless `order_by` can order a pipeline's records."""
    if not isinstance(order_by, str):
        raise TypeError(f"invalid {order_by!r}: expected {BY_OFFSET!r}, {BY_TIMESTAMP!r} or the name of a field")
    if order_by in (BY_OFFSET, BY_TIMESTAMP):
        if order_by == BY_TIMESTAMP and any(field.column == order_by for field in fields(record)):
            raise ValueError(
                f"'timestamp' is Kafka's, but {record.__name__} has a field of that name; to order by either, "
                "write `source_timestamp: ... = msgspec.field(name='timestamp')`"
            )
        if of_tombstone is not None:
            raise ValueError(f"{order_by!r} orders tombstones too: remove order_of_tombstone")
        return
    _check_field(record, order_by)
    if not (of_tombstone is None or callable(of_tombstone)):
        raise TypeError(
            f"order_of_tombstone: {of_tombstone!r} is not callable; write a function that takes a Tombstone"
        )


def _check_field(record: type[Record], name: str) -> None:
    field = find_column(record, name)
    fit = ", ".join(repr(each.column) for each in fields(record) if _is_fit_field(each))
    others = f"write {BY_OFFSET!r}, {BY_TIMESTAMP!r}" + (f", or one of {fit}" if fit else "")
    if field is None:
        raise ValueError(f"{record.__name__} has no field {name!r}: {others}")
    if field.key:
        raise ValueError(f"{name!r} is the key, the same in all versions of a record: {others}")
    if field.nullable:
        raise ValueError(f"{name!r} may be None, but each version needs a value: {others}")
    if not _is_fit_field(field):
        raise TypeError(f"{name!r} is neither a datetime nor an integer: {others}")


def _is_fit_field(field: Field) -> bool:
    return field.kind in _KINDS and not (field.key or field.nullable)


def order_by_of(record: type[Record], order_by: str, of_tombstone: OrderOfTombstone | None) -> OrderBy | None:
    """Return what orders a pipeline's records; None if their offsets do."""
    if order_by == BY_OFFSET:
        return None
    if order_by == BY_TIMESTAMP:
        return OrderBy()
    return OrderBy(next(field for field in fields(record) if field.column == order_by), of_tombstone)


def _place_in_time(source: Source, latest: datetime) -> int | Fault:
    if source.timestamp_ms < 0:
        return _build_order_error("the record has no Kafka timestamp, by which the table is ordered")
    if source.timestamp_ms > latest.timestamp() * 1000:
        return _build_order_error("the record's Kafka timestamp, by which the table is ordered, is in the future")
    return _first_timestamp_us(source)


def _first_timestamp_us(source: Source) -> int:
    """Return the write timestamp of the record's Kafka timestamp, or the earlier timestamp that its header keeps."""
    own_us = _in_time_us(source.timestamp_ms, source.offset)
    kept = _KEPT.fullmatch(source.header) if source.header else None
    return min(own_us, int(kept[1])) if kept else own_us


def _in_time_us(timestamp_ms: int, offset: int) -> int:
    return timestamp_ms * 1000 + offset % 1000


def _find_violation(value: Any, latest: datetime) -> tuple[Rule, str] | None:
    """Return which rule a value that orders a record breaks, and how; None if it is valid."""
    if isinstance(value, datetime):
        is_future = value > latest
        return (Rule.DATE, "is in the future, and the table is ordered by it") if is_future else None
    if 0 <= value <= _LARGEST:
        return None
    return Rule.RANGE, "is negative, or has more than 64 bits, and the table is ordered by it"


def _write_us(value: Any) -> int:
    return (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else int(value)


def _build_order_error(message: str) -> Fault:
    return Fault(Reason.ORDER_UNKNOWN, message)
