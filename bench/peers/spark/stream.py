"""Stream a Kafka topic of users into a Cassandra table with Spark Structured Streaming and spark-cassandra-connector.

The same program runs on Spark 3.5 and Spark 4.1. It is started as `python stream.py SETTINGS`, one JSON object, and
prints {"done": records} to stdout after each committed micro-batch. It stops after `records`, or on SIGTERM.
"""

import json
import os
import signal
import sys
import threading
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

Settings = dict[str, Any]

USER = (
    "id STRING, first_name STRING, last_name STRING, gender STRING, address STRING, post_code STRING, email STRING, "
    "username STRING, dob TIMESTAMP, registered_date TIMESTAMP, phone STRING, picture STRING, nationality STRING"
)
ARRIVAL = ("timestamp AS ingested_at", "partition AS kafka_partition", "offset AS kafka_offset")
_POLL_S = 0.1


def main() -> None:
    """Stream until enough records are stored, or until SIGTERM."""
    settings: Settings = json.loads(sys.argv[1])
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with create_session(settings) as spark:
        query = start_query(read_users(spark, settings), settings)
        report_progress(query, settings["records"], stopped)
        query.stop()


def create_session(settings: Settings) -> SparkSession:
    """Create a Spark session in this process: `local[cores]`, on the loopback address, without UI."""
    os.environ |= {"JAVA_HOME": settings["java_home"], "SPARK_LOCAL_IP": "127.0.0.1"}
    options = {
        "spark.cassandra.connection.host": settings["cassandra_host"],
        "spark.cassandra.connection.port": settings["cassandra_port"],
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraClassPath": f"{settings['jars']}/*",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": f"{settings['memory_mib']}m",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.streaming.numRecentProgressUpdates": 10,
        "spark.ui.enabled": False,
        "spark.ui.showConsoleProgress": False,
    }
    builder = SparkSession.builder.appName(settings["topic"]).master(f"local[{settings['cores']}]")
    for name, value in (options | settings["options"]).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    return spark


def read_users(spark: SparkSession, settings: Settings) -> DataFrame:
    """Read the topic's records as the table's columns. The setting `json` is a SQL expression for a value's JSON."""
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings["bootstrap"])
        .option("subscribe", settings["topic"])
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", settings["batch_records"])
        .load()
    )
    user = f"from_json(CAST({settings['json']} AS STRING), '{USER}') AS user"
    return records.selectExpr(user, *ARRIVAL).select("user.*", "ingested_at", "kafka_partition", "kafka_offset")


def start_query(rows: DataFrame, settings: Settings) -> StreamingQuery:
    """Start the query that appends the rows to the table."""
    return (
        rows.writeStream.format("org.apache.spark.sql.cassandra")
        .option("keyspace", settings["keyspace"])
        .option("table", settings["table"])
        .option("checkpointLocation", settings["checkpoint"])
        .trigger(processingTime=f"{settings['trigger_ms']} milliseconds")
        .start()
    )


def report_progress(query: StreamingQuery, records: int, stopped: threading.Event) -> None:
    """Print the number of stored records after each micro-batch. Raises the error of a failed query."""
    done, last_batch = 0, -1
    while not stopped.is_set() and (done < records or not records):
        query.awaitTermination(_POLL_S)
        new = [
            progress
            for progress in query.recentProgress
            if progress["batchId"] > last_batch and progress["numInputRows"]
        ]
        if new:
            done += sum(progress["numInputRows"] for progress in new)
            last_batch = new[-1]["batchId"]
            sys.stdout.write(json.dumps({"done": done}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
