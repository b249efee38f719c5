"""Columns as cassandra-driver reads them, in the form that commands and pages show."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from itertools import chain, repeat
from typing import Any

import msgspec
from cassandra.util import Date, SortedSet, Time

from penstock.codec.fields import to_message_value
from penstock.contract.fields import DATE, TIMESTAMP, Field, FieldKind, fields
from penstock.contract.identity import Identity
from penstock.contract.kinds import Form, Shape
from penstock.contract.record import Record

_JSON = msgspec.json.Encoder()
_EPOCH, _MILLISECOND = datetime(1970, 1, 1), timedelta(milliseconds=1)
_FIRST_DAY = date(1970, 1, 1).toordinal()
_AS_IN_MESSAGES = (Decimal, bytes, date, time, timedelta)


def format_row(row: Mapping[str, Any], record: type[Record]) -> dict[str, Any]:
    """Return the columns of a row, with decimals, bytes, dates, times and durations as JSON messages have them.

    Collections are arrays, a set's in the order of Cassandra; maps and user-defined types are objects. Other values
    stay as the driver reads them. `record` is the type of the row; the table may have other columns.
    """
    known = _columns(record)
    return {name: _format_cell(value, known.get(name)) for name, value in row.items()}


@cache
def _columns(record: type[Record]) -> dict[str, Field]:
    return {field.column: field for field in fields(record)}


def _format_cell(value: Any, field: Field | None) -> Any:
    if value is None:
        return None
    if isinstance(value, Date | Time):
        return _format_moment(value)
    if isinstance(value, Mapping | Sequence | SortedSet) and not isinstance(value, str | bytes):
        shape = None if field is None or field.kind.is_text else field.shape
        return _format_composite(value, shape)
    read = None if field is None else field.kind.from_cql
    if read is not None:
        return to_message_value(read(value))
    return to_message_value(value) if type(value) in _AS_IN_MESSAGES else value


def _format_composite(value: Any, shape: Shape | None) -> Any:
    """Return a collection, a tuple or a user-defined type, of which the driver makes a named tuple."""
    items = () if shape is None else shape.items
    if isinstance(value, Mapping):
        return {key: _format_cell(item, items[0] if items else None) for key, item in value.items()}
    if shape is not None and shape.form is Form.RECORD:
        members = {item.column: item for item in items}
        names = getattr(value, "_fields", tuple(members))
        return {name: _format_cell(item, members.get(name)) for name, item in zip(names, value, strict=False)}
    if hasattr(value, "_asdict"):
        return {name: _format_cell(item, None) for name, item in value._asdict().items()}
    of_item = chain(items, repeat(items[-1] if items else None))
    return [_format_cell(item, field) for item, field in zip(value, of_item, strict=False)]


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
