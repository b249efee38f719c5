"""Poll Kafka's offsets, the ledger and the last receipt. `Poll` alone computes the lag."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable, Session
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from penstock import pipelines
from penstock.broker.topics import NO_ID, OffsetRange
from penstock.config import Settings
from penstock.contract.failing import FailingBatch, stuck_batches
from penstock.errors import CassandraUnreachable, FormatTooNew, KafkaUnreachable
from penstock.log import get_logger
from penstock.monitoring.alerts import REJECTED_WINDOW_S
from penstock.monitoring.services import TIMEOUT_S, Connections, Services, build_checks
from penstock.monitoring.snapshot import Counts, Growth, PartitionProgress, Receipt, Snapshot
from penstock.process.checkpoint import folder_of
from penstock.sink import cassandra, ledger, receipts
from penstock.sink.failing_batches import FailingBatches
from penstock.sink.incarnation import Incarnation
from penstock.sink.ledger import Ledger

log = get_logger(__name__)

_CHANGES_S = 60.0
"""Minimum interval between reads of the marked records, where topics have no ids."""


class TopicState(NamedTuple):
    """A topic as described by Kafka. A recreated topic has a different `id`."""

    id: str
    ranges: list[OffsetRange]

    @property
    def end(self) -> int:
        """Return the sum of the partitions' end offsets: the number of records ever received."""
        return sum(offset_range.end for offset_range in self.ranges)

    @property
    def records(self) -> int:
        """Return the number of offsets that the topic holds."""
        return sum(offset_range.records for offset_range in self.ranges)


def read_topic(client: AdminClient, name: str) -> TopicState:
    """Return the current state of a topic; empty if it does not exist. Raises `KafkaException`."""
    future = client.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)[name]
    try:
        described = future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return TopicState("", [])
        raise
    partitions = sorted(partition.id for partition in described.partitions)
    firsts = _get_offsets(client, name, partitions, OffsetSpec.earliest())
    ends = _get_offsets(client, name, partitions, OffsetSpec.latest())
    return TopicState(
        str(described.topic_id),
        [OffsetRange(partition, firsts[partition][0], ends[partition][0]) for partition in partitions],
    )


def read_newest_s(client: AdminClient, name: str, ranges: Iterable[OffsetRange]) -> float | None:
    """Return the latest record timestamp, in epoch seconds, or None. Raises `KafkaException`."""
    partitions = [offset_range.partition for offset_range in ranges if offset_range.records]
    times_ms = [time_ms for _, time_ms in _get_offsets(client, name, partitions, OffsetSpec.max_timestamp()).values()]
    return max((time_ms / 1000 for time_ms in times_ms if time_ms >= 0), default=None)


def _get_offsets(client: AdminClient, name: str, partitions: list[int], spec: OffsetSpec) -> dict[int, tuple[int, int]]:
    """Return offset and timestamp in ms of what `spec` selects, per partition."""
    if not partitions:
        return {}
    futures = client.list_offsets(
        {TopicPartition(name, partition): spec for partition in partitions}, request_timeout=TIMEOUT_S
    )
    answers = {key.partition: future.result() for key, future in futures.items()}
    return {partition: (answer.offset, answer.timestamp) for partition, answer in answers.items()}


class Count(NamedTuple):
    """Counts that only grow, unless the topic or the dead-letter topic is recreated."""

    at_s: float
    received: int
    rejected: int
    reached: int | None


class Window:
    """A sliding window of counts over the last minutes, and their growth."""

    def __init__(self, length_s: float = REJECTED_WINDOW_S) -> None:
        self._length_s = length_s
        self._counts: deque[Count] = deque()
        self._topics: tuple[str, str] = ("", "")

    def add(self, topics: tuple[str, str], count: Count) -> Growth:
        """Add a count; return the growth over the window. `topics` are the ids of the topics counted.

        Other topics start a new window.
        """
        if topics != self._topics:
            self._counts.clear()
            self._topics = topics
        self._counts.append(count)
        while len(self._counts) > 1 and count.at_s - self._counts[1].at_s >= self._length_s:
            self._counts.popleft()
        first = self._counts[0]
        handled = 0 if count.reached is None or first.reached is None else count.reached - first.reached
        received = max(count.received - first.received, handled)
        return Growth(received, count.rejected - first.rejected, count.at_s - first.at_s)


class KafkaState(NamedTuple):
    """State of the topics in Kafka. `newest_s` is the timestamp of the newest record, in epoch seconds."""

    topic: TopicState
    dead_letters: TopicState
    newest_s: float | None


class CassandraState(NamedTuple):
    """State in Cassandra: the offset that the ledger reaches per partition, the ledger, and the last receipt."""

    reached: dict[int, int] | None = None
    receipt: dict[str, Any] | None = None
    """The last receipt, as stored."""
    ledger: Ledger | None = None
    change: str | None = None
    """Evidence that the topic was recreated since the job read it; empty if it was not."""
    stuck: tuple[FailingBatch, ...] | None = None
    """The batches on which the stream is stuck."""


class Poll(NamedTuple):
    """Result of a poll.

    `services` has the error of each service, or an empty string. `kafka` is None if Kafka could not be queried.
    """

    services: dict[str, str]
    kafka: KafkaState | None
    cassandra: CassandraState

    @property
    def partitions(self) -> list[PartitionProgress]:
        """Return the progress of each partition of the topic; empty if Kafka could not be queried."""
        reached = self.cassandra.reached or {}
        ranges = self.kafka.topic.ranges if self.kafka else []
        return [
            PartitionProgress(
                offset_range.partition, offset_range.first, offset_range.end, reached.get(offset_range.partition)
            )
            for offset_range in ranges
        ]

    @property
    def reached(self) -> int | None:
        """Return the sum of the offsets that the ledger reaches; None if unknown."""
        return None if self.cassandra.reached is None else sum(self.cassandra.reached.values())

    @property
    def lag_records(self) -> int | None:
        """Return the number of records that are not stored yet; None if Kafka or Cassandra could not be queried."""
        if self.kafka is None or self.cassandra.reached is None:
            return None
        return sum(partition.lag_records or 0 for partition in self.partitions)


class Poller:
    """Polls the pipeline repeatedly over persistent connections."""

    def __init__(self, settings: Settings) -> None:
        self._connections = Connections(settings)
        self._services = Services(self._connections, build_checks(settings))
        self._pipeline = pipelines.of(settings)
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._checkpoint = folder_of(settings, self._pipeline.topic)
        self._window = Window()
        self._kafka: KafkaState | None = None
        self._ledger: tuple[Session, str, Ledger] | None = None
        self._settings = settings
        self._change, self._changes_read_s = "", -_CHANGES_S

    def read_snapshot(self) -> Snapshot:
        """Return a snapshot of the pipeline. What is unknown, because a service is unavailable, is None."""
        return build_snapshot(self._pipeline.topic, self.poll(), self._window)

    def poll(self) -> Poll:
        """Poll all services once, and return their state."""
        services = self._services.read()
        kafka = None if services["kafka"] else self._read_kafka()
        try:
            stored = CassandraState() if services["cassandra"] else self._read_cassandra(kafka and kafka.topic)
        except FormatTooNew as error:
            return Poll(services | {"cassandra": error.message}, kafka, CassandraState())
        return Poll(services, kafka, stored)

    def session(self) -> Session:
        """Return the Cassandra session. Raises `CassandraUnreachable`."""
        return self._connections.session()

    def close(self) -> None:
        """Close all connections."""
        self._services.close()
        self._connections.close()

    def _read_kafka(self) -> KafkaState | None:
        client, before = self._connections.kafka, self._kafka
        try:
            topic = read_topic(client, self._pipeline.topic)
            dead_letters = read_topic(client, self._pipeline.dead_letter_topic)
            is_same = before is not None and before.topic == topic
            newest_s = (
                before.newest_s if before and is_same else read_newest_s(client, self._pipeline.topic, topic.ranges)
            )
        except KafkaException as error:
            log.debug("service_unreachable", service="kafka", error=str(error))
            return None
        self._kafka = KafkaState(topic, dead_letters, newest_s)
        return self._kafka

    def _read_cassandra(self, topic: TopicState | None) -> CassandraState:
        try:
            session = self._connections.session()
            receipt = receipts.read_latest_receipt(session, self._keyspace, self._pipeline.topic)
            reached = topic and self._read_reached_offsets(session, topic)
            open_ledger, change = (
                (self._open_ledger(session, topic.id), self._find_change(session, topic)) if topic else (None, None)
            )
            stuck = self._find_stuck_batches(session, reached or {})
            return CassandraState(reached, receipt, open_ledger, change, stuck)
        except (DriverException, NoHostAvailable, CassandraUnreachable, KafkaUnreachable) as error:
            log.debug("service_unreachable", service="cassandra", error=str(error))
            self._connections.drop_session()
            return CassandraState()

    def _find_stuck_batches(self, session: Session, reached: dict[int, int]) -> tuple[FailingBatch, ...]:
        recorded = FailingBatches(session, self._keyspace, self._pipeline.topic).read()
        return tuple(stuck_batches(recorded, self._checkpoint, reached))

    def _read_reached_offsets(self, session: Session, topic: TopicState) -> dict[int, int]:
        """Return the offset that the ledger reaches, per partition."""
        open_ledger = self._open_ledger(session, topic.id)
        return {
            offset_range.partition: offset_range.first if open_ledger is None else open_ledger.reached(offset_range)
            for offset_range in topic.ranges
        }

    def _find_change(self, session: Session, topic: TopicState) -> str:
        """Return what shows that the topic was recreated; empty if nothing does.

        Without topic ids, records are read for that, at most every `_CHANGES_S` seconds.
        """
        if topic.id != NO_ID and (not topic.id or self._open_ledger(session, topic.id)):
            return ""
        if topic.id == NO_ID and time.monotonic() - self._changes_read_s < _CHANGES_S:
            return self._change
        if not cassandra.has_table(session, self._keyspace, "generations"):
            return ""
        self._changes_read_s, self._ledger = time.monotonic(), None  # the same id may have a new incarnation
        incarnation = Incarnation(session, self._keyspace, self._settings, self._pipeline.topic)
        self._change = incarnation.find_change(topic.id)
        return self._change

    def _open_ledger(self, session: Session, topic_id: str) -> Ledger | None:
        """Return the ledger of the current topic incarnation, or None if no job has read it yet."""
        if self._ledger and self._ledger[:2] == (session, topic_id):
            return self._ledger[2]
        if not cassandra.has_table(session, self._keyspace, "generations"):
            return None
        epoch_us = ledger.read_epoch_us(session, self._keyspace, self._pipeline.topic, topic_id)
        if epoch_us is None:
            return None
        self._ledger = session, topic_id, Ledger(session, self._keyspace, self._pipeline.topic, epoch_us)
        return self._ledger[2]


def parse_receipt(stored: dict[str, Any]) -> Receipt:
    """Return the parts of a stored receipt that alerts need."""
    return Receipt(bool(stored["balanced"]), int(stored["missing"]), tuple(map(str, stored.get("warnings") or ())))


def build_snapshot(topic: str, poll: Poll, window: Window) -> Snapshot:
    """Return the snapshot that results from a poll, and advance the window."""
    kafka, stored = poll.kafka, poll.cassandra
    now = Snapshot(
        at_s=time.time(),
        topic=topic,
        services=poll.services,
        receipt=parse_receipt(stored.receipt) if stored.receipt else None,
        change=stored.change,
        stuck=stored.stuck,
    )
    if kafka is None:
        return now
    count = Count(now.at_s, kafka.topic.end, kafka.dead_letters.end, poll.reached)
    return replace(
        now,
        counts=Counts(kafka=kafka.topic.end, read=poll.reached, rejected=kafka.dead_letters.end),
        lag_records=poll.lag_records,
        partitions=poll.partitions,
        growth=window.add((kafka.topic.id, kafka.dead_letters.id), count),
        topic_records=kafka.topic.records,
        dead_letter_records=kafka.dead_letters.records,
        newest_record_s=kafka.newest_s,
    )
