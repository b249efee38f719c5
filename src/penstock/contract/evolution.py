"""Changes from one schema of a record to the next, and whether existing records are compatible with them.

A change is allowed if every older record can still be read and its column still holds it: a new optional field, a
looser rule, another description. Any other change is refused with its reason. Pure: schemas and columns in, changes
out.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any

from penstock.contract import fields
from penstock.contract.table import Table as DeclaredTable

Schema = Mapping[str, Any]
"""A JSON Schema or an Avro schema, as `contract.schemas` renders them."""


class ChangeKind(StrEnum):
    """Kind of a change. The names are stable: scripts read them."""

    ADDED_OPTIONAL = "added_optional"
    ADDED_REQUIRED = "added_required"
    REMOVED = "removed"
    TYPE_CHANGED = "type_changed"
    RULE_TIGHTENED = "rule_tightened"
    RULE_LOOSENED = "rule_loosened"
    NOW_REQUIRED = "now_required"
    NOW_OPTIONAL = "now_optional"
    KEY_CHANGED = "key_changed"
    RENAMED = "renamed"
    DESCRIBED = "described"
    ENCODING_CHANGED = "encoding_changed"
    TTL_CHANGED = "ttl_changed"


ALLOWED = frozenset({ChangeKind.ADDED_OPTIONAL, ChangeKind.RULE_LOOSENED, ChangeKind.DESCRIBED, ChangeKind.TTL_CHANGED})


@dataclass(frozen=True, slots=True)
class Change:
    """A change. `field` is empty for a change of the record as a whole."""

    field: str
    kind: ChangeKind
    allowed: bool
    why: str

    @classmethod
    def of(cls, name: str, kind: ChangeKind, why: str) -> "Change":
        """Return a change, allowed or not according to its kind."""
        return cls(name, kind, kind in ALLOWED, why)

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}"


def list_refused(changes: Iterable[Change]) -> list[Change]:
    """Return the changes that are not allowed."""
    return [change for change in changes if not change.allowed]


def describe_encoding_change(subject: str, older: str, newer: str) -> Change:
    """Return the change of a subject from one type of schema to another."""
    why = f"{subject} has {older} schemas and this one is {newer}: use another topic for another encoding"
    return Change.of("", ChangeKind.ENCODING_CHANGED, why)


# Two schemas


@dataclass(frozen=True)
class _Shape:
    """A field as a schema describes it."""

    type: str
    optional: bool
    is_key: bool = False
    rules: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def compare_schemas(older: Schema, newer: Schema) -> list[Change]:
    """Return the changes from `older` to `newer`, both JSON Schema or both Avro, in the order of the newer's fields.

    `older` may be any schema in the registry, `newer` is penstock's.
    """
    older = _coerce_mapping(older)
    before, after = _extract_shapes(older), _extract_shapes(newer)
    changes = list(_of_record(older, newer))
    for name, shape in after.items():
        changes += _of_field(name, before[name], shape) if name in before else [_describe_addition(name, shape)]
    return changes + [_describe_removal(name, shape) for name, shape in before.items() if name not in after]


def _coerce_mapping(schema: Any) -> Schema:
    """Return the schema if it is a mapping, else {}: a schema may also be a type's name, or true."""
    return schema if isinstance(schema, Mapping) else {}


def _is_avro(schema: Schema) -> bool:
    return schema.get("type") == "record"


def _extract_shapes(schema: Schema) -> dict[str, _Shape]:
    if _is_avro(schema):
        return {field["name"]: _avro_shape(field) for field in schema["fields"]}
    required = schema.get("required", ())
    return {
        name: _json_shape(_coerce_mapping(field), name in required)
        for name, field in schema.get("properties", {}).items()
    }


_KINDS = (
    *(fields.TEXT, fields.UUID, fields.TIMESTAMP, fields.INT, fields.BIGINT, fields.DOUBLE, fields.BOOLEAN),
    *(fields.DATE, fields.TIME, fields.BYTES),
)
_DURATION = "duration"
_PYTHON = {
    "text": "str",
    "uuid": "UUID",
    "timestamp": "datetime",
    "int": "int",
    "bigint": "int",
    "double": "float",
    "boolean": "bool",
    "date": "date",
    "time": "time",
    _DURATION: "timedelta",
    "blob": "bytes",
}


def _avro_shape(field: Schema) -> _Shape:
    kind, is_union = field["type"], isinstance(field["type"], list)
    inner = [member for member in kind if member != "null"] if is_union else [kind]
    return _Shape(
        " or ".join(map(_avro_type, inner)),
        optional=is_union and "default" in field,
        notes={"doc": field.get("doc") or ""},
    )


def _avro_type(member: Any) -> str:
    if member == fields.DURATION.avro:
        return _DURATION
    if isinstance(member, dict) and member.get("logicalType") == "decimal":
        return _format_decimal_type(member.get("precision"), member.get("scale", 0))
    return next((known.cql for known in _KINDS if known.avro == member), str(member))


def _format_decimal_type(precision: Any, scale: Any) -> str:
    return f"decimal({precision}, {scale})"


_JSON_TYPES = {
    ("string", None): "text",
    ("string", "uuid"): "uuid",
    ("string", "date-time"): "timestamp",
    ("string", "date"): "date",
    ("string", "partial-time"): "time",
    ("string", "duration"): _DURATION,
    ("number", None): "double",
    ("boolean", None): "boolean",
}
_NOTES = {"description", "x-personal"}
_NO_RULES = _NOTES | {"type", "format", "anyOf", "default", "title", "x-key"}
_NO_RULES |= {"contentEncoding", "x-precision", "x-scale"}


def _json_shape(field: Schema, is_required: bool) -> _Shape:
    members = map(_coerce_mapping, field.get("anyOf", ()))
    inner = [member for member in members if member.get("type") != "null"]
    whole = {**field, **inner[0]} if len(inner) == 1 else dict(field)
    return _Shape(
        _json_type(whole),
        optional=not is_required,
        is_key=bool(whole.get("x-key")),
        rules={name: value for name, value in whole.items() if name not in _NO_RULES},
        notes={name: whole[name] for name in _NOTES if name in whole},
    )


def _json_type(whole: Schema) -> str:
    kind, form = whole.get("type"), whole.get("format")
    if kind == "integer":
        is_small = whole.get("minimum", -inf) >= -(2**31) and whole.get("maximum", inf) < 2**31
        return "int" if is_small else "bigint"
    if whole.get("contentEncoding") == "base64":
        return "blob"
    if form == "decimal":
        return _format_decimal_type(whole.get("x-precision"), whole.get("x-scale"))
    return _JSON_TYPES.get((str(kind), form), f"{kind} {form}" if form else str(kind or "anything"))


def _of_record(older: Schema, newer: Schema) -> Iterator[Change]:
    if _is_avro(newer):
        names = [f"{schema.get('namespace', '')}.{schema.get('name', '')}" for schema in (older, newer)]
        if names[0] != names[1]:
            why = f"the record was renamed from {names[0]} to {names[1]}: Avro identifies records by name"
            yield Change.of("", ChangeKind.RENAMED, why)
    notes = [[schema.get(name) for name in ("description", "doc", "title")] for schema in (older, newer)]
    if notes[0] != notes[1]:
        yield Change.of("", ChangeKind.DESCRIBED, "the record's description changed")


def _describe_addition(name: str, shape: _Shape) -> Change:
    if shape.optional:
        return Change.of(
            name, ChangeKind.ADDED_OPTIONAL, f"`{name}` ({shape.type}) is new; older records do not have it"
        )
    python = _PYTHON.get(shape.type, shape.type)
    if shape.type.startswith("decimal("):
        python = f"Annotated[Decimal, Digits({shape.type[8:]}]"
    why = f"`{name}` is new and required, but older records do not have it: make it `{python} | None = None`"
    return Change.of(name, ChangeKind.ADDED_REQUIRED, why)


def _describe_removal(name: str, shape: _Shape) -> Change:
    remedy = "keep the field and leave it empty" if shape.optional else "keep the field"
    why = f"`{name}` was removed: its column stays, and running jobs still expect it; {remedy}"
    return Change.of(name, ChangeKind.REMOVED, why)


def _of_field(name: str, before: _Shape, after: _Shape) -> Iterator[Change]:
    if before.is_key != after.is_key:
        why = (
            f"`{name}` is {'now' if after.is_key else 'no longer'} the key: use another topic and table for another key"
        )
        yield Change.of(name, ChangeKind.KEY_CHANGED, why)
    if before.optional and not after.optional:
        yield Change.of(
            name, ChangeKind.NOW_REQUIRED, f"`{name}` was optional and is now required: older records may lack it"
        )
    if after.optional and not before.optional:
        yield Change.of(name, ChangeKind.NOW_OPTIONAL, f"`{name}` was required and is now optional: {_RELIED_ON}")
    if before.type != after.type:
        yield _describe_type_change(name, before.type, after.type)
    else:
        yield from _of_rules(name, before.rules, after.rules)
    if before.notes != after.notes:
        yield Change.of(name, ChangeKind.DESCRIBED, f"the description or marks of `{name}` changed")


def _describe_type_change(name: str, before: str, after: str) -> Change:
    why = f"the type of `{name}` changed from {before} to {after}: a column keeps its type, so use another field name"
    return Change.of(name, ChangeKind.TYPE_CHANGED, why)


_LOWER = {"minLength", "minimum", "exclusiveMinimum"}
_UPPER = {"maxLength", "maximum", "exclusiveMaximum"}
_WRITTEN = {
    "minLength": "min_length",
    "maxLength": "max_length",
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
"""Name of each JSON Schema rule in a record's file."""
_RELIED_ON = "existing readers rely on it; add another field instead"
_UNTIL_RESTART = ": until it is restarted, a running job dead-letters what only the new rule allows"
_ON_REPLAY = ": records in the topic may break it, and would be dead-lettered on replay"


def _of_rules(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for rule in {**after, **before}:
        old, new = before.get(rule), after.get(rule)
        if old == new:
            continue
        is_tighter = _is_tighter(rule, old, new)
        kind = ChangeKind.RULE_TIGHTENED if is_tighter else ChangeKind.RULE_LOOSENED
        why = f"`{name}`: {_WRITTEN.get(rule, rule)} changed from {_format_value(old)} to {_format_value(new)}"
        yield Change.of(name, kind, why + (_ON_REPLAY if is_tighter else _UNTIL_RESTART))


def _is_tighter(rule: str, old: Any, new: Any) -> bool:
    """Return whether a value that met the old rule may break the new one. Patterns are not comparable: it may."""
    if new is None:
        return False
    if rule == "enum" and isinstance(old, list) and isinstance(new, list):
        return any(symbol not in new for symbol in old)
    if old is None or rule not in _LOWER | _UPPER:
        return True
    return bool(new > old if rule in _LOWER else new < old)


def _format_value(value: Any) -> str:
    return "not set" if value is None else str(value)


# A table and its rows


@dataclass(frozen=True)
class Table:
    """An existing table: the type of each column by its name, and the primary key. No columns: there is no table."""

    columns: dict[str, str]
    key: tuple[str, ...]


def find_missing_columns(existing: Table, declared: DeclaredTable) -> dict[str, str]:
    """Return the declared columns that the table does not have: their types by name."""
    return {name: kind for name, kind in declared.columns.items() if name not in existing.columns}


def find_unmanaged_columns(existing: Table, declared: DeclaredTable) -> list[str]:
    """Return the columns of the table that are not declared, as `name type`."""
    return [f"{name} {kind}" for name, kind in sorted(existing.columns.items()) if name not in declared.columns]


def compare_table(existing: Table, declared: DeclaredTable) -> list[Change]:
    """Return what would change in an existing table for it to be as declared: new columns, other types, another key."""
    if not existing.columns:
        return []
    changes = [
        Change.of(name, ChangeKind.ADDED_OPTIONAL, f"column `{name}` {kind} is new; null in existing rows")
        for name, kind in find_missing_columns(existing, declared).items()
    ]
    for name, kind in declared.columns.items():
        if name in existing.columns and existing.columns[name] != kind:
            changes.append(_describe_type_change(name, existing.columns[name], kind))
    key = tuple(column.column for column in declared.key)
    if existing.key != key:
        names = [", ".join(columns) for columns in (key, existing.key)]
        why = f"the key is `{names[0]}`, but the table's is `{names[1]}`: use another table for another key"
        changes.append(Change.of(names[0], ChangeKind.KEY_CHANGED, why))
    return changes
