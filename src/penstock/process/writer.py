"""The Avro schemas that values were written with: parsed, or refused when reading with them could hurt.

Anyone who may register a schema chooses them. A type inside of itself, or an array whose items take no bytes, lets a
small value make its reader go deep or round without end.
"""

from typing import Any

import fastavro

from penstock.errors import SchemaUnknown

_WRONG = (
    fastavro.schema.SchemaParseException,
    fastavro.schema.UnknownType,
    AttributeError,
    KeyError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a schema that is none is met with."""


Named = dict[str, int | None]
"""Whether types of a name, without its namespace, take a byte at least (1 or 0); None while one is being defined."""
_PRIMITIVES = {"null": 0} | dict.fromkeys(("boolean", "int", "long", "float", "double", "bytes", "string"), 1)


def parsed(schema: Any, schema_id: int) -> Any:
    """The schema, parsed. Raises `SchemaUnknown` when it is wrong, or not safe to read with."""
    try:
        _least_bytes(schema, {})
        return fastavro.parse_schema(schema)
    except _WRONG as error:
        raise SchemaUnknown(f"schema {schema_id} cannot be read: {type(error).__name__}: {error}") from error


def _least_bytes(schema: Any, named: Named) -> int:
    """How many bytes a value takes at least."""
    if isinstance(schema, str):
        return _of_name(schema, named)
    if isinstance(schema, list):
        for member in schema:
            _least_bytes(member, named)
        return 1
    of_kind = _OF_KIND.get(schema["type"])
    return of_kind(schema, named) if of_kind else _least_bytes(schema["type"], named)


def _of_name(name: str, named: Named) -> int:
    least = _PRIMITIVES[name] if name in _PRIMITIVES else named[_simple(name)]
    if least is None:
        raise ValueError(f"{name} is used inside of itself")
    return least


def _of_record(schema: dict[str, Any], named: Named) -> int:
    name = _simple(schema["name"])
    around = named.get(name, 1)
    named[name] = None
    least = sum(_least_bytes(field["type"], named) for field in schema["fields"])
    named[name] = _least_of(around, least)
    return least


def _least_of(known: int | None, least: int) -> int | None:
    """What the types of one name take at least, one more of them being known."""
    return None if known is None else min(known, least)


def _of_array(schema: dict[str, Any], named: Named) -> int:
    if not _least_bytes(schema["items"], named):
        raise ValueError("an array whose items take no bytes")
    return 1


def _of_map(schema: dict[str, Any], named: Named) -> int:
    _least_bytes(schema["values"], named)
    return 1


def _of_fixed(schema: dict[str, Any], named: Named) -> int:
    name, least = _simple(schema["name"]), int(schema["size"])
    named[name] = _least_of(named.get(name, 1), least)
    return least


def _of_enum(schema: dict[str, Any], named: Named) -> int:
    name = _simple(schema["name"])
    named[name] = _least_of(named.get(name, 1), 1)
    return 1


def _simple(name: str) -> str:
    """The name without its namespace."""
    return name.rpartition(".")[2]


_OF_KIND = {
    "record": _of_record,
    "error": _of_record,
    "array": _of_array,
    "map": _of_map,
    "fixed": _of_fixed,
    "enum": _of_enum,
}
