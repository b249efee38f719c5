"""The records that are under way while a fault lasts."""

import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from penstock.broker import headers
from penstock.broker.kafka import producer
from penstock.broker.registry import Registry
from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.contract.fields import key_of, key_writer
from penstock.contract.record import Record
from penstock.drill.ground import Ground
from penstock.errors import Unreachable
from penstock.observe.airflow import Airflow
from penstock.pipelines import Pipeline
from penstock.produce.send import Delivered, Sender
from penstock.produce.serialize import Serialize, serializer
from penstock.source.nationalities import NATIONALITIES
from penstock.source.people import GENDERS, make_user

_PATTERNS = 1000
"""So many different users are made; further ones are copies of them with an id of their own."""


class Run:
    """A DAG run that sends `records` at `rate` a second."""

    def __init__(self, settings: Settings, parameters: dict[str, Any]) -> None:
        self._settings = settings
        with Airflow(settings) as airflow:
            airflow.unpause()
            self.id = airflow.trigger(parameters)

    def state(self) -> str:
        """How the run ended. Raises `Unreachable` before it has."""
        with Airflow(self._settings) as airflow:
            found, (task, attempt) = airflow.run(self.id), airflow.task(self.id)
            if not airflow.has_ended(found):
                raise Unreachable(f"run {self.id} is {found['state']}, attempt {attempt} of its task {task}")
            return str(found["state"])


def made_up(record: type[Record], pipeline: Pipeline) -> Iterator[Record]:
    """Endless made-up users, each with an id that none had before."""
    key = key_of(record).column
    seed, nats = uuid.uuid4().hex, tuple(NATIONALITIES)
    kinds = [
        msgspec.convert(pipeline.from_source(make_user(seed, at, nats, GENDERS)), record) for at in range(_PATTERNS)
    ]
    while True:
        for one in kinds:
            yield msgspec.structs.replace(one, **{key: uuid.uuid4()})


class Direct:
    """Sends made-up users straight to the topic, past Airflow."""

    def __init__(self, ground: Ground, name: str) -> None:
        settings, pipeline = ground.settings, ground.pipeline
        self._settings, self._topic, self._key = settings, pipeline.topic, key_writer(pipeline.record)
        self._headers = [(headers.RUN, f"drill-{name}".encode())]
        schema_id = Registry(settings).register(pipeline.subject, pipeline.record, settings.wire_format)
        self._serialize: Serialize = serializer(pipeline.record, settings.wire_format, schema_id)
        self.users = made_up(pipeline.record, pipeline)

    def send(self, records: int) -> Delivered:
        """Send so many; everything is acknowledged. Raises `DeliveryFailed`."""
        return self.send_at((one, 0) for one in islice(self.users, records))

    def send_at(self, users: Iterable[tuple[Record, int]]) -> Delivered:
        """Send users with the Kafka timestamps given, in ms; 0: now. Raises `DeliveryFailed`."""
        with Sender(producer(self._settings), self._topic, self._settings.kafka_timeout_s) as sender:
            for one, timestamp_ms in users:
                sender.send(self._key(one), self._serialize(one), self._headers, timestamp_ms)
        return sender.delivered


def spans_of(delivered: Delivered) -> list[Span]:
    """The offsets from the first to the last that were acknowledged, per partition."""
    return [Span(partition, first, last + 1) for partition, (first, last) in delivered.offsets.items()]


def now_ms() -> int:
    """The time as Kafka's timestamps tell it."""
    return time.time_ns() // 1_000_000
