"""Decode a Kafka value to a record, or a fault that says what is wrong with it; a null value to a deletion.

A value with a wire-format header is decoded by its own writer schema; a value without is read as plain JSON. Pure,
except for the lookup of a schema id that was not seen before.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from penstock.broker.registry import Schemas
from penstock.codec.avro import AvroReader, AvroReaders
from penstock.codec.fields import build_text_reader, decode_json, from_avro, read_exact_values
from penstock.codec.keys import KeyReader
from penstock.codec.renaming import build_name_search, rename_json
from penstock.codec.wire_format import HEADER_BYTES, is_framed
from penstock.contract.aliases import find_doubled_names, former_names
from penstock.contract.composites import JSON
from penstock.contract.fault import Fault, Reason
from penstock.contract.fields import BYTES, DATE, DURATION, SYMBOL, TEXT, TIME, TIMESTAMP, UUID, fields
from penstock.contract.isolation import NOT_OF_A_RECORD
from penstock.contract.json_text import MALFORMED_JSON, DuplicateName, count_names
from penstock.contract.keys import KeyFormat
from penstock.contract.proofs import Proven
from penstock.contract.record import Record
from penstock.contract.rules import (
    MAX_FIELDS,
    MAX_VALUE_BYTES,
    MAX_VALUES,
    add_forms,
    build_form_check,
    build_text_check,
    build_value_check,
    explain_refusal,
    has_forms_of_keys_only,
    latest_past,
    validate_record,
)
from penstock.contract.schemas import avro_schema
from penstock.contract.violation import Rule, Violation

_QUOTED = (TEXT, TIMESTAMP, UUID, DATE, TIME, DURATION, BYTES, SYMBOL)
"""Kinds whose JSON values are quoted."""
_BEYOND_MICROSECONDS = re.compile(rb"\.[0-9]{7}")
"""What a moment has that msgspec rounds."""


class Decoder:
    """Decodes the values of one topic into `record`, and the keys of its tombstones into ids."""

    def __init__(self, record: type[Record], schemas: Schemas, key_format: KeyFormat | None = None) -> None:
        self._record = record
        self._check_values = build_value_check(record)
        self._check_forms = _build_body_check(record)
        self._converts_avro = any(field.kind.from_avro is not None for field in fields(record))
        self._most_names = _most_names(record)
        self._latest = latest_past()
        self._check_texts = build_text_check(record)
        self._least_quotes = _least_quotes(record)
        self._from_json = msgspec.json.Decoder(record).decode
        self._find_former_name = build_name_search(record)
        self._read_json = self._decode_json if self._find_former_name is None else self._decode_renamed_json
        self._has_aliases = bool(former_names(record))
        self._schema = AvroReader(avro_schema(record), 0).parsed  # pruned too: fastavro is faster if both are equal
        readers = AvroReaders(schemas)
        self._find_reader = readers.find_for
        self.keys = KeyReader(record, readers, key_format)

    def deleted(self, key: bytes | None, proven: Proven) -> Any | Fault:
        """Return the id whose row a null value deletes, or what is wrong with its key.

        `proven` is what is proven about the topic's keys at the tombstone's position. Raises `RegistryUnreachable`, for
        a key with a wire-format header.
        """
        try:
            return self.keys.read(key or b"", proven)
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001  types of a pipeline's file run here and may raise anything
            return Fault.of_exception(error)

    def decode(self, value: bytes | None) -> Record | Fault:
        """Return the record in `value`, every rule checked, or what is wrong with it.

        Raises `RegistryUnreachable`: an unavailable registry is not the record's fault.
        """
        if not value:
            return Fault(Reason.VALUE_MISSING, "the value is null" if value is None else "the value is empty")
        if len(value) > MAX_VALUE_BYTES:
            return Fault.too_large(len(value))
        try:
            return self._decode_with_header(value) if is_framed(value) else self._read_json(value, value, None)
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001  types of a pipeline's file run here and may raise anything
            return Fault.of_exception(error)

    def _decode_with_header(self, value: bytes) -> Record | Fault:
        schema = self._find_reader(value)
        if isinstance(schema, Fault):
            return schema
        schema_id, reader = schema
        if reader is None:
            return self._read_json(value[HEADER_BYTES:], value, schema_id)
        return self._decode_avro(value[HEADER_BYTES:], reader)

    def _decode_json(self, body: bytes, value: bytes, schema_id: int | None) -> Record | Fault:
        """Return the record in the JSON text `body`, which is `value` or the end of it, or its fault."""
        try:
            record = self._from_json(body)
        except msgspec.ValidationError as error:
            return self._fault_of_json(body, error, schema_id)
        except MALFORMED_JSON as error:
            return Fault(Reason.JSON_MALFORMED, str(error), schema_id=schema_id)
        broken = self._check_values(record, self._latest)
        if broken:  # past dates stay past: read the clock only if a check fails
            self._latest = latest_past()
            broken = self._check_values(record, self._latest)
        if self._check_forms is not None:
            broken = add_forms(broken, self._check_forms(body))
        start = len(value) - len(body)
        if value.find(b"\\", start) >= 0:  # a forbidden character can only occur as an escape
            broken += self._check_texts(record)
        if value.count(b'"', start) > self._least_quotes:
            try:
                broken += check_names(body, self._most_names)
            except MALFORMED_JSON as error:
                return Fault(Reason.JSON_MALFORMED, str(error), schema_id=schema_id)
        return Fault.of(broken, schema_id=schema_id) if broken else record

    def _decode_renamed_json(self, body: bytes, value: bytes, schema_id: int | None) -> Record | Fault:
        """Call `_decode_json` for a body in which fields may have former names."""
        assert self._find_former_name is not None
        if self._find_former_name(body) is None:
            return self._decode_json(body, value, schema_id)
        try:
            renamed = rename_json(body, self._record)
        except MALFORMED_JSON:
            return self._decode_json(body, value, schema_id)  # which says what is wrong
        if isinstance(renamed, list):
            return Fault.of(renamed, schema_id=schema_id)
        return self._decode_json(renamed, renamed, schema_id)

    def _fault_of_json(self, body: bytes, error: msgspec.ValidationError, schema_id: int | None) -> Fault:
        """Return what is wrong with JSON that was refused: it may also be malformed, further on."""
        try:
            value = decode_json(body, self._record)
            if isinstance(value, dict):
                value |= read_exact_values(body, self._record)
            too_many = check_names(body, self._most_names)
        except MALFORMED_JSON as malformed:
            return Fault(Reason.JSON_MALFORMED, str(malformed), schema_id=schema_id)
        return Fault.of(explain_refusal(value, self._record, error) + too_many, schema_id=schema_id)

    def _decode_avro(self, body: bytes, reader: AvroReader) -> Record | Fault:
        if self._has_aliases and (doubled := find_doubled_names(dict.fromkeys(reader.names), self._record)):
            return Fault.of(doubled, schema_id=reader.schema_id)
        result = reader.read(body, self._schema)
        if isinstance(result, Fault):
            return result
        fields, left_bytes = result
        if left_bytes:
            return Fault(Reason.AVRO_MALFORMED, "extra bytes after the record", schema_id=reader.schema_id)
        if self._converts_avro:
            fields = from_avro(fields, self._record)
        record = validate_record(fields, self._record, latest_past())
        return Fault.of(record, schema_id=reader.schema_id) if isinstance(record, list) else record


def _least_quotes(record: type[Record]) -> int:
    """Return the minimum number of quotes in a record's JSON. A text with no more has no duplicate or unknown names."""
    required = [field for field in fields(record) if field.required]
    return sum(4 if field.kind in _QUOTED else 2 for field in required)


def _most_names(record: type[Record]) -> int:
    """Return the maximum number of names in a record's JSON, those within composite values included."""
    is_flat = all(field.shape is None and field.kind is not JSON for field in fields(record))
    return MAX_FIELDS if is_flat else MAX_VALUES


def _build_body_check(record: type[Record]) -> Callable[[bytes], list[Violation]] | None:
    """Return a function that checks how a JSON body writes the values of some types; None if any form is fine."""
    check, read_texts = build_form_check(record), build_text_reader(record)
    if check is None:
        return None
    if has_forms_of_keys_only(record):  # five times faster: such precision is rare
        return lambda body: check(read_texts(body)) if _BEYOND_MICROSECONDS.search(body) else []
    return lambda body: check(read_texts(body))


def check_names(body: bytes, most: int = MAX_FIELDS) -> list[Violation]:
    """Return the broken rules on the names in a JSON object.

    Raises `msgspec.DecodeError` if a name occurs twice in an object; msgspec itself takes the last.
    """
    try:
        names = count_names(bytes(body))
    except DuplicateName as error:
        raise msgspec.DecodeError(f"duplicate field name {error.name!r} in an object") from None
    if names <= most:
        return []
    return [Violation("", Rule.SIZE, f"the value has {names} fields, a record at most {most}")]
