"""What Avro bytes may expand to: a schema is measured once, and a long value counted before it is decoded.

Nulls and records take no bytes of their own, and a record that is used by name costs a schema one word. So a few bytes
may stand for millions of values.
"""

from collections.abc import Callable, Iterator
from itertools import repeat
from math import inf
from typing import Any, ClassVar, NamedTuple

from penstock.contract.rules import MAX_VALUES

MAX_DEPTH = 64
"""The deepest that a schema may nest, types used by name included: readers recurse."""
MAX_VALUES_PER_BYTE = 16
MAX_EXCESS = 1000
"""The most values that a body may hold beyond `MAX_VALUES_PER_BYTE` times its bytes."""
_RATES = (0, 1, 2, 4, 8, MAX_VALUES_PER_BYTE)


class Expansion(NamedTuple):
    """An upper bound: `size_bytes` bytes hold at most `excess + per_byte * size_bytes` values."""

    excess: float
    per_byte: int

    @property
    def safe_bytes(self) -> float:
        """The size up to which a body holds at most `MAX_VALUES` values, whatever its bytes are."""
        return (MAX_VALUES - self.excess) / self.per_byte if self.per_byte else inf


def measure(schema: Any) -> Expansion:
    """Return the bound for values of a parsed schema. Raises `ValueError` when it is too high, or there is none."""
    for per_byte in _RATES:
        extent = _Meter(per_byte).measure(schema)
        if extent.depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
        if extent.excess <= MAX_EXCESS:
            return Expansion(max(extent.excess, 0), per_byte)
    raise ValueError(f"its values may be more than {MAX_EXCESS:,}, and {MAX_VALUES_PER_BYTE} a byte")


class _Extent(NamedTuple):
    excess: float
    """The most values, minus `per_byte` for each byte that they take."""
    depth: int


class _Meter:
    """Measures a parsed schema, whose types have their full names, at one rate of values per byte."""

    def __init__(self, per_byte: int) -> None:
        self._per_byte = per_byte
        self._named: dict[str, _Extent | None] = {}

    def measure(self, schema: Any) -> _Extent:
        """Return the extent of a schema's values. Raises `ValueError` for a type that is inside of itself."""
        if isinstance(schema, list):
            return self._union(schema)
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind in _PRIMITIVES:
            return self._scalar(kind != "null")
        measure = self._OF_KIND.get(kind)
        return measure(self, schema) if measure else self._of_name(kind)

    def _scalar(self, size_bytes: int) -> _Extent:
        return _Extent(1 - self._per_byte * size_bytes, 1)

    def _union(self, members: list[Any]) -> _Extent:
        extents = [self.measure(member) for member in members]
        return _Extent(max((extent.excess for extent in extents), default=0) - self._per_byte, _deepest(extents))

    def _record(self, schema: dict[str, Any]) -> _Extent:
        self._named[schema["name"]] = None
        extents = [self.measure(field["type"]) for field in schema["fields"]]
        return self._define(schema["name"], _Extent(1 + sum(extent.excess for extent in extents), _deepest(extents)))

    def _array(self, schema: dict[str, Any]) -> _Extent:
        return self._repeated(self.measure(schema["items"]))

    def _map(self, schema: dict[str, Any]) -> _Extent:
        key, value = self._scalar(1), self.measure(schema["values"])
        return self._repeated(_Extent(key.excess + value.excess, value.depth))

    def _fixed(self, schema: dict[str, Any]) -> _Extent:
        size = schema["size"]
        if type(size) is not int or size < 0:
            raise ValueError(f"the size of {schema['name']} is no number of bytes")
        return self._define(schema["name"], self._scalar(size))

    def _enum(self, schema: dict[str, Any]) -> _Extent:
        return self._define(schema["name"], self._scalar(1))

    def _repeated(self, item: _Extent) -> _Extent:
        """Return the extent of any number of items: without bound unless each has its own bytes."""
        return _Extent(inf if item.excess > 0 else 1 - self._per_byte, item.depth + 1)

    def _define(self, name: str, extent: _Extent) -> _Extent:
        self._named[name] = extent
        return extent

    def _of_name(self, name: str) -> _Extent:
        extent = self._named[name]
        if extent is None:
            raise ValueError(f"{name} is used inside of itself")
        return extent

    _OF_KIND: ClassVar[dict[str, Callable[["_Meter", Any], _Extent]]] = {
        "record": _record,
        "error": _record,
        "array": _array,
        "map": _map,
        "fixed": _fixed,
        "enum": _enum,
    }


_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


def _deepest(extents: list[_Extent]) -> int:
    return 1 + max((extent.depth for extent in extents), default=0)


def holds_too_much(body: bytes, schema: Any, named: dict[str, Any]) -> bool:
    """Return whether `body` holds more than `MAX_VALUES` values of a parsed schema, as far as it can be read.

    `named` has the schema's types by their full names. Raises `ValueError` for a number that no writer writes.
    """
    try:
        _Walk(body, named).over(schema)
    except _TooMany:
        return True
    except IndexError:  # the body ends, or its reader comes no further
        return False
    return False


class _TooMany(Exception):
    """The walk has passed `MAX_VALUES`."""


class _Walk:
    """Passes over the values in a body, makes none of them, and reads numbers as fastavro does."""

    def __init__(self, body: bytes, named: dict[str, Any]) -> None:
        self._body = body
        self._named = named
        self._at = 0
        self._left = MAX_VALUES

    def over(self, schema: Any) -> None:
        """Pass over a value. Raises `_TooMany`, or `IndexError` at the end of the body."""
        while isinstance(schema, list):
            schema = schema[self._number()]
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind not in self._OF_KIND:
            schema = self._named[kind]
            kind = schema["type"]
        self._left -= 1
        if self._left < 0:
            raise _TooMany
        self._OF_KIND[kind](self, schema)

    def _number(self) -> int:
        value = shift = 0
        while (byte := self._body[self._at]) > 0x7F:
            value |= (byte & 0x7F) << shift
            shift += 7
            self._at += 1
            if shift > 63:
                raise ValueError("a number of more than 10 bytes")
        self._at += 1
        value = (value | byte << shift) & 0xFFFF_FFFF_FFFF_FFFF
        return (value >> 1) ^ -(value & 1)

    def _skip(self, size_bytes: int) -> None:
        if size_bytes < 0:
            raise IndexError
        self._at += size_bytes

    def _items(self) -> Iterator[None]:
        """Yield once for each item of an array or a map, all its blocks."""
        while count := self._number():
            if count < 0:
                count = -count
                self._number()
            if count > self._left:
                raise _TooMany
            yield from repeat(None, count)

    def _text(self, _schema: Any = None) -> None:
        self._skip(self._number())

    def _record(self, schema: Any) -> None:
        for field in schema["fields"]:
            self.over(field["type"])

    def _array(self, schema: Any) -> None:
        for _ in self._items():
            self.over(schema["items"])

    def _map(self, schema: Any) -> None:
        for _ in self._items():
            self._left -= 1
            self._text()
            self.over(schema["values"])

    _OF_KIND: ClassVar[dict[str, Callable[["_Walk", Any], object]]] = {
        "null": lambda *_: None,
        "boolean": lambda walk, _: walk._skip(1),
        "int": lambda walk, _: walk._number(),
        "long": lambda walk, _: walk._number(),
        "enum": lambda walk, _: walk._number(),
        "float": lambda walk, _: walk._skip(4),
        "double": lambda walk, _: walk._skip(8),
        "fixed": lambda walk, schema: walk._skip(schema["size"]),
        "bytes": _text,
        "string": _text,
        "array": _array,
        "map": _map,
        "record": _record,
        "error": _record,
    }
