"""A record as the bytes of a Kafka value: the registry's frame, then JSON or Avro."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import msgspec

from penstock.broker.frame import pack
from penstock.broker.registry import WireFormat
from penstock.contract.record import Record
from penstock.contract.schemas import avro_schema

Serialize = Callable[[Record], bytes]


def serializer(record: type[Record], wire_format: WireFormat, schema_id: int) -> Serialize:
    """The function that gives the bytes of one record, framed with `schema_id`."""
    frame = pack(schema_id)
    return _json(frame) if wire_format == "json" else _avro(frame, record)


def _json(frame: bytes) -> Serialize:
    encode = msgspec.json.Encoder().encode
    return lambda record: frame + encode(record)


def _avro(frame: bytes, record: type[Record]) -> Serialize:
    schema = fastavro.parse_schema(avro_schema(record))
    fields_of = _named(record)

    def serialize(one: Record) -> bytes:
        body = BytesIO()
        body.write(frame)
        fastavro.schemaless_writer(body, schema, fields_of(one))
        return body.getvalue()

    return serialize


def _named(record: type[Record]) -> Callable[[Record], dict[str, Any]]:
    """Return the function that gives a record's fields by their names in messages."""
    names = record.__struct_encode_fields__
    if names == record.__struct_fields__:
        return msgspec.structs.asdict  # four times as fast
    return lambda one: dict(zip(names, msgspec.structs.astuple(one), strict=True))
