"""A Kafka value becomes a record, or a fault that says what is wrong with it.

A framed value is decoded by its own writer schema; a value without a frame is read as plain JSON. Pure but for the
look-up of a schema id that was not seen before.
"""

from io import BytesIO
from typing import Any

import fastavro
import msgspec

from penstock.broker.frame import FRAME_BYTES, is_framed, unpack
from penstock.broker.registry import Schemas
from penstock.contract.record import Record
from penstock.contract.reject import Fault, Reason
from penstock.contract.rules import MAX_VALUE_BYTES, date_check, judge, latest_past, refused
from penstock.contract.schemas import avro_schema
from penstock.errors import SchemaUnknown

_MALFORMED_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Decoder:
    """Decodes the values of one topic into `record`."""

    def __init__(self, record: type[Record], schemas: Schemas) -> None:
        self._record = record
        self._schemas = schemas
        self._check_dates = date_check(record)
        self._from_json = msgspec.json.Decoder(record).decode
        self._reader = fastavro.parse_schema(avro_schema(record))
        self._writers: dict[int, Any] = {}

    def decode(self, value: bytes | None) -> Record | Fault:
        """The record in `value`, every rule checked, or what is wrong with it.

        Raises `RegistryUnreachable`: that the registry is away is no fault of the record.
        """
        if not value:
            return Fault(Reason.VALUE_MISSING, "the value is null" if value is None else "the value is empty")
        if len(value) > MAX_VALUE_BYTES:
            return Fault.too_large(len(value))
        if not is_framed(value):
            return self._json(value, None)
        try:
            schema_id = unpack(value)
            writer = self._writer(schema_id)
        except ValueError as error:
            return Fault(Reason.FRAME_BROKEN, str(error))
        except SchemaUnknown as error:
            return Fault(Reason.SCHEMA_UNKNOWN, error.message, schema_id=schema_id)
        body = memoryview(value)[FRAME_BYTES:]
        return self._json(body, schema_id) if writer is None else self._avro(bytes(body), writer, schema_id)

    def _writer(self, schema_id: int) -> Any:
        """The parsed Avro schema with that id; None for a JSON schema."""
        if schema_id not in self._writers:
            found = self._schemas.writer(schema_id)
            self._writers[schema_id] = _parsed(found.schema, schema_id) if found.wire_format == "avro" else None
        return self._writers[schema_id]

    def _json(self, body: bytes | memoryview, schema_id: int | None) -> Record | Fault:
        try:
            record = self._from_json(body)
        except msgspec.ValidationError as error:
            return self._fault_of_json(body, error, schema_id)
        except _MALFORMED_JSON as error:
            return Fault(Reason.JSON_MALFORMED, str(error), schema_id=schema_id)
        broken = self._check_dates(record, latest_past())
        return Fault.of(broken, schema_id=schema_id) if broken else record

    def _fault_of_json(self, body: bytes | memoryview, error: msgspec.ValidationError, schema_id: int | None) -> Fault:
        """What is wrong with JSON that was refused: it may be malformed too, further on."""
        try:
            found = msgspec.json.decode(body)
        except _MALFORMED_JSON as malformed:
            return Fault(Reason.JSON_MALFORMED, str(malformed), schema_id=schema_id)
        return Fault.of(refused(found, self._record, error), schema_id=schema_id)

    def _avro(self, body: bytes, writer: Any, schema_id: int) -> Record | Fault:
        stream = BytesIO(body)
        try:
            fields = fastavro.schemaless_reader(stream, writer, self._reader)
        except Exception as error:  # noqa: BLE001  bytes that are no Avro raise whatever they meet: EOFError, IndexError, ...
            return Fault(Reason.AVRO_MALFORMED, f"{type(error).__name__}: {error}", schema_id=schema_id)
        if stream.read(1):
            return Fault(Reason.AVRO_MALFORMED, "bytes are left after the record", schema_id=schema_id)
        judged = judge(fields, self._record, latest_past())
        return Fault.of(judged, schema_id=schema_id) if isinstance(judged, list) else judged


def _parsed(schema: Any, schema_id: int) -> Any:
    """The Avro schema, parsed. Raises `SchemaUnknown` when it is wrong, or names types that it does not define."""
    try:
        return fastavro.parse_schema(schema)
    except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
        raise SchemaUnknown(f"schema {schema_id} cannot be read: {type(error).__name__}: {error}") from error
