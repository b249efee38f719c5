"""Create Kafka clients from settings, and translate Kafka's errors."""

from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from penstock import remedies
from penstock.config import Settings
from penstock.contract.record import Headers
from penstock.errors import DeliveryFailed, KafkaUnreachable, PenstockError
from penstock.log import get_logger

log = get_logger(__name__)

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest message that a topic accepts from any producer; a record has at most `rules.MAX_VALUE_BYTES`."""
MAX_DEAD_LETTER_BYTES = 2 * MAX_MESSAGE_BYTES
"""Largest dead letter: a message, and the headers that say what is wrong with it."""
_NO_LIMIT_BYTES = 1_000_000_000

DeliveryReport = Callable[[KafkaError | None, Message], None]

_AWAY = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
}


def connection(settings: Settings) -> dict[str, Any]:
    """Return the librdkafka configuration that every client needs to connect. Contains the password: never log it."""
    conf: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security_protocol,
        "error_cb": lambda error: log.debug("kafka_client", error=str(error)),
        "log_level": 2,  # syslog level: an unavailable broker would flood the terminal before our error appears
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        conf |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_username,
            "sasl.password": settings.kafka_password.get_secret_value(),
        }
    if settings.kafka_ca_file:
        conf["ssl.ca.location"] = str(settings.kafka_ca_file)
    return conf


def admin(settings: Settings) -> AdminClient:
    """Return an admin client; it connects on its first call."""
    return AdminClient(connection(settings))


def producer(settings: Settings) -> Producer:
    """Return an idempotent producer: acks=all, no duplicates and no reordering by its own retries, lz4.

    A record that is not acknowledged within `kafka_timeout_s` gets a delivery report with an error.
    """
    return Producer(
        connection(settings)
        | {
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "partitioner": "murmur2_random",  # like Java clients: an id's partition is the same for every producer
            "linger.ms": 5,
            "message.max.bytes": _NO_LIMIT_BYTES,  # the topics limit it
            "delivery.timeout.ms": int(settings.kafka_timeout_s * 1000),
            "request.timeout.ms": int(settings.kafka_timeout_s * 500),
        }
    )


def reader(settings: Settings, **more: Any) -> Consumer:
    """Return a consumer with manual assignment that never commits; `more` is librdkafka configuration."""
    return Consumer(
        connection(settings)
        | {
            "group.id": "penstock-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,  # with the default of 1000, a reader faster than Kafka mostly waits
            "fetch.wait.max.ms": 50,  # upper bound on the stall at the end of a partition
        }
        | more
    )


def failure(error: KafkaException, doing: str, settings: Settings) -> PenstockError:
    """Return the penstock error for `error`: `KafkaUnreachable` if Kafka is unavailable, else `PenstockError`."""
    reason = error.args[0]
    text = f"{doing} on Kafka at {settings.kafka_bootstrap}: {reason.str()}"
    if reason.code() in _AWAY:
        return KafkaUnreachable(text, hint=remedies.check_address("kafka"))
    return PenstockError(text)


def produce_record(
    producer: Producer,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    report: DeliveryReport,
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
