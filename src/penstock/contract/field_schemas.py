"""Fields as a JSON Schema or an Avro schema describes them, in common terms, so that two schemas can be compared.

The schemas may be anybody's: whatever they say about a field, it is described.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from penstock.contract import fields

Schema = Mapping[str, Any]
"""A JSON Schema or an Avro schema, as `contract.schemas` renders them."""

RECORD, LIST, SET, MAP, TUPLE, ANYTHING = "record", "list", "set", "map", "tuple", "anything"
"""Types with something inside, and the type of any JSON."""
ITEMS = "[]"
"""Name of the items of a list, a set or a map."""
ANY_FORM = "x-type"
"""Mark that has the schema of a property which allows any value for the sake of the registry."""
REMOVED = "x-removed"
"""Mark of a property that older records have and newer ones do not."""
_MAX_DEPTH = 32


@dataclass(frozen=True)
class FieldSchema:
    """A field as a schema describes it. `members` are the fields of a record, or the items of another type."""

    type: str
    optional: bool = False
    """Whether a record may lack it."""
    nullable: bool = False
    is_key: bool = False
    is_removed: bool = False
    name: str = ""
    """Name of a record type."""
    aliases: tuple[str, ...] = ()
    rules: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    members: "dict[str, FieldSchema]" = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return the type as a message names it."""
        if self.type == TUPLE:
            return f"tuple of {len(self.members)}"
        return f"record {self.name}" if self.type == RECORD and self.name else self.type


def describe_fields(schema: Schema) -> dict[str, FieldSchema]:
    """Return the fields of a record's schema, by name; none if it is not the schema of a record."""
    if is_avro(schema):
        return _AvroTypes().describe_fields(schema, 0)
    return _describe_properties(schema, schema, 0)


def is_avro(schema: Schema) -> bool:
    """Return whether a record's schema is Avro, not JSON Schema."""
    return schema.get("type") == "record"


def coerce_mapping(schema: Any) -> Schema:
    """Return the schema if it is a mapping, else {}: a schema may also be a type's name, or true."""
    return schema if isinstance(schema, Mapping) else {}


def _coerce_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _format_decimal_type(precision: Any, scale: Any) -> str:
    return f"decimal({precision}, {scale})"


def _join_types(members: Iterable[FieldSchema]) -> FieldSchema:
    """Return a field that has one of several types."""
    return FieldSchema(" or ".join(sorted({member.type for member in members})))


# Avro

_KINDS = (
    *(fields.TEXT, fields.UUID, fields.TIMESTAMP, fields.INT, fields.BIGINT, fields.DOUBLE, fields.BOOLEAN),
    *(fields.DATE, fields.TIME, fields.BYTES),
)
DURATION = "duration"


class _AvroTypes:
    """Describes Avro types. A record type is described where it is defined, and found by its name elsewhere."""

    def __init__(self) -> None:
        self._named: dict[str, Schema] = {}

    def describe_fields(self, record: Schema, depth: int) -> dict[str, FieldSchema]:
        self._named[str(record.get("name"))] = record
        self._named[f"{record.get('namespace')}.{record.get('name')}"] = record
        return {field["name"]: self._describe_field(field, depth) for field in record["fields"]}

    def _describe_field(self, field: Schema, depth: int) -> FieldSchema:
        is_union = isinstance(field["type"], list)
        return replace(
            self._describe_type(field["type"], depth),
            optional="default" in field,
            nullable=is_union and "null" in field["type"],
            aliases=tuple(map(str, _coerce_list(field.get("aliases")))),
            notes={"doc": field.get("doc") or ""},
        )

    def _describe_type(self, kind: Any, depth: int) -> FieldSchema:
        if isinstance(kind, list):
            inner = [self._describe_type(member, depth + 1) for member in kind if member != "null"]
            return inner[0] if len(inner) == 1 else _join_types(inner)
        if isinstance(kind, str) and kind in self._named:
            kind = self._named[kind]
        if isinstance(kind, Mapping) and depth < _MAX_DEPTH:
            match kind.get("type"):
                case "array":
                    return FieldSchema(LIST, members={ITEMS: self._describe_type(kind["items"], depth + 1)})
                case "map":
                    return FieldSchema(MAP, members={ITEMS: self._describe_type(kind["values"], depth + 1)})
                case "record":
                    members = self.describe_fields(kind, depth + 1)
                    return FieldSchema(RECORD, name=str(kind.get("name", "")), members=members)
        return FieldSchema(_name_avro_type(kind))


def _name_avro_type(kind: Any) -> str:
    if kind == fields.DURATION.avro:
        return DURATION
    if isinstance(kind, Mapping) and kind.get("logicalType") == "decimal":
        return _format_decimal_type(kind.get("precision"), kind.get("scale", 0))
    return next((known.cql for known in _KINDS if known.avro == kind), str(kind))


# JSON Schema

_JSON_TYPES = {
    ("string", None): "text",
    ("string", "uuid"): "uuid",
    ("string", "date-time"): "timestamp",
    ("string", "date"): "date",
    ("string", "partial-time"): "time",
    ("string", "duration"): DURATION,
    ("number", None): "double",
    ("boolean", None): "boolean",
}
_NOTES = {"description", "x-personal"}
_NO_RULES = _NOTES | {"type", "format", "anyOf", "default", "title", "x-key", "x-required", "x-alias-of", REMOVED}
_NO_RULES |= {"contentEncoding", "x-precision", "x-scale", ANY_FORM, "$ref", "required"}
_NO_RULES |= {"properties", "items", "prefixItems", "additionalItems", "additionalProperties", "uniqueItems"}


def _describe_properties(schema: Schema, root: Schema, depth: int) -> dict[str, FieldSchema]:
    """Return the fields of an object's schema. `root` is the whole schema, which has the definitions."""
    properties = {name: coerce_mapping(field) for name, field in schema.get("properties", {}).items()}
    required = _coerce_list(schema.get("required"))
    former = {name: field["x-alias-of"] for name, field in properties.items() if "x-alias-of" in field}
    return {
        name: replace(
            _describe_property(field, root, depth),
            optional=name not in required and not field.get("x-required"),
            aliases=tuple(alias for alias, present in former.items() if present == name),
        )
        for name, field in properties.items()
        if name not in former
    }


def _describe_property(field: Schema, root: Schema, depth: int) -> FieldSchema:
    is_removed = bool(field.get(REMOVED))
    field = {**field, **coerce_mapping(field.get(ANY_FORM))}
    choices = [_resolve(coerce_mapping(member), root) for member in _coerce_list(field.get("anyOf"))]
    inner = [member for member in choices if member.get("type") != "null"]
    whole = {**_resolve(field, root), **inner[0]} if len(inner) == 1 else _resolve(field, root)
    kinds = _coerce_list(whole.get("type"))
    if kinds:
        names = [kind for kind in kinds if kind != "null"]
        whole["type"] = names[0] if len(names) == 1 else " or ".join(sorted(map(str, names)))
    several = [_describe_property(member, root, depth + 1) for member in inner] if len(inner) > 1 else []
    described = _join_types(several) if several and depth < _MAX_DEPTH else _describe_type(whole, root, depth)
    return replace(
        described,
        nullable=len(inner) < len(choices) or "null" in kinds,
        is_key=bool(whole.get("x-key")),
        is_removed=is_removed,
        rules={name: value for name, value in whole.items() if name not in _NO_RULES},
        notes={name: {**field, **whole}[name] for name in _NOTES if name in field or name in whole},
    )


def _resolve(schema: Schema, root: Schema) -> dict[str, Any]:
    """Return a schema with what its reference to a definition of `root` says, if it has one."""
    words = str(schema.get("$ref", "")).removeprefix("#/").split("/")
    target: Any = root if "$ref" in schema else {}
    for word in words if "$ref" in schema else ():
        target = coerce_mapping(target).get(word)
    definition = {name: value for name, value in coerce_mapping(target).items() if name not in _NOTES}
    return {**definition, **schema}


def _describe_type(whole: Schema, root: Schema, depth: int) -> FieldSchema:
    if depth >= _MAX_DEPTH:
        return FieldSchema(ANYTHING)

    def describe(item: Any) -> FieldSchema:
        return _describe_property(coerce_mapping(item), root, depth + 1)

    if whole.get("type") == "array":
        firsts = whole.get("prefixItems") or whole.get("items")
        if isinstance(firsts, list):
            return FieldSchema(TUPLE, members={f"[{number}]": describe(item) for number, item in enumerate(firsts)})
        return FieldSchema(SET if whole.get("uniqueItems") else LIST, members={ITEMS: describe(whole.get("items"))})
    if whole.get("type") == "object":
        if isinstance(whole.get("properties"), Mapping):
            name = str(whole.get("title", ""))
            return FieldSchema(RECORD, name=name, members=_describe_properties(whole, root, depth + 1))
        return FieldSchema(MAP, members={ITEMS: describe(whole.get("additionalProperties"))})
    return FieldSchema(_name_json_type(whole))


def _name_json_type(whole: Schema) -> str:
    kind, form = whole.get("type"), whole.get("format")
    if kind == "integer":
        is_small = whole.get("minimum", -inf) >= -(2**31) and whole.get("maximum", inf) < 2**31
        return "int" if is_small else "bigint"
    if whole.get("contentEncoding") == "base64":
        return "blob"
    if form == "decimal":
        return _format_decimal_type(whole.get("x-precision"), whole.get("x-scale"))
    return _JSON_TYPES.get((str(kind), form), f"{kind} {form}" if form else str(kind or ANYTHING))
