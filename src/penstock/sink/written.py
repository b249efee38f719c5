"""Cassandra's write timestamps of rows, which identify the versions of their ids."""

from collections.abc import Iterable
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
