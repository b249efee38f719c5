"""Stages 3-5: the topic's records become rows or dead letters. Run by the Spark job.

Delivery: every offset is stored or dead-lettered before Spark commits the batch, or the batch fails and is processed
again. Processing it again results in the same rows, whose write timestamps are their positions in Kafka; dead letters
may be sent twice, with the same origin in their headers.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from zipimport import zipimporter

import pyarrow as pa
from confluent_kafka import Consumer, Producer
from pyspark import Accumulator, AccumulatorParam, SparkContext
from pyspark.sql import DataFrame, SparkSession, functions
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from penstock import pipelines
from penstock.broker import topics
from penstock.broker.kafka import create_producer, create_reader
from penstock.broker.registry import Registry
from penstock.broker.topics import Position
from penstock.codec.records import Decoder
from penstock.config import Settings
from penstock.contract.batch import SUMMARY_DDL, BatchSummary, Decoded, Reject, merge_summaries, summarize_batch
from penstock.contract.fault import Fault, Stage
from penstock.contract.fields import fields
from penstock.contract.identity import identity_of
from penstock.contract.order import ONE_LAYOUT, Order
from penstock.contract.proofs import NOTHING_PROVEN, KeyEvidence, KeyProofs, KeyShape, merge_proofs
from penstock.contract.record import Record
from penstock.contract.violation import Violation
from penstock.dead_letters.topic import send_dead_letters
from penstock.errors import KafkaUnreachable
from penstock.pipeline.transform import Transformed, apply_transform
from penstock.pipelines import Pipeline
from penstock.process.batches import decode_batches, decoded_ddl, from_columns, to_columns
from penstock.sink import cassandra
from penstock.sink.rows import RowWriter, Unencodable

ArrowBatches = Iterator[pa.RecordBatch]
Found = dict[KeyShape, dict[int, int]]
"""The key shapes that a batch proves, with their starts."""

_COLLECT_EVERY = 200_000


@dataclass(frozen=True)
class BatchPlan:
    """The input of a Spark task, sent to the executors."""

    settings: Settings
    epoch_us: int
    decoded_schema: pa.Schema
    summary_schema: pa.Schema
    order: Order = ONE_LAYOUT
    proofs: KeyProofs = NOTHING_PROVEN
    found: "Accumulator[Found] | None" = None
    """Where the stream's tasks add what they discover about the topic's keys; None: they rely on `proofs`."""

    @property
    def pipeline(self) -> Pipeline:
        """Return the pipeline, imported where it is needed."""
        return pipelines.of(self.settings)


class _FoundParam(AccumulatorParam):  # type: ignore[misc]  # pyspark is untyped here
    """Merges what tasks discover about keys. A retried task discovers the same."""

    def zero(self, value: Found) -> Found:  # noqa: ARG002
        return {}

    def addInPlace(self, value1: Found, value2: Found) -> Found:  # noqa: N802
        return merge_proofs([value1, value2])


def build_plan(
    settings: Settings, epoch_us: int, order: Order = ONE_LAYOUT, proofs: KeyProofs | None = None
) -> BatchPlan:
    """Return the plan of a stream on this settings' pipeline, or of a replay by its `proofs`. Needs a Spark session."""
    ddl = decoded_ddl(pipelines.of(settings).record)
    schemas = _arrow_schema(ddl), _arrow_schema(SUMMARY_DDL)
    if proofs is not None:
        return BatchPlan(settings, epoch_us, *schemas, order, proofs)
    found = SparkContext.getOrCreate().accumulator({}, _FoundParam())
    return BatchPlan(settings, epoch_us, *schemas, order, NOTHING_PROVEN, found)


def _arrow_schema(ddl: str) -> pa.Schema:
    return to_arrow_schema(StructType.fromDDL(ddl))


class Worker:
    """The state that a Python worker keeps between tasks: its connections, each opened on first use."""

    def __init__(self, settings: Settings, epoch_us: int) -> None:
        self._settings = settings
        self._epoch_us = epoch_us
        self._pipeline = pipelines.of(settings)
        self.topic = self._pipeline.topic

    def connect(self) -> None:
        """Open every connection now."""
        _ = self.decoder, self.rows, self._producer
        _collect_seldom()

    @cached_property
    def decoder(self) -> Decoder:
        """Return the decoder of the topic's values."""
        return Decoder(self._pipeline.record, Registry(self._settings), self._pipeline.key_format)

    @cached_property
    def rows(self) -> RowWriter:
        """Return the writer of the table's rows."""
        session = cassandra.connect(self._settings)
        with cassandra.translate_errors(self._settings):
            return RowWriter(
                session,
                cassandra.declared_table(self._settings, self._pipeline),
                epoch_us=self._epoch_us,
                concurrency=self._settings.cassandra_concurrency,
                leaves_unset=self._pipeline.one_version_per_id,
                may_tie=self._pipeline.declared_order is not None,
            )

    @cached_property
    def _producer(self) -> Producer:
        return create_producer(self._settings)

    @cached_property
    def _reader(self) -> Consumer:
        return create_reader(self._settings)

    def decode(self, batches: ArrowBatches, order: Order, proofs: KeyProofs | KeyEvidence) -> Iterator[Decoded]:
        """Decode batches of raw records."""
        order_by = self._pipeline.declared_order
        return decode_batches(batches, self.decoder, self.topic, order, self._epoch_us, proofs, order_by)

    def store(self, batch: Decoded) -> None:
        """Write the rows and deletions of a batch. Those that cannot be encoded become dead letters."""
        batch.reject(list(map(self._build_late_reject, self.rows.write(batch))))

    def _build_late_reject(self, failure: Unencodable) -> Reject:
        """Return the reject of a record that failed after it was decoded. Its bytes are in Kafka."""
        stage, error = Stage.TRANSFORM if self._pipeline.transform else Stage.DECODE, failure.error
        fault = Fault.of([error], stage) if isinstance(error, Violation) else Fault.of_exception(error, stage)
        return Reject(fault, self.topic, failure.partition, failure.offset, None, None, [])

    def send_dead_letters(self, rejects: list[Reject]) -> None:
        """Send `rejects` to the dead-letter topic and wait for every acknowledgement."""
        if rejects:
            send_dead_letters(
                self._producer, self._pipeline.dead_letter_topic, self._with_original_messages(rejects), self._epoch_us
            )

    def _with_original_messages(self, rejects: list[Reject]) -> Iterator[Reject]:
        """Yield the rejects with key, value and headers as stored in Kafka.

        A record that Kafka has deleted since it was read keeps what it has, all but its headers.
        """
        positions = [Position(reject.partition, reject.offset) for reject in rejects]
        messages = topics.read_records_at(self._reader, self.topic, positions, self._settings)
        for reject, position in zip(rejects, positions, strict=True):
            message = messages.get(position)
            if message is not None:  # a message without a value is falsy
                yield replace(
                    reject,
                    key=message.key(),
                    value=message.value(),
                    headers=list(message.headers() or []),
                    timestamp_ms=message.timestamp()[1],
                )
            elif not reject.has_bytes:
                raise KafkaUnreachable(
                    f"{self.topic} no longer has {position}, a record that failed after it was decoded"
                )
            else:
                yield reject


def _collect_seldom() -> None:
    """Make Python's garbage collector look for cycles less often. Records are in none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)


def _forget_zips() -> None:
    """Make Python forget imports from zip files, the form in which Spark distributes its own packages.

    Each Spark task makes Python read the directories of all remembered zip files again, which took up to 90 ms.
    """
    for entry, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[entry]


@cache
def _get_worker(settings: Settings, epoch_us: int) -> Worker:
    return Worker(settings, epoch_us)


def _this_worker(plan: BatchPlan) -> Worker:
    _forget_zips()
    return _get_worker(plan.settings, plan.epoch_us)


def warm_up(spark: SparkSession, plan: BatchPlan) -> None:
    """Start the Python workers and open their connections, so that the first records do not wait for that."""

    def task(batches: ArrowBatches) -> ArrowBatches:
        worker = _this_worker(plan)
        worker.connect()
        yield from batches

    cores = plan.settings.spark_cores
    spark.range(0, cores, 1, cores).mapInArrow(task, "id BIGINT").collect()


def write_batches(decoded: Iterable[Decoded], worker: Worker) -> Iterator[BatchSummary]:
    """Store or dead-letter each batch, and yield its summaries once all of it is acknowledged."""
    for batch in decoded:
        worker.store(batch)
        worker.send_dead_letters(batch.rejects)
        yield from summarize_batch(batch, time.time_ns() // 1_000_000)


def store_batch(raw: DataFrame, plan: BatchPlan) -> list[BatchSummary]:
    """Process one micro-batch of raw records, and return a summary per partition. Any error fails it as a whole."""
    carry_out = _store_transformed if plan.pipeline.transform else _store_as_is
    return carry_out(raw.coalesce(plan.settings.spark_cores), plan)


def _store_as_is(raw: DataFrame, plan: BatchPlan) -> list[BatchSummary]:
    """Decode and write in one pass over the raw bytes, without the columns that `decode_records` would make of them."""

    def task(batches: ArrowBatches) -> ArrowBatches:
        worker = _this_worker(plan)
        yield _build_arrow_batch(write_batches(_decode_task(batches, worker, plan), worker), plan)

    return _collect_summaries(raw, task)


def _decode_task(batches: ArrowBatches, worker: Worker, plan: BatchPlan) -> Iterator[Decoded]:
    """Decode a task's batches: every record passes here. What keys prove is added to the accumulator `plan.found`."""
    if plan.found is None:
        yield from worker.decode(batches, plan.order, plan.proofs)
        return
    evidence = KeyEvidence(plan.proofs)
    yield from worker.decode(batches, plan.order, evidence)
    if evidence.found:
        plan.found.add(evidence.found)


def decode_records(raw: DataFrame, plan: BatchPlan) -> DataFrame:
    """Return raw records as a DataFrame of decoded records. Rejects have `_rejected` set, deletions `_deleted`."""

    def task(batches: ArrowBatches) -> ArrowBatches:
        worker = _this_worker(plan)
        return to_columns(_decode_task(batches, worker, plan), plan.pipeline.record, plan.decoded_schema)

    return raw.mapInArrow(task, decoded_ddl(plan.pipeline.record))


def _store_transformed(raw: DataFrame, plan: BatchPlan) -> list[BatchSummary]:
    """Decode, transform, check and write a batch. Records that the transform drops are counted as filtered."""
    decoded = decode_records(raw, plan).persist()
    to_transform = "_rejected IS NULL AND _deleted IS NULL"
    good = decoded.where(to_transform)
    others = decoded.where(f"NOT ({to_transform})")
    newest_us = plan.order.newest.shift_us
    try:
        read, has_one_shift = _count_records(
            decoded, newest_us
        )  # decodes first, so that the transform is not blamed for it
        transformed = apply_transform(good, plan.pipeline, newest_us if has_one_shift else None)
        written = _write_all(transformed, others, plan)
    finally:
        decoded.unpersist()
    return _with_filtered(read, written)


def _write_all(transformed: Transformed, others: DataFrame, plan: BatchPlan) -> list[BatchSummary]:
    """Write the rows, and the records that bypassed the transform or failed in it. The rows are unpersisted."""
    bypassing = _drop_null_columns(others, transformed.rows, plan.pipeline.record)
    everything = transformed.rows.unionByName(bypassing, allowMissingColumns=True)
    if transformed.failed is not None:
        everything = everything.unionByName(transformed.failed, allowMissingColumns=True)
    try:
        return _collect_summaries(everything, _write_task(plan))
    finally:
        transformed.rows.unpersist()


def _drop_null_columns(others: DataFrame, rows: DataFrame, record: type[Record]) -> DataFrame:
    """Return rejects and deletions without the columns of `rows` that are null in them, so that no union casts `rows`.

    The common type of two decimals may have fewer decimals than either, and Spark rounds to it.
    """
    of_rows = set(rows.columns) - {*identity_of(record).columns}
    return others.drop(*(field.column for field in fields(record) if field.column in of_rows))


def _write_task(plan: BatchPlan) -> Callable[[ArrowBatches], ArrowBatches]:
    def task(batches: ArrowBatches) -> ArrowBatches:
        worker = _this_worker(plan)
        yield _build_arrow_batch(write_batches(from_columns(batches, plan.pipeline.stored, worker.topic), worker), plan)

    return task


def _count_records(decoded: DataFrame, shift_us: int) -> tuple[list[BatchSummary], bool]:
    """Return the records and offsets read per partition, before the transform, all counted as filtered so far.

    Also return whether all records have the shift `shift_us`.
    """
    offset, has_other = "kafka_offset", functions.max(functions.col("_shift_us") != shift_us)
    counts = decoded.groupBy("kafka_partition").agg(
        functions.min(offset), functions.max(offset), functions.count("*"), has_other
    )
    counted, now_ms = counts.collect(), time.time_ns() // 1_000_000
    summaries = [
        BatchSummary(
            partition, first, last, records, 0, 0, 0, filtered=records, stored_at_ms=now_ms, nulls={}, latencies={}
        )
        for partition, first, last, records, _ in counted
    ]
    return summaries, not any(is_other for *_, is_other in counted)


def _with_filtered(read: list[BatchSummary], written: list[BatchSummary]) -> list[BatchSummary]:
    """Return the summaries of the records read, with what was written. The rest is counted as filtered."""
    written_by_partition = {each.partition: each for each in written}
    return [_as_read(before, written_by_partition.get(before.partition)) for before in read]


def _as_read(read: BatchSummary, written: BatchSummary | None) -> BatchSummary:
    """Return a partition's summary of written records, extended to everything read."""
    if written is None:
        return read
    return written._replace(
        first_offset=read.first_offset,
        last_offset=read.last_offset,
        records=read.records,
        filtered=read.records - written.records,
    )


def _build_arrow_batch(summaries: Iterable[BatchSummary], plan: BatchPlan) -> pa.RecordBatch:
    rows = [
        summary._asdict() | {"nulls": list(summary.nulls.items()), "latencies": list(summary.latencies.items())}
        for summary in merge_summaries(summaries)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=plan.summary_schema)


def _collect_summaries(frame: DataFrame, task: Callable[[ArrowBatches], ArrowBatches]) -> list[BatchSummary]:
    return merge_summaries([BatchSummary(*row) for row in frame.mapInArrow(task, SUMMARY_DDL).collect()])
