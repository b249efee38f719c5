"""The dead-letter topic: convert a `Reject` to a message, and a message to a `DeadLetter`.

Value, key and headers are those of the dead-lettered record, byte for byte. What is wrong with it is stored in
additional headers, named after those of Kafka Connect's dead-letter queue (KIP-298).

A dead letter that is too large for the topic is sent without its value, and without key and headers if these are too
large; size, SHA-256 and position of the record are stored in its headers (`left_out`).

The topic is append-only, and a batch that is retried dead-letters the same record again. Copies have the same identity.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock import __version__, formats
from penstock.broker import headers, topics
from penstock.broker.headers import RUN
from penstock.broker.kafka import MAX_DEAD_LETTER_BYTES
from penstock.broker.omitted_value import LeftOut, shrink
from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.contract.reject import Headers, Reject
from penstock.errors import DeliveryFailed, UsageError
from penstock.log import get_logger
from penstock.pipelines import Pipeline

log = get_logger(__name__)

PREFIX = "__penstock.errors."
_SAID = (
    *(
        "topic",
        "partition",
        "offset",
        "generation",
        "stage",
        "reason",
        "rules",
        "schema.id",
        "time",
        "timestamp",
        "version",
        "format",
    ),
    *("left.out", "value.bytes", "value.sha256"),
)
HARMLESS = headers.HARMLESS | {PREFIX + name for name in _SAID}
"""Names of the headers without personal data; `message` may quote the record."""
_VERSION = __version__
_FLUSH_S = 60.0
_TEXT_CHARACTERS = 4000
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
_IDENTITY_DIGITS = 24
PLACE = re.compile("^[0-9]{1,9}:[0-9]{1,18}$")

Report = Callable[[KafkaError | None, Message], None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Original position of a dead-lettered record.

    If the producer rejected the record, the partition is -1, and the offset its number in the run, or -1 if none was
    stored.
    """

    topic: str
    generation_us: int | None
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, at `partition` and `offset` of the dead-letter topic. Key, value and headers are the record's own.

    Those that `left_out` names are missing, and are null or empty here.
    """

    partition: int
    offset: int
    origin: Origin
    stage: str
    reason: str
    rules: tuple[str, ...]
    message: str
    schema_id: int | None
    time: datetime
    version: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    left_out: LeftOut | None = None
    timestamp_ms: int | None = None
    """Kafka's timestamp of the record; None if unknown, -1 if Kafka has none."""

    @property
    def value_bytes(self) -> int:
        """Return the size of the record's value, even if it was left out."""
        return self.left_out.value_bytes if self.left_out else len(self.value or b"")

    @property
    def original(self) -> str:
        """Return the record's original position, as text."""
        if self.origin.partition < 0:
            return "nowhere in Kafka: it never got to the topic"
        return f"in {self.origin.topic}, partition {self.origin.partition} offset {self.origin.offset}"

    @property
    def place(self) -> str:
        """Return the position in the dead-letter topic, `partition:offset`, as users type it."""
        return f"{self.partition}:{self.offset}"

    @property
    def run(self) -> str:
        """Return the id of the run that produced the record; empty if no header has it."""
        return next((value.decode(errors="replace") for name, value in self.headers if name == RUN and value), "")

    @property
    def identity(self) -> str:
        """Return a text that is the same for all copies of a record, and different for any other record."""
        origin = self.origin
        if origin.partition >= 0:
            return f"{origin.topic}/{origin.generation_us or ''}/{origin.partition}/{origin.offset}"
        number = b"" if origin.offset < 0 else b"%d\0" % origin.offset
        value = self.left_out.value_sha256.encode() if self.left_out else self.value or b""
        digest = hashlib.sha256(self.run.encode() + b"\0" + number + value).hexdigest()
        return f"{origin.topic}/run/{digest[:_IDENTITY_DIGITS]}"


def letters(settings: Settings, pipeline: Pipeline, spans: list[Span] | None = None) -> Iterator[DeadLetter]:
    """Yield the letters in the pipeline's dead-letter topic, including copies; with `spans`, only from these ranges.

    Messages that are not penstock's dead letters are skipped and logged. Raises `KafkaUnreachable`, and `FormatTooNew`
    for a dead letter of a newer penstock.
    """
    topic = pipeline.dead_letter_topic
    strangers = 0
    for message in topics.read_records(settings, topic, topics.spans(settings, topic) if spans is None else spans):
        letter = letter_of(message)
        if letter is not None:
            yield letter
        else:
            strangers += 1
            if strangers == 1:
                log.warning("no_dead_letter", topic=topic, partition=message.partition(), offset=message.offset())
    if strangers:
        log.warning("no_dead_letters", topic=topic, records=strangers)


def letters_at(settings: Settings, pipeline: Pipeline, places: Iterable[str]) -> dict[str, DeadLetter]:
    """Return the dead letters at `places`, by place, omitting empty places. Raises `UsageError` for an invalid one."""
    wanted: dict[int, set[int]] = defaultdict(set)
    for place in places:
        partition, offset = _parse_position(place)
        wanted[partition].add(offset)
    spans = [
        Span(one.partition, max(one.first, min(offsets)), min(one.end, max(offsets) + 1))
        for one in topics.spans(settings, pipeline.dead_letter_topic)
        if (offsets := wanted.get(one.partition))
    ]
    found = letters(settings, pipeline, [span for span in spans if span.records > 0])
    return {letter.place: letter for letter in found if letter.offset in wanted[letter.partition]}


def _parse_position(place: str) -> tuple[int, int]:
    if not PLACE.fullmatch(place):
        raise UsageError(f"{place!r} is no place: it is PARTITION:OFFSET, as in 0:17", hint="./penstock dlq list --all")
    partition, _, offset = place.partition(":")
    return int(partition), int(offset)


def nowhere(settings: Settings, pipeline: Pipeline, what: str) -> UsageError:
    """Return the error for no dead letter at `what`; it lists the available positions."""
    topic = pipeline.dead_letter_topic
    held = [f"{one.partition}:{one.first} to {one.end - 1}" for one in topics.spans(settings, topic) if one.records]
    return UsageError(
        f"no rejected record lies at {what}; {topic} holds {', '.join(held) or 'none'}",
        hint="./penstock dlq list --all",
    )


def letter_of(message: Message) -> DeadLetter | None:
    """Return the dead letter in a message; None if its headers are not those of a dead letter.

    Raises `FormatTooNew`.
    """
    said = facts(message)
    try:
        _check_format(said, message)
        generation, schema_id = said.get("generation"), said.get("schema.id")
        return DeadLetter(
            partition=message.partition(),
            offset=message.offset(),
            origin=Origin(
                said["topic"], int(generation) if generation else None, int(said["partition"]), int(said["offset"])
            ),
            stage=said["stage"],
            reason=said["reason"],
            rules=tuple(filter(None, said.get("rules", "").split(","))),
            message=said.get("message", ""),
            schema_id=int(schema_id) if schema_id else None,
            time=datetime.fromisoformat(said["time"]).astimezone(UTC),
            version=said.get("version", ""),
            key=message.key(),
            value=message.value(),
            headers=[(name, value) for name, value in message.headers() or [] if not name.startswith(PREFIX)],
            left_out=LeftOut.of_facts(said),
            timestamp_ms=int(said["timestamp"]) if said.get("timestamp") else None,
        )
    except (KeyError, ValueError):
        return None


def _check_format(said: dict[str, str], message: Message) -> None:
    where = f"{message.topic()} {message.partition()}:{message.offset()}"
    formats.check_version(formats.DEAD_LETTER, int(said.get("format", "1")), where, said.get("version", ""))


def first_copies(found: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
    """Yield the first copy of each record, in the order received."""
    seen: set[str] = set()
    for letter in found:
        identity = letter.identity
        if identity not in seen:
            seen.add(identity)
            yield letter


def unique(found: Iterable[DeadLetter]) -> dict[str, DeadLetter]:
    """Return the first copy of each record, by identity."""
    return {letter.identity: letter for letter in first_copies(found)}


def error_headers(reject: Reject, generation_us: int | None, left_out: LeftOut | None = None) -> Headers:
    """Return the headers that say what is wrong; all values are UTF-8 text.

    `generation_us` is the timestamp base of the topic incarnation, since a recreated topic has the same offsets again.
    """
    facts = {
        "topic": reject.topic,
        "partition": reject.partition,
        "offset": reject.offset,
        "generation": "" if generation_us is None else generation_us,
        "stage": reject.fault.stage,
        "reason": reject.fault.reason,
        "message": reject.fault.message[:_TEXT_CHARACTERS],
        "rules": ",".join(reject.fault.rules)[:_TEXT_CHARACTERS],
        "schema.id": "" if reject.fault.schema_id is None else reject.fault.schema_id,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "version": _VERSION,
        "format": formats.DEAD_LETTER.version,
    } | (left_out.facts if left_out and left_out.parts else {"left.out": ""})
    if reject.timestamp_ms is not None:
        facts["timestamp"] = reject.timestamp_ms
    return [(PREFIX + name, str(value).encode(errors="backslashreplace")) for name, value in facts.items()]


def set_aside(producer: Producer, topic: str, rejects: Iterable[Reject], generation_us: int | None = None) -> int:
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
        self._hand_over(reject, error_headers(reject, self._generation_us))

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
            self._hand_over(shrunk, error_headers(shrunk, self._generation_us, left_out))
            if not self.finish():
                log.warning("dead_letter_shrunk", topic=self._topic, position=position, left_out=left_out.parts)
                return
        raise DeliveryFailed(
            f"{self._topic}: the dead letter of {position} is too large even without the record",
            hint=f"raise max.message.bytes of {self._topic} to {MAX_DEAD_LETTER_BYTES}",
        )

    def _hand_over(self, reject: Reject, said: Headers) -> None:
        report = partial(self._on_delivery, reject)
        try:
            send(self._producer, self._topic, reject.key, reject.value, [*reject.headers, *said], report)
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


def send(
    producer: Producer,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    report: Report,
    partition: int = -1,
) -> None:
    """Pass a record to the producer, which calls `report` when it is delivered or has failed.

    Without a partition, the producer chooses it by the key. Blocks while the producer's queue is full. Raises
    `DeliveryFailed` for a record that the producer does not accept.
    """
    while True:
        try:
            producer.produce(topic, value=value, key=key, headers=headers, on_delivery=report, partition=partition)
        except BufferError:
            producer.poll(0.1)
        except KafkaException as error:
            raise DeliveryFailed(f"{topic}: {error}") from error
        else:
            producer.poll(0)
            return


def facts(message: Message) -> dict[str, str]:
    """Return the error headers of a dead letter, by name without the prefix; of duplicates, the last counts."""
    return {
        name.removeprefix(PREFIX): (value or b"").decode(errors="replace")
        for name, value in message.headers() or []
        if name.startswith(PREFIX)
    }
