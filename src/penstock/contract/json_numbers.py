"""Numbers of JSON that a float rounds: read from an API, passed on and written again with all of their digits."""

from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from math import isinf
from typing import Any, Self

import msgspec
from msgspec import inspect

from penstock.contract.record import list_members
from penstock.contract.value_rules import FLOAT_DIGITS

ReadNumber = Callable[[str], float]
"""Reads the text of a number that is not an integer; msgspec's `float_hook`."""


class LongNumber(float):
    """A number of more than 15 digits: a float that remembers its text.

    It is a float in arithmetic and comparisons, whose results are plain floats. `str()` returns all of its digits, and
    so does `to_decimals`.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Self:
        """Return the number that `text` says."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.text,)


def read_number(text: str) -> float:
    """Return a JSON number as a float, or as a `LongNumber` if the float may have lost digits.

    Raises `ValueError` for a number that is larger than any float.
    """
    number = float(text)
    if len(text) <= FLOAT_DIGITS + 1 and "e" not in text and "E" not in text:
        return number
    try:
        exact = Decimal(text)
    except InvalidOperation:
        exact = None
    if exact is None or isinf(number):
        raise ValueError("Number out of range")
    shortest = Decimal(repr(number)).normalize()
    return number if shortest == exact and len(shortest.as_tuple().digits) <= FLOAT_DIGITS else LongNumber(text)


def _write_number(value: Any) -> msgspec.Raw:
    if isinstance(value, LongNumber):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


encode_json = msgspec.json.Encoder(enc_hook=_write_number).encode
"""Return a value as JSON, each `LongNumber` in it as it was read."""


def to_decimals(value: Any) -> Any:
    """Return a value of dicts, lists and records, the latter as dicts, with a `Decimal` for each `LongNumber` in it.

    Names are those of messages. `msgspec.convert` takes a `Decimal` for a float too, but no kind of float.
    """
    if isinstance(value, LongNumber):
        return Decimal(value.text)
    if isinstance(value, msgspec.Struct):
        return to_decimals(list_members(value))
    if isinstance(value, dict):
        return {name: to_decimals(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_decimals(item) for item in value]
    return value


def has_long_numbers(value: Any) -> bool:
    """Return whether there is a `LongNumber` anywhere in the value of a JSON text."""
    if isinstance(value, dict | list):
        return any(map(has_long_numbers, value.values() if isinstance(value, dict) else value))
    return isinstance(value, LongNumber)


def keeps_digits(record: type[msgspec.Struct]) -> bool:
    """Return whether a record has a type, at any depth, with more digits than a float: `Decimal`, or any JSON."""
    return any(isinstance(kind, inspect.DecimalType | inspect.RawType) for kind in _iter_types(record))


def nests_records(record: type[msgspec.Struct]) -> bool:
    """Return whether a record has other records in it, at any depth."""
    return any(isinstance(kind, inspect.StructType) and kind.cls is not record for kind in _iter_types(record))


def _iter_types(record: type[msgspec.Struct]) -> Iterator[inspect.Type]:
    """Yield every type in a record as msgspec describes it."""
    pending, seen = [inspect.type_info(record)], set()
    while pending:
        kind = pending.pop()
        if id(kind) in seen:  # a record within itself
            continue
        seen.add(id(kind))
        yield kind
        members = [getattr(kind, name, None) for name in kind.__struct_fields__]
        inner = [item for member in members for item in (member if isinstance(member, tuple) else (member,))]
        inner = [item.type if isinstance(item, inspect.Field) else item for item in inner]
        pending += [item for item in inner if isinstance(item, inspect.Type)]
