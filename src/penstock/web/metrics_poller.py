"""Poller for values that only metrics need. It runs in its own thread, and only while metrics are scraped."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import KafkaException

from penstock.broker.sizes import fetch_sizes
from penstock.dead_letters.counts import DeadLetterCounter
from penstock.errors import PenstockError
from penstock.log import get_logger
from penstock.monitoring.poller import read_topic
from penstock.monitoring.services import TIMEOUT_S
from penstock.monitoring.snapshot import Snapshot
from penstock.sink.progress import Batch, Progress
from penstock.web.app_context import AppContext

log = get_logger(__name__)

EVERY_S = 5.0


class MetricsPoller:
    """Dead letters by reason, the newest micro-batch, and topic sizes on the brokers, as of the last poll."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._future: Future[None] | None = None
        self._polled_s = -EVERY_S
        self._read: int | None = None
        self._rejected: int | None = None
        self.dead_letters = DeadLetterCounter(context.settings, context.pipeline)
        self.batch: Batch | None = None
        self.held_bytes: dict[str, int] = {}

    def schedule_poll(self, now: Snapshot) -> None:
        """Schedule a poll if none is running and the last began at least `EVERY_S` ago. Does not block."""
        is_free = self._future is None or self._future.done()
        if is_free and time.monotonic() - self._polled_s >= EVERY_S:
            self._polled_s = time.monotonic()
            self._future = self._pool.submit(self.poll, now)

    def poll(self, now: Snapshot) -> None:
        """Poll what has changed. Values of a service that fails keep their last reading."""
        polls: list[tuple[str, Callable[[Snapshot], None]]] = [
            ("kafka", self._poll_rejects),
            ("cassandra", self._poll_batches),
            ("kafka", self._poll_sizes),
        ]
        for service, poll in polls:
            try:
                poll(now)
            except (PenstockError, KafkaException, DriverException, NoHostAvailable, OSError) as error:
                log.debug("service_unreachable", service=service, error=str(error))

    def _poll_rejects(self, now: Snapshot) -> None:
        if now.counts.rejected is not None and now.counts.rejected != self._rejected:
            topic = read_topic(self._context.kafka, self._context.pipeline.dead_letter_topic)
            self.dead_letters.count_new(topic.id, topic.ranges)
            self._rejected = now.counts.rejected if self.dead_letters.is_done else None

    def _poll_batches(self, now: Snapshot) -> None:
        if now.counts.read is not None and now.counts.read != self._read:
            progress = Progress(self._context.cassandra(), self._context.keyspace, self._context.pipeline.topic)
            self.batch = next(iter(progress.batches(1)), None)
            self._read = now.counts.read

    def _poll_sizes(self, now: Snapshot) -> None:
        if not now.services.get("kafka"):
            brokers = self._context.kafka.list_topics(timeout=TIMEOUT_S).brokers.values()
            bytes_by_topic = (
                fetch_sizes(self._context.settings, [(broker.host, broker.port) for broker in brokers]) or {}
            )
            topics = (self._context.pipeline.topic, self._context.pipeline.dead_letter_topic)
            self.held_bytes = {topic: bytes_by_topic[topic] for topic in topics if topic in bytes_by_topic}
