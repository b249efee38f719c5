"""Rows that expire by a field of their record: which of them are written, and with which TTL."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cassandra.cluster import Session

from penstock.contract.batch import Deletion, Row
from penstock.contract.cql import encode_ttl
from penstock.contract.expiry import MAX_TTL_S, NEVER_MS, Expiry, compute_ttl_s
from penstock.contract.fields import from_epoch_ms, to_epoch_ms
from penstock.contract.identity import Identity
from penstock.contract.table import Table
from penstock.contract.violation import Rule, Violation

_LAST_2038 = datetime(2038, 1, 18, tzinfo=UTC)
_LAST_2106 = datetime(2106, 2, 6, tzinfo=UTC)
"""A day before Cassandra's expiration dates end, at 31 or 32 bits of seconds: clocks differ."""


def read_clock_ms() -> int:
    """Return the current time, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Unexpirable(NamedTuple):
    """A row whose expiry Cassandra cannot hold, and what is wrong with it."""

    row: Row
    violation: Violation


class SortedRows(NamedTuple):
    """Rows by what remains of them: to write, to delete because they have expired, and not to write."""

    live: list[Row]
    expired: list[Deletion]
    refused: list[Unexpirable]


class ExpiringRows:
    """Sorts rows by their expiry, and encodes the TTLs of those that are written."""

    def __init__(self, expiry: Expiry, identity: Identity, last: datetime) -> None:
        """`last` is the server's last expiration date, `read_last_expiration`."""
        self._expiry = expiry
        self._identity = identity
        self._last = last

    def sort(self, rows: Sequence[Row], now_ms: int) -> SortedRows:
        """Sort rows that are written at `now_ms`.

        An expired one is deleted at its own write timestamp: no older version of its id stays, and a replay that comes
        after its expiry results in the same table.
        """
        result = SortedRows([], [], [])
        limit_ms = min(now_ms + (MAX_TTL_S - 1) * 1000, to_epoch_ms(self._last))
        for row in rows:
            record, timestamp_ms, partition, offset = row
            expires_ms = self._expiry.compute_ms(record, timestamp_ms)
            violation = self._find_violation(expires_ms, timestamp_ms, limit_ms)
            if violation is not None:
                result.refused.append(Unexpirable(row, violation))
            elif expires_ms > now_ms:
                result.live.append(row)
            else:
                result.expired.append(Deletion(self._identity.of(record), timestamp_ms, partition, offset))
        return result

    def _find_violation(self, expires_ms: int, timestamp_ms: int, limit_ms: int) -> Violation | None:
        if expires_ms == NEVER_MS:
            return None
        if timestamp_ms < 0 and self._expiry.is_duration:
            return Violation(self._expiry.field.name, Rule.RANGE, "counts from Kafka's timestamp, which is missing")
        if expires_ms <= limit_ms:
            return None
        last = from_epoch_ms(limit_ms).date().isoformat()
        message = f"ends after {last}, the last day on which Cassandra can expire a row; write null for never"
        return Violation(self._expiry.field.name, Rule.RANGE, message)

    def encode_ttls(self, rows: Sequence[Row], now_ms: int) -> Iterator[bytes]:
        """Yield the encoded TTL of each row that is live at `now_ms`."""
        compute_ms = self._expiry.compute_ms
        return (encode_ttl(compute_ttl_s(compute_ms(record, sent_ms), now_ms)) for record, sent_ms, _, _ in rows)


def read_last_expiration(session: Session) -> datetime:
    """Return the last moment at which the server can expire a row: in 2106 if it has left Cassandra 4, else in 2038."""
    query = "SELECT value FROM system_views.settings WHERE name = 'storage_compatibility_mode'"
    row = session.execute(query).one()
    return _LAST_2106 if row is not None and row["value"] == "NONE" else _LAST_2038


def find_ttl_problem(session: Session, table: Table, now: datetime) -> str:
    """Return why the server would refuse every row with the table's TTL; empty if it does not."""
    if not table.ttl_s:
        return ""
    last, ends = read_last_expiration(session), now + timedelta(seconds=table.ttl_s)
    if ends <= last:
        return ""
    return (
        f"its TTL of {table.ttl_s} s ends on {ends.date()}, and Cassandra can expire rows until {last.date()}; "
        "write a shorter ttl, or set storage_compatibility_mode to NONE once no node is older than Cassandra 5"
    )
