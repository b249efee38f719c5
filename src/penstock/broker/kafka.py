"""Kafka clients made from settings, and Kafka's errors as ours."""

from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from penstock.config import Settings
from penstock.errors import KafkaUnreachable, PenstockError
from penstock.log import get_logger

log = get_logger(__name__)

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""The largest message that a topic takes, whoever sends it; a record has at most `rules.MAX_VALUE_BYTES`."""
MAX_DEAD_LETTER_BYTES = 2 * MAX_MESSAGE_BYTES
"""The largest dead letter: a message, and the headers that say what is wrong with it."""
_NO_LIMIT_BYTES = 1_000_000_000

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
    """What every client needs to connect: librdkafka configuration. Holds the password: never log it."""
    conf: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security_protocol,
        "error_cb": lambda error: log.debug("kafka_client", error=str(error)),
        "log_level": 2,  # of syslog: a broker that cannot be reached would fill the terminal before our error says so
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
    """An admin client; it connects at its first call."""
    return AdminClient(connection(settings))


def producer(settings: Settings) -> Producer:
    """An idempotent producer: acks=all, no second copies and no reordering by its own retries, lz4.

    A record that is not acknowledged within `kafka_timeout_s` gets a delivery report with an error.
    """
    return Producer(
        connection(settings)
        | {
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "partitioner": "murmur2_random",  # as Java's clients: an id lies in one partition, whoever sends it
            "linger.ms": 5,
            "message.max.bytes": _NO_LIMIT_BYTES,  # the topics have one
            "delivery.timeout.ms": int(settings.kafka_timeout_s * 1000),
            "request.timeout.ms": int(settings.kafka_timeout_s * 500),
        }
    )


def reader(settings: Settings, **more: Any) -> Consumer:
    """A consumer that is assigned partitions by hand and never commits; `more` is librdkafka's."""
    return Consumer(
        connection(settings)
        | {
            "group.id": "penstock-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,  # of a second, a reader that is faster than Kafka would spend most waiting
            "fetch.wait.max.ms": 50,  # at the end of one partition a fetch holds up the next one so long
        }
        | more
    )


def failure(error: KafkaException, doing: str, settings: Settings) -> PenstockError:
    """The penstock error that tells of `error`: unreachable, or failed."""
    reason = error.args[0]
    text = f"{doing} on Kafka at {settings.kafka_bootstrap}: {reason.str()}"
    if reason.code() in _AWAY:
        return KafkaUnreachable(text, hint="./penstock status, or set PENSTOCK_KAFKA_BOOTSTRAP")
    return PenstockError(text)
