"""An audit: every record that lies in Kafka, looked for in the ledger, the table and the dead-letter topic.

stored    the table has a row of its id, from its offset or a later one
rejected  the dead-letter topic has it
filtered  the pipeline's transform dropped it: the ledger counts so many on its line
waiting   the ledger does not cover its offset yet
missing   the ledger covers its offset, and it is nowhere
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from confluent_kafka import Message

from penstock import pipelines
from penstock.broker import dlq, topics
from penstock.broker.registry import Registry
from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.contract.fields import key_of
from penstock.contract.reject import Fault
from penstock.pipeline.ingest import RUN_HEADER
from penstock.pipelines import Pipeline
from penstock.process.decode import Decoder
from penstock.sink import cassandra, ledger
from penstock.sink.ledger import Ledger, Line

Places = dict[Any, tuple[int, int]]
"""Partition and offset that a row came from, by id."""

_NAMED_AT_MOST = 100


class Sent(NamedTuple):
    """A record as it lies in Kafka; `id` is None when it cannot be decoded."""

    partition: int
    offset: int
    timestamp_ms: int
    id: Any


@dataclass
class Audit:
    """What became of the records of some spans."""

    produced: int = 0
    stored: int = 0
    rejected: int = 0
    filtered: int = 0
    waiting: int = 0
    missing: int = 0
    distinct_ids: int = 0
    latencies_ms: list[int] = field(default_factory=list)
    """Of each stored record: from Kafka's timestamp to the acknowledgement of the last row of its task's batch."""
    first_produced_ms: int = 0
    last_stored_ms: int = 0
    missing_records: list[dict[str, Any]] = field(default_factory=list)
    """The first hundred: partition, offset, id."""


class Auditor:
    """Audits the topic of the pipeline in force."""

    def __init__(self, settings: Settings, session: Session) -> None:
        self._settings = settings
        self._session = session
        self._pipeline: Pipeline = pipelines.of(settings)
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._decoder = Decoder(self._pipeline.record, Registry(settings))
        self._key = key_of(self._pipeline.record).name
        self._ledger: Ledger | None = None

    def _open_ledger(self) -> Ledger | None:
        topic = self._pipeline.topic
        tables = self._session.cluster.metadata.keyspaces
        if self._keyspace not in tables or "ledger" not in tables[self._keyspace].tables:
            return None
        topic_id = topics.topic_id(self._settings, topic)
        epoch_us = ledger.epoch_us(self._session, self._keyspace, topic, topic_id)
        return None if epoch_us is None else Ledger(self._session, self._keyspace, topic, epoch_us)

    def lines(self, span: Span) -> list[Line]:
        """The ledger's lines that touch `span`, in offset order; none before a job has read the topic."""
        book = self._book()
        return [] if book is None else list(book.lines(span))

    def _book(self) -> Ledger | None:
        self._ledger = self._ledger or self._open_ledger()
        return self._ledger

    def waiting(self, spans: list[Span]) -> int:
        """How many offsets of `spans` the ledger does not cover yet."""
        return sum(uncovered(span, self.lines(span)) for span in spans)

    def sent(self, spans: list[Span], run_id: str | None = None) -> list[Sent]:
        """The records in `spans`; with `run_id` those of that run alone."""
        messages = topics.records(self._settings, self._pipeline.topic, spans)
        return [self._sent(message) for message in messages if run_id is None or _run_of(message) == run_id]

    def _sent(self, message: Message) -> Sent:
        record = self._decoder.decode(message.value())
        record_id = None if isinstance(record, Fault) else getattr(record, self._key)
        return Sent(message.partition(), message.offset(), message.timestamp()[1], record_id)

    def rows(self) -> Places:
        """Where each row of the table came from: a paged scan of the whole table."""
        query = f"SELECT {self._key}, kafka_partition, kafka_offset FROM {self._keyspace}.{self._pipeline.table}"
        return {row[self._key]: _place(row) for row in self._session.execute(query)}

    def rows_of(self, ids: Iterable[Any]) -> Places:
        """Where the rows of `ids` came from; look-ups by key."""
        select = self._session.prepare(
            f"SELECT {self._key}, kafka_partition, kafka_offset "
            f"FROM {self._keyspace}.{self._pipeline.table} WHERE {self._key} = ?"
        )
        answers = execute_concurrent_with_args(self._session, select, [(one,) for one in ids], concurrency=50)
        return {row[self._key]: _place(row) for _, found in answers for row in found}

    def rejected_places(self) -> set[tuple[int, int]]:
        """Partition and offset of every record of the topic's present generation that lies in the dead-letter topic."""
        book = self._book()
        if book is None:
            return set()
        ours = (self._pipeline.topic, str(book.epoch_us))
        return {
            (int(facts["partition"]), int(facts["offset"]))
            for facts, _ in self._dead_letters()
            if (facts.get("topic"), facts.get("generation")) == ours and facts["partition"] != "-1"
        }

    def refused(self, run_id: str) -> int:
        """How many entries that run set aside before they got to the topic."""
        return sum(
            1 for facts, message in self._dead_letters() if facts["partition"] == "-1" and _run_of(message) == run_id
        )

    def _dead_letters(self) -> Iterator[tuple[dict[str, str], Message]]:
        topic = self._pipeline.dead_letter_topic
        for message in topics.records(self._settings, topic, topics.spans(self._settings, topic)):
            facts = dlq.facts(message)
            if "offset" in facts:
                yield facts, message

    def audit(self, sent: list[Sent], rows: Places) -> Audit:
        """What became of `sent`, given the `rows` of their ids."""
        result = Audit(produced=len(sent), distinct_ids=len({one.id for one in sent if one.id is not None}))
        result.first_produced_ms = min((one.timestamp_ms for one in sent), default=0)
        rejected = self.rejected_places()
        lines = {span.partition: _Lines(self.lines(span)) for span in spans_of(sent)}
        absent: Counter[tuple[int, int]] = Counter()
        for one in sent:
            line = lines[one.partition].at(one.offset)
            if (one.partition, one.offset) in rejected:
                result.rejected += 1
            elif _is_stored(one, rows):
                result.stored += 1
                _note_time(result, one, line)
            elif line is None:
                result.waiting += 1
            else:
                absent[(one.partition, line.tally.first_offset)] += 1
                _note_absent(result, one, line, absent)
        return result


def _note_time(result: Audit, one: Sent, line: Line | None) -> None:
    if line is not None:
        result.latencies_ms.append(line.tally.stored_at_ms - one.timestamp_ms)
        result.last_stored_ms = max(result.last_stored_ms, line.tally.stored_at_ms)


def _note_absent(result: Audit, one: Sent, line: Line, absent: Counter[tuple[int, int]]) -> None:
    """Count a record that is nowhere: filtered as far as its ledger line says so, missing beyond."""
    if absent[(one.partition, line.tally.first_offset)] <= line.tally.filtered:
        result.filtered += 1
        return
    result.missing += 1
    if len(result.missing_records) < _NAMED_AT_MOST:
        record_id = None if one.id is None else str(one.id)
        result.missing_records.append({"partition": one.partition, "offset": one.offset, "id": record_id})


class _Lines:
    """Ledger lines of one partition, found by offset. Lines overlap when a checkpoint was lost."""

    def __init__(self, lines: list[Line]) -> None:
        self._firsts = [line.tally.first_offset for line in lines]
        self._farthest: list[Line] = list(
            accumulate(lines, lambda *two: max(two, key=lambda line: line.tally.last_offset))
        )

    def at(self, offset: int) -> Line | None:
        at = bisect_right(self._firsts, offset) - 1
        if at < 0 or self._farthest[at].tally.last_offset < offset:
            return None
        return self._farthest[at]


def spans_of(sent: list[Sent]) -> list[Span]:
    """The smallest spans that hold `sent`, one per partition."""
    found: dict[int, Span] = {}
    for one in sent:
        span = found.get(one.partition, Span(one.partition, one.offset, one.offset + 1))
        found[one.partition] = Span(one.partition, min(span.first, one.offset), max(span.end, one.offset + 1))
    return list(found.values())


def uncovered(span: Span, lines: list[Line]) -> int:
    """How many offsets of `span` no line covers."""
    covered, at = 0, span.first
    for line in lines:
        first, end = max(at, line.tally.first_offset), min(span.end, line.tally.last_offset + 1)
        if end > first:
            covered += end - first
            at = end
    return span.records - covered


def _is_stored(one: Sent, rows: Places) -> bool:
    place = rows.get(one.id)
    return place is not None and (place[0] != one.partition or place[1] >= one.offset)


def _place(row: dict[str, Any]) -> tuple[int, int]:
    return row["kafka_partition"], row["kafka_offset"]


def _run_of(message: Message) -> str | None:
    for name, value in message.headers() or []:
        if name == RUN_HEADER and value is not None:
            return str(value, "utf-8", "replace")
    return None
