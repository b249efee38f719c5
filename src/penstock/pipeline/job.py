"""The Spark job: waits for its services, creates what is missing, streams, keeps the ledger, stops cleanly.

Delivery: the ledger entries are written before Spark commits the batch. A failed batch is processed again by the next
start, from the checkpoint.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType

from cassandra.cluster import Session
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

from penstock import pipelines, remedies
from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.batch import BatchSummary
from penstock.contract.failing import FailingBatch
from penstock.contract.order import ONE_LAYOUT, Order
from penstock.dead_letters import resolutions
from penstock.errors import JobRunning, PenstockError, TopicRecreated, TransformFailed, Unreachable
from penstock.log import get_logger
from penstock.pipeline.failures import FailureRecorder
from penstock.pipeline.progress_recorder import ProgressRecorder
from penstock.pipeline.resume import resume_from_ledger
from penstock.pipeline.stream import BatchPlan, build_plan, store_batch, warm_up
from penstock.pipeline.topic_guard import IncarnationGuard, TopicGuard, begin_generation
from penstock.pipelines import Pipeline
from penstock.pipelines.mapping import file_of
from penstock.process.checkpoint import Checkpoint, check_fits, checkpoint_of
from penstock.process.session import raw_records
from penstock.retry import wait_until
from penstock.sink import (
    accepted,
    cassandra,
    expiring,
    failing_batches,
    incarnation,
    key_formats,
    lease,
    ledger,
    progress,
    receipts,
    table_orders,
)
from penstock.sink.incarnation import Incarnation
from penstock.sink.key_formats import KeyFormats
from penstock.sink.layouts import Layouts

log = get_logger(__name__)

_POLL_S = 0.5
_COMMIT_S = 10.0
_FAILURES = 5


def wait_for_services(settings: Settings) -> None:
    """Wait until Kafka and Cassandra respond. Raises `KafkaUnreachable` or `CassandraUnreachable` after the timeout."""
    pipeline = pipelines.of(settings)
    short = settings.model_copy(update={"kafka_timeout_s": 5.0, "cassandra_timeout_s": 5.0})
    for what, probe in (
        ("Kafka", lambda: topics.ensure_pipeline_topics(short, pipeline)),
        ("Cassandra", lambda: cassandra.close(cassandra.connect(short))),
    ):
        log.info("waiting_for", service=what, timeout_s=settings.spark_wait_s)
        wait_until(probe, timeout_s=settings.spark_wait_s, every_s=1.0, what=what)


class BatchRunner:
    """Processes each micro-batch and writes its ledger entries. A batch in flight finishes before a stop.

    `confirm` is called before each batch and raises if this job may not begin another one; `order` then returns the
    layouts that its records can belong to. `guard` checks the topic before the query restarts and, at intervals, while
    no batch arrives.
    """

    def __init__(
        self,
        plan: BatchPlan,
        topic_ledger: ledger.Ledger,
        stopping: threading.Event,
        confirm: Callable[[], None] = lambda: None,
        sync_lag_s: float = 0.0,
        order: Callable[[], Order] = lambda: ONE_LAYOUT,
        guard: IncarnationGuard | None = None,
        key_formats: KeyFormats | None = None,
    ) -> None:
        self._plan = plan
        self._order = order
        self.guard = guard
        self._key_formats = key_formats
        self._ledger = topic_ledger
        self._confirm = confirm
        self._sync_lag_s = sync_lag_s
        self._working = threading.Lock()
        self.stopping = stopping
        self.repairs = 0
        """How often the checkpoint was repaired. A batch that is planned again may overlap ledger entries."""
        self.batches = 0
        self.error: Exception | None = None
        """The exception of the newest failed batch. Spark's own error has only the text of Python exceptions."""

    def process_batch(self, raw: DataFrame, batch_id: int) -> None:
        """Process one micro-batch; the `foreachBatch` function. Raises `InterruptedError` once stopping is set."""
        self.error = None
        try:
            summaries = self._carry_out(raw, batch_id)
        except Exception as error:
            self.error = error
            raise
        for summary in summaries:
            log.info("batch_stored", batch=batch_id, **summary._asdict())

    def _carry_out(self, raw: DataFrame, batch_id: int) -> list[BatchSummary]:
        with self._working:
            if self.stopping.is_set():
                raise InterruptedError(f"batch {batch_id} was not started: the job is stopping")
            self._confirm()
            summaries = self._store_batch(raw, replace(self._plan, order=self._order()))
            self._ledger.write(self._get_job_id(raw), batch_id, summaries, self._sync_lag_s)
            self.batches += 1
            return summaries

    def _store_batch(self, raw: DataFrame, plan: BatchPlan) -> list[BatchSummary]:
        """Process a batch with the proven key formats of the topic, and store what the batch proves."""
        if self._key_formats is None or plan.found is None:
            return store_batch(raw, plan)
        plan.found.value = {}
        summaries = store_batch(raw, replace(plan, proofs=self._key_formats.known))
        self._key_formats.note(plan.found.value, summaries)
        return summaries

    def _get_job_id(self, raw: DataFrame) -> str:
        """Return the streaming query's id, which is as durable as its checkpoint, with the number of repairs."""
        query_id = raw.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId") or "unknown"
        return f"{query_id}+{self.repairs}" if self.repairs else query_id

    def wait_idle(self) -> None:
        """Wait until no batch is in flight."""
        with self._working:
            return


def create_keyspace(session: Session, settings: Settings) -> None:
    """Create the pipeline's keyspace if it does not exist. Raises `PenstockError` with all missing CQL."""
    pipeline = pipelines.of(settings)
    keyspace, tables = cassandra.keyspace_of(settings, pipeline), _build_statements(settings, pipeline)
    statements = cassandra.keyspace_statement(settings, pipeline)
    cassandra.create_missing(session, keyspace, statements, tables | _tables_of_others(keyspace))


def create_tables(session: Session, settings: Settings) -> None:
    """Create the pipeline's table, the ledger, the progress and the leases if they do not exist.

    Raises `PenstockError` with all missing CQL if the role may not create tables.
    """
    pipeline = pipelines.of(settings)
    keyspace = cassandra.keyspace_of(settings, pipeline)
    cassandra.create_missing(session, keyspace, _build_statements(settings, pipeline), _tables_of_others(keyspace))
    ledger.add_columns(session, keyspace)


def _build_statements(settings: Settings, pipeline: Pipeline) -> dict[str, str]:
    keyspace = cassandra.keyspace_of(settings, pipeline)
    own = ledger.statements(keyspace) | progress.statements(keyspace) | failing_batches.statements(keyspace)
    own |= lease.statements(keyspace) | incarnation.statements(keyspace) | key_formats.statements(keyspace)
    return cassandra.table_statement(settings, pipeline) | own


def _tables_of_others(keyspace: str) -> dict[str, str]:
    """Return the tables that `dlq`, `verify` and pipelines with `order_by` create on first use."""
    others = resolutions.statements(keyspace) | receipts.statements(keyspace) | accepted.statements(keyspace)
    return others | table_orders.statements(keyspace)


def check_table(session: Session, settings: Settings, pipeline: Pipeline) -> None:
    """Check that rows fit the pipeline's table, and that it has the declared TTL.

    Raises `PenstockError` naming each column that does not fit, or the TTL.
    """
    table = f"{cassandra.keyspace_of(settings, pipeline)}.{pipeline.table}"
    problems = cassandra.find_table_problems(session, settings, pipeline)
    if problems:
        raise PenstockError(
            "\n".join([f"rows do not fit the table {table}:", *(f"  {problem}" for problem in problems)]),
            hint=f"{remedies.plan_schema()}, {remedies.apply_schema()}",
        )
    ttl_change = cassandra.find_ttl_change(session, settings, pipeline)
    if ttl_change is not None:
        raise PenstockError(
            f"the table {table}: {ttl_change.why}", hint=f"{remedies.plan_schema()}, {remedies.apply_schema()}"
        )
    declared = cassandra.declared_table(settings, pipeline)
    if problem := expiring.find_ttl_problem(session, declared, datetime.now(UTC)):
        raise PenstockError(f"the table {table}: {problem}")


def run(spark: SparkSession, read: Callable[[SparkSession], DataFrame], session: Session, settings: Settings) -> None:
    """Stream Kafka's records into the table until SIGTERM or SIGINT, then finish the batch in flight and stop.

    `read` returns the stream. It is called once this job owns the checkpoint, which may determine where the stream
    begins.

    Raises `PenstockError` if the table lacks columns, or has another order than the pipeline declares. A failed batch
    is retried with back-off. Raises Spark's `StreamingQueryException` after `_FAILURES` failures in a row; the next
    start of the job processes the batch again. A failing transform is not retried: the query ends, and the job idles
    until it is stopped. Raises `JobRunning` if another job owns the checkpoint, and `CheckpointRefused` or
    `TopicRecreated` if continuing from it would skip records.
    """
    pipeline = pipelines.of(settings)
    keyspace = cassandra.keyspace_of(settings, pipeline)
    check_table(session, settings, pipeline)
    table_orders.fix_order(session, keyspace, pipeline)
    checkpoint = checkpoint_of(settings, pipeline.topic, spark)
    stopping = threading.Event()
    checkpoint_lease = lease.Lease(session, keyspace, checkpoint.folder, on_lost=stopping.set)
    with lease.hold_lease(checkpoint_lease):
        topic_id = prepare_checkpoint(checkpoint, settings)
        known = Incarnation(session, keyspace, settings, pipeline.topic)
        epoch_us = begin_generation(checkpoint, known, topic_id)
        plan = build_plan(settings, epoch_us)
        topic_ledger = ledger.Ledger(session, keyspace, pipeline.topic, epoch_us)
        guard = TopicGuard(known, pipeline.topic, topic_id, epoch_us, settings)
        order = build_observer(session, keyspace, topic_ledger, settings, guard)
        shapes = KeyFormats(
            session, keyspace, topic_ledger, lambda: topics.fetch_offset_ranges(settings, pipeline.topic)
        )
        runner = BatchRunner(
            plan, topic_ledger, stopping, checkpoint_lease.confirm, cassandra.sync_lag_s(session), order, guard, shapes
        )
        progress_recorder = ProgressRecorder(progress.Progress(session, keyspace, pipeline.topic))
        resume_from_ledger(checkpoint, topic_ledger, topic_id, settings)
        recorder = create_recorder(session, settings, checkpoint)
        _stop_on_signal(stopping)
        _silence_tracebacks()
        warm_up(spark, plan)
        _run_query(read(spark), settings, checkpoint, runner, progress_recorder, recorder)
    checkpoint_lease.check_kept()
    log.info("stopped", batches=runner.batches)


def build_observer(
    session: Session, keyspace: str, topic_ledger: ledger.Ledger, settings: Settings, guard: TopicGuard
) -> Callable[[], Order]:
    """Return a function that asks Kafka for the topic's partitions and returns the order of its layouts.

    It raises `TopicRecreated`, `KafkaUnreachable`.
    """

    def keys_in(spans: list[OffsetRange]) -> Iterator[tuple[int, bytes | None]]:
        return (
            (message.partition(), message.key()) for message in topics.read_records(settings, topic_ledger.topic, spans)
        )

    layouts = Layouts(
        session, keyspace, topic_ledger, lambda: topics.fetch_offset_ranges(settings, topic_ledger.topic), keys_in
    )
    return lambda: layouts.observe(guard.count_partitions())


def create_recorder(session: Session, settings: Settings, checkpoint: Checkpoint) -> FailureRecorder:
    """Return the recorder of the checkpoint's failing batch, with what an earlier job recorded loaded."""
    pipeline = pipelines.of(settings)
    table = failing_batches.FailingBatches(session, cassandra.keyspace_of(settings, pipeline), pipeline.topic)
    recorder = FailureRecorder(table, checkpoint, file_of(pipeline.transform or pipeline.from_source))
    recorder.resume()
    return recorder


def prepare_checkpoint(checkpoint: Checkpoint, settings: Settings) -> str:
    """Repair a corrupt end of the checkpoint, check that continuing from it skips nothing, and return the topic's id.

    Raises `CheckpointRefused`.
    """
    checkpoint.repair()
    topic_id = topics.fetch_topic_id(settings, checkpoint.topic)
    check_fits(checkpoint, topics.fetch_offset_ranges(settings, checkpoint.topic), topic_id)
    checkpoint.store_topic_id(topic_id)
    return topic_id


def _run_query(
    records: DataFrame,
    settings: Settings,
    checkpoint: Checkpoint,
    runner: BatchRunner,
    progress_recorder: ProgressRecorder,
    recorder: FailureRecorder,
) -> None:
    """Run the query, and restart it with back-off when it fails, until the job is stopping."""
    failures = 0
    while not runner.stopping.is_set():
        kept, runner.repairs, runner.error = runner.batches, checkpoint.count_repairs(), None
        try:
            if failures:
                prepare_checkpoint(checkpoint, settings)
                if runner.guard:
                    runner.guard.check()
            raw = raw_records(records, pipelines.of(settings).declared_order)
            _watch_query(_start_query(raw, settings, checkpoint, runner), runner, progress_recorder, recorder)
        except (StreamingQueryException, Unreachable) as failure:
            error = runner.error or failure
            failures = 1 if runner.batches > kept else failures + 1
            progress_recorder.record_failure(error)
            batch = recorder.record(error)
            if isinstance(error, TransformFailed):
                _stand_by(error, batch, runner.stopping)
                return
            if failures == _FAILURES:
                raise
            log.exception("query_failed", failures=failures, error=str(failure).partition("\n")[0])
            runner.stopping.wait(min(2.0**failures, 30.0))
        except TopicRecreated as error:
            progress_recorder.record_failure(error)
            raise


def _stand_by(error: TransformFailed, batch: FailingBatch | None, stopping: threading.Event) -> None:
    """Log the transform's error and wait for the stop: a restart would fail on the same batch."""
    line, _, reason = error.message.partition("\n  ")
    position = batch.position if batch else ""
    log.error("transform_failed", error=line, reason=reason, position=position, hint=error.hint)
    stopping.wait()


def _start_query(records: DataFrame, settings: Settings, checkpoint: Checkpoint, runner: BatchRunner) -> StreamingQuery:
    log.info("streaming", topic=checkpoint.topic, checkpoint=checkpoint.folder)
    return (
        records.writeStream.queryName(checkpoint.topic)
        .option("checkpointLocation", checkpoint.url)
        .trigger(processingTime=f"{settings.spark_trigger_ms} milliseconds")
        .foreachBatch(runner.process_batch)
        .start()
    )


def _stop_on_signal(stopping: threading.Event) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _silence_tracebacks() -> None:
    """Keep py4j and pyspark from logging what `_run_query` reports, with Java's frames and a line of JSON."""
    for name in ("py4j.clientserver", "DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _watch_query(
    query: StreamingQuery, runner: BatchRunner, progress_recorder: ProgressRecorder, recorder: FailureRecorder
) -> None:
    """Watch the query until stopping is set and the batch in flight is stored.

    Raises `StreamingQueryException`, and `TopicRecreated` once the query is stopped.
    """
    try:
        while not runner.stopping.is_set():
            if query.awaitTermination(_POLL_S):
                raise Unreachable("the query ended unexpectedly, without an error")
            progress_recorder.note(query)
            recorder.resolve_if_done()
            if runner.guard:
                runner.guard.watch()
        runner.wait_idle()
        _wait_for_commit(query)
        recorder.resolve_if_done()
        query.stop()
        query.awaitTermination()
    except TopicRecreated:
        query.stop()
        raise
    except StreamingQueryException as error:
        refused = any(kind.__name__ in str(error) for kind in (InterruptedError, JobRunning))
        if not (runner.stopping.is_set() and refused):
            raise


def _wait_for_commit(query: StreamingQuery) -> None:
    deadline = time.monotonic() + _COMMIT_S
    while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
        time.sleep(0.05)
