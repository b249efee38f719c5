"""Former names of fields in messages (`Alias`): which they are, whether they are unique, and values read by them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from penstock.contract.fields import Field, fields
from penstock.contract.names import check_word
from penstock.contract.record import Record
from penstock.contract.violation import Rule, Violation


@cache
def former_names(record: type[Record]) -> dict[str, str]:
    """Return the name in messages of each field by each of its former names."""
    return {alias: field.name for field in fields(record) for alias in field.aliases}


def rename_fields(values: Mapping[str, Any], record: type[Record]) -> dict[str, Any]:
    """Return a message's values by the names of `record`. A field under two names keeps both."""
    names = former_names(record)
    doubled = {alias for alias, _ in _find_doubled(values, record)}
    return {name if name in doubled else names.get(name, name): value for name, value in values.items()}


def find_doubled_names(values: Mapping[str, Any], record: type[Record]) -> list[Violation]:
    """Return a violation for each field that a message names twice: which of the two counts is not ours to choose."""
    return [
        Violation(former_names(record)[alias], Rule.NAME, f"occurs twice: as {alias} and as {other}")
        for alias, other in _find_doubled(values, record)
    ]


def set_fields(values: Mapping[str, Any], changes: Mapping[str, Any], record: type[Record]) -> dict[str, Any]:
    """Return a message's values with some fields set: they no longer occur under former names."""
    return {name: value for name, value in values.items() if former_names(record).get(name) not in changes} | dict(
        changes
    )


def _find_doubled(values: Mapping[str, Any], record: type[Record]) -> Iterator[tuple[str, str]]:
    """Yield each former name in `values` of a field that also has another name there, and that name."""
    for field in fields(record) if former_names(record) else ():
        first, *others = [name for name in (field.name, *field.aliases) if name in values] or [""]
        yield from ((other, first) for other in others)


def check_aliases(record: type[Record]) -> None:
    """Raise `TypeError`, saying what to write, unless each former name stands for one field alone."""
    problems = list(_of_nested(record)) or [text for field in fields(record) for text in _of_field(field, record)]
    if problems:
        raise TypeError("; ".join(problems))


def _of_field(field: Field, record: type[Record]) -> Iterator[str]:
    part = f"field {field.column}"
    names = {other.name: other for other in fields(record)}
    columns = {other.column: other for other in fields(record) if other.column != field.column}
    times = Counter(alias for other in fields(record) for alias in other.aliases)
    for alias in field.aliases:
        try:
            check_word(alias)
        except ValueError as error:
            yield f"{part}: Alias: {error}"
        if alias in names:
            yield f"{part}: Alias({alias!r}) is the name of field {names[alias].column} in messages: remove it"
        elif times[alias] > 1:
            yield f"{part}: Alias({alias!r}) is declared {times[alias]} times: keep one"
        elif alias in columns:
            yield f"{part}: Alias({alias!r}) is the column of field {alias}: rename that attribute"
    if field.aliases and field.key and sum(other.key for other in fields(record)) > 1:
        yield f"{part}: a key of several fields has their names, so they cannot be renamed: remove the Alias"


def _of_nested(record: type[Record]) -> Iterator[str]:
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    for nested in {struct for field in described.fields for struct in _iter_structs(field.type)}:
        for field in fields(nested):
            if field.aliases:
                yield (
                    f"{nested.__name__}.{field.column}: an Alias is for fields of the record itself; "
                    f"keep the name in messages: `{field.column}: ... = msgspec.field(name={field.aliases[0]!r})`"
                )


def _iter_structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Yield the records within a type, at every level."""
    if isinstance(kind, inspect.StructType):
        yield kind.cls
        inner: tuple[Any, ...] = tuple(field.type for field in kind.fields)
    else:
        names = ("type", "types", "item_type", "item_types", "key_type", "value_type")
        parts = [getattr(kind, name, ()) for name in names]
        inner = tuple(member for part in parts for member in (part if isinstance(part, tuple) else (part,)))
    for member in inner:
        if isinstance(member, inspect.Type):
            yield from _iter_structs(member)
