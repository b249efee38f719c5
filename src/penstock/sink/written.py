"""Cassandra's write timestamps of rows, which identify the versions of their ids."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from penstock.broker.topics import Position
from penstock.contract import cql
from penstock.sink.cassandra import has_table

_ASKED_AT_ONCE = 50


class Written(NamedTuple):
    """The write timestamp of a row in microseconds, and the Kafka position stored in the row."""

    written_us: int
    place: Position


def read_write_times(session: Session, keyspace: str, table: str, key: str, ids: Iterable[Any]) -> dict[Any, Written]:
    """Return the write timestamps of the rows of `ids` in column `key`. Ids without a row or a position are omitted."""
    wanted = [(record_id,) for record_id in ids]
    if not wanted or not has_table(session, keyspace, table):
        return {}
    name = cql.quote_name(key)
    select = session.prepare(
        f"SELECT {name}, kafka_partition, kafka_offset, WRITETIME(kafka_offset) AS written_us "
        f"FROM {cql.quote_table(keyspace, table)} WHERE {name} = ?"
    )
    answers = execute_concurrent_with_args(session, select, wanted, concurrency=_ASKED_AT_ONCE)
    return {
        row[key]: Written(row["written_us"], Position(row["kafka_partition"], row["kafka_offset"]))
        for _, rows in answers
        for row in rows
        if row["written_us"] is not None
    }
