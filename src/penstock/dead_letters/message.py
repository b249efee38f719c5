"""A dead letter, and its form as a message of the dead-letter topic.

Value, key and headers are those of the dead-lettered record, byte for byte. What is wrong with it is stored in
additional headers, named after those of Kafka Connect's dead-letter queue (KIP-298).
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Message

from penstock import __version__, formats
from penstock.broker import headers
from penstock.broker.headers import RUN
from penstock.contract.batch import Reject
from penstock.contract.record import Headers
from penstock.dead_letters.omitted_value import LeftOut

PREFIX = "__penstock.errors."
_ERROR_HEADERS = (
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
HARMLESS_HEADERS = headers.HARMLESS | {PREFIX + name for name in _ERROR_HEADERS}
"""Names of the headers without personal data; `message` may quote the record."""
_VERSION = __version__
_TEXT_CHARACTERS = 4000
_IDENTITY_DIGITS = 24


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


@dataclass(frozen=True, slots=True)
class DeadLetterSummary:
    """A dead letter without its content, for listings."""

    partition: int
    offset: int
    identity: str
    reason: str
    rules: tuple[str, ...]
    stage: str
    time: datetime
    run: str
    value_bytes: int

    @property
    def place(self) -> str:
        """Return `partition:offset`."""
        return f"{self.partition}:{self.offset}"


def summarize(letter: DeadLetter) -> DeadLetterSummary:
    """Return the summary of a dead letter."""
    return DeadLetterSummary(
        partition=letter.partition,
        offset=letter.offset,
        identity=letter.identity,
        reason=letter.reason,
        rules=letter.rules,
        stage=letter.stage,
        time=letter.time,
        run=letter.run,
        value_bytes=letter.value_bytes,
    )


def parse_message(message: Message) -> DeadLetter | None:
    """Return the dead letter in a message; None if its headers are not those of a dead letter.

    Raises `FormatTooNew`.
    """
    errors = read_error_headers(message)
    try:
        _check_format(errors, message)
        generation, schema_id = errors.get("generation"), errors.get("schema.id")
        return DeadLetter(
            partition=message.partition(),
            offset=message.offset(),
            origin=Origin(
                errors["topic"],
                int(generation) if generation else None,
                int(errors["partition"]),
                int(errors["offset"]),
            ),
            stage=errors["stage"],
            reason=errors["reason"],
            rules=tuple(filter(None, errors.get("rules", "").split(","))),
            message=errors.get("message", ""),
            schema_id=int(schema_id) if schema_id else None,
            time=datetime.fromisoformat(errors["time"]).astimezone(UTC),
            version=errors.get("version", ""),
            key=message.key(),
            value=message.value(),
            headers=[(name, value) for name, value in message.headers() or [] if not name.startswith(PREFIX)],
            left_out=LeftOut.of_facts(errors),
            timestamp_ms=int(errors["timestamp"]) if errors.get("timestamp") else None,
        )
    except (KeyError, ValueError):
        return None


def _check_format(errors: dict[str, str], message: Message) -> None:
    where = f"{message.topic()} {message.partition()}:{message.offset()}"
    formats.check_version(formats.DEAD_LETTER, int(errors.get("format", "1")), where, errors.get("version", ""))


def read_error_headers(message: Message) -> dict[str, str]:
    """Return the error headers of a dead letter, by name without the prefix; of duplicates, the last counts."""
    return {
        name.removeprefix(PREFIX): (value or b"").decode(errors="replace")
        for name, value in message.headers() or []
        if name.startswith(PREFIX)
    }


def build_error_headers(reject: Reject, generation_us: int | None, left_out: LeftOut | None = None) -> Headers:
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


def first_copies(letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
    """Yield the first copy of each record, in the order received."""
    seen: set[str] = set()
    for letter in letters:
        identity = letter.identity
        if identity not in seen:
            seen.add(identity)
            yield letter


def index_first_copies(letters: Iterable[DeadLetter]) -> dict[str, DeadLetter]:
    """Return the first copy of each record, by identity."""
    return {letter.identity: letter for letter in first_copies(letters)}
