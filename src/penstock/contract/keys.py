"""Read the record id from a Kafka key of a known format, and check it by the contract's rules for that id."""

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from penstock.contract.aliases import rename_fields
from penstock.contract.identity import identity_of
from penstock.contract.json_text import parse_json
from penstock.contract.record import Record

KeyFormat = Literal["text", "json", "connect", "registry"]
"""Format of a topic's keys.

text      the id as text, as penstock's own producer writes it if it is of one field
json      the id as a JSON string or number, or an object with the id's fields only, as penstock writes several fields
connect   the same, or wrapped in Kafka Connect's `{"schema": ..., "payload": ...}`, as Debezium writes it
registry  Avro or JSON behind the schema registry's header: the id, or a record with the id's fields only
"""
KEY_FORMATS: tuple[KeyFormat, ...] = get_args(KeyFormat)

_STRUCTURE = re.compile(r'\s*(?:[{["]|Struct\{)|.*?[\x00-\x1f\x7f]', re.DOTALL)


def is_structured(text: str) -> bool:
    """Return whether a text may be a key in a format other than text: JSON, a Connect struct as text, or binary."""
    return _STRUCTURE.match(text) is not None


class IdReader:
    """Reads the ids of `record`. Its `of_` methods raise `ValueError` for an invalid id."""

    def __init__(self, record: type[Record]) -> None:
        self._record, self._identity = record, identity_of(record)
        self._names = set(self._identity.names)

    def is_text_id(self, text: str) -> bool:
        """Return whether a text is a valid id."""
        try:
            self.of_text(text)
        except ValueError:
            return False
        return True

    def of_text(self, text: str) -> Any:
        """Return the id that a text represents, which is an id of one field."""
        if not self._identity.is_single:
            raise ValueError(f"expected {self._identity.described}")
        return self._identity.of_text(text)

    def of_value(self, value: Any) -> Any:
        """Return the id in a decoded value: an object with the id's fields only, or the value of its only field."""
        if isinstance(value, dict) or not self._identity.is_single:
            return self._identity.of_members(rename_fields(value, self._record) if isinstance(value, dict) else {})
        return self._identity.of_members({self._identity.names[0]: value})

    def of_payload(self, value: Any) -> Any:
        """Return the id in a decoded Connect key, like `of_value`; of the payload if the key is Connect's envelope."""
        return self.of_value(value["payload"] if self.is_wrapped(value) else value)

    def is_wrapped(self, value: Any) -> bool:
        """Return whether a decoded key is Connect's envelope of schema and payload."""
        is_envelope = isinstance(value, dict) and "payload" in value and value.keys() <= {"schema", "payload"}
        return is_envelope and self._names != {"payload"} and self._names != value.keys()


TextFormat = Callable[[IdReader, str], Any]
TEXT_FORMATS: dict[KeyFormat, TextFormat] = {
    "text": lambda ids, text: ids.of_text(text),
    "json": lambda ids, text: ids.of_value(parse_json(text)),
    "connect": lambda ids, text: ids.of_payload(parse_json(text)),
}
"""Readers of the text-based formats."""
