"""Create, configure, purge and delete topics. Internal topics are protected."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
)

from penstock.broker.kafka import translate_error
from penstock.broker.topics import Position, topic_settings
from penstock.config import Settings
from penstock.contract.names import REGISTRY_TOPICS, is_internal
from penstock.errors import PenstockError, UsageError

T = TypeVar("T")

TIMEOUT_S = 10.0
_MISUSED = {
    KafkaError.INVALID_CONFIG,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_REQUEST,
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_ALREADY_EXISTS,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


@dataclass(frozen=True)
class TopicSetting:
    """A setting of a topic; `value` is None if Kafka does not disclose it."""

    name: str
    value: str | None
    is_own: bool
    """Whether it was set for this topic."""
    is_fixed: bool


def check_not_internal(topic: str) -> None:
    """Raise `UsageError` if the topic is internal to a service and must not be changed."""
    if is_internal(topic):
        owner = "the schema registry" if topic in REGISTRY_TOPICS else "Kafka"
        raise UsageError(f"topic {topic} is internal to {owner} and cannot be changed here")


def create_topic(
    client: AdminClient, settings: Settings, topic: str, partitions: int, changes: Mapping[str, str] | None = None
) -> None:
    """Create a topic with the settings of every penstock topic, overridden by `changes`. Raises `UsageError`."""
    check_not_internal(topic)
    new = NewTopic(topic, partitions, settings.kafka_replication, config=topic_settings(settings) | dict(changes or {}))
    _run_request(
        settings, f"creating {topic}", lambda: client.create_topics([new], operation_timeout=TIMEOUT_S, **_WAIT)[topic]
    )


def read_settings(client: AdminClient, settings: Settings, topic: str) -> list[TopicSetting]:
    """Return all settings of the topic, sorted by name. Raises `UsageError` if the topic does not exist."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    entries = _run_request(
        settings, f"reading the settings of {topic}", lambda: client.describe_configs([resource], **_WAIT)[resource]
    )
    return sorted(map(_parse_setting, entries.values()), key=lambda setting: setting.name)


def _parse_setting(entry: ConfigEntry) -> TopicSetting:
    is_own = entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return TopicSetting(entry.name, None if entry.is_sensitive else entry.value, is_own, bool(entry.is_read_only))


def alter_setting(client: AdminClient, settings: Settings, topic: str, name: str, value: str | None) -> None:
    """Change a setting of the topic; None resets it to the broker's. Raises `UsageError`."""
    check_not_internal(topic)
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(name, value, incremental_operation=operation)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    doing = f"setting {name} of {topic}"
    _run_request(settings, doing, lambda: client.incremental_alter_configs([resource], **_WAIT)[resource])


def delete_records(client: AdminClient, settings: Settings, topic: str, before: Iterable[Position]) -> dict[int, int]:
    """Delete the records before each position. Returns the first offset left per partition. Raises `UsageError`."""
    check_not_internal(topic)
    requests = [TopicPartition(topic, position.partition, position.offset) for position in before]
    doing = f"deleting records of {topic}"
    try:
        futures = client.delete_records(requests, **_WAIT, operation_timeout=TIMEOUT_S) if requests else {}
    except (KafkaException, ValueError) as error:
        raise _translate_error(error, doing, settings) from error
    return {part.partition: _await_result(settings, doing, future).low_watermark for part, future in futures.items()}


def delete_topic(client: AdminClient, settings: Settings, topic: str) -> None:
    """Delete the topic and all its records. Raises `UsageError`."""
    check_not_internal(topic)
    _run_request(
        settings,
        f"deleting {topic}",
        lambda: client.delete_topics([topic], operation_timeout=TIMEOUT_S, **_WAIT)[topic],
    )


_WAIT: dict[str, Any] = {"request_timeout": TIMEOUT_S}


def _run_request(settings: Settings, doing: str, ask: Callable[[], "Future[T]"]) -> T:
    try:
        future = ask()
    except (KafkaException, ValueError) as error:
        raise _translate_error(error, doing, settings) from error
    return _await_result(settings, doing, future)


def _await_result(settings: Settings, doing: str, future: "Future[T]") -> T:
    try:
        return future.result(2 * TIMEOUT_S)
    except (KafkaException, ValueError, TimeoutError) as error:
        raise _translate_error(error, doing, settings) from error


def _translate_error(error: Exception, doing: str, settings: Settings) -> PenstockError:
    if not isinstance(error, KafkaException):
        return UsageError(f"{doing}: {error}")
    reason = error.args[0]
    if reason.code() in _MISUSED:
        return UsageError(f"{doing}: {reason.str()}")
    return translate_error(error, doing, settings)
