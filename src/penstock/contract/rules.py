"""The rules that a record keeps, and which of them a refused one breaks.

msgspec checks types, lengths, patterns and ranges while it decodes, and stops at the first fault. What it refuses is
looked at again here, slowly, field by field, so that every broken rule is named. Rules that msgspec does not have, on
dates, on characters and on the number of fields, are checked here alone.
"""

import re
import typing
from collections.abc import Callable, Iterable, Iterator
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
"""The largest value that is stored: a record of a table, not a file."""
FUTURE_SLACK = timedelta(minutes=1)
"""So much may the clock of who wrote a date be ahead of ours."""
MAX_FIELDS = 1000
"""The most fields that a JSON object may have, known or not."""
MAX_VALUES = 100_000
"""The most values that an Avro record may hold, known or not: its fields, the items of its arrays, all of them."""

_LAST_DOLLAR = re.compile(r"(?<!\\)((?:\\\\)*)\$\Z")
_FIRST_MS = -62_135_596_800_000  # 0001-01-01T00:00Z
_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


class Rule(StrEnum):
    """The kinds of rules. The names are stable: queues and dashboards hold them."""

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
class Broken:
    """A rule that a field breaks; the field is empty when it is the record as a whole."""

    field: str
    rule: Rule
    message: str

    @property
    def code(self) -> str:
        """Field and rule: `email:pattern`."""
        return f"{self.field}:{self.rule}"

    def __str__(self) -> str:
        return f"{self.field or 'record'}: {self.message}"


def latest_past() -> datetime:
    """The latest date that counts as past now."""
    return datetime.now(UTC) + FUTURE_SLACK


def judge(found: Any, record: type[Record], latest: datetime) -> Record | list[Broken]:
    """The record made of the decoded JSON or Avro value `found`, or every rule that it breaks.

    `latest` is `latest_past()`.
    """
    try:
        one = msgspec.convert(found, record)
    except msgspec.ValidationError as error:
        return refused(found, record, error)
    return date_check(record)(one, latest) + text_check(record)(one) or one


def refused(found: Any, record: type[Record], error: msgspec.ValidationError) -> list[Broken]:
    """The broken rules of what msgspec refused with `error`: at least that one, though no field should show it."""
    return broken_rules(found, record) or [Broken("", Rule.TYPE, str(error))]


def broken_rules(found: Any, record: type[Record]) -> list[Broken]:
    """Every rule of `record` that the decoded JSON value `found` breaks, in the order of the fields."""
    if not isinstance(found, dict):
        return [Broken("", Rule.TYPE, f"Expected `object`, got `{type(found).__name__}`")]
    return [broken for one, hint in _described(record) for broken in _of_field(one, hint, found)]


@cache
def _described(record: type[Record]) -> list[tuple[inspect.Field, Any]]:
    """The fields of a record as msgspec tells of them, and their type hints: slower to find out than to check."""
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    hints = typing.get_type_hints(record, include_extras=True)
    return [(one, hints[one.name]) for one in described.fields]


def _of_field(one: inspect.Field, hint: Any, found: dict[str, Any]) -> list[Broken]:
    name = one.encode_name
    if found.get(name) is None and one.required:
        return [Broken(name, Rule.REQUIRED, "is null" if name in found else _missing(one, found))]
    if name not in found:
        return []
    value = found[name]
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        return [Broken(name, rule, str(error)) for rule in _rules(value, _plain(one.type))]
    return []


def _missing(one: inspect.Field, found: dict[str, Any]) -> str:
    """Return what to say of a missing field, which may be there under its column's name."""
    return f"is missing; a message has no `{one.name}`, that is its column" if one.name in found else "is missing"


def _plain(kind: inspect.Type) -> inspect.Type:
    """The type itself, without description, marks, or None beside it."""
    if isinstance(kind, inspect.Metadata):
        return _plain(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next(_plain(one) for one in kind.types if not isinstance(one, inspect.NoneType))
    return kind


def _rules(value: Any, kind: inspect.Type) -> list[Rule]:
    """The rules that a value which was refused breaks."""
    if isinstance(kind, inspect.StrType):
        return _text_rules(value, kind) if isinstance(value, str) else [Rule.TYPE]
    if isinstance(kind, inspect.UUIDType | inspect.DateTimeType):
        return [Rule.FORMAT if isinstance(value, str) else Rule.TYPE]
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return [Rule.RANGE if is_number and _is_out_of_range(value, kind) else Rule.TYPE]
    return [Rule.TYPE]


def _is_out_of_range(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    """Whether a number is one that the type could hold, were its range larger; an int may be beyond any float."""
    if isinstance(kind, inspect.FloatType) or isinstance(value, int):
        return True
    low, high = kind.ge, kind.le
    return value.is_integer() and low is not None and high is not None and not low <= value <= high


def _text_rules(value: str, kind: inspect.StrType) -> list[Rule]:
    too_short = kind.min_length is not None and len(value) < kind.min_length
    too_long = kind.max_length is not None and len(value) > kind.max_length
    unlike = kind.pattern is not None and re.search(kind.pattern, value) is None
    return [rule for rule, is_broken in ((Rule.LENGTH, too_short or too_long), (Rule.PATTERN, unlike)) if is_broken]


DateCheck = Callable[[Record, datetime], list[Broken]]


@cache
def date_check(record: type[Record]) -> DateCheck:
    """The function that gives the broken rules of a decoded record's dates, told `latest_past()`.

    A date lies in the years 1 to 9999 of UTC, since no client can read others; one marked PAST is not in the future.
    """
    dates = [(field.name, attrgetter(field.column), field.past) for field in fields(record) if field.kind is TIMESTAMP]

    def check(one: Record, latest: datetime) -> list[Broken]:
        broken: list[Broken] = []
        for name, get, past in dates:
            moment = get(one)
            if moment is None:
                continue
            if past and moment > latest:
                broken.append(Broken(name, Rule.DATE, "is in the future"))
            elif not 1 < moment.year < 9999 and not _FIRST_MS <= epoch_ms(moment) <= _LAST_MS:
                broken.append(Broken(name, Rule.DATE, "is outside of the years 1 to 9999 of UTC"))
        return broken

    return check


TextCheck = Callable[[Record], list[Broken]]


@cache
def text_check(record: type[Record]) -> TextCheck:
    """The function that gives the broken rules of a decoded record's texts which msgspec does not have.

    No text holds the NUL character, at which many a client ends it; and `$` in a pattern is the end of the text, where
    Python's own matches before a last newline too.
    """
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    texts = [(one.encode_name, attrgetter(one.name), _strict(kind)) for one, kind in _texts(described)]

    def check(one: Record) -> list[Broken]:
        broken: list[Broken] = []
        for name, get, pattern in texts:
            text = get(one)
            if text is None:
                continue
            if "\0" in text:
                broken.append(Broken(name, Rule.CHARACTER, "holds the NUL character"))
            if text[-1:] == "\n" and pattern is not None and pattern.search(text) is None:
                broken.append(Broken(name, Rule.PATTERN, "ends with a newline"))
        return broken

    return check


def _texts(described: inspect.StructType) -> Iterator[tuple[inspect.Field, inspect.StrType]]:
    for one in described.fields:
        kind = _plain(one.type)
        if isinstance(kind, inspect.StrType):
            yield one, kind


def _strict(kind: inspect.StrType) -> re.Pattern[str] | None:
    """The pattern of a text, its last `$` being the end of the text alone."""
    if kind.pattern is None:
        return None
    return re.compile(_LAST_DOLLAR.sub(r"\1\\Z", kind.pattern))


def repeated_name(pairs: Iterable[tuple[str, Any]]) -> str | None:
    """Return the first name that stands twice in a JSON object; None when there is none.

    Readers differ on which of the two counts (RFC 8259, section 4).
    """
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return None
