"""Values of single fields that JSON and Avro represent by something else: exact numbers, texts, durations."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, TypedDict

import msgspec

from penstock.contract.decimals import format_decimal
from penstock.contract.fields import fields
from penstock.contract.record import Record

_QUOTE = b'"'


@cache
def _build_raw_reader(record: type[Record]) -> Callable[[bytes], dict[str, msgspec.Raw]]:
    """Return a function that reads the fields of a JSON object that are a record's, as JSON texts, also by aliases."""
    members = {name: msgspec.Raw for field in fields(record) for name in (field.name, *field.aliases)}
    return msgspec.json.Decoder(TypedDict("Fields", members, total=False)).decode  # type: ignore[operator]


def build_text_reader(record: type[Record]) -> Callable[[bytes], dict[str, str]]:
    """Return a function that reads the texts in the JSON object of a record, by field."""
    read = _build_raw_reader(record)

    def read_texts(body: bytes) -> dict[str, str]:
        texts = ((name, bytes(raw)) for name, raw in read(body).items())
        return {name: msgspec.json.decode(text, type=str) for name, text in texts if text.startswith(_QUOTE)}

    return read_texts


def read_exact_numbers(body: bytes, record: type[Record]) -> dict[str, Decimal]:
    """Return the decimals of a record that a JSON object writes as numbers, by field, with all of their digits."""
    decimals = [field for field in fields(record) if field.digits is not None]
    names = {name for field in decimals for name in (field.name, *field.aliases)}
    if not names:
        return {}
    numbers: dict[str, Decimal] = {}
    for name, raw in _build_raw_reader(record)(body).items():
        if name in names:
            try:
                numbers[name] = Decimal(bytes(raw).decode())
            except InvalidOperation:
                continue  # a text, or no number at all
    return numbers


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
def list_decimals(record: type[Record]) -> list[str]:
    """Return the names of a record's decimals in messages."""
    return [field.name for field in fields(record) if field.digits is not None]


def to_message_value(value: Any) -> Any:
    """Return a value as a JSON message has it: a decimal in digits, bytes in Base64, dates and times in ISO 8601."""
    return format_decimal(value) if isinstance(value, Decimal) else msgspec.to_builtins(value)
