"""Send users as the tutorial does: one request and one send per user, kafka-python with its defaults.

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


class AcknowledgementCounter:
    """Counts the records that Kafka has acknowledged, and prints the count."""

    def __init__(self) -> None:
        self.records = 0

    def count(self, _: Any) -> None:
        """Count one record. Called by the producer's only thread."""
        self.records += 1
        if self.records % REPORT_RECORDS == 0:
            self.report()

    def report(self) -> None:
        """Print the count."""
        sys.stdout.write(f"{json.dumps({'done': self.records})}\n")
        sys.stdout.flush()


def fetch_user(api: str) -> dict[str, str]:
    """Fetch the next user from the API."""
    response = requests.get(api, params={"results": 1}, timeout=10)
    response.raise_for_status()
    return reshape(response.json()["results"][0])


def main() -> int:
    """Send the users. Returns 1 if some were not acknowledged."""
    options, stop, acknowledged = json.loads(sys.argv[1]), threading.Event(), AcknowledgementCounter()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    producer, sent = KafkaProducer(bootstrap_servers=options["bootstrap"]), 0
    while not stop.is_set() and (not options["records"] or sent < options["records"]):
        value = json.dumps(fetch_user(options["api"])).encode()
        producer.send(options["topic"], value).add_callback(acknowledged.count)
        sent += 1
    producer.flush()
    acknowledged.report()
    return 0 if acknowledged.records == sent else 1


if __name__ == "__main__":
    sys.exit(main())
