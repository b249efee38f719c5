"""The path of one record, stage by stage with the time of each: fetched, produced, recorded, and the outcome."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import TypeVar

from cassandra.cluster import Session
from confluent_kafka import Message

from penstock import pipelines
from penstock.broker import headers, topics
from penstock.broker.registry import Registry
from penstock.broker.topics import Position
from penstock.codec import wire_format
from penstock.config import Settings
from penstock.contract.expiry import NEVER_MS
from penstock.contract.fields import SYMBOL, TEXT, TIMESTAMP, UUID, FieldKind, from_epoch_ms, to_epoch_ms
from penstock.contract.identity import find_form, identity_of
from penstock.dead_letters import resolutions
from penstock.dead_letters.message import DeadLetter
from penstock.errors import PenstockError
from penstock.reconcile.audit import RowPlace, Sent
from penstock.reconcile.auditor import Auditor
from penstock.reconcile.excuses import Pruning
from penstock.reconcile.typed_id import parse_id_text
from penstock.sink import cassandra
from penstock.sink.ledger import LedgerEntry
from penstock.sink.written import read_expiry

T = TypeVar("T")
_VERBATIM = (TEXT, SYMBOL, UUID)
"""Types that every encoding of a record writes as the same text, unless it has escapes."""


@dataclass(frozen=True)
class TraceStep:
    """A stage of a record's path: its time, null if unknown, and details."""

    name: str
    at: str | None
    detail: str


@dataclass(frozen=True)
class Passage:
    """The path of one record with the id. `partition` and `offset` are null if the record never reached Kafka."""

    partition: int | None
    offset: int | None
    outcome: str
    hops: list[TraceStep]


def trace_record(settings: Settings, session: Session, *record_id: str) -> list[Passage]:
    """Return the passages of the records with an id, in the order they were sent, from the whole topic.

    The id is as typed (`typed_id.parse_id`). Raises `UsageError` if it is not one.
    """
    return TraceSearch(settings, session, parse_id_text(pipelines.of(settings), *record_id)).carry_out()


def trace_row(settings: Settings, session: Session, *record_id: str) -> Passage | None:
    """Return the passage of the record behind the row of an id, by a few lookups however large the topic is.

    None if there is no such row, or it comes from an earlier topic of this name. The id is as typed. Raises
    `UsageError` if it is not one.
    """
    return _Tracer(settings, session, parse_id_text(pipelines.of(settings), *record_id)).of_row()


class TraceSearch:
    """A search of the whole topic for one id. It ends at the end of the topic, after `longest_s`, or when stopped."""

    def __init__(self, settings: Settings, session: Session, text: str, longest_s: float = inf) -> None:
        self._settings, self._session = settings, session
        self._id = parse_id_text(pipelines.of(settings), text)
        self._longest_s = longest_s
        self._end_s = inf
        self._is_stopped = self._is_cut = False
        self.read = 0
        """Number of records read so far."""
        self.held = 0
        """Number of records in the topic."""
        self.is_whole = False
        """Whether all records in the topic were read."""

    def carry_out(self) -> list[Passage]:
        """Run the search, and return the passages found, in the order they were sent."""
        self._end_s = time.monotonic() + self._longest_s
        passages = _Tracer(self._settings, self._session, self._id, self.in_time).passages(self)
        self.is_whole = not self._is_cut
        return passages

    def stop(self) -> None:
        """Stop the search."""
        self._is_stopped = True

    def records(self, topic: str) -> Iterator[Message]:
        """Yield the topic's records, and count them."""
        spans = topics.fetch_offset_ranges(self._settings, topic)
        self.held = sum(span.records for span in spans)
        with closing(topics.read_records(self._settings, topic, spans)) as messages:
            for message in self.in_time(messages):
                self.read += 1
                yield message

    def in_time(self, items: Iterator[T]) -> Iterator[T]:
        """Yield what is found, until the search is stopped or its time is up."""
        for item in items:
            if self._is_stopped or time.monotonic() > self._end_s:
                self._is_cut = True
                return
            yield item


class _Tracer:
    """Traces one id, given as the text of an identity."""

    def __init__(
        self,
        settings: Settings,
        session: Session,
        record_id: str,
        in_time: Callable[[Iterator[DeadLetter]], Iterator[DeadLetter]] = iter,
    ) -> None:
        self._settings = settings
        self._session = session
        self._in_time = in_time
        self._pipeline = pipelines.of(settings)
        self._id = record_id
        self._parts = self._list_parts()
        self._auditor = Auditor(settings, session)
        self._registry = Registry(settings)
        places = (row.place for row in self._auditor.rows_of([record_id]) if row.place is not None)
        self._row: RowPlace | None = next(places, None)
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._newest_expired_from_ms = NEVER_MS

    @cached_property
    def _letters(self) -> dict[str, DeadLetter]:
        return self._auditor.letters(self._in_time)

    @cached_property
    def _states(self) -> dict[str, resolutions.Resolution]:
        return resolutions.read_resolutions(self._session, self._keyspace, self._pipeline.topic)

    def of_row(self) -> Passage | None:
        """Return the passage that ended in the row."""
        if self._row is None:
            return None
        place = self._row.place
        span = topics.OffsetRange(*place, place.offset + 1)
        line = self._auditor.coverage(span).at(place.offset)
        message = self._message_at(span)
        if message is None:
            gone = TraceStep("produced", None, f"{_format_position(place)}, no longer in Kafka (retention expired)")
            return Passage(*place, "stored", [gone, *self._iter_storage_steps(line)])
        hops = [
            *self._iter_source_steps(message),
            self._build_produced_step(self._auditor.sent_of(message), message),
            *self._iter_storage_steps(line),
        ]
        return Passage(*place, "stored", hops)

    def _message_at(self, wanted: topics.OffsetRange) -> Message | None:
        """Return the record at a position, or None if Kafka no longer holds it."""
        held = topics.fetch_offset_ranges(self._settings, self._pipeline.topic)
        if not any(span.partition == wanted.partition and span.first <= wanted.first < span.end for span in held):
            return None
        return next(topics.read_records(self._settings, self._pipeline.topic, [wanted]), None)

    def _iter_storage_steps(self, line: LedgerEntry | None) -> Iterator[TraceStep]:
        """Yield the stages of a stored record after Kafka: its ledger line, if any, and its row."""
        if line is not None:
            yield _build_recorded_step(line)
        table = self._pipeline.build_table(self._keyspace)
        detail = f"row in {self._keyspace}.{table.name}"
        expires_at = read_expiry(self._session, table, table.identity.of_text(self._id))
        if expires_at is not None:
            detail += f", expires at {expires_at.isoformat()}"
        yield TraceStep("stored", _format_time(line.summary.stored_at_ms) if line else None, detail)

    def passages(self, search: TraceSearch) -> list[Passage]:
        """Return all passages that the search finds."""
        refused = [self._of_refused(letter) for letter in self._letters.values() if self._is_refused(letter)]
        records = list(self._find_records(search))
        deletions = [sent for sent, _ in records if sent.is_deletion]
        newest = max((sent for sent, _ in records), key=lambda sent: sent.order_us, default=None)
        self._newest_expired_from_ms = NEVER_MS if newest is None else newest.expired_from_ms
        return refused + [self._of_sent(sent, message, deletions) for sent, message in records]

    def _find_records(self, search: TraceSearch) -> Iterator[tuple[Sent, Message]]:
        wanted = self._id.encode()
        for message in search.records(self._pipeline.topic):
            value = message.value()
            if value is None or message.key() == wanted or self._may_have_id(value):  # a tombstone's key has its format
                sent = self._auditor.sent_of(message)
                if sent.id == self._id or message.key() == wanted:
                    yield sent, message

    def _is_refused(self, letter: DeadLetter) -> bool:
        return letter.origin.partition < 0 and self._names_id(letter.value or b"")

    def _list_parts(self) -> list[tuple[bytes, FieldKind]]:
        """Return the text and the type of each value of the id."""
        identity = identity_of(self._pipeline.record)
        values = zip(identity.fields, identity.values_of(identity.of_text(self._id)), strict=True)
        return [(find_form(field.kind)(value).encode(), field.kind) for field, value in values]

    def _may_have_id(self, value: bytes) -> bool:
        """Return whether a record may have the id, as far as its bytes show without decoding them."""
        return b"\\" in value or all(part in value for part, kind in self._parts if kind in _VERBATIM)

    def _names_id(self, entry: bytes) -> bool:
        """Return whether an entry of the source has the id's values, except moments, which it may write otherwise."""
        parts = [part for part, kind in self._parts if kind is not TIMESTAMP]
        return bool(parts) and all(part in entry for part in parts)

    def _of_refused(self, letter: DeadLetter) -> Passage:
        held = {name: (value or b"").decode(errors="replace") for name, value in letter.headers}
        return Passage(
            None,
            None,
            "refused",
            [*_iter_fetch_steps(held.get(headers.FETCHED), letter.run), self._build_rejected_step(letter)],
        )

    def _of_sent(self, sent: Sent, message: Message, deletions: list[Sent]) -> Passage:
        line = self._auditor.coverage(_get_offset_range(sent)).at(sent.offset)
        place, hops = (
            Position(sent.partition, sent.offset),
            [*self._iter_source_steps(message), self._build_produced_step(sent, message)],
        )
        letter = next((letter for letter in self._letters.values() if _lay_at(letter, sent)), None)
        if letter is None and self._row is not None and self._row.place == place:
            return Passage(*place, "stored", [*hops, *self._iter_storage_steps(line)])
        if line is not None:
            hops.append(_build_recorded_step(line))
        if letter is not None:
            return Passage(*place, "rejected", [*hops, self._build_rejected_step(letter)])
        return Passage(*place, self._determine_outcome(sent, line, deletions), hops)

    def _iter_source_steps(self, message: Message) -> Iterator[TraceStep]:
        redriven = headers.read_text(message, headers.REDRIVEN)
        yield from _iter_fetch_steps(
            headers.read_text(message, headers.FETCHED), headers.read_text(message, headers.RUN)
        )
        if redriven is not None:
            yield TraceStep("redriven", None, f"from dead letter {redriven}")

    def _build_produced_step(self, sent: Sent, message: Message) -> TraceStep:
        value = message.value()
        what = "null value" if value is None else f"{len(value)} bytes, {self._describe_schema(value)}"
        place = Position(sent.partition, sent.offset)
        return TraceStep("produced", _format_time(sent.timestamp_ms), f"{_format_position(place)}, {what}")

    def _describe_schema(self, value: bytes) -> str:
        if not wire_format.is_framed(value):
            return "plain JSON"
        try:
            schema_id = wire_format.decode_schema_id(value)
            return f"schema {schema_id} ({', '.join(self._list_versions(schema_id)) or 'no subject'})"
        except (PenstockError, ValueError) as error:
            return f"schema unknown: {error}"

    def _list_versions(self, schema_id: int) -> list[str]:
        """Return the registry's versions of the schema: those of the topic's own subject, or else all."""
        versions = self._registry.versions(schema_id)
        return [version for version in versions if version.startswith(f"{self._pipeline.subject} ")] or versions

    def _build_rejected_step(self, letter: DeadLetter) -> TraceStep:
        state = resolutions.state_of(letter.identity, self._states)
        detail = f"{letter.reason} {','.join(letter.rules)} at {letter.stage}, dead letter {letter.place}, {state}"
        return TraceStep("rejected", letter.time.isoformat(timespec="milliseconds"), detail)

    def _determine_outcome(self, sent: Sent, line: LedgerEntry | None, deletions: list[Sent]) -> str:
        if line is None and self._auditor.waiting([_get_offset_range(sent)]):
            return "waiting"
        if sent.is_deletion:
            return "deleted" if self._row is None or sent.is_replaced_at(self._row.order_us) else "missing"
        if self._row is not None and sent.is_replaced_at(self._row.order_us):
            return f"stored, superseded by partition {self._row.partition} offset {self._row.offset}"
        deleted_by = [deletion.offset for deletion in deletions if sent.is_replaced_at(deletion.order_us)]
        if deleted_by and self._row is None:
            return f"stored, deleted by offset {deleted_by[0]}"
        return (line and self._find_excuse(sent, line)) or self._classify_absence(sent, line)

    def _find_excuse(self, sent: Sent, line: LedgerEntry) -> str:
        """Return what explains that there is neither row nor dead letter; empty if nothing does."""
        if sent.id is None:
            return "pruned" if self._is_pruned(sent, line) else ""
        if self._row is not None:
            return ""
        evidence = self._auditor.evidence
        if min(sent.expired_from_ms, self._newest_expired_from_ms) <= evidence.now_ms:
            return "expired"
        return "expired" if evidence.is_expired(line.summary.stored_at_ms) and not line.summary.filtered else ""

    def _is_pruned(self, sent: Sent, line: LedgerEntry) -> bool:
        """Return whether the dead letter of a record that cannot be decoded may have been pruned."""
        summary = line.summary
        letters = [letter for letter in self._letters.values() if letter.origin.partition == summary.partition]
        held = sum(summary.first_offset <= letter.origin.offset <= summary.last_offset for letter in letters)
        surviving = {
            (0, letter.partition)
            for letter in letters
            if letter.left_out is None
            and letter.origin.offset < summary.first_offset
            and to_epoch_ms(letter.time) <= summary.stored_at_ms
        }
        return summary.rejected > held and Pruning(self._auditor.evidence.queue_firsts, surviving).excuse(sent.key, 0)

    def _classify_absence(self, sent: Sent, line: LedgerEntry | None) -> str:
        if line is not None and line.summary.filtered:
            return "filtered"
        missing = {"partition": sent.partition, "offset": sent.offset, "id": sent.id, "why": ""}
        return "accepted" if self._auditor.evidence.accepts("missing", missing) else "missing"


def _iter_fetch_steps(at_ms: str | None, run: str | None) -> Iterator[TraceStep]:
    if at_ms or run:
        yield TraceStep("fetched", _format_time(int(at_ms)) if at_ms and at_ms.isdecimal() else None, f"run {run}")


def _format_position(place: Position) -> str:
    return f"partition {place.partition} offset {place.offset}"


def _get_offset_range(sent: Sent) -> topics.OffsetRange:
    return topics.OffsetRange(sent.partition, sent.offset, sent.offset + 1)


def _lay_at(letter: DeadLetter, sent: Sent) -> bool:
    return (letter.origin.partition, letter.origin.offset) == (sent.partition, sent.offset)


def _build_recorded_step(line: LedgerEntry) -> TraceStep:
    summary = line.summary
    detail = f"micro-batch {line.batch_id} of {line.job}: offsets {summary.first_offset} to {summary.last_offset}, "
    detail += (
        f"{summary.stored} stored, {summary.deleted} deleted, {summary.rejected} rejected, {summary.filtered} filtered"
    )
    return TraceStep("recorded", _format_time(summary.stored_at_ms), detail)


def _format_time(moment_ms: int) -> str:
    return from_epoch_ms(moment_ms).isoformat(timespec="milliseconds")
