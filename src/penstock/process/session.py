"""The Spark session, and the stream of raw Kafka records."""

import json
import os
import sys

from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql.streaming import DataStreamReader

from penstock.broker import topics
from penstock.broker.headers import ORDER
from penstock.broker.topics import OffsetRange
from penstock.config import LOOPBACK, Settings
from penstock.contract.order_by import OrderBy
from penstock.process.checkpoint import Offsets, checkpoint_of
from penstock.process.ordering import TOMBSTONE_HEADERS

RAW_COLUMNS = (
    "key",
    "value",
    "partition",
    "offset",
    "unix_millis(timestamp) AS timestamp_ms",
    f"IF(get(headers, 0).key = '{ORDER}', get(headers, 0).value, NULL) AS order_header",
)
"""Columns of a raw record, as `decode_batches` reads them.

Only one header's value is included. Spark measures the size of a list of headers again for each row, which took half of
the JVM's time.
"""

_LOCAL_CHECKPOINT = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
"""Writes a checkpoint file by renaming it, like the default. On a local folder, the default also starts a process to
check for links, and takes four times as long."""
_POLL_RECORDS = 10_000
"""Records in a fetch. After each poll, of 500 records by default, Spark asks Kafka where the partition begins and
ends."""
_BEGINNING = -2
"""Stands for the first offset that a partition holds, in Spark's Kafka source."""


def spark_session(settings: Settings, name: str) -> SparkSession:
    """Return a session on `settings.spark_master`. Its configuration has the Kafka source's jars on the class path."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name).master(settings.spark_master)
    for key, value in session_settings(settings).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def session_settings(settings: Settings) -> dict[str, str]:
    """Return the Spark settings of the job."""
    shared = {
        "spark.cores.max": str(settings.spark_cores),
        "spark.driver.memory": f"{settings.spark_driver_memory_mib}m",
        "spark.executor.memory": f"{settings.spark_executor_memory_mib}m",
        "spark.ui.port": str(settings.spark_job_ui_port),
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.spark_cores),
        "spark.sql.streaming.minBatchesToRetain": "100",
        "spark.sql.streaming.numRecentProgressUpdates": "20",
        "spark.sql.adaptive.enabled": "false",
        "spark.python.worker.reuse": "true",
    }
    if "://" not in settings.checkpoint:
        shared["spark.sql.streaming.checkpointFileManagerClass"] = _LOCAL_CHECKPOINT
    if f"//{LOOPBACK}" in settings.spark_master:
        shared |= {"spark.driver.host": LOOPBACK, "spark.driver.bindAddress": LOOPBACK}
    return shared


def kafka_stream(spark: SparkSession, settings: Settings, topic: str) -> DataFrame:
    """Return the topic as a stream of Kafka's columns, with at most `spark_batch_records` per micro-batch.

    Without a checkpoint it starts where the last reset of the checkpoint said, else at the topic's beginning. If Kafka
    no longer has the records after the checkpoint, the stream fails: nothing is skipped silently.
    """
    options = kafka_options(settings) | {"subscribe": topic}
    start = checkpoint_of(settings, topic, spark).origin().start
    if start is not None:
        partitions = [offset_range.partition for offset_range in topics.fetch_offset_ranges(settings, topic)]
        options["startingOffsets"] = starting_offsets(topic, start, partitions)
    return _load_kafka(spark.readStream, options)


def load_offset_ranges(spark: SparkSession, settings: Settings, topic: str, ranges: list[OffsetRange]) -> DataFrame:
    """Return the topic's records in `ranges` as a DataFrame of Kafka's columns, to be read once."""
    options = {name: value for name, value in kafka_options(settings).items() if name != "maxOffsetsPerTrigger"}
    options["assign"] = json.dumps({topic: [offset_range.partition for offset_range in ranges]})
    options["startingOffsets"] = json.dumps(
        {topic: {str(offset_range.partition): offset_range.first for offset_range in ranges}}
    )
    options["endingOffsets"] = json.dumps(
        {topic: {str(offset_range.partition): offset_range.end for offset_range in ranges}}
    )
    return _load_kafka(spark.read, options)


def _load_kafka(reader: DataFrameReader | DataStreamReader, options: dict[str, str]) -> DataFrame:
    reader = reader.format("kafka")
    for key, value in options.items():
        reader = reader.option(key, value)
    return reader.load()


def starting_offsets(topic: str, start: Offsets, partitions: list[int]) -> str:
    """Return Spark's `startingOffsets`, which names every partition; those added later start at their beginning."""
    return json.dumps({topic: {str(partition): start.get(partition, _BEGINNING) for partition in partitions}})


def kafka_options(settings: Settings) -> dict[str, str]:
    """Return the options of Spark's Kafka source. Contains the password: never log it."""
    options = {
        "kafka.bootstrap.servers": settings.kafka_bootstrap,
        "kafka.security.protocol": settings.kafka_security_protocol,
        "includeHeaders": "true",
        "startingOffsets": "earliest",
        "failOnDataLoss": "true",
        "kafka.isolation.level": "read_committed",  # like librdkafka, which receipts use: skip aborted records
        "kafka.fetch.max.wait.ms": "5",  # a batch waits for a fetch in flight: 500 ms by default
        "kafka.max.poll.records": str(_POLL_RECORDS),
        "maxOffsetsPerTrigger": str(settings.spark_batch_records),
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= {
            "kafka.sasl.mechanism": settings.kafka_sasl_mechanism,
            "kafka.sasl.jaas.config": _format_jaas_config(settings),
        }
    if settings.kafka_ca_file:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": str(settings.kafka_ca_file)}
    return options


def _format_jaas_config(settings: Settings) -> str:
    scram = settings.kafka_sasl_mechanism.startswith("SCRAM")
    module = "scram.ScramLoginModule" if scram else "plain.PlainLoginModule"
    password = settings.kafka_password.get_secret_value().replace("\\", "\\\\").replace('"', '\\"')
    return (
        f"org.apache.kafka.common.security.{module} required "
        f'username="{settings.kafka_username}" password="{password}";'
    )


def raw_records(stream: DataFrame, order_by: OrderBy | None = None) -> DataFrame:
    """Return the columns of Kafka's records that decode needs, with unchanged bytes.

    All headers of tombstones are included if the function in `order_by` needs them.
    """
    needs_headers = order_by is not None and order_by.of_tombstone is not None
    more = [f"IF(value IS NULL, headers, NULL) AS {TOMBSTONE_HEADERS}"] if needs_headers else []
    return stream.selectExpr(*RAW_COLUMNS, *more)
