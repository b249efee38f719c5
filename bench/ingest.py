"""API to Kafka: users fetched and sent until Kafka has acknowledged them all."""

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
from penstock.drill.ground import free_port
from penstock.retry import wait_until
from penstock.stack import probes
from penstock.stack.layout import REPOSITORY, write

NAME = "ingest"
WHAT = "API to Kafka, beside the tutorial's way, a tuned kafka-python, and the limit: sending alone"
RECORDS = 100_000
_TUTORIAL_SHARE = 0.02
"""One request a user is slow: the tutorial's way gets this part of the records."""
API_USERS = 20_000
_WARM_UP_FACTOR = 5
_TIMEOUT_S = 600.0

Make = Callable[[Ground, Settings, str, int], Program]
"""A program that sends so many users of the API at an address."""


def ours(_ground: Ground, settings: Settings, api: str, records: int) -> Program:
    """What Airflow's task runs."""
    asked = {"records": records, "api": api}
    command = (sys.executable, "-m", "bench.ingesting", json.dumps(asked))
    return Program(command, own_lines, env=settings.environment(), directory=REPOSITORY)


def plain(file: str) -> Make:
    """A producer with kafka-python."""

    def make(ground: Ground, settings: Settings, api: str, records: int) -> Program:
        asked = {"bootstrap": settings.kafka_bootstrap, "topic": pipelines.of(settings).topic}
        command = (environment.python_of(ground, "plain"), str(PEERS / "plain" / file))
        return Program((*command, json.dumps(asked | {"records": records, "api": api})), own_lines)

    return make


def sending(ground: Ground, settings: Settings, _api: str, records: int) -> Program:
    """The limit: values that were made before are sent."""
    topic, values = pipelines.of(settings).topic, str(_values_of(ground))
    asked = {"bootstrap": settings.kafka_bootstrap, "topic": topic, "records": records, "values": values}
    return Program((sys.executable, str(PEERS / "limits" / "produce.py"), json.dumps(asked)), own_lines)


CONTESTANTS: dict[str, tuple[str, Make, float]] = {
    "ours": ("penstock", ours, 1.0),
    "tutorial": ("the tutorial: a request and a send for each user", plain("ingest_tutorial.py"), _TUTORIAL_SHARE),
    "batched": ("kafka-python, pages of 500, tuned", plain("ingest_batched.py"), 1.0),
    "limit-send": ("limit: sending alone", sending, 10.0),
}
"""Title, program and share of the records by name."""


@contextmanager
def serving() -> Iterator[str]:
    """The address of an API that is not what is measured."""
    port = free_port()
    command = (sys.executable, "-m", "bench.api", str(port), str(API_USERS))
    with Running(Program(command, own_lines, directory=REPOSITORY)):
        settings = load_settings().model_copy(update={"source_port": port})
        wait_until(lambda: probes.source(settings, 0.0), timeout_s=60, what="the API")
        yield f"http://{LOOPBACK}:{port}/api/"


def warm_up(ground: Ground, api: str, records: int) -> None:
    """Send more than will be measured, and measure nothing: a Kafka that just started takes five times as long."""
    ingest(ground, ours, api, records * _WARM_UP_FACTOR)


def contestants(ground: Ground, api: str, records: int) -> list[Contestant]:
    """Everybody, each lap into a topic of its own."""
    _write_values(ground)
    return [
        Contestant(name, title, partial(_run, ground, make, api, round(records * share)))
        for name, (title, make, share) in CONTESTANTS.items()
    ]


def _run(ground: Ground, make: Make, api: str, records: int) -> dict[str, Any]:
    return ingest(ground, make, api, records).numbers()


def ingest(ground: Ground, make: Make, api: str, records: int) -> Lap:
    """One run into an empty topic, whose records are counted. Raises `BenchFailed` when some are missing."""
    load = Load(0, name=uuid.uuid4().hex[:8])
    settings = ground.using(load, "unused")
    ground.fill(load)
    found = lap(make(ground, settings, api, records), ground.find, records, timeout_s=_TIMEOUT_S)
    held = sum(span.records for span in topics.spans(settings, load.topic))
    if held < records:
        raise BenchFailed(f"{records} records should be in the topic, {held} are")
    ground.forget(load)
    return found


def _write_values(ground: Ground) -> None:
    settings = ground.using(Load(0, name="values"), "unused")
    made = islice(messages(Load(0), settings, pipelines.of(settings)), 1000)
    write(_values_of(ground), "\n".join(b64encode(value).decode() for _, value in made))


def _values_of(ground: Ground) -> Path:
    return ground.layout.home / "values.b64"
