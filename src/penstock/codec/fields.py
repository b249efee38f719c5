"""Values of single fields that JSON and Avro represent by something else: exact numbers, texts, durations, JSON."""

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import islice, repeat, zip_longest
from typing import Any, TypedDict

import msgspec

from penstock.contract.checks import has_forms
from penstock.contract.composites import JSON
from penstock.contract.decimals import format_decimal
from penstock.contract.fields import Field, fields
from penstock.contract.kinds import Form, Shape
from penstock.contract.record import Record

_QUOTE = b'"'


@cache
def _build_raw_reader(record: type[Record]) -> Callable[[bytes], dict[str, msgspec.Raw]]:
    """Return a function that reads the fields of a JSON object that are a record's, as JSON texts, also by aliases."""
    members = {name: msgspec.Raw for field in fields(record) for name in (field.name, *field.aliases)}
    return msgspec.json.Decoder(TypedDict("Fields", members, total=False)).decode  # type: ignore[operator]


def build_text_reader(record: type[Record]) -> Callable[[bytes], dict[str, Any]]:
    """Return a function that reads the texts in the JSON object of a record, by field.

    Composite values are read if texts inside have rules, with None instead of numbers that are not whole.
    """
    read = _build_raw_reader(record)
    composite = {field.name for field in fields(record) if has_forms(field)}

    def read_texts(body: bytes) -> dict[str, Any]:
        raw = read(body)
        texts = ((name, bytes(text)) for name, text in raw.items() if name not in composite)
        values = {name: msgspec.json.decode(text, type=str) for name, text in texts if text.startswith(_QUOTE)}
        return values | {name: _read_without_floats(raw[name]) for name in composite if name in raw}

    return read_texts


_read_without_floats = msgspec.json.Decoder(float_hook=lambda _: None).decode


def read_exact_values(body: bytes, record: type[Record]) -> dict[str, Any]:
    """Return the values in a JSON object that Python's types would change, by field: all digits, and JSON texts."""
    members = _list_exact(record)
    if not members:
        return {}
    raw = _build_raw_reader(record)(body)
    return {name: _read_exact(raw[name], field) for name, field in members.items() if name in raw}


def decode_json(body: bytes, record: type[Record]) -> Any:
    """Return the value of a JSON text that may hold a `record`. Raises one of `MALFORMED_JSON`.

    A number that no float holds is infinite if the record has `Json`, which may be any number; else it is refused.
    """
    has_json = any(map(_has_json, fields(record)))
    return _decode_any_number(body) if has_json else msgspec.json.decode(body)


_decode_any_number = msgspec.json.Decoder(float_hook=float).decode


def _has_json(field: Field) -> bool:
    return field.kind is JSON or (field.shape is not None and any(map(_has_json, field.shape.items)))


@cache
def _list_exact(record: type[Record]) -> dict[str, Field]:
    exact = [field for field in fields(record) if _is_exact(field)]
    return {name: field for field in exact for name in (field.name, *field.aliases)}


def _is_exact(field: Field) -> bool:
    """Return whether a value has a decimal or a JSON text in it."""
    inside = field.shape is not None and any(map(_is_exact, field.shape.items))
    return inside or field.digits is not None or field.kind is JSON


def _read_exact(raw: msgspec.Raw, field: Field) -> Any:
    """Return a JSON value with its decimals as decimals, and `Json` as its text."""
    if field.kind is JSON:
        return raw.copy()
    if not _is_exact(field):
        return _decode_any_number(raw)
    if field.shape is None:
        with suppress(InvalidOperation):  # of a text, or no number at all
            return Decimal(bytes(raw).decode())
        return _decode_any_number(raw)
    try:
        return _read_inside(raw, field.shape)
    except msgspec.ValidationError:
        return _decode_any_number(raw)


def _read_inside(raw: msgspec.Raw, shape: Shape) -> Any:
    """Return a composite value. Raises `msgspec.ValidationError` if it is no object or no array."""
    if shape.form in (Form.RECORD, Form.MAP):
        members = {item.name: item for item in shape.items}
        values = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        of_map = shape.items[0] if shape.form is Form.MAP else None
        return {name: _read_member(value, of_map or members.get(name)) for name, value in values.items()}
    items = shape.items if shape.form is Form.TUPLE else repeat(shape.items[0])
    parts = msgspec.json.decode(raw, type=list[msgspec.Raw])
    return [_read_member(part, item) for part, item in zip_longest(parts, islice(items, len(parts)))]


def _read_member(raw: msgspec.Raw, field: Field | None) -> Any:
    return _decode_any_number(raw) if field is None else _read_exact(raw, field)


def from_avro(values: dict[str, Any], record: type[Record]) -> dict[str, Any]:
    """Return the fields of an Avro value, those that Avro has no type for converted to a record's."""
    converters = _avro_readers(record)
    if not converters:
        return values
    return values | {name: convert(values[name]) for name, convert in converters if name in values}


@cache
def _avro_readers(record: type[Record]) -> list[tuple[str, Callable[[Any], Any]]]:
    return [
        (name, field.kind.from_avro)
        for field in fields(record)
        for name in (field.name, *field.aliases)
        if field.kind.from_avro is not None
    ]


@cache
def list_avro_writers(record: type[Record]) -> list[tuple[str, Callable[[Any], Any]]]:
    """Return the fields whose values fastavro does not write as they are, each with the function that converts them."""
    return [(field.name, field.kind.to_avro) for field in fields(record) if field.kind.to_avro is not None]


@cache
def list_json_writers(record: type[Record]) -> list[tuple[str, Callable[[Any], Any]]]:
    """Return the columns whose values msgspec does not write as messages have them, each with what converts them."""
    return [(field.column, field.kind.to_json) for field in fields(record) if field.kind.to_json is not None]


def to_message_value(value: Any) -> Any:
    """Return a value as a JSON message has it: a decimal in digits, bytes in Base64, dates and times in ISO 8601."""
    return format_decimal(value) if isinstance(value, Decimal) else msgspec.to_builtins(value)
