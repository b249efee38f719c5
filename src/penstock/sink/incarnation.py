"""A topic's incarnation: whether Kafka's topic is the one that the ledger's newest incarnation belongs to.

Since Kafka 2.8 a broker gives each topic an id, and a recreated topic has another one. Where topics have no ids, one
record of each partition is marked by its timestamp and a checksum: a log that ends before it, or has another record
at its offset, is another log. So is a log that ends before the ledger does, whatever its id.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cassandra.cluster import Session
from confluent_kafka import Message

from penstock.broker import topics
from penstock.broker.kafka import create_reader
from penstock.broker.topics import NO_ID, OffsetRange, Position
from penstock.config import Settings
from penstock.contract import cql
from penstock.sink import ledger
from penstock.sink.cassandra import has_table

_MARKS = """
CREATE TABLE IF NOT EXISTS {keyspace}.marks (
  topic text,
  generation_us bigint,
  kafka_partition int,
  marked_offset bigint,
  timestamp_ms bigint,
  crc bigint,
  PRIMARY KEY ((topic, generation_us), kafka_partition)
)
"""
_LOOK_BACK = 10
"""Number of offsets at the end of a partition that may be transaction markers, which are not records."""


class Mark(NamedTuple):
    """A record of a topic incarnation, identified by its position, Kafka's timestamp and a CRC of key and value."""

    position: Position
    timestamp_ms: int
    crc: int

    @classmethod
    def of(cls, message: Message) -> "Mark":
        """Return the mark of a message."""
        crc = zlib.crc32(message.value() or b"", zlib.crc32(message.key() or b""))
        return cls(Position(message.partition(), message.offset()), message.timestamp()[1], crc)


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by table name."""
    return {"marks": _MARKS.format(keyspace=cql.quote_name(keyspace))}


class Incarnation:
    """The topic of a given name as the ledger knows it. Every call queries Kafka and Cassandra."""

    def __init__(self, session: Session, keyspace: str, settings: Settings, topic: str) -> None:
        self._session, self._keyspace, self._settings, self._topic = session, keyspace, settings, topic

    def find_change(self, topic_id: str) -> str:
        """Return the evidence that the topic was recreated since its newest incarnation began, or '' if there is none.

        Raises `KafkaUnreachable`.
        """
        known = self._read_incarnations()
        if NO_ID in known or not known or topic_id in known:
            return self._find_other_log(topic_id, known)
        return f"its id is {topic_id}, the ledger's topic has the id {max(known, key=lambda each: known[each])}"

    def find_other_log(self, topic_id: str) -> str:
        """Return the evidence that marked records give, as `find_change` does; '' where ids distinguish topics."""
        return self._find_other_log(topic_id, self._read_incarnations())

    def _find_other_log(self, topic_id: str, known: Mapping[str, int]) -> str:
        is_known_by_id = topic_id != NO_ID and topic_id in known
        return (
            ""
            if is_known_by_id or NO_ID not in known
            else self._find_other_record(self._read_stored_marks(known[NO_ID]))
        )

    def _read_incarnations(self) -> dict[str, int]:
        return ledger.read_generations(self._session, self._keyspace, self._topic)

    def begin_generation(self, topic_id: str, *, is_recreated: bool) -> int:
        """Return the incarnation's timestamp base, a new one if the topic was recreated or its log truncated."""
        known = self._read_incarnations()
        if not is_recreated and topic_id not in known and known.get(NO_ID, 0) == max(known.values(), default=None):
            ledger.adopt_id(self._session, self._keyspace, self._topic, known[NO_ID], topic_id)  # the broker gained ids
        epoch_us = ledger.begin_generation(
            self._session, self._keyspace, self._topic, topic_id, is_recreated=is_recreated
        )
        if topic_id == NO_ID:
            self.mark(epoch_us)
        return epoch_us

    def find_cut(self, topic_id: str) -> str:
        """Return a message naming a partition that ends before this topic's ledger does, or '' if there is none."""
        epoch_us = ledger.read_epoch_us(self._session, self._keyspace, self._topic, topic_id)
        if epoch_us is None:
            return ""
        known = ledger.read_ends(self._session, self._keyspace, self._topic, epoch_us)
        return find_cut(known, topics.fetch_offset_ranges(self._settings, self._topic))

    def _read_stored_marks(self, epoch_us: int) -> list[Mark]:
        if not has_table(self._session, self._keyspace, "marks"):
            return []
        query = f"SELECT * FROM {cql.quote_name(self._keyspace)}.marks WHERE topic = %s AND generation_us = %s"
        rows = self._session.execute(query, (self._topic, epoch_us))
        return [
            Mark(Position(row["kafka_partition"], row["marked_offset"]), row["timestamp_ms"], row["crc"])
            for row in rows
        ]

    def _find_other_record(self, marks: list[Mark]) -> str:
        if not marks:
            return ""
        ranges = topics.fetch_offset_ranges(self._settings, self._topic)
        cut = find_cut({mark.position.partition: mark.position.offset + 1 for mark in marks}, ranges)
        return cut or find_other(marks, self._read_kafka_marks(mark.position for mark in marks))

    def _read_kafka_marks(self, positions: Iterable[Position]) -> dict[Position, Mark]:
        consumer = create_reader(self._settings)
        try:
            messages = topics.read_records_at(consumer, self._topic, positions, self._settings)
        finally:
            consumer.close()
        return {position: Mark.of(message) for position, message in messages.items()}

    def mark(self, epoch_us: int) -> None:
        """Mark the newest record of each partition that has no mark, or whose marked record Kafka no longer holds.

        Call it once `find_change` has found nothing. Only topics without an id need marks.
        """
        marked = {mark.position.partition: mark.position.offset for mark in self._read_stored_marks(epoch_us)}
        ranges = [
            offset_range
            for offset_range in topics.fetch_offset_ranges(self._settings, self._topic)
            if offset_range.records
        ]
        unmarked = [
            offset_range for offset_range in ranges if marked.get(offset_range.partition, -1) < offset_range.first
        ]
        for mark in newest_marks(
            self._read_kafka_marks(position for offset_range in unmarked for position in _last_positions(offset_range))
        ):
            self._session.execute(
                f"INSERT INTO {cql.quote_name(self._keyspace)}.marks "
                "(topic, generation_us, kafka_partition, marked_offset, timestamp_ms, crc) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (self._topic, epoch_us, *mark.position, mark.timestamp_ms, mark.crc),
            )


def _last_positions(offset_range: OffsetRange) -> list[Position]:
    return [
        Position(offset_range.partition, offset)
        for offset in range(max(offset_range.first, offset_range.end - _LOOK_BACK), offset_range.end)
    ]


def newest_marks(marks: Mapping[Position, Mark]) -> list[Mark]:
    """Return the mark with the highest offset of each partition."""
    return list({position.partition: marks[position] for position in sorted(marks)}.values())


def find_cut(known: Mapping[int, int], ranges: Iterable[OffsetRange]) -> str:
    """Return a message naming a partition that is gone or ends before its known end offset, or '' if there is none."""
    ends = {offset_range.partition: offset_range.end for offset_range in ranges}
    for partition, end in sorted(known.items()):
        if ends.get(partition, 0) < end:
            return f"partition {partition} ends at {ends.get(partition, 0)}, but was read up to {end}"
    return ""


def find_other(marks: Iterable[Mark], now: Mapping[Position, Mark]) -> str:
    """Return a message naming a position whose record differs from its mark, or ''. A missing record is no evidence."""
    for mark in marks:
        current = now.get(mark.position)
        if current is not None and current != mark:
            return f"the record at {mark.position} is not the one that was read before"
    return ""
