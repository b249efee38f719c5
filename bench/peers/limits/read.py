"""Read a whole topic from its start and discard the records: the upper limit of reading.

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


def create_consumer(options: dict[str, Any]) -> Consumer:
    """Create a consumer with all partitions assigned, which commits no offsets."""
    consumer = Consumer(
        {
            "bootstrap.servers": options["bootstrap"],
            "group.id": "limits-read",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,  # by default, a full queue pauses fetching for a second: 4 times slower here
            "queued.min.messages": 400_000,
            "queued.max.messages.kbytes": 256 * 1024,
        }
    )
    partitions = consumer.list_topics(options["topic"], timeout=CONNECT_S).topics[options["topic"]].partitions
    consumer.assign([TopicPartition(options["topic"], number, OFFSET_BEGINNING) for number in partitions])
    return consumer


def main() -> None:
    """Read the topic and report how much has been read."""
    options, stop, done = json.loads(sys.argv[1]), threading.Event(), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    consumer = create_consumer(options)
    while not stop.is_set() and (not options["records"] or done < options["records"]):
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
