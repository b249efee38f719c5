"""Columns as cassandra-driver reads them, in the form that commands and pages show."""

from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from cassandra.util import Date, Time

from penstock.codec.fields import to_message_value
from penstock.contract.fields import fields
from penstock.contract.record import Record

_AS_IN_MESSAGES = (Decimal, bytes, date, time, timedelta)


def format_row(row: Mapping[str, Any], record: type[Record]) -> dict[str, Any]:
    """Return the columns of a row, with decimals, bytes, dates, times and durations as JSON messages have them.

    Other values stay as the driver reads them. `record` is the type of the row; the table may have other columns.
    """
    readers = _cell_readers(record)
    return {name: _format_cell(value, readers.get(name)) for name, value in row.items()}


@cache
def _cell_readers(record: type[Record]) -> dict[str, Callable[[Any], Any]]:
    """Return the functions that read a column whose CQL type does not tell its type: durations."""
    return {field.column: field.kind.from_cql for field in fields(record) if field.kind.from_cql is not None}


def _format_cell(value: Any, read: Callable[[Any], Any] | None) -> Any:
    if value is None:
        return None
    if isinstance(value, Date | Time):
        return _format_moment(value)
    if read is not None:
        return to_message_value(read(value))
    return to_message_value(value) if type(value) in _AS_IN_MESSAGES else value


def _format_moment(value: Date | Time) -> str:
    """Return a date or time as text; as the driver does if Python has none such, as other programs may write."""
    try:
        return str(to_message_value(value.date() if isinstance(value, Date) else value.time()))
    except (ValueError, OverflowError):
        return str(value)
