"""The layouts of a topic incarnation: each partition count that was observed, and where it began.

A layout is written before the first record is stored that could belong to it, and never changed, so that the stream, a
replay and a verification order records alike (`contract.order`).
"""

import time
from collections.abc import Callable, Iterable

from cassandra.cluster import Session

from penstock.broker.topics import OffsetRange
from penstock.contract import cql
from penstock.contract.order import Order, TopicLayout, find_partitioners
from penstock.log import get_logger
from penstock.sink import ledger

log = get_logger(__name__)

_LEAST_SHIFT_US = 60_000_000
"""Minimum distance of a layout's write timestamps from the last ones of the layout before, which may still grow."""
_SAMPLED, _LEAST_SAMPLED = 2000, 20
"""Number of the topic's keys sampled to detect its partitioners, and the minimum per partition."""


class Layouts:
    """The layouts of one topic incarnation, kept up to date.

    `ranges_now` returns the topic's current offset range per partition; `keys_in` the partition and key of each
    record in such ranges.
    """

    def __init__(
        self,
        session: Session,
        keyspace: str,
        topic_ledger: ledger.Ledger,
        ranges_now: Callable[[], list[OffsetRange]],
        keys_in: Callable[[list[OffsetRange]], Iterable[tuple[int, bytes | None]]],
    ) -> None:
        self._session, self._keyspace, self._ledger = session, keyspace, topic_ledger
        self._ranges_now, self._keys_in = ranges_now, keys_in
        self._known: list[TopicLayout] = []

    def observe(self, partitions: int) -> Order:
        """Add a layout if the topic's partition count is new, and return the order of records.

        Call it after a batch's end offsets are known and before any of it is written: everything read until the next
        call was then in Kafka before the topic grew any further.
        """
        if not self._known or partitions > self._known[-1].partitions:
            self._known = self._read_layouts()
            if not self._known or partitions > self._known[-1].partitions:
                self._add_layout(partitions)
        return Order(tuple(self._known))

    def _read_layouts(self) -> list[TopicLayout]:
        return ledger.read_layouts(self._session, self._keyspace, self._ledger.topic, self._ledger.epoch_us)

    def _add_layout(self, partitions: int) -> None:
        """Write one more layout, or use the one that another process has just written."""
        layout = TopicLayout(partitions) if not self._known else self._build_next_layout(partitions)
        query = (
            f"INSERT INTO {cql.quote_name(self._keyspace)}.layouts "
            "(topic, generation_us, partitions, shift_us, starts, partitioners) "
            "VALUES (%s, %s, %s, %s, %s, %s) IF NOT EXISTS"
        )
        values = (self._ledger.topic, self._ledger.epoch_us, partitions, layout.shift_us, dict(layout.starts))
        self._session.execute(query, (*values, set(layout.partitioners)))
        self._known = self._read_layouts()
        newest = self._known[-1]
        log.info(
            "layout_detected",
            topic=self._ledger.topic,
            partitions=partitions,
            shift_us=newest.shift_us,
            partitioners=sorted(newest.partitioners),
        )

    def _build_next_layout(self, partitions: int) -> TopicLayout:
        """Return the layout that follows the known ones. It begins where the ledger ends."""
        ranges = self._ranges_now()
        starts = {offset_range.partition: self._ledger.reached(offset_range) for offset_range in ranges}
        end = max((offset_range.end for offset_range in ranges), default=0)
        starts = {number: at for number, at in starts.items() if at}
        return TopicLayout(partitions, self._shift_us(end), starts, self._detect_partitioners(ranges, partitions))

    def _detect_partitioners(self, ranges: list[OffsetRange], partitions: int) -> frozenset[str]:
        """Return the partitioners that the newest keys of each partition match."""
        each = max(_LEAST_SAMPLED, _SAMPLED // len(ranges)) if ranges else 0
        newest = [
            OffsetRange(offset_range.partition, max(offset_range.first, offset_range.end - each), offset_range.end)
            for offset_range in ranges
        ]
        return find_partitioners(self._keys_in(newest), [*(layout.partitions for layout in self._known), partitions])

    def _shift_us(self, end: int) -> int:
        """Return a shift past every timestamp of the previous layout, near the current time if that is later."""
        after = self._known[-1].shift_us + end + _LEAST_SHIFT_US
        return max(after, time.time_ns() // 1000 - self._ledger.epoch_us - end)
