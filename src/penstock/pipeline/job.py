"""The Spark job: waits for its services, makes what is missing, streams, keeps the ledger, stops cleanly.

Delivery: the ledger's lines are written before Spark commits the batch; a batch that fails is done again by the next
start, from the checkpoint.
"""

import signal
import threading
import time
from types import FrameType

from cassandra.cluster import Session
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql.streaming import StreamingQuery

from penstock import pipelines
from penstock.broker import topics
from penstock.config import Settings
from penstock.log import get_logger
from penstock.pipeline.stream import Plan, plan, store, warm_up
from penstock.process.session import raw_records
from penstock.retry import wait_until
from penstock.sink import cassandra, ledger

log = get_logger(__name__)

_POLL_S = 0.5
_COMMIT_S = 10.0
_FAILURES = 5


def wait_for_services(settings: Settings) -> None:
    """Return once Kafka and Cassandra answer. Raises `KafkaUnreachable` or `CassandraUnreachable` after the wait."""
    pipeline = pipelines.of(settings)
    short = settings.model_copy(update={"kafka_timeout_s": 5.0, "cassandra_timeout_s": 5.0})
    for what, probe in (
        ("Kafka", lambda: topics.ensure_pipeline(short, pipeline)),
        ("Cassandra", lambda: cassandra.close(cassandra.connect(short))),
    ):
        log.info("waiting_for", service=what, timeout_s=settings.spark_wait_s)
        wait_until(probe, timeout_s=settings.spark_wait_s, every_s=1.0, what=what)


class Keeper:
    """Carries out each micro-batch and writes its ledger lines; lets a batch in hand finish before a stop."""

    def __init__(self, plan: Plan, book: ledger.Ledger) -> None:
        self._plan = plan
        self._book = book
        self._working = threading.Lock()
        self.stopping = threading.Event()
        self.batches = 0

    def keep(self, raw: DataFrame, batch_id: int) -> None:
        """Carry out one micro-batch; what `foreachBatch` calls. Raises `InterruptedError` once stopping is set."""
        with self._working:
            if self.stopping.is_set():
                raise InterruptedError(f"batch {batch_id} was not begun: the job is stopping")
            tallies = store(raw, self._plan)
            self._book.write(_query_id(raw), batch_id, tallies)
            self.batches += 1
        for one in tallies:
            log.info("batch_stored", batch=batch_id, **one._asdict())

    def wait_idle(self) -> None:
        """Return once no batch is in hand."""
        with self._working:
            return


def _query_id(raw: DataFrame) -> str:
    """The id of the streaming query: it stays the same as long as the checkpoint does."""
    return raw.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId") or "unknown"


def create_tables(session: Session, settings: Settings) -> None:
    """Make the pipeline's table and the ledger when they are not there."""
    pipeline = pipelines.of(settings)
    cassandra.create_table(session, settings, pipeline)
    ledger.create_tables(session, cassandra.keyspace_of(settings, pipeline))


def run(records: DataFrame, session: Session, settings: Settings) -> None:
    """Stream Kafka's `records` into the table until SIGTERM or SIGINT, then let the batch in hand finish and stop.

    A batch that fails is done again, with back-off. Raises Spark's `StreamingQueryException` when that did not help
    `_FAILURES` times in a row; the next start of the job does the batch again.
    """
    pipeline = pipelines.of(settings)
    keyspace = cassandra.keyspace_of(settings, pipeline)
    epoch_us = ledger.begin_generation(session, keyspace, pipeline.topic, topics.topic_id(settings, pipeline.topic))
    how = plan(settings, epoch_us)
    keeper = Keeper(how, ledger.Ledger(session, keyspace, pipeline.topic, epoch_us))
    _stop_on_signal(keeper.stopping)
    warm_up(records.sparkSession, how)
    failures = 0
    while not keeper.stopping.is_set():
        kept = keeper.batches
        try:
            _follow(_start(raw_records(records), settings, pipeline.topic, keeper), keeper)
        except StreamingQueryException as error:
            failures = 1 if keeper.batches > kept else failures + 1
            if failures == _FAILURES:
                raise
            log.exception("query_failed", failures=failures, error=str(error).partition("\n")[0])
            keeper.stopping.wait(min(2.0**failures, 30.0))
    log.info("stopped", batches=keeper.batches)


def _start(records: DataFrame, settings: Settings, topic: str, keeper: Keeper) -> StreamingQuery:
    log.info("streaming", topic=topic, checkpoint=settings.checkpoint)
    return (
        records.writeStream.queryName(topic)
        .option("checkpointLocation", f"{settings.checkpoint}/{topic}")
        .trigger(processingTime=f"{settings.spark_trigger_ms} milliseconds")
        .foreachBatch(keeper.keep)
        .start()
    )


def _stop_on_signal(stopping: threading.Event) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _follow(query: StreamingQuery, keeper: Keeper) -> None:
    """Return once stopping is set and the batch in hand is stored. Raises `StreamingQueryException`."""
    try:
        while not keeper.stopping.is_set():
            query.awaitTermination(_POLL_S)
        keeper.wait_idle()
        _wait_for_commit(query)
        query.stop()
        query.awaitTermination()
    except StreamingQueryException as error:
        refused_to_begin = keeper.stopping.is_set() and InterruptedError.__name__ in str(error)
        if not refused_to_begin:
            raise


def _wait_for_commit(query: StreamingQuery) -> None:
    deadline = time.monotonic() + _COMMIT_S
    while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
        time.sleep(0.05)
