"""The rules of single types that msgspec does not have.

A type may have rules on its value, and on the form in which a message writes it: msgspec takes `1_0` for a decimal, and
rounds the time 23:59:59.9999999 to midnight.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from penstock.contract.composites import JSON
from penstock.contract.decimals import find_excess
from penstock.contract.fields import BIGINT, DATE, DURATION, TIME, TIMESTAMP, Field, fits_64_bits, to_microseconds
from penstock.contract.json_text import find_lone_surrogate, find_malformed, is_null
from penstock.contract.kinds import FINITE
from penstock.contract.record import Digits
from penstock.contract.violation import Rule

FUTURE_SLACK = timedelta(minutes=1)
"""Allowed clock skew for dates that must be in the past."""

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,4})?")
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?")
_FINER = re.compile(r"\.[0-9]{7}")
FLOAT_DIGITS = 15
"""Number of digits that a float always keeps."""
_BELOW_MS = re.compile(r"\.[0-9]{3}[0-9]*[1-9]")
_EARLIEST_ZONE = timedelta(hours=14)
"""Somewhere on earth a day begins this long before it does in UTC."""
_SYMBOLS = 10

Broken = tuple[Rule, str]


def latest_past() -> datetime:
    """Return the latest time that counts as past now, in UTC."""
    return datetime.now(UTC) + FUTURE_SLACK


class ValueRules(NamedTuple):
    """The rules of a field's type: on a value, given `latest_past()`, and on a text or number in a message."""

    value: Callable[[Any, datetime], Broken | None] | None = None
    form: Callable[[Any], Broken | None] | None = None


def rules_of(field: Field) -> ValueRules:
    """Return the rules of the type of a field or an item."""
    if field.digits is not None:
        return ValueRules(partial(_check_digits, digits=field.digits), _check_number)
    if field.kind is TIMESTAMP:
        return _rules_of_moment(field)
    if field.kind is JSON:
        return ValueRules(partial(_check_json, nullable=field.nullable), _check_json_text)
    if isinstance(field.info, inspect.UnionType):
        return ValueRules(_check_member)
    is_bounded = field.kind is BIGINT and isinstance(field.info, inspect.IntType) and _is_open(field.info)
    return ValueRules(_check_64_bits) if is_bounded else _rules_of_kind(field)


def _rules_of_moment(field: Field) -> ValueRules:
    if field.key:
        return ValueRules(_check_key_moment, check_decimals_of_key)
    is_checked_by_msgspec = isinstance(field.info, inspect.DateTimeType) and field.info.tz
    return _NO_RULES if is_checked_by_msgspec else ValueRules(_check_offset)


def _rules_of_kind(field: Field) -> ValueRules:
    return ValueRules(_check_day) if field.kind is DATE and field.past else _OF_KIND.get(field.kind, _NO_RULES)


def describe_symbols(symbols: tuple[str, ...]) -> str:
    """Return what is allowed instead of a text, never the text itself: it may be personal."""
    more = f" and {len(symbols) - _SYMBOLS} more" if len(symbols) > _SYMBOLS else ""
    return f"expected one of {', '.join(map(repr, symbols[:_SYMBOLS]))}{more}"


def _is_open(kind: inspect.IntType) -> bool:
    """Return whether an int's rules leave a side without a bound. Bounds themselves fit 64 bits, or msgspec raises."""
    return (kind.ge is None and kind.gt is None) or (kind.le is None and kind.lt is None)


def _check_digits(value: Decimal, _latest: datetime, digits: Digits) -> Broken | None:
    excess = find_excess(value, digits)
    return (Rule.RANGE, excess) if excess else None


def _check_number(value: str | float) -> Broken | None:
    if isinstance(value, str):
        return None if _NUMBER.fullmatch(value) else (Rule.FORMAT, "is not a number in digits, such as 12.50")
    digits = Decimal(repr(value)).normalize().as_tuple().digits
    if len(digits) <= FLOAT_DIGITS:
        return None
    return Rule.FORMAT, f"has more than {FLOAT_DIGITS} digits, which a floating-point number rounds: send it as text"


def _check_offset(value: datetime, _latest: datetime) -> Broken | None:
    return (Rule.FORMAT, "has no time zone") if value.tzinfo is None else None


def _check_zone(value: time, _latest: datetime) -> Broken | None:
    return None if value.tzinfo is None else (Rule.FORMAT, "has a time zone")


def _check_time(value: str | float) -> Broken | None:
    if isinstance(value, float) or _TIME.fullmatch(value):
        return None
    return Rule.FORMAT, "is not a time without a zone, with at most 6 decimals, such as 12:00:00.5"


def _check_duration(value: timedelta, _latest: datetime) -> Broken | None:
    if fits_64_bits(to_microseconds(value)):
        return None
    return Rule.RANGE, "has more than 64 bits of microseconds, about 292,000 years"


def _check_fraction(value: str | float) -> Broken | None:
    is_finer = isinstance(value, str) and _FINER.search(value)
    return (Rule.FORMAT, "has more than 6 decimals") if is_finer else None


_NO_KEY = Rule.FORMAT, "is finer than milliseconds, which a key cannot be: Cassandra keeps no more"


def _check_key_moment(value: datetime, _latest: datetime) -> Broken | None:
    if value.tzinfo is None:  # its text would be that of another moment on each machine
        return Rule.FORMAT, "has no time zone"
    return _NO_KEY if value.microsecond % 1000 else None


def check_decimals_of_key(value: str | float) -> Broken | None:
    """Return the rule that the text of a moment breaks. Only beyond microseconds does its value not show it."""
    return _NO_KEY if isinstance(value, str) and _BELOW_MS.search(value) else None


def _check_day(value: date, latest: datetime) -> Broken | None:
    return (Rule.DATE, "is in the future") if value > (latest + _EARLIEST_ZONE).date() else None


def _check_64_bits(value: int, _latest: datetime) -> Broken | None:
    return None if fits_64_bits(value) else (Rule.RANGE, "does not fit 64 bits")


def _check_member(value: Any, latest: datetime) -> Broken | None:
    """Return the rule that a value of a union breaks, whose text has to be JSON and a whole number of 64 bits."""
    if isinstance(value, float):
        return _check_finite(value, latest)
    return _check_64_bits(value, latest) if isinstance(value, int) else None


def _check_finite(value: float, _latest: datetime) -> Broken | None:
    return None if isfinite(value) else (Rule.FORMAT, "is not a finite number, which JSON has no text for")


def _check_json(value: msgspec.Raw, _latest: datetime, nullable: bool) -> Broken | None:
    if is_null(value):
        return None if nullable else (Rule.REQUIRED, "is null")
    wrong = find_lone_surrogate(value)
    return (Rule.FORMAT, wrong) if wrong else None


def _check_json_text(value: Any) -> Broken | None:
    """Return what is wrong with a JSON text from Avro or Spark; in a message in JSON it is part of valid JSON."""
    wrong = find_malformed(value) if isinstance(value, msgspec.Raw) else ""
    return (Rule.FORMAT, wrong) if wrong else None


_NO_RULES = ValueRules()
_OF_KIND = {
    TIME: ValueRules(_check_zone, _check_time),
    DURATION: ValueRules(_check_duration, _check_fraction),
    FINITE: ValueRules(_check_finite),
}
