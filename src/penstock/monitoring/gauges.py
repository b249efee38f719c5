"""The gauges: a snapshot of the pipeline, read from Kafka's offsets, the ledger and the last receipt."""

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
from penstock.broker.topics import NO_ID, Span
from penstock.config import Settings
from penstock.contract.failing import FailingBatch, stuck_batches
from penstock.errors import CassandraUnreachable, FormatTooNew, KafkaUnreachable
from penstock.log import get_logger
from penstock.monitoring.alerts import REJECTED_WINDOW_S, Receipt, Snapshot
from penstock.monitoring.services import TIMEOUT_S, Connections, Services, checks
from penstock.process.checkpoint import folder_of
from penstock.sink import cassandra, ledger, receipts
from penstock.sink.failing_batches import FailingBatches
from penstock.sink.incarnation import Incarnation
from penstock.sink.ledger import Ledger

log = get_logger(__name__)

_CHANGES_S = 60.0
"""Minimum interval between reads of the marked records, where topics have no ids."""


class TopicGauge(NamedTuple):
    """A topic as described by Kafka. A recreated topic has a different `id`."""

    id: str
    spans: list[Span]

    @property
    def end(self) -> int:
        """Return the sum of the partitions' end offsets: the number of records ever received."""
        return sum(span.end for span in self.spans)

    @property
    def records(self) -> int:
        """Return the number of offsets that the topic holds."""
        return sum(span.records for span in self.spans)


def read_topic(client: AdminClient, name: str) -> TopicGauge:
    """Return the current state of a topic; empty if it does not exist. Raises `KafkaException`."""
    found = client.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)[name]
    try:
        described = found.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return TopicGauge("", [])
        raise
    partitions = sorted(one.id for one in described.partitions)
    firsts = _get_offsets(client, name, partitions, OffsetSpec.earliest())
    ends = _get_offsets(client, name, partitions, OffsetSpec.latest())
    return TopicGauge(str(described.topic_id), [Span(one, firsts[one][0], ends[one][0]) for one in partitions])


def read_newest_s(client: AdminClient, name: str, spans: Iterable[Span]) -> float | None:
    """Return the latest record timestamp, in epoch seconds, or None. Raises `KafkaException`."""
    partitions = [span.partition for span in spans if span.records]
    times_ms = [time_ms for _, time_ms in _get_offsets(client, name, partitions, OffsetSpec.max_timestamp()).values()]
    return max((time_ms / 1000 for time_ms in times_ms if time_ms >= 0), default=None)


def _get_offsets(client: AdminClient, name: str, partitions: list[int], spec: OffsetSpec) -> dict[int, tuple[int, int]]:
    """Return offset and timestamp in ms of what `spec` selects, per partition."""
    if not partitions:
        return {}
    asked = client.list_offsets({TopicPartition(name, one): spec for one in partitions}, request_timeout=TIMEOUT_S)
    answers = {place.partition: found.result() for place, found in asked.items()}
    return {partition: (answer.offset, answer.timestamp) for partition, answer in answers.items()}


class Count(NamedTuple):
    """Counts that only grow, unless the topic or the dead-letter topic is recreated."""

    at_s: float
    produced: int
    rejected: int
    reached: int | None


class Window:
    """A sliding window of counts over the last minutes, and their growth."""

    def __init__(self, length_s: float = REJECTED_WINDOW_S) -> None:
        self._length_s = length_s
        self._counts: deque[Count] = deque()
        self._topics: tuple[str, str] = ("", "")

    def add(self, topics: tuple[str, str], count: Count) -> tuple[int, int, float]:
        """Add a count; return produced and rejected records, and the window's length in seconds.

        `produced` are the records received or processed, whichever are more. `topics` are the ids of the topics
        counted: other topics start a new window.
        """
        if topics != self._topics:
            self._counts.clear()
            self._topics = topics
        self._counts.append(count)
        while len(self._counts) > 1 and count.at_s - self._counts[1].at_s >= self._length_s:
            self._counts.popleft()
        first = self._counts[0]
        handled = 0 if count.reached is None or first.reached is None else count.reached - first.reached
        return max(count.produced - first.produced, handled), count.rejected - first.rejected, count.at_s - first.at_s


class Held(NamedTuple):
    """State of the topics in Kafka. `newest_s` is the timestamp of the newest record, in epoch seconds."""

    topic: TopicGauge
    dead_letters: TopicGauge
    newest_s: float | None


class Stored(NamedTuple):
    """State in Cassandra: the offset that the ledger reaches per partition, the ledger, and the last receipt."""

    reached: dict[int, int] | None = None
    receipt: dict[str, Any] | None = None
    """The last receipt, as stored."""
    book: Ledger | None = None
    change: str | None = None
    """Evidence that the topic was recreated since the job read it; empty if it was not."""
    stuck: tuple[FailingBatch, ...] | None = None
    """The batches on which the stream is stuck."""


class Look(NamedTuple):
    """Result of a poll: the error of each service, or an empty string; `held` is None if Kafka could not be queried."""

    services: dict[str, str]
    held: Held | None
    stored: Stored


class Gauges:
    """Polls the pipeline repeatedly over persistent connections."""

    def __init__(self, settings: Settings) -> None:
        self._connections = Connections(settings)
        self._services = Services(self._connections, checks(settings))
        self._pipeline = pipelines.of(settings)
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._checkpoint = folder_of(settings, self._pipeline.topic)
        self._window = Window()
        self._held: Held | None = None
        self._ledger: tuple[Session, str, Ledger] | None = None
        self._settings = settings
        self._change, self._changes_read_s = "", -_CHANGES_S

    def read(self) -> Snapshot:
        """Return a snapshot of the pipeline. What is unknown, because a service is unavailable, is None."""
        services, held, stored = self.look()
        return snapshot(self._pipeline.topic, services, held, stored, self._window)

    def look(self) -> Look:
        """Poll all services once, and return their answers."""
        services = self._services.read()
        held = None if services["kafka"] else self._from_kafka()
        try:
            stored = Stored() if services["cassandra"] else self._from_cassandra(held and held.topic)
        except FormatTooNew as error:
            return Look(services | {"cassandra": error.message}, held, Stored())
        return Look(services, held, stored)

    def session(self) -> Session:
        """Return the Cassandra session. Raises `CassandraUnreachable`."""
        return self._connections.session()

    def close(self) -> None:
        """Close all connections."""
        self._services.close()
        self._connections.close()

    def _from_kafka(self) -> Held | None:
        client, before = self._connections.kafka, self._held
        try:
            topic = read_topic(client, self._pipeline.topic)
            dead_letters = read_topic(client, self._pipeline.dead_letter_topic)
            is_same = before is not None and before.topic == topic
            newest_s = (
                before.newest_s if before and is_same else read_newest_s(client, self._pipeline.topic, topic.spans)
            )
        except KafkaException as error:
            log.debug("not_measured", service="kafka", error=str(error))
            return None
        self._held = Held(topic, dead_letters, newest_s)
        return self._held

    def _from_cassandra(self, topic: TopicGauge | None) -> Stored:
        try:
            session = self._connections.session()
            found = receipts.read_latest_receipt(session, self._keyspace, self._pipeline.topic)
            reached = topic and self._read_reached_offsets(session, topic)
            book, change = (
                (self._open_ledger(session, topic.id), self._find_change(session, topic)) if topic else (None, None)
            )
            return Stored(reached, found, book, change, self._find_stuck_batches(session, reached or {}))
        except (DriverException, NoHostAvailable, CassandraUnreachable, KafkaUnreachable) as error:
            log.debug("not_measured", service="cassandra", error=str(error))
            self._connections.drop_session()
            return Stored()

    def _find_stuck_batches(self, session: Session, reached: dict[int, int]) -> tuple[FailingBatch, ...]:
        recorded = FailingBatches(session, self._keyspace, self._pipeline.topic).read()
        return tuple(stuck_batches(recorded, self._checkpoint, reached))

    def _read_reached_offsets(self, session: Session, topic: TopicGauge) -> dict[int, int]:
        """Return the offset that the ledger reaches, per partition."""
        book = self._open_ledger(session, topic.id)
        return {span.partition: span.first if book is None else book.reached(span) for span in topic.spans}

    def _find_change(self, session: Session, topic: TopicGauge) -> str:
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


def as_receipt(found: dict[str, Any]) -> Receipt:
    """Return the parts of a stored receipt that alerts need."""
    return Receipt(bool(found["balanced"]), int(found["missing"]), tuple(map(str, found.get("warnings") or ())))


def snapshot(topic: str, services: dict[str, str], held: Held | None, stored: Stored, window: Window) -> Snapshot:
    """Return the snapshot that results from a poll, and advance the window."""
    receipt = as_receipt(stored.receipt) if stored.receipt else None
    now = Snapshot(
        at_s=time.time(), topic=topic, services=services, receipt=receipt, change=stored.change, stuck=stored.stuck
    )
    if held is None:
        return now
    reached = stored.reached
    count = Count(now.at_s, held.topic.end, held.dead_letters.end, None if reached is None else sum(reached.values()))
    produced, rejected, window_s = window.add((held.topic.id, held.dead_letters.id), count)
    return replace(
        now,
        lag_records=None if reached is None else _compute_lag(held.topic, reached),
        produced=produced,
        rejected=rejected,
        window_s=window_s,
        topic_records=held.topic.records,
        newest_record_s=held.newest_s,
    )


def _compute_lag(topic: TopicGauge, reached: dict[int, int]) -> int:
    return sum(max(0, span.end - reached[span.partition]) for span in topic.spans)
