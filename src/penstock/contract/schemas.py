"""A record as JSON Schema, Avro schema and Spark DDL."""

from typing import Any

import msgspec

from penstock.contract.fields import BIGINT, TIME, TIMESTAMP, Field, fields
from penstock.contract.record import Record


def json_schema(record: type[Record]) -> dict[str, Any]:
    """Return the JSON Schema (draft-07, self-contained) of a JSON message, with marks as `x-key` and `x-personal`.

    The schema is closed: a producer writes these fields and no others. Readers ignore other fields nevertheless. With
    an open schema, older records might already contain a field that is added, with another type.
    """
    _, components = msgspec.json.schema_components([record])
    schema = components[record.__name__]
    for field in fields(record):
        _complete_type(schema["properties"][field.name], field)
        marks = {"x-key": field.key, "x-personal": field.personal}
        schema["properties"][field.name] |= {name: True for name, is_set in marks.items() if is_set}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "additionalProperties": False}


def _complete_type(schema: dict[str, Any], field: Field) -> None:
    """Add to a field's JSON Schema what msgspec leaves out: digits, bounds of 64 bits, symbols in place."""
    kind = next((member for member in schema.get("anyOf", ()) if member.get("type") != "null"), schema)
    if field.digits is not None:
        kind |= {"x-precision": field.digits.precision, "x-scale": field.digits.scale}
    elif field.symbols:
        kind.pop("$ref", None)
        kind |= {"type": "string", "enum": list(field.symbols)}
    elif field.kind is TIMESTAMP:
        kind["format"] = "date-time"
    elif field.kind is TIME:
        kind["format"] = "partial-time"  # RFC 3339's name of a time without a zone; `time` has one
    elif field.kind is BIGINT:
        if not kind.keys() & {"minimum", "exclusiveMinimum"}:
            kind["minimum"] = -(2**63)
        if not kind.keys() & {"maximum", "exclusiveMaximum"}:
            kind["maximum"] = 2**63 - 1


def avro_schema(record: type[Record]) -> dict[str, Any]:
    """Return the Avro schema of an Avro message.

    Moments are milliseconds, times and durations microseconds; a UUID is its 36 characters. A `Literal` is a string,
    because old readers cannot read new symbols of an Avro enum.
    """
    return {
        "type": "record",
        "name": record.__name__,
        "namespace": "penstock",
        "doc": (record.__doc__ or "").strip(),
        "fields": [_avro_field(field) for field in fields(record)],
    }


def _avro_field(field: Field) -> dict[str, Any]:
    if not field.nullable:
        return {"name": field.name, "type": field.kind.avro, "doc": field.description}
    return {"name": field.name, "type": ["null", field.kind.avro], "default": None, "doc": field.description}


def spark_ddl(struct: type[msgspec.Struct]) -> str:
    """Return the Spark schema of a record's columns, as a DDL string: `id STRING NOT NULL, ...`."""
    return ", ".join(
        f"{field.column} {field.kind.spark}{'' if field.nullable else ' NOT NULL'}" for field in fields(struct)
    )
