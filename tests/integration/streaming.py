"""A separate pipeline per test in a real Spark: its topic is filled, stored in batches, its rows and dead letters are
read.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message
from pyspark.sql import DataFrame, SparkSession

from penstock import pipelines
from penstock.broker import topics
from penstock.broker.kafka import create_producer
from penstock.config import Settings
from penstock.contract.batch import BatchSummary, merge_summaries
from penstock.contract.proofs import KEY_SHAPES, KeyProofs
from penstock.contract.record import Headers
from penstock.pipeline import job, stream
from penstock.process.session import kafka_options, raw_records
from penstock.sink import cassandra

EPOCH_US = 1_000
PROVEN = KeyProofs({shape: {} for shape in KEY_SHAPES})
"""A topic whose keys were seen to be ids in every shape."""
HEADERS: Headers = [("origin", b"test")]

Sent = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers."""
Place = tuple[int, int]
"""Partition and offset."""


class Topic:
    """A separate pipeline with a topic that the test fills, and with a table."""

    def __init__(self, settings: Settings, file: Path, spark: SparkSession) -> None:
        self.settings = settings.model_copy(update={"pipeline": str(file)})
        self.pipeline = pipelines.of(self.settings)
        self.spark = spark
        topics.ensure_pipeline_topics(self.settings, self.pipeline)
        with cassandra.open_session(self.settings) as session:
            cassandra.create_keyspace(session, self.settings, self.pipeline)
            job.create_tables(session, self.settings)

    def send(self, *values: bytes | None, key: bytes | None = b"key") -> None:
        self.send_all((key, value, HEADERS) for value in values)

    def send_all(self, records: Iterable[Sent]) -> list[Place]:
        """Return the position of each record, once all are acknowledged."""
        client, places = create_producer(self.settings), {}
        for at, (key, value, headers) in enumerate(records):

            def report(error: KafkaError | None, message: Message, at: int = at) -> None:
                assert error is None
                places[at] = (message.partition(), message.offset())

            client.produce(self.pipeline.topic, value=value, key=key, headers=headers, on_delivery=report)
        assert client.flush(60) == 0
        return [places[at] for at in range(len(places))]

    def raw(self) -> DataFrame:
        reader = self.spark.read.format("kafka").option("subscribe", self.pipeline.topic)
        for name, value in kafka_options(self.settings).items():
            if name != "maxOffsetsPerTrigger":
                reader = reader.option(name, value)
        return raw_records(reader.load(), self.pipeline.declared_order)

    def summaries(self) -> list[BatchSummary]:
        """Return the summaries by partition of one batch over the whole topic."""
        return stream.store_batch(self.raw(), stream.build_plan(self.settings, epoch_us=EPOCH_US, proofs=PROVEN))

    def store(self) -> BatchSummary:
        """Like `summaries`, merged into one."""
        return merge_summaries(summary._replace(partition=0) for summary in self.summaries())[0]

    def rows(self) -> dict[str, dict[str, Any]]:
        with cassandra.open_session(self.settings) as session:
            query = f"SELECT * FROM {self.pipeline.keyspace}.{self.pipeline.table}"
            return {str(row["id"]): row for row in session.execute(query)}

    def dead_letters(self) -> list[Message]:
        topic = self.pipeline.dead_letter_topic
        return list(topics.read_records(self.settings, topic, topics.fetch_offset_ranges(self.settings, topic)))
