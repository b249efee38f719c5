"""The rules of a decoded record that msgspec does not have: on dates, characters, types, and how values are written.

Each check is built once per record. Scalars of the record itself are read directly; a composite value is searched only
if something inside has a rule.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from operator import attrgetter, methodcaller
from typing import Any

import msgspec
from msgspec import inspect

from penstock.contract.fields import TIMESTAMP, Field, fields, to_epoch_ms
from penstock.contract.kinds import Form, Shape
from penstock.contract.nesting import unwrap_metadata
from penstock.contract.record import Record
from penstock.contract.value_rules import Broken, check_decimals_of_key, rules_of
from penstock.contract.violation import MAX_VIOLATIONS, Rule, Violation, format_place

_LAST_DOLLAR = re.compile(r"(?<!\\)((?:\\\\)*)\$\Z")
_FIRST_MS = -62_135_596_800_000  # 0001-01-01T00:00Z
_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

# The inside of composite values

Search = Callable[[Any, datetime], list[Violation]]
"""Returns the broken rules within a value, each by its path from there, given `latest_past()`."""
Places = Iterable[tuple[Any, Any, Search]]
"""The parts of a value that have rules: place, part, search."""


def build_search(field: Field, search_scalar: Callable[[Field], Search | None]) -> Search | None:
    """Return the search of a field's value by the searches of the scalars inside; None if none of them has a rule.

    Nested records may be dicts of their fields in messages too.
    """
    shape = field.shape
    if shape is None:
        return search_scalar(field)
    inside = [build_search(item, search_scalar) for item in shape.items]
    key = None if shape.key is None else search_scalar(shape.key)
    if key is None and not any(inside):
        return None
    iterate, is_personal = _build_iterator(shape, inside, key), field.personal

    def search(value: Any, latest: datetime) -> list[Violation]:
        violations: list[Violation] = []
        for place, part, find in iterate(value):
            if part is not None and (broken := find(part, latest)):
                path = place if shape.form is Form.RECORD else format_place(place, is_personal)
                violations += [violation.within(path) for violation in broken]
                if len(violations) >= MAX_VIOLATIONS:
                    break
        return violations[:MAX_VIOLATIONS]

    return search


def _build_iterator(shape: Shape, inside: list[Search | None], key: Search | None) -> Callable[[Any], Places]:
    pairs = [(item, find) for item, find in zip(shape.items, inside, strict=True) if find is not None]
    if shape.form is Form.RECORD:
        members = [(f".{item.name}", _read_member(item), find) for item, find in pairs]
        return lambda record: ((place, get(record), find) for place, get, find in members)
    if shape.form is Form.TUPLE:
        places = [(at, find) for at, find in enumerate(inside) if find is not None]
        return lambda items: ((at, items[at], find) for at, find in places)
    finds = [find for _, find in pairs]
    if shape.form is Form.MAP:
        return lambda values: _iter_map(values, finds, key)
    if shape.form is Form.SET:
        return lambda items: ((None, item, finds[0]) for item in items)
    return lambda items: ((at, item, finds[0]) for at, item in enumerate(items))


def _iter_map(values: Mapping[str, Any], finds: list[Search], key: Search | None) -> Places:
    for name, value in values.items():
        if key is not None:
            yield name, name, key
        for find in finds:
            yield name, value, find


def _read_member(member: Field) -> Callable[[Any], Any]:
    name, get = member.name, attrgetter(member.column)
    return lambda record: record.get(name) if isinstance(record, dict) else get(record)


def _build_searches(
    record: type[Record], search_scalar: Callable[[Field], Search | None]
) -> list[tuple[str, str, Search]]:
    """Return the searches of a record's composite fields, with the names of the field and its column."""
    searches = ((field, build_search(field, search_scalar)) for field in fields(record) if field.shape is not None)
    return [(field.name, field.column, search) for field, search in searches if search is not None]


def _search_all(
    searches: Iterable[tuple[str, Callable[[Any], Any], Search]], source: Any, latest: datetime
) -> list[Violation]:
    """Return what the searches find in the composite values that their functions get from `source`."""
    found = ((name, search(value, latest)) for name, get, search in searches if (value := get(source)) is not None)
    return [violation.within(name) for name, violations in found for violation in violations]


def _report(rule: Callable[[Any, datetime], Broken | None]) -> Search:
    """Return a rule of scalars as a search."""

    def search(value: Any, latest: datetime) -> list[Violation]:
        wrong = rule(value, latest)
        return [] if wrong is None else [Violation("", *wrong)]

    return search


# Values

ValueCheck = Callable[[Record, datetime], list[Violation]]


@cache
def build_value_check(record: type[Record]) -> ValueCheck:
    """Return a function that checks a decoded record's values by rules that msgspec lacks: dates, and rules of types.

    Given `latest_past()`, it returns the broken rules.
    """
    check_dates = build_date_check(record)
    checks = [
        (field.name, attrgetter(field.column), rule)
        for field in fields(record)
        if field.shape is None and (rule := rules_of(field).value) is not None
    ]
    searches = [(name, attrgetter(column), find) for name, column, find in _build_searches(record, _search_value)]
    if not checks and not searches:
        return check_dates

    def check(instance: Record, latest: datetime) -> list[Violation]:
        violations = check_dates(instance, latest)
        for name, get, find in checks:
            value = get(instance)
            wrong = None if value is None else find(value, latest)
            if wrong is not None:
                violations.append(Violation(name, *wrong))
        return violations + _search_all(searches, instance, latest)

    return check


def _search_value(field: Field) -> Search | None:
    if field.kind is TIMESTAMP:
        return _report(lambda moment, latest: _check_moment(moment, latest, field.past))
    rule = rules_of(field).value
    return None if rule is None else _report(rule)


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
            if not 1 < moment.year < 9999 or (past and moment > latest):
                wrong = _check_moment(moment, latest, past)
                violations += [] if wrong is None else [Violation(name, *wrong)]
        return violations

    return check


def _check_moment(moment: datetime, latest: datetime, past: bool) -> Broken | None:
    """Return the rule on dates that a moment breaks."""
    if moment.tzinfo is None:
        return Rule.FORMAT, "has no time zone"
    if past and moment > latest:
        return Rule.DATE, "is in the future"
    if not 1 < moment.year < 9999 and not _FIRST_MS <= to_epoch_ms(moment) <= _LAST_MS:
        return Rule.DATE, "is outside the years 1 to 9999 in UTC"
    return None


# Texts

TextCheck = Callable[[Record], list[Violation]]
_ANY_TIME = datetime.min


@cache
def build_text_check(record: type[Record]) -> TextCheck:
    """Return a function that checks a decoded record's texts by rules that msgspec lacks, and returns the broken ones.

    No text may contain the NUL character, at which many clients end it; and `$` in a pattern matches only at the end of
    the text, where Python's own also matches before a final newline.
    """
    texts = [
        (field.name, attrgetter(field.column), pattern)
        for field in fields(record)
        if isinstance(field.info, inspect.StrType)
        for pattern in [_compile_pattern(field.info)]
    ]
    searches = [(name, attrgetter(column), find) for name, column, find in _build_searches(record, _search_text)]
    unions = [field for field in fields(record) if field.shape is None and isinstance(field.info, inspect.UnionType)]
    searches += [(field.name, attrgetter(field.column), find) for field in unions if (find := _search_text(field))]

    def check(instance: Record) -> list[Violation]:
        violations: list[Violation] = []
        for name, get, pattern in texts:
            text = get(instance)
            if text is None:
                continue
            if "\0" in text:
                violations.append(Violation(name, Rule.CHARACTER, _NUL))
            if text[-1:] == "\n" and pattern is not None and pattern.search(text) is None:
                violations.append(Violation(name, Rule.PATTERN, _NEWLINE))
        return violations + _search_all(searches, instance, _ANY_TIME)

    return check


_NUL = "contains a NUL character"
_NEWLINE = "ends with a newline"


def _search_text(field: Field) -> Search | None:
    members = field.info.types if isinstance(field.info, inspect.UnionType) else [field.info]
    kinds = (unwrap_metadata(member)[0] for member in members)
    pattern = next(([_compile_pattern(kind)] for kind in kinds if isinstance(kind, inspect.StrType)), None)
    return None if pattern is None else _report(lambda text, _latest: _check_text(text, pattern[0]))


def _check_text(text: Any, pattern: re.Pattern[str] | None) -> Broken | None:
    """Return the rule on characters that a text breaks; a value of another type of a union breaks none."""
    if not isinstance(text, str):
        return None
    if "\0" in text:
        return Rule.CHARACTER, _NUL
    if text[-1:] == "\n" and pattern is not None and pattern.search(text) is None:
        return Rule.PATTERN, _NEWLINE
    return None


def _compile_pattern(kind: inspect.StrType) -> re.Pattern[str] | None:
    """Return the pattern of a text, whose last `$` matches only at the end of the text."""
    if kind.pattern is None:
        return None
    return re.compile(_LAST_DOLLAR.sub(r"\1\\Z", kind.pattern))


# Forms

FormCheck = Callable[[Mapping[str, Any]], list[Violation]]


@cache
def build_form_check(record: type[Record]) -> FormCheck | None:
    """Return a function that checks how a message's values are written, by field name; None if any form is fine.

    msgspec reads texts of numbers and times that it rounds, or that other readers refuse.
    """
    forms = {field.name: form for field in fields(record) if field.shape is None and (form := rules_of(field).form)}
    searches = [(name, methodcaller("get", name), search) for name, _, search in _build_searches(record, _search_form)]
    if not forms and not searches:
        return None

    def check(values: Mapping[str, Any]) -> list[Violation]:
        found = ((name, find(values[name])) for name, find in forms.items() if isinstance(values.get(name), _WRITTEN))
        violations = [Violation(name, *wrong) for name, wrong in found if wrong is not None]
        return violations + _search_all(searches, values, _ANY_TIME)

    return check


def has_forms_of_keys_only(record: type[Record]) -> bool:
    """Return whether only the decimals of moments in keys have a form that is checked."""
    forms = {rules_of(field).form for field in fields(record) if field.shape is None}
    return forms <= {None, check_decimals_of_key} and not _build_searches(record, _search_form)


_WRITTEN = (str, float, msgspec.Raw)


def _search_form(field: Field) -> Search | None:
    form = rules_of(field).form
    if form is None:
        return None
    return _report(lambda value, _latest: form(value) if isinstance(value, _WRITTEN) else None)


def has_forms(field: Field) -> bool:
    """Return whether something within a composite field has rules on how it is written."""
    return field.shape is not None and build_search(field, _search_form) is not None
