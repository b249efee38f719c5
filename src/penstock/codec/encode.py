"""Serialize records, and JSON values, to Kafka values: the schema registry's wire-format header, then JSON or Avro."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import msgspec

from penstock.broker.registry import WireFormat
from penstock.codec.avro import AvroReader
from penstock.codec.avro_values import AvroConverter
from penstock.codec.fields import list_avro_writers, list_json_writers
from penstock.codec.wire_format import encode_header
from penstock.contract.composites import replace_values
from penstock.contract.record import Record, list_members
from penstock.contract.schemas import avro_schema
from penstock.errors import SchemaUnknown

Serialize = Callable[[Record], bytes]


def build_serializer(record: type[Record], wire_format: WireFormat, schema_id: int) -> Serialize:
    """Return the function that serializes a record, with `schema_id` in the header."""
    header = encode_header(schema_id)
    return _json_serializer(header, record) if wire_format == "json" else _avro_serializer(header, record)


def _json_serializer(header: bytes, record: type[Record]) -> Serialize:
    encode, writers = msgspec.json.Encoder().encode, list_json_writers(record)
    if not writers:
        return lambda record: header + encode(record)
    return lambda record: header + encode(replace_values(record, writers))


def _avro_serializer(header: bytes, record: type[Record]) -> Serialize:
    schema = fastavro.parse_schema(avro_schema(record))
    to_dict = _to_dict(record)

    def serialize(instance: Record) -> bytes:
        body = BytesIO()
        body.write(header)
        fastavro.schemaless_writer(body, schema, to_dict(instance))
        return body.getvalue()

    return serialize


def encode_avro(schema: Any, schema_id: int, value: Any) -> bytes:
    """Return a JSON value as a framed Avro value of the schema with that id, which may be anybody's.

    The value has the forms in which pages show values of that schema, its decimals as text or `Decimal`. Raises
    `ValueError`, which names the path, if it is not of that schema, or the schema cannot be used.
    """
    body = BytesIO()
    body.write(encode_header(schema_id))
    try:
        reader = AvroReader(schema, schema_id)
        fastavro.schemaless_writer(body, reader.parsed, AvroConverter(reader).convert(value), strict=True)
    except (SchemaUnknown, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    return body.getvalue()


def _to_dict(record: type[Record]) -> Callable[[Record], dict[str, Any]]:
    """Return the function that converts a record to a dict, keyed by the field names in messages."""
    writers = list_avro_writers(record)
    if record.__struct_encode_fields__ == record.__struct_fields__ and not writers:
        return msgspec.structs.asdict  # four times as fast

    def to_dict(instance: Record) -> dict[str, Any]:
        values = list_members(instance)
        for name, convert in writers:
            if values[name] is not None:
                values[name] = convert(values[name])
        return values

    return to_dict
