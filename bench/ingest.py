"""API to Kafka: fetch and send users until Kafka has acknowledged them all."""

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

from bench import environment
from bench.environment import PEERS
from bench.ground import Ground, Load, messages
from bench.race import BenchFailed, Contestant, Lap, Program, Running, lap, own_lines
from penstock import pipelines
from penstock.broker import topics
from penstock.config import LOOPBACK, Settings
from penstock.config import load as load_settings
from penstock.drill.target import find_free_port
from penstock.retry import wait_until
from penstock.stack import probes
from penstock.stack.layout import REPOSITORY, write

NAME = "ingest"
WHAT = "API to Kafka, compared with the tutorial, a tuned kafka-python, and the limit: sending alone"
RECORDS = 100_000
_TUTORIAL_SHARE = 0.02
"""Share of the records for the tutorial, which is slow: one request per user."""
API_USERS = 20_000
_WARM_UP_FACTOR = 5
_TIMEOUT_S = 600.0

Make = Callable[[Ground, Settings, str, int], Program]
"""Makes a program that sends users from the API at a URL: (ground, settings, URL, records)."""


def ours(_ground: Ground, settings: Settings, api: str, records: int) -> Program:
    """Make the program that Airflow's task runs."""
    options = {"records": records, "api": api}
    command = (sys.executable, "-m", "bench.ingesting", json.dumps(options))
    return Program(command, own_lines, env=settings.environment(), directory=REPOSITORY)


def plain(file: str) -> Make:
    """Return what makes a kafka-python producer."""

    def make(ground: Ground, settings: Settings, api: str, records: int) -> Program:
        options = {"bootstrap": settings.kafka_bootstrap, "topic": pipelines.of(settings).topic}
        command = (environment.python_of(ground, "plain"), str(PEERS / "plain" / file))
        return Program((*command, json.dumps(options | {"records": records, "api": api})), own_lines)

    return make


def sending(ground: Ground, settings: Settings, _api: str, records: int) -> Program:
    """Make the limit: send values that were prepared in advance."""
    topic, values = pipelines.of(settings).topic, str(_values_file(ground))
    options = {"bootstrap": settings.kafka_bootstrap, "topic": topic, "records": records, "values": values}
    return Program((sys.executable, str(PEERS / "limits" / "produce.py"), json.dumps(options)), own_lines)


CONTESTANTS: dict[str, tuple[str, Make, float]] = {
    "ours": ("penstock", ours, 1.0),
    "tutorial": ("the tutorial: a request and a send for each user", plain("ingest_tutorial.py"), _TUTORIAL_SHARE),
    "batched": ("kafka-python, pages of 500, tuned", plain("ingest_batched.py"), 1.0),
    "limit-send": ("limit: sending alone", sending, 10.0),
}
"""Title, program and share of the records, by name."""


@contextmanager
def serving() -> Iterator[str]:
    """Run the API and provide its URL. It is cheap, so that it does not affect the figures."""
    port = find_free_port()
    command = (sys.executable, "-m", "bench.api", str(port), str(API_USERS))
    with Running(Program(command, own_lines, directory=REPOSITORY)):
        settings = load_settings().model_copy(update={"source_port": port})
        wait_until(lambda: probes.source(settings, 0.0), timeout_s=60, what="the API")
        yield f"http://{LOOPBACK}:{port}/api/"


def warm_up(ground: Ground, api: str, records: int) -> None:
    """Send more records than will be measured, unmeasured: Kafka takes five times as long right after its start."""
    ingest(ground, ours, api, records * _WARM_UP_FACTOR)


def contestants(ground: Ground, api: str, records: int) -> list[Contestant]:
    """Return all contestants. Each lap writes to a topic of its own."""
    _write_values(ground)
    return [
        Contestant(name, title, partial(_run_lap, ground, make, api, round(records * share)))
        for name, (title, make, share) in CONTESTANTS.items()
    ]


def _run_lap(ground: Ground, make: Make, api: str, records: int) -> dict[str, Any]:
    return ingest(ground, make, api, records).numbers()


def ingest(ground: Ground, make: Make, api: str, records: int) -> Lap:
    """Measure one run into an empty topic. Raises `BenchFailed` if records are missing from the topic."""
    load = Load(0, name=uuid.uuid4().hex[:8])
    settings = ground.using(load, "unused")
    ground.fill(load)
    measured = lap(make(ground, settings, api, records), ground.find, records, timeout_s=_TIMEOUT_S)
    held = sum(span.records for span in topics.spans(settings, load.topic))
    if held < records:
        raise BenchFailed(f"{records} records should be in the topic, {held} are")
    ground.forget(load)
    return measured


def _write_values(ground: Ground) -> None:
    settings = ground.using(Load(0, name="values"), "unused")
    samples = islice(messages(Load(0), settings, pipelines.of(settings)), 1000)
    write(_values_file(ground), "\n".join(b64encode(value).decode() for _, value in samples))


def _values_file(ground: Ground) -> Path:
    return ground.layout.home / "values.b64"
