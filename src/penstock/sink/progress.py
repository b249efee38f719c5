"""The stream's progress: its micro-batches as Spark reports them, kept for a week, and its failures, kept for 90 days.

For monitoring only. What became of each offset is in the ledger.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cassandra.cluster import Session

from penstock.contract import cql
from penstock.sink.cassandra import create_missing, has_table

_BATCHES = """
CREATE TABLE IF NOT EXISTS {keyspace}.batches (
  topic text,
  hour timestamp,
  began_at timestamp,
  batch_id bigint,
  rows bigint,
  input_rows_s double,
  processed_rows_s double,
  durations_ms map<text, bigint>,
  positions map<int, bigint>,
  PRIMARY KEY ((topic, hour), began_at, batch_id)
) WITH CLUSTERING ORDER BY (began_at DESC, batch_id DESC) AND default_time_to_live = 604800
"""
_FAILURES = """
CREATE TABLE IF NOT EXISTS {keyspace}.failures (
  topic text,
  at timestamp,
  error text,
  trace text,
  PRIMARY KEY (topic, at)
) WITH CLUSTERING ORDER BY (at DESC) AND default_time_to_live = 7776000
"""
_TRACE_CHARACTERS = 20_000


@dataclass(frozen=True)
class Batch:
    """A micro-batch. `durations_ms` is keyed by Spark's phase names; `positions` maps partitions to end offsets."""

    batch_id: int
    began_at: datetime
    rows: int
    input_rows_s: float
    processed_rows_s: float
    durations_ms: dict[str, int]
    positions: dict[int, int]


@dataclass(frozen=True)
class Failure:
    """A failure of the stream: its time, error and traceback."""

    at: datetime
    error: str
    trace: str


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the tables, by table name."""
    return {
        "batches": _BATCHES.format(keyspace=cql.quote_name(keyspace)),
        "failures": _FAILURES.format(keyspace=cql.quote_name(keyspace)),
    }


def create_tables(session: Session, keyspace: str) -> None:
    """Create the tables if they do not exist."""
    create_missing(session, keyspace, statements(keyspace))


class Progress:
    """The stored progress of one topic's stream."""

    def __init__(self, session: Session, keyspace: str, topic: str) -> None:
        self._session = session
        self._keyspace = keyspace
        self._topic = topic

    def keep(self, batches: Iterable[Batch]) -> None:
        """Store these batches."""
        insert = (
            f"INSERT INTO {cql.quote_name(self._keyspace)}.batches (topic, hour, began_at, batch_id, rows, "
            "input_rows_s, processed_rows_s, durations_ms, positions) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
        )
        for batch in batches:
            values = (batch.began_at, batch.batch_id, batch.rows, batch.input_rows_s, batch.processed_rows_s)
            key = self._topic, _truncate_to_hour(batch.began_at)
            self._session.execute(insert, (*key, *values, batch.durations_ms, batch.positions))

    def batches(self, most: int, now: datetime | None = None) -> list[Batch]:
        """Return the batches of the last day, newest first, at most `most`."""
        if not has_table(self._session, self._keyspace, "batches"):
            return []
        batches: list[Batch] = []
        hour = _truncate_to_hour(now or datetime.now(UTC))
        for back in range(24):
            batches += self._of_hour(hour - timedelta(hours=back), most - len(batches))
            if len(batches) >= most:
                break
        return batches

    def _of_hour(self, hour: datetime, most: int) -> Iterator[Batch]:
        query = f"SELECT * FROM {cql.quote_name(self._keyspace)}.batches WHERE topic = %s AND hour = %s LIMIT %s"
        return map(_parse_batch, self._session.execute(query, (self._topic, hour, most)))

    def failed(self, error: str, trace: str) -> None:
        """Record a failure at the current time."""
        insert = (
            f"INSERT INTO {cql.quote_name(self._keyspace)}.failures (topic, at, error, trace) VALUES (%s, %s, %s, %s)"
        )
        self._session.execute(insert, (self._topic, datetime.now(UTC), error, trace[-_TRACE_CHARACTERS:]))

    def failures(self, most: int = 10) -> list[Failure]:
        """Return the newest failures, newest first."""
        if not has_table(self._session, self._keyspace, "failures"):
            return []
        query = f"SELECT at, error, trace FROM {cql.quote_name(self._keyspace)}.failures WHERE topic = %s LIMIT %s"
        rows = self._session.execute(query, (self._topic, most))
        return [Failure(row["at"].replace(tzinfo=UTC), row["error"], row["trace"]) for row in rows]


def _truncate_to_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _parse_batch(row: dict[str, Any]) -> Batch:
    return Batch(
        batch_id=row["batch_id"],
        began_at=row["began_at"].replace(tzinfo=UTC),
        rows=row["rows"],
        input_rows_s=row["input_rows_s"],
        processed_rows_s=row["processed_rows_s"],
        durations_ms=dict(row["durations_ms"] or {}),
        positions=dict(row["positions"] or {}),
    )
