"""The way of one record, hop by hop with the time of each: fetched, produced, recorded, and what became of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cassandra.cluster import Session
from confluent_kafka import Message

from penstock import pipelines
from penstock.broker import frame, headers, topics
from penstock.broker.dlq import Letter
from penstock.broker.registry import Registry
from penstock.broker.topics import Place
from penstock.config import Settings
from penstock.contract.fields import from_epoch_ms, key_reader
from penstock.errors import PenstockError, WrongUse
from penstock.observe.audit import Sent
from penstock.observe.auditor import Auditor
from penstock.sink import cassandra, settled
from penstock.sink.ledger import Line


@dataclass(frozen=True)
class Hop:
    """One hop: when, and what is known of it."""

    name: str
    at: str | None
    detail: str


@dataclass(frozen=True)
class Passage:
    """A record of the id as it went through Kafka; partition and offset are None when it never got there."""

    partition: int | None
    offset: int | None
    outcome: str
    hops: list[Hop]


def trace(settings: Settings, session: Session, text: str) -> list[Passage]:
    """The passages of the records with the id `text`, in the order they were sent; the whole topic is read for them.

    Raises `WrongUse` when the text is no id.
    """
    pipeline = pipelines.of(settings)
    try:
        record_id = key_reader(pipeline.record)(text.encode())
    except ValueError as error:
        raise WrongUse(f"{text!r} is no id: {error}", hint="./penstock rows") from None
    return _Tracer(settings, session, record_id).passages()


class _Tracer:
    """Looks for one id."""

    def __init__(self, settings: Settings, session: Session, record_id: Any) -> None:
        self._settings = settings
        self._pipeline = pipelines.of(settings)
        self._id = record_id
        self._auditor = Auditor(settings, session)
        self._registry = Registry(settings)
        self._row: Place | None = self._auditor.rows_of([record_id]).places.get(record_id)
        keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._letters = self._auditor.letters()
        self._states = settled.states(session, keyspace, self._pipeline.topic)

    def passages(self) -> list[Passage]:
        refused = [self._of_refused(letter) for letter in self._letters.values() if self._is_refused(letter)]
        found = list(self._found())
        deletions = [sent for sent, _ in found if sent.is_deletion]
        return refused + [self._of_sent(sent, message, deletions) for sent, message in found]

    def _found(self) -> Iterator[tuple[Sent, Message]]:
        topic = self._pipeline.topic
        wanted = str(self._id).encode()
        for message in topics.records(self._settings, topic, topics.spans(self._settings, topic)):
            if message.key() == wanted or wanted in (message.value() or b""):
                sent = self._auditor.sent_of(message)
                if sent.id == self._id or message.key() == wanted:
                    yield sent, message

    def _is_refused(self, letter: Letter) -> bool:
        return letter.origin.partition < 0 and str(self._id).encode() in (letter.value or b"")

    def _of_refused(self, letter: Letter) -> Passage:
        return Passage(None, None, "refused", [self._rejection(letter)])

    def _of_sent(self, sent: Sent, message: Message, deletions: list[Sent]) -> Passage:
        line = self._auditor.coverage(_span(sent)).at(sent.offset)
        hops = [*self._before(message), self._produced(sent, message)]
        if line is not None:
            hops.append(_recorded(line))
        letter = next((one for one in self._letters.values() if _lay_at(one, sent)), None)
        if letter is not None:
            return Passage(sent.partition, sent.offset, "rejected", [*hops, self._rejection(letter)])
        return Passage(sent.partition, sent.offset, self._outcome(sent, line, deletions), hops)

    def _before(self, message: Message) -> Iterator[Hop]:
        fetched_ms, run = headers.text(message, headers.FETCHED), headers.text(message, headers.RUN)
        redriven = headers.text(message, headers.REDRIVEN)
        if fetched_ms is not None or run is not None:
            at = _iso(int(fetched_ms)) if fetched_ms and fetched_ms.isdigit() else None
            yield Hop("fetched", at, f"run {run}")
        if redriven is not None:
            yield Hop("redriven", None, f"made of the dead letter {redriven}")

    def _produced(self, sent: Sent, message: Message) -> Hop:
        value = message.value()
        what = "a null value" if value is None else f"{len(value)} bytes, {self._schema(value)}"
        return Hop("produced", _iso(sent.timestamp_ms), f"partition {sent.partition} offset {sent.offset}, {what}")

    def _schema(self, value: bytes) -> str:
        if not frame.is_framed(value):
            return "plain JSON"
        try:
            schema_id = frame.unpack(value)
            return f"schema {schema_id} ({', '.join(self._versions(schema_id)) or 'of no subject'})"
        except (PenstockError, ValueError) as error:
            return f"schema unknown: {error}"

    def _versions(self, schema_id: int) -> list[str]:
        """Where the registry has the schema: in the topic's own subject, or else in which."""
        found = self._registry.versions(schema_id)
        return [one for one in found if one.startswith(f"{self._pipeline.subject} ")] or found

    def _rejection(self, letter: Letter) -> Hop:
        state = settled.state_of(letter.identity, self._states)
        detail = f"{letter.reason} {','.join(letter.rules)} at {letter.stage}, dead letter {letter.place}, {state}"
        return Hop("rejected", letter.time.isoformat(timespec="milliseconds"), detail)

    def _outcome(self, sent: Sent, line: Line | None, deletions: list[Sent]) -> str:
        if self._row == Place(sent.partition, sent.offset):
            return "stored"
        if line is None and self._auditor.waiting([_span(sent)]):
            return "waiting"
        if sent.is_deletion:
            return "deleted" if self._row is None or self._row.offset > sent.offset else "missing"
        if self._row is not None and self._row.offset > sent.offset:
            return f"stored, superseded by partition {self._row.partition} offset {self._row.offset}"
        deleted_by = [one.offset for one in deletions if one.offset > sent.offset]
        if deleted_by and self._row is None:
            return f"stored, deleted by offset {deleted_by[0]}"
        return "filtered" if line is not None and line.tally.filtered else "missing"


def _span(sent: Sent) -> topics.Span:
    return topics.Span(sent.partition, sent.offset, sent.offset + 1)


def _lay_at(letter: Letter, sent: Sent) -> bool:
    return (letter.origin.partition, letter.origin.offset) == (sent.partition, sent.offset)


def _recorded(line: Line) -> Hop:
    tally = line.tally
    detail = f"micro-batch {line.batch_id} of {line.job}: offsets {tally.first_offset} to {tally.last_offset}, "
    detail += f"{tally.stored} stored, {tally.deleted} deleted, {tally.rejected} rejected, {tally.filtered} filtered"
    return Hop("recorded", _iso(tally.stored_at_ms), detail)


def _iso(moment_ms: int) -> str:
    return from_epoch_ms(moment_ms).isoformat(timespec="milliseconds")
