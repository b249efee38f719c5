"""Consume a Kafka topic into a Cassandra table. Offsets are committed after the rows are acknowledged.

Its argument is a JSON object: bootstrap, topic, records (0: until SIGTERM), cassandra_host, cassandra_port, keyspace,
table, and style: "concurrent" (one insert per row, many at a time) or "batched" (orjson, unlogged batches). Optional
are batch_records, the maximum per poll (5000), and group (without one, the topic is read from its start).

Delivery is at least once; writing a row again results in the same row.
"""

import json
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson
from cassandra.cluster import Cluster, Session
from cassandra.concurrent import execute_concurrent, execute_concurrent_with_args
from cassandra.query import BatchStatement, BatchType, PreparedStatement
from confluent_kafka import Consumer, KafkaException, Message

HEADER_BYTES = 5
"""Size of the schema registry's wire-format header, before the JSON."""
COLUMNS = (
    "id, first_name, last_name, gender, address, post_code, email, username, dob, registered_date, phone, picture, "
    "nationality, ingested_at, kafka_partition, kafka_offset"
)
CONCURRENT_INSERTS = 100
BATCH_ROWS, CONCURRENT_BATCHES = 50, 16
POLL_S = 0.1

Row = tuple[Any, ...]


def build_row(message: Message, decode: Callable[[bytes], dict[str, str]]) -> Row:
    """Return the values of a message's row, in the order of `COLUMNS`."""
    user = decode(message.value()[HEADER_BYTES:])
    return (
        uuid.UUID(user["id"]),
        user["first_name"],
        user["last_name"],
        user["gender"],
        user["address"],
        user["post_code"],
        user["email"],
        user["username"],
        datetime.fromisoformat(user["dob"]),
        datetime.fromisoformat(user["registered_date"]),
        user["phone"],
        user["picture"],
        user["nationality"],
        datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
        message.partition(),
        message.offset(),
    )


def write_concurrent(session: Session, insert: PreparedStatement, rows: Iterator[Row]) -> None:
    """Write with one insert per row. Raises the driver's error for the first failed insert."""
    execute_concurrent_with_args(session, insert, rows, concurrency=CONCURRENT_INSERTS)


def write_batched(session: Session, insert: PreparedStatement, rows: Iterator[Row]) -> None:
    """Write in unlogged batches. Raises the driver's error for the first failed batch."""
    batches = ((batch, None) for batch in build_batches(insert, rows))
    execute_concurrent(session, batches, concurrency=CONCURRENT_BATCHES)


def build_batches(insert: PreparedStatement, rows: Iterator[Row]) -> Iterator[BatchStatement]:
    """Yield the rows in batches. Any rows may share a batch, because a single node owns all partitions."""
    while chunk := list(islice(rows, BATCH_ROWS)):
        batch = BatchStatement(BatchType.UNLOGGED)
        for row in chunk:
            batch.add(insert, row)
        yield batch


STYLES = {"concurrent": (json.loads, write_concurrent), "batched": (orjson.loads, write_batched)}


def poll_messages(options: dict[str, Any], stop: threading.Event) -> Iterator[list[Message]]:
    """Yield the messages of each poll. They are committed before the next poll."""
    consumer = Consumer(
        {
            "bootstrap.servers": options["bootstrap"],
            "group.id": options.get("group") or f"plain-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([options["topic"]])
    while not stop.is_set():
        messages = consumer.consume(options.get("batch_records", 5000), POLL_S)
        for error in filter(None, (message.error() for message in messages)):
            raise KafkaException(error)
        if messages:
            yield messages
            consumer.commit(asynchronous=False)
    consumer.close()


def main() -> None:
    """Store the topic's users and report progress."""
    options, stop, done = json.loads(sys.argv[1]), threading.Event(), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    decode, write = STYLES[options["style"]]
    with Cluster([options["cassandra_host"]], port=options["cassandra_port"]) as cluster, cluster.connect() as session:
        placeholders = ", ".join("?" for _ in COLUMNS.split(","))
        insert = session.prepare(
            f"INSERT INTO {options['keyspace']}.{options['table']} ({COLUMNS}) VALUES ({placeholders})"
        )
        for messages in poll_messages(options, stop):
            write(session, insert, (build_row(message, decode) for message in messages))
            done += len(messages)
            sys.stdout.write(f"{json.dumps({'done': done})}\n")
            sys.stdout.flush()
            if options["records"] and done >= options["records"]:
                stop.set()


if __name__ == "__main__":
    main()
