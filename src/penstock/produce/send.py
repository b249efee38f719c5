"""Produce bytes to a topic and count every delivery report.

Delivery: at least once, in order per key. The producer is idempotent, so its retries create no duplicates. A restarted
run sends its records again, which result in the same rows.
"""

from dataclasses import dataclass, field
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock import remedies
from penstock.errors import DeliveryFailed
from penstock.produce.delivery_log import DeliveryLog

Headers = list[tuple[str, bytes]]


@dataclass
class Delivered:
    """Records acknowledged by Kafka so far."""

    records: int = 0
    value_bytes: int = 0
    offsets: dict[int, tuple[int, int]] = field(default_factory=dict)
    """First and last offset by partition. Records of other producers may be in between."""
    failures: list[str] = field(default_factory=list)
    delivery_log: DeliveryLog | None = None
    """Log of each acknowledgement."""

    def note(self, error: KafkaError | None, message: Message) -> None:
        """Count one delivery report."""
        if error is not None:
            self.failures.append(f"{error.name()}: {error.str()}")
            return
        partition, offset = message.partition(), message.offset()
        if self.delivery_log is not None:
            self.delivery_log.note(partition, offset, message.key())
        first, last = self.offsets.get(partition, (offset, offset))
        self.offsets[partition] = (min(first, offset), max(last, offset))
        self.records += 1
        self.value_bytes += len(message)


class Sender:
    """Produces to one topic. Leaving the block waits for all acknowledgements.

    Raises `DeliveryFailed` there if a record was not acknowledged within the producer's delivery timeout.
    """

    def __init__(self, producer: Producer, topic: str, flush_s: float, delivery_log: DeliveryLog | None = None) -> None:
        self._producer = producer
        self._topic = topic
        self._flush_s = flush_s
        self.delivered = Delivered(delivery_log=delivery_log)

    def send(self, key: bytes, value: bytes, headers: Headers, timestamp_ms: int = 0) -> None:
        """Pass a record to the producer. Blocks while its queue is full. Timestamp 0 is the current time."""
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value=value,
                    key=key,
                    headers=headers,
                    timestamp=timestamp_ms,
                    on_delivery=self.delivered.note,
                )
            except BufferError:
                self._producer.poll(0.5)
            except KafkaException as error:
                raise DeliveryFailed(f"{self._topic}: {error}") from error
            else:
                self._producer.poll(0)
                return

    def finish(self) -> Delivered:
        """Wait for all acknowledgements and return them. Raises `DeliveryFailed` if any is missing."""
        pending = self._producer.flush(self._flush_s)
        failures = self.delivered.failures
        if failures or pending:
            first = f"; first error: {failures[0]}" if failures else ""
            raise DeliveryFailed(
                f"{self._topic}: {len(failures)} records failed and {pending} were not acknowledged within "
                f"{self._flush_s:g} s; {self.delivered.records} were acknowledged{first}",
                hint=remedies.show_status("kafka"),
            )
        return self.delivered

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._producer.flush(self._flush_s)
