"""Dead letters as users view them: the newest, by reason and rules; and a single one with all its facts."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from cassandra.cluster import Session

from penstock import remedies
from penstock.broker import headers, topics
from penstock.broker.registry import Schemas
from penstock.broker.topics import OffsetRange
from penstock.codec.avro import AvroReaders
from penstock.codec.values import is_deep, read_fields
from penstock.codec.wire_format import split_header
from penstock.config import Settings
from penstock.contract.fault import Reason, Stage
from penstock.contract.json_numbers import encode_json
from penstock.contract.masking import MASK, hidden_bytes, mask_personal, shows_key
from penstock.contract.record import Record
from penstock.contract.violation import remove_places
from penstock.dead_letters import resolutions
from penstock.dead_letters.export import utf8
from penstock.dead_letters.message import DeadLetter, DeadLetterSummary, summarize
from penstock.dead_letters.pending import DeadLetterGroup, group_by_reason
from penstock.dead_letters.resolutions import Resolution, State, describe_resolution, state_of
from penstock.dead_letters.topic import build_not_found_error, read_dead_letters
from penstock.errors import NotFound, PenstockError, RegistryUnreachable
from penstock.monitoring.services import TIMEOUT_S
from penstock.pipelines import Pipeline
from penstock.sink import cassandra
from penstock.web.rejected import wording

NEWEST = 5000
"""Maximum number of records that are listed."""
LONGEST_S = 5.0
FRESH_S = 5.0
_FIRST_LETTERS = 500
_SHOWN_CHARACTERS = 20_000
_QUOTED = re.compile(r"'.*'|\".*\"", re.DOTALL)
UNKNOWN = "unknown"
"""The state of a record while Cassandra is unavailable."""


@dataclass(frozen=True)
class DeadLetterFilter:
    """Selects the entries that match every given criterion."""

    reason: str = ""
    rule: str = ""
    """Prefix of a violated rule's code."""
    rules: str = ""
    """Codes of all violated rules, separated by commas: exactly these."""
    state: str = ""

    def matches(self, entry: DeadLetterSummary, state: str) -> bool:
        """Return whether the entry matches."""
        return (
            self.reason in ("", entry.reason)
            and any(rule.startswith(remove_places(self.rule)) for rule in entry.rules or ("",))
            and self.rules in ("", ",".join(entry.rules))
            and self.state in ("", state)
        )


@dataclass(frozen=True)
class Listing:
    """The newest dead letters, newest first, without duplicates."""

    entries: list[DeadLetterSummary]
    lines: dict[str, Resolution]
    held: int
    """Number of messages in the dead-letter topic, including duplicates."""
    is_whole: bool
    """Whether all records were considered, not just the newest."""
    error: PenstockError | None = None
    """Why the resolution of the records is unknown; None if it is known."""

    def state(self, entry: DeadLetterSummary) -> str:
        """Return `waiting`, `redriven`, `superseded` or `discarded`; `unknown` while Cassandra is unavailable."""
        return UNKNOWN if self.error else state_of(entry.identity, self.lines)

    def groups(self) -> list[DeadLetterGroup]:
        """Return the records by reason and rules. Without a known resolution, a record counts as waiting."""
        return group_by_reason(self.entries, self.lines)

    def select(self, wanted: DeadLetterFilter) -> list[DeadLetterSummary]:
        """Return the entries that match."""
        return [entry for entry in self.entries if wanted.matches(entry, self.state(entry))]


class RejectedReader:
    """Reads the end of the dead-letter topic once, then only new dead letters. Thread-safe."""

    def __init__(self, settings: Settings, pipeline: Pipeline, newest: int = NEWEST) -> None:
        self._settings = settings.model_copy(update={"kafka_timeout_s": TIMEOUT_S})
        self._pipeline = pipeline
        self._keyspace = cassandra.keyspace_of(settings, pipeline)
        self._newest = newest
        self._lock = threading.Lock()
        self._clear_cache()

    def _clear_cache(self) -> None:
        self._entries: dict[str, DeadLetterSummary] = {}
        self._settled: dict[str, Resolution] = {}
        self._spans: list[OffsetRange] = []
        self._is_whole = True
        self._listing: Listing | None = None
        self._read_s = 0.0

    def read_listing(self, session: Callable[[], Session], max_age_s: float = FRESH_S) -> Listing:
        """Return the records as of at most `max_age_s` ago. Raises `KafkaUnreachable`."""
        with self._lock:
            if self._listing is None or time.monotonic() - self._read_s >= max_age_s:
                held = self._read_letters()
                error = self._read_states(session)
                newest = sorted(self._entries.values(), key=lambda entry: entry.time, reverse=True)
                self._listing = Listing(newest, dict(self._settled), held, self._is_whole, error)
                self._read_s = time.monotonic()
            return self._listing

    def _read_letters(self) -> int:
        """Read what is new in the topic, and return how many messages it holds."""
        spans = topics.fetch_offset_ranges(self._settings, self._pipeline.dead_letter_topic)
        ends = {span.partition: span.end for span in self._spans}
        if any(span.end < ends.get(span.partition, 0) for span in spans) or not spans:
            self._clear_cache()  # recreated
        firsts = {span.partition: span.first for span in spans}
        self._entries = {
            identity: entry
            for identity, entry in self._entries.items()
            if entry.offset >= firsts.get(entry.partition, 0)
        }
        for entry in self._iter_new_entries(
            [span for span in topics.find_new_offset_ranges(self._spans, spans) if span.records > 0]
        ):
            earlier = self._entries.get(entry.identity)
            if earlier is None or entry.time < earlier.time:
                self._entries[entry.identity] = entry
        self._spans = spans
        self._trim_entries()
        return sum(span.records for span in spans)

    def _iter_new_entries(self, spans: list[OffsetRange]) -> Iterator[DeadLetterSummary]:
        """Yield the entries in the newest part of `spans`, newest part first, for at most `LONGEST_S`."""
        deadline_s = time.monotonic() + LONGEST_S
        chosen = select_newest(spans, self._newest)
        self._is_whole = self._is_whole and chosen == spans
        last = select_newest(chosen, _FIRST_LETTERS)
        ends = {span.partition: span.first for span in last}
        before = [OffsetRange(span.partition, span.first, ends[span.partition]) for span in chosen]
        for letter in read_dead_letters(self._settings, self._pipeline, [*last, *before]) if chosen else ():
            yield summarize(letter)
            if time.monotonic() > deadline_s:
                self._is_whole = False
                return

    def _trim_entries(self) -> None:
        if len(self._entries) > self._newest:
            kept = sorted(self._entries.values(), key=lambda entry: entry.time)[-self._newest :]
            self._entries = {entry.identity: entry for entry in kept}
            self._is_whole = False

    def _read_states(self, session: Callable[[], Session]) -> PenstockError | None:
        """Query the resolution of records that may still be pending; return Cassandra's error, if any."""
        final = {
            identity: line
            for identity, line in self._settled.items()
            if line.state is not State.CLAIMED and identity in self._entries
        }
        try:
            with cassandra.translate_errors(self._settings):
                asked = self._entries.keys() - final.keys()
                states = resolutions.read_resolutions_of(session(), self._keyspace, self._pipeline.topic, asked)
        except PenstockError as error:
            return error
        self._settled = final | states
        return None

    def read_letters(self, places: Iterable[tuple[int, int]]) -> list[DeadLetter]:
        """Return the dead letters at these positions, except those that are gone. Raises `KafkaUnreachable`."""
        held = {
            span.partition: span
            for span in topics.fetch_offset_ranges(self._settings, self._pipeline.dead_letter_topic)
        }
        spans = [
            OffsetRange(partition, offset, offset + 1)
            for partition, offset in places
            if partition in held and held[partition].first <= offset < held[partition].end
        ]
        return list(read_dead_letters(self._settings, self._pipeline, spans)) if spans else []

    def read_letter(self, partition: int, offset: int) -> DeadLetter:
        """Return the dead letter at a position. Raises `NotFound`, which says where some are."""
        letters = self.read_letters([(partition, offset)])
        if not letters:
            nowhere = build_not_found_error(self._settings, self._pipeline, f"{partition}:{offset}")
            raise NotFound(nowhere.message, hint=nowhere.hint)
        return letters[0]

    def read_resolution(self, session: Session, letter: DeadLetter) -> Resolution | None:
        """Return the resolution of a record, if any. Raises `CassandraUnreachable`."""
        with cassandra.translate_errors(self._settings):
            states = resolutions.read_resolutions_of(session, self._keyspace, self._pipeline.topic, [letter.identity])
        return states.get(letter.identity)


def select_newest(spans: Sequence[OffsetRange], most: int) -> list[OffsetRange]:
    """Return the ends of the spans, at most `most` offsets in total; short spans leave their share to the others."""
    selected: dict[int, OffsetRange] = {}
    for at, span in enumerate(sorted(spans, key=lambda span: span.records)):
        taken = min(span.records, most // (len(spans) - at))
        most -= taken
        selected[span.partition] = OffsetRange(span.partition, span.end - taken, span.end)
    return [selected[span.partition] for span in spans]


@dataclass(frozen=True)
class LetterContent:
    """A record's value in displayable form: its fields, text, or bytes in hex; or none, or hidden."""

    kind: Literal["fields", "text", "hex", "none", "hidden"]
    text: str
    size_bytes: int
    frame: str = ""
    """The wire-format header in hex; empty if there is none."""
    fields: dict[str, Any] | None = None


@dataclass(frozen=True)
class DeadLetterDetails:
    """Everything known about a rejected record."""

    place: str
    partition: int
    offset: int
    identity: str
    state: str
    settled: str
    """The record's resolution, by whom and when; empty while the record is pending."""
    reason: str
    meaning: str
    broken: list[wording.BrokenRule]
    message: str
    stage: str
    time: datetime
    topic: str
    topic_partition: int
    """Partition in the topic; -1 if the record was rejected at the source."""
    topic_offset: int
    new_place: str
    """Position in the topic after redrive; empty if the record was not redriven."""
    schema_id: int | None
    run: str
    version: str
    key: str
    headers: list[tuple[str, str]]
    value: LetterContent


def describe_letter(
    letter: DeadLetter,
    line: Resolution | None,
    record: type[Record],
    schemas: Schemas,
    *,
    personal: bool,
    state: str = "",
) -> DeadLetterDetails:
    """Return all that is known about a dead letter; unless `personal`, what may be personal is hidden."""
    settled_as = state_of(letter.identity, {} if line is None else {letter.identity: line})
    return DeadLetterDetails(
        place=letter.place,
        partition=letter.partition,
        offset=letter.offset,
        identity=letter.identity,
        state=state or settled_as,
        settled="" if line is None else describe_resolution(line),
        reason=letter.reason,
        meaning=wording.reason(letter.reason),
        broken=[wording.broken(code, record) for code in letter.rules],
        message=letter.message if personal else redact_message(letter),
        stage=letter.stage,
        time=letter.time,
        topic=letter.origin.topic,
        topic_partition=letter.origin.partition,
        topic_offset=letter.origin.offset,
        new_place=str(line.place) if line is not None and line.place and settled_as == State.REDRIVEN else "",
        schema_id=letter.schema_id,
        run=letter.run,
        version=letter.version,
        key=format_key(letter.key, record, personal=personal),
        headers=[(name, _format_header(name, value, personal=personal)) for name, value in letter.headers],
        value=_build_content(letter, record, schemas, personal=personal),
    )


def redact_message(letter: DeadLetter) -> str:
    """Return the message without what it may quote from the record."""
    if letter.reason == Reason.CONTRACT_BROKEN and letter.stage == Stage.DECODE:
        return letter.message  # the contract's own wording
    raised = {Reason.AVRO_MALFORMED, Reason.PROCESSING_ERROR, Reason.MAPPING_FAILED, Reason.TRANSFORM_FAILED}
    if letter.reason in raised:
        return re.split("[:\n]", letter.message, maxsplit=1)[0]
    return _QUOTED.sub(f"'{MASK}'", letter.message)


def format_key(key: bytes | None, record: type[Record], *, personal: bool) -> str:
    """Return a Kafka key as text; unless `personal`, only a record's key, which is not personal."""
    if key is None:
        return "none"
    if not (personal or shows_key(key, record)):
        return hidden_bytes(len(key))
    return _truncate_text(_decode_text(key))


def _format_header(name: str, value: bytes | None, *, personal: bool) -> str:
    if value is None:
        return "none"
    return _truncate_text(_decode_text(value)) if personal or name in headers.HARMLESS else hidden_bytes(len(value))


def _build_content(letter: DeadLetter, record: type[Record], schemas: Schemas, *, personal: bool) -> LetterContent:
    """Return a dead letter's value as far as it can be shown, or where it is if it was left out."""
    if letter.left_out and "value" in letter.left_out.parts:
        why = f"the value was too large for the dead-letter topic; the original record is {letter.original}"
        return LetterContent("none", why, letter.value_bytes)
    return describe_value(letter.value, record, schemas, personal=personal)


def describe_value(value: bytes | None, record: type[Record], schemas: Schemas, *, personal: bool) -> LetterContent:
    """Return a value as far as it can be decoded; unless `personal`, only what the contract calls harmless is shown."""
    if not value:
        return LetterContent("none", "the value is null" if value is None else "the value is empty", 0)
    header, body = split_header(value)
    frame = header.hex(" ")
    fields: dict[str, Any] | None = None
    with suppress(RegistryUnreachable):  # the bytes are shown without it
        fields = read_fields(value, AvroReaders(schemas), record)
    if fields is not None and not is_deep(fields):
        shown = fields if personal else mask_personal(fields, record)
        return LetterContent("fields", _truncate_text(format_json(shown)), len(value), frame, shown)
    if not personal:
        return LetterContent("hidden", hidden_bytes(len(value)), len(value), frame)
    text = utf8(body)
    return LetterContent("hex" if text is None else "text", _truncate_text(_decode_text(body)), len(value), frame)


def format_json(value: Any) -> str:
    """Format a value as indented JSON."""
    return msgspec.json.format(encode_json(value), indent=2).decode()


def _decode_text(held: bytes) -> str:
    text = utf8(held)
    return held.hex(" ") if text is None else text


def _truncate_text(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}\n... truncated; export all of it with {remedies.export_dead_letters()}"
