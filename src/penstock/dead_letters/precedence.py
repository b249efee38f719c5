"""The order of redriven records in their topic: their original place, and whether a newer version is stored."""

from collections.abc import Mapping
from functools import cache, cached_property
from typing import NamedTuple

from cassandra.cluster import Session

from penstock import remedies
from penstock.broker import headers, topics
from penstock.broker.topics import Position
from penstock.config import Settings
from penstock.contract.order import ONE_LAYOUT, Order
from penstock.contract.order_by import OrderBy
from penstock.dead_letters.message import DeadLetter
from penstock.dead_letters.repair import Outgoing, timestamp_of
from penstock.errors import UsageError
from penstock.pipelines import Pipeline
from penstock.sink import cassandra, ledger, table_orders
from penstock.sink.written import read_write_times

ANY_PARTITION = -1
"""Leaves the choice to the producer's partitioner."""


class Destination(NamedTuple):
    """Where a record is sent, and the write timestamp that it keeps; None: it is the newest version.

    `header` conveys that timestamp to readers of the topic; None if the record itself does.
    """

    partition: int = ANY_PARTITION
    order_us: int | None = None
    header: bytes | None = None


class Precedence:
    """Orders the redriven records of one pipeline. With `as_new` each is the newest version of its id.

    Raises `UsageError` for `as_new` if a field orders the table, because the record itself then determines its order;
    `PenstockError` if the table has another order than the pipeline declares.
    """

    def __init__(self, settings: Settings, session: Session, pipeline: Pipeline, *, as_new: bool) -> None:
        self._settings, self._session, self._pipeline = settings, session, pipeline
        self._order_by = pipeline.declared_order
        if as_new and self._order_by is not None and self._order_by.field is not None:
            name = self._order_by.field.name
            raise UsageError(
                f"--as-new changes nothing: {pipeline.table} is ordered by the field {name}, whatever is sent last",
                hint=f"{remedies.redrive_dead_letters(set_field=name)}, a later one than that of the row",
            )
        self._keyspace = cassandra.keyspace_of(settings, pipeline)
        table_orders.check_order(session, self._keyspace, pipeline)
        self._as_new = as_new
        self._order_of = cache(self._read_order)

    def destination(self, letter: DeadLetter, outgoing: Outgoing) -> Destination:
        """Return the destination of a dead letter's record.

        It returns to its own partition and keeps its place, unless it never had one or has become another record.
        """
        origin = letter.origin
        is_placed = origin.partition >= 0 and origin.topic == self._pipeline.topic and origin.generation_us is not None
        if not is_placed or not outgoing.keeps_id:
            return Destination(order_us=outgoing.order_us)
        assert origin.generation_us is not None
        if self._order_by is not None:
            return self._find_destination(letter, outgoing, self._order_by)
        order = self._order_of(origin.generation_us)
        rank = order.rank_of(
            origin.partition,
            origin.offset,
            letter.key,
            headers.read_order(letter.headers),
            epoch_us=origin.generation_us,
        )
        is_current = origin.generation_us == self._epoch_us
        partition = origin.partition if is_current else ANY_PARTITION
        if not self._as_new:
            order_us = origin.generation_us + rank.shift_us + origin.offset
            return Destination(partition, order_us, b"%d" % order_us)
        is_newest_layout = rank.layout == len(order.layouts) - 1
        return Destination(partition if is_newest_layout else ANY_PARTITION)

    def _find_destination(self, letter: DeadLetter, outgoing: Outgoing, order_by: OrderBy) -> Destination:
        """Return the destination of a record ordered by Kafka's timestamp or a field, whose partition does not matter.

        If a field orders the table, a tombstone keeps its timestamp: the pipeline's function may derive its value from
        it.
        """
        is_current = letter.origin.generation_us == self._epoch_us
        partition = letter.origin.partition if is_current else ANY_PARTITION
        kept = order_by.kept_header(timestamp_of(letter), letter.origin.offset, headers.read_order(letter.headers))
        if order_by.field is not None:
            is_tombstone = outgoing.value is None
            return Destination(partition, outgoing.order_us, kept[1] if kept and is_tombstone else None)
        return Destination(partition) if self._as_new or kept is None else Destination(partition, *kept)

    def newer(self, outgoing: Mapping[str, Outgoing], destinations: Mapping[str, Destination]) -> dict[str, Position]:
        """Return the position of the newer version of each record that has one in the table, by identity.

        A row from the record's own position counts too: Cassandra mixes the columns of two writes with equal
        timestamps.
        """
        kept = {identity: place.order_us for identity, place in destinations.items() if place.order_us is not None}
        ids = {outgoing[identity].record_id for identity in kept}
        rows = read_write_times(self._session, self._pipeline.build_table(self._keyspace), ids)
        return {
            identity: row.place
            for identity, order_us in kept.items()
            if (row := rows.get(outgoing[identity].record_id)) is not None and row.written_us >= order_us
        }

    @cached_property
    def _epoch_us(self) -> int | None:
        """Return the timestamp base of the topic's current incarnation, or None before a job has read it."""
        if not cassandra.has_table(self._session, self._keyspace, "generations"):
            return None
        topic = self._pipeline.topic
        return ledger.read_epoch_us(self._session, self._keyspace, topic, topics.fetch_topic_id(self._settings, topic))

    def _read_order(self, generation_us: int) -> Order:
        if not cassandra.has_table(self._session, self._keyspace, "layouts"):
            return ONE_LAYOUT
        layouts = ledger.read_layouts(self._session, self._keyspace, self._pipeline.topic, generation_us)
        return Order(tuple(layouts)) if layouts else ONE_LAYOUT
