"""Topics: create them with explicit settings, read their watermarks, and their records by offset."""

import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from penstock import remedies
from penstock.broker.kafka import MAX_DEAD_LETTER_BYTES, MAX_MESSAGE_BYTES, create_admin, create_reader, translate_error
from penstock.config import Settings
from penstock.errors import KafkaUnreachable, NotFound
from penstock.log import get_logger
from penstock.pipelines import Pipeline
from penstock.retry import retry_attempts, wait_until

log = get_logger(__name__)

_SETTLING = {
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""Id of topics on brokers that do not assign ids: Kafka before 2.8, and others that speak its protocol."""
_FETCH_RECORDS = 1000
_FETCH_S = 1.0


class Position(NamedTuple):
    """A position: partition and offset."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class OffsetRange:
    """An offset range of one partition: from `first` up to, not including, `end`."""

    partition: int
    first: int
    end: int

    @property
    def records(self) -> int:
        """Return the number of offsets in the range."""
        return self.end - self.first


def topic_settings(settings: Settings, max_bytes: int = MAX_MESSAGE_BYTES, *, keeps: bool = False) -> dict[str, str]:
    """Return the settings of a topic that penstock creates, for messages of at most `max_bytes`.

    With `keeps`, retention is unlimited. Stored uncompressed: Kafka measures messages as it stores them, and a small
    compressed message could exceed Spark's memory when it is read.
    """
    return {
        "cleanup.policy": "delete",
        "compression.type": "uncompressed",
        "max.message.bytes": str(max_bytes),
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": "3600000",  # a timestamp out of Spark's range would stop the stream
        "min.insync.replicas": str(max(1, settings.kafka_replication - 1)),
        "retention.ms": "-1" if keeps else str(settings.kafka_retention_hours * 3_600_000),
    }


def ensure_pipeline_topics(settings: Settings, pipeline: Pipeline) -> None:
    """Create the pipeline's topic, and its dead-letter topic, which accepts all that the topic accepts.

    Dead letters may be pending for any length of time: their topic has no retention limit.
    """
    ensure_topic(settings, pipeline.topic)
    ensure_topic(settings, pipeline.dead_letter_topic, MAX_DEAD_LETTER_BYTES, keeps=True)


def ensure_topic(settings: Settings, topic: str, max_bytes: int = MAX_MESSAGE_BYTES, *, keeps: bool = False) -> None:
    """Create `topic` unless it exists. Raises `KafkaUnreachable`.

    An existing topic is left unchanged: its partitions and settings are its owner's.
    """
    try:
        client = create_admin(settings)
        if topic not in client.list_topics(timeout=settings.kafka_timeout_s).topics:
            _create_topic(client, topic, settings, topic_settings(settings, max_bytes, keeps=keeps))
    except KafkaException as error:
        raise translate_error(error, f"creating {topic}", settings) from error


def _create_topic(client: AdminClient, topic: str, settings: Settings, config: dict[str, str]) -> None:
    new = NewTopic(topic, settings.kafka_partitions, settings.kafka_replication, config=config)
    try:
        client.create_topics([new], operation_timeout=settings.kafka_timeout_s)[topic].result()
        log.info("topic_created", topic=topic, partitions=settings.kafka_partitions)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def is_settling(error: Exception) -> bool:
    """Return whether Kafka is still propagating a new topic or a new leader to its brokers."""
    return isinstance(error, KafkaException) and error.args[0].code() in _SETTLING


def fetch_topic_id(settings: Settings, topic: str) -> str:
    """Return the topic's id, which changes if the topic is deleted and recreated (KIP-516); `NO_ID` without ids."""
    return describe_topic(create_admin(settings), topic, settings).id


class Description(NamedTuple):
    """A topic's id and partition count."""

    id: str
    partitions: int


def describe_topic(client: AdminClient, topic: str, settings: Settings) -> Description:
    """Return a broker's current description of the topic. Raises `PenstockError`, `KafkaUnreachable`."""
    try:
        for attempt in retry_attempts(is_settling, attempts=10, timeout_s=settings.kafka_timeout_s):
            with attempt:
                futures = client.describe_topics(TopicCollection([topic]), request_timeout=settings.kafka_timeout_s)
                described = futures[topic].result()
        return Description(str(described.topic_id), len(described.partitions))
    except KafkaException as error:
        raise translate_error(error, f"describing {topic}", settings) from error


def count_partitions(client: AdminClient, topic: str, settings: Settings) -> int:
    """Return the topic's current partition count, from a broker. Raises `KafkaUnreachable`."""
    try:
        metadata = client.list_topics(topic, timeout=settings.kafka_timeout_s).topics[topic]
    except KafkaException as error:
        raise translate_error(error, f"counting the partitions of {topic}", settings) from error
    if metadata.error is not None or not metadata.partitions:
        raise KafkaUnreachable(f"no partition metadata of {topic}: {metadata.error}")
    return len(metadata.partitions)


def add_partitions(settings: Settings, topic: str, more: int) -> int:
    """Add `more` partitions to the topic, and return the new count once a broker reports it. Raises `PenstockError`."""
    client = create_admin(settings)
    wanted = count_partitions(client, topic, settings) + more
    try:
        client.create_partitions([NewPartitions(topic, wanted)])[topic].result(settings.kafka_timeout_s)
    except KafkaException as error:
        raise translate_error(error, f"adding partitions to {topic}", settings) from error
    wait_until(
        lambda: _check_count(client, topic, wanted, settings),
        timeout_s=settings.kafka_timeout_s,
        what=f"the partitions of {topic}",
    )
    return wanted


def _check_count(client: AdminClient, topic: str, wanted: int, settings: Settings) -> None:
    count = count_partitions(client, topic, settings)
    if count < wanted:
        raise KafkaUnreachable(f"{topic} has {count} partitions, not {wanted}")


def fetch_offset_ranges(settings: Settings, topic: str) -> list[OffsetRange]:
    """Return the topic's current offset range per partition; empty without such a topic. Raises `KafkaUnreachable`."""
    consumer = create_reader(settings)
    try:
        partitions = _list_partitions(consumer, topic, settings)
        return [_fetch_watermarks(consumer, topic, partition, settings) for partition in partitions]
    except KafkaException as error:
        raise translate_error(error, f"reading the offsets of {topic}", settings) from error
    finally:
        consumer.close()


def fetch_existing_offset_ranges(settings: Settings, topic: str) -> list[OffsetRange]:
    """Return a topic's offset range per partition, now. Raises `NotFound` if it does not exist, `KafkaUnreachable`."""
    existing = fetch_offset_ranges(settings, topic)
    if not existing:
        raise NotFound(
            f"topic {topic!r} does not exist on Kafka at {settings.kafka_bootstrap}",
            hint=f"{remedies.start('spark-job')} creates it; is PENSTOCK_PIPELINE the one you mean? "
            f"{remedies.show_settings()}",
        )
    return existing


def find_offset_ranges_since(
    settings: Settings, topic: str, whole: list[OffsetRange], moment: datetime
) -> list[OffsetRange]:
    """Return each range in `whole` from its first record with a timestamp at or after `moment`.

    Kafka's timestamps are the producers' clocks. Raises `KafkaUnreachable`.
    """
    moment_ms = max(0, round(moment.timestamp() * 1000))  # negative timestamps have special meanings
    consumer = create_reader(settings)
    try:
        queries = [TopicPartition(topic, offset_range.partition, moment_ms) for offset_range in whole]
        answers = consumer.offsets_for_times(queries, timeout=settings.kafka_timeout_s) if queries else []
        firsts = {answer.partition: answer.offset for answer in answers if _is_found(answer)}
    except KafkaException as error:
        raise translate_error(error, f"reading the offsets of {topic} at {moment.isoformat()}", settings) from error
    finally:
        consumer.close()
    return [
        OffsetRange(
            offset_range.partition,
            min(offset_range.end, firsts.get(offset_range.partition, offset_range.end)),
            offset_range.end,
        )
        for offset_range in whole
    ]


def _is_found(answer: TopicPartition) -> bool:
    """Return whether Kafka returned an offset. Raises `KafkaException` if it returned an error."""
    if answer.error is not None:
        raise KafkaException(answer.error)
    return bool(answer.offset >= 0)


def find_new_offset_ranges(before: list[OffsetRange], now: list[OffsetRange]) -> list[OffsetRange]:
    """Return the part of each range in `now` after its partition's end in `before`; all of a new partition's."""
    ends = {offset_range.partition: offset_range.end for offset_range in before}
    return [
        OffsetRange(
            offset_range.partition, max(offset_range.first, ends.get(offset_range.partition, 0)), offset_range.end
        )
        for offset_range in now
    ]


def _list_partitions(consumer: Consumer, topic: str, settings: Settings) -> list[int]:
    """Return the topic's partitions; none if there is no such topic. Raises `KafkaException` for any other error."""
    metadata = consumer.list_topics(topic, timeout=settings.kafka_timeout_s).topics[topic]
    if metadata.error is None:
        return sorted(metadata.partitions)
    if metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return []
    raise KafkaException(metadata.error)


def _fetch_watermarks(consumer: Consumer, topic: str, partition: int, settings: Settings) -> OffsetRange:
    for attempt in retry_attempts(is_settling, attempts=10, timeout_s=settings.kafka_timeout_s):
        with attempt:
            marks = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=settings.kafka_timeout_s)
    if marks is None:
        raise KafkaUnreachable(f"no offsets of {topic}[{partition}] within {settings.kafka_timeout_s:g} s")
    return OffsetRange(partition, *marks)


def read_records(settings: Settings, topic: str, wanted: list[OffsetRange]) -> Generator[Message, None, None]:
    """Yield the topic's records in `wanted`, partition by partition, in offset order; control records are skipped.

    Records that retention deletes meanwhile are skipped too. Raises `KafkaUnreachable` if nothing arrives for
    `kafka_timeout_s`.
    """
    consumer = create_reader(settings)
    try:
        for offset_range in wanted:
            if offset_range.records:
                yield from read_offset_range(consumer, topic, offset_range, settings)
    except KafkaException as error:
        raise translate_error(error, f"reading {topic}", settings) from error
    finally:
        consumer.close()


def read_offset_range(
    consumer: Consumer, topic: str, offset_range: OffsetRange, settings: Settings
) -> Iterator[Message]:
    """Yield the records of one range, read with a `reader`. Raises `KafkaException`, `KafkaUnreachable`."""
    consumer.assign([TopicPartition(topic, offset_range.partition, offset_range.first)])
    at, heard_s = offset_range.first, time.monotonic()
    while at < offset_range.end:
        batch = consumer.consume(min(_FETCH_RECORDS, offset_range.end - at), timeout=_FETCH_S)
        heard_s = time.monotonic() if batch else heard_s
        if time.monotonic() - heard_s > settings.kafka_timeout_s:
            raise KafkaUnreachable(
                f"nothing read from {topic}[{offset_range.partition}] in {settings.kafka_timeout_s:g} s"
            )
        count = _count_records(batch, offset_range.end)
        if count:
            at = batch[count - 1].offset() + 1
            yield from batch[:count]
        if count == len(batch):
            continue
        if not _is_out_of_range(batch[count]):
            _check_end(batch[count])
            return
        at = _move_to_log_start(consumer, topic, offset_range.partition, at, settings)


def _count_records(batch: list[Message], end: int) -> int:
    """Return how many records before the offset `end` a batch begins with."""
    later = (number for number, message in enumerate(batch) if message.error() is not None or message.offset() >= end)
    return next(later, len(batch))


def read_records_at(
    consumer: Consumer, topic: str, positions: Iterable[Position], settings: Settings
) -> dict[Position, Message]:
    """Return the records at `positions`, read with a `reader`; records that Kafka no longer has are omitted.

    Records between two positions of a partition are read too. Raises `KafkaUnreachable`.
    """
    wanted: dict[int, set[int]] = defaultdict(set)
    for position in positions:
        wanted[position.partition].add(position.offset)
    messages = {}
    try:
        for partition, offsets in wanted.items():
            first = max(min(offsets), _fetch_watermarks(consumer, topic, partition, settings).first)
            for message in read_offset_range(
                consumer, topic, OffsetRange(partition, first, max(offsets) + 1), settings
            ):
                if message.offset() in offsets:
                    messages[Position(partition, message.offset())] = message
    except KafkaException as error:
        raise translate_error(error, f"reading {topic}", settings) from error
    finally:
        consumer.unassign()  # otherwise it would keep fetching
    return messages


def _is_out_of_range(message: Message) -> bool:
    """Return whether the message reports that the consumer's offset is out of the partition's range."""
    return message.error() is not None and message.error().code() == KafkaError._AUTO_OFFSET_RESET


def _move_to_log_start(consumer: Consumer, topic: str, partition: int, at: int, settings: Settings) -> int:
    """Move the consumer to the partition's log start, and return that offset.

    Raises `KafkaUnreachable` if the log start is not after `at`: then records are missing at the end of the log.
    """
    first = _fetch_watermarks(consumer, topic, partition, settings).first
    if first <= at:
        raise KafkaUnreachable(f"reading {topic}[{partition}]: Kafka has no offset {at}, the log starts at {first}")
    consumer.assign([TopicPartition(topic, partition, first)])
    return first


def _check_end(message: Message) -> None:
    """Raise `KafkaException` if the message is an error other than the end of the partition."""
    if message.error() is not None and message.error().code() != KafkaError._PARTITION_EOF:
        raise KafkaException(message.error())
