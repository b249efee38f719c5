"""Differences that an operator accepted: which, when, by whom and why. Stored without expiry."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from penstock.contract import cql
from penstock.sink.cassandra import create_missing, has_table

_NOWHERE = -1
_ACCEPTED = """
CREATE TABLE IF NOT EXISTS {keyspace}.accepted (
  topic text,
  generation_us bigint,
  kind text,
  kafka_partition int,
  kafka_offset bigint,
  id text,
  difference text,
  reason text,
  who text,
  at timestamp,
  PRIMARY KEY ((topic, generation_us), kind, kafka_partition, kafka_offset, id)
)
"""


@dataclass(frozen=True)
class Accepted:
    """An accepted difference. `difference` is what differed at the time, `reason` why it was accepted."""

    kind: str
    partition: int | None
    offset: int | None
    id: str | None
    difference: str
    reason: str
    who: str
    at: datetime


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by table name."""
    return {"accepted": _ACCEPTED.format(keyspace=cql.quote_name(keyspace))}


def create_table(session: Session, keyspace: str) -> None:
    """Create the table if it does not exist."""
    create_missing(session, keyspace, statements(keyspace))


def write_accepted(session: Session, keyspace: str, topic: str, epoch_us: int, accepted: Iterable[Accepted]) -> None:
    """Write accepted differences of a topic incarnation and wait until they are acknowledged."""
    insert = session.prepare(
        f"INSERT INTO {cql.quote_name(keyspace)}.accepted (topic, generation_us, kind, kafka_partition, kafka_offset, "
        "id, difference, reason, who, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    rows = [
        (
            topic,
            epoch_us,
            entry.kind,
            _NOWHERE if entry.partition is None else entry.partition,
            _NOWHERE if entry.offset is None else entry.offset,
            entry.id or "",
            entry.difference,
            entry.reason,
            entry.who,
            entry.at,
        )
        for entry in accepted
    ]
    execute_concurrent_with_args(session, insert, rows, concurrency=50, raise_on_first_error=True)


def read_accepted(session: Session, keyspace: str, topic: str, epoch_us: int) -> list[Accepted]:
    """Return the accepted differences of a topic incarnation, or an empty list if there is no table yet."""
    if not has_table(session, keyspace, "accepted"):
        return []
    query = f"SELECT * FROM {cql.quote_name(keyspace)}.accepted WHERE topic = %s AND generation_us = %s"
    return [_parse_row(row) for row in session.execute(query, (topic, epoch_us))]


def _parse_row(row: dict[str, Any]) -> Accepted:
    partition, offset = row["kafka_partition"], row["kafka_offset"]
    return Accepted(
        kind=row["kind"],
        partition=None if partition == _NOWHERE else partition,
        offset=None if offset == _NOWHERE else offset,
        id=row["id"] or None,
        difference=row["difference"],
        reason=row["reason"],
        who=row["who"],
        at=row["at"].replace(tzinfo=UTC),
    )
