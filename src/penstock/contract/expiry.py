"""When rows expire: by the TTL of their table, or by a field of their record.

A field gives a row's expiry as a moment, which follows from the record alone, so a replay computes the same one. The
TTL of an INSERT is what remains of it when the row is written.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from penstock.contract.fields import DURATION, TIMESTAMP, Field, fields, find_column, to_epoch_ms, to_microseconds
from penstock.contract.record import Record

Ttl = timedelta | str
"""`ttl` in a pipeline's file: how long each row lives, or the name of a field that says when it expires."""

MAX_TTL_S = 20 * 365 * 86_400
"""The longest TTL that Cassandra accepts."""
NEVER_MS = 2**62
"""The expiry of a row that does not expire: later than any other."""
_KINDS = (TIMESTAMP, DURATION)


@dataclass(frozen=True)
class Expiry:
    """A field that says when the row of its record expires.

    A datetime is that moment; a timedelta counts from Kafka's timestamp of the record; None is never.
    """

    field: Field

    @property
    def is_duration(self) -> bool:
        """Return whether the field is a timedelta."""
        return self.field.kind is DURATION

    def compute_ms(self, record: Record, timestamp_ms: int) -> int:
        """Return when the row of a record expires, in ms since 1970; `timestamp_ms` is Kafka's timestamp.

        Fractions of a millisecond are rounded up. Never is `NEVER_MS`.
        """
        value = getattr(record, self.field.column)
        if value is None:
            return NEVER_MS
        return _add_duration(timestamp_ms, value) if self.is_duration else _to_epoch_ms(value)


def _to_epoch_ms(moment: datetime) -> int:
    return to_epoch_ms(moment) + (moment.microsecond % 1000 > 0)


def _add_duration(timestamp_ms: int, duration: timedelta) -> int:
    return timestamp_ms - (-to_microseconds(duration) // 1000)


def compute_ttl_s(expires_ms: int, now_ms: int) -> int:
    """Return the TTL of a row that is written at `now_ms` and has not expired; 0 if it never does.

    Cassandra adds a TTL to the current second: the row expires in the first whole second that is not before its expiry.
    """
    return 0 if expires_ms == NEVER_MS else -(-expires_ms // 1000) - now_ms // 1000


def check_ttl(record: type[Record], row: type[Record], ttl: Any) -> None:
    """Raise `TypeError` or `ValueError`, saying what to write, unless rows can expire by `ttl`.

    If `row` is the row that a transform makes of `record`, both have the field: `verify` has the record alone, and the
    transform may not change when its row expires.
    """
    if ttl is None:
        return
    if isinstance(ttl, timedelta):
        _check_period(ttl)
        return
    if not isinstance(ttl, str):
        raise TypeError(
            f"invalid {ttl!r}: expected a timedelta, such as `timedelta(days=30)`, or the name of a field that says "
            "when a row expires"
        )
    of_row = _find_field(row, ttl)
    if row is not record and _find_field(record, ttl).kind is not of_row.kind:
        raise TypeError(f"{ttl!r} is of another type in {record.__name__} than in {row.__name__}: give both the same")


def _check_period(period: timedelta) -> None:
    if period <= timedelta(0):
        raise ValueError(f"{period} is not a time to live: write at least `timedelta(seconds=1)`, or remove it")
    if period % timedelta(seconds=1):
        raise ValueError(f"{period} is not in whole seconds, which a table's TTL is: round it")
    if period > timedelta(seconds=MAX_TTL_S):
        raise ValueError(
            f"{period.days:,} days are longer than Cassandra's maximum, {MAX_TTL_S // 86_400:,} days; "
            "write a shorter time, or remove it: rows then never expire"
        )


def _find_field(struct: type[Record], name: str) -> Field:
    field = find_column(struct, name)
    fit = ", ".join(repr(each.column) for each in fields(struct) if _is_fit(each))
    others = f"write one of {fit}, or a timedelta" if fit else "write a timedelta, such as `timedelta(days=30)`"
    if field is None:
        raise ValueError(f"{struct.__name__} has no field {name!r}: {others}")
    if field.key:
        raise ValueError(f"{name!r} is part of the key, by which rows do not expire: {others}")
    if field.personal:
        raise ValueError(f"{name!r} is PERSONAL, and pages show when a row expires: remove that mark, or {others}")
    if not _is_fit(field):
        raise TypeError(f"{name!r} is neither a datetime nor a timedelta: {others}")
    return field


def _is_fit(field: Field) -> bool:
    return not (field.key or field.personal) and any(field.kind is kind for kind in _KINDS)


def expiry_of(row: type[Record], ttl: Ttl | None) -> Expiry | None:
    """Return what makes single rows expire; None if no field does."""
    return Expiry(_find_field(row, ttl)) if isinstance(ttl, str) else None


def default_ttl_s(ttl: Ttl | None) -> int | None:
    """Return the `default_time_to_live` that the table should have, in seconds; None if it is not declared.

    It is 0 if a field decides: then each row has a TTL of its own, or none.
    """
    if isinstance(ttl, str):
        return 0
    return None if ttl is None else ttl // timedelta(seconds=1)
