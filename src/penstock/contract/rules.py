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

from penstock.contract.fields import TIMESTAMP, epoch_ms, fields
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


def judge(found: Any, record: type[Record], latest: datetime) -> Record | list[Violation]:
    """Return the record converted from the decoded JSON or Avro value `found`, or every rule that it breaks.

    `latest` is `latest_past()`.
    """
    try:
        one = msgspec.convert(found, record)
    except msgspec.ValidationError as error:
        return refused(found, record, error)
    return date_check(record)(one, latest) + text_check(record)(one) or one


def refused(found: Any, record: type[Record], error: msgspec.ValidationError) -> list[Violation]:
    """Return the broken rules of a value that msgspec refused with `error`: at least one, even if no field shows it."""
    return broken_rules(found, record) or [Violation("", Rule.TYPE, str(error))]


def broken_rules(found: Any, record: type[Record]) -> list[Violation]:
    """Return every rule of `record` that the decoded JSON value `found` breaks, in the order of the fields."""
    if not isinstance(found, dict):
        return [Violation("", Rule.TYPE, f"Expected `object`, got `{type(found).__name__}`")]
    return [broken for one, hint in _describe_fields(record) for broken in _of_field(one, hint, found)]


@cache
def _describe_fields(record: type[Record]) -> list[tuple[inspect.Field, Any]]:
    """Return the fields of a record as msgspec describes them, with type hints. Cached: slow to compute."""
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    hints = typing.get_type_hints(record, include_extras=True)
    return [(one, hints[one.name]) for one in described.fields]


def _of_field(one: inspect.Field, hint: Any, found: dict[str, Any]) -> list[Violation]:
    name = one.encode_name
    if found.get(name) is None and one.required:
        return [Violation(name, Rule.REQUIRED, "is null" if name in found else _describe_missing(one, found))]
    if name not in found:
        return []
    value = found[name]
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        return [Violation(name, rule, str(error)) for rule in _find_broken_rules(value, _unwrap_type(one.type))]
    return []


def _describe_missing(one: inspect.Field, found: dict[str, Any]) -> str:
    """Return the message for a missing field, which may be present under its column's name."""
    return f"is missing; a message has no `{one.name}`, that is its column" if one.name in found else "is missing"


def _unwrap_type(kind: inspect.Type) -> inspect.Type:
    """Return the type itself, without description, marks, or `| None`."""
    if isinstance(kind, inspect.Metadata):
        return _unwrap_type(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next(_unwrap_type(one) for one in kind.types if not isinstance(one, inspect.NoneType))
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
def date_check(record: type[Record]) -> DateCheck:
    """Return a function that checks a decoded record's dates, given `latest_past()`, and returns the broken rules.

    A date must be in the years 1 to 9999 of UTC, since no client can read others; a date marked PAST, not in the
    future.
    """
    dates = [(field.name, attrgetter(field.column), field.past) for field in fields(record) if field.kind is TIMESTAMP]

    def check(one: Record, latest: datetime) -> list[Violation]:
        broken: list[Violation] = []
        for name, get, past in dates:
            moment = get(one)
            if moment is None:
                continue
            if past and moment > latest:
                broken.append(Violation(name, Rule.DATE, "is in the future"))
            elif not 1 < moment.year < 9999 and not _FIRST_MS <= epoch_ms(moment) <= _LAST_MS:
                broken.append(Violation(name, Rule.DATE, "is outside of the years 1 to 9999 of UTC"))
        return broken

    return check


TextCheck = Callable[[Record], list[Violation]]


@cache
def text_check(record: type[Record]) -> TextCheck:
    """Return a function that checks a decoded record's texts by rules that msgspec lacks, and returns the broken ones.

    No text may contain the NUL character, at which many clients end it; and `$` in a pattern matches only at the end of
    the text, where Python's own also matches before a final newline.
    """
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    texts = [
        (one.encode_name, attrgetter(one.name), _compile_pattern(kind)) for one, kind in _iter_text_fields(described)
    ]

    def check(one: Record) -> list[Violation]:
        broken: list[Violation] = []
        for name, get, pattern in texts:
            text = get(one)
            if text is None:
                continue
            if "\0" in text:
                broken.append(Violation(name, Rule.CHARACTER, "holds the NUL character"))
            if text[-1:] == "\n" and pattern is not None and pattern.search(text) is None:
                broken.append(Violation(name, Rule.PATTERN, "ends with a newline"))
        return broken

    return check


def _iter_text_fields(described: inspect.StructType) -> Iterator[tuple[inspect.Field, inspect.StrType]]:
    for one in described.fields:
        kind = _unwrap_type(one.type)
        if isinstance(kind, inspect.StrType):
            yield one, kind


def _compile_pattern(kind: inspect.StrType) -> re.Pattern[str] | None:
    """Return the pattern of a text, whose last `$` matches only at the end of the text."""
    if kind.pattern is None:
        return None
    return re.compile(_LAST_DOLLAR.sub(r"\1\\Z", kind.pattern))
