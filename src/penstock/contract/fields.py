"""The fields of a record, and the name of each type in Avro, Spark and CQL, defined only here."""

import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache, partial
from struct import Struct as Layout
from typing import Any

import msgspec
from msgspec import inspect

from penstock.contract.decimals import encode_unscaled, to_scale
from penstock.contract.record import Digits

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT32 = Layout(">i").pack
_UINT32 = Layout(">I").pack
_INT64 = Layout(">q").pack
_KEY_CHARACTERS = 65_535 // 4
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


@dataclass(frozen=True)
class FieldKind:
    """A field type: its names elsewhere, and its CQL encoding (native protocol v5, section 6).

    The other functions convert a value, if it is not the same there: `to_avro` and `from_avro` for fastavro, `to_arrow`
    for Spark's columns, `from_cql` from a column whose CQL type is not its own.
    """

    avro: Any
    spark: str
    cql: str
    encode: Callable[[Any], bytes]
    to_avro: Callable[[Any], Any] | None = None
    from_avro: Callable[[Any], Any] | None = None
    to_arrow: Callable[[Any], Any] | None = None
    from_cql: Callable[[Any], Any] | None = None


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
    )


@dataclass(frozen=True)
class Field:
    """A field of a record.

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


@cache
def fields(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Return the fields of `struct`, in order. Raises `TypeError` for a field that `field_of` does not support."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    hints = typing.get_type_hints(struct, include_extras=True)
    return tuple(field_of(field, hints[field.name]) for field in described.fields)


def key_of(struct: type[msgspec.Struct]) -> Field:
    """Return the key field. Raises `TypeError` unless exactly one is marked, not nullable, and bounded if text."""
    keys = [field for field in fields(struct) if field.key]
    if len(keys) != 1:
        names = f" ({', '.join(field.column for field in keys)})" if keys else ""
        raise TypeError(
            f"{struct.__name__} needs exactly one field marked KEY, it has {len(keys)}{names}: "
            "write `id: Annotated[UUID, Meta(extra=KEY)]`"
        )
    column = keys[0].column
    if keys[0].nullable:
        raise TypeError(f"{struct.__name__}: the key {column} cannot be None; remove `| None` from its type")
    if keys[0].kind not in _KEY_KINDS:
        raise TypeError(
            f"{struct.__name__}: the key {column} must be a str, an int or a UUID; "
            f"write `{column}: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]`"
        )
    if keys[0].kind is TEXT and not _fits_a_key(struct, column):
        raise TypeError(
            f"{struct.__name__}: a text key needs min_length >= 1 and max_length <= {_KEY_CHARACTERS}; "
            f"write `{column}: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]`"
        )
    return keys[0]


def build_key_reader(struct: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    """Return a function that converts a Kafka key to the record's id. It raises `ValueError` for an invalid key."""
    kind = typing.get_type_hints(struct, include_extras=True)[key_of(struct).column]
    is_long = key_of(struct).kind is BIGINT

    def read(key: bytes) -> Any:
        record_id = msgspec.convert(key.decode(), kind, strict=False)
        if is_long and not fits_64_bits(record_id):
            raise ValueError("the id does not fit 64 bits")
        return record_id

    return read


def build_key_writer(struct: type[msgspec.Struct]) -> Callable[[msgspec.Struct], bytes]:
    """Return a function that returns the Kafka key of a record: its id as text, which `build_key_reader` reads."""
    column = key_of(struct).column
    return lambda record: str(getattr(record, column)).encode()


def _fits_a_key(struct: type[msgspec.Struct], column: str) -> bool:
    """Return whether each text that the rules allow can be a partition key: 1 to 65,535 bytes of UTF-8."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    text, _, _ = next(_unwrap_metadata(field.type) for field in described.fields if field.name == column)
    assert isinstance(text, inspect.StrType)
    return bool(text.min_length) and text.max_length is not None and text.max_length <= _KEY_CHARACTERS


def fits_64_bits(number: int) -> bool:
    """Return whether a whole number fits Cassandra's `bigint`."""
    return -(2**63) <= number < 2**63


def field_of(info: inspect.Field, hint: Any) -> Field:
    """Return the `Field` that msgspec describes. `hint` is its annotation, with all of its metadata.

    Raises `TypeError` that says what to write instead.
    """
    kind_info, marks, description = _unwrap_metadata(info.type)
    nullable = isinstance(kind_info, inspect.UnionType)
    if isinstance(kind_info, inspect.UnionType):
        inner = [member for member in kind_info.types if not isinstance(member, inspect.NoneType)]
        if len(inner) != 1:
            raise TypeError(f"field {info.name}: write one type, or one type and None: `{info.name}: T | None = None`")
        kind_info, inner_marks, inner_description = _unwrap_metadata(inner[0])
        marks, description = {**inner_marks, **marks}, description or inner_description
    symbols, digits = _list_symbols(info.name, kind_info), _find_digits(hint)
    if not (info.required or (nullable and info.default is None)):
        raise TypeError(
            f"field {info.name}: an optional field is `T | None = None`; other defaults make schemas incompatible"
        )
    written = _format_declaration(info.name, nullable, has_meta=bool(marks or description))
    return Field(
        name=info.encode_name,
        column=info.name,
        kind=_resolve_kind(info.name, kind_info, digits, written),
        nullable=nullable,
        key=marks.get("key", False),
        personal=marks.get("personal", False),
        past=marks.get("past", False),
        description=description,
        symbols=symbols,
        digits=digits,
    )


def _unwrap_metadata(kind_info: inspect.Type) -> tuple[inspect.Type, dict[str, Any], str]:
    if isinstance(kind_info, inspect.Metadata):
        return kind_info.type, kind_info.extra or {}, (kind_info.extra_json_schema or {}).get("description", "")
    return kind_info, {}, ""


def _find_digits(hint: Any) -> Digits | None:
    """Return the `Digits` anywhere in an annotation, which msgspec does not describe."""
    if isinstance(hint, Digits):
        return hint
    return next(filter(None, map(_find_digits, typing.get_args(hint))), None)


def _list_symbols(name: str, kind_info: inspect.Type) -> tuple[str, ...]:
    """Return the texts of a `Literal` or `StrEnum`; none for other types."""
    if isinstance(kind_info, inspect.EnumType):
        if not issubclass(kind_info.cls, StrEnum):
            raise TypeError(f"field {name}: {kind_info.cls.__name__} is not a StrEnum; write `class ...(StrEnum)`")
        symbols = tuple(member.value for member in kind_info.cls)
    elif isinstance(kind_info, inspect.LiteralType):
        if not all(isinstance(value, str) for value in kind_info.values):
            raise TypeError(
                f'field {name}: a Literal has texts only; write `Literal["a", "b"]`, or that `| None = None`'
            )
        symbols = typing.cast(tuple[str, ...], kind_info.values)
    else:
        return ()
    for symbol in symbols:
        if "\0" in symbol or symbol.encode(errors="replace").decode() != symbol:
            raise TypeError(f"field {name}: {symbol!r} is not a text that can be stored; remove it")
    return symbols


def _format_declaration(name: str, nullable: bool, *, has_meta: bool) -> str:
    """Return how to declare a field in the record's file, with the placeholders {type} and {rules}."""
    more = ", ..." if has_meta else ""
    return f"`{name}: Annotated[{{type}}, Meta({{rules}}{more})]{' | None = None' if nullable else ''}`"


_SIMPLE: dict[type[inspect.Type], FieldKind] = {
    inspect.StrType: TEXT,
    inspect.UUIDType: UUID,
    inspect.DateTimeType: TIMESTAMP,
    inspect.FloatType: DOUBLE,
    inspect.BoolType: BOOLEAN,
    inspect.DateType: DATE,
    inspect.TimeType: TIME,
    inspect.TimeDeltaType: DURATION,
    inspect.BytesType: BYTES,
    inspect.LiteralType: SYMBOL,
    inspect.EnumType: SYMBOL,
}
_KEY_KINDS = (TEXT, UUID, INT, BIGINT, TIMESTAMP, DOUBLE, BOOLEAN)
_TYPES = "str, Literal, StrEnum, UUID, datetime, date, time, timedelta, int, float, Decimal, bytes or bool"


def _resolve_kind(name: str, kind_info: inspect.Type, digits: Digits | None, written: str) -> FieldKind:
    if isinstance(kind_info, inspect.DecimalType):
        if digits is None:
            declared = written.format(type="Decimal, Digits(10, 2)", rules="")
            declared = declared.replace(", Meta()", "").replace("Meta(, ", "Meta(")
            raise TypeError(f"field {name}: a Decimal needs its digits, 10 with 2 decimals here; write {declared}")
        return decimal_kind(digits)
    if digits is not None:
        raise TypeError(f"field {name}: Digits is for a Decimal; remove it")
    if isinstance(kind_info, inspect.IntType):
        low, high = bounds_of(kind_info)
        return INT if low >= -(2**31) and high < 2**31 else BIGINT
    if isinstance(kind_info, inspect.DateTimeType) and kind_info.tz is False:
        zoned = written.format(type="datetime", rules="tz=True")
        raise TypeError(f"field {name}: a datetime needs a time zone; write {zoned}")
    if isinstance(kind_info, inspect.TimeType) and kind_info.tz is True:
        raise TypeError(f"field {name}: a time has no time zone, since no column keeps it; write `{name}: time`")
    if type(kind_info) not in _SIMPLE:
        raise TypeError(f"field {name}: {type(kind_info).__name__} has no column type; use {_TYPES}")
    return _SIMPLE[type(kind_info)]


def bounds_of(kind_info: inspect.IntType) -> tuple[int, int]:
    """Return the least and the largest integer that the rules of an `int` and 64 bits allow."""
    low = [-(2**63), *([kind_info.ge] if kind_info.ge is not None else [])]
    high = [2**63 - 1, *([kind_info.le] if kind_info.le is not None else [])]
    low += [kind_info.gt + 1] if kind_info.gt is not None else []
    high += [kind_info.lt - 1] if kind_info.lt is not None else []
    return max(low), min(high)
