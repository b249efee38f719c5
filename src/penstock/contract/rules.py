"""The rules of a record, and which of them an invalid record breaks.

msgspec checks types, lengths, patterns and ranges while it decodes, and stops at the first error. Values that it
refuses are checked again here, slowly, field by field, so that every broken rule is named. Rules that msgspec does not
have, on dates, on characters and on the number of fields, are checked only here; those of single types in
`value_rules`.
"""

import base64
import binascii
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import inspect

from penstock.contract.fields import TIMESTAMP, Field, fields, to_epoch_ms
from penstock.contract.record import Record
from penstock.contract.value_rules import ValueRules, describe_symbols, rules_of
from penstock.contract.violation import Rule, Violation

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
    broken = build_value_check(record)(converted, latest) + build_text_check(record)(converted)
    check = build_form_check(record)
    if check is not None and isinstance(value, dict):
        broken = add_forms(broken, check(value))
    return broken or converted


def add_forms(broken: list[Violation], forms: list[Violation]) -> list[Violation]:
    """Return broken rules with those on how values are written, instead of what else these values break."""
    if not forms:
        return broken
    names = {violation.field for violation in forms}
    return [violation for violation in broken if violation.field not in names] + forms


def explain_refusal(value: Any, record: type[Record], error: msgspec.ValidationError) -> list[Violation]:
    """Return the broken rules of a value that msgspec refused with `error`: at least one, even if no field shows it."""
    return find_violations(value, record) or [Violation("", Rule.TYPE, str(error))]


def find_violations(value: Any, record: type[Record]) -> list[Violation]:
    """Return every rule of `record` that a decoded JSON value breaks, in the order of the fields."""
    if not isinstance(value, dict):
        return [Violation("", Rule.TYPE, f"Expected `object`, got `{type(value).__name__}`")]
    return [violation for described in _describe_fields(record) for violation in _of_field(described, value)]


class _Described(typing.NamedTuple):
    """A field as msgspec describes it, with its type hint; as the contract does, with the rules of its type."""

    info: inspect.Field
    hint: Any
    field: Field
    rules: ValueRules


@cache
def _describe_fields(record: type[Record]) -> list[_Described]:
    """Return the fields of a record. Cached: slow to compute."""
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    hints = typing.get_type_hints(record, include_extras=True)
    return [
        _Described(info, hints[info.name], field, rules_of(field, _unwrap_type(info.type)))
        for info, field in zip(described.fields, fields(record), strict=True)
    ]


def _of_field(described: _Described, values: dict[str, Any]) -> list[Violation]:
    info, name = described.info, described.info.encode_name
    if values.get(name) is None and info.required:
        return [Violation(name, Rule.REQUIRED, "is null" if name in values else _describe_missing(info, values))]
    if name not in values:
        return []
    value, kind = values[name], _unwrap_type(info.type)
    try:
        converted = msgspec.convert(value, described.hint)
    except msgspec.ValidationError as error:
        return [
            Violation(name, rule, describe_symbols(described.field.symbols) if rule == Rule.ENUM else str(error))
            for rule in _find_broken_rules(value, kind)
        ]
    return _of_type(described, value, converted)


def _of_type(described: _Described, value: Any, converted: Any) -> list[Violation]:
    """Return the rules of its type that a converted value breaks."""
    rules, name = described.rules, described.field.name
    if isinstance(value, str) and rules.form is not None and (wrong := rules.form(value)):
        return [Violation(name, *wrong)]
    is_inexact = isinstance(value, float)  # of a JSON number that has perhaps more digits
    if converted is None or rules.value is None or is_inexact:
        return []
    wrong = rules.value(converted, latest_past())
    return [Violation(name, *wrong)] if wrong else []


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


_WRITTEN_AS_TEXT = (
    *(inspect.UUIDType, inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.TimeDeltaType),
    inspect.DecimalType,
)


def _find_broken_rules(value: Any, kind: inspect.Type) -> list[Rule]:
    """Return the rules that a refused value breaks."""
    if isinstance(kind, inspect.StrType):
        return _text_rules(value, kind) if isinstance(value, str) else [Rule.TYPE]
    if isinstance(kind, inspect.LiteralType | inspect.EnumType):
        return [Rule.ENUM if isinstance(value, str) else Rule.TYPE]
    if isinstance(kind, inspect.BytesType):
        return [_bytes_rule(value)]
    if isinstance(kind, _WRITTEN_AS_TEXT):
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


def _bytes_rule(value: Any) -> Rule:
    """Return the rule that refused bytes break: their length, or the text that they are in a message."""
    if isinstance(value, str):
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return Rule.FORMAT
        return Rule.LENGTH
    return Rule.LENGTH if isinstance(value, bytes) else Rule.TYPE


ValueCheck = Callable[[Record, datetime], list[Violation]]


@cache
def build_value_check(record: type[Record]) -> ValueCheck:
    """Return a function that checks a decoded record's values by rules that msgspec lacks: dates, and rules of types.

    Given `latest_past()`, it returns the broken rules.
    """
    check_dates = build_date_check(record)
    checks = [
        (described.field.name, attrgetter(described.field.column), described.rules.value)
        for described in _describe_fields(record)
        if described.rules.value is not None
    ]
    if not checks:
        return check_dates

    def check(instance: Record, latest: datetime) -> list[Violation]:
        violations = check_dates(instance, latest)
        for name, get, find in checks:
            value = get(instance)
            wrong = None if value is None else find(value, latest)
            if wrong is not None:
                violations.append(Violation(name, *wrong))
        return violations

    return check


FormCheck = Callable[[Mapping[str, Any]], list[Violation]]


@cache
def build_form_check(record: type[Record]) -> FormCheck | None:
    """Return a function that checks how a message's values are written, by field name; None if any form is fine.

    msgspec reads texts of numbers and times that it rounds, or that other readers refuse.
    """
    every = ((described.field.name, described.rules.form) for described in _describe_fields(record))
    forms = {name: find for name, find in every if find is not None}
    if not forms:
        return None

    def check(values: Mapping[str, Any]) -> list[Violation]:
        found = (
            (name, find(values[name])) for name, find in forms.items() if isinstance(values.get(name), str | float)
        )
        return [Violation(name, *wrong) for name, wrong in found if wrong is not None]

    return check


DateCheck = ValueCheck


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
            if moment is None or moment.tzinfo is None:  # without a zone it breaks another rule
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
