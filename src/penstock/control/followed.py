"""What metrics need and the flow does not look at: followed while somebody asks for metrics, in a thread of its own."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import KafkaException

from penstock.broker.sizes import sizes
from penstock.control.desk import Desk
from penstock.errors import PenstockError
from penstock.log import get_logger
from penstock.observe.flow import Point
from penstock.observe.reasons import Rejects
from penstock.observe.services import TIMEOUT_S
from penstock.sink.progress import Batch, Progress

log = get_logger(__name__)

EVERY_S = 5.0


class Followed:
    """Rejects by reason, the newest micro-batch, and the size of the topics on the brokers; as last found."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._asked: Future[None] | None = None
        self._asked_s = -EVERY_S
        self._read: int | None = None
        self._rejected: int | None = None
        self.rejects = Rejects(desk.settings, desk.pipeline)
        self.batch: Batch | None = None
        self.held_bytes: dict[str, int] = {}

    def follow(self, now: Point) -> None:
        """Look again soon, if the last look ended and is old enough. Returns at once."""
        is_free = self._asked is None or self._asked.done()
        if is_free and time.monotonic() - self._asked_s >= EVERY_S:
            self._asked_s = time.monotonic()
            self._asked = self._pool.submit(self.look, now)

    def look(self, now: Point) -> None:
        """Look now at what changed; what cannot be asked stays as it was found."""
        asked: list[tuple[str, Callable[[Point], None]]] = [
            ("kafka", self._follow_rejects),
            ("cassandra", self._follow_batches),
            ("kafka", self._weigh),
        ]
        for service, ask in asked:
            try:
                ask(now)
            except (PenstockError, KafkaException, DriverException, NoHostAvailable, OSError) as error:
                log.debug("not_measured", service=service, error=str(error))

    def _follow_rejects(self, now: Point) -> None:
        if now.counts.rejected is not None and now.counts.rejected != self._rejected:
            self.rejects.follow(self._desk.kafka)
            self._rejected = now.counts.rejected if self.rejects.is_done else None

    def _follow_batches(self, now: Point) -> None:
        if now.counts.read is not None and now.counts.read != self._read:
            progress = Progress(self._desk.cassandra(), self._desk.keyspace, self._desk.pipeline.topic)
            self.batch = next(iter(progress.batches(1)), None)
            self._read = now.counts.read

    def _weigh(self, now: Point) -> None:
        if not now.services.get("kafka"):
            brokers = self._desk.kafka.list_topics(timeout=TIMEOUT_S).brokers.values()
            held = sizes(self._desk.settings, [(one.host, one.port) for one in brokers]) or {}
            topics = (self._desk.pipeline.topic, self._desk.pipeline.dead_letter_topic)
            self.held_bytes = {topic: held[topic] for topic in topics if topic in held}
