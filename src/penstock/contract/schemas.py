"""A record as JSON Schema, Avro schema and Spark DDL."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from penstock.contract.composites import JSON, avro_field
from penstock.contract.fields import INT, TIME, TIMESTAMP, Field, fields
from penstock.contract.kinds import Form, Shape
from penstock.contract.record import Record


def json_schema(record: type[Record]) -> dict[str, Any]:
    """Return the JSON Schema (draft-07, self-contained) of a JSON message, with marks as `x-key` and `x-personal`.

    The schema is closed: a producer writes these fields and no others. Readers ignore other fields nevertheless. With
    an open schema, older records might already contain a field that is added, with another type.
    """
    _, components = msgspec.json.schema_components([record])
    completed = _complete_record(components[record.__name__], fields(record), components)
    _add_aliases(completed, fields(record))
    return {"$schema": "http://json-schema.org/draft-07/schema#", **completed}


def _add_aliases(schema: dict[str, Any], described: tuple[Field, ...]) -> None:
    """Add former names of fields as properties with the mark `x-alias-of`.

    The field itself is no longer in `required`, since older records lack it, and has the mark `x-required` instead.
    JSON Schema could say that one of the names occurs, but no registry then accepts the schema as a compatible one.
    """
    renamed = [field.name for field in described if field.aliases]
    if not renamed:
        return
    properties: dict[str, Any] = {}
    required = schema["required"]
    for field in described:
        member = schema["properties"][field.name]
        aliases = {alias: {**member, "x-alias-of": field.name} for alias in field.aliases}
        mark = {"x-required": True} if aliases and field.name in required else {}
        properties |= {field.name: {**member, **mark}, **aliases}
    schema["properties"] = properties
    schema["required"] = [name for name in required if name not in renamed]


Components = dict[str, dict[str, Any]]
"""The schemas of classes by their names."""


def _complete_record(schema: dict[str, Any], members: Sequence[Field], components: Components) -> dict[str, Any]:
    """Return the closed schema of a record, with its marks."""
    properties = {
        member.name: _complete_field(schema["properties"][member.name], member, components) for member in members
    }
    return {**schema, "properties": properties, "additionalProperties": False}


def _complete_field(schema: dict[str, Any], field: Field, components: Components) -> dict[str, Any]:
    marks = {"x-key": field.key, "x-personal": field.personal}
    marked: dict[str, Any] = {name: True for name, is_set in marks.items() if is_set}
    if field.default is not msgspec.NODEFAULT or (field.kind is JSON and field.nullable):
        marked["default"] = None if field.nullable else field.default
    if "anyOf" not in schema:
        return _complete_type(schema, field, components) | marked
    members = [_complete_type(member, field, components) for member in schema["anyOf"]]
    return schema | {"anyOf": members} | marked


def _complete_type(schema: dict[str, Any], field: Field, components: Components) -> dict[str, Any]:
    """Return a type's JSON Schema with what msgspec leaves out: digits, bounds of 64 bits, symbols in place."""
    if schema.get("type") == "null":
        return schema
    if field.shape is not None:
        return _complete_shape(schema, field.shape, components)
    if field.digits is not None:
        return schema | {"x-precision": field.digits.precision, "x-scale": field.digits.scale}
    if field.symbols:
        return _without_reference(schema) | {"type": "string", "enum": list(field.symbols)}
    if field.kind in (TIME, TIMESTAMP):  # partial-time is RFC 3339's name of a time without a zone; `time` has one
        return schema | {"format": "partial-time" if field.kind is TIME else "date-time"}
    return _bound_integer(schema) if field.kind is not INT else schema


def _without_reference(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "$ref"}


def _bound_integer(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an integer, with bounds of 64 bits on the sides that have none; another as it is."""
    if schema.get("type") != "integer":
        return schema
    low = {} if schema.keys() & {"minimum", "exclusiveMinimum"} else {"minimum": -(2**63)}
    high = {} if schema.keys() & {"maximum", "exclusiveMaximum"} else {"maximum": 2**63 - 1}
    return schema | low | high


def _complete_shape(schema: dict[str, Any], shape: Shape, components: Components) -> dict[str, Any]:
    """Return the schema of a composite type, with the schemas of nested records in place."""
    if shape.form is Form.RECORD:
        nested = components[schema["$ref"].rpartition("/")[2]]
        return _without_reference(schema) | _complete_record(nested, shape.items, components)
    if shape.form is Form.MAP:
        return schema | {
            "additionalProperties": _complete_field(schema["additionalProperties"], shape.items[0], components)
        }
    if shape.form is Form.TUPLE:
        items = [_complete_field(*pair, components) for pair in zip(schema["prefixItems"], shape.items, strict=True)]
        bare = {name: value for name, value in schema.items() if name != "prefixItems"}
        return bare | {"items": items, "additionalItems": False}  # draft-07 has no prefixItems
    return schema | {"items": _complete_field(schema["items"], shape.items[0], components)}


def avro_schema(record: type[Record]) -> dict[str, Any]:
    """Return the Avro schema of an Avro message.

    Moments are milliseconds, times and durations microseconds; a UUID is its 36 characters. A `Literal` is a string,
    because old readers cannot read new symbols of an Avro enum. What is stored as text is a string too.
    """
    schema = {
        "type": "record",
        "name": record.__name__,
        "namespace": "penstock",
        "doc": (record.__doc__ or "").strip(),
        "fields": [avro_field(field) for field in fields(record)],
    }
    return cast(dict[str, Any], _name_repeated(schema, set()))


def _name_repeated(schema: Any, defined: set[str]) -> Any:
    """Return an Avro schema in which a record that occurs again is its name: Avro defines each only once."""
    if isinstance(schema, list):
        return [_name_repeated(member, defined) for member in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "record":
        name = f"{schema['namespace']}.{schema['name']}"
        if name in defined:
            return name
        defined.add(name)
    return {
        name: _name_repeated(value, defined) if name in ("type", "fields", "items", "values") else value
        for name, value in schema.items()
    }


def spark_ddl(struct: type[msgspec.Struct]) -> str:
    """Return the Spark schema of a record's columns, as a DDL string: `id STRING NOT NULL, ...`."""
    return ", ".join(
        f"{field.column} {field.kind.spark}{'' if field.nullable else ' NOT NULL'}" for field in fields(struct)
    )
