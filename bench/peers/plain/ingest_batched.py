"""Send users with a tuned kafka-python producer: pages of users, linger, compression, every send checked.

Its argument is a JSON object: bootstrap, topic, records (0: until SIGTERM), api.
"""

import json
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from itertools import count

import requests
from kafka import KafkaProducer
from users import reshape

PAGE_USERS = 500
SEND_TIMEOUT_S = 60


def fetch_pages(api: str, records: int) -> Iterator[list[dict[str, str]]]:
    """Yield pages of users, `records` in total, or endlessly for 0."""
    seed = uuid.uuid4().hex
    with requests.Session() as session:
        for page in count(1):
            response = session.get(api, params={"results": PAGE_USERS, "page": page, "seed": seed}, timeout=30)
            response.raise_for_status()
            remaining = records - (page - 1) * PAGE_USERS if records else PAGE_USERS
            yield [reshape(entry) for entry in response.json()["results"][:remaining]]
            if records and remaining <= PAGE_USERS:
                return


def create_producer(bootstrap: str) -> KafkaProducer:
    """Create an idempotent producer that sends few, large, compressed batches."""
    return KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        batch_size=256 * 1024,
        compression_type="lz4",
    )


def main() -> None:
    """Send the users. Raises kafka-python's error if one was not acknowledged."""
    options, stop, done, pending = json.loads(sys.argv[1]), threading.Event(), 0, []
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    producer, topic = create_producer(options["bootstrap"]), options["topic"]
    for users in fetch_pages(options["api"], options["records"]):
        sent = [producer.send(topic, json.dumps(user).encode(), key=user["id"].encode()) for user in users]
        done = await_sends(pending, done)  # of the previous page, so that one page is always in flight
        pending = sent
        if stop.is_set():
            break
    producer.flush()
    await_sends(pending, done)


def await_sends(pending: list, done: int) -> int:
    """Wait for the pending sends, then print and return the number of acknowledged records."""
    for send in pending:
        send.get(SEND_TIMEOUT_S)
    if pending:
        sys.stdout.write(f"{json.dumps({'done': done + len(pending)})}\n")
        sys.stdout.flush()
    return done + len(pending)


if __name__ == "__main__":
    main()
