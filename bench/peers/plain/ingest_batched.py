"""A tuned kafka-python producer: users in pages, lingering compressed batches, every send checked.

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


def pages(api: str, records: int) -> Iterator[list[dict[str, str]]]:
    """Yield pages of users, `records` in total; endless for 0."""
    seed = uuid.uuid4().hex
    with requests.Session() as session:
        for page in count(1):
            answer = session.get(api, params={"results": PAGE_USERS, "page": page, "seed": seed}, timeout=30)
            answer.raise_for_status()
            left = records - (page - 1) * PAGE_USERS if records else PAGE_USERS
            yield [reshape(entry) for entry in answer.json()["results"][:left]]
            if records and left <= PAGE_USERS:
                return


def tuned(bootstrap: str) -> KafkaProducer:
    """Return an idempotent producer that makes few, large, compressed batches."""
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
    asked, stop, done, waiting = json.loads(sys.argv[1]), threading.Event(), 0, []
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    producer, topic = tuned(asked["bootstrap"]), asked["topic"]
    for users in pages(asked["api"], asked["records"]):
        sent = [producer.send(topic, json.dumps(user).encode(), key=user["id"].encode()) for user in users]
        done = settle(waiting, done)  # the page before this one: one is always in flight
        waiting = sent
        if stop.is_set():
            break
    producer.flush()
    settle(waiting, done)


def settle(waiting: list, done: int) -> int:
    """Wait for the sends in `waiting`, and print and return the number of acknowledged records."""
    for send in waiting:
        send.get(SEND_TIMEOUT_S)
    if waiting:
        sys.stdout.write(f"{json.dumps({'done': done + len(waiting)})}\n")
        sys.stdout.flush()
    return done + len(waiting)


if __name__ == "__main__":
    main()
