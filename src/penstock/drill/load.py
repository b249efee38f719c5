"""Records in flight during a fault."""

import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from penstock.airflow.api_client import Airflow
from penstock.broker import headers
from penstock.broker.kafka import create_producer
from penstock.broker.registry import Registry
from penstock.broker.topics import OffsetRange
from penstock.codec.encode import Serialize, build_serializer
from penstock.config import Settings
from penstock.contract.fields import build_key_writer, key_of
from penstock.contract.record import Record
from penstock.drill.target import Target
from penstock.errors import Unreachable
from penstock.pipelines import Pipeline
from penstock.pipelines.mapping import fields_of
from penstock.produce.send import Delivered, Sender
from penstock.source.nationalities import NATIONALITIES
from penstock.source.people import GENDERS, make_user

_PATTERNS = 1000
"""Number of distinct users. Further ones are copies of these with new ids."""


class LoadRun:
    """A DAG run, triggered with these parameters. Unpauses the DAG."""

    def __init__(self, settings: Settings, parameters: dict[str, Any]) -> None:
        self._settings = settings
        with Airflow(settings) as airflow:
            airflow.unpause_dag()
            self.id = airflow.trigger_run(parameters)

    def state(self) -> str:
        """Return the final state of the run. Raises `Unreachable` while it is still running."""
        with Airflow(self._settings) as airflow:
            run, (task, attempt) = airflow.describe_run(self.id), airflow.fetch_task_state(self.id)
            if not airflow.has_ended(run):
                raise Unreachable(f"run {self.id} is {run['state']}, attempt {attempt} of its task {task}")
            return str(run["state"])


def generate_users(record: type[Record], pipeline: Pipeline) -> Iterator[Record]:
    """Generate made-up users endlessly, each with a new id."""
    key = key_of(record).column
    seed, nats = uuid.uuid4().hex, tuple(NATIONALITIES)
    patterns = [
        msgspec.convert(fields_of(pipeline.from_source(make_user(seed, index, nats, GENDERS)), record), record)
        for index in range(_PATTERNS)
    ]
    while True:
        for user in patterns:
            yield msgspec.structs.replace(user, **{key: uuid.uuid4()})


class Direct:
    """Produces generated users directly to the topic, bypassing Airflow."""

    def __init__(self, target: Target, name: str) -> None:
        settings, pipeline = target.settings, target.pipeline
        self._settings, self._topic, self._key = settings, pipeline.topic, build_key_writer(pipeline.record)
        self._headers = [(headers.RUN, f"drill-{name}".encode())]
        schema_id = Registry(settings).register(pipeline.subject, pipeline.record, settings.wire_format)
        self._serialize: Serialize = build_serializer(pipeline.record, settings.wire_format, schema_id)
        self.users = generate_users(pipeline.record, pipeline)

    def send(self, records: int) -> Delivered:
        """Send this number of users and wait for all acknowledgements. Raises `DeliveryFailed`."""
        return self.send_at((user, 0) for user in islice(self.users, records))

    def send_at(self, users: Iterable[tuple[Record, int]]) -> Delivered:
        """Send users with the given Kafka timestamps, in epoch ms; 0 means now. Raises `DeliveryFailed`."""
        with Sender(create_producer(self._settings), self._topic, self._settings.kafka_timeout_s) as sender:
            for user, timestamp_ms in users:
                sender.send(self._key(user), self._serialize(user), self._headers, timestamp_ms)
        return sender.delivered


def ranges_of(delivered: Delivered) -> list[OffsetRange]:
    """Return the range from the first to the last acknowledged offset of each partition."""
    return [OffsetRange(partition, first, last + 1) for partition, (first, last) in delivered.offsets.items()]


def now_ms() -> int:
    """Return the current time as a Kafka timestamp: epoch milliseconds."""
    return time.time_ns() // 1_000_000
