"""Which rules a value breaks that msgspec refuses: it stops at the first, so each field is checked again, slowly.

A rule broken within a composite value is named by its path: `items[3].price`, `labels["a b"]`.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice, repeat
from typing import Any

import msgspec
from msgspec import inspect

from penstock.contract.composites import JSON
from penstock.contract.fields import Field, fields
from penstock.contract.json_text import to_raw
from penstock.contract.kinds import Form, Shape
from penstock.contract.nesting import unwrap_metadata
from penstock.contract.record import Record, list_members
from penstock.contract.value_rules import describe_symbols, latest_past, rules_of
from penstock.contract.violation import MAX_VIOLATIONS, Rule, Violation, format_place


def explain_refusal(value: Any, record: type[Record], error: msgspec.ValidationError) -> list[Violation]:
    """Return the broken rules of a value that msgspec refused with `error`: at least one, even if no field shows it."""
    return find_violations(value, record) or [Violation("", Rule.TYPE, str(error))]


def find_violations(value: Any, record: type[Record]) -> list[Violation]:
    """Return the rules of `record` that a decoded JSON value breaks, in the order of the fields.

    Of each field, at most `MAX_VIOLATIONS`.
    """
    if not isinstance(value, dict):
        return [Violation("", Rule.TYPE, f"Expected `object`, got `{type(value).__name__}`")]
    latest = latest_past()
    found = (islice(_of_member(field, value, field.name, latest), MAX_VIOLATIONS) for field in fields(record))
    return [violation for violations in found for violation in violations]


def _of_member(field: Field, values: Mapping[str, Any], path: str, latest: datetime) -> Iterator[Violation]:
    value, is_there = values.get(field.name), field.name in values
    if value is not None:
        yield from _of_value(field, value, path, latest)
    elif field.required or (is_there and not field.nullable):
        yield Violation(path, Rule.REQUIRED, "is null" if is_there else _describe_missing(field, values))


def _describe_missing(field: Field, values: Mapping[str, Any]) -> str:
    """Return the message for a missing field, which may be present under its column's name."""
    return (
        f"is missing; `{field.column}` is the name of its column, not of the field in messages"
        if field.column in values
        else "is missing"
    )


def _of_value(field: Field, value: Any, path: str, latest: datetime) -> Iterator[Violation]:
    if value is None:
        yield Violation(path, Rule.REQUIRED, "is null")
    elif field.shape is not None:
        yield from _of_composite(field, field.shape, value, path, latest)
    elif field.kind is JSON:
        yield from _of_json(field, value, path, latest)
    else:
        yield from _of_scalar(field, value, path, latest)


def _of_json(field: Field, value: Any, path: str, latest: datetime) -> Iterator[Violation]:
    raw = to_raw(value)
    if not isinstance(raw, msgspec.Raw):
        yield Violation(path, Rule.FORMAT, "has no JSON text: NaN, Infinity, or a value of another type than JSON's")
    else:
        yield from _of_type(field, raw, raw, path, latest)


def _of_scalar(field: Field, value: Any, path: str, latest: datetime) -> Iterator[Violation]:
    try:
        converted = msgspec.convert(value, field.hint)
    except msgspec.ValidationError as error:
        for rule in _find_broken_rules(value, field.info):
            yield Violation(path, rule, describe_symbols(field.symbols) if rule == Rule.ENUM else str(error))
    else:
        yield from _of_type(field, value, converted, path, latest)


def _of_type(field: Field, value: Any, converted: Any, path: str, latest: datetime) -> Iterator[Violation]:
    """Yield the rules of its type that a converted value breaks."""
    rules = rules_of(field)
    wrong = rules.form(value) if rules.form is not None and isinstance(value, str | msgspec.Raw) else None
    is_inexact = isinstance(value, float)  # of a JSON number that has perhaps more digits
    if wrong is None and rules.value is not None and not is_inexact:
        wrong = rules.value(converted, latest)
    if wrong is not None:
        yield Violation(path, *wrong)


_ARRAYS = (list, tuple, set, frozenset)


def _of_composite(field: Field, shape: Shape, value: Any, path: str, latest: datetime) -> Iterator[Violation]:
    if isinstance(value, msgspec.Struct):
        value = list_members(value)
    is_object = shape.form in (Form.RECORD, Form.MAP)
    if is_object and isinstance(value, dict):
        yield from _of_object(field, shape, value, path, latest)
    elif not is_object and isinstance(value, _ARRAYS):
        yield from _of_length(field, shape, value, path)
        yield from _of_items(shape, value, path, latest)
    else:
        wanted = "object" if is_object else "array"
        yield Violation(path, Rule.TYPE, f"Expected `{wanted}`, got `{type(value).__name__}`")


def _of_object(field: Field, shape: Shape, value: dict[str, Any], path: str, latest: datetime) -> Iterator[Violation]:
    if shape.key is None:
        for member in shape.items:
            yield from _of_member(member, value, f"{path}.{member.name}", latest)
        return
    yield from _of_length(field, shape, value, path)
    for key, item in value.items():
        place = f"{path}{format_place(key, field.personal)}"
        yield from _of_value(shape.key, key, place, latest)
        yield from _of_value(shape.items[0], item, place, latest)


def _of_length(field: Field, shape: Shape, value: Any, path: str) -> Iterator[Violation]:
    if shape.form is Form.TUPLE:
        if len(value) != len(shape.items):
            yield Violation(path, Rule.LENGTH, f"Expected `array` of length {len(shape.items)}, got {len(value)}")
        return
    least, most = getattr(field.info, "min_length", None), getattr(field.info, "max_length", None)
    if least is not None and len(value) < least:
        yield Violation(path, Rule.LENGTH, f"Expected length >= {least}")
    if most is not None and len(value) > most:
        yield Violation(path, Rule.LENGTH, f"Expected length <= {most}")


def _of_items(shape: Shape, value: Any, path: str, latest: datetime) -> Iterator[Violation]:
    items = shape.items if shape.form is Form.TUPLE else repeat(shape.items[0])
    for at, (field, item) in enumerate(zip(items, value, strict=False)):
        yield from _of_value(field, item, f"{path}[{at}]", latest)


_WRITTEN_AS_TEXT = (
    *(inspect.UUIDType, inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.TimeDeltaType),
    *(inspect.DecimalType, inspect.LiteralType, inspect.EnumType),
)
_OF_SYMBOLS = inspect.LiteralType | inspect.EnumType


def _find_broken_rules(value: Any, kind: inspect.Type) -> list[Rule]:
    """Return the rules that a refused value breaks."""
    if isinstance(kind, inspect.UnionType):
        return _union_rules(value, kind)
    if isinstance(kind, inspect.StrType) and isinstance(value, str):
        return _text_rules(value, kind)
    if isinstance(kind, inspect.BytesType):
        return [_bytes_rule(value)]
    if isinstance(kind, _WRITTEN_AS_TEXT) and isinstance(value, str):
        return [Rule.ENUM if isinstance(kind, _OF_SYMBOLS) else Rule.FORMAT]
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return [Rule.RANGE if is_number and _is_out_of_range(value, kind) else Rule.TYPE]
    return [Rule.TYPE]


def _union_rules(value: Any, kind: inspect.UnionType) -> list[Rule]:
    """Return the rules that a value of a union breaks: those of the member of its type."""
    wanted = inspect.StrType if isinstance(value, str) else inspect.IntType | inspect.FloatType
    members = [unwrap_metadata(member)[0] for member in kind.types]
    return next((_find_broken_rules(value, member) for member in members if isinstance(member, wanted)), [Rule.TYPE])


def _is_out_of_range(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    """Return whether a number is only out of the type's range; an int may be too large for any float."""
    if isinstance(kind, inspect.FloatType) or isinstance(value, int):
        return True
    low, high = kind.ge, kind.le
    return value.is_integer() and low is not None and high is not None and not low <= value <= high


def _text_rules(value: str, kind: inspect.StrType) -> list[Rule]:
    too_short = kind.min_length is not None and len(value) < kind.min_length
    too_long = kind.max_length is not None and len(value) > kind.max_length
    unlike = kind.pattern is not None and re.search(kind.pattern, value) is None
    return [rule for rule, is_broken in ((Rule.LENGTH, too_short or too_long), (Rule.PATTERN, unlike)) if is_broken]


def _bytes_rule(value: Any) -> Rule:
    """Return the rule that refused bytes break: their length, or the text that they are in a message."""
    if isinstance(value, str):
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return Rule.FORMAT
        return Rule.LENGTH
    return Rule.LENGTH if isinstance(value, bytes) else Rule.TYPE
