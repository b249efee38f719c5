"""Rows that expire by a field of their record: which of them are written, and with which TTL."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cassandra.cluster import Session

from penstock.contract.batch import Deletion, Row
from penstock.contract.cql import encode_ttl
from penstock.contract.expiry import MAX_TTL_S, NEVER_MS, Expiry, compute_ttl_s
from penstock.contract.fields import from_epoch_ms
from penstock.contract.identity import Identity
from penstock.contract.violation import Rule, Violation

_DAY_S = 86_400
_LAST_2038 = datetime(2038, 1, 19, tzinfo=UTC)
_LAST_2106 = datetime(2106, 2, 7, tzinfo=UTC)
"""The days on which Cassandra's expiration dates end: 31 or 32 bits of seconds."""


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
        limit_ms = min(now_ms + (MAX_TTL_S - 1) * 1000, (int(self._last.timestamp()) - _DAY_S) * 1000)
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
    """Return the server's last expiration date, to the day: 2106 if it stores no format of Cassandra 4, else 2038."""
    query = "SELECT value FROM system_views.settings WHERE name = 'storage_compatibility_mode'"
    row = session.execute(query).one()
    return _LAST_2106 if row is not None and row["value"] == "NONE" else _LAST_2038
