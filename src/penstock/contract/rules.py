"""The rules of a record, and which of them an invalid record breaks.

msgspec checks types, lengths, patterns and ranges while it decodes, and stops at the first error. Values that it
refuses are checked again here, slowly, field by field, so that every broken rule is named. Rules that msgspec does not
have, on dates, on characters and on the number of fields, are checked only here.
"""

import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import inspect

from penstock.contract.fields import TIMESTAMP, fields, to_epoch_ms
from penstock.contract.record import Record

MAX_VALUE_BYTES = 1_000_000
"""Maximum size of a stored value: a record of a table, not a file."""
FUTURE_SLACK = timedelta(minutes=1)
"""Allowed clock skew for dates that must be in the past."""
MAX_FIELDS = 1000
"""Maximum number of fields in a JSON object, known or not."""
MAX_VALUES = 100_000
"""Maximum number of values in an Avro record, known or not: its fields and the items of its arrays, at every level."""

_LAST_DOLLAR = re.compile(r"(?<!\\)((?:\\\\)*)\$\Z")
_FIRST_MS = -62_135_596_800_000  # 0001-01-01T00:00Z
_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


class Rule(StrEnum):
    """Kind of a rule. The names are stable: queues and dashboards store them."""

    REQUIRED = "required"
    TYPE = "type"
    LENGTH = "length"
    PATTERN = "pattern"
    CHARACTER = "character"
    RANGE = "range"
    FORMAT = "format"
    DATE = "date"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a field breaks; `field` is empty for the record as a whole."""

    field: str
    rule: Rule
    message: str

    @property
    def code(self) -> str:
        """Return field and rule: `email:pattern`."""
        return f"{self.field}:{self.rule}"

    def __str__(self) -> str:
        return f"{self.field or 'record'}: {self.message}"


def latest_past() -> datetime:
    """Return the latest time that counts as past now, in UTC."""
    return datetime.now(UTC) + FUTURE_SLACK


def validate_record(value: Any, record: type[Record], latest: datetime) -> Record | list[Violation]:
    """Return the record converted from the decoded JSON or Avro value, or every rule that it breaks.

    `latest` is `latest_past()`.
    """
    try:
        converted = msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        return explain_refusal(value, record, error)
    return build_date_check(record)(converted, latest) + build_text_check(record)(converted) or converted


def explain_refusal(value: Any, record: type[Record], error: msgspec.ValidationError) -> list[Violation]:
    """Return the broken rules of a value that msgspec refused with `error`: at least one, even if no field shows it."""
    return find_violations(value, record) or [Violation("", Rule.TYPE, str(error))]


def find_violations(value: Any, record: type[Record]) -> list[Violation]:
    """Return every rule of `record` that a decoded JSON value breaks, in the order of the fields."""
    if not isinstance(value, dict):
        return [Violation("", Rule.TYPE, f"Expected `object`, got `{type(value).__name__}`")]
    return [violation for field, hint in _describe_fields(record) for violation in _of_field(field, hint, value)]


@cache
def _describe_fields(record: type[Record]) -> list[tuple[inspect.Field, Any]]:
    """Return the fields of a record as msgspec describes them, with type hints. Cached: slow to compute."""
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    hints = typing.get_type_hints(record, include_extras=True)
    return [(field, hints[field.name]) for field in described.fields]


def _of_field(field: inspect.Field, hint: Any, values: dict[str, Any]) -> list[Violation]:
    name = field.encode_name
    if values.get(name) is None and field.required:
        return [Violation(name, Rule.REQUIRED, "is null" if name in values else _describe_missing(field, values))]
    if name not in values:
        return []
    value = values[name]
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        return [Violation(name, rule, str(error)) for rule in _find_broken_rules(value, _unwrap_type(field.type))]
    return []


def _describe_missing(field: inspect.Field, values: dict[str, Any]) -> str:
    """Return the message for a missing field, which may be present under its column's name."""
    return (
        f"is missing; `{field.name}` is the name of its column, not of the field in messages"
        if field.name in values
        else "is missing"
    )


def _unwrap_type(kind: inspect.Type) -> inspect.Type:
    """Return the type itself, without description, marks, or `| None`."""
    if isinstance(kind, inspect.Metadata):
        return _unwrap_type(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next(_unwrap_type(member) for member in kind.types if not isinstance(member, inspect.NoneType))
    return kind


def _find_broken_rules(value: Any, kind: inspect.Type) -> list[Rule]:
    """Return the rules that a refused value breaks."""
    if isinstance(kind, inspect.StrType):
        return _text_rules(value, kind) if isinstance(value, str) else [Rule.TYPE]
    if isinstance(kind, inspect.UUIDType | inspect.DateTimeType):
        return [Rule.FORMAT if isinstance(value, str) else Rule.TYPE]
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return [Rule.RANGE if is_number and _is_out_of_range(value, kind) else Rule.TYPE]
    return [Rule.TYPE]


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


DateCheck = Callable[[Record, datetime], list[Violation]]


@cache
def build_date_check(record: type[Record]) -> DateCheck:
    """Return a function that checks a decoded record's dates, given `latest_past()`, and returns the broken rules.

    A date must be in the years 1 to 9999 of UTC, since no client can read others; a date marked PAST, not in the
    future.
    """
    dates = [(field.name, attrgetter(field.column), field.past) for field in fields(record) if field.kind is TIMESTAMP]

    def check(instance: Record, latest: datetime) -> list[Violation]:
        violations: list[Violation] = []
        for name, get, past in dates:
            moment = get(instance)
            if moment is None:
                continue
            if past and moment > latest:
                violations.append(Violation(name, Rule.DATE, "is in the future"))
            elif not 1 < moment.year < 9999 and not _FIRST_MS <= to_epoch_ms(moment) <= _LAST_MS:
                violations.append(Violation(name, Rule.DATE, "is outside the years 1 to 9999 in UTC"))
        return violations

    return check


TextCheck = Callable[[Record], list[Violation]]


@cache
def build_text_check(record: type[Record]) -> TextCheck:
    """Return a function that checks a decoded record's texts by rules that msgspec lacks, and returns the broken ones.

    No text may contain the NUL character, at which many clients end it; and `$` in a pattern matches only at the end of
    the text, where Python's own also matches before a final newline.
    """
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    texts = [
        (field.encode_name, attrgetter(field.name), _compile_pattern(kind))
        for field, kind in _iter_text_fields(described)
    ]

    def check(instance: Record) -> list[Violation]:
        violations: list[Violation] = []
        for name, get, pattern in texts:
            text = get(instance)
            if text is None:
                continue
            if "\0" in text:
                violations.append(Violation(name, Rule.CHARACTER, "contains a NUL character"))
            if text[-1:] == "\n" and pattern is not None and pattern.search(text) is None:
                violations.append(Violation(name, Rule.PATTERN, "ends with a newline"))
        return violations

    return check


def _iter_text_fields(described: inspect.StructType) -> Iterator[tuple[inspect.Field, inspect.StrType]]:
    for field in described.fields:
        kind = _unwrap_type(field.type)
        if isinstance(kind, inspect.StrType):
            yield field, kind


def _compile_pattern(kind: inspect.StrType) -> re.Pattern[str] | None:
    """Return the pattern of a text, whose last `$` matches only at the end of the text."""
    if kind.pattern is None:
        return None
    return re.compile(_LAST_DOLLAR.sub(r"\1\\Z", kind.pattern))
