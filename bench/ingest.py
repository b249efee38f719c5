"""Benchmark from the API to Kafka: fetch and send users until Kafka has acknowledged all of them."""

import json
import sys
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bench import peer_environments
from bench.measure import BenchFailed, Contestant, Measurement, Program, Running, measure_program, track_done_lines
from bench.peer_environments import PEERS
from bench.target import Load, Target, generate_messages
from penstock import pipelines
from penstock.broker import topics
from penstock.config import LOOPBACK, Settings
from penstock.config import load as load_settings
from penstock.drill.target import find_free_port
from penstock.files import write_atomically
from penstock.retry import wait_until
from penstock.stack import probes
from penstock.stack.layout import REPOSITORY

NAME = "ingest"
WHAT = "API to Kafka, compared with the tutorial, a tuned kafka-python, and the limit: sending alone"
RECORDS = 100_000
_TUTORIAL_SHARE = 0.02
"""Share of the records for the tutorial, which is slow: one request per user."""
API_USERS = 20_000
_WARM_UP_FACTOR = 5
_TIMEOUT_S = 600.0

ProgramFactory = Callable[[Target, Settings, str, int], Program]
"""Builds a program that sends users from the API at a URL: (target, settings, URL, records)."""


def make_penstock(_ground: Target, settings: Settings, api: str, records: int) -> Program:
    """Build the program that Airflow's task runs."""
    options = {"records": records, "api": api}
    command = (sys.executable, "-m", "bench.ingest_program", json.dumps(options))
    return Program(command, track_done_lines, env=settings.environment(), directory=REPOSITORY)


def plain_factory(file: str) -> ProgramFactory:
    """Return a factory for a kafka-python producer."""

    def make(target: Target, settings: Settings, api: str, records: int) -> Program:
        options = {"bootstrap": settings.kafka_bootstrap, "topic": pipelines.of(settings).topic}
        command = (peer_environments.install_python(target, "plain"), str(PEERS / "plain" / file))
        return Program((*command, json.dumps(options | {"records": records, "api": api})), track_done_lines)

    return make


def make_sender(target: Target, settings: Settings, _api: str, records: int) -> Program:
    """Build the limit: send values that were prepared in advance."""
    topic, values = pipelines.of(settings).topic, str(_values_file(target))
    options = {"bootstrap": settings.kafka_bootstrap, "topic": topic, "records": records, "values": values}
    return Program((sys.executable, str(PEERS / "limits" / "produce.py"), json.dumps(options)), track_done_lines)


CONTESTANTS: dict[str, tuple[str, ProgramFactory, float]] = {
    "ours": ("penstock", make_penstock, 1.0),
    "tutorial": (
        "the tutorial: one request and send per user",
        plain_factory("ingest_tutorial.py"),
        _TUTORIAL_SHARE,
    ),
    "batched": ("kafka-python, pages of 500, tuned", plain_factory("ingest_batched.py"), 1.0),
    "limit-send": ("limit: sending alone", make_sender, 10.0),
}
"""Title, program and share of the records, by name."""


@contextmanager
def serve_api() -> Iterator[str]:
    """Run the API and yield its URL. Its cost is too low to affect the figures."""
    port = find_free_port()
    command = (sys.executable, "-m", "bench.api", str(port), str(API_USERS))
    with Running(Program(command, track_done_lines, directory=REPOSITORY)):
        settings = load_settings().model_copy(update={"source_port": port})
        wait_until(lambda: probes.probe_source(settings, 0.0), timeout_s=60, what="the API")
        yield f"http://{LOOPBACK}:{port}/api/"


def warm_up(target: Target, api: str, records: int) -> None:
    """Warm up Kafka, which takes five times as long right after its start."""
    measure_ingest(target, make_penstock, api, records * _WARM_UP_FACTOR)


def build_contestants(target: Target, api: str, records: int) -> list[Contestant]:
    """Build all contestants. Each run writes to its own topic."""
    _write_values(target)
    return [
        Contestant(name, title, partial(_run_contestant, target, make, api, round(records * share)))
        for name, (title, make, share) in CONTESTANTS.items()
    ]


def _run_contestant(target: Target, make: ProgramFactory, api: str, records: int) -> dict[str, Any]:
    return measure_ingest(target, make, api, records).numbers()


def measure_ingest(target: Target, make: ProgramFactory, api: str, records: int) -> Measurement:
    """Measure one run into an empty topic. Raises `BenchFailed` if records are missing from the topic."""
    load = Load(0, name=uuid.uuid4().hex[:8])
    settings = target.settings_for(load, "unused")
    target.fill_topic(load)
    measured = measure_program(
        make(target, settings, api, records), target.process_finder, records, timeout_s=_TIMEOUT_S
    )
    stored = sum(span.records for span in topics.fetch_offset_ranges(settings, load.topic))
    if stored < records:
        raise BenchFailed(f"expected {records} records in the topic, found {stored}")
    target.delete_topics(load)
    return measured


def _write_values(target: Target) -> None:
    settings = target.settings_for(Load(0, name="values"), "unused")
    samples = islice(generate_messages(Load(0), settings, pipelines.of(settings)), 1000)
    write_atomically(_values_file(target), "\n".join(b64encode(value).decode() for _, value in samples))


def _values_file(target: Target) -> Path:
    return target.layout.home / "values.b64"
