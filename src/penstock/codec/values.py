"""Values read leniently, for display and repair: whatever fields they have, valid or not, of any producer.

Both readers use the same schemas and the same bounds as the stream (`codec.avro`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from penstock.broker.registry import Schemas
from penstock.codec.avro import AvroReader, AvroReaders
from penstock.codec.fields import decode_json, from_avro, read_exact_values
from penstock.codec.records import check_names
from penstock.codec.wire_format import HEADER_BYTES, decode_schema_id, is_framed, split_header
from penstock.contract.fault import Fault
from penstock.contract.json_numbers import ReadNumber
from penstock.contract.json_text import MALFORMED_JSON
from penstock.contract.record import Record
from penstock.contract.rules import MAX_VALUE_BYTES
from penstock.errors import RegistryUnreachable, SchemaUnknown

_MAX_DEPTH = 100
_CHECKED_CHARACTERS = 1000


@dataclass(frozen=True)
class Content:
    """A decoded value. `kind` is null, json, avro, text or bytes.

    `value` is the decoded JSON or Avro, in JSON types; `problem` says what is wrong with a value that should be either.
    """

    kind: str
    value: Any = None
    schema_id: int | None = None
    is_framed: bool = False
    problem: str = ""


class ContentReader:
    """Decodes values, including those of hostile producers. Stops querying the registry once it is unavailable."""

    def __init__(self, schemas: Schemas) -> None:
        self._readers = AvroReaders(schemas)
        self._problems: dict[int, str] = {}
        self._unavailable = ""

    def read(self, value: bytes | None) -> Content:
        """Return the content of the value. Never raises."""
        if value is None:
            return Content("null")
        if len(value) > MAX_VALUE_BYTES:
            return _wrap_undecoded(value, problem=f"not decoded: larger than {MAX_VALUE_BYTES:,} bytes")
        return self._decode_by_schema(value) if is_framed(value) else _decode_json(value, None)

    def _decode_by_schema(self, value: bytes) -> Content:
        try:
            schema_id = decode_schema_id(value)
        except ValueError as error:
            return _wrap_undecoded(value, problem=str(error))
        if problem := self._unavailable or self._problems.get(schema_id):
            return _wrap_undecoded(value, schema_id, problem)
        try:
            reader = self._readers.find(schema_id)
        except SchemaUnknown as error:
            self._problems[schema_id] = error.message
            return _wrap_undecoded(value, schema_id, error.message)
        except RegistryUnreachable as error:
            self._unavailable = f"not decoded: {error.message}"
            return _wrap_undecoded(value, schema_id, self._unavailable)
        return _decode_json(value, schema_id) if reader is None else _decode_avro(value, reader)


def _decode_json(value: bytes, schema_id: int | None) -> Content:
    framed = schema_id is not None
    try:
        decoded = msgspec.json.decode(memoryview(value)[HEADER_BYTES:] if framed else value)
    except MALFORMED_JSON as error:
        return _wrap_undecoded(value, schema_id, f"invalid JSON: {error}")
    if is_deep(decoded):
        return _wrap_undecoded(value, schema_id, f"not decoded: nested more than {_MAX_DEPTH} levels deep")
    return Content("json", decoded, schema_id, framed)


def _decode_avro(value: bytes, reader: AvroReader) -> Content:
    result = reader.read(value[HEADER_BYTES:])
    if isinstance(result, Fault):
        # fastavro's message may quote the value
        why = f"not decoded: {result.message}" if result.rules else result.message.partition(":")[0]
        return _wrap_undecoded(value, reader.schema_id, f"invalid Avro of schema {reader.schema_id}: {why}")
    decoded, left_bytes = result
    plain = msgspec.json.decode(msgspec.json.encode(decoded, enc_hook=str))
    problem = "extra bytes after the record" if left_bytes else ""
    return Content("avro", plain, reader.schema_id, True, problem)


def _wrap_undecoded(value: bytes, schema_id: int | None = None, problem: str = "") -> Content:
    kind = "bytes" if decode_text(value) is None else "text"
    return Content(kind, None, schema_id, is_framed(value), problem)


def read_fields(value: bytes | None, readers: AvroReaders, record: type[Record]) -> dict[str, Any] | None:
    """Return the fields in a value, valid or not: JSON or Avro, framed or unframed. None if there are none.

    Decimals of `record` keep all of their digits, its durations are durations, and `Json` is its text. JSON is tried
    first, whatever schema the header names. Raises `RegistryUnreachable` if an Avro value's schema cannot be looked up.
    """
    if not value:
        return None
    header, body = split_header(value)
    fields = _read_json_fields(body, partial(decode_json, record=record))
    if fields is not None:
        return fields | read_exact_values(body, record)
    fields = _read_avro_fields(value, body, readers) if header else None
    return None if fields is None else from_avro(fields, record)


def read_entry_fields(value: bytes | None, read_number: ReadNumber | None) -> dict[str, Any] | None:
    """Return the fields of an API's entry, as its source reads them. None if it is no JSON object."""
    return _read_json_fields(value or b"", msgspec.json.Decoder(float_hook=read_number).decode)


def _read_json_fields(body: bytes, decode: Callable[[bytes], Any]) -> dict[str, Any] | None:
    try:
        check_names(body)  # raises for duplicate names: which of the two counts is not ours to choose
        decoded = decode(body)
    except MALFORMED_JSON:
        return None
    return decoded if isinstance(decoded, dict) else None


def _read_avro_fields(value: bytes, body: bytes, readers: AvroReaders) -> dict[str, Any] | None:
    schema = readers.find_for(value)
    reader = None if isinstance(schema, Fault) else schema[1]
    result = None if reader is None or len(value) > MAX_VALUE_BYTES else reader.read(body)
    if result is None or isinstance(result, Fault):
        return None
    fields, left_bytes = result
    return fields if isinstance(fields, dict) and not left_bytes else None


def is_deep(value: Any) -> bool:
    """Return whether a decoded value is nested too deeply to be displayed."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [child for parent in level if isinstance(parent, dict | list) for child in _iter_children(parent)]
        if not level:
            return False
    return True


def _iter_children(parent: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return parent.values() if isinstance(parent, dict) else parent


def decode_text(value: bytes) -> str | None:
    """Return the value as text, or None if it is not text."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    is_text = all(character.isprintable() or character in "\t\r\n" for character in text[:_CHECKED_CHARACTERS])
    return text if is_text else None
