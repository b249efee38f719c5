"""Detect a topic recreated while it is read: before the next batch, or within seconds when idle."""

import time
from typing import Protocol

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable

from penstock import remedies
from penstock.broker import topics
from penstock.broker.kafka import create_admin
from penstock.broker.topics import NO_ID
from penstock.config import Settings
from penstock.errors import PenstockError, TopicRecreated
from penstock.log import get_logger
from penstock.process.checkpoint import CHOICES, Checkpoint
from penstock.sink.incarnation import Incarnation

log = get_logger(__name__)

CHECK_EVERY_S = 10.0
_TIMEOUT_S = 5.0
"""Longest time that an unresponsive broker may delay a stop signal."""


def build_recreated_error(topic: str, change: str) -> TopicRecreated:
    """Return the error, with the evidence and the options."""
    return TopicRecreated(
        f"the topic {topic} was deleted and recreated since the job read it: {change}\n{CHOICES}",
        hint=remedies.reset_checkpoint(),
    )


def begin_generation(checkpoint: Checkpoint, incarnation: Incarnation, topic_id: str) -> int:
    """Return the timestamp base of the topic's incarnation, which begins now if the topic is new or was recreated.

    Raises `TopicRecreated` if the checkpoint in use belongs to another log. Where topics have an id, the checkpoint
    itself shows that. Where they have none, one read of the records decides both, so nothing can change in between.
    """
    change = incarnation.find_change(topic_id) or incarnation.find_cut(topic_id)
    other_log = change if topic_id == NO_ID else incarnation.find_other_log(topic_id)
    position = checkpoint.read_position()
    if other_log and position is not None and position.begun:
        raise build_recreated_error(checkpoint.topic, other_log)
    return incarnation.begin_generation(topic_id, is_recreated=bool(change))


class IncarnationGuard(Protocol):
    """Keeps the job from continuing in another topic."""

    def check(self) -> None:
        """Check that the topic is still the one being read. Raises `TopicRecreated`, an `Unreachable`."""
        ...

    def watch(self) -> None:
        """Check the topic at intervals. Raises `TopicRecreated`."""
        ...


class TopicGuard:
    """Raises `TopicRecreated` once Kafka's topic is not the one that the incarnation `epoch_us` belongs to."""

    def __init__(self, incarnation: Incarnation, topic: str, topic_id: str, epoch_us: int, settings: Settings) -> None:
        self._incarnation, self._topic, self._topic_id, self._epoch_us = incarnation, topic, topic_id, epoch_us
        self._settings = settings
        self._impatient = settings.model_copy(update={"kafka_timeout_s": min(settings.kafka_timeout_s, _TIMEOUT_S)})
        self._client = create_admin(settings)
        self._due_s = 0.0

    def count_partitions(self) -> int:
        """Return the topic's partition count. Call it before each batch; it costs one request.

        Raises `TopicRecreated`, `KafkaUnreachable`.
        """
        return self._check_topic_id(self._settings).partitions

    def check(self) -> None:
        """Check that the topic is still the one being read. Raises `TopicRecreated`, an `Unreachable`."""
        self._due_s = time.monotonic() + CHECK_EVERY_S
        self._check_topic_id(self._impatient)
        if self._topic_id == NO_ID:
            self._check_records()

    def watch(self) -> None:
        """Check the topic, at most every `CHECK_EVERY_S`. If a service is unavailable, it is retried later."""
        if time.monotonic() < self._due_s:
            return
        try:
            self.check()
        except TopicRecreated:
            raise
        except (PenstockError, DriverException, NoHostAvailable) as error:
            log.debug("topic_not_checked", topic=self._topic, error=str(error))

    def _check_topic_id(self, settings: Settings) -> topics.Description:
        now = topics.describe_topic(self._client, self._topic, settings)
        if now.id != self._topic_id:
            raise build_recreated_error(self._topic, f"its id changed from {self._topic_id} to {now.id}")
        return now

    def _check_records(self) -> None:
        if change := self._incarnation.find_other_log(self._topic_id):
            raise build_recreated_error(self._topic, change)
        self._incarnation.mark(self._epoch_us)
