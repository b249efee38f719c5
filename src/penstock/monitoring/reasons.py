"""Dead letters by reason, counted as they arrive: only what is new in the dead-letter topic is read."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka.admin import AdminClient

from penstock.broker import dlq, topics
from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.contract.reject import Reason
from penstock.monitoring.gauges import TopicGauge, read_topic
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


class Rejects:
    """Counts new dead letters, starting from the topic's end at the first poll. `summary` only grows."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings.model_copy(update={"kafka_timeout_s": _TIMEOUT_S})
        self._topic = pipeline.dead_letter_topic
        self._before: TopicGauge | None = None
        self.summary = ReasonCounts()
        self.is_done = True
        """Whether every dead letter present at the last poll is counted."""

    def follow(self, client: AdminClient) -> None:
        """Count what is new since the last poll; nothing if `KafkaException` or `KafkaUnreachable` is raised."""
        now = read_topic(client, self._topic)
        before = now if self._before is None else self._before
        known = before.spans if before.id == now.id else []
        new = _first_of(topics.beyond(known, now.spans), MOST)
        self._count_dead_letters(new)
        self._before = TopicGauge(now.id, new)
        self.is_done = [one.end for one in new] == [one.end for one in now.spans]

    def _count_dead_letters(self, new: list[Span]) -> None:
        records, value_bytes = Counter[str](), Counter[str]()
        for message in topics.read_records(self._settings, self._topic, new) if any(one.records for one in new) else ():
            said = dlq.facts(message).get("reason", "")
            reason = said if said in self.summary.records else OTHER
            records[reason] += 1
            value_bytes[reason] += len(message.value() or b"")
        self.summary.records.update(records)
        self.summary.value_bytes.update(value_bytes)


def _first_of(spans: Iterable[Span], most: int) -> list[Span]:
    """Return the beginnings of the spans, with at most `most` offsets in total."""
    found = []
    for span in spans:
        end = min(span.end, span.first + most)
        most -= end - span.first
        found.append(Span(span.partition, span.first, end))
    return found
