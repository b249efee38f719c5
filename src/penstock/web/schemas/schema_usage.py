"""The schemas that a topic's records were written with, counted in a sample, never in all of a large topic.

The sample is the oldest and the newest messages: a version that is in neither may still occur between them.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from confluent_kafka import Message

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.codec import wire_format
from penstock.config import Settings

NEWEST, OLDEST, LONGEST_S = 2000, 500, 5.0
Part = Literal["key", "value"]


@dataclass
class Use:
    """The use of a schema in one partition: the number of sampled messages with it, and the first and last of them.

    `schema_id` is null for messages without a valid wire-format header; `what` says what these are. Times are Kafka's,
    in ms since the epoch.
    """

    schema_id: int | None
    what: str
    partition: int
    messages: int
    first_offset: int
    last_offset: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True)
class SchemaUsage:
    """Result of a sample: `looked` of the `held` messages were read. `is_cut` means sampling hit its time limit."""

    topic: str
    part: Part
    held: int
    looked: int
    is_cut: bool
    seconds: float
    uses: list[Use] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Return whether every message was read."""
        return not self.is_cut and self.looked >= self.held


def parse_subject(subject: str) -> tuple[str, Part]:
    """Return the topic, and the part of its messages, that a subject is for (TopicNameStrategy)."""
    if subject.endswith("-key"):
        return subject.removesuffix("-key"), "key"
    return subject.removesuffix("-value"), "value"


def sample_schemas(settings: Settings, subject: str, longest_s: float = LONGEST_S) -> SchemaUsage:
    """Return the schemas in the subject's topic, by partition; empty if there is no such topic.

    Raises `KafkaUnreachable`.
    """
    topic, part = parse_subject(subject)
    began_s = time.monotonic()
    spans = topics.fetch_offset_ranges(settings, topic)
    sample = _Sample(began_s + longest_s)
    with closing(topics.read_records(settings, topic, select_sample(spans))) as messages:
        uses = count_schemas(sample.within(messages), part)
    held, seconds = sum(span.records for span in spans), round(time.monotonic() - began_s, 3)
    return SchemaUsage(topic, part, held, sample.looked, sample.is_cut, seconds, uses)


class _Sample:
    """Counts the messages read, and stops at a deadline."""

    def __init__(self, end_s: float) -> None:
        self._end_s = end_s
        self.looked = 0
        self.is_cut = False

    def within(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages until the time is up."""
        for self.looked, message in enumerate(messages, 1):
            yield message
            if time.monotonic() > self._end_s:
                self.is_cut = True
                return


def select_sample(spans: list[OffsetRange], newest: int = NEWEST, oldest: int = OLDEST) -> list[OffsetRange]:
    """Return the newest and the oldest offsets of each partition, an equal share for each; the newest first."""
    shares = max(1, len(spans))
    last = [OffsetRange(span.partition, max(span.first, span.end - newest // shares), span.end) for span in spans]
    before = {span.partition: span.first for span in last}
    first = [
        OffsetRange(span.partition, span.first, min(before[span.partition], span.first + oldest // shares))
        for span in spans
    ]
    return [span for span in (*last, *first) if span.records > 0]


def count_schemas(messages: Iterable[Message], part: Part = "value") -> list[Use]:
    """Count messages by schema id and partition."""
    uses: dict[tuple[int | None, str, int], Use] = {}
    for message in messages:
        schema_id, what = _identify_schema(message.value() if part == "value" else message.key())
        partition, offset, at_ms = message.partition(), message.offset(), message.timestamp()[1]
        use = uses.get((schema_id, what, partition))
        if use is None:
            uses[schema_id, what, partition] = Use(schema_id, what, partition, 1, offset, offset, at_ms, at_ms)
            continue
        use.messages += 1
        use.first_offset, use.last_offset = min(use.first_offset, offset), max(use.last_offset, offset)
        use.first_ms, use.last_ms = min(use.first_ms, at_ms), max(use.last_ms, at_ms)
    return [uses[name] for name in sorted(uses, key=lambda name: (name[0] is None, name[0] or 0, name[1:]))]


def _identify_schema(body: bytes | None) -> tuple[int | None, str]:
    """Return the schema's id, and what the body is; without a valid header the id is None."""
    if body is None:
        return None, "null"
    if not wire_format.is_framed(body):
        return None, "no header"
    try:
        return wire_format.decode_schema_id(body), "schema"
    except ValueError:
        return None, "truncated header"
