"""The tutorial's producer: one request and one send per user, kafka-python with its defaults.

Its argument is a JSON object: bootstrap, topic, records (0: until SIGTERM), api.
"""

import json
import signal
import sys
import threading
from typing import Any

import requests
from kafka import KafkaProducer
from users import reshape

REPORT_RECORDS = 100
"""Number of acknowledged records between two lines on stdout."""


class Acknowledged:
    """Counts the records that Kafka has acknowledged, and prints the count."""

    def __init__(self) -> None:
        self.records = 0

    def note(self, _: Any) -> None:
        """Count one record. Called by the producer's only thread."""
        self.records += 1
        if self.records % REPORT_RECORDS == 0:
            self.tell()

    def tell(self) -> None:
        """Print a line."""
        sys.stdout.write(f"{json.dumps({'done': self.records})}\n")
        sys.stdout.flush()


def one_user(api: str) -> dict[str, str]:
    """Return the next user of the API."""
    answer = requests.get(api, params={"results": 1}, timeout=10)
    answer.raise_for_status()
    return reshape(answer.json()["results"][0])


def main() -> int:
    """Send the users, and return 1 if some were not acknowledged."""
    asked, stop, acknowledged = json.loads(sys.argv[1]), threading.Event(), Acknowledged()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    producer, sent = KafkaProducer(bootstrap_servers=asked["bootstrap"]), 0
    while not stop.is_set() and (not asked["records"] or sent < asked["records"]):
        value = json.dumps(one_user(asked["api"])).encode()
        producer.send(asked["topic"], value).add_callback(acknowledged.note)
        sent += 1
    producer.flush()
    acknowledged.tell()
    return 0 if acknowledged.records == sent else 1


if __name__ == "__main__":
    sys.exit(main())
