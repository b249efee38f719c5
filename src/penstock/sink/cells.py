"""Columns as cassandra-driver reads them, in the form that commands and pages show."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
from cassandra.util import Date, Time

from penstock.codec.fields import to_message_value
from penstock.contract.fields import DATE, TIMESTAMP, FieldKind, fields
from penstock.contract.identity import Identity
from penstock.contract.record import Record

_JSON = msgspec.json.Encoder()
_EPOCH, _MILLISECOND = datetime(1970, 1, 1), timedelta(milliseconds=1)
_FIRST_DAY = date(1970, 1, 1).toordinal()
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


def format_ids(columns: Sequence[Iterable[Any]], identity: Identity) -> list[str]:
    """Return the identities of rows, as `Identity.text_of` writes them, from a column of cells for each KEY field.

    A moment is a `datetime` as the driver reads it, or a number of milliseconds.
    """
    return identity.join_texts(
        [map(_find_key_form(field.kind), cells) for field, cells in zip(identity.fields, columns, strict=True)]
    )


def _find_key_form(kind: FieldKind) -> Callable[[Any], str]:
    if kind is DATE:
        return _format_key_day
    return _format_key_moment if kind is TIMESTAMP else str


def _format_key_day(day: Date) -> str:
    try:
        return date.fromordinal(day.days_from_epoch + _FIRST_DAY).isoformat()
    except (ValueError, OverflowError):  # another program wrote the row: no record has such an id
        return str(day)


def _format_key_moment(moment: datetime | int) -> str:
    """Return the text of a moment in a key. The driver computes with floats, so microseconds are rounded."""
    ms = moment if isinstance(moment, int) else round((moment - _EPOCH) / _MILLISECOND)
    seconds, rest_ms = divmod(ms, 1000)
    try:
        text = _JSON.encode(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError):  # another program wrote the row: no record has such an id
        return f"{ms} ms"
    return f"{text[1:20].decode()}.{rest_ms:03}Z"
