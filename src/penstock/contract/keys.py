"""Read the record id from a Kafka key of a known format, and check it by the contract's rules for that id."""

import re
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args
from uuid import UUID

import msgspec

from penstock.contract.fields import key_of
from penstock.contract.json_text import DuplicateName, count_names
from penstock.contract.record import Record
from penstock.contract.rules import build_text_check, build_value_check

KeyFormat = Literal["text", "json", "connect", "registry"]
"""Format of a topic's keys.

text      the id as text, as penstock's own producer writes it
json      the id as a JSON string or number, or an object with the id as its only field
connect   the same, or wrapped in Kafka Connect's `{"schema": ..., "payload": ...}`, as Debezium writes it
registry  Avro or JSON behind the schema registry's header: the id, or a record with the id as its only field
"""
KEY_FORMATS: tuple[KeyFormat, ...] = get_args(KeyFormat)

_STRUCTURE = re.compile(r'\s*(?:[{["]|Struct\{)|.*?[\x00-\x1f\x7f]', re.DOTALL)
_NEVER = datetime.max.replace(tzinfo=UTC)


def is_structured(text: str) -> bool:
    """Return whether a text may be a key in a format other than text: JSON, a Connect struct as text, or binary."""
    return _STRUCTURE.match(text) is not None


class IdReader:
    """Reads the ids of `record`. Its `of_` methods raise `ValueError` for an invalid id."""

    def __init__(self, record: type[Record]) -> None:
        field = key_of(record)
        hint = typing.get_type_hints(record, include_extras=True)[field.column]
        alone = cast(type[Record], msgspec.defstruct("Key", [(field.column, hint)], bases=(Record,), frozen=True))
        self._hint, self._key_struct = hint, alone
        self._name, self._column = field.name, field.column
        self._check_text, self._check_value = build_text_check(alone), build_value_check(alone)

    def is_text_id(self, text: str) -> bool:
        """Return whether a text is a valid id."""
        try:
            self.of_text(text)
        except ValueError:
            return False
        return True

    def of_text(self, text: str) -> Any:
        """Return the id that a text represents."""
        return self._validate_id(msgspec.convert(text, self._hint, strict=False))

    def of_value(self, value: Any) -> Any:
        """Return the id in a decoded value: the id itself, or an object with the id as its only field."""
        if isinstance(value, dict):
            if value.keys() != {self._name}:
                raise ValueError(f"expected an object whose only field is {self._name}")
            value = value[self._name]
        if isinstance(value, str | UUID):
            return self.of_text(str(value))
        return self._validate_id(msgspec.convert(value, self._hint))

    def of_payload(self, value: Any) -> Any:
        """Return the id in a decoded Connect key, like `of_value`; of the payload if the key is Connect's envelope."""
        return self.of_value(value["payload"] if self.is_wrapped(value) else value)

    def is_wrapped(self, value: Any) -> bool:
        """Return whether a decoded key is Connect's envelope of schema and payload."""
        is_envelope = isinstance(value, dict) and "payload" in value and value.keys() <= {"schema", "payload"}
        return is_envelope and self._name != "payload"

    def _validate_id(self, record_id: Any) -> Any:
        key = self._key_struct(**{self._column: record_id})
        if broken := self._check_text(key) + self._check_value(key, _NEVER):
            raise ValueError("; ".join(map(str, broken)))
        return record_id


def parse_json(text: str) -> Any:
    """Return the value of a JSON text. Raises `ValueError`, also for an object with a duplicate field name."""
    try:
        count_names(text)
        return msgspec.json.decode(text)
    except DuplicateName:
        raise ValueError("duplicate field name in JSON") from None
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


TextFormat = Callable[[IdReader, str], Any]
TEXT_FORMATS: dict[KeyFormat, TextFormat] = {
    "text": lambda ids, text: ids.of_text(text),
    "json": lambda ids, text: ids.of_value(parse_json(text)),
    "connect": lambda ids, text: ids.of_payload(parse_json(text)),
}
"""Readers of the text-based formats."""
