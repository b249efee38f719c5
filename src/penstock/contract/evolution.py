"""Changes from one schema of a record to the next, and whether existing records are compatible with them.

A change is allowed if every older record can still be read: a new optional field, another name, a looser rule, a wider
type. Any other change is refused with its reason, and what to write instead. Each reason says what a job that still
runs with the older record does with newer records. Pure: schemas in, changes out.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from penstock.contract.field_schemas import (
    ANYTHING,
    DURATION,
    LIST,
    MAP,
    RECORD,
    SET,
    TUPLE,
    FieldSchema,
    Schema,
    coerce_mapping,
    describe_fields,
    is_avro,
)


class ChangeKind(StrEnum):
    """Kind of a change. The names are stable: scripts read them."""

    ADDED_OPTIONAL = "added_optional"
    ADDED_REQUIRED = "added_required"
    REMOVED_OPTIONAL = "removed_optional"
    REMOVED = "removed"
    FIELD_RENAMED = "field_renamed"
    ALIAS_ADDED = "alias_added"
    ALIAS_REMOVED = "alias_removed"
    WIDENED = "widened"
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


ALLOWED = frozenset(
    {ChangeKind.ADDED_OPTIONAL, ChangeKind.REMOVED_OPTIONAL, ChangeKind.FIELD_RENAMED, ChangeKind.ALIAS_ADDED}
    | {ChangeKind.WIDENED, ChangeKind.RULE_LOOSENED, ChangeKind.NOW_OPTIONAL, ChangeKind.DESCRIBED}
    | {ChangeKind.TTL_CHANGED}
)


@dataclass(frozen=True, slots=True)
class Change:
    """A change. `field` is a path such as `address.city`; it is empty for a change of the record as a whole."""

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


def compare_schemas(older: Schema, newer: Schema) -> list[Change]:
    """Return the changes from `older` to `newer`, both JSON Schema or both Avro, in the order of the newer's fields.

    `older` may be any schema in the registry, `newer` is penstock's.
    """
    older = coerce_mapping(older)
    fields = _compare_fields("", describe_fields(older), describe_fields(newer), is_avro(newer))
    return [*_compare_records(older, newer), *fields]


def _compare_records(older: Schema, newer: Schema) -> Iterator[Change]:
    if is_avro(newer):
        names = [f"{schema.get('namespace', '')}.{schema.get('name', '')}" for schema in (older, newer)]
        if names[0] != names[1]:
            why = f"the record was renamed from {names[0]} to {names[1]}: Avro identifies records by name"
            yield Change.of("", ChangeKind.RENAMED, why)
    notes = [[schema.get(name) for name in ("description", "doc", "title")] for schema in (older, newer)]
    if notes[0] != notes[1]:
        yield Change.of("", ChangeKind.DESCRIBED, "the record's description changed")


# The fields of a record

Fields = Mapping[str, FieldSchema]
_RUNNING_JOB = "until it is restarted, a running job"


def _compare_fields(path: str, before: Fields, after: Fields, in_avro: bool) -> Iterator[Change]:
    """Yield the changes of a record's fields. `path` leads to the record: "address.", or "" for the whole."""
    present = {name: field for name, field in before.items() if not field.is_removed}
    kept: set[str] = set()
    for name, field in after.items():
        known = [other for other in (name, *field.aliases) if other in present]
        kept |= {*known}
        if field.is_removed:
            continue
        if not known:
            yield from _describe_addition(path + name, field, _find_removed(name, field, before), in_avro)
            continue
        if known[0] != name:
            yield _describe_renaming(path + name, known[0], present[known[0]])
        yield from _compare_names(path + name, known, present[known[0]], field)
        yield from _compare_field(path + name, present[known[0]], field, in_avro)
    gone = (name for name, field in present.items() if name not in kept)
    yield from (_describe_removal(path + name, present[name]) for name in gone)


def _find_removed(name: str, field: FieldSchema, before: Fields) -> FieldSchema | None:
    """Return the field that older records have under one of a field's names, although newer ones do not."""
    return next((before[known] for known in (name, *field.aliases) if known in before), None)


def _describe_addition(path: str, field: FieldSchema, removed: FieldSchema | None, in_avro: bool) -> Iterator[Change]:
    if field.optional:
        why = f"`{path}` ({field.label}) is new; older records do not have it; {_RUNNING_JOB} stores rows without it"
        yield Change.of(path, ChangeKind.ADDED_OPTIONAL, why)
    else:
        optional = f"`{_write_type(field)} | None = None`"
        why = f"`{path}` is new and required, but older records do not have it: make it {optional}"
        yield Change.of(path, ChangeKind.ADDED_REQUIRED, why)
    if removed is not None:
        yield from list_refused(_compare_field(path, replace(removed, optional=False), field, in_avro))


def _describe_removal(path: str, field: FieldSchema) -> Change:
    if field.optional:
        stays = "" if "." in path else "its column stays, unmanaged; "
        why = f"`{path}` is no longer written: it is ignored in older records; {stays}{_RUNNING_JOB} stores null in it"
        return Change.of(path, ChangeKind.REMOVED_OPTIONAL, why)
    optional = f"`{_write_type(field)} | None = None`"
    why = f"`{path}` was removed, but running jobs require it: first make it {optional} and apply that, then remove it"
    return Change.of(path, ChangeKind.REMOVED, why)


def _describe_renaming(path: str, former: str, before: FieldSchema) -> Change:
    does = f"stores null in `{former}`" if before.optional else f"dead-letters records without `{former}`"
    why = f"`{path}` is the new name of `{former}`: records with either name are read; {_RUNNING_JOB} {does}"
    return Change.of(path, ChangeKind.FIELD_RENAMED, why)


def _compare_names(path: str, known: list[str], before: FieldSchema, after: FieldSchema) -> Iterator[Change]:
    """Yield the changes of a field's former names. `known` are those that are fields of older records."""
    for other in known[1:]:
        why = f"older records have both `{known[0]}` and `{other}`, which `{path}` cannot both be: remove the Alias"
        yield Change(path, ChangeKind.FIELD_RENAMED, allowed=False, why=why)
    own = path.rpartition(".")[2]
    for alias in before.aliases:
        if alias not in (own, *after.aliases):
            why = f"`{path}` is no longer read by the name `{alias}`, which older records have: keep it in Alias"
            yield Change.of(path, ChangeKind.ALIAS_REMOVED, why)
    for alias in after.aliases:
        if alias not in (*known, *before.aliases):
            why = f"`{path}` is also read by the name `{alias}`; {_RUNNING_JOB} does not know that name"
            yield Change.of(path, ChangeKind.ALIAS_ADDED, why)


# One field


def _compare_field(path: str, before: FieldSchema, after: FieldSchema, in_avro: bool) -> Iterator[Change]:
    if before.is_key != after.is_key:
        change = f"is {'now' if after.is_key else 'no longer'} the key"
        yield Change.of(path, ChangeKind.KEY_CHANGED, f"`{path}` {change}: use another topic and table for another key")
    yield from _compare_presence(path, before, after)
    if before.label != after.label and not _is_unnamed(before, after):
        yield from _compare_types(path, before, after, in_avro)
    else:
        yield from _compare_rules(path, before.rules, after.rules)
        yield from _compare_members(path, before, after, in_avro)
    if before.notes != after.notes:
        yield Change.of(path, ChangeKind.DESCRIBED, f"the description or marks of `{path}` changed")


def _is_unnamed(before: FieldSchema, after: FieldSchema) -> bool:
    """Return whether both are records, one of which has no name to compare."""
    return before.type == after.type == RECORD and not (before.name and after.name)


def _compare_presence(path: str, before: FieldSchema, after: FieldSchema) -> Iterator[Change]:
    if (before.optional and not after.optional) or (before.nullable and not after.nullable):
        why = f"`{path}` was optional and is now required: older records may lack it; make it optional again"
        yield Change.of(path, ChangeKind.NOW_REQUIRED, why)
    elif before.optional != after.optional or before.nullable != after.nullable:
        why = f"`{path}` was required and is now optional; {_RUNNING_JOB} dead-letters records without it"
        yield Change.of(path, ChangeKind.NOW_OPTIONAL, why)


def _compare_members(path: str, before: FieldSchema, after: FieldSchema, in_avro: bool) -> Iterator[Change]:
    if after.type == RECORD:
        yield from _compare_fields(f"{path}.", before.members, after.members, in_avro)
    else:
        for name, member in after.members.items():
            yield from _compare_field(path + name, before.members[name], member, in_avro)


_WIDER = {("int", "bigint"), ("int", "double"), ("float", "double")}
"""Types whose values are all values of another type, exactly."""


def _is_wider(before: str, after: str) -> bool:
    """Return whether each value of one type is a value of the other; a choice of types may get more of them."""
    choices = [set(kind.split(" or ")) for kind in (before, after)]
    return (before, after) in _WIDER or (len(choices[0]) > 1 and choices[0] < choices[1])


def _compare_types(path: str, before: FieldSchema, after: FieldSchema, in_avro: bool) -> Iterator[Change]:
    what = f"the type of `{path}` changed from {before.label} to {after.label}"
    if _is_wider(before.type, after.type):
        records = "every newer record" if in_avro else "records whose value is not of the older type"
        why = f"{what}, which holds every older value; {_RUNNING_JOB} dead-letters {records}"
        yield Change.of(path, ChangeKind.WIDENED, why)
        yield from list_refused(_compare_rules(path, before.rules, after.rules))
    else:
        digits = "; a float has 53 bits, not 64" if (before.type, after.type) == ("bigint", "double") else ""
        why = f"{what}: older records are not read as {after.label}{digits}; use another field name"
        yield Change.of(path, ChangeKind.TYPE_CHANGED, why)


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
    DURATION: "timedelta",
    "blob": "bytes",
    LIST: "list[...]",
    SET: "set[...]",
    MAP: "dict[str, ...]",
    TUPLE: "tuple[...]",
    ANYTHING: "Json",
}


def _write_type(field: FieldSchema) -> str:
    """Return a type as it is written in a record's file."""
    if field.type.startswith("decimal("):
        return f"Annotated[Decimal, Digits({field.type[8:]}]"
    return field.name if field.type == RECORD and field.name else _PYTHON.get(field.type, field.type)


# Rules

_LOWER = {"minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties"}
_UPPER = {"maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties"}
_WRITTEN = {
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "minProperties": "min_length",
    "maxProperties": "max_length",
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
"""Name of each JSON Schema rule in a record's file."""
_UNTIL_RESTART = f"; {_RUNNING_JOB} dead-letters what only the new rule allows"
_ON_REPLAY = ": records in the topic may break it, and would be dead-lettered on replay"


def _compare_rules(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for rule in {**after, **before}:
        old, new = before.get(rule), after.get(rule)
        if old == new:
            continue
        is_tighter = _is_tighter(rule, old, new)
        kind = ChangeKind.RULE_TIGHTENED if is_tighter else ChangeKind.RULE_LOOSENED
        why = f"`{path}`: {_WRITTEN.get(rule, rule)} changed from {_format_value(old)} to {_format_value(new)}"
        yield Change.of(path, kind, why + (_ON_REPLAY if is_tighter else _UNTIL_RESTART))


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
