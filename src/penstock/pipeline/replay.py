"""Read a range of the topic again in Spark, while the stream continues, with the same decode and the same write.

Delivery: every offset of the range is stored or dead-lettered again. Nothing newer is overwritten, because a row's
write timestamp is its position in Kafka, so a replay can be interrupted and repeated at any time. Its ledger entries
have a job of their own.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cassandra.cluster import Session
from pyspark.sql import SparkSession

from penstock import pipelines, remedies
from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.batch import BatchSummary, merge_summaries
from penstock.errors import PenstockError
from penstock.pipeline.job import build_observer
from penstock.pipeline.stream import build_plan, store_batch, warm_up
from penstock.pipeline.topic_guard import TopicGuard, build_recreated_error
from penstock.process.session import load_offset_ranges, raw_records
from penstock.sink import cassandra, ledger, table_orders
from penstock.sink.incarnation import Incarnation
from penstock.sink.key_formats import read_proofs

Report = Callable[[int, int], None]
"""Called with the number of processed offsets and the total."""


@dataclass(frozen=True)
class Replay:
    """The result of a replay."""

    job: str
    records: int
    seconds: float
    partitions: list[BatchSummary]


def replay_ranges(
    spark: SparkSession, session: Session, settings: Settings, ranges: list[OffsetRange], report: Report
) -> Replay:
    """Process the records in `ranges` again, at most `spark_batch_records` at a time.

    Raises `PenstockError` if no job has read the topic yet, or the table has another order than the pipeline;
    `TopicRecreated` if the job read an earlier topic of this name.
    """
    pipeline = pipelines.of(settings)
    keyspace = cassandra.keyspace_of(settings, pipeline)
    topic_id = topics.fetch_topic_id(settings, pipeline.topic)
    incarnation = Incarnation(session, keyspace, settings, pipeline.topic)
    if change := incarnation.find_change(topic_id):
        raise build_recreated_error(pipeline.topic, change)
    epoch_us = ledger.read_epoch_us(session, keyspace, pipeline.topic, topic_id)
    if epoch_us is None:
        raise PenstockError(f"no job has read {pipeline.topic} yet: there is nothing to replay", hint=remedies.start())
    table_orders.fix_order(session, keyspace, pipeline)
    began = time.monotonic()
    topic_ledger = ledger.Ledger(session, keyspace, pipeline.topic, epoch_us)
    guard = TopicGuard(incarnation, pipeline.topic, topic_id, epoch_us, settings)
    order = build_observer(session, keyspace, topic_ledger, settings, guard)()
    plan = build_plan(settings, epoch_us, order, read_proofs(session, keyspace, pipeline.topic, epoch_us))
    sync_lag_s = cassandra.sync_lag_s(session)
    job = f"{ledger.REPLAY}{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z"
    warm_up(spark, plan)
    summaries: list[BatchSummary] = []
    done, total = 0, sum(offset_range.records for offset_range in ranges)
    for number, part in enumerate(split_rounds(ranges, settings.spark_batch_records)):
        raw = raw_records(load_offset_ranges(spark, settings, pipeline.topic, part), pipeline.declared_order)
        stored = store_batch(raw, plan)
        topic_ledger.write(job, number, stored, sync_lag_s)
        summaries = merge_summaries([*summaries, *stored])
        done += sum(offset_range.records for offset_range in part)
        report(done, total)
    return Replay(job, sum(summary.records for summary in summaries), round(time.monotonic() - began, 1), summaries)


def split_rounds(ranges: list[OffsetRange], records: int) -> Iterator[list[OffsetRange]]:
    """Yield `ranges` in rounds of about `records` offsets, each partition in order."""
    share = max(1, records // max(1, len(ranges)))
    left = [offset_range for offset_range in ranges if offset_range.records]
    while left:
        yield [
            OffsetRange(offset_range.partition, offset_range.first, min(offset_range.end, offset_range.first + share))
            for offset_range in left
        ]
        left = [
            OffsetRange(offset_range.partition, offset_range.first + share, offset_range.end)
            for offset_range in left
            if offset_range.first + share < offset_range.end
        ]
