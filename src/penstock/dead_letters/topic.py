"""The dead-letter topic: read dead letters, and send records that were rejected.

A dead letter that is too large for the topic is sent without its value, and without key and headers if these are too
large; size, SHA-256 and position of the record are stored in its headers (`left_out`).

The topic is append-only, and a batch that is retried dead-letters the same record again. Copies have the same identity.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock import remedies
from penstock.broker import topics
from penstock.broker.kafka import MAX_DEAD_LETTER_BYTES, produce_record
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.batch import Reject
from penstock.contract.record import Headers
from penstock.dead_letters.message import DeadLetter, build_error_headers, parse_message
from penstock.dead_letters.omitted_value import shrink
from penstock.errors import DeliveryFailed, UsageError
from penstock.log import get_logger
from penstock.pipelines import Pipeline

log = get_logger(__name__)

_FLUSH_S = 60.0
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
POSITION = re.compile("^[0-9]{1,9}:[0-9]{1,18}$")


def read_dead_letters(
    settings: Settings, pipeline: Pipeline, ranges: list[OffsetRange] | None = None
) -> Iterator[DeadLetter]:
    """Yield the pipeline's dead letters, including copies; with `ranges`, only those in these parts of the topic.

    Messages that are not penstock's dead letters are skipped and logged. Raises `KafkaUnreachable`, and `FormatTooNew`
    for a dead letter of a newer penstock.
    """
    topic = pipeline.dead_letter_topic
    foreign = 0
    for message in topics.read_records(
        settings, topic, topics.fetch_offset_ranges(settings, topic) if ranges is None else ranges
    ):
        letter = parse_message(message)
        if letter is not None:
            yield letter
        else:
            foreign += 1
            if foreign == 1:
                log.warning("foreign_message", topic=topic, partition=message.partition(), offset=message.offset())
    if foreign:
        log.warning("foreign_messages", topic=topic, records=foreign)


def read_dead_letters_at(settings: Settings, pipeline: Pipeline, positions: Iterable[str]) -> dict[str, DeadLetter]:
    """Return the dead letters at `positions`, by position. Raises `UsageError` for an invalid one."""
    wanted: dict[int, set[int]] = defaultdict(set)
    for position in positions:
        partition, offset = _parse_position(position)
        wanted[partition].add(offset)
    ranges = [
        OffsetRange(
            offset_range.partition, max(offset_range.first, min(offsets)), min(offset_range.end, max(offsets) + 1)
        )
        for offset_range in topics.fetch_offset_ranges(settings, pipeline.dead_letter_topic)
        if (offsets := wanted.get(offset_range.partition))
    ]
    letters = read_dead_letters(
        settings, pipeline, [offset_range for offset_range in ranges if offset_range.records > 0]
    )
    return {letter.place: letter for letter in letters if letter.offset in wanted[letter.partition]}


def _parse_position(position: str) -> tuple[int, int]:
    if not POSITION.fullmatch(position):
        raise UsageError(
            f"invalid position {position!r}: expected PARTITION:OFFSET, e.g. 0:17",
            hint=remedies.list_dead_letters(resolved=True),
        )
    partition, _, offset = position.partition(":")
    return int(partition), int(offset)


def build_not_found_error(settings: Settings, pipeline: Pipeline, what: str) -> UsageError:
    """Return the error for no dead letter at `what`; it lists the available positions."""
    topic = pipeline.dead_letter_topic
    ranges = [offset_range for offset_range in topics.fetch_offset_ranges(settings, topic) if offset_range.records]
    available = ", ".join(
        f"{offset_range.partition}:{offset_range.first} to {offset_range.partition}:{offset_range.end - 1}"
        for offset_range in ranges
    )
    return UsageError(
        f"no dead letter at {what} in {topic} (available: {available or 'none'})",
        hint=remedies.list_dead_letters(resolved=True),
    )


def send_dead_letters(
    producer: Producer, topic: str, rejects: Iterable[Reject], generation_us: int | None = None
) -> int:
    """Send `rejects` to `topic`, and return how many were acknowledged: all of them.

    A reject that is too large for the topic is sent without its value, or without key and headers too. Delivery: at
    least once; the headers topic, generation, partition and offset identify copies. Raises `DeliveryFailed`.
    """
    outbox = _Outbox(producer, topic, generation_us)
    for reject in rejects:
        outbox.send(reject)
    for reject in outbox.finish():
        outbox.send_shrunk(reject)
    return outbox.sent


class _Outbox:
    """Dead letters in flight to a topic."""

    def __init__(self, producer: Producer, topic: str, generation_us: int | None) -> None:
        self._producer, self._topic, self._generation_us = producer, topic, generation_us
        self._failures: list[str] = []
        self._too_large: list[Reject] = []
        self.sent = 0

    def send(self, reject: Reject) -> None:
        """Pass a reject to the producer, whole."""
        self.sent += 1
        self._hand_over(reject, build_error_headers(reject, self._generation_us))

    def finish(self) -> list[Reject]:
        """Wait for all delivery reports, and return the rejects that were too large.

        Raises `DeliveryFailed` for any other failure. Kafka accepts or rejects a producer's batch as a whole: a reject
        that it accepts alone may be among those returned.
        """
        left = self._producer.flush(_FLUSH_S)
        if self._failures or left:
            raise DeliveryFailed(
                f"{self._topic}: {len(self._failures) + left} of {self.sent} rejected records were not acknowledged"
                + (f"; first: {self._failures[0]}" if self._failures else "")
            )
        too_large, self._too_large = self._too_large, []
        return too_large

    def send_shrunk(self, reject: Reject) -> None:
        """Send a reject alone, with as much of its record as the topic accepts. Raises `DeliveryFailed`."""
        position = f"{reject.topic} partition {reject.partition} offset {reject.offset}"
        for shrunk, left_out in shrink(reject):
            self._hand_over(shrunk, build_error_headers(shrunk, self._generation_us, left_out))
            if not self.finish():
                log.warning("dead_letter_shrunk", topic=self._topic, position=position, left_out=left_out.parts)
                return
        raise DeliveryFailed(
            f"{self._topic}: the dead letter of {position} is too large even without the record",
            hint=f"raise max.message.bytes of {self._topic} to {MAX_DEAD_LETTER_BYTES}",
        )

    def _hand_over(self, reject: Reject, error_headers: Headers) -> None:
        report = partial(self._on_delivery, reject)
        try:
            produce_record(
                self._producer, self._topic, reject.key, reject.value, [*reject.headers, *error_headers], report
            )
        except DeliveryFailed as error:
            if not _is_too_large(error.__cause__):
                raise
            self._too_large.append(reject)

    def _on_delivery(self, reject: Reject, error: KafkaError | None, _message: Message) -> None:
        """Record a delivery report."""
        if error is not None and error.code() in _TOO_LARGE:
            self._too_large.append(reject)
        elif error is not None:
            self._failures.append(str(error))


def _is_too_large(error: BaseException | None) -> bool:
    """Return whether the producer itself rejected a message for its size."""
    return isinstance(error, KafkaException) and error.args[0].code() in _TOO_LARGE
