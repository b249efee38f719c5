"""The fields of a record, each of a kind (`contract.kinds`, `contract.composites`) that follows from its type."""

import typing
from dataclasses import replace
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any

import msgspec
from msgspec import inspect

from penstock.contract.composites import JSON
from penstock.contract.kinds import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    DURATION,
    FINITE,
    INT,
    SYMBOL,
    TEXT,
    TIME,
    TIMESTAMP,
    UUID,
    Field,
    FieldKind,
    decimal_kind,
    fits_64_bits,
    from_epoch_ms,
    from_microseconds,
    to_epoch_ms,
    to_microseconds,
)
from penstock.contract.nesting import Site, resolve_composite, store_as_text, unwrap_hint, unwrap_metadata
from penstock.contract.record import AS_TEXT, Alias, Digits, Record, build_null

__all__ = [
    "BIGINT",
    "BOOLEAN",
    "BYTES",
    "DATE",
    "DOUBLE",
    "DURATION",
    "INT",
    "SYMBOL",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "UUID",
    "Field",
    "FieldKind",
    "decimal_kind",
    "field_of",
    "fields",
    "find_column",
    "fits_64_bits",
    "from_epoch_ms",
    "from_microseconds",
    "list_nested",
    "to_epoch_ms",
    "to_microseconds",
]


@cache
def fields(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Return the fields of `struct`, in order. Raises `TypeError` for a field that `field_of` does not support."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    hints = typing.get_type_hints(struct, include_extras=True)
    return tuple(field_of(field, hints[field.name]) for field in described.fields)


def find_column(struct: type[msgspec.Struct], column: str) -> Field | None:
    """Return the field with that name in Python and the table, or None."""
    return next((field for field in fields(struct) if field.column == column), None)


def list_nested(record: type[Record]) -> list[type[Record]]:
    """Return the classes of the records within a record, at any level, each once."""
    nested: dict[type[Record], None] = {}
    pending = [field.shape for field in fields(record)]
    while pending:
        shape = pending.pop()
        if shape is not None:
            pending += [item.shape for item in shape.items]
            nested |= {} if shape.record is None else {shape.record: None}
    return list(nested)


def field_of(info: inspect.Field, hint: Any, site: Site | None = None) -> Field:
    """Return the `Field` that msgspec describes. `hint` is its annotation, with all of its metadata.

    Raises `TypeError` that says what to write instead.
    """
    site = site or Site(_describe_type, field_of, info.name, info.name)
    field = _describe_type(info.type, hint, site)
    if field.kind is JSON:
        field = replace(field, nullable=info.default_factory is build_null)
    return replace(field, name=info.encode_name, column=info.name, default=_find_default(info, field, hint, site))


def _describe_type(kind_info: inspect.Type, hint: Any, site: Site) -> Field:
    """Return the field of a type, without name and default."""
    kind_info, marks, description = unwrap_metadata(kind_info)
    inner_hint, metadata = unwrap_hint(hint)
    nullable = False
    if isinstance(kind_info, inspect.UnionType):
        inner = [member for member in kind_info.types if not isinstance(member, inspect.NoneType)]
        nullable = len(inner) < len(kind_info.types)
        kind_info, inner_marks, inner_description = (
            unwrap_metadata(inner[0]) if len(inner) == 1 else (inspect.UnionType(tuple(inner)), {}, "")
        )
        marks, description = {**inner_marks, **marks}, description or inner_description
    if nullable and isinstance(kind_info, inspect.RawType):
        raise TypeError(f"field {site.path}: msgspec cannot read `Json | None`; write `{site.name}: Json = JSON_NULL`")
    symbols, digits = _list_symbols(site.path, kind_info), _find_digits(metadata)
    has_mark = AS_TEXT in metadata
    kind = resolve_composite(kind_info, inner_hint, site._replace(is_text=site.is_text or has_mark), has_mark)
    if kind is None:
        written = _format_declaration(site.name, nullable, has_meta=bool(marks or description))
        kind = _resolve_kind(site.path, kind_info, digits, written)
    if kind is DOUBLE and site.is_text:
        kind = FINITE
    return Field(
        name="",
        column="",
        kind=store_as_text(kind, inner_hint, site) if has_mark else kind,
        nullable=nullable,
        key=marks.get("key", False),
        personal=marks.get("personal", False),
        past=marks.get("past", False),
        description=description,
        symbols=symbols,
        digits=digits,
        aliases=_find_aliases(hint),
        info=kind_info,
        hint=hint,
    )


_EMPTY: dict[Any, Any] = {list: [], dict: {}, set: set(), tuple: (), frozenset: frozenset()}
_DEFAULTS = {TEXT: str, SYMBOL: str, INT: int, BIGINT: int, DOUBLE: float, FINITE: float, BOOLEAN: bool}


def _find_default(info: inspect.Field, field: Field, hint: Any, site: Site) -> Any:
    """Return what a message without the field means, as JSON has it. Raises `TypeError` if schemas cannot say it."""
    if info.required or (field.nullable and (info.default is None or field.kind is JSON)):
        return msgspec.NODEFAULT
    default = _EMPTY.get(info.default_factory) if info.default is msgspec.NODEFAULT else info.default
    kind = field.kind
    is_empty = kind.shape is not None and kind.shape.record is None and type(default) in _EMPTY and not default
    is_scalar = type(getattr(default, "value", default)) is _DEFAULTS.get(kind)
    if field.nullable or kind.is_text or not (is_empty or is_scalar):
        raise TypeError(
            f"field {site.path}: an optional field is `{info.name}: T | None = None`; only a str, Literal, StrEnum, "
            "int, float or bool can have a default of its type instead, and a collection an empty one"
        )
    try:
        value = msgspec.to_builtins(msgspec.convert(default, hint))
    except msgspec.ValidationError as error:
        raise TypeError(f"field {site.path}: the default {default!r} breaks the field's rules: {error}") from None
    return list(value) if isinstance(value, tuple) else value


def _find_digits(metadata: list[Any]) -> Digits | None:
    """Return the `Digits` among an annotation's metadata, which msgspec does not describe."""
    return next((mark for mark in metadata if isinstance(mark, Digits)), None)


def _find_aliases(hint: Any) -> tuple[str, ...]:
    """Return the former names that an annotation declares, which msgspec does not describe."""
    if typing.get_origin(hint) not in (typing.Annotated, typing.Union, UnionType):
        return ()
    return tuple(
        name
        for part in typing.get_args(hint)
        for name in (part.names if isinstance(part, Alias) else _find_aliases(part))
    )


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
    start = f"{name}: " if name else ""
    return f"`{start}Annotated[{{type}}, Meta({{rules}}{more})]{' | None = None' if nullable and name else ''}`"


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
_TYPES = "str, Literal, StrEnum, UUID, datetime, date, time, timedelta, int, float, Decimal, bytes or bool, list, "
_TYPES += "set, tuple or dict[str, T] of these, a Record, or Json"


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
