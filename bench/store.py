"""Benchmark from Kafka to Cassandra: a full topic, read from its earliest offset into an empty table."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from bench import peer_environments
from bench.measure import BenchFailed, Contestant, Measurement, Program, Progress, measure_program, track_done_lines
from bench.peer_environments import PEERS
from bench.target import Load, Target
from penstock import pipelines
from penstock.config import Settings
from penstock.stack import catalog
from penstock.stack.environment import read_environment

NAME = "store"
WHAT = "Kafka to Cassandra, compared with Spark and its connector, plain Python, and the limits of the machine"
RECORDS = 1_000_000
_TIMEOUT_S = 900.0
_MEMORY_MIB = 1024
"""Memory of a Spark peer's single JVM. penstock has 512 MiB for its driver and 640 MiB for its executor."""

WITHOUT_HEADER = "substring(value, 6)"
WITHOUT_OPTIONAL_HEADER = f"IF(substring(value, 1, 1) = X'00', {WITHOUT_HEADER}, value)"
"""SQL for the JSON in a value with the 5-byte wire-format header, and in one that may have it."""
TUNED = {
    "spark.cassandra.output.batch.grouping.key": "replica_set",
    "spark.cassandra.output.batch.size.rows": "50",
    "spark.cassandra.output.concurrent.writes": "32",
}
TUNED_41 = TUNED | {
    "spark.cassandra.output.batch.size.rows": "10",
    "spark.cassandra.output.concurrent.writes": "50",
}

ProgramFactory = Callable[[Target, Settings, int], Program]
"""Builds a program that stores records of the settings' pipeline: (target, settings, records)."""


def track_stored_batches() -> Progress:
    """Return the progress of the Spark job, read from its JSON log."""

    def count_new(line: str) -> int:
        return int(json.loads(line)["records"]) if '"event": "batch_stored"' in line else 0

    return count_new


def make_penstock(_ground: Target, settings: Settings, _records: int = 0) -> Program:
    """Build the Spark job as the stack runs it."""
    job = catalog.build_services(read_environment(settings.model_copy(update={"log_json": True})))["spark-job"]
    return Program(job.command, track_stored_batches, env=job.env, directory=job.directory, services=("spark-worker",))


def spark35_factory(options: Mapping[str, str], value: str = WITHOUT_HEADER) -> ProgramFactory:
    """Return a factory for the tutorial's job with these connector options."""

    def make(target: Target, settings: Settings, records: int) -> Program:
        python = peer_environments.install_python(target, "spark")
        extra = {
            "java_home": str(peer_environments.find_java_home(target, python)),
            "options": dict(options),
            "json": value,
        }
        return _make_spark(target, settings, records, python, extra, "spark35")

    return make


def spark41_factory(options: Mapping[str, str]) -> ProgramFactory:
    """Return a factory for the same program on penstock's Spark version."""

    def make(target: Target, settings: Settings, records: int) -> Program:
        home = peer_environments.find_stack_java_home(target)
        extra = {"java_home": str(home), "options": dict(options), "json": WITHOUT_HEADER}
        return _make_spark(target, settings, records, sys.executable, extra, "spark41")

    return make


def _make_spark(
    target: Target, settings: Settings, records: int, python: str, extra: dict[str, Any], group: str
) -> Program:
    options = _peer_options(settings, records) | {
        "checkpoint": f"{settings.checkpoint}/peer",
        "jars": str(peer_environments.install_jars(target, group)),
        "batch_records": settings.spark_batch_records,
        "trigger_ms": 0,
        "cores": settings.spark_cores,
        "memory_mib": _MEMORY_MIB,
    }
    return _make_peer(python, "spark/stream.py", options | extra)


def plain_factory(style: str) -> ProgramFactory:
    """Return a factory for a consumer in plain Python."""

    def make(target: Target, settings: Settings, records: int) -> Program:
        python = peer_environments.install_python(target, "plain")
        return _make_peer(python, "plain/consume.py", _peer_options(settings, records) | {"style": style})

    return make


def make_reader(_ground: Target, settings: Settings, records: int) -> Program:
    """Build the limit: only read the topic."""
    return _make_peer(sys.executable, "limits/read.py", _peer_options(settings, records))


def writer_factory(client: str) -> ProgramFactory:
    """Return a factory for the limit: write rows that were encoded in advance."""

    def make(_ground: Target, settings: Settings, records: int) -> Program:
        extra = {"client": client, "batch_rows": 50, "concurrency": 16}
        return _make_peer(sys.executable, "limits/write.py", _peer_options(settings, records) | extra)

    return make


def _make_peer(python: str, file: str, options: dict[str, Any]) -> Program:
    return Program((python, str(PEERS / file), json.dumps(options)), track_done_lines)


def _peer_options(settings: Settings, records: int) -> dict[str, Any]:
    pipeline = pipelines.of(settings)
    return {
        "bootstrap": settings.kafka_bootstrap,
        "topic": pipeline.topic,
        "records": records,
        "cassandra_host": settings.cassandra_hosts,
        "cassandra_port": settings.cassandra_port,
        "keyspace": settings.cassandra_keyspace,
        "table": pipeline.table,
    }


CONTESTANTS: dict[str, tuple[str, ProgramFactory, float]] = {
    "ours": ("penstock", make_penstock, 1.0),
    "spark35-defaults": ("Spark 3.5, connector 3.5.1, defaults", spark35_factory({}), 1.0),
    "spark35-tuned": ("Spark 3.5, connector 3.5.1, tuned", spark35_factory(TUNED), 1.0),
    "spark41-tuned": ("Spark 4.1, connector 3.5.1, tuned", spark41_factory(TUNED_41), 1.0),
    "plain-concurrent": ("Python, single inserts, 100 at once", plain_factory("concurrent"), 0.25),
    "plain-batched": ("Python, batches of 50 rows", plain_factory("batched"), 1.0),
    "limit-read": ("limit: reading alone", make_reader, 1.0),
    "limit-write": ("limit: writing alone, a bare socket", writer_factory("socket"), 1.0),
    "limit-write-driver": ("writing alone, cassandra-driver", writer_factory("cassandra-driver"), 1.0),
}
"""Title, program and share of the records, by name. Slow contestants get fewer records."""


def warm_up(target: Target, records: int | None) -> None:
    """Warm up Cassandra, which takes twice as long right after its start. Writes `RECORDS` rows by default."""
    measure_store(target, Load(records or RECORDS, name="warm-up"), writer_factory("socket"))


def build_contestants(target: Target, records: int = RECORDS) -> list[Contestant]:
    """Fill the topics, of four partitions each, and build all contestants."""
    participants = []
    for name, (title, make, share) in CONTESTANTS.items():
        load = Load(round(records * share))
        target.fill_topic(load)
        participants.append(Contestant(name, title, partial(_run_contestant, target, load, make)))
    return participants


def _run_contestant(target: Target, load: Load, make: ProgramFactory) -> dict[str, Any]:
    return measure_store(target, load, make).numbers()


def measure_store(target: Target, load: Load, make: ProgramFactory, skip: int = 0, **overrides: object) -> Measurement:
    """Measure one run into an empty table. Raises `BenchFailed` if the number of rows is wrong afterwards.

    The first `skip` records are not measured.
    """
    settings = target.create_table(load, **overrides)
    try:
        measured = measure_program(
            make(target, settings, load.records), target.process_finder, load.records, skip=skip, timeout_s=_TIMEOUT_S
        )
        expected = 0 if make is make_reader else load.records - int(load.records * load.rejected)
        if (rows := target.count_rows(settings)) != expected:
            raise BenchFailed(f"expected {expected} rows in the table, found {rows}")
        return replace(measured, disk_mib=target.disk_mib(settings))
    finally:
        target.drop_keyspace(settings)
