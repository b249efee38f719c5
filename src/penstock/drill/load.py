"""Records in flight during a fault."""

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
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
from penstock.contract.fields import BIGINT, DATE, INT, SYMBOL, TIMESTAMP, UUID, Field, from_epoch_ms
from penstock.contract.identity import Identity, identity_of
from penstock.contract.record import Record
from penstock.contract.schemas import json_schema
from penstock.drill.target import Target
from penstock.errors import Unreachable, UsageError
from penstock.pipelines import Pipeline
from penstock.pipelines.mapping import fields_of
from penstock.produce.send import Delivered, Sender
from penstock.source.nationalities import NATIONALITIES
from penstock.source.people import GENDERS, make_user

_RANDOM = random.SystemRandom()
_YEAR_MS = 365 * 86_400_000
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
    """Generate made-up users endlessly, each with a new id.

    Raises `UsageError` if the pipeline does not map users, or no new id can be made up.
    """
    identity = identity_of(record)
    makers = {field.column: make for field in identity.fields if (make := _find_maker(field, record))}
    patterns = _make_patterns(record, pipeline)
    _check_new_id(identity, _renew(patterns[0], makers))
    while True:
        for user in patterns:
            yield _renew(user, makers)


def _make_patterns(record: type[Record], pipeline: Pipeline) -> list[Record]:
    seed, nats = uuid.uuid4().hex, tuple(NATIONALITIES)
    try:
        return [
            msgspec.convert(fields_of(pipeline.from_source(make_user(seed, index, nats, GENDERS)), record), record)
            for index in range(_PATTERNS)
        ]
    except Exception as error:  # the pipeline's own code may raise anything
        raise UsageError(
            f"drills send made-up users, which from_source of the pipeline {pipeline.topic} does not map: {error}",
            hint="run drills with the pipeline of the users",
        ) from error


def _renew(user: Record, makers: Mapping[str, Callable[[], Any]]) -> Record:
    return msgspec.structs.replace(user, **{column: make() for column, make in makers.items()})


def _find_maker(field: Field, record: type[Record]) -> Callable[[], Any] | None:
    """Return a function that makes up a value of a KEY field; None for one of a few, which is not enough for ids."""
    if field.kind in (INT, BIGINT):
        rules = json_schema(record)["properties"][field.name]
        return partial(_RANDOM.randint, rules.get("minimum", 0), rules.get("maximum", 2**31 - 1))
    makers: dict[str, Callable[[], Any]] = {
        UUID.cql: uuid.uuid4,
        DATE.cql: lambda: _make_moment().date(),
        TIMESTAMP.cql: _make_moment,
    }
    return None if field.kind is SYMBOL else makers.get(field.kind.cql, lambda: str(uuid.uuid4()))


def _make_moment() -> datetime:
    return from_epoch_ms(now_ms() - _RANDOM.randrange(_YEAR_MS))


def _check_new_id(identity: Identity, user: Record) -> None:
    try:
        identity.of_text(identity.text_of(identity.of(user)))
    except ValueError as error:
        raise UsageError(
            f"drills make up ids of {identity.record.__name__}, and its rules refuse them: {error}",
            hint="run drills with the pipeline of the users",
        ) from None


class Direct:
    """Produces generated users directly to the topic, bypassing Airflow."""

    def __init__(self, target: Target, name: str) -> None:
        settings, pipeline = target.settings, target.pipeline
        self._settings, self._topic, self._key = settings, pipeline.topic, identity_of(pipeline.record).key_of
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
