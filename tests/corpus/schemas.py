"""The schemas with which values of the corpus are written; a registry assigns their ids."""

from typing import Any

from penstock.broker.registry import WriterSchema
from penstock.contract.schemas import avro_schema, json_schema
from penstock.pipelines.users import User

UNKNOWN_ID = 1_234_567_890
"""An id that no registry of ours has given."""

_USER = avro_schema(User)


def _changed(**types: Any) -> dict[str, Any]:
    """The user's Avro schema with fields changed or added; None removes one."""
    fields = {field["name"]: field["type"] for field in _USER["fields"]} | types
    return _USER | {"fields": [{"name": name, "type": kind} for name, kind in fields.items() if kind is not None]}


_NODE = {"type": "record", "name": "Node", "namespace": "deep", "fields": [{"name": "next", "type": ["null", "Node"]}]}
_ROOM = {"type": "record", "name": "Room", "namespace": "hotel", "fields": [{"name": "number", "type": "int"}]}


def _key(**types: Any) -> WriterSchema:
    """The Avro schema of another team's key."""
    fields = [{"name": name, "type": kind} for name, kind in types.items()]
    return WriterSchema("avro", {"type": "record", "name": "Key", "namespace": "teams", "fields": fields})


_DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}


def _nested(levels: int, leaf: Any) -> Any:
    """Records of ten records of ten records ..., all but the first referenced by name."""
    kind = leaf
    for level in range(levels):
        fields = [kind, *[f"N{level - 1}" if level else leaf] * 9]
        kind = {
            "type": "record",
            "name": f"N{level}",
            "fields": [{"name": f"f{at}", "type": it} for at, it in enumerate(fields)],
        }
    return kind


def _deep(levels: int) -> Any:
    """Arrays in arrays."""
    return {"type": "array", "items": _deep(levels - 1)} if levels else "int"


SCHEMAS: dict[str, WriterSchema] = {
    "json": WriterSchema("json", json_schema(User)),
    "avro": WriterSchema("avro", _USER),
    "other-json": WriterSchema("json", {"type": "object", "properties": {"room": {"type": "integer"}}}),
    "other-record": WriterSchema("avro", _ROOM),
    "text": WriterSchema("avro", {"type": "string"}),
    "array": WriterSchema("avro", {"type": "array", "items": "int"}),
    "map": WriterSchema("avro", {"type": "map", "values": "string"}),
    "enum": WriterSchema("avro", {"type": "enum", "name": "Colour", "symbols": ["RED", "GREEN"]}),
    "more": WriterSchema("avro", _changed(shoe_size="int", tags={"type": "array", "items": "string"})),
    "endless": WriterSchema("avro", _changed(x={"type": "array", "items": "null"})),
    "recursive": WriterSchema("avro", _changed(x=_NODE)),
    "decimal": WriterSchema("avro", _changed(x=_DECIMAL)),
    "decimal-text": WriterSchema("avro", _changed(username=_DECIMAL)),
    "exploding": WriterSchema("avro", _changed(x=_nested(7, "null"))),
    "nested": WriterSchema("avro", _changed(x={"type": "array", "items": _nested(3, "int")})),
    "numbers": WriterSchema("avro", _changed(x={"type": "array", "items": "int"})),
    "doubles": WriterSchema("avro", _changed(x={"type": "array", "items": "double"})),
    "deep": WriterSchema("avro", _changed(x=_deep(100))),
    "less": WriterSchema("avro", _changed(email=None)),
    "other-order": WriterSchema("avro", _USER | {"fields": _USER["fields"][::-1]}),
    "nullable": WriterSchema("avro", _changed(email=["null", "string"])),
    "bytes": WriterSchema("avro", _changed(username="bytes")),
    "plain-id": WriterSchema("avro", _changed(id="string")),
    "plain-long": WriterSchema("avro", _changed(dob="long")),
    "int-date": WriterSchema("avro", _changed(dob="int")),
    "float-date": WriterSchema("avro", _changed(dob="float")),
    "micros": WriterSchema("avro", _changed(dob={"type": "long", "logicalType": "timestamp-micros"})),
    "int-post-code": WriterSchema("avro", _changed(post_code="int")),
    "key": _key(id="string"),
    "uuid-key": _key(id={"type": "string", "logicalType": "uuid"}),
    "nullable-key": _key(id=["null", "string"]),
    "wide-key": _key(id="string", at="long"),
}
