"""The kinds of composite types: collections, nested records, any JSON, and what is stored as text.

Collections and nested records are frozen in CQL: a value is written and read as a whole, and an empty one is not null.
Each conversion is composed from those of the items; it is None if none of them has one.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec

from penstock.contract.cql_values import build_shape_encoder
from penstock.contract.json_text import encode_scalar, is_null, parse_scalar, parse_text, to_raw
from penstock.contract.kinds import Convert, Field, FieldKind, Form, Shape
from penstock.contract.quoting import name_user_type, quote_name
from penstock.contract.record import Record, list_members


def list_kind(item: Field) -> FieldKind:
    """Return the kind of lists, and of tuples of any length."""
    kind = item.kind
    return _build_collection(
        Shape(Form.LIST, (item,)),
        f"list<{kind.cql}>",
        to_avro=_map_items(kind.to_avro) if kind.to_avro else _copy_tuple,
    )


def set_kind(item: Field) -> FieldKind:
    """Return the kind of sets. Messages have the items in order, so that a value is always written the same way."""
    kind = item.kind
    return _build_collection(
        Shape(Form.SET, (item,)),
        f"set<{kind.cql}>",
        to_json=_map_items(kind.to_json, sorted),
        to_avro=_map_items(kind.to_avro, sorted),
        to_arrow=_map_items(kind.to_arrow, sorted),
    )


def _build_collection(shape: Shape, cql: str, **different: Convert) -> FieldKind:
    """Return the kind of a list or a set, with the conversions that are not simply those of its items."""
    kind = shape.items[0].kind
    conversions = _wrap_conversions(kind, _map_items)
    return FieldKind(
        avro={"type": "array", "items": kind.avro},
        spark=f"ARRAY<{kind.spark}>",
        cql=f"frozen<{cql}>",
        encode=build_shape_encoder(shape, {}),
        shape=shape,
        **(conversions | different),
    )


_CONVERSIONS = ("to_json", "to_avro", "from_avro", "to_arrow", "from_arrow", "prepare")


def _wrap_conversions(kind: FieldKind, wrap: Callable[[Convert], Convert]) -> dict[str, Any]:
    """Return the conversions that items have, each as that of their collection."""
    return {name: wrap(convert) for name in _CONVERSIONS if (convert := getattr(kind, name)) is not None}


def _map_items(convert: Convert | None, in_order: Callable[[Any], Iterable[Any]] = iter) -> Convert:
    """Return the function that converts each item of a collection, and makes a list of them."""

    def convert_items(items: Any) -> Any:
        if not isinstance(items, list | tuple | set | frozenset):
            return items
        return list(in_order(items)) if convert is None else [convert(item) for item in in_order(items)]

    return convert_items


def _copy_tuple(items: Any) -> Any:
    return list(items) if isinstance(items, tuple) else items  # fastavro takes a pair for a value and its type


def map_kind(key: Field, value: Field) -> FieldKind:
    """Return the kind of dicts whose keys are texts."""
    kind, shape = value.kind, Shape(Form.MAP, (value,), key)
    conversions = _wrap_conversions(kind, _map_values)
    to_pairs = kind.to_arrow or _keep
    from_pairs = kind.from_arrow or _keep
    conversions["to_arrow"] = lambda values: [(name, to_pairs(value)) for name, value in values.items()]
    conversions["from_arrow"] = lambda pairs: _read_pairs(pairs, from_pairs)
    return FieldKind(
        avro={"type": "map", "values": kind.avro},
        spark=f"MAP<{key.kind.spark}, {kind.spark}>",
        cql=f"frozen<map<{key.kind.cql}, {kind.cql}>>",
        encode=build_shape_encoder(shape, {}),
        shape=shape,
        **conversions,
    )


def _keep(value: Any) -> Any:
    return value


def _map_values(convert: Convert) -> Convert:
    def convert_values(values: Any) -> Any:
        return {name: convert(value) for name, value in values.items()} if isinstance(values, dict) else values

    return convert_values


def _read_pairs(pairs: Any, convert: Convert) -> Any:
    """Return the dict of Arrow's pairs, with None for a value that is null."""
    if not isinstance(pairs, list):
        return pairs
    return {name: None if value is None else convert(value) for name, value in pairs}


def tuple_kind(items: tuple[Field, ...]) -> FieldKind:
    """Return the kind of tuples of fixed length. Avro and Spark have them as records of item_1, item_2 ..."""
    names = [f"item_{number}" for number in range(1, len(items) + 1)]
    kinds, shape = [item.kind for item in items], Shape(Form.TUPLE, items)
    members = [{"name": name, "type": kind.avro} for name, kind in zip(names, kinds, strict=True)]
    avro_name = "_".join(["tuple", *(_name_avro(kind.avro) for kind in kinds)])
    return FieldKind(
        avro={"type": "record", "name": avro_name, "namespace": "penstock", "fields": members},
        spark=f"STRUCT<{', '.join(f'{name}: {kind.spark}' for name, kind in zip(names, kinds, strict=True))}>",
        cql=f"frozen<tuple<{', '.join(kind.cql for kind in kinds)}>>",
        encode=build_shape_encoder(shape, {}),
        to_json=_convert_tuple([kind.to_json for kind in kinds]) if any(kind.to_json for kind in kinds) else None,
        to_avro=_name_items(names, [kind.to_avro for kind in kinds]),
        from_avro=_read_items(names, [kind.from_avro for kind in kinds]),
        to_arrow=_name_items(names, [kind.to_arrow for kind in kinds]),
        from_arrow=_read_items(names, [kind.from_arrow for kind in kinds]),
        prepare=_convert_tuple([kind.prepare for kind in kinds]) if any(kind.prepare for kind in kinds) else None,
        shape=shape,
    )


def _name_avro(avro: Any) -> str:
    """Return a name for an Avro type that no other type has."""
    if isinstance(avro, str):
        return avro
    if avro["type"] == "record":
        return str(avro["name"])
    if avro["type"] in ("array", "map"):
        return f"{avro['type']}_{_name_avro(avro['items' if avro['type'] == 'array' else 'values'])}"
    words = (avro.get("logicalType") or avro.get("unit"), avro.get("precision"), avro.get("scale"))
    return "_".join(str(word).replace("-", "_") for word in words if word is not None)


def _convert_tuple(converters: list[Convert | None]) -> Convert:
    def convert_items(values: Any) -> Any:
        if not isinstance(values, list | tuple) or len(values) != len(converters):
            return values
        return [_apply(convert, value) for convert, value in zip(converters, values, strict=True)]

    return convert_items


def _apply(convert: Convert | None, value: Any) -> Any:
    return value if convert is None or value is None else convert(value)


def _name_items(names: list[str], converters: list[Convert | None]) -> Convert:
    convert_items = _convert_tuple(converters)
    return lambda values: dict(zip(names, convert_items(values), strict=True))


def _read_items(names: list[str], converters: list[Convert | None]) -> Convert:
    convert_items = _convert_tuple(converters)

    def read(members: Any) -> Any:
        if not isinstance(members, dict) or members.keys() != set(names):
            return members
        return convert_items([members[name] for name in names])

    return read


def record_kind(record: type[Record], members: tuple[Field, ...]) -> FieldKind:
    """Return the kind of a nested record. Messages have the names of its fields, table and Spark those of Python."""
    shape = Shape(Form.RECORD, members, record=record)
    columns = ", ".join(f"{member.column}: {member.kind.spark}" for member in members)
    return FieldKind(
        avro={
            "type": "record",
            "name": record.__name__,
            "namespace": "penstock",
            "doc": (record.__doc__ or "").strip(),
            "fields": [avro_field(member) for member in members],
        },
        spark=f"STRUCT<{columns}>",
        cql=f"frozen<{quote_name(name_user_type(record))}>",
        encode=build_shape_encoder(shape, {}),
        to_json=_replace_members(members) if any(member.kind.to_json for member in members) else None,
        to_avro=_build_members([(member.column, member.name, member.kind.to_avro) for member in members]),
        from_avro=_convert_members([(member.name, member.name, member.kind.from_avro) for member in members]),
        to_arrow=_build_members([(member.column, member.column, member.kind.to_arrow) for member in members]),
        from_arrow=_convert_members([(member.column, member.name, member.kind.from_arrow) for member in members]),
        prepare=prepare_record(record, members),
        shape=shape,
    )


def avro_field(field: Field) -> dict[str, Any]:
    """Return a field as Avro has it."""
    kind = ["null", field.kind.avro] if field.nullable else field.kind.avro
    described = {"name": field.name, "type": kind, "doc": field.description}
    if not field.required:
        default = None if field.nullable else field.default
        described = {"name": field.name, "type": kind, "default": default} | described
    return described | ({"aliases": list(field.aliases)} if field.aliases else {})


def _replace_members(members: tuple[Field, ...]) -> Convert:
    converters = [(member.column, member.kind.to_json) for member in members if member.kind.to_json is not None]
    return lambda record: replace_values(record, converters)


def replace_values(record: msgspec.Struct, converters: Sequence[tuple[str, Convert | None]]) -> msgspec.Struct:
    """Return a copy of a record with values converted, of types that are perhaps not its own: to encode it."""
    copied = copy(record)
    for column, convert in converters:
        msgspec.structs.force_setattr(copied, column, _apply(convert, getattr(record, column)))
    return copied


_Member = tuple[str, str, Convert | None]
"""The name of a member in a value, in the value that it becomes, and how it is converted."""


def _build_members(members: list[_Member]) -> Convert:
    getters = [(attrgetter(source), target, convert) for source, target, convert in members]
    return lambda record: {target: _apply(convert, get(record)) for get, target, convert in getters}


def _convert_members(members: Sequence[_Member]) -> Convert:
    def convert_members(values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        there = (member for member in members if member[0] in values)
        return values | {target: _apply(convert, values[source]) for source, target, convert in there}

    return convert_members


def prepare_record(record: type[Record], members: tuple[Field, ...]) -> Convert:
    """Return the function that makes a record's value what `msgspec.convert` takes: a dict of its fields."""
    convert_members = _convert_members(
        [(member.name, member.name, member.kind.prepare) for member in members if member.kind.prepare]
    )
    json_names = [member.name for member in members if member.kind is JSON and member.nullable]

    def prepare(value: Any) -> Any:
        if isinstance(value, record):
            value = list_members(value)
        prepared = convert_members(value)
        nulls = [name for name in json_names if isinstance(prepared, dict) and prepared.get(name, value) is None]
        return {name: item for name, item in prepared.items() if name not in nulls} if nulls else prepared

    return prepare


def _to_json_text(raw: msgspec.Raw) -> str | None:
    return None if is_null(raw) else bytes(raw).decode()


def _read_json_text(text: Any) -> Any:
    return msgspec.Raw(text) if isinstance(text, str) else text


def _encode_json(raw: msgspec.Raw) -> Any:
    return None if is_null(raw) else bytes(raw)  # a null column or place


JSON = FieldKind(
    "string",
    "STRING",
    "text",
    _encode_json,
    to_avro=_to_json_text,
    from_avro=_read_json_text,
    to_arrow=_to_json_text,
    from_arrow=_read_json_text,
    prepare=to_raw,
    is_text=True,
)
"""Any JSON value, as text."""


def union_kind(hint: Any) -> FieldKind:
    """Return the kind of a union of texts, numbers and booleans."""
    has_texts = any(getattr(member, "__origin__", member) is str for member in hint.__args__)
    read = partial(parse_scalar, hint=hint, may_be_text=has_texts)
    return FieldKind(
        "string",
        "STRING",
        "text",
        lambda value: encode_scalar(value).encode(),
        to_avro=encode_scalar,
        from_avro=read,
        to_arrow=encode_scalar,
        from_arrow=read,
        is_text=True,
    )


def text_kind(kind: FieldKind, hint: Any) -> FieldKind:
    """Return the kind of a composite value that is stored as JSON text; messages in JSON have the value itself."""
    encode = msgspec.json.Encoder().encode

    def write(value: Any) -> str:
        return encode(_apply(kind.to_json, value)).decode()

    def read(text: Any) -> Any:
        return parse_text(text, hint)

    return FieldKind(
        "string",
        "STRING",
        "text",
        lambda value: encode(_apply(kind.to_json, value)),
        to_avro=write,
        from_avro=read,
        to_arrow=write,
        from_arrow=read,
        to_json=kind.to_json,
        prepare=kind.prepare,
        shape=kind.shape,
        is_text=True,
    )
