"""Rows to Cassandra: upserts and deletions in unlogged batches, each of one replica set and below the server's warning.

Delivery: when `write` returns, everything is acknowledged at the session's consistency. Writing it again, in any
order, results in the same table: the write timestamp of a row or a deletion is its position in Kafka.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import add
from typing import NamedTuple

from cassandra import DriverException, RequestExecutionException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.concurrent import execute_concurrent
from cassandra.pool import Host

from penstock.contract import cql
from penstock.contract.batch import Decoded, Deletion, Row
from penstock.contract.isolation import isolate
from penstock.contract.table import Table
from penstock.contract.violation import Violation
from penstock.errors import StoreFailed
from penstock.sink.cassandra import grant_hint, user_type_fields
from penstock.sink.encoded import EncodedBatch, EncodedBatches, head_of
from penstock.sink.expiring import ExpiringRows, read_clock_ms, read_last_expiration

_CELL_BYTES = 16
"""Per-cell overhead in the server's batch size: timestamp, expiry, deletion time."""
_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "B": 1}

Keyed = tuple[bytes, bytes]
"""An encoded statement of a batch, preceded by the row's partition key as CQL bytes."""


class Unencodable(NamedTuple):
    """The position of a row or deletion that cannot be encoded as CQL, and why: what encoding raised, or a rule."""

    partition: int
    offset: int
    error: Exception | Violation


class RowWriter:
    """Writes rows of one table through a session, which cannot send other batches from then on."""

    def __init__(
        self,
        session: Session,
        table: Table,
        *,
        epoch_us: int,
        concurrency: int,
        leaves_unset: bool = False,
        may_tie: bool = False,
        clock_ms: Callable[[], int] = read_clock_ms,
    ) -> None:
        """Prepare the statements. `leaves_unset` omits null fields instead of writing nulls: for ids with one version.

        `may_tie`: records of one id may share a write timestamp, and only the last of them in a batch is written.
        `clock_ms` returns the current time, from which a row's TTL counts if a field makes it expire.
        """
        self._limit_bytes = batch_limit_bytes(session)
        self._session = session
        self._table = table
        self._epoch_us = epoch_us
        self._concurrency = concurrency
        cells = len(table.columns)
        insert = session.prepare(cql.render_insert(table))
        delete = session.prepare(cql.render_delete(table))
        # The driver forgets a prepared statement without references, and a restarted node asks for it again.
        self._prepared = insert, delete
        self._insert = head_of(insert.query_id, cells + (2 if table.expiry else 1))
        self._delete = head_of(delete.query_id, 1 + len(table.key))
        self._cells_bytes = cells * _CELL_BYTES
        self._may_tie, self._id = may_tie, table.identity.of
        self._key = cql.build_key_encoder(table)
        orders = user_type_fields(session, table.keyspace) if cql.list_user_types(table.row) else None
        self._encode = cql.build_encoder(table, leaves_unset=leaves_unset, orders=orders)
        self._encode_deletion = cql.build_delete_encoder(table)
        self._clock_ms = clock_ms
        self._expiring: ExpiringRows | None = None
        if table.expiry is not None:
            self._expiring = ExpiringRows(table.expiry, table.identity, read_last_expiration(session))
        session.client_protocol_handler = EncodedBatches

    def write(self, batch: Decoded) -> list[Unencodable]:
        """Store a batch's rows and deletions, wait until they are acknowledged, and return the unencodable ones.

        A row that has expired by a field is stored as a deletion. Raises `StoreFailed` at the first statement that is
        not acknowledged.
        """
        rows, deletions = batch.resolve_ties(self._id) if self._may_tie else (batch.rows, batch.deletions)
        refused: list[Unencodable] = []
        now_ms = self._clock_ms()
        if self._expiring is not None:
            rows, expired, unexpirable = self._expiring.sort(rows, now_ms)
            deletions = deletions + expired
            refused = [Unencodable(*row[2:], violation) for row, violation in unexpirable]
        inserts, bad_rows = isolate(rows, lambda some: list(self._iter_inserts(batch, some, now_ms)))
        deletes, bad_deletions = isolate(
            deletions, lambda some: list(self._iter_deletes(some, self._times_us(batch, some)))
        )
        batches = ((batch, None) for batch in self._iter_batches(inserts + deletes))
        try:
            execute_concurrent(self._session, batches, concurrency=self._concurrency, raise_on_first_error=True)
        except (DriverException, RequestExecutionException, NoHostAvailable) as error:
            message = f"{self._table.keyspace}.{self._table.name}: {type(error).__name__}: {error}"
            raise StoreFailed(message, hint=grant_hint(error)) from error
        return refused + [Unencodable(*item[2:], error) for item, error in (*bad_rows, *bad_deletions)]

    def _times_us(self, batch: Decoded, items: Sequence[Row | Deletion]) -> list[int]:
        return batch.write_times_us(items, self._epoch_us)

    def _iter_inserts(self, batch: Decoded, rows: Sequence[Row], now_ms: int) -> Iterator[Keyed]:
        keys = (self._key(row[0]) for row in rows)
        values = self._encode(rows, self._times_us(batch, rows))
        if self._expiring is not None:
            values = map(add, values, self._expiring.encode_ttls(rows, now_ms))
        return zip(keys, map(self._insert.__add__, values), strict=True)

    def _iter_deletes(self, deletions: Sequence[Deletion], times_us: Sequence[int]) -> Iterator[Keyed]:
        for deletion, written_us in zip(deletions, times_us, strict=True):
            values = self._encode_deletion(deletion.key, written_us)
            yield self._table.routing_key(deletion.key), self._delete + values

    def _iter_batches(self, keyed: list[Keyed]) -> Iterator[EncodedBatch]:
        for group in self._by_replicas(keyed):
            begun, room = 0, self._limit_bytes
            for at, (_, statement) in enumerate(group):
                weight = self._cells_bytes + len(statement)
                if weight > room and at > begun:
                    yield self._build_batch(group[begun:at])
                    begun, room = at, self._limit_bytes
                room -= weight
            if group:
                yield self._build_batch(group[begun:])

    def _build_batch(self, keyed: list[Keyed]) -> EncodedBatch:
        return EncodedBatch((statement for _, statement in keyed), self._table.keyspace, keyed[0][0])

    def _by_replicas(self, keyed: list[Keyed]) -> Iterable[list[Keyed]]:
        """Group the statements by replica set. With a single node there is one group."""
        metadata = self._session.cluster.metadata
        if len(metadata.all_hosts()) == 1:
            return [keyed]
        groups: dict[tuple[Host, ...], list[Keyed]] = defaultdict(list)
        for statement in keyed:
            groups[tuple(metadata.get_replicas(self._table.keyspace, statement[0]))].append(statement)
        return groups.values()


def batch_limit_bytes(session: Session) -> int:
    """Return the largest batch that causes no server warning, in bytes: the server's `batch_size_warn_threshold`."""
    row = session.execute("SELECT value FROM system_views.settings WHERE name = 'batch_size_warn_threshold'").one()
    return _parse_size(row["value"])


def _parse_size(size: str) -> int:
    for unit, factor in _UNITS.items():
        if size.endswith(unit):
            return int(size.removesuffix(unit)) * factor
    return int(size)
