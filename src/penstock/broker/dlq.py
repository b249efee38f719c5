"""The dead-letter topic: a reject as a message, and a message as a letter.

Value, key and headers are those of the record that was set aside, byte for byte; what is wrong with it stands in
headers of its own, named after those of Kafka Connect's dead-letter queue (KIP-298).

The topic is append-only, and a batch that is done again sets the same record aside again. Copies have one identity.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock.broker import headers, topics
from penstock.broker.headers import RUN
from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.contract.reject import Headers, Reject
from penstock.errors import DeliveryFailed, WrongUse
from penstock.log import get_logger
from penstock.pipelines import Pipeline

log = get_logger(__name__)

PREFIX = "__penstock.errors."
_SAID = ("topic", "partition", "offset", "generation", "stage", "reason", "rules", "schema.id", "time", "version")
HARMLESS = headers.HARMLESS | {PREFIX + name for name in _SAID}
"""The names of the headers that tell nothing of a person; `message` may quote what was in the record."""
_VERSION = version("penstock")
_FLUSH_S = 60.0
_TEXT_CHARACTERS = 4000
_IDENTITY_DIGITS = 24
PLACE = re.compile("^[0-9]{1,9}:[0-9]{1,18}$")

Report = Callable[[KafkaError | None, Message], None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record lay when it was set aside.

    Of one that the producer refused the partition is -1, and the offset its number in the run; -1 where none was kept.
    """

    topic: str
    generation_us: int | None
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A record in the dead-letter topic, at `partition` and `offset`. Key, value and headers are the record's own."""

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

    @property
    def place(self) -> str:
        """Where it lies in the dead-letter topic, `partition:offset`: the handle that users type."""
        return f"{self.partition}:{self.offset}"

    @property
    def run(self) -> str:
        """The id of the run that produced it; empty when no header says so."""
        return next((value.decode(errors="replace") for name, value in self.headers if name == RUN and value), "")

    @property
    def identity(self) -> str:
        """The same text for each copy of a record, and another for any other record."""
        origin = self.origin
        if origin.partition >= 0:
            return f"{origin.topic}/{origin.generation_us or ''}/{origin.partition}/{origin.offset}"
        number = b"" if origin.offset < 0 else b"%d\0" % origin.offset
        digest = hashlib.sha256(self.run.encode() + b"\0" + number + (self.value or b"")).hexdigest()
        return f"{origin.topic}/run/{digest[:_IDENTITY_DIGITS]}"


def letters(settings: Settings, pipeline: Pipeline, spans: list[Span] | None = None) -> Iterator[Letter]:
    """What lies in the pipeline's dead-letter topic, copies too; with `spans` in those alone.

    Messages that penstock did not set aside are passed over and logged. Raises `KafkaUnreachable`.
    """
    topic = pipeline.dead_letter_topic
    strangers = 0
    for message in topics.records(settings, topic, topics.spans(settings, topic) if spans is None else spans):
        letter = letter_of(message)
        if letter is not None:
            yield letter
        else:
            strangers += 1
            if strangers == 1:
                log.warning("no_dead_letter", topic=topic, partition=message.partition(), offset=message.offset())
    if strangers:
        log.warning("no_dead_letters", topic=topic, records=strangers)


def letters_at(settings: Settings, pipeline: Pipeline, places: Iterable[str]) -> dict[str, Letter]:
    """The letters at `places`, by place; a place where there is none is left out. Raises `WrongUse` for no place."""
    wanted: dict[int, set[int]] = defaultdict(set)
    for place in places:
        partition, offset = _parted(place)
        wanted[partition].add(offset)
    spans = [
        Span(one.partition, max(one.first, min(offsets)), min(one.end, max(offsets) + 1))
        for one in topics.spans(settings, pipeline.dead_letter_topic)
        if (offsets := wanted.get(one.partition))
    ]
    found = letters(settings, pipeline, [span for span in spans if span.records > 0])
    return {letter.place: letter for letter in found if letter.offset in wanted[letter.partition]}


def _parted(place: str) -> tuple[int, int]:
    if not PLACE.fullmatch(place):
        raise WrongUse(f"{place!r} is no place: it is PARTITION:OFFSET, as in 0:17", hint="./penstock dlq list --all")
    partition, _, offset = place.partition(":")
    return int(partition), int(offset)


def nowhere(settings: Settings, pipeline: Pipeline, what: str) -> WrongUse:
    """The error that no letter lies at `what`; it says where some do."""
    topic = pipeline.dead_letter_topic
    held = [f"{one.partition}:{one.first} to {one.end - 1}" for one in topics.spans(settings, topic) if one.records]
    return WrongUse(
        f"no rejected record lies at {what}; {topic} holds {', '.join(held) or 'none'}",
        hint="./penstock dlq list --all",
    )


def letter_of(message: Message) -> Letter | None:
    """The letter in a message of the dead-letter topic; None when its headers are not those of one."""
    said = facts(message)
    try:
        generation, schema_id = said.get("generation"), said.get("schema.id")
        return Letter(
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
        )
    except (KeyError, ValueError):
        return None


def first_copies(found: Iterable[Letter]) -> Iterator[Letter]:
    """The first copy of each record, as they come."""
    seen: set[str] = set()
    for letter in found:
        identity = letter.identity
        if identity not in seen:
            seen.add(identity)
            yield letter


def unique(found: Iterable[Letter]) -> dict[str, Letter]:
    """The first copy of each record, by identity."""
    return {letter.identity: letter for letter in first_copies(found)}


def error_headers(reject: Reject, generation_us: int | None) -> Headers:
    """The headers that say what is wrong; all values are UTF-8 text.

    `generation_us` is the epoch of the topic's generation, since a topic made anew has the same offsets again.
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
    }
    return [(PREFIX + name, str(value).encode(errors="backslashreplace")) for name, value in facts.items()]


def set_aside(producer: Producer, topic: str, rejects: Iterable[Reject], generation_us: int | None = None) -> int:
    """How many `rejects` were sent to `topic` and acknowledged: all of them.

    Delivery: at least once; the headers topic, generation, partition and offset tell copies apart. Raises
    `DeliveryFailed`.
    """
    failures: list[str] = []

    def report(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(str(error))

    sent = 0
    for reject in rejects:
        headers = [*reject.headers, *error_headers(reject, generation_us)]
        send(producer, topic, reject.key, reject.value, headers, report)
        sent += 1
    left = producer.flush(_FLUSH_S)
    if failures or left:
        raise DeliveryFailed(
            f"{topic}: {len(failures) + left} of {sent} rejected records were not acknowledged"
            + (f"; first: {failures[0]}" if failures else "")
        )
    return sent


def send(
    producer: Producer, topic: str, key: bytes | None, value: bytes | None, headers: Headers, report: Report
) -> None:
    """Hand one record to the producer, which calls `report` when it is delivered or given up.

    Blocks while the producer's queue is full. Raises `DeliveryFailed` for a record that it does not take.
    """
    while True:
        try:
            producer.produce(topic, value=value, key=key, headers=headers, on_delivery=report)
        except BufferError:
            producer.poll(0.1)
        except KafkaException as error:
            raise DeliveryFailed(f"{topic}: {error}") from error
        else:
            producer.poll(0)
            return


def facts(message: Message) -> dict[str, str]:
    """What the error headers of a dead letter say, by name without the prefix; the last of a name counts."""
    return {
        name.removeprefix(PREFIX): (value or b"").decode(errors="replace")
        for name, value in message.headers() or []
        if name.startswith(PREFIX)
    }
