"""Avro schemas that values were written with, and the values read by them, within bounds.

Anyone who can register a schema chooses it. So only schemas within the bounds of `expansion` are used, and only what
reading needs is kept of them. The stream, the pages and the repair of dead letters all read Avro here, and all find the
schema of a value with a header here.
"""

from collections.abc import Iterator
from decimal import Context, Decimal
from io import BytesIO
from itertools import count
from typing import Any

import fastavro

from penstock.broker.registry import Schemas
from penstock.codec import expansion
from penstock.codec.wire_format import HEADER_BYTES, decode_schema_id
from penstock.contract.fault import Fault, Reason
from penstock.contract.rules import MAX_VALUES
from penstock.contract.violation import Rule, Violation
from penstock.errors import SchemaUnknown

MAX_NODES = 10_000
"""Maximum number of types, fields and symbols in a schema."""
MAX_DECIMAL_BYTES = 128
"""Largest decimal that is computed: 308 digits. The time grows with the square of its size."""

_WRONG = (
    fastavro.schema.SchemaParseException,
    fastavro.schema.UnknownType,
    AttributeError,
    KeyError,
    RecursionError,
    TypeError,
    ValueError,
)
"""Errors raised for an invalid schema."""
_LOGICAL = frozenset(
    {"date", "time-millis", "time-micros", "timestamp-millis", "timestamp-micros", "uuid"}
    | {"local-timestamp-millis", "local-timestamp-micros"}
)
"""Logical types whose values all cost the same. Others are read as their underlying types."""
_MESSAGE_CHARACTERS = 1000
_DECIMAL = "penstock-decimal"
_KEPT = ("name", "namespace", "size", "scale", "precision")


class _Brief(dict[str, Any]):
    """A parsed schema that fastavro's messages show by its type and name alone."""

    def __repr__(self) -> str:
        return f"{self.get('type')} {self.get('name', '')}".strip()


class AvroReader:
    """Reads the values of one writer schema, which is measured and parsed.

    Raises `SchemaUnknown` if the schema is invalid, or not safe to read with.
    """

    def __init__(self, schema: Any, schema_id: int) -> None:
        self.schema_id = schema_id
        self._constants = expansion.Constants({})
        try:
            self.parsed = fastavro.parse_schema(_prune_schema(schema, count(1)), self._constants.named)
            self._safe_bytes = expansion.measure(self.parsed, self._constants).safe_bytes
        except _WRONG as error:
            message = f"schema {schema_id} cannot be read: {type(error).__name__}: {error}"
            raise SchemaUnknown(message[:_MESSAGE_CHARACTERS]) from error
        self._brief = _brief(self.parsed)
        self.named: dict[str, Any] = self._constants.named
        """The named types of the schema, by their full names."""
        self.names = _list_names(self.parsed)
        """The fields of the record that a value is; empty if it is not a record."""

    def read(self, body: bytes, reader_schema: Any = None) -> tuple[Any, int] | Fault:
        """Return the value in `body`, converted to the parsed `reader_schema`, and the number of bytes left after it.

        A body that cannot be read results in a fault, whatever its bytes are.
        """
        stream = BytesIO(body)
        try:
            if len(body) > self._safe_bytes:
                expansion.check(body, self.parsed, self._constants)
            value = fastavro.schemaless_reader(stream, self._brief, reader_schema)
        except expansion.TooManyValues:
            message = f"the value holds more than {MAX_VALUES:,} values"
            return Fault.of([Violation("", Rule.SIZE, message)], schema_id=self.schema_id)
        except Exception as error:  # noqa: BLE001  invalid Avro may raise anything: EOFError, IndexError, ...
            message = f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS]
            return Fault(Reason.AVRO_MALFORMED, message, schema_id=self.schema_id)
        return value, len(body) - stream.tell()


class AvroReaders:
    """Readers for the Avro schemas that values name, each looked up and measured once."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._known: dict[int, AvroReader | None] = {}
        self._by_header: dict[bytes, tuple[int, AvroReader | None]] = {}
        self._refused: dict[int, str] = {}

    def find_for(self, value: bytes) -> tuple[int, AvroReader | None] | Fault:
        """Return the schema id in the header of `value` and its reader, None for a JSON Schema; or what is wrong.

        Raises `RegistryUnreachable`.
        """
        return self._by_header.get(value[:HEADER_BYTES]) or self._read_header(value)

    def _read_header(self, value: bytes) -> tuple[int, AvroReader | None] | Fault:
        try:
            schema_id = decode_schema_id(value)
            schema = schema_id, self.find(schema_id)
        except ValueError as error:
            return Fault(Reason.FRAME_BROKEN, str(error))
        except SchemaUnknown as error:
            return Fault(Reason.SCHEMA_UNKNOWN, error.message, schema_id=schema_id)
        self._by_header[value[:HEADER_BYTES]] = schema
        return schema

    def find(self, schema_id: int) -> AvroReader | None:
        """Return the reader for the Avro schema with that id; None for a JSON Schema.

        Raises `SchemaUnknown` if there is none that is safe to read with, and `RegistryUnreachable`.
        """
        if schema_id not in self._known:
            self._known[schema_id] = self._look_up(schema_id)
        return self._known[schema_id]

    def _look_up(self, schema_id: int) -> AvroReader | None:
        if schema_id in self._refused:  # an id never changes its meaning
            raise SchemaUnknown(self._refused[schema_id])
        writer_schema = self._schemas.writer(schema_id)
        if writer_schema.wire_format == "json":
            return None
        try:
            return AvroReader(writer_schema.schema, schema_id)
        except SchemaUnknown as error:
            self._refused[schema_id] = error.message
            raise


def _prune_schema(schema: Any, nodes: Iterator[int], depth: int = 1) -> Any:
    """Return a copy of `schema` with only what reading needs. Raises `ValueError` if it is too large or deep."""
    if next(nodes) > MAX_NODES:
        raise ValueError(f"it has more than {MAX_NODES:,} types, fields and symbols")
    if depth > expansion.MAX_DEPTH:
        raise ValueError(f"nested more than {expansion.MAX_DEPTH} levels deep")
    if isinstance(schema, list):
        return [_prune_schema(member, nodes, depth + 1) for member in schema]
    if not isinstance(schema, dict):
        return schema
    pruned = {"type": schema["type"]} | {name: schema[name] for name in _KEPT if name in schema}
    pruned |= _map_logical_type(schema.get("logicalType"))
    for name in ("items", "values"):
        if name in schema:
            pruned[name] = _prune_schema(schema[name], nodes, depth + 1)
    if "fields" in schema:
        pruned["fields"] = [_pruned_field(field, nodes, depth) for field in schema["fields"]]
    if "symbols" in schema:
        pruned["symbols"] = [_prune_schema(symbol, nodes, depth + 1) for symbol in schema["symbols"]]
    return pruned


def _pruned_field(field: Any, nodes: Iterator[int], depth: int) -> dict[str, Any]:
    pruned = {"name": field["name"], "type": _prune_schema(field["type"], nodes, depth + 1)}
    pruned |= {"default": field["default"]} if "default" in field else {}
    aliases = [_prune_schema(alias, nodes, depth + 1) for alias in field.get("aliases") or ()]
    return pruned | {"aliases": aliases} if aliases else pruned


def _map_logical_type(name: Any) -> dict[str, str]:
    """Return the logical type with which a schema is read."""
    if name == "decimal":
        return {"logicalType": _DECIMAL}
    return {"logicalType": name} if isinstance(name, str) and name in _LOGICAL else {}


def is_decimal(schema: dict[str, Any]) -> bool:
    """Return whether a type of a parsed schema is a decimal: on other types than these, the mark means nothing."""
    return schema.get("logicalType") == _DECIMAL and schema["type"] in ("bytes", "fixed")


def _list_names(schema: Any) -> tuple[str, ...]:
    is_record = isinstance(schema, dict) and schema["type"] == "record"
    return tuple(field["name"] for field in schema["fields"]) if is_record else ()


def _brief(schema: Any) -> Any:
    if isinstance(schema, list):
        return list(map(_brief, schema))
    return _Brief(schema) if isinstance(schema, dict) else schema


def _read_decimal(unscaled: bytes, schema: Any, _reader: Any) -> Decimal:
    """Return the decimal that bytes represent. Raises `ValueError` if it is too large to be computed."""
    if len(unscaled) > MAX_DECIMAL_BYTES:
        raise ValueError(f"a decimal of {len(unscaled):,} bytes, more than {MAX_DECIMAL_BYTES}")
    return Decimal(int.from_bytes(unscaled, "big", signed=True)).scaleb(-schema.get("scale", 0), _DIGITS)


_DIGITS = Context(prec=4 * MAX_DECIMAL_BYTES)
fastavro.read.LOGICAL_READERS |= {f"bytes-{_DECIMAL}": _read_decimal, f"fixed-{_DECIMAL}": _read_decimal}
