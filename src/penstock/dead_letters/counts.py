"""Dead letters by reason, counted as they arrive: only what is new in the dead-letter topic is read."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.fault import Reason
from penstock.dead_letters.message import read_error_headers
from penstock.pipelines import Pipeline

MOST = 10_000
"""Maximum number of dead letters per poll; the rest follows at the next poll."""
OTHER = "other"
"""The reason of messages that penstock did not dead-letter itself."""
_TIMEOUT_S = 5.0


@dataclass
class ReasonCounts:
    """Dead letters and the bytes of their values, by reason. Duplicates count again."""

    records: Counter[str] = field(default_factory=lambda: Counter({str(reason): 0 for reason in Reason}))
    value_bytes: Counter[str] = field(default_factory=lambda: Counter({str(reason): 0 for reason in Reason}))


class DeadLetterCounter:
    """Counts new dead letters, starting from the topic's end at the first poll. `counts` only grow."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings.model_copy(update={"kafka_timeout_s": _TIMEOUT_S})
        self._topic = pipeline.dead_letter_topic
        self._topic_id: str | None = None
        self._counted: list[OffsetRange] = []
        self.counts = ReasonCounts()
        self.is_done = True
        """Whether every dead letter present at the last poll is counted."""

    def count_new(self, topic_id: str, ranges: list[OffsetRange]) -> None:
        """Count what is new since the last poll; nothing if `KafkaUnreachable` is raised.

        `topic_id` and `ranges` describe the dead-letter topic now: a recreated topic has another id.
        """
        if self._topic_id is None:
            self._topic_id, self._counted = topic_id, ranges
        counted = self._counted if self._topic_id == topic_id else []
        new = _first_of(topics.find_new_offset_ranges(counted, ranges), MOST)
        self._count_dead_letters(new)
        self._topic_id, self._counted = topic_id, new
        self.is_done = [offset_range.end for offset_range in new] == [offset_range.end for offset_range in ranges]

    def _count_dead_letters(self, new: list[OffsetRange]) -> None:
        records, value_bytes = Counter[str](), Counter[str]()
        for message in (
            topics.read_records(self._settings, self._topic, new)
            if any(offset_range.records for offset_range in new)
            else ()
        ):
            code = read_error_headers(message).get("reason", "")
            reason = code if code in self.counts.records else OTHER
            records[reason] += 1
            value_bytes[reason] += len(message.value() or b"")
        self.counts.records.update(records)
        self.counts.value_bytes.update(value_bytes)


def _first_of(ranges: Iterable[OffsetRange], most: int) -> list[OffsetRange]:
    """Return the beginnings of the ranges, with at most `most` offsets in total."""
    beginnings = []
    for offset_range in ranges:
        end = min(offset_range.end, offset_range.first + most)
        most -= end - offset_range.first
        beginnings.append(OffsetRange(offset_range.partition, offset_range.first, end))
    return beginnings
