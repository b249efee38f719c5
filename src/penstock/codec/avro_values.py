"""JSON values as values of an Avro schema, which may be anybody's, in the forms in which pages show such values.

Dates, times and UUIDs are ISO texts, bytes are base64, decimals are texts or numbers, and no union names its branch.
"""

from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Context, Decimal
from itertools import count
from typing import Annotated, Any
from uuid import UUID

import fastavro
import msgspec

from penstock.codec.avro import MAX_DECIMAL_BYTES, AvroReader, is_decimal
from penstock.contract.rules import MAX_VALUES
from penstock.contract.violation import format_place

_INTEGERS = {"int": 32, "long": 64}
_PLAIN = {"boolean": bool, "string": str, "enum": str, "bytes": bytes, "fixed": bytes}
_Instant, _Local = Annotated[datetime, msgspec.Meta(tz=True)], Annotated[datetime, msgspec.Meta(tz=False)]
_LOGICAL: dict[str, Any] = {
    "date": date,
    "time-millis": Annotated[time, msgspec.Meta(tz=False)],
    "time-micros": Annotated[time, msgspec.Meta(tz=False)],
    "timestamp-millis": _Instant,
    "timestamp-micros": _Instant,
    "local-timestamp-millis": _Local,
    "local-timestamp-micros": _Local,
    "uuid": UUID,
}
_NAMED = ("record", "error", "enum", "fixed")
_LATER = {"double": 1, "float": 2, "bytes": 3, "fixed": 3}
"""Branches of a union that are tried after the others, which read a value more exactly."""
_MAX_DIGITS = 2 * MAX_DECIMAL_BYTES
_CONTEXT = Context(prec=2 * _MAX_DIGITS)


class NotOfSchema(ValueError):
    """A value is not of a schema: `items[3].price: at most 2 decimals`."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place.removeprefix('.') or 'value'}: {message}")


class AvroConverter:
    """Converts JSON values to what fastavro writes by a schema, each branch of a union named."""

    def __init__(self, reader: AvroReader) -> None:
        self._schema, self._named = reader.parsed, reader.named
        self._steps: Iterator[int] = count(1)

    def convert(self, value: Any) -> Any:
        """Return a value, of which decimals are read as `Decimal`. Raises `NotOfSchema`, `ValueError`."""
        self._steps = count(1)
        return self._convert(value, self._schema, "")

    def _convert(self, value: Any, schema: Any, place: str) -> Any:
        if next(self._steps) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values and branches of unions to try")
        if isinstance(schema, list):
            return self._convert_union(value, schema, place)
        if isinstance(schema, str):
            schema = self._named.get(schema) or {"type": schema}
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._convert_record(value, schema, place)
        if kind == "array":
            items = enumerate(_check(value, list, place, "an array"))
            return [self._convert(item, schema["items"], place + format_place(at)) for at, item in items]
        if kind == "map":
            members = _check(value, dict, place, "an object").items()
            return {key: self._convert(item, schema["values"], place + format_place(key)) for key, item in members}
        return _convert_scalar(value, schema, kind, place)

    def _convert_record(self, value: Any, schema: Any, place: str) -> dict[str, Any]:
        members = _check(value, dict, place, "an object")
        types = {field["name"]: field["type"] for field in schema["fields"]}
        for name in members:
            if name not in types:
                raise NotOfSchema(f"{place}.{name}", f"unknown field: expected {', '.join(types)}")
        for name in types:
            if name not in members:
                raise NotOfSchema(f"{place}.{name}", "is missing")
        return {name: self._convert(members[name], kind, f"{place}.{name}") for name, kind in types.items()}

    def _convert_union(self, value: Any, schema: list[Any], place: str) -> tuple[str, Any]:
        """Return the name and the value of the first branch that reads the value."""
        problems = []
        for branch in sorted(schema, key=lambda branch: _LATER.get(_kind_of(branch), 0)):
            try:
                return _name_of(branch), self._convert(value, branch, place)
            except NotOfSchema as problem:
                problems += [problem] if _name_of(branch) != "null" else []
        if len(problems) == 1:
            raise problems[0]
        raise NotOfSchema(place, f"expected one of {', '.join(map(_name_of, schema))}")


def _kind_of(branch: Any) -> str:
    if not isinstance(branch, dict):
        return str(branch)
    return "" if "logicalType" in branch else str(branch["type"])


def _name_of(branch: Any) -> str:
    """Return the name by which fastavro finds a branch."""
    if not isinstance(branch, dict):
        return str(branch)
    return str(branch["name"] if branch["type"] in _NAMED else branch["type"])


def _check(value: Any, kind: type, place: str, expected: str) -> Any:
    if type(value) is not kind:
        raise NotOfSchema(place, f"expected {expected}")
    return value


def _convert_scalar(value: Any, schema: Any, kind: str, place: str) -> Any:
    if is_decimal(schema):
        return _convert_decimal(value, schema, place)
    if f"{kind}-{schema.get('logicalType')}" in fastavro.read.LOGICAL_READERS:
        return _convert_logical(value, schema["logicalType"], place)
    if kind == "enum" and value not in schema["symbols"]:
        raise NotOfSchema(place, f"expected one of {', '.join(schema['symbols'])}")
    if kind in _INTEGERS:
        return _convert_integer(value, _INTEGERS[kind], place)
    if kind in ("float", "double"):
        return _convert_float(value, kind, place)
    if kind == "null":
        return _check(value, type(None), place, "null")
    return _convert_plain(value, schema, kind, place)


def _convert_integer(value: Any, bits: int, place: str) -> int:
    limit = 1 << (bits - 1)
    number: int = _check(value, int, place, "a whole number")
    if not -limit <= number < limit:
        raise NotOfSchema(place, f"has more than {bits} bits")
    return number


def _convert_plain(value: Any, schema: Any, kind: str, place: str) -> Any:
    converted = _read(value, _PLAIN[kind], place)
    if kind == "fixed" and len(converted) != schema["size"]:
        raise NotOfSchema(place, f"has {len(converted)} bytes, expected {schema['size']}")
    return converted


def _read(value: Any, kind: Any, place: str) -> Any:
    """Return a JSON value as a Python type, of which no message quotes it."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        raise NotOfSchema(place, f"{text[:1].lower()}{text[1:]}") from None


def _convert_logical(value: Any, logical: str, place: str) -> Any:
    converted = _read(_check(value, str, place, "a text"), _LOGICAL[logical], place)
    if logical.endswith("millis") and converted.microsecond % 1000:
        raise NotOfSchema(place, "has more than three digits of a second")
    return converted


def _convert_float(value: Any, kind: str, place: str) -> float:
    if type(value) not in (int, float, Decimal):
        raise NotOfSchema(place, "expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if abs(number) > (3.4028235e38 if kind == "float" else 1.8e308):
        raise NotOfSchema(place, f"is too large for a {kind}")
    return number


def _convert_decimal(value: Any, schema: Any, place: str) -> bytes:
    """Return the bytes of a decimal: its digits without the point, as a signed number."""
    if type(value) not in (str, int, Decimal):
        raise NotOfSchema(place, "expected a decimal, as a text or a number")
    number, scale = _read(value, Decimal, place), schema.get("scale", 0)
    precision = min(schema.get("precision", _MAX_DIGITS), _MAX_DIGITS)
    if not number.is_finite():
        raise NotOfSchema(place, "expected a decimal that is finite")
    if number and number.adjusted() >= precision - scale:
        raise NotOfSchema(place, f"has more than {max(precision - scale, 0)} digits before the point")
    is_tiny = bool(number) and number.adjusted() < -scale
    scaled = Decimal(0) if is_tiny or not number else number.scaleb(scale, _CONTEXT)
    if is_tiny or len(number.as_tuple().digits) > 2 * _MAX_DIGITS or scaled != scaled.to_integral_value():
        raise NotOfSchema(place, f"has more than {scale} digits after the point")
    unscaled = int(scaled)
    size = schema["size"] if schema["type"] == "fixed" else unscaled.bit_length() // 8 + 1
    try:
        return unscaled.to_bytes(size, "big", signed=True)
    except OverflowError:
        raise NotOfSchema(place, f"does not fit into {size} bytes") from None
