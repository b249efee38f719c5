"""The table of batches that keep failing: one row per checkpoint, deleted when its batch succeeds."""

from datetime import UTC
from typing import Any

from cassandra.cluster import Session

from penstock.contract import cql
from penstock.contract.failing import FailingBatch
from penstock.sink.cassandra import has_table

TABLE = "failing_batches"
_FAILING = """
CREATE TABLE IF NOT EXISTS {keyspace}.failing_batches (
  topic text,
  checkpoint text,
  batch_id bigint,
  first_offsets map<int, bigint>,
  end_offsets map<int, bigint>,
  failures int,
  first_at timestamp,
  last_at timestamp,
  state text,
  cause text,
  message text,
  PRIMARY KEY (topic, checkpoint)
)
"""


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by table name."""
    return {TABLE: _FAILING.format(keyspace=cql.quote_name(keyspace))}


class FailingBatches:
    """The failing batches of one topic."""

    def __init__(self, session: Session, keyspace: str, topic: str) -> None:
        self._session = session
        self._keyspace = keyspace
        self._table = f"{cql.quote_name(keyspace)}.{TABLE}"
        self._topic = topic

    def read(self) -> list[FailingBatch]:
        """Return every failing batch that has not been resolved."""
        if not has_table(self._session, self._keyspace, TABLE):
            return []
        rows = self._session.execute(f"SELECT * FROM {self._table} WHERE topic = %s", (self._topic,))
        return [_parse_batch(row) for row in rows]

    def write(self, batch: FailingBatch) -> None:
        """Write the state of a failing batch, replacing what is stored for its checkpoint."""
        insert = (
            f"INSERT INTO {self._table} (topic, checkpoint, batch_id, first_offsets, end_offsets, failures, first_at, "
            "last_at, state, cause, message) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        )
        numbers = (batch.batch_id, dict(batch.first), dict(batch.end), batch.failures)
        texts = (batch.state, batch.cause, batch.message)
        values = (self._topic, batch.checkpoint, *numbers, batch.first_at, batch.last_at, *texts)
        self._session.execute(insert, values)

    def resolve(self, checkpoint: str) -> None:
        """Delete the failing batch of a checkpoint."""
        query = f"DELETE FROM {self._table} WHERE topic = %s AND checkpoint = %s"
        self._session.execute(query, (self._topic, checkpoint))


def _parse_batch(row: dict[str, Any]) -> FailingBatch:
    return FailingBatch(
        checkpoint=row["checkpoint"],
        batch_id=row["batch_id"],
        first=dict(row["first_offsets"] or {}),
        end=dict(row["end_offsets"] or {}),
        failures=row["failures"],
        first_at=row["first_at"].replace(tzinfo=UTC),
        last_at=row["last_at"].replace(tzinfo=UTC),
        state=row["state"],
        cause=row["cause"],
        message=row["message"],
    )
