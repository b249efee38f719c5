"""Rows to Cassandra: upserts and deletions in unlogged batches, each of one replica set and below the server's warning.

Delivery: when `write` returns, everything is acknowledged at the session's consistency. Writing it again, in any
order, ends in the same table: the write timestamp of a row or a deletion is its place in Kafka.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain

from cassandra import DriverException, RequestExecutionException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.concurrent import execute_concurrent
from cassandra.pool import Host
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement

from penstock.contract import cql
from penstock.contract.batch import Deletion, Row
from penstock.contract.record import Record
from penstock.errors import StoreFailed

_CELL_BYTES = 16
"""What a cell weighs beside its value where the server adds up a batch: timestamp, expiry, deletion time."""
_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "B": 1}


class RowWriter:
    """Writes rows of one table through a session."""

    def __init__(
        self, session: Session, keyspace: str, table: str, row: type[Record], *, epoch_us: int, concurrency: int
    ) -> None:
        self._session = session
        self._keyspace = keyspace
        self._table = table
        self._epoch_us = epoch_us
        self._concurrency = concurrency
        self._encode = cql.encoder(row)
        self._encode_deletion = cql.delete_encoder(row)
        self._insert: PreparedStatement = session.prepare(cql.insert(keyspace, table, row))
        self._delete: PreparedStatement = session.prepare(cql.delete(keyspace, table, row))
        self._limit_bytes = batch_limit_bytes(session)

    def write(self, rows: Iterable[Row], deletions: Iterable[Deletion] = ()) -> None:
        """Store `rows` and make `deletions`; returns once all are acknowledged.

        Raises `StoreFailed` at the first that is not.
        """
        bound = chain(map(self._bind, rows), map(self._bind_deletion, deletions))
        batches = ((batch, None) for batch in self._batches(bound))
        try:
            execute_concurrent(self._session, batches, concurrency=self._concurrency, raise_on_first_error=True)
        except (DriverException, RequestExecutionException, NoHostAvailable) as error:
            raise StoreFailed(f"{self._keyspace}.{self._table}: {type(error).__name__}: {error}") from error

    def _batches(self, bound: Iterable[BoundStatement]) -> Iterator[BatchStatement]:
        for statements in self._by_replicas(bound):
            batch = BatchStatement(BatchType.UNLOGGED)
            room = self._limit_bytes
            for statement in statements:
                weight = sum(map(_weight, statement.values))
                if weight > room and len(batch):
                    yield batch
                    batch, room = BatchStatement(BatchType.UNLOGGED), self._limit_bytes
                batch.add(statement)
                room -= weight
            if len(batch):
                yield batch

    def _by_replicas(self, bound: Iterable[BoundStatement]) -> Iterable[list[BoundStatement]]:
        """The statements, those of one replica set together."""
        groups: dict[tuple[Host, ...], list[BoundStatement]] = defaultdict(list)
        replicas_of = self._session.cluster.metadata.get_replicas
        for statement in bound:
            groups[tuple(replicas_of(self._keyspace, statement.routing_key))].append(statement)
        return groups.values()

    def _bind(self, row: Row) -> BoundStatement:
        record, timestamp_ms, partition, offset = row
        statement = BoundStatement(self._insert)
        statement.values = self._encode(record, timestamp_ms, partition, offset, self._epoch_us + offset)
        return statement

    def _bind_deletion(self, one: Deletion) -> BoundStatement:
        statement = BoundStatement(self._delete)
        statement.values = self._encode_deletion(one.key, self._epoch_us + one.offset)
        return statement


def _weight(value: bytes | None) -> int:
    return _CELL_BYTES + (len(value) if value else 0)


def batch_limit_bytes(session: Session) -> int:
    """The size a batch may have before the server warns: its own `batch_size_warn_threshold`."""
    row = session.execute("SELECT value FROM system_views.settings WHERE name = 'batch_size_warn_threshold'").one()
    return _bytes(row["value"])


def _bytes(size: str) -> int:
    for unit, factor in _UNITS.items():
        if size.endswith(unit):
            return int(size.removesuffix(unit)) * factor
    return int(size)
