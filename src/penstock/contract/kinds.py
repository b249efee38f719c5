"""The kinds of fields: each type's name in Avro, Spark and CQL, and its values there. Scalars are defined only here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache, partial
from struct import Struct as Layout
from typing import Any

import msgspec
from msgspec import inspect

from penstock.contract.decimals import encode_unscaled, format_decimal, to_scale
from penstock.contract.record import Digits, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT32 = Layout(">i").pack
_UINT32 = Layout(">I").pack
_INT64 = Layout(">q").pack
_DOUBLE = Layout(">d").pack
_FIRST_DAY = date(1970, 1, 1).toordinal() - 2**31
"""Day 0 of CQL's `date`, whose days are unsigned."""


def to_epoch_ms(moment: datetime) -> int:
    """Return whole milliseconds from 1970-01-01T00:00Z to `moment` (with a time zone), rounded down."""
    since = moment - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000


def from_epoch_ms(ms: int) -> datetime:
    """Return the UTC time `ms` milliseconds after 1970-01-01T00:00Z. Raises `OverflowError` outside of years 1-9999."""
    return _EPOCH + timedelta(milliseconds=ms)


def to_microseconds(duration: timedelta) -> int:
    """Return the microseconds of a duration, exactly."""
    return duration // _MICROSECOND


def from_microseconds(us: int) -> timedelta:
    """Return the duration of `us` microseconds, at most 64 bits."""
    return timedelta(microseconds=us)


def _to_nanoseconds(moment: time) -> int:
    seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second
    return (seconds * 1_000_000 + moment.microsecond) * 1000


def fits_64_bits(number: int) -> bool:
    """Return whether a whole number fits Cassandra's `bigint`."""
    return -(2**63) <= number < 2**63


Convert = Callable[[Any], Any]


class Form(StrEnum):
    """What a composite value is made of."""

    LIST = "list"
    SET = "set"
    TUPLE = "tuple"
    MAP = "map"
    RECORD = "record"


@dataclass(frozen=True)
class Shape:
    """The inside of a composite type: the fields of a record, the items of a tuple, or the one item of a list or set.

    A map has the `Field` of its values in `items`, and that of its names in `key`.
    """

    form: Form
    items: tuple["Field", ...]
    key: "Field | None" = None
    record: type[Record] | None = None


@dataclass(frozen=True, eq=False)
class FieldKind:
    """A field type: its names elsewhere, and its CQL encoding (native protocol v5, section 6).

    The other functions convert a value, if it is not the same there: `to_json` for a JSON message, `to_avro` and
    `from_avro` for fastavro, `to_arrow` and `from_arrow` for Spark's columns, `from_cql` from a column whose CQL type
    is not its own, `prepare` for `msgspec.convert`. Those from elsewhere leave what they cannot convert as it is.
    """

    avro: Any
    spark: str
    cql: str
    encode: Callable[[Any], bytes]
    to_avro: Convert | None = None
    from_avro: Convert | None = None
    to_arrow: Convert | None = None
    from_cql: Convert | None = None
    from_arrow: Convert | None = None
    to_json: Convert | None = None
    prepare: Convert | None = None
    shape: Shape | None = None
    """The inside of a composite type, as messages have it; None for a scalar, `Json` and a union."""
    is_text: bool = False
    """Whether the value is stored as text that is JSON in messages: `Json`, or `AS_TEXT`."""


TEXT = FieldKind("string", "STRING", "text", str.encode)
UUID = FieldKind({"type": "string", "logicalType": "uuid"}, "STRING", "uuid", lambda value: value.bytes, to_arrow=str)
TIMESTAMP = FieldKind(
    {"type": "long", "logicalType": "timestamp-millis"},
    "TIMESTAMP",
    "timestamp",
    lambda value: _INT64(to_epoch_ms(value)),
)
DATE = FieldKind(
    {"type": "int", "logicalType": "date"},
    "DATE",
    "date",
    lambda value: _UINT32(value.toordinal() - _FIRST_DAY),
)
TIME = FieldKind(
    {"type": "long", "logicalType": "time-micros"},
    "STRING",  # Spark 4.1 has TIME, but turned off by an internal setting
    "time",
    lambda value: _INT64(_to_nanoseconds(value)),
    to_arrow=time.isoformat,
)
DURATION = FieldKind(
    {"type": "long", "unit": "microseconds"},
    "INTERVAL DAY TO SECOND",
    "bigint",
    lambda value: _INT64(to_microseconds(value)),
    to_avro=to_microseconds,
    from_avro=lambda value: from_microseconds(value) if type(value) is int else value,
    to_arrow=to_microseconds,
    from_cql=from_microseconds,
)
BYTES = FieldKind("bytes", "BINARY", "blob", bytes)
SYMBOL = FieldKind("string", "STRING", "text", str.encode, to_arrow=str)
"""One of several texts: `Literal` or `StrEnum`."""
INT = FieldKind("int", "INT", "int", _INT32)
BIGINT = FieldKind("long", "BIGINT", "bigint", _INT64)
DOUBLE = FieldKind("double", "DOUBLE", "double", _DOUBLE)
FINITE = FieldKind("double", "DOUBLE", "double", _DOUBLE)
"""A float within JSON text, which has no NaN and no Infinity."""
BOOLEAN = FieldKind("boolean", "BOOLEAN", "boolean", lambda value: b"\x01" if value else b"\x00")


@cache
def decimal_kind(digits: Digits) -> FieldKind:
    """Return the type of decimals with these digits. They are stored with exactly as many decimals."""
    scale = digits.scale
    to_bytes, scale_bytes = partial(encode_unscaled, scale=scale), _INT32(scale)
    return FieldKind(
        {"type": "bytes", "logicalType": "decimal", "precision": digits.precision, "scale": scale},
        f"DECIMAL({digits.precision},{scale})",
        "decimal",
        lambda value: scale_bytes + to_bytes(value),
        to_avro=to_bytes,
        to_arrow=partial(to_scale, scale=scale),
        to_json=format_decimal,
    )


@dataclass(frozen=True)
class Field:
    """A field of a record, or an item of a composite type, which has no name.

    `name` is its name in messages and their schemas (JSON, JSON Schema, Avro). `column` is its name in Python,
    DataFrames and the table. They differ if the record's file uses `rename` or `field(name)`.
    """

    name: str
    column: str
    kind: FieldKind
    nullable: bool
    key: bool
    personal: bool
    past: bool
    description: str
    symbols: tuple[str, ...] = ()
    """The texts that a `Literal` or `StrEnum` allows."""
    digits: Digits | None = None
    """The digits of a `Decimal`."""
    aliases: tuple[str, ...] = ()
    """Its former names in messages."""
    default: Any = msgspec.NODEFAULT
    """What a message without the field means, in JSON types; `NODEFAULT` if it is required or null."""
    info: inspect.Type = field(default_factory=inspect.AnyType, compare=False, repr=False)
    """The type as msgspec describes it, without None, description and marks."""
    hint: Any = field(default=None, compare=False, repr=False)
    """The annotation, with all of its metadata."""

    @property
    def required(self) -> bool:
        """Return whether every message has the field."""
        return not self.nullable and self.default is msgspec.NODEFAULT

    @property
    def shape(self) -> Shape | None:
        """Return the inside of a composite type as messages have it."""
        return self.kind.shape
