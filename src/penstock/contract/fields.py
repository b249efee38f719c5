"""The fields of a record, and the name of each type in Avro, Spark and CQL, defined only here."""

import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from struct import Struct as Layout
from typing import Any

import msgspec
from msgspec import inspect

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT32 = Layout(">i").pack
_INT64 = Layout(">q").pack
_KEY_CHARACTERS = 65_535 // 4
_DOUBLE = Layout(">d").pack


def to_epoch_ms(moment: datetime) -> int:
    """Return whole milliseconds from 1970-01-01T00:00Z to `moment` (with a time zone), rounded down."""
    since = moment - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000


def from_epoch_ms(ms: int) -> datetime:
    """Return the UTC time `ms` milliseconds after 1970-01-01T00:00Z. Raises `OverflowError` outside of years 1-9999."""
    return _EPOCH + timedelta(milliseconds=ms)


@dataclass(frozen=True)
class FieldKind:
    """A field type: its names elsewhere, and its CQL encoding (native protocol v5, section 6)."""

    avro: Any
    spark: str
    cql: str
    encode: Callable[[Any], bytes]


TEXT = FieldKind("string", "STRING", "text", str.encode)
UUID = FieldKind({"type": "string", "logicalType": "uuid"}, "STRING", "uuid", lambda value: value.bytes)
TIMESTAMP = FieldKind(
    {"type": "long", "logicalType": "timestamp-millis"},
    "TIMESTAMP",
    "timestamp",
    lambda value: _INT64(to_epoch_ms(value)),
)
INT = FieldKind("int", "INT", "int", _INT32)
BIGINT = FieldKind("long", "BIGINT", "bigint", _INT64)
DOUBLE = FieldKind("double", "DOUBLE", "double", _DOUBLE)
BOOLEAN = FieldKind("boolean", "BOOLEAN", "boolean", lambda value: b"\x01" if value else b"\x00")


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


@cache
def fields(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Return the fields of `struct`, in order. Raises `TypeError` for a field that `field_of` does not support."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    return tuple(map(field_of, described.fields))


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
    if keys[0].kind is TEXT and not _fits_a_key(struct, column):
        raise TypeError(
            f"{struct.__name__}: a text key needs min_length >= 1 and max_length <= {_KEY_CHARACTERS}; "
            f"write `{column}: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]`"
        )
    return keys[0]


def build_key_reader(struct: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    """Return a function that converts a Kafka key to the record's id. It raises `ValueError` for an invalid key."""
    kind = typing.get_type_hints(struct, include_extras=True)[key_of(struct).column]
    return lambda key: msgspec.convert(key.decode(), kind, strict=False)


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


def field_of(info: inspect.Field) -> Field:
    """Return the `Field` that msgspec describes. Raises `TypeError` that says what to write instead."""
    kind_info, marks, description = _unwrap_metadata(info.type)
    nullable = isinstance(kind_info, inspect.UnionType)
    if isinstance(kind_info, inspect.UnionType):
        inner = [member for member in kind_info.types if not isinstance(member, inspect.NoneType)]
        if len(inner) != 1:
            raise TypeError(f"field {info.name}: write one type, or one type and None: `{info.name}: T | None = None`")
        kind_info, inner_marks, inner_description = _unwrap_metadata(inner[0])
        marks, description = {**inner_marks, **marks}, description or inner_description
    if not (info.required or (nullable and info.default is None)):
        raise TypeError(
            f"field {info.name}: an optional field is `T | None = None`; other defaults make schemas incompatible"
        )
    return Field(
        name=info.encode_name,
        column=info.name,
        kind=_resolve_kind(
            info.name, kind_info, written=_format_declaration(info.name, nullable, has_meta=bool(marks or description))
        ),
        nullable=nullable,
        key=marks.get("key", False),
        personal=marks.get("personal", False),
        past=marks.get("past", False),
        description=description,
    )


def _unwrap_metadata(kind_info: inspect.Type) -> tuple[inspect.Type, dict[str, Any], str]:
    if isinstance(kind_info, inspect.Metadata):
        return kind_info.type, kind_info.extra or {}, (kind_info.extra_json_schema or {}).get("description", "")
    return kind_info, {}, ""


def _format_declaration(name: str, nullable: bool, *, has_meta: bool) -> str:
    """Return how to declare a field in the record's file, with the placeholders {type} and {rules}."""
    more = ", ..." if has_meta else ""
    return f"`{name}: Annotated[{{type}}, Meta({{rules}}{more})]{' | None = None' if nullable else ''}`"


def _resolve_kind(name: str, kind_info: inspect.Type, written: str) -> FieldKind:
    if isinstance(kind_info, inspect.IntType):
        if kind_info.ge is None or kind_info.le is None:
            rules = written.format(type="int", rules="ge=-(2**63), le=2**63 - 1")
            raise TypeError(f"field {name}: an int needs ge and le within 64 bits; write {rules}, as in Int64")
        return INT if kind_info.ge >= -(2**31) and kind_info.le < 2**31 else BIGINT
    if isinstance(kind_info, inspect.DateTimeType) and kind_info.tz is not True:
        zoned = written.format(type="datetime", rules="tz=True")
        raise TypeError(f"field {name}: a datetime needs a time zone; write {zoned}")
    simple: dict[type[inspect.Type], FieldKind] = {
        inspect.StrType: TEXT,
        inspect.UUIDType: UUID,
        inspect.DateTimeType: TIMESTAMP,
        inspect.FloatType: DOUBLE,
        inspect.BoolType: BOOLEAN,
    }
    if type(kind_info) not in simple:
        raise TypeError(
            f"field {name}: {type(kind_info).__name__} has no column type; use str, UUID, datetime, int, float or bool"
        )
    return simple[type(kind_info)]
