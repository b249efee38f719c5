"""When rows were written, by Cassandra's write timestamps: which versions of their ids they are."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from penstock.broker.topics import Place
from penstock.contract import cql
from penstock.sink.cassandra import has_table

_ASKED_AT_ONCE = 50


class Written(NamedTuple):
    """The write timestamp of a row, and the position in Kafka that it names."""

    written_us: int
    place: Place


def written(session: Session, keyspace: str, table: str, key: str, ids: Iterable[Any]) -> dict[Any, Written]:
    """Return when the rows of `ids`, of the column `key`, were written. Without a row or a position: no entry."""
    wanted = [(record_id,) for record_id in ids]
    if not wanted or not has_table(session, keyspace, table):
        return {}
    name = cql.name(key)
    select = session.prepare(
        f"SELECT {name}, kafka_partition, kafka_offset, WRITETIME(kafka_offset) AS written_us "
        f"FROM {cql.table_name(keyspace, table)} WHERE {name} = ?"
    )
    answers = execute_concurrent_with_args(session, select, wanted, concurrency=_ASKED_AT_ONCE)
    return {
        row[key]: Written(row["written_us"], Place(row["kafka_partition"], row["kafka_offset"]))
        for _, rows in answers
        for row in rows
        if row["written_us"] is not None
    }
