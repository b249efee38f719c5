"""Send prepared keys and values from memory with penstock's producer settings: the upper limit of producing.

Its argument is a JSON object: bootstrap, topic, records (0: until SIGTERM), and values, a file with one base64 value
per line, which are sent repeatedly.
"""

import base64
import json
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Producer

CALL_RECORDS = 1000
QUEUED_RECORDS, QUEUED_KBYTES = 500_000, 256 * 1024
KEYS = 50_000
"""Number of keys generated before the start."""
FLUSH_S = 60.0


def create_producer(bootstrap: str) -> Producer:
    """Create a producer with penstock's settings, a longer queue, and delivery reports only for failures."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "queue.buffering.max.messages": QUEUED_RECORDS,
            "queue.buffering.max.kbytes": QUEUED_KBYTES,
            "delivery.report.only.error": True,
            "on_delivery": raise_on_error,
        }
    )


def raise_on_error(error: Any, _: Any) -> None:
    """Raise `KafkaException` for a record that was not delivered."""
    if error is not None:
        raise KafkaException(error)


def build_calls(values: Path, records: int) -> Iterator[list[dict[str, bytes]]]:
    """Yield the messages of each call, `records` in total, or endlessly for 0."""
    bodies = [base64.b64decode(line) for line in values.read_bytes().splitlines()]
    keys = [str(uuid.uuid4()).encode() for _ in range(KEYS)]
    pairs = zip(cycle(keys), cycle(bodies))
    messages = [{"key": key, "value": value} for key, value in islice(pairs, KEYS)]
    endless = cycle(messages)
    remaining = records
    while not records or remaining > 0:
        call = list(islice(endless, min(remaining, CALL_RECORDS) if records else CALL_RECORDS))
        remaining -= len(call)
        yield call


def enqueue(producer: Producer, topic: str, call: list[dict[str, bytes]]) -> None:
    """Enqueue the messages of one call. Blocks while the queue is full."""
    while len(producer) + len(call) > QUEUED_RECORDS:
        producer.poll(0.01)
    if producer.produce_batch(topic, call) != len(call):
        raise BufferError("the producer's queue is full: increase QUEUED_KBYTES")


def main() -> None:
    """Send the records and report how many are acknowledged."""
    options, stop, sent = json.loads(sys.argv[1]), threading.Event(), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    producer = create_producer(options["bootstrap"])
    for call in build_calls(Path(options["values"]), options["records"]):
        enqueue(producer, options["topic"], call)
        sent += len(call)
        producer.poll(0)
        report_progress(sent - len(producer))
        if stop.is_set():
            break
    if producer.flush(FLUSH_S):
        raise SystemExit(f"not all records were acknowledged within {FLUSH_S:g} s")
    report_progress(sent)


def report_progress(done: int) -> None:
    """Print the number of acknowledged records."""
    sys.stdout.write(f"{json.dumps({'done': done})}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
