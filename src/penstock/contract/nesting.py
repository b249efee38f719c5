"""Composite types as a record's file declares them: which kind each has, and what is refused with what to write."""

import typing
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, NamedTuple

from msgspec import inspect

from penstock.contract import composites
from penstock.contract.composites import JSON
from penstock.contract.kinds import Field, FieldKind
from penstock.contract.record import Record

MAX_NESTING = 8
"""Maximum number of collections and records within each other."""


class Site(NamedTuple):
    """Where a type is declared: its path in the record, the name of its field, and what it is nested in.

    `describe` returns the field of a type there, and `field_of` that of a record's member (`contract.fields`).
    """

    describe: Callable[[inspect.Type, Any, "Site"], Field]
    field_of: Callable[[inspect.Field, Any, "Site"], Field]
    path: str
    name: str = ""
    records: tuple[type[Record], ...] = ()
    depth: int = 0
    is_text: bool = False
    """Whether it is within a value that is stored as JSON text."""

    def item(self, place: str) -> "Site":
        """Return the site of an item."""
        return self._replace(path=f"{self.path}{place}", name="", depth=self.depth + 1)

    def member(self, record: type[Record], name: str) -> "Site":
        """Return the site of a member of a nested record."""
        path, records = f"{self.path}.{name}", (*self.records, record)
        return self._replace(path=path, name=name, records=records, depth=self.depth + 1)


def unwrap_metadata(kind_info: inspect.Type) -> tuple[inspect.Type, dict[str, Any], str]:
    """Return a type without its metadata, the marks and the description."""
    if isinstance(kind_info, inspect.Metadata):
        return kind_info.type, kind_info.extra or {}, (kind_info.extra_json_schema or {}).get("description", "")
    return kind_info, {}, ""


def unwrap_hint(hint: Any) -> tuple[Any, list[Any]]:
    """Return an annotation without its metadata, `| None` and other names, and the metadata."""
    metadata: list[Any] = []
    while True:
        if typing.get_origin(hint) is Annotated:
            metadata += hint.__metadata__
            hint = hint.__origin__
        elif typing.get_origin(hint) in (typing.Union, UnionType):
            members = [member for member in typing.get_args(hint) if member is not type(None)]
            if len(members) > 1:
                return typing.Union[tuple(members)], metadata  # noqa: UP007  of members known only here
            hint = members[0]
        elif (named := getattr(hint, "__value__", None) or getattr(hint, "__supertype__", None)) is not None:
            hint = named
        else:
            return hint, metadata


def store_as_text(kind: FieldKind, hint: Any, site: Site) -> FieldKind:
    """Return the kind of a type that is marked `AS_TEXT`, if it can be."""
    if kind.shape is None and (not kind.is_text or kind is JSON):
        raise TypeError(f"field {site.path}: AS_TEXT is for a union, a record or a collection; remove it")
    return kind if kind.shape is None else composites.text_kind(kind, hint)


def resolve_composite(kind_info: inspect.Type, hint: Any, site: Site, has_mark: bool) -> FieldKind | None:
    """Return the kind of a type that is made of others, or of JSON text; None for scalars.

    Raises `TypeError` that says what to write instead.
    """
    resolve = _COMPOSITES.get(type(kind_info))
    if resolve is None:
        return None
    if site.depth >= MAX_NESTING:
        raise TypeError(f"field {site.path}: nested more than {MAX_NESTING} levels deep; write Json for what is inside")
    if isinstance(kind_info, inspect.UnionType) and _is_scalar_union(kind_info) and not (has_mark or site.is_text):
        start = f"{site.name}: " if site.name else ""
        written = f"`{start}Annotated[{_format_hint(hint)}, AS_TEXT]`"
        raise TypeError(f"field {site.path}: a union of types has no column type; store it as text: write {written}")
    return resolve(kind_info, hint, site)


def _format_hint(hint: Any) -> str:
    return " | ".join(getattr(member, "__name__", str(member)) for member in typing.get_args(hint))


def _resolve_union(kind_info: inspect.UnionType, hint: Any, site: Site) -> FieldKind:
    if not _is_scalar_union(kind_info):
        raise TypeError(f"field {site.path}: a union stored as text is of str, int, float and bool; write Json instead")
    return composites.union_kind(hint)


def _is_scalar_union(kind_info: inspect.UnionType) -> bool:
    return all(isinstance(unwrap_metadata(member)[0], _TEXTUAL) for member in kind_info.types)


_TEXTUAL = (inspect.StrType, inspect.IntType, inspect.FloatType, inspect.BoolType)


def _describe_item(hint: Any, site: Site, *, of: str) -> Field:
    """Return the field of the items of a collection. Raises `TypeError`, since CQL has no null there."""
    item = site.describe(inspect.type_info(hint), hint, site)
    if item.nullable:
        raise TypeError(f"field {site.path}: {of} cannot hold None; remove `| None`, and leave such items out")
    if item.key:
        raise TypeError(f"field {site.path}: only a field of the record itself can be its KEY")
    return item


def _resolve_list(_info: inspect.Type, hint: Any, site: Site) -> FieldKind:
    return composites.list_kind(_describe_item(_argument_of(hint, site), site.item("[]"), of="a list"))


def _argument_of(hint: Any, site: Site) -> Any:
    arguments = typing.get_args(hint)
    if not arguments:
        raise TypeError(f"field {site.path}: a collection needs the type of its items; write `list[str]`")
    return arguments[0]


def _resolve_set(_info: inspect.Type, hint: Any, site: Site) -> FieldKind:
    item = _describe_item(_argument_of(hint, site), site.item("[]"), of="a set")
    if item.shape is not None or item.kind.is_text:
        raise TypeError(f"field {site.path}: the items of a set are scalars; write `list[...]`")
    return composites.set_kind(item)


def _resolve_tuple(_info: inspect.Type, hint: Any, site: Site) -> FieldKind:
    items = tuple(
        _describe_item(item, site.item(f"[{at}]"), of="a tuple") for at, item in enumerate(typing.get_args(hint))
    )
    if not items:
        raise TypeError(f"field {site.path}: an empty tuple has no column type; remove the field")
    return composites.tuple_kind(items)


def _resolve_map(info: inspect.DictType, hint: Any, site: Site) -> FieldKind:
    if not isinstance(unwrap_metadata(info.key_type)[0], inspect.StrType):
        raise TypeError(f"field {site.path}: the keys of a JSON object are texts; write `dict[str, ...]`")
    _argument_of(hint, site)
    key, value = typing.get_args(hint)
    site = site.item("[]")
    return composites.map_kind(_describe_item(key, site, of="a dict"), _describe_item(value, site, of="a dict"))


def _resolve_record(info: inspect.StructType, hint: Any, site: Site) -> FieldKind:
    record = info.cls
    if not issubclass(record, Record) or typing.get_origin(hint) is not None:
        written = f"class {record.__name__}(Record, frozen=True, kw_only=True)"
        raise TypeError(f"field {site.path}: {record.__name__} is not a Record without parameters; write `{written}`")
    if info.array_like or info.tag_field is not None:
        raise TypeError(f"field {site.path}: remove array_like, tag and tag_field from {record.__name__}")
    if record in site.records:
        raise TypeError(f"field {site.path}: {record.__name__} contains itself; write Json for what is inside")
    hints = typing.get_type_hints(record, include_extras=True)
    members = tuple(
        site.field_of(member, hints[member.name], site.member(record, member.name)) for member in info.fields
    )
    keys = [member.column for member in members if member.key]
    if keys or not members:
        why = f"{site.path}.{keys[0]}: only a field of the record itself can be its KEY" if keys else ""
        raise TypeError(f"field {why}" if keys else f"field {site.path}: {record.__name__} has no fields; add one")
    return composites.record_kind(record, members)


def _refuse_any(_info: inspect.Type, _hint: Any, site: Site) -> FieldKind:
    raise TypeError(f"field {site.path}: Any has no column type; write Json (penstock.contract.record)")


def _refuse_class(info: Any, _hint: Any, site: Site) -> FieldKind:
    written = f"class {info.cls.__name__}(Record, frozen=True, kw_only=True)"
    raise TypeError(f"field {site.path}: {info.cls.__name__} is not a Record; write `{written}`")


_COMPOSITES: dict[type[inspect.Type], Callable[[Any, Any, Site], FieldKind]] = {
    inspect.ListType: _resolve_list,
    inspect.VarTupleType: _resolve_list,
    inspect.SetType: _resolve_set,
    inspect.FrozenSetType: _resolve_set,
    inspect.TupleType: _resolve_tuple,
    inspect.DictType: _resolve_map,
    inspect.StructType: _resolve_record,
    inspect.UnionType: _resolve_union,
    inspect.RawType: lambda _info, _hint, _site: JSON,
    inspect.AnyType: _refuse_any,
    inspect.DataclassType: _refuse_class,
    inspect.TypedDictType: _refuse_class,
    inspect.NamedTupleType: _refuse_class,
}
