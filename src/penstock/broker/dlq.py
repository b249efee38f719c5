"""The dead-letter topic: a reject as a message, and a message as a reject.

Value, key and headers are those of the record that was set aside, byte for byte; what is wrong with it stands in
headers of its own, named after those of Kafka Connect's dead-letter queue (KIP-298).
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock.contract.reject import Headers, Reject
from penstock.errors import DeliveryFailed

PREFIX = "__penstock.errors."
_FLUSH_S = 60.0
_TEXT_CHARACTERS = 4000


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
        "version": version("penstock"),
    }
    return [(PREFIX + name, str(value).encode()) for name, value in facts.items()]


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
        _send(producer, topic, reject, headers, report)
        sent += 1
    left = producer.flush(_FLUSH_S)
    if failures or left:
        raise DeliveryFailed(
            f"{topic}: {len(failures) + left} of {sent} rejected records were not acknowledged"
            + (f"; first: {failures[0]}" if failures else "")
        )
    return sent


def _send(producer: Producer, topic: str, reject: Reject, headers: Headers, report: object) -> None:
    while True:
        try:
            producer.produce(topic, value=reject.value, key=reject.key, headers=headers, on_delivery=report)
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
