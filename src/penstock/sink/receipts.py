"""The receipts issued for a topic, kept for 90 days. The next receipt is compared with the newest."""

import json
from datetime import datetime
from typing import Any

from cassandra.cluster import Session

from penstock import formats
from penstock.contract import cql
from penstock.sink.cassandra import create_missing, has_table

_KEPT_S = 90 * 24 * 3600
_RECEIPTS = """
CREATE TABLE IF NOT EXISTS {keyspace}.receipts (
  topic text,
  at timestamp,
  receipt text,
  PRIMARY KEY (topic, at)
) WITH CLUSTERING ORDER BY (at DESC) AND default_time_to_live = {kept_s}
"""


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by table name."""
    return {"receipts": _RECEIPTS.format(keyspace=cql.quote_name(keyspace), kept_s=_KEPT_S)}


def create_table(session: Session, keyspace: str) -> None:
    """Create the table if it does not exist."""
    create_missing(session, keyspace, statements(keyspace))


def write_receipt(session: Session, keyspace: str, topic: str, at: datetime, receipt: Any) -> None:
    """Store a receipt, a JSON object with its format version."""
    insert = f"INSERT INTO {cql.quote_name(keyspace)}.receipts (topic, at, receipt) VALUES (%s, %s, %s)"
    session.execute(insert, (topic, at, formats.encode_marked(formats.RECEIPT, receipt).decode()))


def read_latest_receipt(session: Session, keyspace: str, topic: str) -> dict[str, Any] | None:
    """Return the topic's newest receipt, or None if there is none yet. Raises `FormatTooNew`."""
    if not has_table(session, keyspace, "receipts"):
        return None
    row = session.execute(
        f"SELECT receipt FROM {cql.quote_name(keyspace)}.receipts WHERE topic = %s LIMIT 1", (topic,)
    ).one()
    if row is None:
        return None
    formats.check_marked(formats.RECEIPT, row["receipt"].encode(), f"{keyspace}.receipts, topic {topic}")
    return dict(json.loads(row["receipt"]))
