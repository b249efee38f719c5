"""A stretch of the topic read again, beside the stream that goes on: the same decode and the same write, in Spark.

Delivery: every offset of the stretch is stored or set aside again. Nothing newer is overwritten, since a row's write
timestamp is its place in Kafka, so a replay may be broken off, and done again, at any time. Its lines in the ledger
bear a job of its own.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cassandra.cluster import Session
from pyspark.sql import SparkSession

from penstock import pipelines
from penstock.broker import topics
from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.contract.batch import Tally, merge
from penstock.errors import PenstockError
from penstock.pipeline.job import observer
from penstock.pipeline.recreated import TopicGuard, recreated
from penstock.pipeline.stream import plan, store, warm_up
from penstock.process.session import kafka_stretch, raw_records
from penstock.sink import cassandra, ledger, table_orders
from penstock.sink.incarnation import Incarnation
from penstock.sink.key_formats import read_proofs

Report = Callable[[int, int], None]
"""Told how many offsets are done, of how many."""


@dataclass(frozen=True)
class Replay:
    """What a replay did."""

    job: str
    records: int
    seconds: float
    partitions: list[Tally]


def replay(spark: SparkSession, session: Session, settings: Settings, spans: list[Span], report: Report) -> Replay:
    """Carry out the records in `spans` again, at most `spark_batch_records` at once.

    Raises `PenstockError` when no job has read the topic yet, or the table has another order than the pipeline;
    `TopicRecreated` when it read another one of this name.
    """
    pipeline = pipelines.of(settings)
    keyspace = cassandra.keyspace_of(settings, pipeline)
    topic_id = topics.topic_id(settings, pipeline.topic)
    incarnation = Incarnation(session, keyspace, settings, pipeline.topic)
    if change := incarnation.find_change(topic_id):
        raise recreated(pipeline.topic, change)
    epoch_us = ledger.epoch_us(session, keyspace, pipeline.topic, topic_id)
    if epoch_us is None:
        raise PenstockError(f"no job has read {pipeline.topic} yet: there is nothing to replay", hint="./penstock up")
    table_orders.fix_order(session, keyspace, pipeline)
    began = time.monotonic()
    book = ledger.Ledger(session, keyspace, pipeline.topic, epoch_us)
    guard = TopicGuard(incarnation, pipeline.topic, topic_id, epoch_us, settings)
    order = observer(session, keyspace, book, settings, guard)()
    how = plan(settings, epoch_us, order, read_proofs(session, keyspace, pipeline.topic, epoch_us))
    sync_lag_s = cassandra.sync_lag_s(session)
    job = f"{ledger.REPLAY}{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z"
    warm_up(spark, how)
    tallies: list[Tally] = []
    done, total = 0, sum(span.records for span in spans)
    for number, some in enumerate(rounds(spans, settings.spark_batch_records)):
        raw = raw_records(kafka_stretch(spark, settings, pipeline.topic, some), pipeline.declared_order)
        stored = store(raw, how)
        book.write(job, number, stored, sync_lag_s)
        tallies = merge([*tallies, *stored])
        done += sum(span.records for span in some)
        report(done, total)
    return Replay(job, sum(one.records for one in tallies), round(time.monotonic() - began, 1), tallies)


def rounds(spans: list[Span], records: int) -> Iterator[list[Span]]:
    """`spans` in rounds of about as many offsets as `records`, each partition in its order."""
    share = max(1, records // max(1, len(spans)))
    left = [span for span in spans if span.records]
    while left:
        yield [Span(span.partition, span.first, min(span.end, span.first + share)) for span in left]
        left = [Span(span.partition, span.first + share, span.end) for span in left if span.first + share < span.end]
