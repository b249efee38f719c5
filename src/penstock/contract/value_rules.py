"""The rules of single types that msgspec does not have.

A type may have rules on its value, and on the form in which a message writes it: msgspec takes `1_0` for a decimal, and
rounds the time 23:59:59.9999999 to midnight.
"""

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from msgspec import inspect

from penstock.contract.decimals import find_excess
from penstock.contract.fields import BIGINT, DATE, DURATION, TIME, Field, fits_64_bits, to_microseconds
from penstock.contract.record import Digits
from penstock.contract.violation import Rule

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,4})?")
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?")
_FINER = re.compile(r"\.[0-9]{7}")
FLOAT_DIGITS = 15
"""Number of digits that a float always keeps."""
_EARLIEST_ZONE = timedelta(hours=14)
"""Somewhere on earth a day begins this long before it does in UTC."""
_SYMBOLS = 10

Broken = tuple[Rule, str]


class ValueRules(NamedTuple):
    """The rules of a field's type: on a value, given `latest_past()`, and on a text or number in a message."""

    value: Callable[[Any, datetime], Broken | None] | None = None
    form: Callable[[str | float], Broken | None] | None = None


def rules_of(field: Field, kind: inspect.Type) -> ValueRules:
    """Return the rules of a field's type; `kind` is its type as msgspec describes it, without None."""
    if field.digits is not None:
        return ValueRules(partial(_check_digits, digits=field.digits), _check_number)
    if field.kind is TIME:
        return ValueRules(_check_zone, _check_time)
    if field.kind is DURATION:
        return ValueRules(_check_duration, _check_fraction)
    if field.kind is DATE and field.past:
        return ValueRules(_check_day)
    if field.kind is BIGINT and isinstance(kind, inspect.IntType) and _is_open(kind):
        return ValueRules(_check_64_bits)
    return ValueRules(_check_offset if isinstance(kind, inspect.DateTimeType) and not kind.tz else None)


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


def _check_day(value: date, latest: datetime) -> Broken | None:
    return (Rule.DATE, "is in the future") if value > (latest + _EARLIEST_ZONE).date() else None


def _check_64_bits(value: int, _latest: datetime) -> Broken | None:
    return None if fits_64_bits(value) else (Rule.RANGE, "does not fit 64 bits")
