"""The topics in Kafka: how many records and bytes, for how long, and how many records per second."""

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec

from penstock import pipelines, remedies
from penstock.broker.kafka import translate_error
from penstock.broker.sizes import fetch_sizes
from penstock.broker.topics import OffsetRange, is_settling
from penstock.config import Settings
from penstock.contract.names import REGISTRY_TOPICS, is_internal
from penstock.errors import NotFound
from penstock.monitoring.poller import read_topic
from penstock.monitoring.services import TIMEOUT_S
from penstock.pipelines import Pipeline
from penstock.retry import retry_attempts

_CACHE_S = 1.5
"""Time for which a listing is cached, for any number of callers."""
_SLOW_S = 15.0
"""Minimum interval between queries for settings and sizes."""
_RATE_S = 10.0


@dataclass(frozen=True)
class TopicInfo:
    """A topic. What Kafka does not report is null; a retention of -1 is unlimited; `rate_s` is records per second."""

    name: str
    role: str
    """`pipeline`, `rejected`, `registry` or `Kafka`; empty for any other topic."""
    partitions: int
    records: int | None
    """Number of offsets held, including compacted records and transaction markers."""
    disk_bytes: int | None
    """Size on the brokers' disks, counting every replica."""
    retention_ms: int | None
    retention_bytes: int | None
    cleanup: str
    rate_s: float | None
    is_internal: bool


def classify_topic(name: str, pipeline: Pipeline) -> str:
    """Return the role of a topic."""
    if name in REGISTRY_TOPICS:
        return "registry"
    roles = {pipeline.topic: "pipeline", pipeline.dead_letter_topic: "rejected"}
    return "Kafka" if is_internal(name) else roles.get(name, "")


def read_ranges(client: AdminClient, settings: Settings, name: str) -> list[OffsetRange]:
    """Return what the topic holds now, per partition. Raises `NotFound` if it does not exist."""
    try:
        for attempt in retry_attempts(is_settling, attempts=5, timeout_s=TIMEOUT_S):
            with attempt:
                ranges = read_topic(client, name).ranges
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_EXCEPTION:
            raise translate_error(error, f"reading the offsets of {name}", settings) from error
        ranges = []
    if not ranges:
        raise NotFound(f"there is no topic {name!r}", hint=remedies.serve_control_center())
    return ranges


class Inventory:
    """All topics. Thread-safe: concurrent callers share one query to Kafka."""

    def __init__(self, client: AdminClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._pipeline = pipelines.of(settings)
        self._lock = threading.Lock()
        self._polls: deque[tuple[float, dict[str, int]]] = deque()
        self._topics: list[TopicInfo] = []
        self._error: KafkaException | None = None
        self._polled_s = -_CACHE_S
        self._slow_s = -_SLOW_S
        self._polled_topics: frozenset[str] = frozenset()
        self._configs: dict[str, dict[str, str]] = {}
        self._sizes: dict[str, int] | None = None

    def list_topics(self) -> list[TopicInfo]:
        """Return all topics by name, the pipeline's first, internal topics last. Raises `KafkaUnreachable`."""
        with self._lock:
            if time.monotonic() - self._polled_s >= _CACHE_S:
                self._error = None
                try:
                    self._topics = self._poll_topics()
                except KafkaException as error:
                    self._error = error
                self._polled_s = time.monotonic()
            if self._error is not None:  # from this query, or from another thread's
                raise translate_error(self._error, "listing the topics", self._settings)
            return self._topics

    def get_topic(self, name: str) -> TopicInfo:
        """Return a topic. Raises `NotFound` if it does not exist."""
        topic = next((info for info in self.list_topics() if info.name == name), None)
        if topic is None:  # it may have been created since the last query
            with self._lock:
                self._polled_s = -_CACHE_S
            topic = next((info for info in self.list_topics() if info.name == name), None)
        if topic is None:
            raise NotFound(f"there is no topic {name!r}", hint=remedies.serve_control_center())
        return topic

    def clear_cache(self) -> None:
        """Discard the cached listing after a change."""
        with self._lock:
            self._polled_s, self._slow_s = -_CACHE_S, -_SLOW_S

    def _poll_topics(self) -> list[TopicInfo]:
        listed = self._client.list_topics(timeout=TIMEOUT_S)
        partitions = {topic.topic: sorted(topic.partitions) for topic in listed.topics.values()}
        if time.monotonic() - self._slow_s >= _SLOW_S or self._polled_topics != frozenset(partitions):
            self._polled_topics = frozenset(partitions)
            self._slow_s = time.monotonic()
            self._configs = _configs(self._client, partitions)
            self._sizes = fetch_sizes(
                self._settings, [(broker.host, broker.port) for broker in listed.brokers.values()]
            )
        keys = [TopicPartition(topic, number) for topic, numbers in partitions.items() for number in numbers]
        firsts, ends = (self._fetch_offsets(keys, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        self._record_end_offsets(
            {topic: end for topic in partitions if (end := _sum_offsets(ends, topic, partitions)) is not None}
        )
        infos = [self._describe_topic(topic, partitions, firsts, ends) for topic in partitions]
        return sorted(
            infos, key=lambda info: (info.is_internal, info.role != "pipeline", info.role != "rejected", info.name)
        )

    def _fetch_offsets(self, keys: list[TopicPartition], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        """Return the offset of each partition that has a leader."""
        asked = self._client.list_offsets(dict.fromkeys(keys, spec), request_timeout=TIMEOUT_S) if keys else {}
        offsets: dict[tuple[str, int], int] = {}
        for key, future in asked.items():
            try:
                offsets[key.topic, key.partition] = future.result().offset
            except KafkaException:
                continue
        return offsets

    def _record_end_offsets(self, ends: dict[str, int]) -> None:
        now_s = time.monotonic()
        self._polls.append((now_s, ends))
        while len(self._polls) > 2 and now_s - self._polls[1][0] >= _RATE_S:
            self._polls.popleft()

    def _rate_s(self, topic: str) -> float | None:
        (first_s, before), (last_s, now) = self._polls[0], self._polls[-1]
        if last_s <= first_s or topic not in before or now.get(topic, -1) < before[topic]:
            return None
        return (now[topic] - before[topic]) / (last_s - first_s)

    def _describe_topic(self, name: str, partitions: dict[str, list[int]], firsts: Any, ends: Any) -> TopicInfo:
        first, end = _sum_offsets(firsts, name, partitions), _sum_offsets(ends, name, partitions)
        config = self._configs.get(name, {})
        return TopicInfo(
            name=name,
            role=classify_topic(name, self._pipeline),
            partitions=len(partitions[name]),
            records=None if first is None or end is None else end - first,
            disk_bytes=None if self._sizes is None else self._sizes.get(name, 0),
            retention_ms=_parse_int(config.get("retention.ms")),
            retention_bytes=_parse_int(config.get("retention.bytes")),
            cleanup=config.get("cleanup.policy", ""),
            rate_s=self._rate_s(name),
            is_internal=is_internal(name),
        )


def _sum_offsets(offsets: dict[tuple[str, int], int], topic: str, partitions: dict[str, list[int]]) -> int | None:
    values = [offsets.get((topic, value)) for value in partitions[topic]]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _configs(client: AdminClient, topics: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    asked = client.describe_configs(resources, request_timeout=TIMEOUT_S) if resources else {}
    configs: dict[str, dict[str, str]] = {}
    for resource, future in asked.items():
        try:
            configs[resource.name] = {name: entry.value or "" for name, entry in future.result().items()}
        except KafkaException:
            continue
    return configs


def _parse_int(text: str | None) -> int | None:
    return int(text) if text and text.lstrip("-").isdigit() else None
