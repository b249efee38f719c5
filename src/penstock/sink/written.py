"""Cassandra's write timestamps of rows, which identify the versions of their ids, and when rows expire."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from penstock.broker.topics import Position
from penstock.contract import cql
from penstock.contract.table import Table
from penstock.sink.cassandra import has_table

_ASKED_AT_ONCE = 50


class Written(NamedTuple):
    """The write timestamp of a row in microseconds, and the Kafka position stored in the row."""

    written_us: int
    place: Position


def read_write_times(session: Session, table: Table, ids: Iterable[Any]) -> dict[Any, Written]:
    """Return the write timestamps of the rows of `ids`. Ids without a row or a position are omitted."""
    wanted = list(ids)
    if not wanted or not has_table(session, table.keyspace, table.name):
        return {}
    select = session.prepare(
        "SELECT kafka_partition, kafka_offset, WRITETIME(kafka_offset) AS written_us "
        f"FROM {cql.render_name(table)} WHERE {cql.render_key_condition(table)}"
    )
    keys = [table.key_values(record_id) for record_id in wanted]
    answers = execute_concurrent_with_args(session, select, keys, concurrency=_ASKED_AT_ONCE)
    return {
        record_id: Written(row["written_us"], Position(row["kafka_partition"], row["kafka_offset"]))
        for record_id, (_, rows) in zip(wanted, answers, strict=True)
        for row in rows
        if row["written_us"] is not None
    }


def read_expiry(session: Session, table: Table, record_id: Any) -> datetime | None:
    """Return when the row of an id expires, to the second; None if it does not, or if there is no such row."""
    select = session.prepare(
        f"SELECT TTL(kafka_offset) AS ttl_s FROM {cql.render_name(table)} WHERE {cql.render_key_condition(table)}"
    )
    row = session.execute(select, table.key_values(record_id)).one()
    return None if row is None else add_ttl(row["ttl_s"])


def add_ttl(ttl_s: int | None) -> datetime | None:
    """Return when a cell expires whose remaining TTL was just read; None if it does not."""
    return None if ttl_s is None else datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=ttl_s)
