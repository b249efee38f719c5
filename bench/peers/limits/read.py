"""The fastest reader: reads a whole topic from its start, in one process, and does nothing with it.

Its argument is a JSON object: bootstrap, topic, records (0: until SIGTERM).
"""

import json
import signal
import sys
import threading
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

POLL_RECORDS, POLL_S = 10_000, 0.1
CONNECT_S = 30


def connect(asked: dict[str, Any]) -> Consumer:
    """Return a consumer that is assigned all partitions and commits nothing."""
    consumer = Consumer(
        {
            "bootstrap.servers": asked["bootstrap"],
            "group.id": "limits-read",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,  # by default a full queue stops fetching for a second: 4 times slower here
            "queued.min.messages": 400_000,
            "queued.max.messages.kbytes": 256 * 1024,
        }
    )
    partitions = consumer.list_topics(asked["topic"], timeout=CONNECT_S).topics[asked["topic"]].partitions
    consumer.assign([TopicPartition(asked["topic"], number, OFFSET_BEGINNING) for number in partitions])
    return consumer


def main() -> None:
    """Read the topic and report how much has been read."""
    asked, stop, done = json.loads(sys.argv[1]), threading.Event(), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    consumer = connect(asked)
    while not stop.is_set() and (not asked["records"] or done < asked["records"]):
        messages = consumer.consume(POLL_RECORDS, POLL_S)
        for error in filter(None, [message.error() for message in messages]):
            raise KafkaException(error)
        done += len(messages)
        if messages:
            sys.stdout.write(f"{json.dumps({'done': done})}\n")
            sys.stdout.flush()
    consumer.close()


if __name__ == "__main__":
    main()
