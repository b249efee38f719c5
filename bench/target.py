"""Set up the target of benchmarks: a separate local stack, with topics of generated records and empty tables."""

import itertools
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import psutil
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from bench import meter
from penstock import pipelines
from penstock.broker import topics
from penstock.broker.kafka import create_admin, create_producer
from penstock.broker.registry import Registry, WireFormat
from penstock.codec.encode import build_serializer
from penstock.config import LOOPBACK, Settings, read
from penstock.contract.identity import identity_of
from penstock.drill import service_usage
from penstock.drill.load import generate_users
from penstock.files import write_atomically
from penstock.pipelines import Pipeline
from penstock.produce.send import Sender
from penstock.sink import cassandra
from penstock.stack import jars, launch, layout
from penstock.stack.report import Report
from penstock.stack.services import spark
from penstock.stack.supervise import Supervisor

PORT_SHIFT = 15_000
SERVICES = ("kafka", "registry", "cassandra", "spark-worker")
_KINDS = 1000
_RANGES = 256

_PIPELINE = """\
from dataclasses import replace

from penstock.pipelines import users

PIPELINE = replace(users.PIPELINE, topic="{topic}")
"""
_PIPELINE_WITH_NOTES = """\
from dataclasses import replace
from typing import Annotated

from msgspec import Meta

from penstock.pipelines import users


class UserWithNote(users.User, frozen=True, kw_only=True):
    note: Annotated[str, Meta(max_length=500_000)]


def from_source(entry):
    return users.from_source(entry) | {{"note": "x" * {note_bytes}}}


PIPELINE = replace(users.PIPELINE, topic="{topic}", record=UserWithNote, from_source=from_source)
"""


@dataclass(frozen=True)
class Load:
    """Content of a topic: users, or with `note_bytes` users with a note of that length.

    `rejected` is the share of users with an invalid e-mail address.
    """

    records: int
    partitions: int = 4
    note_bytes: int = 0
    rejected: float = 0.0
    wire_format: WireFormat = "json"
    name: str = ""
    """Distinguishes topics with the same content."""

    @property
    def topic(self) -> str:
        """Return a topic name that encodes all fields, so that an existing topic can be reused."""
        parts = (
            self.wire_format,
            self.records,
            self.partitions,
            self.note_bytes,
            round(self.rejected * 100),
            self.name,
        )
        return "bench_" + "_".join(str(part) for part in parts if part != "")


class Target:
    """The running stack, and the topics and tables of benchmarks on it."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self.settings = settings
        self.layout = layout.resolve_layout(settings)
        self._report = report
        self._supervisor = Supervisor(self.layout)
        self._session: Session | None = None

    def start(self) -> None:
        """Start the services and wait until they are ready. Raises the errors of `launch.start_services`."""
        jars.install_group(self.layout, spark.GROUP)
        launch.start_services(self.settings, SERVICES, self._report)

    def stop(self) -> None:
        """Stop all services. Topics are kept."""
        if self._session:
            cassandra.close(self._session)
            self._session = None
        launch.stop_services(self.settings, (), self._report)

    def list_processes(self, service: str) -> list[psutil.Process]:
        """Return the processes of a service; empty if it is not running."""
        process = self._supervisor.processes().get(service)
        return meter.list_tree(process.pid) if process and process.pid else []

    def process_finder(self, service: str) -> Callable[[], list[psutil.Process]]:
        """Return a function that lists the processes of a running service without asking the supervisor each time."""
        process = self._supervisor.processes()[service]
        return lambda: meter.list_tree(process.pid)

    @property
    def session(self) -> Session:
        """Return the Cassandra session, opened on first use."""
        self._session = self._session or cassandra.connect(self.settings)
        return self._session

    def settings_for(self, load: Load, keyspace: str, **overrides: object) -> Settings:
        """Return the settings of a pipeline from the load's topic to `keyspace`. `overrides` replaces settings."""
        file = self.layout.home / "pipelines" / f"{load.topic}.py"
        text = _PIPELINE_WITH_NOTES if load.note_bytes else _PIPELINE
        write_atomically(file, text.format(topic=load.topic, note_bytes=load.note_bytes))
        defaults = {
            "pipeline": str(file),
            "cassandra_keyspace": keyspace,
            "kafka_partitions": load.partitions,
            "wire_format": load.wire_format,
            "spark_checkpoint": str(self.layout.data / "checkpoints" / keyspace),
        }
        return self.settings.model_copy(update=defaults | overrides)

    def fill_topic(self, load: Load) -> None:
        """Produce the load to its topic, unless the topic already contains it."""
        settings = self.settings_for(load, "unused")
        spans = topics.fetch_offset_ranges(settings, load.topic)
        if spans and sum(span.records for span in spans) == load.records:
            return
        pipeline = pipelines.of(settings)
        topics.ensure_pipeline_topics(settings, pipeline)
        with Sender(create_producer(settings), load.topic, 600) as sender:
            for key, value in islice(generate_messages(load, settings, pipeline), load.records):
                sender.send(key, value, [])

    def delete_topics(self, load: Load) -> None:
        """Delete the load's topic and its dead-letter topic."""
        client, names = create_admin(self.settings), [load.topic, f"{load.topic}.dlq"]
        for deleted in client.delete_topics(names, operation_timeout=30).values():
            deleted.result()

    def create_table(self, load: Load, **overrides: object) -> Settings:
        """Create an empty table in a new keyspace and return the settings of its pipeline."""
        settings = self.settings_for(load, f"bench_{uuid.uuid4().hex[:12]}", **overrides)
        pipeline = pipelines.of(settings)
        cassandra.create_keyspace(self.session, settings, pipeline)
        cassandra.create_table(self.session, settings, pipeline)
        return settings

    def count_rows(self, settings: Settings) -> int:
        """Count the rows of the table with a full scan by token range."""
        name = f"{settings.cassandra_keyspace}.{pipelines.of(settings).table}"
        query = self.session.prepare(f"SELECT COUNT(*) AS rows FROM {name} WHERE token(id) > ? AND token(id) <= ?")
        step = 2**64 // _RANGES
        ranges = [
            (-(2**63) + index * step, -(2**63) + (index + 1) * step - (index + 1 == _RANGES))
            for index in range(_RANGES)
        ]
        results = execute_concurrent_with_args(self.session, query, ranges, concurrency=4)
        return sum(result.result_or_exc.one()["rows"] for result in results)

    def disk_mib(self, settings: Settings) -> float:
        """Return the size of the keyspace on disk. Rows still in the memtable are not included."""
        return service_usage.measure_disk_mib([self.layout.data / "cassandra" / "data" / settings.cassandra_keyspace])

    def drop_keyspace(self, settings: Settings) -> None:
        """Drop the keyspace and delete the checkpoint."""
        self.session.execute(f"DROP KEYSPACE IF EXISTS {settings.cassandra_keyspace}", timeout=120)
        shutil.rmtree(settings.checkpoint, ignore_errors=True)


def create_target(settings: Settings, report: Report) -> Target:
    """Create the target next to the effective data directory, with separate folders and ports, and shared downloads."""
    ports = {name: port + PORT_SHIFT for name, port in settings.ports().items()}
    folders: dict[str, Any] = {"home": settings.home / "bench", "cache": settings.cache or settings.home / "cache"}
    addresses = {
        "kafka_bootstrap": f"{LOOPBACK}:{ports['kafka_port']}",
        "kafka_security_protocol": "PLAINTEXT",
        "registry_url": f"http://{LOOPBACK}:{ports['registry_port']}/apis/ccompat/v7",
        "cassandra_hosts": LOOPBACK,
        "cassandra_username": "",
        "cassandra_ca_file": None,
        "spark_master": f"spark://{LOOPBACK}:{ports['spark_port']}",
    }
    return Target(read(**folders, **ports, **addresses), report)


def generate_messages(load: Load, settings: Settings, pipeline: Pipeline) -> Iterator[tuple[bytes, bytes]]:
    """Generate keys and values of random records endlessly, each with a new id."""
    schema_id = Registry(settings).register(pipeline.subject, pipeline.record, settings.wire_format)
    serialize = build_serializer(pipeline.record, settings.wire_format, schema_id)
    records = islice(generate_users(pipeline.record, pipeline), _KINDS)
    write_key = identity_of(pipeline.record).key_of
    templates = [_split_at_id(serialize(record), write_key(record)) for record in records]
    invalid = [(head, tail.replace(b"@", b" ")) for head, tail in templates]
    for count in itertools.count():
        record_id = str(uuid.uuid4()).encode()
        is_invalid = int((count + 1) * load.rejected) > int(count * load.rejected)
        head, tail = (invalid if is_invalid else templates)[count % _KINDS]
        yield record_id, head + record_id + tail


def _split_at_id(value: bytes, record_id: bytes) -> tuple[bytes, bytes]:
    head, _, tail = value.partition(record_id)
    return head, tail
