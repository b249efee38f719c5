"""Bound what Avro bytes may expand to: a schema is measured once, and a long value counted before it is decoded.

Nulls and records take no bytes of their own, and a record that is used by name costs a schema one word. So a few bytes
may represent millions of values. Moreover, fastavro does not notice the end of the body when it skips values of a
constant size: an array that claims to have 2^62 of them would keep it busy forever.
"""

from collections.abc import Callable, Iterator
from math import inf
from typing import Any, ClassVar, NamedTuple

from penstock.contract.rules import MAX_VALUES

MAX_DEPTH = 64
"""Maximum nesting depth of a schema, including types used by name: readers recurse."""
MAX_VALUES_PER_BYTE = 16
MAX_EXCESS = 1000
"""Maximum number of values in a body beyond `MAX_VALUES_PER_BYTE` times its bytes."""
_RATES = (0, 1, 2, 4, 8, MAX_VALUES_PER_BYTE)


class Expansion(NamedTuple):
    """An upper bound: `size_bytes` bytes hold at most `excess + per_byte * size_bytes` values."""

    excess: float
    per_byte: int
    is_blind: bool
    """Whether an array has items of a constant size, so that a reader may miss the end of the body."""

    @property
    def safe_bytes(self) -> float:
        """Return the size up to which a body needs no count, whatever its bytes are."""
        if self.is_blind:
            return -1
        return (MAX_VALUES - self.excess) / self.per_byte if self.per_byte else inf


class Constant(NamedTuple):
    """A type whose values all have the same size."""

    size_bytes: int
    values: int


class Constants:
    """Finds the types of constant size in a parsed schema; `named` holds the schema's types by full name."""

    def __init__(self, named: dict[str, Any]) -> None:
        self.named = named
        self._known: dict[str, Constant | None] = {}

    def find(self, schema: Any) -> Constant | None:
        """Return the size of each of a schema's values; None if their sizes differ."""
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, list):
            return None
        if kind in _CONSTANT:
            return _CONSTANT[kind]
        if kind == "fixed":
            return Constant(schema["size"], 1)
        name = schema["name"] if kind in ("record", "error") else kind
        if name not in self._known:
            self._known[name] = self._find_record(name)
        return self._known[name]

    def _find_record(self, name: str) -> Constant | None:
        schema = self.named[name]
        if schema["type"] not in ("record", "error"):
            return self.find(schema)
        fields = [self.find(field["type"]) for field in schema["fields"]]
        known = [field for field in fields if field is not None]
        if len(known) < len(fields):
            return None
        return Constant(sum(field.size_bytes for field in known), 1 + sum(field.values for field in known))


_CONSTANT: dict[str, Constant | None] = {
    "null": Constant(0, 1),
    "boolean": Constant(1, 1),
    "float": Constant(4, 1),
    "double": Constant(8, 1),
    **dict.fromkeys(("int", "long", "bytes", "string", "enum", "array", "map")),
}


def measure(schema: Any, constants: Constants) -> Expansion:
    """Return the bound for values of a parsed schema. Raises `ValueError` if it is too high, or there is none."""
    for per_byte in _RATES:
        meter = _Meter(per_byte, constants)
        extent = meter.measure(schema)
        if extent.depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
        if extent.excess <= MAX_EXCESS:
            return Expansion(max(extent.excess, 0), per_byte, meter.is_blind)
    raise ValueError(f"its values may be more than {MAX_EXCESS:,}, and {MAX_VALUES_PER_BYTE} a byte")


class _Extent(NamedTuple):
    excess: float
    """Maximum number of values, minus `per_byte` for each byte that they take."""
    depth: int


class _Meter:
    """Measures a parsed schema, whose types have their full names, at one rate of values per byte."""

    def __init__(self, per_byte: int, constants: Constants) -> None:
        self.is_blind = False
        self._per_byte = per_byte
        self._constants = constants
        self._named: dict[str, _Extent | None] = {}

    def measure(self, schema: Any) -> _Extent:
        """Return the extent of a schema's values. Raises `ValueError` for a type that contains itself."""
        if isinstance(schema, list):
            return self._measure_union(schema)
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind in _PRIMITIVES:
            return self._measure_scalar(kind != "null")
        measure = self._OF_KIND.get(kind)
        return measure(self, schema) if measure else self._of_name(kind)

    def _measure_scalar(self, size_bytes: int) -> _Extent:
        return _Extent(1 - self._per_byte * size_bytes, 1)

    def _measure_union(self, members: list[Any]) -> _Extent:
        extents = [self.measure(member) for member in members]
        return _Extent(max((extent.excess for extent in extents), default=0) - self._per_byte, _compute_depth(extents))

    def _visit_record(self, schema: dict[str, Any]) -> _Extent:
        self._named[schema["name"]] = None
        extents = [self.measure(field["type"]) for field in schema["fields"]]
        return self._define_type(
            schema["name"], _Extent(1 + sum(extent.excess for extent in extents), _compute_depth(extents))
        )

    def _visit_array(self, schema: dict[str, Any]) -> _Extent:
        item = self.measure(schema["items"])
        self.is_blind = self.is_blind or self._constants.find(schema["items"]) is not None
        return self._repeat_extent(item)

    def _visit_map(self, schema: dict[str, Any]) -> _Extent:
        key, value = self._measure_scalar(1), self.measure(schema["values"])
        return self._repeat_extent(_Extent(key.excess + value.excess, value.depth))

    def _visit_fixed(self, schema: dict[str, Any]) -> _Extent:
        size = schema["size"]
        if type(size) is not int or size < 0:
            raise ValueError(f"the size of {schema['name']} is no number of bytes")
        return self._define_type(schema["name"], self._measure_scalar(size))

    def _visit_enum(self, schema: dict[str, Any]) -> _Extent:
        return self._define_type(schema["name"], self._measure_scalar(1))

    def _repeat_extent(self, item: _Extent) -> _Extent:
        """Return the extent of any number of items: unbounded unless each has bytes of its own."""
        return _Extent(inf if item.excess > 0 else 1 - self._per_byte, item.depth + 1)

    def _define_type(self, name: str, extent: _Extent) -> _Extent:
        self._named[name] = extent
        return extent

    def _of_name(self, name: str) -> _Extent:
        extent = self._named[name]
        if extent is None:
            raise ValueError(f"{name} is used inside of itself")
        return extent

    _OF_KIND: ClassVar[dict[str, Callable[["_Meter", Any], _Extent]]] = {
        "record": _visit_record,
        "error": _visit_record,
        "array": _visit_array,
        "map": _visit_map,
        "fixed": _visit_fixed,
        "enum": _visit_enum,
    }


_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


def _compute_depth(extents: list[_Extent]) -> int:
    return 1 + max((extent.depth for extent in extents), default=0)


class TooManyValues(Exception):
    """A body holds more than `MAX_VALUES` values."""


def check(body: bytes, schema: Any, constants: Constants) -> None:
    """Check that a reader of a parsed schema reaches an end in `body`, after at most `MAX_VALUES` values.

    Raises `TooManyValues`, and `EOFError`, `IndexError` or `ValueError` for bytes that are not such a value.
    """
    _Walk(body, constants).over(schema)


class _Walk:
    """Skips the values in a body without creating them, and reads numbers like fastavro."""

    def __init__(self, body: bytes, constants: Constants) -> None:
        self._body = body
        self._constants = constants
        self._at = 0
        self._left = MAX_VALUES

    def over(self, schema: Any) -> None:
        """Skip a value. Raises like `check`."""
        while isinstance(schema, list):
            schema = schema[self._read_varint()]
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind not in self._OF_KIND:
            schema = self._constants.named[kind]
            kind = schema["type"]
        self._spend_budget(1)
        self._OF_KIND[kind](self, schema)

    def _read_varint(self) -> int:
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

    def _spend_budget(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise TooManyValues

    def _skip_bytes(self, size_bytes: int) -> None:
        if not 0 <= size_bytes <= len(self._body) - self._at:
            raise EOFError("the value ends early")
        self._at += size_bytes

    def _iter_blocks(self) -> Iterator[int]:
        """Yield the number of items in each block of an array or a map."""
        while count := self._read_varint():
            if count < 0:
                self._read_varint()
            if abs(count) > self._left:
                raise TooManyValues
            yield abs(count)

    def _skip_text(self, _schema: Any = None) -> None:
        self._skip_bytes(self._read_varint())

    def _visit_record(self, schema: Any) -> None:
        for field in schema["fields"]:
            self.over(field["type"])

    def _visit_array(self, schema: Any) -> None:
        constant = self._constants.find(schema["items"])
        for count in self._iter_blocks():
            if constant is not None:
                self._spend_budget(count * constant.values)
                self._skip_bytes(count * constant.size_bytes)
                continue
            for _ in range(count):
                self.over(schema["items"])

    def _visit_map(self, schema: Any) -> None:
        for count in self._iter_blocks():
            self._spend_budget(count)
            for _ in range(count):
                self._skip_text()
                self.over(schema["values"])

    _OF_KIND: ClassVar[dict[str, Callable[["_Walk", Any], object]]] = {
        "null": lambda *_: None,
        "boolean": lambda walk, _: walk._skip_bytes(1),
        "int": lambda walk, _: walk._read_varint(),
        "long": lambda walk, _: walk._read_varint(),
        "enum": lambda walk, _: walk._read_varint(),
        "float": lambda walk, _: walk._skip_bytes(4),
        "double": lambda walk, _: walk._skip_bytes(8),
        "fixed": lambda walk, schema: walk._skip_bytes(schema["size"]),
        "bytes": _skip_text,
        "string": _skip_text,
        "array": _visit_array,
        "map": _visit_map,
        "record": _visit_record,
        "error": _visit_record,
    }
